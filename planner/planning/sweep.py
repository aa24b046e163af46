"""Lists and ranges of values: ``1,2,4`` and ``64..1024``, and the scenarios that they make."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import product

from planner.errors import BadInputError
from planner.scenario.keys import KEYS, Value, is_missing, parse_scenario

MOST = 10_000  # combinations


def values_of(name: str, value: object) -> list[object]:
    """The values that a key is given: a list with commas, a range that doubles (``64..1024``) or has a step
    (``8..64+8``), a Python sequence, or one value."""
    key = KEYS.get(name)
    if isinstance(value, list | tuple | range | set | frozenset):
        return list(value)
    if key is None or not isinstance(value, str) or key.name == "recompute_modules" or key.kind == "text":
        return [value]
    parts = [p.strip() for p in value.split(",")] if "," in value else [value]
    if len(parts) > 1 and not all(parts):
        raise BadInputError(f"{name}: {value!r} has an empty value between its commas")
    found = [v for p in parts for v in (_range(name, p) if ".." in p and key.kind in ("int", "float") else [p])]
    return [int(v) if key.kind == "int" and isinstance(v, str) and v.isdecimal() else v for v in found]


def _range(name: str, text: str) -> Iterable[int]:
    """Whole numbers from one to another: doubled, or by a step."""
    low, _, rest = text.partition("..")
    high, plus, step = rest.partition("+")
    try:
        first, last, by = int(low), int(high), int(step) if plus else 0
    except ValueError:
        raise BadInputError(f"{name}: {text!r} is no range; 64..1024 doubles, 8..64+8 adds 8") from None
    if not (0 if plus else 1) <= first <= last or (plus and by < 1) or (plus and (last - first) // by > MOST):
        raise BadInputError(f"{name}: {text!r} is no range; it goes up, from a number above 0 where it doubles")
    if plus:
        return range(first, last + 1, by)
    return [first * 2**i for i in range((last // first).bit_length())]


def combinations(given: Mapping[str, object], *, but: Collection[str] = ()) -> list[dict[str, object]]:
    """The scenarios that lists of values make, the last key moving fastest; keys in ``but`` keep their lists."""
    lists = {k: [v] if k in but else values_of(k, v) for k, v in given.items()}
    total = 1
    for name, values in lists.items():
        total *= len(values)
        if not values:
            raise BadInputError(f"{name}: an empty list")
    if total > MOST:
        raise BadInputError(f"{total:,} combinations of the values given; at most {MOST:,}")
    for name, values in lists.items():
        if len(values) > 1:
            _checked(name, values)
    return [dict(zip(lists, row, strict=True)) for row in product(*lists.values())]


def moving(scenarios: Sequence[Mapping[str, object]]) -> list[str]:
    """The keys that differ between scenarios."""
    return [k for k in scenarios[0] if len({str(s[k]) for s in scenarios}) > 1]


def held_values(given: Mapping[str, object]) -> tuple[dict[str, object], dict[str, tuple[Value, ...]]]:
    """A scenario without the searched keys that are given several values, and those values, checked."""
    several = {k: v for k, v in ((k, values_of(k, v)) for k, v in given.items()) if k in KEYS and KEYS[k].searched
               and (len(v) != 1 or isinstance(given[k], list | tuple | range | set | frozenset))}  # fmt: skip
    checked = {k: _checked(k, values) for k, values in several.items()}
    return {k: v for k, v in given.items() if k not in checked}, checked


def _checked(name: str, values: Sequence[object]) -> tuple[Value, ...]:
    """Several values of a key, each checked; none at all or an empty one among them is refused."""
    if not values or any(is_missing(v) for v in values):
        raise BadInputError(f"{name}: an empty list, or an empty value in one", key=name, given=values)
    return tuple(parse_scenario({name: v})[name] for v in values)
