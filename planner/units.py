"""The only place that knows unit prefixes: quantity strings in, base SI floats out, and back for people.

Base units: FLOP/s, byte/s, byte, second, W, USD, USD/hour, USD/kWh, Hz, and counts. Decimal prefixes are powers of
1000, binary ones (Ki, Mi, Gi) powers of 1024; bits become bytes. A bare number where a unit is due is refused, because
PyYAML reads ``989e12`` as text and ``3.35`` as a number, and neither says what it counts. A count is due no unit:
``15T`` tokens are 15·10^12, and so is the number; money is a count of USD.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from planner.errors import BadInputError, nearest

_PREFIX = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
_BILLION = {"B": 1e9}  # of money; of tokens it would read as bytes
_SMALL = {"": 1.0, "m": 1e-3, "u": 1e-6, "\u00b5": 1e-6, "\u03bc": 1e-6, "n": 1e-9}  # the micro sign, and a Greek mu

_SCALES: dict[str, dict[str, float]] = {
    "FLOP/s": {f"{p}FLOP/s": s for p, s in _PREFIX.items()} | {f"{p}OP/s": s for p, s in _PREFIX.items()},
    "byte/s": {f"{p}B/s": s for p, s in (_PREFIX | _BINARY).items()} | {f"{p}bit/s": s / 8 for p, s in _PREFIX.items()},
    "byte": {f"{p}B": s for p, s in (_PREFIX | _BINARY).items()},
    "s": {f"{p}s": s for p, s in _SMALL.items()}
    | {"min": 60.0}
    | dict.fromkeys(("h", "hour", "hours"), 3600.0)
    | dict.fromkeys(("d", "day", "days"), 86400.0),
    "W": {"W": 1.0, "kW": 1e3, "MW": 1e6, "mW": 1e-3},
    "USD/hour": {"USD/hour": 1.0, "USD/h": 1.0},
    "USD": {f"{p}{w}".strip(): s for p, s in (_PREFIX | _BILLION).items() for w in ("", " USD")},
    "USD/kWh": {"USD/kWh": 1.0},
    "Hz": {f"{p}Hz": s for p, s in _PREFIX.items()},
    "count": {f"{p}{w}".strip(): s for p, s in (_PREFIX | _BINARY).items() for w in ("", " tokens")},
}
_USUAL = {
    "FLOP/s": "GFLOP/s, TFLOP/s, PFLOP/s, TOP/s",
    "byte/s": "MB/s, GB/s, TB/s, GiB/s, Gbit/s, Tbit/s",
    "byte": "B, MB, GB, TB, MiB, GiB, TiB",
    "s": "ns, us, ms, s, min, h, d",
    "W": "W, kW, MW",
    "USD/hour": "USD/hour, USD/h",
    "USD": "k, M, B, as in 5M or 5M USD",
    "USD/kWh": "USD/kWh",
    "Hz": "Hz, MHz, GHz",
    "count": "k, M, G, T, Ki, Mi, Gi",
}
_QUANTITY = re.compile(r"^\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S.*?|)\s*$")


def parse_quantity(text: object, unit: str) -> float:
    """Read a quantity string such as ``'989.4 TFLOP/s'`` as a float in the base ``unit``.

    Parameters
    ----------
    text : str
        A number and a unit. Anything else is refused, but for a bare number where a count is due.
    unit : str
        The base unit that is due: one of FLOP/s, byte/s, byte, s, W, USD, USD/hour, USD/kWh, Hz, count.

    Raises
    ------
    BadInputError
        No unit, a unit of another kind, or a number that is negative or not finite.
    """
    scales, usual = _SCALES[unit], _USUAL[unit]
    bare = isinstance(text, int | float) and not isinstance(text, bool)
    if not isinstance(text, str) and not (bare and "" in scales):
        raise BadInputError(f"{text!r} has no unit; write a number and one of: {usual}")
    match = _QUANTITY.match(str(text))
    if match is None or (match[2] == "" and "" not in scales):
        raise BadInputError(f"{text!r} is not a number with a unit; write a number and one of: {usual}")
    number, suffix = float(match[1]), " ".join(match[2].split())
    if suffix not in scales:
        close = ", ".join(nearest(suffix, (s for s in scales if s)))
        hint = f"nearest: {close}; " if close else ""
        raise BadInputError(f"{text!r}: unit {suffix!r} is not a unit of {unit}; {hint}allowed: {usual}")
    if not math.isfinite(number) or number < 0:
        raise BadInputError(f"{text!r} must be finite and not negative")
    return number * scales[suffix]


def format_quantity(value: float | None, unit: str, *, digits: int = 3) -> str:
    """A base-unit float for people, with the prefix that keeps it in [1, 1000): ``'989 TFLOP/s'``; no exponents."""
    if value is None or not math.isfinite(value):
        return "n/a"
    factor, name = scale(abs(value), unit)
    return f"{significant(value / factor, digits)} {name}".rstrip()


def format_gib(value: float) -> str:
    """Bytes in the unit people compare memory in: GiB with one decimal, below a tenth of one MiB, then KiB."""
    for power, name in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if abs(value) >= 2.0**power / 10:
            return f"{value / 2.0**power:,.1f} {name}"
    return f"{value:.0f} B"


def counted(number: int, thing: str) -> str:
    """A count of things: ``1 shard``, ``2,000 shards``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def scale(largest: float, unit: str) -> tuple[float, str]:
    """The factor and the name of the unit in which ``largest``, in the base ``unit``, reads best.

    Bytes as counts of memory are ``memory``: binary prefixes. Seconds go down to ns and never up.
    """
    steps: Mapping[str, float] = _PREFIX
    if unit == "s":
        steps = {"": 1.0, "m": 1e-3, "µ": 1e-6, "n": 1e-9}
    elif unit == "memory":
        steps = {"": 1.0} | _BINARY
    short = {"byte": "B", "byte/s": "B/s", "memory": "B"}.get(unit, unit)
    if unit in ("USD/hour", "%", "") or largest == 0:
        return 1.0, short
    ranked = sorted(steps.items(), key=lambda kv: -kv[1])
    return next(((f, p + short) for p, f in ranked if largest >= f), (ranked[-1][1], ranked[-1][0] + short))


def significant(number: float, digits: int = 3) -> str:
    """A number with so many significant digits, thousands set apart, without an exponent or trailing zeros."""
    if number == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(number))))
    text = f"{number:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
