"""The only place that knows unit prefixes: quantity strings in, base SI floats out, and back for people.

Base units: FLOP/s, byte/s, byte, second, W, USD/hour, Hz. Decimal prefixes are powers of 1000, binary ones (Ki, Mi,
Gi) powers of 1024; bits become bytes. A bare number where a unit is due is refused, because PyYAML reads ``989e12``
as text and ``3.35`` as a number, and neither says what it counts.
"""

from __future__ import annotations

import math
import re

from planner.errors import BadInputError

_PREFIX = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
_SMALL = {"": 1.0, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "n": 1e-9}

_SCALES: dict[str, dict[str, float]] = {
    "FLOP/s": {f"{p}FLOP/s": s for p, s in _PREFIX.items()} | {f"{p}OP/s": s for p, s in _PREFIX.items()},
    "byte/s": {f"{p}B/s": s for p, s in (_PREFIX | _BINARY).items()} | {f"{p}bit/s": s / 8 for p, s in _PREFIX.items()},
    "byte": {f"{p}B": s for p, s in (_PREFIX | _BINARY).items()},
    "s": {f"{p}s": s for p, s in _SMALL.items()} | {"min": 60.0, "h": 3600.0, "d": 86400.0},
    "W": {"W": 1.0, "kW": 1e3, "MW": 1e6, "mW": 1e-3},
    "USD/hour": {"USD/hour": 1.0, "USD/h": 1.0},
    "Hz": {f"{p}Hz": s for p, s in _PREFIX.items()},
}
_QUANTITY = re.compile(r"^\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S.*?)\s*$")


def parse_quantity(text: object, unit: str) -> float:
    """Read a quantity string such as ``'989.4 TFLOP/s'`` as a float in the base ``unit``.

    Parameters
    ----------
    text : str
        A number and a unit. Anything else, a bare number included, is refused.
    unit : str
        The base unit that is due: one of FLOP/s, byte/s, byte, s, W, USD/hour, Hz.

    Raises
    ------
    BadInputError
        No unit, a unit of another kind, or a number that is negative or not finite.
    """
    scales = _SCALES[unit]
    sample = ", ".join(list(scales)[:8])
    if not isinstance(text, str):
        raise BadInputError(f"{text!r} has no unit; write a number and one of: {sample}")
    match = _QUANTITY.match(text)
    if match is None:
        raise BadInputError(f"{text!r} is not a number with a unit; write a number and one of: {sample}")
    number, suffix = float(match[1]), match[2]
    if suffix not in scales:
        raise BadInputError(f"{text!r}: unit {suffix!r} is not a unit of {unit}; allowed: {sample}")
    if not math.isfinite(number) or number < 0:
        raise BadInputError(f"{text!r} must be finite and not negative")
    return number * scales[suffix]


def format_quantity(value: float, unit: str, *, digits: int = 3) -> str:
    """A base-unit float for people, with the decimal prefix that keeps it in [1, 1000): ``'989 TFLOP/s'``."""
    if value is None or not math.isfinite(value):
        return "n/a"
    short = {"byte": "B", "byte/s": "B/s"}.get(unit, unit)
    if value == 0:
        return f"0 {short}"
    if unit == "s":
        for scale, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")):
            if abs(value) >= scale:
                return f"{value / scale:.{digits}g} {name}"
    for prefix in ("E", "P", "T", "G", "M", "k", ""):
        scale = _PREFIX[prefix]
        if abs(value) >= scale or prefix == "":
            number = value / scale
            text = f"{number:.0f}" if abs(number) >= 10 ** (digits - 1) else f"{number:.{digits}g}"
            return f"{text} {prefix}{short}"
    raise AssertionError("unreachable")


def format_gib(value: float) -> str:
    """Bytes as GiB with one decimal, the unit people compare memory in."""
    return f"{value / 2**30:.1f} GiB" if abs(value) >= 2**30 / 10 else f"{value / 2**20:.1f} MiB"
