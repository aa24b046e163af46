"""Operators divided over devices: FLOPs and bytes of each operator for every candidate layout, shape (n, op).

How each kind is divided (Megatron-LM, https://arxiv.org/abs/1909.08053; sequence parallelism,
https://arxiv.org/abs/2205.05198; experts by parallel folding, https://arxiv.org/abs/2504.14960):

============= ==================================================== ======================
shard         work                                                 weights
============= ==================================================== ======================
column        output width over tp (k/v at most kv heads)          likewise
row           inner width over tp                                  likewise
vocab         output width over tp                                 likewise
heads         heads over tp (k/v heads at most kv heads)           replicated
tensor        traffic over tp                                      over tp
expert_column rows over tp / etp, output width over etp            over ep, width over etp
expert_row    rows over tp / etp, inner width over etp             likewise
routed        rows over tp / etp under sequence parallelism        none
routed_width  likewise, width over etp                             none
sequence      rows over tp under sequence parallelism              replicated
none          not divided                                          replicated
============= ==================================================== ======================

The etp ranks that share an expert gather their rows, so each works on etp times the rows and a part of the width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from planner.demand.ops import KERNELS, SHARDS, Array, OpTable
from planner.demand.workload import Precision, Work
from planner.precision import DTYPES

_K = {k: i for i, k in enumerate(KERNELS)}
AttentionKind = Literal["flash", "flash-1", "flash-2", "flash-3", "cudnn", "eager"]
# Passes over the score matrix that unfused attention makes: scores written, softmax read and written, (dropout read
# and written,) values read. Megatron's fused softmax is the reference; assumption.
EAGER_SCORE_PASSES = 4.0
EAGER_DROPOUT_PASSES = 2.0
WIDE_BYTES = 2.0  # what no matmul narrows: 16 bits


@dataclass(frozen=True)
class Costs:
    """What each operator costs one device in one pass; every array has shape (n, op).

    ``flops`` [FLOP]; ``weight_bytes``, ``input_bytes``, ``output_bytes``, ``cache_bytes`` [byte] moved at least once.
    """

    flops: Array
    weight_bytes: Array
    input_bytes: Array
    output_bytes: Array
    cache_bytes: Array

    @property
    def bytes_moved(self) -> Array:
        """All bytes, shape (n, op)."""
        return self.weight_bytes + self.input_bytes + self.output_bytes + self.cache_bytes


@dataclass(frozen=True)
class Routing:
    """How routed tokens are moved beside the exchange.

    ``sorts`` passes of sorting them, each way; ``one_hot`` whether matmuls with one-hot masks move them instead;
    ``fused_experts`` whether the activation between expert matmuls is part of them.
    """

    sorts: float
    one_hot: bool = False
    fused_experts: bool = False


FUSED_SORTS = Routing(2.0)  # sorted by rank before the exchange and by expert after it


@dataclass(frozen=True)
class _Masks:
    """Which ops divide which way, as 0/1 rows of shape (op,)."""

    column: Array
    row: Array
    tensor: Array
    expert: Array
    outer: Array
    inner: Array
    routed: Array
    routed_width: Array
    sequence: Array
    matmul: Array
    attention: Array
    vector: Array
    encoder: Array


@lru_cache(maxsize=4096)
def _masks(table: OpTable) -> _Masks:
    shard, kernel = np.array([SHARDS[s] for s in table.shard]), table.kernel

    def is_shard(*names: str) -> Array:
        return np.isin(shard, names).astype(np.float64)

    def is_kernel(*names: str) -> Array:
        return np.isin(kernel, [KERNELS.index(n) for n in names]).astype(np.float64)

    return _Masks(
        column=is_shard("column", "vocab"), row=is_shard("row"), tensor=is_shard("tensor", "heads"),
        expert=is_shard("expert_column", "expert_row"), outer=is_shard("expert_column"), inner=is_shard("expert_row"),
        routed=is_shard("routed", "routed_width"), routed_width=is_shard("routed_width"),
        sequence=is_shard("sequence"), matmul=is_kernel("matmul", "grouped_matmul"), attention=is_kernel("attention"),
        vector=is_kernel("vector", "scan", "lookup"),
        encoder=np.array([float(o.side == "encoder") for o in table.ops]),
    )  # fmt: skip


def _one_plus(size: Array, mask: Array) -> Array:
    """``size`` where the mask is 1, else 1: shape (n, op)."""
    return 1.0 + (size[:, None] - 1.0) * mask


def _columns(masks: _Masks, tp: Array, etp: Array) -> Array:
    """Parts of the output width, shape (n, op)."""
    return _one_plus(tp, masks.column) * _one_plus(etp, masks.outer)


def _inner(masks: _Masks, tp: Array, etp: Array) -> Array:
    """Parts of the inner width, shape (n, op)."""
    return _one_plus(tp, masks.row) * _one_plus(etp, masks.inner)


def _row_parts(masks: _Masks, w: Work) -> Array:
    """Parts of the rows, shape (n, op); below 1 where ranks that share an expert gather rows of other sequences."""
    groups, split = w.tp / w.etp, w.sequence_parallel > 0
    routed = _one_plus(np.where(split, groups, np.minimum(groups, 1.0)), masks.routed)
    return _one_plus(groups, masks.expert) * routed * _one_plus(np.where(split, w.tp, 1.0), masks.sequence)


def expert_load(table: OpTable, w: Work) -> Array:
    """Rows of the busiest expert rank over the mean, shape (n, op): of what runs where the experts are."""
    masks = _masks(table)
    return np.asarray(1.0 + (w.imbalance[:, None] - 1.0) * (masks.expert + masks.routed_width))


def _touched(copies: Array, rows: Array) -> Array:
    """Different experts that rows visit, D·(1 − (1 − 1/D)^rows) of D for even routing, shape (n, op); 1 of 1."""
    return np.where(copies > 1, copies * (1.0 - (1.0 - 1.0 / np.maximum(copies, 1.0)) ** rows), 1.0)


def local_weights(table: OpTable, *, tp: Array, ep: Array, etp: Array) -> Array:
    """Parameters one device holds of each op, shape (n, op), under tensor and expert parallelism."""
    t, masks = table.columns, _masks(table)
    owned = table.parameters > 0
    n_kv = np.minimum(t["n_kv"], t["n"])
    column = _columns(masks, tp, etp)
    kv = np.minimum(column, np.maximum(t["kv_heads"], 1.0)[None, :])
    per_copy = t["k"] * ((t["n"] - n_kv) / column + n_kv / kv) / _inner(masks, tp, etp)
    matrix = per_copy * t["experts"] / _one_plus(ep, masks.expert) * _is_owned(table)
    bias = t["bias"] / (column * _one_plus(ep, masks.expert))
    return np.where(owned, matrix + bias, 0.0)


def stored_bytes(table: OpTable, *, tp: Array, ep: Array, etp: Array, width: float) -> Array:
    """Bytes of the weights one device holds, shape (n,): each operator's as the checkpoint stores it [byte].

    What the checkpoint does not say is ``width`` bytes wide; there, embedding tables stay at 16 bits or more:
    weight-only and 8-bit formats quantise matmuls.
    """
    lookup = np.array([o.kernel == "lookup" for o in table.ops])
    plain = np.where(lookup, max(width, 2.0), width)
    widths = np.where(table.columns["stored"] > 0, table.columns["stored"], plain)
    return np.asarray((local_weights(table, tp=tp, ep=ep, etp=etp) * widths).sum(axis=1))


def weight_width(table: OpTable, precision: Precision) -> Array:
    """Bytes of a weight in memory, shape (op,): as the checkpoint stores it, else the weight dtype's [byte]."""
    own = table.columns["stored"]
    return np.where(own > 0, own, precision.bytes_of("weight"))


