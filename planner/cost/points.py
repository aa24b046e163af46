"""Every operator of a pass as a point under the roofline: what it computes, what it moves, how long it takes.

Points are the ledger's own terms: their times sum to what the ledger spends in kernels and exposed communication, on
the slowest stage of a pipeline. FLOPs, bytes and limits are read off the very timers of ``planner.cost.passes``, one
roof at a time. All figures are those of one device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.cost.constants import RECOMPUTE
from planner.cost.deployments import deployment
from planner.cost.frameworks import accumulation_bytes
from planner.cost.inference import inference_pass
from planner.cost.kernels import attention_dtype
from planner.cost.memory import run_state
from planner.cost.passes import Kernels, inference_kernels, inference_work, training_kernels
from planner.cost.recompute import repeated_share
from planner.cost.roofs import VECTOR, Roof, roofs
from planner.cost.runs import InferenceRun, Job, TrainingRun
from planner.cost.stages import stage_counts
from planner.cost.training import Timed, timed_stage, training_step
from planner.cost.update import owned_parameters
from planner.demand.costs import stays_wide
from planner.demand.memory import newton_schulz_flops, update_bytes
from planner.demand.ops import Array
from planner.demand.workload import Precision
from planner.errors import unknown
from planner.supply.cluster import Cluster
from planner.supply.roofline import BOUND_NAMES, bound_by

__all__ = ["COMMUNICATION", "PHASES", "Point", "Roof", "points", "roofs", "violations"]

PHASES = ("forward", "recompute", "backward", "decode", "optimizer")
COMMUNICATION = "communication"


@dataclass(frozen=True)
class Point:
    """One operator of one layer kind in one direction, on one device.

    Attributes
    ----------
    name, phase, kernel : str    ledger name; one of PHASES; kernel class, optimizer or communication
    flops, bytes : float         [FLOP], [byte] of one execution; vector operators count no FLOPs
    intensity : float            [FLOP/byte]; NaN where no bytes are counted
    time : float                 [s] of one execution
    share : float                part of the time of all points of the pass
    achieved_flops : float       [FLOP/s]
    bound : str                  compute, memory, overhead (launch) or communication: the largest of its times
    dtype : str                  which compute roof it lives under: a dtype, or ``vector``
    count : float                executions in the pass, over the layers of the stage and all micro-batches
    """

    name: str
    phase: str
    kernel: str
    flops: float
    bytes: float
    intensity: float
    time: float
    share: float
    achieved_flops: float
    bound: str
    dtype: str
    count: float


def points(job: Job, *, phase: str | None = None, stage: int | None = None) -> list[Point]:
    """Points of one pass of a job of one layout.

    Parameters
    ----------
    job : Job
    phase : str or None             inference only: ``prefill`` or ``decode``; the answering pass by default
    stage : int or None             training only: which pipeline stage; the slowest by default

    Returns
    -------
    list of Point                   layer kind by layer kind, forward before backward; shares sum to 1
    """
    run = job.run
    if isinstance(run, TrainingRun):
        return _with_shares(_merged([*_training_points(job, run, stage)]))
    chosen = phase or run.phase
    if chosen not in ("prefill", "decode"):
        raise unknown("phase", chosen, ("prefill", "decode"))
    if run.steady and phase is None:
        return _with_shares(_merged([*_served_points(job, run)]))
    found = [*_inference_points(job, run, chosen)]
    return _with_shares(_merged(found))


def violations(found: Sequence[Point], ceilings: Sequence[Roof], *, tolerance: float = 1e-6) -> list[Point]:
    """Points that lie above their datasheet roofs: each is a bug of the planner or of a catalogue file.

    A point may reach ``min(P of its dtype, intensity · W)`` and no more.
    """
    peaks = {r.dtype: r.value for r in ceilings if r.kind == "compute"}
    bandwidth = next(r.value for r in ceilings if r.kind == "memory")
    over = 1.0 + tolerance
    return [
        p
        for p in found
        if p.flops > 0
        and (p.achieved_flops > peaks[p.dtype] * over or p.achieved_flops > p.intensity * bandwidth * over)
    ]


def kernel_bound(job: Job, *, stage: int = 0) -> str:
    """What limits the kernels of a job for most of their time: compute, memory or overhead, by their points.

    ``stage`` is the pipeline stage whose kernels count, of a training run.
    """
    run = job.run
    if isinstance(run, TrainingRun):
        x = job.layout
        counts = stage_counts(job.demand, pp=int(x.pp[0]), vpp=int(x.vpp[0]), placement=run.schedule.placement)
        found = _training_kernels(job, run, counts[stage], pace=1.0)
    else:
        found = _inference_kernels(job, run, run.phase)
    spent: dict[str, float] = {}
    for p in found:
        spent[p.bound] = spent.get(p.bound, 0.0) + p.time * p.count
    return max(spent, key=lambda b: spent[b])


def _training_points(job: Job, run: TrainingRun, stage: int | None) -> Iterator[Point]:
    d, cluster, x = job.demand, job.cluster, job.layout
    at = timed_stage(d, cluster, x, run, stage)
    m = float(x.micro_batches[0])
    kernels = [*_training_kernels(job, run, at.layers, pace=at.pace)]
    yield from kernels
    yield from _accumulation_point(run, at, m)
    repeated = sum(p.time * p.count for p in kernels if p.phase == "recompute")
    yield from _waits("comm.recompute", "recompute", m * at.recompute - repeated)
    for axis in at.forward:
        yield from _waits(f"comm.{axis}", "forward", m * at.forward[axis])
        yield from _waits(f"comm.{axis}", "backward", m * at.backward[axis])
    ledger = training_step(d, cluster, x, run).time
    yield from _waits("comm.pp", "forward", float(ledger["comm.pp"][0]))
    for name in ("comm.dp.gradients", "comm.dp.parameters"):
        yield from _waits(name, "backward", float(ledger[name][0]))
    yield _optimizer_point(job, run, at, float(ledger["optimizer"][0]))


def _training_kernels(job: Job, run: TrainingRun, layers: Array, *, pace: float) -> Iterator[Point]:
    """Kernels of all micro-batches on a stage that holds so many ``layers`` of each section, (section,)."""
    x = job.layout
    for k in training_kernels(job.demand, job.cluster, x, run):
        section = k.forward.piece.section
        count = float(layers[k.forward.piece.index]) * float(x.micro_batches[0])
        if count == 0.0:
            continue
        once = [*_kernel_points(k.forward, job.cluster, "forward", count, pace=pace)]
        yield from once
        mode = RECOMPUTE[int(x.recompute[0])] if section.role == "layer" else "none"
        yield from (replace(p, phase="recompute") for p in _repeated(once, mode, k.forward, run))
        yield from _kernel_points(k.backward, job.cluster, "backward", count, pace=pace)


def _repeated(once: list[Point], mode: str, k: Kernels, run: TrainingRun) -> list[Point]:
    """Forward operators of a layer that the backward pass repeats: see ``planner.cost.recompute``."""
    if mode == "selective":
        share = {o.name: repeated_share(o, run) for o in k.piece.section.table.ops}
        return [replace(p, count=p.count * share[p.name.split("|")[0]]) for p in once
                if share[p.name.split("|")[0]] > 0]  # fmt: skip
    if mode == "none" or not run.framework.stops_early:
        return once if mode == "full" else []
    last = max((i for i, p in enumerate(once) if p.kernel in ("matmul", "grouped_matmul")), default=-1)
    return [p for i, p in enumerate(once) if i != last]


def _inference_points(job: Job, run: InferenceRun, phase: str, *, batch: float | None = None) -> Iterator[Point]:
    yield from _inference_kernels(job, run, phase, batch=batch)
    ledger = inference_pass(job.demand, job.cluster, job.layout, run, phase=phase, batch=batch).time
    for key, seconds in ledger.items():
        if key.startswith("comm."):
            yield from _waits(key, _direction(phase), float(seconds[0]))


def _inference_kernels(job: Job, run: InferenceRun, phase: str, *, batch: float | None = None) -> Iterator[Point]:
    x = job.layout
    sequences = np.ceil((run.batch if batch is None else batch) / x.dp)
    w = inference_work(x, run, phase=phase, sequences=sequences)
    for k in inference_kernels(job.demand, job.cluster, w, run, phase=phase):
        yield from _kernel_points(k, job.cluster, _direction(phase), float(k.piece.section.count))


def _direction(phase: str) -> str:
    return "decode" if phase == "decode" else "forward"


def _served_points(job: Job, run: InferenceRun) -> Iterator[Point]:
    """A token of a served deployment: its decode step, and its share of the prompts that are read meanwhile, which are
    drawn one a pass."""
    found = deployment(job.demand, job.cluster, job.layout, run)
    replicas, scale = float(job.layout.dp[0]), float(found.scale[0])
    step = _inference_points(job, run, "decode", batch=float(found.stepping[0]) * replicas)
    yield from (replace(p, count=p.count * scale) for p in step)
    one = inference_pass(job.demand, job.cluster, job.layout, run, phase="prefill", batch=replicas)
    kernels = (one.total_time - one.time["engine"])[0]
    prompts = max(float((found.served.tpot - found.decode.total_time)[0] / kernels), 0.0)
    if 0.0 < prompts < np.inf:
        read = _inference_points(job, run, "prefill", batch=replicas)
        yield from (replace(p, count=p.count * prompts) for p in read)


def _kernel_points(k: Kernels, cluster: Cluster, phase: str, count: float, *, pace: float = 1.0) -> Iterator[Point]:
    """Points of the operators of a section, timed with one roof at a time; ``pace`` is the stage's own."""
    r = k.rates
    full, no_roof = np.ones_like(r.peak), np.full_like(r.peak, np.inf)
    bare = replace(r, overhead=np.zeros_like(r.overhead))
    seconds, busy = k.timer(r)[0], k.timer(bare)[0]
    compute, memory = k.timer(replace(bare, bandwidth=np.inf))[0], k.timer(replace(bare, peak=no_roof))[0]
    flops = k.timer(replace(bare, bandwidth=np.inf, peak=full, compute=full))[0]
    moved = k.timer(replace(bare, bandwidth=1.0, memory=full, peak=no_roof))[0]
    limits = bound_by(compute, memory, overhead=seconds - busy)
    wide = stays_wide(k.piece.section.table, k.precision)
    for j, op in enumerate(k.piece.section.table.ops):
        if seconds[j] > 0:
            yield _point(
                f"{op.name}|{k.piece.section.name}", phase, op.kernel, float(flops[j]), float(moved[j]),
                float(seconds[j]) * pace, count, bound=BOUND_NAMES[int(limits[j])],
                dtype=_dtype(k.precision, cluster, op.kernel, wide=bool(wide[j])),
            )  # fmt: skip


