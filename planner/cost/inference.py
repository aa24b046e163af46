"""One forward pass: prefill, decode, and an encoder's forward, as time and memory ledgers for every layout at once.

A decode step reads every weight and the whole cache once; what it takes above that floor is the fixed cost of its
kernels and all-reduces, layer by layer, not an efficiency factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.cost.exchange import EXCHANGED, Traffic, Window, layer_exchange
from planner.cost.groups import stage_group
from planner.cost.layouts import Layouts
from planner.cost.memory import total
from planner.cost.passes import inference_kernels, inference_work
from planner.cost.runs import InferenceRun, Terms
from planner.cost.serving_memory import Serving, serving_memory
from planner.demand.ops import GROUPS, Array
from planner.demand.transformer import Demand
from planner.demand.workload import Work
from planner.supply.cluster import Cluster
from planner.supply.collectives import p2p_time


@dataclass(frozen=True)
class Pass:
    """Ledgers of one pass: ``time`` maps a term to an array of shape (n,) [s]; ``serving`` is what a device
    holds."""

    time: Terms
    serving: Serving

    @property
    def memory(self) -> Terms:
        """The memory ledger, (n,) a term [byte]."""
        return self.serving.terms

    @property
    def total_time(self) -> Array:
        """Sum of the time ledger, shape (n,) [s]."""
        return total(self.time)

    @property
    def peak_memory(self) -> Array:
        """Sum of the memory ledger, shape (n,) [byte]."""
        return total(self.memory)


def inference_pass(
    d: Demand, cluster: Cluster, x: Layouts, run: InferenceRun, *, phase: str, batch: float | Array | None = None,
) -> Pass:  # fmt: skip
    """Estimate one pass of every layout.

    Parameters
    ----------
    phase : ``prefill`` (input_len new tokens a sequence) or ``decode`` (one, over the cache)
    batch : float                   sequences in all, if not the run's

    Returns
    -------
    Pass                            ledgers of arrays of shape (n,)
    """
    sequences = np.ceil((run.batch if batch is None else batch) / x.dp)
    w = inference_work(x, run, phase=phase, sequences=sequences)
    return Pass(pass_time(d, cluster, x, run, w, phase=phase), serving_memory(d, cluster, x, run, w, sequences))


def pass_time(d: Demand, cluster: Cluster, x: Layouts, run: InferenceRun, w: Work, *, phase: str) -> Terms:
    """The time ledger of one pass over ``w``, (n,) a term [s].

    ``engine`` is what a step takes beyond its kernels: the engine's own, and what the host needs to launch the
    operators of a step that is not replayed as a graph, where it is slower than the device.
    """
    time, launched = _time(d, cluster, x, run, w, phase=phase)
    group = stage_group(x)
    boundary = w.tokens * d.model.hidden * run.precision.bytes_of("activation")
    send = p2p_time(boundary, ranks=group.ranks, stride=group.stride, cluster=cluster)
    time["comm.pp"] = (x.pp - 1.0) * send
    steps = run.engine.steps
    host = launched * steps.launch * (phase != "decode" or steps.captures == "none")
    own = run.engine.step_overhead + launched * steps.operator
    time["engine"] = own + np.maximum(host - total(time), 0.0)
    return time


def cache_time(d: Demand, cluster: Cluster, run: InferenceRun, w: Work) -> Array:
    """Time of the attention cores of a decode step over ``w``, (n,) [s]."""
    out = np.zeros(len(w.tp))
    for kernels in inference_kernels(d, cluster, w, run, phase="decode"):
        core = np.array([o.kernel == "attention" for o in kernels.piece.section.table.ops])
        out += (kernels.times * core).sum(axis=1) * kernels.piece.section.count
    return out


def _time(
    d: Demand, cluster: Cluster, x: Layouts, run: InferenceRun, w: Work, *, phase: str
) -> tuple[Terms, float]:  # fmt: skip
    """Kernels by parameter group and exposed exchange by axis, over all layers, (n,) a term [s]; and how many operators
    they launch."""
    launched = 0.0
    out: Terms = {
        name: np.zeros(len(x)) for name in (*(f"forward.{g}" for g in GROUPS), *(f"comm.{a}" for a in EXCHANGED))
    }
    traffic = Traffic(run.precision.bytes_of("activation"), low_latency=run.engine.steps.one_shot)
    none = np.zeros(len(x))
    for kernels in inference_kernels(d, cluster, w, run, phase=phase):
        section, times = kernels.piece.section, kernels.times
        launched += section.count * float((times > 0).any(axis=0).sum())
        core = np.array([o.kernel == "attention" for o in section.table.ops])
        for j, op in enumerate(section.table.ops):
            out[f"forward.{op.group}"] += times[:, j] * section.count
        window = Window(core=(times * core).sum(axis=1), matmul=none, weight_gradient=none)
        exchange = layer_exchange(d, section, kernels.piece.work, x, cluster, traffic, window)
        for axis in EXCHANGED:
            out[f"comm.{axis}"] += exchange[axis].forward * section.count
    return out, launched
