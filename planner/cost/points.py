"""Every operator of a pass as a point under the roofline: what it computes, what it moves, how long it takes.

FLOPs, bytes and limits are read off the very functions that time a step, one roof at a time, so that a point
and the estimate it belongs to cannot disagree. All figures are those of one device; ``count`` says how often
the operator runs in the pass, over all layers, stages and micro-batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from planner.cost.inference import FUSED, InferenceRun, inference_pass
from planner.cost.kernels import Rates, attention_dtype, backward_time, forward, rates
from planner.cost.layers import section_precision, training_rates, training_terms
from planner.cost.layouts import Layouts
from planner.cost.memory import run_state
from planner.cost.recompute import SPARES_LAST_MATMUL, repeated_share
from planner.cost.roofs import VECTOR, Roof, roofs
from planner.cost.runs import TrainingRun
from planner.cost.training import (
    accumulation_bytes,
    accumulation_time,
    exposed_share,
    running_layers,
    stage_counts,
    training_step,
)
from planner.demand.costs import Costs
from planner.demand.memory import newton_schulz_flops, update_bytes
from planner.demand.ops import Array, OpTable
from planner.demand.transformer import Section
from planner.demand.workload import Work, work
from planner.errors import unknown
from planner.scenario.keys import RECOMPUTE
from planner.scenario.resolve import Resolved
from planner.supply.roofline import BOUND_NAMES, bound_by

__all__ = ["COMMUNICATION", "PHASES", "Estimated", "Point", "Roof", "points", "roofs", "violations"]

PHASES = ("forward", "recompute", "backward", "decode", "optimizer")
COMMUNICATION = "communication"
Timer = Callable[[Rates], Array]


class Estimated(Protocol):
    """What a point needs to know of an estimate: what it was made of, and its one layout."""

    @property
    def resolved(self) -> Resolved: ...

    @property
    def layout(self) -> Layouts: ...


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
    count : float                executions in the pass
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


def points(estimate: Estimated, *, phase: str | None = None) -> list[Point]:
    """Points of one pass of an estimate.

    Parameters
    ----------
    estimate : Estimate             or anything with its ``resolved`` and ``layout``
    phase : str or None             inference only: ``prefill`` or ``decode``; the task's own by default

    Returns
    -------
    list of Point                   layer kind by layer kind, forward before backward; shares sum to 1
    """
    resolved, x = estimate.resolved, estimate.layout
    run = resolved.run
    if isinstance(run, TrainingRun):
        found = [*_training_points(resolved, x, run), *_training_communication(resolved, x, run)]
    else:
        phase = phase or ("decode" if resolved.task in ("decode", "serve") else "prefill")
        if phase not in ("prefill", "decode"):
            raise unknown("phase", phase, ("prefill", "decode"))
        found = [
            *_inference_points(resolved, x, run, phase),
            *_inference_communication(resolved, x, run, phase),
        ]
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


def _training_points(resolved: Resolved, x: Layouts, run: TrainingRun) -> Iterator[Point]:
    cluster, d = resolved.cluster, resolved.demand
    w = work(
        batch=x.micro_batch,
        q_len=run.seq_len,
        encoder_len=run.encoder_len,
        tp=x.tp,
        cp=x.cp,
        ep=x.ep,
        sequence_parallel=x.sequence_parallel,
        imbalance=run.imbalance,
    )
    micro_batches = float(x.micro_batches[0])
    for s in _running(resolved):
        here, count = d.stream(s, w), s.count * micro_batches
        precision = section_precision(s, run.precision, cluster)
        ahead, back = training_rates(cluster, run, precision)
        c, _ = forward(s.table, here, ahead, precision, attention=run.attention, dropout=d.model.dropout,
                       unfused=run.unfused)  # fmt: skip
        here_resolved = replace(resolved, precision=precision)
        timer = _forward_timer(here_resolved, s.table, here, unfused=run.unfused)
        once = _op_points(here_resolved, s, timer, ahead, "forward", count)
        yield from once
        mode = RECOMPUTE[int(x.recompute[0])] if s.role == "layer" else "none"
        again = _repeated(once, mode, s, run)
        yield from (replace(p, phase="recompute") for p in again)
        timer = _backward_timer(replace(run, precision=precision), s.table, c)
        yield from _op_points(here_resolved, s, timer, back, "backward", count)
    yield from _accumulation_point(resolved, x, run)
    yield _optimizer_point(resolved, x, run)


def _repeated(once: list[Point], mode: str, s: Section, run: TrainingRun) -> list[Point]:
    """Forward operators of a layer that the backward pass repeats: see ``planner.cost.recompute``."""
    if mode == "selective":
        share = {f"{op.name}|{s.name}": repeated_share(op, run) for op in s.table.ops}
        return [replace(p, count=p.count * share[p.name]) for p in once if share[p.name] > 0]
    if mode == "none" or run.framework not in SPARES_LAST_MATMUL:
        return once if mode == "full" else []
    last = max((i for i, p in enumerate(once) if p.kernel in ("matmul", "grouped_matmul")), default=-1)
    return [p for i, p in enumerate(once) if i != last]


def _backward_timer(run: TrainingRun, table: OpTable, c: Costs) -> Timer:
    frozen = run.lora_rank > 0
    return lambda r: backward_time(table, c, r, run.precision, attention=run.attention, frozen=frozen)


def _inference_points(resolved: Resolved, x: Layouts, run: InferenceRun, phase: str) -> Iterator[Point]:
    decode = phase == "decode"
    r = rates(
        resolved.cluster,
        run.precision,
        direction="decode" if decode else "forward",
        sustained=not decode,
        attention="flash" if decode else run.attention,
    )
    w = work(
        batch=np.ceil(run.batch / x.dp),
        q_len=1.0 if decode else run.input_len,
        kv_len=run.input_len + run.output_len / 2.0 if decode else run.input_len,
        encoder_len=run.encoder_len,
        tp=x.tp,
        cp=1.0 if decode else x.cp,
        ep=x.ep,
        decode=float(decode),
        imbalance=run.imbalance,
    )
    for s in _running(resolved):
        stack = resolved.demand.model.stacks[s.stack]
        encoder = stack.role == "encoder" and stack is not resolved.demand.model.text
        if decode and encoder:
            continue
        here = resolved.demand.stream(s, w)
        if s.role == "output" and stack.role == "decoder" and resolved.demand.model.embedding is not None:
            here = replace(here, q_len=np.ones(1), cp=np.ones(1))  # the head runs on the last token only
        attention = "flash" if decode else run.attention
        timer = _forward_timer(resolved, s.table, here, attention=attention, dropout=False)
        skip = {*FUSED, *(o.name for o in s.table.ops if decode and o.side == "encoder")}
        name = "decode" if decode else "forward"
        yield from (
            p for p in _op_points(resolved, s, timer, r, name, float(s.count)) if p.name.split("|")[0] not in skip
        )


def _running(resolved: Resolved) -> Iterator[Section]:
    """Sections whose operators run: those of towers are held but not run."""
    d = resolved.demand
    for s in d.sections:
        if s.table.ops and d.runs(s):
            yield s


def _forward_timer(
    resolved: Resolved, table: OpTable, w: Work, *, attention: str | None = None, dropout: bool | None = None,
    unfused: bool = False,
) -> Timer:  # fmt: skip
    kind = resolved.run.attention if attention is None else attention
    drop = resolved.model.dropout if dropout is None else dropout
    return lambda r: forward(table, w, r, resolved.precision, attention=kind, dropout=drop,  # type: ignore[arg-type]
                             unfused=unfused)[1]  # fmt: skip


def _op_points(resolved: Resolved, s: Section, timer: Timer, r: Rates, phase: str, count: float) -> list[Point]:
    """Points of the operators of a section, timed by ``timer`` at given rates; times of shape (1, op)."""
    none = np.zeros_like(r.overhead)
    full = np.ones_like(r.peak)
    bare = replace(r, overhead=none)
    no_roof = np.full_like(r.peak, np.inf)
    seconds, busy = timer(r)[0], timer(bare)[0]
    compute, memory = timer(replace(bare, bandwidth=np.inf))[0], timer(replace(bare, peak=no_roof))[0]
    flops = timer(replace(bare, bandwidth=np.inf, peak=full, compute=full))[0]
    moved = timer(replace(bare, bandwidth=1.0, memory=full, peak=no_roof))[0]
    limits = bound_by(compute, memory, overhead=seconds - busy)
    return [
        _point(
            f"{op.name}|{s.name}",
            phase,
            op.kernel,
            float(flops[j]),
            float(moved[j]),
            float(seconds[j]),
            count,
            bound=BOUND_NAMES[int(limits[j])],
            dtype=_dtype(resolved, op.kernel),
        )
        for j, op in enumerate(s.table.ops)
        if seconds[j] > 0
    ]


def _dtype(resolved: Resolved, kernel: str) -> str:
    """The compute roof a kernel lives under."""
    if kernel in ("matmul", "grouped_matmul"):
        return resolved.precision.compute + (" 2:4" if resolved.precision.sparsity == "2:4" else "")
    return attention_dtype(resolved.precision, resolved.cluster) if kernel == "attention" else VECTOR


def _point(
    name: str,
    phase: str,
    kernel: str,
    flops: float,
    moved: float,
    seconds: float,
    count: float,
    *,
    bound: str,
    dtype: str = "",
) -> Point:
    intensity = flops / moved if moved > 0 else np.nan
    return Point(name, phase, kernel, flops, moved, intensity, seconds, 0.0, flops / seconds, bound, dtype, count)


def _accumulation_point(resolved: Resolved, x: Layouts, run: TrainingRun) -> Iterator[Point]:
    """The adding of gradients where a kernel of its own does it, over all stages, once a micro-batch."""
    d = resolved.demand
    terms = training_terms(d, resolved.cluster, x, run, detail=False)
    counts = stage_counts(d, running_layers(d), pp=int(x.pp[0]), vpp=int(x.vpp[0])).sum(axis=0)
    held = terms["dense"] @ counts, terms["expert"] @ counts
    trained = held if run.lora_rank == 0 else (terms["adapter"] @ counts, 0.0 * held[1])
    seconds = float(accumulation_time(resolved.cluster, run, trained)[0])
    if seconds > 0:
        moved = float(sum(trained)[0]) * accumulation_bytes(run)
        yield _point("gradient accumulation", "backward", "vector", 0.0, moved, seconds, float(x.micro_batches[0]),
                     bound="memory", dtype=VECTOR)  # fmt: skip


def _optimizer_point(resolved: Resolved, x: Layouts, run: TrainingRun) -> Point:
    """The update of the parameters that the fullest stage owns; every stage makes one."""
    d, opt = resolved.demand, run.optimizer
    terms = training_terms(d, resolved.cluster, x, run, detail=False)
    dense, expert = terms["dense"][0], terms["expert"][0]
    held = np.stack([dense, expert] if run.lora_rank == 0 else [terms["adapter"][0], 0.0 * expert])
    counts = stage_counts(d, running_layers(d), pp=int(x.pp[0]), vpp=int(x.vpp[0]), placement=run.schedule.placement)
    stages = held @ counts.T
    sharded = int(x.zero_stage[0]) >= 1
    ranks = np.array([float(x.dp[0] * x.cp[0]), float(x.expert_dp[0])]) if sharded else np.ones(2)
    copies = 1 if sharded else run.schedule.weight_copies
    owned = copies * float((stages / ranks[:, None]).sum(axis=0).max())
    seconds = float(training_step(d, resolved.cluster, x, run).time["optimizer"][0])
    per = run_state(d, run)
    flops = opt.flops * owned
    if opt.matrices_only:
        flops += float(newton_schulz_flops(owned))
    moved = owned * update_bytes(per, run.precision)
    dtype = attention_dtype(run.precision, resolved.cluster) if opt.matrices_only else VECTOR
    return _point(
        "optimizer",
        "optimizer",
        "optimizer",
        flops,
        moved,
        seconds,
        float(x.pp[0]),
        bound="compute" if opt.matrices_only else "memory",
        dtype=dtype,
    )


def _training_communication(resolved: Resolved, x: Layouts, run: TrainingRun) -> Iterator[Point]:
    """Exposed communication, by kind and direction; it computes nothing and has no place under the roofs."""
    d, cluster = resolved.demand, resolved.cluster
    terms = training_terms(d, cluster, x, run, detail=False)
    counts = stage_counts(d, running_layers(d), pp=int(x.pp[0]), vpp=int(x.vpp[0])).sum(axis=0)
    repeated = RECOMPUTE[int(x.recompute[0])] == "full"
    layers = np.array([s.role == "layer" for s in d.sections])
    m = float(x.micro_batches[0])
    computes = sum(float(v[0] @ counts) for k, v in terms.items() if k.startswith(("forward.", "backward.")))
    for key in ("tp", "cp", "ep"):
        ahead, back = float(terms[key][0] @ counts), float(terms[f"{key}_back"][0] @ counts)
        spared = terms[f"{key}_last"][0] * (run.framework in SPARES_LAST_MATMUL)
        again = float((terms[key][0] - spared) @ (counts * layers)) * repeated
        exchange = np.array([ahead + back + again])
        shown = float(exposed_share(run, exchange, np.array([computes]))[0]) if key == "ep" else 1.0
        yield from _waits(f"comm.{key}", "forward", ahead * shown, m)
        yield from _waits(f"comm.{key}", "recompute", again * shown, m)
        yield from _waits(f"comm.{key}", "backward", back * shown, m)
    ledger = training_step(d, cluster, x, run).time
    for key, seconds in ledger.items():
        if key.startswith("comm.dp"):
            yield from _waits(key, "backward", float(seconds[0]), float(x.pp[0]))
        elif key == "comm.pp":
            yield from _waits(key, "forward", float(seconds[0]), 1.0)


def _inference_communication(resolved: Resolved, x: Layouts, run: InferenceRun, phase: str) -> Iterator[Point]:
    ledger = inference_pass(resolved.demand, resolved.cluster, x, run, phase=phase).time
    for key, seconds in ledger.items():
        if key.startswith("comm."):
            yield from _waits(key, "decode" if phase == "decode" else "forward", float(seconds[0]), 1.0)


def _waits(name: str, phase: str, seconds: float, count: float) -> Iterator[Point]:
    if seconds > 0:
        yield _point(name, phase, COMMUNICATION, 0.0, 0.0, seconds, count, bound=COMMUNICATION)


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
