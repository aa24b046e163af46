"""Names of quantised copies and tuned models: which catalogue model they are, and how they store its weights.

``Qwen3-32B-AWQ``, ``unsloth/Llama-3.2-1B-Instruct``, ``Qwen3-32B-GGUF:Q4_K_M``, ``llama-2-7b.Q4_K_M.gguf``: the
endings, tuning words and shapes of ``copies.yaml``. Nothing is guessed: what is left must be a catalogue model's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import resources
from typing import Any

import yaml

from planner.catalogue.formats import Quantization, find_format
from planner.errors import BadInputError

Known = Callable[[str], str | None]
Stored = Callable[[], Quantization]
_FILE = re.compile(
    r"^(?P<base>.+)[.-](?P<mix>(?:ud-)?i?q\d\w*|tq\d_0|b?f16|f32|mxfp4)(?:-\d{5}-of-\d{5})?\.gguf$", re.IGNORECASE
)
_REPOSITORY = re.compile(r"^(?P<base>.+?)(?P<gguf>-gguf)?(?:[:](?P<mix>[^:/]+))?$", re.IGNORECASE)


@dataclass(frozen=True)
class Copy:
    """What a name means: a catalogue model, and how its weights are stored if the name says so."""

    id: str
    quantization: Quantization | None
    said: str

    @property
    def note(self) -> str:
        """The resolution in words."""
        stored = f", its weights stored as {self.quantization.name}" if self.quantization else ""
        return f"model {self.said} is read as {self.id}{stored}"


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Any]:
    text = (resources.files("planner.catalogue") / "copies.yaml").read_text(encoding="utf-8")
    found: Mapping[str, Any] = yaml.safe_load(text)
    return found


def read_copy(name: str, known: Known) -> Copy | None:
    """The model a copy's name means, or None where it means none.

    Parameters
    ----------
    name : as published, with or without the organisation
    known : gives the catalogue id of a name, None for a name of no model

    Raises
    ------
    BadInputError
        A GGUF repository without the format meant, a format that is unknown or refused.
    """
    for base, stored in _readings(name):
        found = next((id for form in _forms(base) if (id := known(form)) is not None), None)
        if found is not None:
            return Copy(found, stored() if stored else None, name)
    return None


def _readings(name: str) -> Iterator[tuple[str, Stored | None]]:
    """Ways to read a name: its base, and what its end says of the weights (asked only once the base is known)."""
    owner, _, last = name.strip().rpartition("/")
    file, repository = _FILE.match(last), _REPOSITORY.match(last)
    if file:
        yield file["base"], partial(find_format, f"gguf {file['mix']}", where=f"model {name}")
    elif repository and repository["mix"]:
        kind = "gguf " if repository["gguf"] else ""
        yield repository["base"], partial(find_format, kind + repository["mix"], where=f"model {name}")
    elif repository and repository["gguf"]:
        yield repository["base"], partial(_which, name)
    else:
        yield last, None
        yield from _endings(name, owner.lower(), last.lower())


def _endings(name: str, owner: str, last: str) -> Iterator[tuple[str, Stored]]:
    for entry in _table()["endings"]:
        match = re.search(f"{entry['ending']}$", last)
        if match and entry.get("owner", owner) == owner:
            yield last[: match.start()], partial(_ending, entry, match, name)
            return


def _which(name: str) -> Quantization:
    raise BadInputError(f"model: {name!r} holds files of several formats; say which: {name}:Q4_K_M, or quantization")


def _ending(entry: Mapping[str, str], match: re.Match[str], name: str) -> Quantization:
    if "refused" in entry:
        raise BadInputError(f"model: {name!r} {entry['refused']}")
    format = entry["format"]
    for i, group in enumerate(match.groups(), start=1):
        format = format.replace(f"{{{i}}}", group or "")
    return find_format(format, where=f"model {name}")


def _forms(base: str) -> Iterator[str]:
    """A base name and what is left of it without prefixes and tuning words, each also as a known shape's name."""
    text = re.sub(r"[\s_]+", "-", base.lower())
    for prefix in _table()["prefixes"]:
        text = text.removeprefix(prefix)
    words = [w for w in text.split("-") if w not in _table()["tuning"]]
    for form in dict.fromkeys((base, text, "-".join(words))):
        yield _table()["shapes"].get(form.lower(), form)
