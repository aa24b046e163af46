"""How far off an estimate may be: factors on a predicted time, from the residuals of published runs by regime."""

from __future__ import annotations

from dataclasses import dataclass

from planner.catalogue.intervals import interval_table
from planner.plan.layouts import Layouts
from planner.plan.resolve import Resolved


@dataclass(frozen=True)
class Interval:
    """Factors that bound a predicted time with 90 % (``low``, ``high``), and where they come from."""

    low: float
    high: float
    basis: str


def regime(resolved: Resolved, x: Layouts) -> str:
    """The regime an estimate belongs to: task, dense or mixture of experts, inside one node or across."""
    if resolved.task != "train":
        return f"infer.{'decode' if resolved.task in ('decode', 'serve') else 'prefill'}"
    sparse = resolved.demand.active_parameters < resolved.demand.total_parameters
    across = int(x.devices[0]) > resolved.cluster.domain
    return f"train.{'moe' if sparse else 'dense'}.{'multi' if across else 'single'}"


def interval(resolved: Resolved, x: Layouts) -> Interval:
    """The 90 % interval of an estimate's regime; the widest of its task where nothing was measured."""
    name = regime(resolved, x)
    found = interval_table().get(name)
    if found is None:
        return Interval(0.5, 2.0, f"interval: no published run in regime {name}; a factor 2 either way is assumed")
    return Interval(float(found["low"]), float(found["high"]),
                    f"interval: 90 % of {found['runs']:.0f} published runs in regime {name}")  # fmt: skip
