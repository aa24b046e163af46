"""Time, exchange and memory of one layer of every kind, for every distinct division of it.

What a layer costs depends on (tp, cp, ep, etp, micro_batch, sequence_parallel) only, so it is computed on their unique
combinations and gathered. Each term is of one layer of each section, for one micro-batch on one device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from planner.cost import constants
from planner.cost.adapters import LAUNCHES, adapted
from planner.cost.exchange import EXCHANGED, Exchange, Traffic, Window, layer_exchange
from planner.cost.frameworks import adapters, gathered_bytes, logit_bytes
from planner.cost.kernels import weight_gradient_time
from planner.cost.layouts import Layouts
from planner.cost.passes import TrainingKernels, section_precision, training_kernels, training_work
from planner.cost.recompute import activation_bytes, last_matmul_time, selective_time
from planner.cost.records import over
from planner.cost.runs import Terms, TrainingRun
from planner.demand.costs import local_weights, stored_bytes
from planner.demand.ops import GROUPS, Array, OpTable
from planner.demand.transformer import Demand, Section
from planner.demand.workload import Precision, Work
from planner.precision import DTYPES
from planner.supply.cluster import Cluster


@dataclass(frozen=True)
class LayerParameters:
    """What a layer's weights come to on one device, shape (n, section).

    Attributes
    ----------
    dense, expert, adapter : parameters
    frozen : [byte] of the weights as they are stored where they are not trained
    """

    dense: Array
    expert: Array
    adapter: Array
    frozen: Array


@dataclass(frozen=True)
class Saved:
    """Activations that a layer keeps for its backward pass, shape (n, section) [byte].

    Attributes
    ----------
    everything : with nothing recomputed
    selective : under selective recomputation
    input : under full recomputation
    loss : logits, their copies and gradients, which stand at once and are gone
    """

    everything: Array
    selective: Array
    input: Array
    loss: Array


@dataclass(frozen=True)
class LayerTerms:
    """Terms of every section, arrays of shape (n, section); times in [s].

    Attributes
    ----------
    forward, backward : kernel time by parameter group, or under ``all``
    weight_gradient : the part of backward that computes weight gradients
    launches : time the host takes to launch a forward pass
    exchange : by axis (tp, cp, ep, etp), what compute does not hide
    last : forward time of the last matmul and of the exchange after it
    selective : forward time that selective recomputation repeats
    saved, parameters
    """

    forward: Terms
    backward: Terms
    weight_gradient: Array
    launches: Array
    exchange: dict[str, Exchange]
    last: Array
    selective: Array
    saved: Saved
    parameters: LayerParameters


def unique_rows(*columns: Array) -> tuple[Array, Array]:
    """Index of one representative of each distinct row, and the inverse that gathers it back."""
    key = np.stack([np.asarray(c, dtype=np.float64) for c in columns], axis=1)
    order = np.lexsort(key.T[::-1])
    ordered = key[order]
    fresh = np.ones(len(key), dtype=bool)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    inverse = np.empty(len(key), dtype=np.int64)
    inverse[order] = np.cumsum(fresh) - 1
    return order[fresh], inverse


def layer_terms(d: Demand, cluster: Cluster, x: Layouts, run: TrainingRun, *, detail: bool) -> LayerTerms:
    """Terms of every section for every layout; ``detail`` splits kernel time by parameter group."""
    first, inverse = unique_rows(x.tp, x.cp, x.ep, x.etp, x.micro_batch, x.sequence_parallel)
    u = x.take(first)
    w = training_work(u, run)
    groups = GROUPS if detail else ("all",)
    running = {k.forward.piece.index: k for k in training_kernels(d, cluster, u, run)}
    sections = []
    for i, s in enumerate(d.sections):
        parameters = _parameters(s, w, run, section_precision(s, run.precision, cluster))
        sections.append(_running(d, running[i], u, cluster, run, groups, parameters) if i in running else
                        _idle(np.zeros(len(u)), groups, parameters))  # fmt: skip
    return over(lambda *columns: np.stack(columns, axis=1)[inverse], *sections)


def _idle(zero: Array, groups: tuple[str, ...], parameters: LayerParameters) -> LayerTerms:
    """A section that is held but not run."""
    none = dict.fromkeys(groups, zero)
    exchange = dict.fromkeys(EXCHANGED, Exchange(zero, zero, zero))
    return LayerTerms(none, none, zero, zero, exchange, zero, zero, Saved(zero, zero, zero, zero), parameters)


def _running(
    d: Demand, kernels: TrainingKernels, x: Layouts, cluster: Cluster, run: TrainingRun, groups: tuple[str, ...],
    parameters: LayerParameters,
) -> LayerTerms:  # fmt: skip
    piece, precision = kernels.forward.piece, kernels.forward.precision
    run = replace(run, precision=precision)
    table, width = piece.section.table, precision.bytes_of("activation")
    forward = kernels.forward.times
    weight_gradient = weight_gradient_time(table, kernels.costs, kernels.backward.rates, precision).sum(axis=1)
    weight_gradient = weight_gradient * (run.lora_rank == 0)
    window = Window(
        core=(forward * _of_kernels(table, "attention")).sum(axis=1),
        matmul=(forward * _of_kernels(table, "matmul", "grouped_matmul")).sum(axis=1),
        weight_gradient=weight_gradient,
    )
    traffic = Traffic(
        width, gathered_bytes(run, width), run.overlap_tp, run.context_exchange, copies=run.dispatcher.copies
    )
    exchange = layer_exchange(d, piece.section, piece.work, x, cluster, traffic, window)
    return LayerTerms(
        forward=_grouped(table, forward, groups),
        backward=_grouped(table, kernels.backward.times, groups),
        weight_gradient=weight_gradient,
        launches=np.full(len(x), _launch_time(table, run)),
        exchange=exchange,
        last=last_matmul_time(table, forward) + exchange["tp"].last + exchange["ep"].last + exchange["etp"].last,
        selective=selective_time(
            table, forward, exchange["ep"].forward + exchange["etp"].forward, exchange["cp"].forward, run
        ),
        saved=_saved(piece.section, piece.work, run, width, hidden=d.model.stacks[piece.section.stack].hidden),
        parameters=parameters,
    )


def _of_kernels(table: OpTable, *names: str) -> Array:
    """Which operators are of some kernel classes, shape (op,)."""
    return np.array([o.kernel in names for o in table.ops])


def _launch_time(table: OpTable, run: TrainingRun) -> float:
    """Time the host takes to launch the operators of a forward pass [s]."""
    launches = float(table.columns["launches"].sum())
    if run.moe_kernels == "fused":
        launches -= float(table.columns["fused_launches"].sum())
    if run.attention == "eager":
        launches += constants.EAGER_LAUNCHES * sum(o.kernel == "attention" for o in table.ops)
    if DTYPES[run.precision.compute].bytes < 2:
        launches += sum(o.kernel in ("matmul", "grouped_matmul") for o in table.ops)  # each casts its input
    if (own := adapters(run)) is not None:
        launches += LAUNCHES * float(adapted(table, own).sum())
    launches *= constants.COMPILED_SHARE if run.compiled else 1.0
    launches *= run.framework.launches
    return launches * constants.LAUNCH_TIME


def _parameters(s: Section, w: Work, run: TrainingRun, precision: Precision) -> LayerParameters:
    zero = np.zeros(len(w.tp))
    if not s.table.ops:
        return LayerParameters(zero, zero, zero, zero)
    local = local_weights(s.table, tp=w.tp, ep=w.ep, etp=w.etp)
    expert = _of_kernels(s.table, "grouped_matmul")
    return LayerParameters(
        dense=(local * ~expert).sum(axis=1),
        expert=(local * expert).sum(axis=1),
        adapter=zero + adapter_parameters(s.table, run) / w.tp,
        frozen=stored_bytes(s.table, tp=w.tp, ep=w.ep, etp=w.etp, width=precision.bytes_of("weight")),
    )


def adapter_parameters(table: OpTable, run: TrainingRun) -> float:
    """Parameters of low-rank adapters beside the matmuls of a layer, rank·(k + n).

    Hu et al. 2021, https://arxiv.org/abs/2106.09685
    """
    own = adapters(run)
    if own is None:
        return 0.0
    widths = float((adapted(table, own) * (table.columns["k"] + table.columns["n"])).sum())
    return run.lora_rank * widths


def _grouped(table: OpTable, times: Array, groups: tuple[str, ...]) -> Terms:
    if len(groups) == 1:
        return {groups[0]: times.sum(axis=1)}
    member = np.array([[o.group == g for g in groups] for o in table.ops], dtype=np.float64)
    totals = times @ member
    return {g: totals[:, i] for i, g in enumerate(groups)}


def _saved(s: Section, w: Work, run: TrainingRun, width: float, *, hidden: int) -> Saved:
    everything, selective = activation_bytes(s.table, w, run, hidden=hidden)
    if s.role != "layer":  # embedding and head run once
        selective = everything
    whole_div = np.where(w.sequence_parallel > 0, w.tp, 1.0)
    layer_input = w.tokens * hidden * width / whole_div if s.role == "layer" else everything
    loss = np.zeros(len(w.tp))
    for op in s.table.ops:
        if op.name == "head.logits":
            loss = _loss_bytes(w, run, width, hidden=hidden, outputs=op.n)
    return Saved(everything, selective, layer_input, loss)


def _loss_bytes(w: Work, run: TrainingRun, width: float, *, hidden: int, outputs: float) -> Array:
    """What logits, their copies and gradients take at once, shape (n,) [byte].

    eager: the framework's own, in the activation dtype and in fp32 for the loss, whose gradient overwrites it at best.
    fused: logits and their gradient in the activation dtype. chunked: a chunk has as many logits as the input has
    values, in the activation dtype and in fp32 (Liger Kernel, https://arxiv.org/abs/2410.10989, section 3.2).
    """
    if run.loss == "chunked":
        return np.asarray(w.tokens * hidden * (width + 4.0))
    return np.asarray(w.tokens * outputs / w.tp * logit_bytes(run))