def stays_wide(table: OpTable, precision: Precision) -> Array:
    """Matmuls whose weights the checkpoint left in 16 bits or more, shape (op,): they compute in no fewer.

    Where layers that share a table are stored differently, their mean decides for all.
    """
    narrow = DTYPES[precision.compute].bytes < WIDE_BYTES
    matrices = np.isin(table.kernel, [_K["matmul"], _K["grouped_matmul"]])
    return np.asarray(matrices & narrow & (table.columns["stored"] >= WIDE_BYTES))


def input_width(table: OpTable, precision: Precision) -> Array:
    """Bytes a matmul reads for each value of its input, shape (op,) [byte]."""
    return np.where(stays_wide(table, precision), precision.bytes_of("activation"), precision.matmul_input_bytes)


def _is_owned(table: OpTable) -> Array:
    matrices = np.isin(table.kernel, [_K["matmul"], _K["grouped_matmul"], _K["lookup"]])
    return np.asarray((matrices & (table.columns["tied"] == 0)).astype(np.float64))


def op_costs(
    table: OpTable,
    w: Work,
    precision: Precision,
    *,
    attention: AttentionKind = "flash",
    dropout: bool = False,
    unfused: bool = False,
    routing: Routing = FUSED_SORTS,
) -> Costs:
    """Forward cost of each operator on one device for each row of ``w``.

    Parameters
    ----------
    table : OpTable, (op,)
    w : Work, (n,)
    precision : Precision
    attention : flash reads queries, keys and values once and skips the masked half; eager computes the full
        rectangle as two batched matmuls and moves the score matrix.
    unfused : vector operators run step by step, as an eager framework has them
    routing : how routed tokens are moved to the experts beside the exchange

    Returns
    -------
    Costs, arrays of shape (n, op)
    """
    t, masks = table.columns, _masks(table)
    act, wide = input_width(table, precision), precision.bytes_of("activation")
    tokens = w.tokens[:, None] * (1 - masks.encoder) + (w.batch * w.encoder_len / w.cp)[:, None] * masks.encoder
    rows_div = _row_parts(masks, w)
    load = expert_load(table, w)
    rows = (tokens * t["rows"] + t["pass_rows"]) / rows_div * load
    column = _columns(masks, w.tp, w.etp)
    n_kv = np.minimum(t["n_kv"], t["n"])
    n = (t["n"] - n_kv) / column + n_kv / np.minimum(column, np.maximum(t["kv_heads"], 1.0)[None, :])
    k = t["k"] / _inner(masks, w.tp, w.etp)
    copies = t["experts"] / _one_plus(w.ep, masks.expert)
    flops = 2.0 * rows * n * k * masks.matmul
    weights = _touched(copies, rows) * k * n * weight_width(table, precision) * masks.matmul
    inputs = rows * k * act * masks.matmul
    outputs = rows * n * wide * masks.matmul
    vector = masks.vector * (1.0 - masks.routed_width * routing.fused_experts)
    vector_div = _one_plus(w.tp, masks.tensor) * _one_plus(w.etp, masks.routed_width) * rows_div
    flops += (tokens * t["extra_flops"] + w.tokens[:, None] * chunk_rest(table, w)) / vector_div
    read = t["read"] + t["unfused"] * unfused + t["sorted_read"] * routing.sorts
    write = t["write"] + t["sorted_write"] * routing.sorts
    inputs += tokens * read / vector_div * load * wide * vector
    outputs += tokens * write / vector_div * load * wide * vector
    if routing.one_hot:
        moving = _one_hot_costs(table, w, tokens / rows_div, wide)
        flops, inputs, outputs = (a + b for a, b in zip((flops, inputs, outputs), moving, strict=True))
    cache = np.zeros_like(flops)
    if masks.attention.any():
        parts = _attention_costs(table, w, precision, attention=attention, dropout=dropout)
        flops, inputs, outputs, cache = (a + b for a, b in zip((flops, inputs, outputs, cache), parts, strict=True))
    return Costs(flops, weights, inputs, outputs, cache)


