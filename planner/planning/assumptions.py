"""Efficiencies that nobody measured: which of them an estimate hangs on, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set

from planner.cost.kernels import Rates, efficiency_text
from planner.cost.passes import inference_rates, training_rates
from planner.cost.runs import TrainingRun
from planner.demand.ops import KERNELS
from planner.scenario.resolve import Resolved
from planner.supply.cluster import Cluster, FabricKind, fabric_kind
from planner.supply.collectives import OPERATIONS, collective_efficiency
from planner.supply.efficiency import kernel_efficiency

# What ranks of an axis ask of the fabric (cost/exchange.py, cost/data_parallel.py).
_SUMS = ("all_reduce", "all_gather", "reduce_scatter")
OPERATIONS_OF = {"tp": _SUMS, "dp": _SUMS, "pp": ("send_recv",), "ep": ("all_to_all",), "etp": _SUMS,
                 "recompute": _SUMS, "cp": ("send_recv", "all_gather", "reduce_scatter", "all_to_all")}  # fmt: skip


def assumed_efficiencies(resolved: Resolved, time: Mapping[str, float]) -> list[str]:
    """Each efficiency that was assumed, of the kernels that a model has and of the collectives that take time.

    Parameters
    ----------
    resolved : Resolved
    time : mapping                  the time ledger, by term [s]
    """
    d = resolved.demand
    used = {KERNELS[int(code)] for s in d.sections if d.runs(s) for code in s.table.kernel}
    notes = [words for r in _rates(resolved) for kernel, words in r.assumed.items() if kernel in used]
    if isinstance(resolved.run, TrainingRun):
        found = kernel_efficiency(
            resolved.cluster.accelerator, "optimizer", "fp32", defaults=resolved.cluster.efficiency
        )
        notes += [efficiency_text("optimizer", found)] if found.provenance.basis == "assumed" else []
    notes += _collectives(resolved.cluster, {name.split(".")[1] for name in time if name.startswith("comm.")})
    return list(dict.fromkeys(notes))


def _rates(resolved: Resolved) -> Iterator[Rates]:
    """What the device offers each pass of the run."""
    cluster, run = resolved.cluster, resolved.run
    if isinstance(run, TrainingRun):
        yield from training_rates(cluster, run, run.precision)
        return
    for phase in ("prefill", *(("decode",) if resolved.task in ("decode", "serve") else ())):
        yield inference_rates(cluster, run, run.precision, phase=phase)


def _collectives(cluster: Cluster, axes: Set[str]) -> Iterator[str]:
    """A line for each fabric that ranks of the axes meet over and some of whose collectives nobody measured."""
    ops = {op for axis in axes for op in OPERATIONS_OF.get(axis, ())}
    system = cluster.system
    met: list[FabricKind] = []
    if system.scale_up is not None:
        met.append(fabric_kind(system.scale_up, inside=True))
    if system.scale_out is not None and cluster.devices > cluster.domain:
        met.append(fabric_kind(system.scale_out, inside=False))
    for kind in dict.fromkeys(met):
        found = {
            op: collective_efficiency(op, efficiency=cluster.efficiency, kind=kind) for op in OPERATIONS if op in ops
        }
        shares = [f"{op} {e.bandwidth:.0%}" for op, e in found.items() if e.provenance.basis == "assumed"]
        if shares:
            yield f"collectives over {kind} links reach of the bandwidth: {', '.join(shares)} (assumed)"
