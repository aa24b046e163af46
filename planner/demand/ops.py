"""Operators: what one layer asks for, as rows of a table that is evaluated for all layouts at once.

An :class:`Op` describes one operator per token, before any layout: matmul shape, attention heads, vector traffic,
parameters, and what it leaves behind for the backward pass. :func:`evaluate` divides it over devices and returns
FLOPs and bytes of shape ``(n, op)``: n candidate layouts by ops. It knows no hardware.

Conventions. A matmul y[m, n] = x[m, k]·W[k, n] is 2·m·n·k FLOPs and moves at least k·n weights, m·k inputs and m·n
outputs once. Attention scores count the full q x k rectangle unless causal halving is asked for. Vector operators
(norms, activations, residuals) count bytes and no FLOPs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

# Values of 16 bits that an eager framework moves beyond one pass, in each value of the operator: its steps are kernels.
# RMS norm in PyTorch: widen, square, mean, scale, narrow, weight move 36 bytes, not 4; rotary embedding: negate, join
# the halves, two products, a sum move 20, not 4 (LlamaRMSNorm and apply_rotary_pos_emb,
# https://github.com/huggingface/transformers, models/llama/modeling_llama.py). A gate: activation and product apart,
# 10 bytes, not 6. Layer norm and GELU are one kernel.
UNFUSED_RMS, UNFUSED_ROTARY, UNFUSED_GATE = 16.0, 8.0, 2.0
Array = NDArray[Any]  # float64; int64 where a layout's own columns are handed in
Kernel = Literal["matmul", "grouped_matmul", "attention", "vector", "scan", "lookup"]
KERNELS: tuple[Kernel, ...] = ("matmul", "grouped_matmul", "attention", "vector", "scan", "lookup")
Shard = Literal[
    "none", "column", "row", "heads", "vocab", "sequence", "tensor", "expert_column", "expert_row", "routed",
    "routed_width",
]  # fmt: skip
SHARDS: tuple[Shard, ...] = get_args(Shard)
GROUPS = ("embedding", "head", "attention", "mlp", "experts", "norm", "other")


@dataclass(frozen=True)
class Op:
    """One operator of one layer kind, per token and before any layout.

    Attributes
    ----------
    name, group, kernel, shard : str
        Ledger name (``attn.qkv``); parameter group; kernel class; how tensor or expert parallelism divides it.
    k, n : float                 matmul inner and output width (one expert's, for grouped matmuls)
    n_kv : float                 the part of ``n`` that key/value heads produce: divided by at most ``kv_heads``
    rows : float                 matmul rows a token (top_k for routed experts)
    pass_rows : float            matmul rows a pass, whatever its tokens
    experts : float              weight copies (routed experts)
    bias : float                 parameters beyond k·n·experts
    tied : bool                  its k·n weights belong to another operator: multiplied with, not counted
    heads, kv_heads, qk_dim, v_dim : float     attention geometry; kv_heads·(qk_dim+v_dim) values read a key
    window : float               keys a query can see at most (inf: all)
    causal, cross : bool
    read, write : float          [values/token] vector traffic
    unfused : float              [values/token] vector traffic beyond that where each step of it is a kernel
    sorted_read, sorted_write : float
        [values/token] vector traffic of one pass of sorting routed tokens
    slots, slot_width : float    places of a token at its experts, and values in each, where one-hot matmuls move them
    extra_flops : float          [FLOP/token] of scans
    score_flops : float          [FLOP/token] the part of ``extra_flops`` that is attention-like (reported with scores)
    chunk : float                [tokens] that a scan takes at a time, for which ``score_flops`` is given
    chunk_flops : float          [FLOP/token] the part that pairs tokens of a chunk, where a short one is not filled up
    pass_flops : float           [FLOP] of taking the state of one chunk to one other
    saved : float                [values/token] kept for backward at activation width, divided by tp
    saved_whole : float          [values/token] kept, divided by tp only under sequence parallelism
    mask, mask_whole : float     [byte/token] dropout masks, divided likewise
    saved_scores, mask_scores : float   [values, byte per query·key·head] kept by eager attention
    decode_qk_dim, decode_v_dim, decode_kv_heads : float
        Geometry of the same attention over the cache where it differs (latent attention in absorbed form); 0: same.
    cache : float                [values/token] KV cache, divided by at most ``kv_heads`` (decode_kv_heads if set)
    state : float                [values/sequence] recurrent state
    launches : float             kernels an eager framework launches for it, forward
    fused_launches : float       those of ``launches`` that its fused kernels of experts do without
    stored : float               [byte] a parameter as the checkpoint stores it, a mean over the layers of the table
                                 (sizes and traffic are sums over them); 0: as the run's weight dtype has it
    side : str                   ``text``: the stream's own tokens; ``encoder``: the encoder's (cross k/v)
    """

    name: str
    group: str
    kernel: Kernel
    shard: Shard = "none"
    k: float = 0.0
    n: float = 0.0
    n_kv: float = 0.0
    rows: float = 1.0
    pass_rows: float = 0.0
    experts: float = 1.0
    bias: float = 0.0
    tied: bool = False
    heads: float = 0.0
    kv_heads: float = 1.0
    qk_dim: float = 0.0
    v_dim: float = 0.0
    decode_qk_dim: float = 0.0
    decode_v_dim: float = 0.0
    decode_kv_heads: float = 0.0
    window: float = np.inf
    causal: bool = False
    cross: bool = False
    read: float = 0.0
    write: float = 0.0
    unfused: float = 0.0
    sorted_read: float = 0.0
    sorted_write: float = 0.0
    slots: float = 0.0
    slot_width: float = 0.0
    extra_flops: float = 0.0
    score_flops: float = 0.0
    chunk: float = 1.0
    chunk_flops: float = 0.0
    pass_flops: float = 0.0
    saved: float = 0.0
    saved_whole: float = 0.0
    mask: float = 0.0
    mask_whole: float = 0.0
    saved_scores: float = 0.0
    mask_scores: float = 0.0
    cache: float = 0.0
    state: float = 0.0
    launches: float = 1.0
    fused_launches: float = 0.0
    stored: float = 0.0
    side: str = "text"

    @property
    def parameters(self) -> float:
        """Parameters of the operator, all experts."""
        owned = self.kernel in ("matmul", "grouped_matmul", "lookup") and not self.tied
        return (self.k * self.n * self.experts if owned else 0.0) + self.bias

    @property
    def active_parameters(self) -> float:
        """Parameters one token touches: ``rows`` of the ``experts`` copies."""
        return self.parameters * (min(self.rows / self.experts, 1.0) if self.experts > 1 or not self.rows else 1.0)


_TEXT_FIELDS = {"name", "group", "kernel", "shard", "side"}


@dataclass(frozen=True)
class OpTable:
    """Ops of one layer kind as arrays of shape ``(op,)``."""

    ops: tuple[Op, ...]

    @cached_property
    def columns(self) -> dict[str, Array]:
        numeric = [f.name for f in fields(Op) if f.name not in _TEXT_FIELDS]
        return {c: np.array([float(getattr(o, c)) for o in self.ops], dtype=np.float64) for c in numeric}

    @cached_property
    def kernel(self) -> NDArray[np.int64]:
        return np.array([KERNELS.index(o.kernel) for o in self.ops], dtype=np.int64)

    @cached_property
    def shard(self) -> NDArray[np.int64]:
        return np.array([SHARDS.index(o.shard) for o in self.ops], dtype=np.int64)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(o.name for o in self.ops)

    def __getattr__(self, name: str) -> Array:
        columns: dict[str, Array] = object.__getattribute__(self, "columns")
        if name in columns:
            return columns[name]
        raise AttributeError(name)

    @cached_property
    def parameters(self) -> Array:
        """Parameters by op, shape (op,)."""
        return np.array([o.parameters for o in self.ops], dtype=np.float64)

    @cached_property
    def active_parameters(self) -> Array:
        """Parameters one token touches, by op, shape (op,)."""
        return np.array([o.active_parameters for o in self.ops], dtype=np.float64)
