"""Money and power: dated prices chosen in the open, and watts from the rated power.

A price is an observation with a date, never a property of the chip; how old it is goes with every figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import ArrayLike

from planner.catalogue.hardware import Price
from planner.errors import BadInputError
from planner.supply.cluster import Cluster
from planner.supply.roofline import Floats

ON_DEMAND = "on-demand"
GIVEN = "given"  # the kind of a price that nobody observed
OWNED = "owned"
HOURS_PER_YEAR = 365.25 * 24


@dataclass(frozen=True)
class ChosenPrice:
    """The observation used [USD/hour per device], of how many, and its age when asked [day]."""

    observation: Price
    considered: int
    stale_days: int

    @property
    def basis(self) -> str:
        """Whose price it is, and how old."""
        o = self.observation
        if o.kind == OWNED:
            return "owned: capex over its years, and power"
        return GIVEN if o.kind == GIVEN else f"{o.provider}, {o.kind}, {o.date} ({self.stale_days} days old)"


@dataclass(frozen=True)
class Owned:
    """Devices that are bought: ``capex`` a device with its share of node and network [USD], written off over ``years``,
    ``power_price`` [USD/kWh] and ``pue``."""

    capex: float
    years: float
    power_price: float
    pue: float


@dataclass(frozen=True)
class Tariff:
    """Which price is asked for: its kind, a provider and a region where one is named, or what owning costs.

    Without a kind it is the scenario's, or on demand; without a provider that of the system. ``own`` prices, of systems
    and accelerators by id, come before those of the catalogue.
    """

    kind: str = ""
    provider: str = ""
    region: str = ""
    owned: Owned | None = None
    own: tuple[tuple[str, Price], ...] = ()

    @property
    def words(self) -> str:
        """What is asked for, as in ``spot, aws, us-east-1``."""
        return ", ".join(w for w in (self.kind or ON_DEMAND, self.provider, self.region) if w)


LISTED = Tariff()


def choose_price(
    prices: Sequence[Price], *, today: date, kind: str = ON_DEMAND, window_days: int = 180
) -> ChosenPrice | None:
    """The median of the newest observations of one kind; None where there is none.

    Parameters
    ----------
    prices : sequence of Price
    today : date                    only to say how stale the choice is
    kind : str                      on-demand, spot, reserved, …; compared without case
    window_days : int               observations this close to the newest count as newest

    Notes
    -----
    Of an even number the lower middle one, so that the answer is a price somebody asked, not a mean.
    """
    same = sorted((p for p in prices if p.kind.lower() == kind.lower()), key=lambda p: p.date)
    if not same:
        return None
    newest = _day(same[-1])
    recent = [p for p in same if (newest - _day(p)).days <= window_days]
    ranked = sorted(recent, key=lambda p: (p.usd_per_hour, p.provider, p.region))
    chosen = ranked[(len(ranked) - 1) // 2]
    return ChosenPrice(chosen, len(ranked), (today - _day(chosen)).days)


def owned_usd_per_hour(owned: Owned, watts: float) -> float:
    """What a device that is owned costs while it runs [USD/hour]: capex/(years·8,766 h) + PUE·P·price.

    ``watts`` is the power of a device with its share of the node [W]. It is taken to be busy all the years: assumption.
    """
    return owned.capex / (owned.years * HOURS_PER_YEAR) + owned.pue * watts / 1e3 * owned.power_price


def _day(price: Price) -> date:
    try:
        return date.fromisoformat(price.date)
    except ValueError as error:
        raise BadInputError(f"price of {price.provider}: date {price.date!r} is not YYYY-MM-DD") from error


def cluster_price(
    cluster: Cluster, *, today: date, tariff: Tariff = LISTED, watts: float | None = None
) -> ChosenPrice | None:
    """Price of one device of the cluster: what is given, else what owning it costs, else the system's own observations,
    else the accelerator's; of a cloud's instance those of its provider alone.

    ``watts`` of a device at work are needed for one that is owned.
    """
    if cluster.price is not None:
        return ChosenPrice(Price(cluster.price, GIVEN, GIVEN, "", today.isoformat(), GIVEN), 1, 0)
    if tariff.owned is not None:
        if watts is None:
            return None
        each = owned_usd_per_hour(tariff.owned, watts)
        return ChosenPrice(Price(each, OWNED, OWNED, "", today.isoformat(), GIVEN), 1, 0)
    kind = tariff.kind or cluster.price_kind or ON_DEMAND
    provider = tariff.provider or cluster.system.provider
    system, chip = cluster.system, cluster.accelerator
    own = ([p for name, p in tariff.own if name == i] for i in (system.id, chip.id))
    seen = [p for p in chip.prices if not provider or p.provider.lower() == provider.lower()]
    for prices in (*own, system.prices, seen):
        local = [p for p in prices if not tariff.region or p.region.lower() == tariff.region.lower()]
        if (found := choose_price(local, today=today, kind=kind)) is not None:
            return found
    return None


def usd_per_hour(price: ChosenPrice | None, devices: ArrayLike) -> Floats:
    """Rent of ``devices`` devices, shape (n,) [USD/hour]; NaN where no price is known."""
    each = price.observation.usd_per_hour if price is not None else np.nan
    return each * np.asarray(devices, dtype=np.float64)


def usd_per_million_tokens(hourly: ArrayLike, tokens_per_s: ArrayLike) -> Floats:
    """Cost of a million tokens, shape (n,) [USD]: hourly / 3600 / rate · 10^6; inf at no output."""
    rate = np.asarray(tokens_per_s, dtype=np.float64)
    hourly_rent = np.asarray(hourly, dtype=np.float64) + np.zeros(rate.shape)
    seconds = np.divide(1e6, rate, out=np.full(rate.shape, np.inf), where=rate > 0)
    return np.asarray(hourly_rent / 3600.0 * seconds, dtype=np.float64)


def rated_watts(cluster: Cluster, devices: ArrayLike) -> Floats:
    """Rated power of the accelerators, shape (n,) [W]; NaN where no source gives it.

    Notes
    -----
    TDP times devices. Host, fabric and cooling are not in it: measured 8-GPU B200 training nodes draw about
    1.2 times the sum of the accelerators' TDP, an H100 node less than its rating.
    """
    power = cluster.accelerator.power
    return (np.nan if power is None else power) * np.asarray(devices, dtype=np.float64)
