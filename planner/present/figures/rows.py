"""Rows of results as figures read them: numbers by column, and round numbers for their axes."""

from __future__ import annotations

import math
from collections.abc import Mapping

Row = Mapping[str, object]


def number(row: Row, key: str) -> float:
    """The number in a column of a row."""
    value = row[key]
    assert isinstance(value, int | float)
    return float(value)


def round_numbers(low: float, high: float) -> list[float]:
    """1, 2, 5 (and 3, 7 in narrow ranges) times powers of ten."""
    digits = (1, 2, 5) if high / low > 8 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [d * 10.0**e for e in range(first, last + 1) for d in digits]


def holds(row: Row) -> bool:
    """Whether a row's layout fits with the chance that its ``headroom`` asks for, or by ``fits`` where none is said."""
    chance, asked = row.get("fits_chance"), row.get("headroom")
    if isinstance(chance, float) and isinstance(asked, float):
        return chance >= asked
    return str(row.get("fits", "yes")) != "no"