def _dtype(precision: Precision, cluster: Cluster, kernel: str, *, wide: bool) -> str:
    """The compute roof a kernel lives under; ``wide`` matmuls stay in 16 bits."""
    if kernel in ("matmul", "grouped_matmul") and not wide:
        return precision.compute + (" 2:4" if precision.sparsity == "2:4" else "")
    return attention_dtype(precision, cluster) if kernel == "attention" or wide else VECTOR


def _point(
    name: str, phase: str, kernel: str, flops: float, moved: float, seconds: float, count: float, *, bound: str,
    dtype: str = "",
) -> Point:  # fmt: skip
    intensity = flops / moved if moved > 0 else np.nan
    return Point(name, phase, kernel, flops, moved, intensity, seconds, 0.0, flops / seconds, bound, dtype, count)


def _accumulation_point(run: TrainingRun, at: Timed, m: float) -> Iterator[Point]:
    """The adding of gradients where a kernel of its own does it, once a micro-batch."""
    if at.accumulation > 0:
        added = at.trained.dense + at.trained.expert
        moved = float(added[0, 0]) * accumulation_bytes(run) / run.schedule.weight_copies
        yield _point("gradient accumulation", "backward", "vector", 0.0, moved, at.accumulation, m, bound="memory",
                     dtype=VECTOR)  # fmt: skip


