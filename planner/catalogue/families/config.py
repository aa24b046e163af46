"""Reading a configuration safely: alternative key names, class defaults, types, bounds, and what nobody read.

Every value is checked where it is read and a fault names its key. A key that is absent takes the default of the
class that the config's ``model_type`` builds, and the default taken is recorded. A key that looks structural, that
no adapter read and that is not at its default is refused: it could change the count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.catalogue.families.facts import facts_of
from planner.catalogue.families.keys import ALIASES, GENERIC, IGNORED_ALIASES, UNCOUNTED, looks_structural
from planner.errors import BadInputError, nearest

MAX_WIDTH = 10**9
MAX_LAYERS = 10**5

_UNSET = object()


class Config:
    """A mapping of configuration values with the defaults of its class behind it.

    ``where`` is the file or name shown in errors, ``path`` the section (``text_config.``).
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        *,
        where: str,
        model_type: str,
        path: str = "",
        assumed: list[str] | None = None,
    ) -> None:
        self.values = values
        self.where = where
        self.path = path
        self.model_type = model_type
        self.facts = facts_of(model_type)
        self.class_name = self.facts.name
        self.defaults = self.facts.defaults
        self.assumed: list[str] = [] if assumed is None else assumed
        self.read: set[str] = set()
        self.parts: dict[str, Config] = {}
        self._refuse_wrong_kinds()

    def _refuse_wrong_kinds(self) -> None:
        """Refuse values of a type their field cannot hold, and two names of one field with different values."""
        for key, value in self.values.items():
            if fault := self.facts.fault(key, value):
                raise self.error(key, fault)
        for other, own in self.facts.names.items():
            if other in self.values and own in self.values and self.values[other] != self.values[own]:
                pair = f"{own} = {self.values[own]!r:.40}, {other} = {self.values[other]!r:.40}"
                raise self.error(own, f"is given twice with different values: {pair}")

    def error(self, key: str, message: str) -> BadInputError:
        """An error that names the file and the field."""
        return BadInputError(f"{self.where}: {self.path}{key} {message} (model_type {self.model_type!r})")

    def _names(self, key: str) -> tuple[str, ...]:
        """Names under which a field may stand: its own, those of its class, those of configurations with own code."""
        own = self.facts.names.get(key)
        others = tuple(n for n, target in self.facts.names.items() if target in (key, own))
        return tuple(dict.fromkeys((key, *((own,) if own else ()), *others, *ALIASES.get(key, ()))))

    def find(self, key: str) -> tuple[str, Any]:
        """The name under which a key is given, and its value; the canonical name and :data:`_UNSET` if it is not."""
        names = self._names(key)
        given = [n for n in names if n in self.values]
        self.read.update(given)
        known = [n for n in names if self.facts.knows(n)]
        if known:
            given = self._without_foreign(key, given, known)
        stated = [n for n in given if self.values[n] is not None]
        if any(self.values[n] != self.values[stated[0]] for n in stated[1:]):
            pairs = ", ".join(f"{n} = {self.values[n]!r:.40}" for n in stated)
            raise self.error(key, f"is given twice with different values: {pairs}")
        name = (stated or given or known or [key])[0]
        return name, self.values.get(name, _UNSET)

    def _without_foreign(self, key: str, given: list[str], known: list[str]) -> list[str]:
        """Names the class reads; another name that says something else is refused, for the class ignores it."""
        if key in UNCOUNTED:
            return given
        own = [n for n in given if n in known]
        effective = next((self.values[n] for n in own), next((self.defaults.get(n) for n in known), None))
        for name in given:
            differs = name not in own and self.values[name] is not None and self.values[name] != effective
            if differs and key not in IGNORED_ALIASES:
                raise self.error(name, f"is not a field of {self.class_name}, which reads {known[0]}; refused")
        return own

    def get(self, key: str, fallback: Any = None) -> Any:
        """The value as given, else the class default (recorded), else ``fallback``."""
        _, value = self.find(key)
        if value is not _UNSET:
            return value
        for n in self._names(key):
            if n in self.defaults:
                if self.defaults[n] is not None:
                    self.assume(f"{self.path}{n} {self.defaults[n]!r} is the class default of {self.class_name}")
                return self.defaults[n]
        return fallback

    def assume(self, note: str) -> None:
        """Record something that the config does not state, once."""
        if note not in self.assumed:
            self.assumed.append(note)

    def has(self, key: str) -> bool:
        """Whether the config itself states the key (not null)."""
        return any(self.values.get(n) is not None for n in self._names(key))

    def integer(self, key: str, fallback: Any = _UNSET, *, low: int = 1, high: int = MAX_WIDTH) -> int:
        """A bounded integer; missing without a default, null, or of another type is refused."""
        name, given = self.find(key)
        if given is None and fallback is _UNSET:
            raise self.error(name, f"is null; an integer from {low} to {high} is due")
        value = self.get(key) if given is not None else None
        if value is None:
            if fallback is _UNSET:
                raise self.error(key, "is missing and its class has no default")
            value = fallback
        return self._bounded(name, value, low, high)

    def _bounded(self, name: str, value: Any, low: int, high: int) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(name, f"is {value!r:.60}; an integer is due")
        if not low <= value <= high:
            raise self.error(name, f"is {value!r:.60}; it must lie from {low} to {high}")
        return value

    def optional(self, key: str, *, low: int = 1, high: int = MAX_WIDTH) -> int | None:
        """As :meth:`integer`, but null or absent (without a default) is None."""
        value = self.get(key)
        return None if value is None else self._bounded(self.find(key)[0], value, low, high)

    def flag(self, key: str, fallback: bool = False) -> bool:
        """A boolean (0 and 1 pass); null is false to a class that has the field, else the fallback."""
        value = self.get(key, fallback)
        if value is None:
            return fallback and not self.facts.name
        if not isinstance(value, bool | int) or value not in (0, 1):
            raise self.error(key, f"is {value!r:.60}; true or false is due")
        return bool(value)

    def number(self, key: str, fallback: float | None = None) -> float:
        """A finite number."""
        value = self.get(key, fallback)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e18:
            raise self.error(key, f"is {value!r:.60}; a finite number is due")
        return float(value)

    def text(self, key: str, fallback: str = "") -> str:
        """A string; null is the fallback."""
        value = self.get(key, fallback)
        if value is None:
            return fallback
        if not isinstance(value, str):
            raise self.error(key, f"is {value!r:.60}; text is due")
        return value

    def items(self, key: str, *, length: int | None = None) -> list[Any] | None:
        """A list or None; of ``length`` entries where the layers say so."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, list | tuple):
            raise self.error(key, f"is {value!r:.60}; a list is due")
        if length is not None and len(value) != length:
            raise self.error(key, f"has {len(value)} entries for {length} layers")
        return list(value)

    def indices(self, key: str, *, high: int) -> list[int]:
        """A list of layer indices below ``high`` (empty when absent)."""
        return [self._bounded(key, v, 0, high) for v in self.items(key) or []]

    def section(
        self, key: str, model_type: str, *, required: bool = True, allowed: tuple[str, ...] = ()
    ) -> Config | None:
        """A nested mapping as a config of its own, of the type its class fixes or else the one it names.

        What it names must be in ``allowed`` (or be ``model_type``); absent, it is what the class starts from.
        """
        if key in self.parts:
            return self.parts[key]
        value = self.get(key)
        spec = self.facts.sections.get(key, {})
        if value is None and not required:
            return None
        if value is None:
            value = spec.get("values", {})
        if not isinstance(value, Mapping):
            raise self.error(key, f"is {value!r:.60}; a mapping is due")
        own = str(spec.get("type") or model_type)
        named = value.get("model_type")
        if not spec.get("fixed") and named is not None and named != own and (spec or allowed):
            if named not in allowed:
                close = ", ".join(nearest(str(named), allowed) or allowed[:6] or (own,))
                raise self.error(f"{key}.model_type", f"is {named!r:.40}, not supported here; nearest: {close}")
            own = str(named)
        part = Config(value, where=self.where, model_type=own, path=f"{self.path}{key}.", assumed=self.assumed)
        self.parts[key] = part
        return part

    def with_values(self, **values: Any) -> Config:
        """The same configuration with some values replaced; what is read of it counts as read here."""
        other = Config({**self.values, **values}, where=self.where, model_type=self.model_type, path=self.path,
                       assumed=self.assumed)  # fmt: skip
        other.read, other.parts = self.read, self.parts
        return other

    def ignore(self, *keys: str) -> None:
        """Mark keys as understood and without effect on the counts."""
        self.read.update(keys)

    def refuse_unread(self) -> None:
        """Refuse the keys nobody read that could change a count, here and in the sections that were asked for."""
        bad = [k for k, v in self.values.items() if isinstance(k, str) and self._suspicious(k, v)]
        if bad:
            known = "; ".join(f"{k} = {self.values[k]!r:.40}" for k in bad)
            raise self.error(bad[0], f"is not understood for this type and could change the count ({known}); refused")
        for part in self.parts.values():
            part.refuse_unread()

    def _suspicious(self, key: str, value: Any) -> bool:
        if key in self.read or key in GENERIC or key.startswith("_"):
            return False
        if self.facts.knows(key):
            own = self.facts.names.get(key, key)
            same = own in self.defaults and self.defaults[own] == value
            if same or own in self.facts.harmless or own in self.read:
                return False
            if self.facts.harmless:  # what changes no count of this type is known, and this is not among it
                return True
        return not isinstance(value, str) and value not in (None, False, 0, "", [], {}, 0.0) and looks_structural(key)
