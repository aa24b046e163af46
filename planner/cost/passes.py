"""The kernels of a pass: which sections run, with which work, at which rates. Ledgers and roofline points both read
them here, so that a point is a part of the ledger it is drawn from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from planner.cost.frameworks import adapters, attention_kernels, expert_load, plain_experts, routing, unfused
from planner.cost.kernels import Rates, attention_dtype, backward_time, forward_time, rates
from planner.cost.layouts import Layouts
from planner.cost.runs import InferenceRun, TrainingRun
from planner.demand.costs import AttentionKind, Costs, op_costs
from planner.demand.ops import Array
from planner.demand.passes import Piece, pieces
from planner.demand.transformer import Demand, Section
from planner.demand.workload import Precision, Work, work
from planner.precision import DTYPES
from planner.supply.cluster import Cluster

# Kernels an inference engine fuses away: residual adds join the next norm, k/v writes join rope. Assumption.
FUSED = ("residual",)


@dataclass(frozen=True)
class Kernels:
    """The operators of one section in one direction.

    Attributes
    ----------
    piece : Piece
    precision : Precision           the section's own
    rates : Rates                   what the device offers this direction
    timer : Rates -> Array, (n, op) time of each operator at given rates, none for those that do not run [s]
    """

    piece: Piece
    precision: Precision
    rates: Rates
    timer: Callable[[Rates], Array]

    @property
    def times(self) -> Array:
        """Time of each operator, shape (n, op) [s]."""
        return self.timer(self.rates)


@dataclass(frozen=True)
class TrainingKernels:
    """The operators of one section in a training step: their forward costs, and both directions."""

    costs: Costs
    forward: Kernels
    backward: Kernels


def section_precision(s: Section, precision: Precision, cluster: Cluster) -> Precision:
    """Dtypes a section trains in: the head stays in 16 bits where layers compute in fewer, as Transformer Engine and
    torchao leave it."""
    if s.role != "output" or DTYPES[precision.compute].bytes >= 2:
        return precision
    return replace(precision, compute=attention_dtype(precision, cluster))


def training_work(x: Layouts, run: TrainingRun) -> Work:
    """One micro-batch of a training step, shape (n,)."""
    return work(
        batch=x.micro_batch, q_len=run.seq_len, encoder_len=run.encoder_len, tp=x.tp, cp=x.cp, ep=x.ep, etp=x.etp,
        sequence_parallel=x.sequence_parallel, imbalance=expert_load(run),
    )  # fmt: skip


def training_kernels(d: Demand, cluster: Cluster, x: Layouts, run: TrainingRun) -> Iterator[TrainingKernels]:
    """Kernels of one micro-batch, section by section."""
    offered: dict[Precision, tuple[Rates, Rates]] = {}
    own = adapters(run)
    for piece in pieces(d, training_work(x, run)):
        precision = section_precision(piece.section, run.precision, cluster)
        if precision not in offered:
            offered[precision] = training_rates(cluster, run, precision)
        table, dropout = piece.section.table, d.model.dropout
        c = op_costs(table, piece.work, precision, attention=run.attention, dropout=dropout, unfused=unfused(run),
                     routing=routing(run))  # fmt: skip
        forward, backward = offered[precision]
        yield TrainingKernels(
            c,
            Kernels(piece, precision, forward, lambda r, t=table, c=c, p=precision: forward_time(t, c, r, p, own)),  # type: ignore[misc]
            Kernels(piece, precision, backward, lambda r, t=table, c=c, p=precision: backward_time(  # type: ignore[misc]
                t, c, r, p, attention=run.attention, adapters=own)),
        )  # fmt: skip


def training_rates(cluster: Cluster, run: TrainingRun, precision: Precision) -> tuple[Rates, Rates]:
    """What a device offers the forward and the backward pass of a run in a precision, over minutes on end."""

    def one(direction: str) -> Rates:
        return rates(cluster, precision, direction=direction, sustained=True, attention=run.attention,
                     kernels=attention_kernels(run), training=True,
                     plain_experts=plain_experts(run))  # fmt: skip

    return one("forward"), one("backward")


def inference_work(x: Layouts, run: InferenceRun, *, phase: str, sequences: Array) -> Work:
    """One pass over ``sequences`` of a replica, shape (n,)."""
    decode = phase == "decode"
    return work(
        batch=sequences, q_len=1.0 if decode else run.input_len,
        kv_len=run.mean_context if decode else run.input_len,
        encoder_len=run.encoder_len, tp=x.tp, cp=1.0 if decode else x.cp, ep=x.ep, etp=x.etp, decode=float(decode),
        imbalance=run.imbalance,
    )  # fmt: skip


def inference_kernels(d: Demand, cluster: Cluster, w: Work, run: InferenceRun, *, phase: str) -> Iterator[Kernels]:
    """Kernels of one pass of inference, section by section."""
    offered = inference_rates(cluster, run, run.precision, phase=phase)
    kind: AttentionKind = "flash" if phase == "decode" else run.attention
    for piece in pieces(d, w, decode=phase == "decode", last_token=True, fused=FUSED):
        table, active = piece.section.table, piece.active
        c = op_costs(table, piece.work, run.precision, attention=kind)
        yield Kernels(
            piece, run.precision, offered,
            lambda r, t=table, c=c, on=active: forward_time(t, c, r, run.precision) * on,  # type: ignore[misc]
        )  # fmt: skip


def inference_rates(cluster: Cluster, run: InferenceRun, precision: Precision, *, phase: str) -> Rates:
    """What a device offers one pass of inference: decode steps are bursts, prefill is held to the power limit."""
    decode = phase == "decode"
    return rates(cluster, precision, direction="decode" if decode else "forward", sustained=not decode,
                 attention="flash" if decode else run.attention)  # fmt: skip
