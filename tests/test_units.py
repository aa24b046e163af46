"""Quantity strings: every prefix, and every way of leaving the unit out."""

from __future__ import annotations

import pytest

from planner.errors import BadInputError
from planner.units import format_gib, format_quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("989.4 TFLOP/s", "FLOP/s", 989.4e12),
        ("1 PFLOP/s", "FLOP/s", 1e15),
        ("624 TOP/s", "FLOP/s", 624e12),
        ("3.35 TB/s", "byte/s", 3.35e12),
        ("3350 GB/s", "byte/s", 3.35e12),
        ("400 Gbit/s", "byte/s", 50e9),
        ("820 GiB/s", "byte/s", 820 * 2**30),
        ("80 GB", "byte", 80e9),
        ("79.2 GiB", "byte", 79.2 * 2**30),
        ("85198045184 B", "byte", 85198045184.0),
        ("3.5 us", "s", 3.5e-6),
        ("3.5 µs", "s", 3.5e-6),
        ("1.2 kW", "W", 1200.0),
        ("2.69 USD/hour", "USD/hour", 2.69),
        ("1830 MHz", "Hz", 1.83e9),
        ("1e3 W", "W", 1000.0),
        ("3.5 \u03bcs", "s", 3.5e-6),
        ("30 ms", "s", 0.03),
        ("5min", "s", 300.0),
        ("1.5 h", "s", 5400.0),
        ("60d", "s", 60 * 86400.0),
        ("2 days", "s", 172800.0),
        ("2.5 USD/h", "USD/hour", 2.5),
        ("5M", "USD", 5e6),
        ("1.5 M USD", "USD", 1.5e6),
        ("2B", "USD", 2e9),
        ("0.08 USD/kWh", "USD/kWh", 0.08),
        ("15T", "count", 15e12),
        ("15 T  tokens", "count", 15e12),
        ("256k", "count", 256e3),
        ("256Ki", "count", 262144.0),
        ("7 tokens", "count", 7.0),
        ("15e12", "count", 15e12),
        (15_000, "count", 15e3),
    ],
)
def test_quantity_reads_in_base_units(text: object, unit: str, value: float) -> None:
    assert parse_quantity(text, unit) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    ["989e12", "3.35", 3.35, 989, None, True, "80 GB", "fast", "", "-1 TFLOP/s", "1 TFLOPS", "1 tflop/s"],
)
def test_quantity_without_its_unit_is_refused(text: object) -> None:
    with pytest.raises(BadInputError) as error:
        parse_quantity(text, "FLOP/s")
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("text", ["15X", "15 B", "k", "", True, None, "-3k", float("nan"), "15T/s"])
def test_what_is_no_count_is_refused(text: object) -> None:
    with pytest.raises(BadInputError) as error:
        parse_quantity(text, "count")
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("text", "unit", "words"),
    [
        ("50 gb/s", "byte/s", ["'50 gb/s'", "'gb/s'", "nearest: GB/s", "allowed:", "Gbit/s"]),
        ("3 weeks", "s", ["'weeks'", "allowed: ns, us, ms, s, min, h, d"]),
        (80, "byte", ["80 has no unit", "GiB"]),
    ],
)
def test_a_refusal_says_what_was_given_and_what_is_allowed(text: object, unit: str, words: list[str]) -> None:
    with pytest.raises(BadInputError) as error:
        parse_quantity(text, unit)
    assert all(w in str(error.value) for w in words), str(error.value)


def test_infinite_quantity_is_refused() -> None:
    with pytest.raises(BadInputError, match="finite"):
        parse_quantity("1e400 W", "W")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (989.4e12, "FLOP/s", "989 TFLOP/s"),
        (3.35e12, "byte/s", "3.35 TB/s"),
        (3.5e-6, "s", "3.5 µs"),
        (0.0, "byte", "0 B"),
        (float("nan"), "W", "n/a"),
    ],
)
def test_quantity_for_people(value: float, unit: str, text: str) -> None:
    assert format_quantity(value, unit) == text


def test_gib_for_people() -> None:
    assert format_gib(79.2 * 2**30) == "79.2 GiB"
    assert format_gib(3 * 2**20) == "3.0 MiB"
