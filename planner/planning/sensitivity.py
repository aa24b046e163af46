"""What a step's time hangs on: one figure of the hardware changed at a time, everything else held."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from planner.catalogue.hardware import CollectiveEfficiency, Fabric, KernelEfficiency
from planner.cost.layouts import Layouts
from planner.planning.estimate import Estimate
from planner.planning.search import evaluate
from planner.precision import DTYPE_NAMES
from planner.scenario.resolve import Resolved
from planner.supply.cluster import Cluster
from planner.supply.collectives import OPERATIONS, collective_efficiency
from planner.supply.efficiency import KERNELS, kernel_efficiency

Change = Callable[[Cluster, float], Cluster]
_FLAVOURS = (*OPERATIONS, "all_reduce_in_network", "all_reduce_low_latency")


@dataclass(frozen=True)
class Sensitivity:
    """Step time with one figure times 1 - change (``low``), 1 + change (``high``), and as it is [s]."""

    name: str
    low: float
    high: float
    base: float
    change: float

    @property
    def swing(self) -> float:
        """Largest part of the step time that the change moves."""
        return max(abs(self.low - self.base), abs(self.high - self.base)) / self.base


def sensitivity(estimate: Estimate, *, change: float = 0.2) -> list[Sensitivity]:
    """Step time of one layout when a figure of the hardware is ``change`` lower or higher.

    Parameters
    ----------
    estimate : Estimate
    change : float                  0.2 scales each figure by 0.8 and by 1.2

    Returns
    -------
    list of Sensitivity             the strongest first; figures that the system does not have are left out

    Notes
    -----
    Peaks, bandwidths and links are those listed; launch overhead is t_0 of every kernel, link latency α of
    every collective. The layout is held, though a planner might answer a change with another one. A chip held
    by its power limit gains nothing from a higher peak.
    """
    resolved, x = estimate.resolved, estimate.layout
    base = _seconds(resolved, x, resolved.cluster)
    out = []
    for name, scaled in _CHANGES.items():
        if _missing(name, resolved.cluster):
            continue
        low = _seconds(resolved, x, scaled(resolved.cluster, 1.0 - change))
        high = _seconds(resolved, x, scaled(resolved.cluster, 1.0 + change))
        out.append(Sensitivity(name, low, high, base, change))
    return sorted(out, key=lambda s: -s.swing)


def _seconds(resolved: Resolved, x: Layouts, cluster: Cluster) -> float:
    return float(evaluate(replace(resolved, cluster=cluster), x)[0][0])


def _missing(name: str, cluster: Cluster) -> bool:
    """Whether a cluster lacks what is changed; a link that no rank reaches is as good as absent."""
    if name == "scale-up bandwidth":
        return cluster.system.scale_up is None or cluster.devices == 1
    if name == "scale-out bandwidth":
        return cluster.system.scale_out is None or cluster.devices <= cluster.domain
    return name == "link latency" and cluster.devices == 1


def _peak(cluster: Cluster, by: float) -> Cluster:
    chip = cluster.accelerator
    vector = None if chip.vector_flops is None else chip.vector_flops * by
    faster = replace(chip, peak_flops={k: v * by for k, v in chip.peak_flops.items()}, vector_flops=vector)
    return replace(cluster, accelerator=faster)


def _memory(cluster: Cluster, by: float) -> Cluster:
    chip = cluster.accelerator
    first, *others = chip.memory
    return replace(cluster, accelerator=replace(chip, memory=(replace(first, bandwidth=chip.bandwidth * by), *others)))


def _link(fabric: Fabric | None, by: float) -> Fabric | None:
    if fabric is None:
        return None
    peer = None if fabric.per_peer is None else fabric.per_peer * by
    return replace(fabric, bandwidth=fabric.bandwidth * by, per_peer=peer)


def _scale_up(cluster: Cluster, by: float) -> Cluster:
    return replace(cluster, system=replace(cluster.system, scale_up=_link(cluster.system.scale_up, by)))


def _scale_out(cluster: Cluster, by: float) -> Cluster:
    return replace(cluster, system=replace(cluster.system, scale_out=_link(cluster.system.scale_out, by)))


def _launch(cluster: Cluster, by: float) -> Cluster:
    """Every kernel's t_0 scaled, looked up as the kernel model does and written down for each dtype."""
    chip, defaults = cluster.accelerator, cluster.efficiency

    def scaled(kernel: str, dtype: str) -> KernelEfficiency:
        found = kernel_efficiency(chip, kernel, dtype, defaults=defaults)
        return replace(found, overhead=found.overhead * by)

    table = {kernel: {dtype: scaled(kernel, dtype) for dtype in DTYPE_NAMES} for kernel in KERNELS}
    return replace(cluster, accelerator=replace(chip, kernels=table))


def _latency(cluster: Cluster, by: float) -> Cluster:
    def scaled(op: str, kind: str) -> CollectiveEfficiency:
        found = collective_efficiency(op, efficiency=cluster.efficiency, kind=kind)
        return replace(found, latency=found.latency * by, latency_per_rank=found.latency_per_rank * by)

    table: Mapping[str, Mapping[str, CollectiveEfficiency]] = {
        kind: {op: scaled(op, kind) for op in _FLAVOURS} for kind in ("scale_up", "scale_out", "pcie")
    }
    return replace(cluster, efficiency=replace(cluster.efficiency, collectives=table))


_CHANGES: Mapping[str, Change] = {
    "peak FLOP/s": _peak,
    "memory bandwidth": _memory,
    "scale-up bandwidth": _scale_up,
    "scale-out bandwidth": _scale_out,
    "kernel launch overhead": _launch,
    "link latency": _latency,
}
