"""Power and energy: what nodes draw at work, from measured draws over rated power, and what a building adds.

    P = f_regime·P_rated·n,    E = PUE·P·t

f is the median of measured nodes of the regime: host, fans, network cards and power supplies are in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from planner.catalogue.economics import PowerDraw, power
from planner.supply.cluster import Cluster

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Draw:
    """Wall power of a cluster at work [W], its share of the accelerators' rated power, and where that is from."""

    watts: float
    share: float
    basis: str


def power_share(regime: str, measured: Sequence[PowerDraw]) -> float:
    """Median of measured over rated power of the nodes of one regime, ``train`` or ``infer``, that were not capped."""
    return median(m.watts / m.rated for m in measured if m.regime == regime and not m.capped)


def mean_draw(cluster: Cluster, regime: str) -> Draw | None:
    """What the nodes of a cluster draw at work; None where no source gives the accelerator's rated power.

    The same share is taken for every chip: assumption where its nodes were not measured.
    """
    each = cluster.accelerator.power
    if each is None:
        return None
    measured = power().measured
    share = power_share(regime, measured)
    chips = sorted({m.accelerator for m in measured if m.regime == regime and not m.capped})
    own = "" if cluster.accelerator.id in chips else f", not of {cluster.accelerator.id}"
    return Draw(share * each * cluster.devices, share,
                f"power: {share:.2f} of the accelerators' rated power, the median of measured nodes of "
                f"{' and '.join(chips)}{own}")  # fmt: skip


def energy(watts: float, seconds: float, pue: float) -> float:
    """Energy into the building [kWh]: PUE·P·t."""
    return pue * watts * seconds / JOULES_PER_KWH
