"""What the configuration classes of Hugging Face transformers say of each ``model_type``: names, defaults, classes.

Written by ``tests/reference/defaults.py`` and, for the harmless fields, by ``tests/reference/harmless.py``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from planner.catalogue.families.keys import GENERIC, GENERIC_KINDS

NOTHING: Mapping[str, Any] = MappingProxyType({})
WORDS = {"i": "an integer", "f": "a number", "b": "true or false", "s": "text", "l": "a list", "d": "a mapping",
         "n": "null"}  # fmt: skip
_CODES = {int: "i", float: "f", bool: "b", str: "s", list: "l", tuple: "l", dict: "d", type(None): "n"}


@dataclass(frozen=True)
class Facts:
    """One type. ``kinds`` are codes of :data:`WORDS`, given where a field may hold more than its default's type.

    ``names`` maps other names of a field to its own; ``sections`` says of each nested configuration its ``type``,
    whether that is ``fixed``, and the ``values`` it starts from; ``builds`` are the architecture classes, ``main`` the
    one of the usual task; ``of_section`` names the section that a class is built from, where it is one; ``ties`` says
    whose ``tie_word_embeddings`` decides: root, section, either, never; ``harmless`` are fields that no count depends
    on, as shown by changing each.
    """

    name: str
    defaults: Mapping[str, Any]
    kinds: Mapping[str, str]
    names: Mapping[str, str]
    sections: Mapping[str, Mapping[str, Any]]
    builds: tuple[str, ...]
    main: str
    of_section: Mapping[str, str]
    labels: int
    ties: str
    harmless: frozenset[str]

    def kind(self, key: str) -> str:
        """Codes of what a field may hold; ``*`` for anything."""
        own = self.names.get(key, key)
        if own not in self.defaults and own not in self.kinds:
            return "*"
        return self.kinds.get(own) or _CODES.get(type(self.defaults[own]), "*")

    def knows(self, key: str) -> bool:
        """Whether the class has a field of this name."""
        return key in self.defaults or key in self.kinds or key in self.names or key in self.names.values()

    def fault(self, key: str, value: Any) -> str:
        """What is wrong with the type of a value; empty if nothing."""
        kind = GENERIC_KINDS.get(key, "*") if key in GENERIC or not self.knows(key) else self.kind(key)
        code = _CODES.get(type(value), "?")
        if "*" in kind or code in kind or (code == "i" and "f" in kind):
            return ""
        due = " or ".join(WORDS[k] for k in kind if k in WORDS)
        return f"is {value!r:.60}; {due} is due"


@lru_cache(maxsize=1)
def reference_version() -> str:
    """Version of transformers the facts are from."""
    return str(_read("defaults.json")["_version"])


@lru_cache(maxsize=4096)
def facts_of(model_type: str) -> Facts:
    """Facts of a type; empty where the reference has no class for it."""
    entry = all_types().get(model_type)
    if entry is None:
        return Facts("", NOTHING, NOTHING, NOTHING, NOTHING, (), "", NOTHING, 2, "root", frozenset())
    return Facts(
        str(entry["class"]), entry["defaults"], entry.get("kinds", NOTHING), entry.get("names", NOTHING),
        entry.get("sections", NOTHING), tuple(entry.get("builds", ())), str(entry.get("main") or ""),
        entry.get("of_section", NOTHING), entry.get("labels", 2), entry.get("ties", "root"),
        _harmless_of(model_type),
    )  # fmt: skip


def _harmless_of(model_type: str) -> frozenset[str]:
    """Fields of a type, and those that change nothing in any type; none where none of its fields were tried."""
    own = _harmless().get(model_type, ())
    return frozenset((*own, *(_harmless().get("*", ()) if own else ())))


@lru_cache(maxsize=1)
def all_types() -> Mapping[str, Mapping[str, Any]]:
    """``model_type`` to what was written of it."""
    found: Mapping[str, Mapping[str, Any]] = _read("defaults.json")["types"]
    return found


@lru_cache(maxsize=1)
def _harmless() -> Mapping[str, list[str]]:
    found: Mapping[str, list[str]] = _read("harmless.json")["types"]
    return found


@lru_cache(maxsize=2)
def _read(name: str) -> Any:
    return json.loads(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))
