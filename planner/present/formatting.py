"""Numbers for people, one style everywhere: a column has one unit, which its heading names, and one number of decimals.

What unit a column is in follows from its name (:data:`UNITS`); which prefix, from its largest value. A count keeps its
digits. Nothing that is not zero reads as zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from planner.errors import legible
from planner.units import scale, significant

# Base unit by the end of a column's name, the first that matches; "memory" has binary prefixes.
UNITS = (
    ("bytes", "memory"), ("bytes_per_token", "memory"), ("tokens_per_s", ""), ("tokens_per_s_per_device", ""),
    ("requests_per_s", ""),
    ("interval_s", "s"), ("_s", "s"), ("bf16_flops", "FLOP/s"), ("fp16_flops", "FLOP/s"), ("fp8_flops", "FLOP/s"),
    ("achieved_flops", "FLOP/s"), ("flops", "FLOP"), ("flops_per_step", "FLOP"), ("bandwidth", "byte/s"),
    ("link", "byte/s"), ("watts", "W"), ("power", "W"), ("mfu", "%"), ("hfu", "%"), ("share", "%"), ("bias", "+%"),
    ("_error", "%"), ("regret", "%"), ("covered", "%"), ("slower", "+%"), ("of_capacity", "%"), ("kept", "%"),
    ("chance", "%"), ("utilisation", "%"), ("kv_use", "%"), ("joules_per_million_tokens", "J"),
    ("usd_per_hour", "USD/h"), ("usd_per_million_tokens", "USD/Mtoken"),
)  # fmt: skip
MONEY = {"USD/h": "rent", "USD/Mtoken": "cost"}
YEARS = ("year",)
FIGURES = 3  # significant digits of the largest value of a column
MOST = 2_000  # what the largest value of a column may read as
MOST_RATE = 10_000  # and of a rate: chips differ more than the terms of a sum
MORE = 2  # decimals beyond those, for values that would read as zero


def unit_of(column: str) -> str:
    """The base unit of a column by its name; empty for counts, ratios and text."""
    return next((unit for end, unit in UNITS if column == end.lstrip("_") or column.endswith(_after(end))), "")


def _after(end: str) -> str:
    return end if end.startswith("_") else f"_{end}"


def column_text(name: str, values: Sequence[Any]) -> tuple[str, list[str]]:
    """The heading of a column and its cells.

    Parameters
    ----------
    name : str                      of the column; its end tells the unit
    values : sequence               numbers in base units, text, None, or pairs of numbers: an interval
    """
    unit = unit_of(name)
    numbers = [abs(n) for v in values for n in (v if isinstance(v, tuple) else (v,)) if _is_number(n)]
    title = _title(name, unit)
    if not numbers:
        return title, [_word(v) for v in values]
    percent = unit in ("%", "+%")
    factor, shown = (0.01, "%") if percent else (1.0, unit) if unit in MONEY else _scale(numbers, unit)
    decimals = _decimals([n / factor for n in numbers], unit, whole=all(isinstance(n, int) for n in numbers))
    sign = "+" if unit == "+%" else ""

    def cell(value: Any) -> str:
        if isinstance(value, tuple):
            return " – ".join(cell(v) for v in value)
        return _number(value / factor, decimals, sign, name) if _is_number(value) else _word(value)

    return f"{title} [{shown}]" if shown else title, [cell(v) for v in values]


def _scale(numbers: Sequence[float], unit: str) -> tuple[float, str]:
    """The prefix of the value in the middle, unless the largest then has too many digits; else that of the largest."""
    middle = sorted(numbers)[len(numbers) // 2]
    factor, name = scale(middle, unit)
    return (
        (factor, name)
        if middle and max(numbers) / factor < (MOST_RATE if unit.endswith("/s") else MOST)
        else scale(max(numbers), unit)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else legible(str(value))


def _title(name: str, unit: str) -> str:
    """A column's name without the unit that its brackets carry."""
    for suffix in ("_bytes", "_s", "_flops") if unit else ():
        if name.endswith(suffix) and not name.endswith("per_s"):
            name = name.removesuffix(suffix)
    return MONEY.get(unit, legible(name.replace("_", " ")))


def _decimals(sizes: Sequence[float], unit: str, *, whole: bool) -> int:
    """Decimals that give the largest value :data:`FIGURES` digits, and a few more where small values need them."""
    if whole and not unit:
        return 0
    if unit in ("%", "+%"):
        return 1
    present = [s for s in sizes if s > 0]
    if not present:
        return 0
    if unit in MONEY:
        return 2 if max(present) < 1e5 else 0
    enough = max(0, FIGURES - 1 - math.floor(math.log10(max(present))))
    return min(max(enough, 1 - math.floor(math.log10(min(present)))), enough + MORE)


def _number(value: float, decimals: int, sign: str, name: str) -> str:
    if name in YEARS:
        return f"{value:.0f}"
    if value == 0:
        return "0"
    if abs(value) < 0.5 * 10.0**-decimals:
        return f"< {10.0**-decimals:.{decimals}f}"
    return f"{value:{sign},.{decimals}f}"


def text_of(name: str, value: Any) -> str:
    """One value by itself, with its unit."""
    title, (cell,) = column_text(name, [value])
    unit = title.partition(" [")[2].removesuffix("]")
    return f"{cell}{'' if unit == '%' else ' '}{unit}".rstrip() if cell else ""


__all__ = ["column_text", "significant", "text_of", "unit_of"]
