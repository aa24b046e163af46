"""The words of a sizing question that are no scenario keys: amounts, limits, prices and failures, as said."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import date
from typing import cast

from planner.catalogue.economics import grid_intensity, power, scaling_law
from planner.catalogue.hardware import Price
from planner.catalogue.loader import resolve_hardware
from planner.errors import BadInputError, unknown
from planner.planning.counts import parse_counts
from planner.planning.goodput import failure_model
from planner.planning.outlook import Terms
from planner.planning.size import Question
from planner.planning.size_limits import Limits
from planner.planning.work import Amount
from planner.supply.cost import Owned, Tariff
from planner.units import parse_quantity

QUANTITIES = {
    "tokens": "count", "steps": "count", "deadline": "s", "budget": "USD", "capex": "USD", "power_price": "USD/kWh",
    "mtbf": "s", "recovery": "s", "storage": "byte/s",
}  # fmt: skip
WORDS = (
    *QUANTITIES, "compute_optimal", "devices", "max_global_batch", "sequences_per_device", "sure",
    "provider", "region", "years", "pue", "grid", "spares", "prices",
)  # fmt: skip


def asked(words: Mapping[str, object]) -> Question:
    """A question from :data:`WORDS`; those that are None or empty are not given.

    Raises
    ------
    BadInputError
        A word that is not understood, or two that contradict each other.
    """
    for word in words:
        if word not in WORDS:
            raise unknown("word", word, WORDS)
    given = {k: v for k, v in words.items() if v not in (None, "")}
    amounts = {k: _quantity(k, given[k]) for k in QUANTITIES if k in given}
    law = given.get("compute_optimal")
    if law is not None:
        scaling_law(str(law))
    if "sure" in given and "deadline" not in given:
        raise BadInputError(f"sure: {given['sure']} given without deadline; it is the chance of meeting one")
    return Question(
        amount=Amount(amounts.get("tokens"), amounts.get("steps"), None if law is None else str(law)),
        limits=Limits(amounts.get("deadline"), amounts.get("budget"), _number("sure", given, 0.01, 0.999)),
        counts=parse_counts(None if "devices" not in given else str(given["devices"])),
        max_global_batch=_whole(given.get("max_global_batch")), a_device=_whole(given.get("sequences_per_device")),
        terms=_terms(given, amounts),
    )  # fmt: skip


def _terms(given: Mapping[str, object], amounts: Mapping[str, float]) -> Terms:
    grid = str(given.get("grid", ""))
    if grid:
        grid_intensity(grid)
    pue = _number("pue", given, 1.0, 10.0)
    failures = failure_model(mtbf=amounts.get("mtbf"), recovery=amounts.get("recovery"), storage=amounts.get("storage"))
    return Terms(_tariff(given, amounts, pue), pue, grid, failures, _number("spares", given, 0.0, 1.0) or 0.0)


def _tariff(given: Mapping[str, object], amounts: Mapping[str, float], pue: float | None) -> Tariff:
    provider, region = str(given.get("provider", "")), str(given.get("region", ""))
    if "capex" not in amounts:
        if "power_price" in amounts:
            raise BadInputError("power_price: given without capex; it is paid for devices that are owned")
        return Tariff("", provider, region, own=_own_prices(given.get("prices") or ()))
    if provider or region:
        raise BadInputError(f"capex: {given['capex']} given with {provider or region}; devices are owned or rented")
    if "power_price" not in amounts:
        raise BadInputError(f"capex: {given['capex']} given without power_price; owned devices pay for their power")
    owned = Owned(amounts["capex"], _number("years", given, 0.1, 100.0) or 5.0, amounts["power_price"],
                  power().pue if pue is None else pue)  # fmt: skip
    return Tariff("owned", owned=owned)


def _own_prices(rows: object) -> tuple[tuple[str, Price], ...]:
    """Prices from rows with ``hardware`` (a system or accelerator id), ``usd`` (a quantity), ``date`` and, where they
    are told, ``provider``, ``kind`` and ``region``."""
    out = []
    for n, row in enumerate(cast(Iterable[Mapping[str, str]], rows), 1):
        lacks = [k for k in ("hardware", "usd", "date") if not row.get(k)]
        if lacks:
            raise BadInputError(f"prices: row {n} has no {lacks[0]}; each has hardware, usd (as in 2.5 USD/hour), date")
        chip, system = resolve_hardware(row["hardware"])
        name = row["hardware"].strip().lower()
        try:
            usd, day = parse_quantity(row["usd"], "USD/hour"), date.fromisoformat(str(row["date"]))
        except (BadInputError, ValueError) as error:
            raise BadInputError(f"prices: row {n}: {error}") from None
        if not 0 < usd < math.inf:
            raise BadInputError(f"prices: row {n}: usd {row['usd']!r} is no price")
        seen = Price(usd, row.get("provider") or "own", row.get("kind") or "on-demand", row.get("region") or "",
                     day.isoformat(), "prices")  # fmt: skip
        out.append((chip.id if name == chip.id else system.id, seen))
    return tuple(out)


def _quantity(name: str, value: object) -> float:
    try:
        found = parse_quantity(value, QUANTITIES[name])
    except BadInputError as error:
        raise BadInputError(f"{name}: {error}") from None
    if found <= 0:
        raise BadInputError(f"{name}: {value!r} is nothing; it has to be more than 0")
    return found


def _number(name: str, given: Mapping[str, object], least: float, most: float) -> float | None:
    if name not in given:
        return None
    try:
        found = float(str(given[name]))
    except ValueError:
        found = float("nan")
    if not least <= found <= most:
        raise BadInputError(f"{name}: {given[name]!r} is no number from {least:g} to {most:g}")
    return found


def _whole(value: object) -> int | None:
    return None if value is None else int(str(value))