PAIRED_TOKENS = 2048  # tokens of a pass within which each chunk's state is taken to every other chunk


def chunk_rest(table: OpTable, w: Work) -> Array:
    """FLOPs a token of each scan beyond those of full chunks, shape (n, op) [FLOP/token]; below 0 where it does less.

    Of L tokens in chunks of C, chunked scans fill the last one up: L tokens cost as much as C·⌈L/C⌉ (state space
    duality and gated delta nets in Hugging Face transformers 5.24.0). Lightning attention pairs the tokens of a chunk
    and leaves a last one of r tokens short: (⌊L/C⌋·C² + r²)/(L·C) of ``chunk_flops``. States pass from the start and
    each of c chunks to each, (c + 1)² products as that code has them; kernels pass them on one by one, so beyond
    :data:`PAIRED_TOKENS` the rate a token stays. Decoding has no chunks.
    """
    t = table.columns
    if not (t["chunk"] > 1).any():
        return np.zeros((len(w.q_len), len(table.ops)))
    length, chunk = np.maximum(w.q_len / w.cp, 1.0)[:, None], t["chunk"][None, :]
    full = np.floor(length / chunk)
    short = (full * chunk**2 + (length - full * chunk) ** 2) / (length * chunk)
    filled = np.ceil(length / chunk) * chunk / length
    rest = np.where(t["chunk_flops"] > 0, t["chunk_flops"] * (short - 1.0), t["score_flops"] * (filled - 1.0))
    paired = np.minimum(length, PAIRED_TOKENS)
    rest = rest + t["pass_flops"] * (np.ceil(paired / chunk) + 1.0) ** 2 / paired
    return np.where((w.decode[:, None] > 0) | (chunk <= 1), 0.0, rest)


def _one_hot_costs(table: OpTable, w: Work, tokens: Array, width: float) -> tuple[Array, Array, Array]:
    """FLOPs, input and output bytes of moving routed tokens by products with one-hot masks, shape (n, op) each.

    A sequence of S tokens fills load·k·S slots of its experts. Every token meets every slot, on the way there and back:
    2·2·(load·k·S)·M FLOPs a token of M values, and a mask of load·k·S values each way (GShard,
    https://arxiv.org/abs/2006.16668, algorithm 2).
    """
    t, load = table.columns, w.imbalance[:, None]
    slots = w.q_len[:, None] * load * t["slots"]
    moved = tokens * load * t["slots"] * t["slot_width"] * width
    return 4.0 * tokens * slots * t["slot_width"], 2.0 * tokens * slots * width + moved, moved