def _optimizer_point(job: Job, run: TrainingRun, at: Timed, seconds: float) -> Point:
    """The update of the parameters that the fullest stage owns."""
    opt, owned = run.optimizer, float(owned_parameters(job.layout, run, at.everywhere).max())
    flops = opt.flops * owned + (float(newton_schulz_flops(owned)) if opt.matrices_only else 0.0)
    moved = owned * update_bytes(run_state(job.demand, run), run.precision)
    matrix = opt.matrices_only
    dtype = attention_dtype(run.precision, job.cluster) if matrix else VECTOR
    return _point("optimizer", "optimizer", "optimizer", flops, moved, seconds, 1.0,
                  bound="compute" if matrix else "memory", dtype=dtype)  # fmt: skip


def _waits(name: str, phase: str, seconds: float) -> Iterator[Point]:
    """Exposed communication: it computes nothing and has no place under the roofs."""
    if seconds > 1e-15:
        yield _point(name, phase, COMMUNICATION, 0.0, 0.0, seconds, 1.0, bound=COMMUNICATION)


def _merged(found: Sequence[Point]) -> list[Point]:
    """Equal operators become one point that runs more often; the layer kind is named where it matters."""
    same: dict[tuple[object, ...], Point] = {}
    for p in found:
        key = (p.name.split("|")[0], p.phase, p.kernel, p.flops, p.bytes, p.time)
        same[key] = replace(same[key], count=same[key].count + p.count) if key in same else p
    often: dict[tuple[str, str], int] = {}
    for p in same.values():
        short = p.name.split("|")[0]
        often[short, p.phase] = often.get((short, p.phase), 0) + 1
    out = []
    for p in same.values():
        short, _, section = p.name.partition("|")
        out.append(replace(p, name=f"{short} ({section})" if often[short, p.phase] > 1 and section else short))
    return out


def _with_shares(found: Sequence[Point]) -> list[Point]:
    total = sum(p.time * p.count for p in found)
    return [replace(p, share=p.time * p.count / total) for p in found]
