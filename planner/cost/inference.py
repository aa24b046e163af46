"""One forward pass: prefill, decode, and an encoder's forward, as time and memory ledgers for every layout at once.

A decode step reads every weight and the whole cache once; what it takes above that floor is the fixed cost of its
kernels and all-reduces, layer by layer, not an efficiency factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.cost.kernels import forward, rates
from planner.cost.layers import communication_terms
from planner.cost.layouts import Layouts
from planner.cost.memory import COMMUNICATOR_BYTES, CONTEXT_BYTES, device_capacity
from planner.cost.runs import InferenceRun, Terms
from planner.cost.training import running_layers, stage_counts
from planner.demand.costs import cache_values, stored_bytes
from planner.demand.ops import GROUPS, Array
from planner.demand.transformer import Demand
from planner.demand.workload import Work, work
from planner.supply.cluster import Cluster
from planner.supply.collectives import p2p_time

# Kernels an inference engine fuses away: residual adds join the next norm, k/v writes join rope. Assumption.
FUSED = ("residual",)


@dataclass(frozen=True)
class Pass:
    """Ledgers of one pass. ``time`` [s] and ``memory`` [byte] map a term to an array of shape (n,)."""

    time: Terms
    memory: Terms
    cache_tokens: Array

    @property
    def total_time(self) -> Array:
        """Sum of the time ledger, shape (n,) [s]."""
        return np.asarray(np.sum(list(self.time.values()), axis=0))

    @property
    def peak_memory(self) -> Array:
        """Sum of the memory ledger, shape (n,) [byte]."""
        return np.asarray(np.sum(list(self.memory.values()), axis=0))


def inference_pass(
    d: Demand, cluster: Cluster, x: Layouts, run: InferenceRun, *, phase: str, context: float | None = None,
    batch: float | Array | None = None,
) -> Pass:  # fmt: skip
    """Estimate one pass of every layout.

    Parameters
    ----------
    phase : ``prefill`` (input_len new tokens a sequence) or ``decode`` (one, over ``context`` cached tokens)
    context : float                 cached tokens in decode; the middle of the output by default
    batch : float                   sequences in all, if not the run's

    Returns
    -------
    Pass                            ledgers of arrays of shape (n,)
    """
    decode = phase == "decode"
    sequences = np.ceil((run.batch if batch is None else batch) / x.dp)
    length = run.input_len + run.output_len / 2.0 if context is None else context
    w = work(
        batch=sequences, q_len=1.0 if decode else run.input_len, kv_len=length if decode else run.input_len,
        encoder_len=0.0 if decode else run.encoder_len, tp=x.tp, cp=1.0 if decode else x.cp, ep=x.ep,
        decode=float(decode), imbalance=run.imbalance,
    )  # fmt: skip
    if run.encoder_len and decode:
        w = Work(**{**vars(w), "encoder_len": np.full(len(x), float(run.encoder_len))})
    time = _time(d, cluster, x, run, w, decode=decode)
    tokens = w.tokens
    boundary = p2p_time(tokens * d.model.hidden * run.precision.bytes_of("activation"), ranks=x.pp,
                        stride=x.tp * x.cp * x.dp, cluster=cluster)  # fmt: skip
    time["comm.pp"] = (x.pp - 1.0) * boundary
    time["engine"] = np.full(len(x), run.engine.step_overhead)
    memory, room = _memory(d, cluster, x, run, w, sequences)
    return Pass(time, memory, room)


@dataclass(frozen=True)
class Steady:
    """Serving in its steady state: ``decode`` is the step itself; ``ttft``, ``tpot`` [s] of shape (n,)."""

    decode: Pass
    ttft: Array
    tpot: Array


def serving(d: Demand, cluster: Cluster, x: Layouts, run: InferenceRun) -> Steady:
    """Steady state of ``batch`` requests in flight: each output token pays its share of the prefills of arriving ones.

    In output_len steps every one of C requests of a replica is replaced once, so a step carries C/output_len prefills
    of one prompt each; a new request waits half a step, then for its own prefill. First-order: no bursts, no chunking.
    """
    decode = inference_pass(d, cluster, x, run, phase="decode")
    one = inference_pass(d, cluster, x, run, phase="prefill", batch=x.dp).total_time
    share = run.batch / x.dp / run.output_len * one
    step = decode.total_time + share
    return Steady(decode, one + step / 2.0, step)


def _time(d: Demand, cluster: Cluster, x: Layouts, run: InferenceRun, w: Work, *, decode: bool) -> Terms:
    ahead = rates(cluster, run.precision, direction="decode" if decode else "forward", sustained=not decode,
                  attention="flash" if decode else run.attention)  # fmt: skip
    out: Terms = {f"forward.{g}": np.zeros(len(x)) for g in GROUPS} | {"comm.tp": np.zeros(len(x)),
                                                                       "comm.cp": np.zeros(len(x)),
                                                                       "comm.ep": np.zeros(len(x))}  # fmt: skip
    width = run.precision.bytes_of("activation")
    for s in d.sections:
        stack = d.model.stacks[s.stack]
        encoder = d.is_encoder(s)
        if not s.table.ops or not d.runs(s) or (decode and encoder):
            continue
        here = d.stream(s, w)
        if s.role == "output" and not encoder and d.model.embedding is not None and stack.role == "decoder":
            here = Work(**{**vars(here), "q_len": np.ones(len(x)), "cp": np.ones(len(x))})  # last token only
        _, t = forward(s.table, here, ahead, run.precision, attention="flash" if decode else run.attention)
        keep = np.array([o.name not in FUSED for o in s.table.ops], dtype=np.float64)
        side = np.array([not (decode and o.side == "encoder") for o in s.table.ops], dtype=np.float64)
        for j, op in enumerate(s.table.ops):
            out[f"forward.{op.group}"] += t[:, j] * keep[j] * side[j] * s.count
        core = np.array([o.kernel == "attention" for o in s.table.ops])
        terms = communication_terms(d, s, here, x, cluster, width=width, core=(t * core).sum(axis=1),
                                    low_latency=True)  # fmt: skip
        for k in ("tp", "cp", "ep"):
            out[f"comm.{k}"] += terms[k] * s.count
    return out


def _memory(
    d: Demand, cluster: Cluster, x: Layouts, run: InferenceRun, w: Work, sequences: Array
) -> tuple[Terms, Array]:
    """Memory of the fullest stage, and the tokens the cache could hold on it."""
    order = running_layers(d)
    stored, kv = run.precision.bytes_of("weight"), run.precision.bytes_of("kv")
    weights = np.stack([stored_bytes(s.table, tp=w.tp, ep=w.ep, width=stored) if s.table.ops else 0.0 * w.tp
                        for s in d.sections], axis=1)  # fmt: skip
    final = np.full(len(x), float(run.input_len + run.output_len))
    per_sequence = np.stack([cache_values(s.table, tp=w.tp, kv_len=final).sum(axis=1) if s.table.ops else 0.0 * w.tp
                             for s in d.sections], axis=1)  # fmt: skip
    width = run.precision.bytes_of("activation")
    widest = max((o.n for s in d.sections for o in s.table.ops
                  if o.kernel == "matmul" and o.name != "head.logits"), default=0.0)  # fmt: skip
    out: Terms = {}
    room = np.zeros(len(x))
    for pp in np.unique(x.pp):
        rows = np.flatnonzero(x.pp == pp)
        counts = stage_counts(d, order, pp=int(pp), vpp=1)
        cache = (per_sequence[rows] @ counts.T) * kv
        ledger = {
            "weights": weights[rows] @ counts.T,
            "kv_cache": cache * sequences[rows, None],
            "activations": (w.tokens * (2.0 * d.model.hidden + widest / w.tp) * width)[rows, None] + 0 * cache,
            "logits": (sequences * (d.model.head.outputs if d.model.head else 0) / w.tp * (width + 4.0))[rows, None]
            + 0 * cache,
            "context": np.full(cache.shape, CONTEXT_BYTES)
            + (COMMUNICATOR_BYTES * ((x.tp > 1) * 1.0 + (x.pp > 1) + (x.ep > 1)))[rows, None],
        }
        total = np.sum(list(ledger.values()), axis=0)
        worst = np.argmax(total, axis=1)
        at = np.arange(len(rows)), worst
        free = device_capacity(cluster, run) - (total - ledger["kv_cache"])
        per_token = np.maximum(cache / final[rows, None], 1e-9)
        room[rows] = np.maximum(np.min(np.where(cache > 0, free / per_token, np.inf), axis=1), 0.0)
        for k, v in ledger.items():
            out.setdefault(k, np.zeros(len(x)))[rows] = v[at]
    return out, np.where(np.isfinite(room), room, 0.0)