def keys_seen(table: OpTable, w: Work, *, masked: bool) -> Array:
    """Mean keys a query attends to, shape (n, op): the window's share, and half of it below the diagonal.

    With S keys and window W ≤ S a causal query sees on average W·(1 − W/(2S)) keys (S/2 for W = S); ``masked`` False
    counts the full rectangle. Decode sees min(W, context).
    """
    t = table.columns
    s = np.where(t["cross"] > 0, w.encoder_len[:, None], w.kv_len[:, None])
    window = np.minimum(t["window"], s)
    if not masked:
        return np.where(w.decode[:, None] > 0, window, s)
    half = window * (1.0 - window / (2.0 * np.maximum(s, 1.0)))
    causal = (t["causal"] > 0) & (w.decode[:, None] == 0)
    return np.where(causal, half, window)


def _attention_costs(
    table: OpTable, w: Work, precision: Precision, *, attention: AttentionKind, dropout: bool
) -> tuple[Array, Array, Array, Array]:
    t, masks = table.columns, _masks(table)
    decode = (w.decode > 0)[:, None]
    qk = np.where(decode & (t["decode_qk_dim"] > 0), t["decode_qk_dim"], t["qk_dim"])
    v = np.where(decode & (t["decode_qk_dim"] > 0), t["decode_v_dim"], t["v_dim"])
    kv_heads = np.where(decode & (t["decode_kv_heads"] > 0), t["decode_kv_heads"], t["kv_heads"])
    tp = _one_plus(w.tp, masks.tensor)
    heads, kv = t["heads"] / tp, kv_heads / np.minimum(tp, np.maximum(kv_heads, 1.0))
    keys = keys_seen(table, w, masked=attention != "eager")
    on = masks.attention
    flops = 2.0 * w.tokens[:, None] * keys * heads * (qk + v) * on
    wide, kv_width = precision.bytes_of("activation"), precision.bytes_of("kv")
    inputs = w.tokens[:, None] * heads * qk * wide * on
    outputs = w.tokens[:, None] * heads * v * wide * on
    span = np.where(t["cross"] > 0, w.encoder_len[:, None], np.minimum(w.kv_len[:, None], _span(t["window"], w)))
    # In latent decode the value is a part of the key, read once.
    values = np.where(decode & (t["decode_qk_dim"] > 0), 0.0, v)
    cache = w.batch[:, None] * span * kv * (qk + values) * np.where(decode, kv_width, wide) * on
    if attention == "eager":
        passes = EAGER_SCORE_PASSES + (EAGER_DROPOUT_PASSES if dropout else 0.0)
        scores = w.tokens[:, None] * keys * heads * on
        outputs = outputs + passes * scores * wide
    return flops, inputs, outputs, cache


def _span(window: Array, w: Work) -> Array:
    """Keys read: a window slides over the new tokens too."""
    return window[None, :] + np.where(w.decode > 0, 0.0, w.q_len)[:, None]


def saved_bytes(
    table: OpTable, w: Work, *, width: float, attention: AttentionKind = "flash", recompute_core: bool = False
) -> Array:
    """Activation bytes each op keeps for the backward pass on one device, shape (n, op).

    Without flash, TP or recompute a GPT layer sums to s·b·h·(34 + 5·a·s/h); with TP to s·b·h·(10 + 24/t + 5as/(ht));
    with sequence parallelism all of it over t. Korthikanti et al. 2022, eqs. 1 to 4,
    https://arxiv.org/abs/2205.05198. ``recompute_core`` (selective) drops the score matrix.
    """
    t, masks = table.columns, _masks(table)
    tokens = w.tokens[:, None]
    tp = w.tp[:, None]
    routed_div = _row_parts(masks, w) * _one_plus(w.etp, masks.inner + masks.routed_width)
    whole_div = np.where(
        masks.expert + masks.routed > 0, routed_div, np.where(w.sequence_parallel > 0, w.tp, 1.0)[:, None]
    )
    kept = tokens * (t["saved"] * width + t["mask"]) / tp
    kept += tokens * (t["saved_whole"] * width + t["mask_whole"]) / whole_div * expert_load(table, w)
    if attention == "eager" and not recompute_core:
        keys = keys_seen(table, w, masked=False)
        per_score = t["saved_scores"] * width + t["mask_scores"]
        kept += tokens * keys * t["heads"] * per_score / tp
    return kept
