"""Records of arrays: one function over every array of a frozen dataclass, or of several of the same type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from planner.demand.ops import Array

Record = TypeVar("Record")


def over(f: Callable[..., Array], first: Record, *others: Record) -> Record:
    """The record whose every array is ``f`` of the arrays at the same place of the given records.

    Dataclasses and mappings are walked; whatever else stands in them is an array.
    """
    found: Any
    if isinstance(first, dict):
        found = {k: over(f, v, *(o[k] for o in others)) for k, v in first.items()}  # type: ignore[index]
    elif is_dataclass(first) and not isinstance(first, type):
        names = [c.name for c in fields(first)]
        found = type(first)(**{n: over(f, getattr(first, n), *(getattr(o, n) for o in others)) for n in names})
    else:
        found = f(first, *others)
    return found  # type: ignore[no-any-return]
