"""Operators of token mixers: multi-head, latent and linear attention."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planner.catalogue.schema import Attention, CompressedAttention, LatentAttention, LinearAttention, Mixer
from planner.demand.ops import UNFUSED_RMS, UNFUSED_ROTARY, Op


def mixer_ops(mixer: Mixer, *, hidden: int, dropout: bool) -> list[Op]:
    """Operators of a token mixer, projections included, per token of the stream."""
    if isinstance(mixer, Attention):
        return attention_ops(mixer, hidden=hidden, dropout=dropout)
    if isinstance(mixer, LatentAttention):
        return latent_ops(mixer, hidden=hidden, dropout=dropout)
    if isinstance(mixer, CompressedAttention):
        return compressed_ops(mixer, hidden=hidden, dropout=dropout)
    return linear_ops(mixer, hidden=hidden)


def attention_ops(a: Attention, *, hidden: int, dropout: bool, prefix: str = "attn") -> list[Op]:
    """Grouped-query attention: q, k, v projections, scores and values, output projection.

    Saved for backward, per token: the input of the projections (whole), q, k, v and the input of the output
    projection (divided by tp), and for eager attention the softmax output, and with dropout its mask and output.
    Korthikanti et al. 2022, section 4.1, https://arxiv.org/abs/2205.05198
    """
    q_width, kv_width = a.heads * a.head_dim, a.kv_heads * (a.head_dim + a.value_dim)
    out_in = a.heads * a.value_dim
    bias = a.q_bias * q_width + a.k_bias * a.kv_heads * a.head_dim + a.v_bias * a.kv_heads * a.value_dim
    ops: list[Op] = []
    if a.projections:
        ops += [_projection(f"{prefix}.{name}", k, n) for name, k, n in a.projections[:-1]]
        ops[0] = replace(ops[0], bias=bias, saved_whole=hidden)
    elif a.cross:
        q_bias = a.q_bias * q_width
        ops += [
            _projection(f"{prefix}.q", hidden, q_width + a.gate, bias=q_bias, saved_whole=hidden),
            Op(f"{prefix}.kv", "attention", "matmul", "column", k=hidden, n=kv_width, n_kv=kv_width,
               kv_heads=a.kv_heads, bias=bias - q_bias, side="encoder"),
        ]  # fmt: skip
    else:
        own = 0 if a.kv_shared else a.kv_heads * a.head_dim if a.value_is_key else kv_width
        ops.append(
            Op(f"{prefix}.qkv", "attention", "matmul", "column", k=hidden, n=q_width + own + a.gate, n_kv=own,
               kv_heads=a.kv_heads, bias=bias, saved_whole=hidden)
        )  # fmt: skip
    if a.qk_norm_parameters:
        width = q_width + a.kv_heads * a.head_dim
        ops.append(
            Op(f"{prefix}.qk_norm", "norm", "vector", "tensor", bias=a.qk_norm_parameters, read=width, write=width,
               unfused=UNFUSED_RMS * width, saved=width, launches=2)
        )  # fmt: skip
    if a.rotary:
        width = q_width + (0 if a.cross or a.kv_shared else a.kv_heads * a.head_dim)
        ops.append(Op(f"{prefix}.rope", "attention", "vector", "tensor", read=width, write=width,
                      unfused=UNFUSED_ROTARY * width, launches=2))  # fmt: skip
    ops.append(
        Op(f"{prefix}.core", "attention", "attention", "heads", heads=a.heads, kv_heads=a.kv_heads, qk_dim=a.head_dim,
           v_dim=a.value_dim, window=np.inf if a.window is None else float(a.window), causal=a.causal and not a.cross,
           cross=a.cross, bias=a.extra_parameters, saved=q_width + (0 if a.kv_shared else kv_width),
           saved_scores=2.0 if dropout else 1.0, mask_scores=1.0 if dropout else 0.0,
           cache=0.0 if a.kv_shared else a.cached or kv_width)
    )  # fmt: skip
    if a.position_dim:
        ops.append(Op(f"{prefix}.position_core", "attention", "attention", "heads", heads=a.heads, kv_heads=a.heads,
                      qk_dim=a.position_dim, v_dim=0.0, causal=a.causal))  # fmt: skip
    if a.gate:
        ops.append(Op(f"{prefix}.gate", "attention", "vector", "tensor", read=2 * out_in, write=out_in, saved=a.gate))
    ops += [Op(f"{prefix}.{name}", "attention", "matmul", "tensor", k=k, n=n, rows=rows, tied=True)
        for name, k, n, rows in a.tied_matmuls]  # fmt: skip
    ops += [Op(f"{prefix}.{name}", "attention", "matmul", "tensor", k=k, n=n, rows=0.0, pass_rows=rows, tied=True)
        for name, k, n, rows in a.pass_matmuls]  # fmt: skip
    if a.idle_experts:
        ops.append(Op(f"{prefix}.idle", "attention", "grouped_matmul", "none", k=hidden, rows=0.0,
                      n=2 * a.kv_heads * a.head_dim, experts=float(a.idle_experts)))  # fmt: skip
    name, k, n = a.projections[-1] if a.projections else ("out", out_in, hidden)
    ops.append(Op(f"{prefix}.{name}", "attention", "matmul", "row", k=k, n=n, bias=a.out_bias * n, saved=k))
    return ops


def _projection(name: str, k: float, n: float, *, bias: float = 0.0, saved_whole: float = 0.0) -> Op:
    return Op(name, "attention", "matmul", "column", k=k, n=n, bias=bias, saved_whole=saved_whole)


def latent_ops(a: LatentAttention, *, hidden: int, dropout: bool) -> list[Op]:
    """Multi-head latent attention: low-rank queries and keys/values, the cache is the latent itself.

    Training and prefill expand the latent to ``heads`` keys and values; decode absorbs that expansion into the query
    and output (same FLOPs as expanding one token) and attends to the latent: kv_rank + rope_dim values a key, read by
    every head, so one key/value "head" that tensor parallelism does not divide. DeepSeek-V2, section 2.1,
    https://arxiv.org/abs/2405.04434
    """
    qk = a.nope_dim + a.rope_dim
    latent = a.kv_rank + a.rope_dim
    ops: list[Op] = []
    if a.q_rank:
        ops += [
            Op("attn.q_a", "attention", "matmul", "sequence", k=hidden, n=a.q_rank, bias=a.bias * a.q_rank,
               saved_whole=hidden),
            Op("attn.q_norm", "norm", "vector", "sequence", bias=a.q_rank, read=a.q_rank, write=a.q_rank,
               unfused=UNFUSED_RMS * a.q_rank, saved_whole=a.q_rank),
            Op("attn.q_b", "attention", "matmul", "column", k=a.q_rank, n=a.heads * qk, saved_whole=a.q_rank),
        ]  # fmt: skip
    else:
        ops.append(_projection("attn.q", hidden, a.heads * qk, saved_whole=hidden))
    ops += [
        Op("attn.kv_a", "attention", "matmul", "sequence", k=hidden, n=latent, bias=a.bias * latent),
        Op("attn.kv_norm", "norm", "vector", "sequence", bias=a.kv_rank, read=a.kv_rank, write=a.kv_rank,
           unfused=UNFUSED_RMS * a.kv_rank, saved_whole=a.kv_rank),
        Op("attn.kv_b", "attention", "matmul", "column", k=a.kv_rank, n=a.heads * (a.nope_dim + a.v_head_dim),
           saved_whole=a.kv_rank),
        Op("attn.rope", "attention", "vector", "tensor", read=a.heads * 2 * qk, write=a.heads * 2 * qk,
           unfused=UNFUSED_ROTARY * a.heads * 2 * qk, launches=3),
    ]  # fmt: skip
    if a.indexer_heads:
        ops += _indexer_ops(a, hidden=hidden)
    ops += [
        Op("attn.core", "attention", "attention", "heads", heads=a.heads, kv_heads=a.heads, qk_dim=qk,
           v_dim=a.v_head_dim, decode_qk_dim=latent, decode_v_dim=a.kv_rank, decode_kv_heads=1.0, causal=a.causal,
           window=float(a.indexer_top_k) if a.indexer_top_k else np.inf, bias=a.extra_parameters,
           saved=a.heads * (2 * qk + a.v_head_dim), saved_scores=2.0 if dropout else 1.0,
           mask_scores=1.0 if dropout else 0.0, cache=latent),
        Op("attn.out", "attention", "matmul", "row", k=a.heads * a.v_head_dim, n=hidden, bias=a.out_bias * hidden,
           saved=a.heads * a.v_head_dim),
    ]  # fmt: skip
    return ops


def _indexer_ops(a: LatentAttention, *, hidden: int) -> list[Op]:
    """The lightning indexer of DeepSeek-V3.2: scores every key cheaply, keeps ``indexer_top_k`` of them.

    https://github.com/deepseek-ai/DeepSeek-V3.2-Exp; one key head of ``indexer_dim``, a LayerNorm on it.
    """
    return [
        Op("attn.index_q", "attention", "matmul", "none", k=a.q_rank, n=a.indexer_heads * a.indexer_dim),
        Op("attn.index_k", "attention", "matmul", "none", k=hidden, n=a.indexer_dim, cache=a.indexer_dim),
        Op("attn.index_norm", "norm", "vector", "none", bias=2 * a.indexer_dim, read=a.indexer_dim,
           write=a.indexer_dim),
        Op("attn.index_weights", "attention", "matmul", "none", k=hidden, n=a.indexer_heads),
        Op("attn.index_core", "attention", "attention", "none", heads=a.indexer_heads, kv_heads=1.0,
           qk_dim=a.indexer_dim, v_dim=1.0, causal=a.causal),
    ]  # fmt: skip


def compressed_ops(a: CompressedAttention, *, hidden: int, dropout: bool) -> list[Op]:
    """Attention of DeepSeek-V4: a window of plain keys and, beyond it, compressed keys.

    Scores with one key for ``rate`` tokens cost what 1/rate of the heads would cost with a key a token; the compressed
    cores are written that way, so a length is always in tokens. https://github.com/deepseek-ai/DeepSeek-V4
    """
    width = a.heads * a.head_dim
    ops = [
        Op("attn.q_a", "attention", "matmul", "sequence", k=hidden, n=a.q_rank, saved_whole=hidden),
        Op("attn.q_norm", "norm", "vector", "sequence", bias=a.q_rank, read=a.q_rank, write=a.q_rank,
           unfused=UNFUSED_RMS * a.q_rank, saved_whole=a.q_rank),
        Op("attn.q_b", "attention", "matmul", "column", k=a.q_rank, n=width, saved_whole=a.q_rank),
        Op("attn.kv", "attention", "matmul", "sequence", k=hidden, n=a.head_dim),
        Op("attn.kv_norm", "norm", "vector", "sequence", bias=a.head_dim, read=a.head_dim, write=a.head_dim,
           saved_whole=a.head_dim),
        Op("attn.rope", "attention", "vector", "tensor", read=2 * width, write=2 * width, launches=3),
    ]  # fmt: skip
    if a.rate:
        ops += _compressor_ops(a, hidden=hidden)
    saved_scores, mask_scores = (2.0, 1.0) if dropout else (1.0, 0.0)
    core = Op("attn.core", "attention", "attention", "heads", heads=a.heads, kv_heads=1.0, qk_dim=a.head_dim,
              v_dim=a.head_dim, window=float(a.window), causal=True, bias=a.heads, saved=width + a.head_dim,
              cache=a.head_dim, saved_scores=saved_scores, mask_scores=mask_scores)  # fmt: skip
    ops.append(core)
    if a.rate:
        seen = float(a.indexer_top_k * a.rate) if a.indexer_top_k else np.inf
        ops.append(
            Op("attn.compressed_core", "attention", "attention", "heads", heads=a.heads / a.rate, kv_heads=1 / a.rate,
               qk_dim=a.head_dim, v_dim=a.head_dim, window=seen, causal=True,
               saved_scores=saved_scores, mask_scores=mask_scores)
        )  # fmt: skip
    rank = a.out_groups * a.out_rank
    return [
        *ops,
        Op("attn.out_a", "attention", "matmul", "column", k=width // a.out_groups, n=rank, saved=width),
        Op("attn.out_b", "attention", "matmul", "row", k=rank, n=hidden, saved=rank),
    ]


def _compressor_ops(a: CompressedAttention, *, hidden: int) -> list[Op]:
    """Keys pooled over ``rate`` tokens by learned gates, kept in a cache of their own, and the indexer over them."""
    wide = a.head_dim * (2 if a.overlap else 1)
    ops = [
        Op("attn.compress", "attention", "matmul", "none", k=hidden, n=2 * wide, bias=a.rate * wide),
        Op(
            "attn.compress_norm",
            "norm",
            "vector",
            "none",
            bias=a.head_dim,
            read=2 * wide,
            write=a.head_dim / a.rate,
        ),
        Op("attn.compressed_cache", "attention", "vector", "none", cache=a.head_dim / a.rate),
    ]
    if not a.indexer_heads:
        return ops
    d = a.indexer_dim
    return [
        *ops,
        Op("attn.index_compress", "attention", "matmul", "none", k=hidden, n=4 * d, bias=a.rate * 2 * d,
           cache=d / a.rate),
        Op("attn.index_norm", "norm", "vector", "none", bias=d, read=2 * d, write=d / a.rate),
        Op("attn.index_q", "attention", "matmul", "none", k=a.q_rank, n=a.indexer_heads * d),
        Op("attn.index_weights", "attention", "matmul", "none", k=hidden, n=a.indexer_heads),
        Op("attn.index_core", "attention", "attention", "none", heads=a.indexer_heads / a.rate, kv_heads=1 / a.rate,
           qk_dim=d, v_dim=0.0, causal=True),
    ]  # fmt: skip


def linear_ops(a: LinearAttention, *, hidden: int) -> list[Op]:
    """A mixer of linear cost: its projections and a scan over the recurrent state."""
    ops: list[Op] = []
    for i, (name, k, n) in enumerate(a.projections):
        last = i == len(a.projections) - 1
        ops.append(
            Op(f"mixer.{name}", a.group, "matmul", "row" if last else "column", k=k, n=n,
               saved=k if last else 0.0, saved_whole=hidden if i == 0 else 0.0)
        )  # fmt: skip
    width = sum(n for _, _, n in a.projections[:-1])
    ops.append(
        Op("mixer.scan", a.group, "scan", "tensor", bias=a.extra_parameters, read=width, write=a.width,
           extra_flops=a.scan_flops + a.conv_flops, score_flops=a.score_flops, chunk=float(a.chunk),
           chunk_flops=a.chunk_flops, pass_flops=a.pass_flops, saved=width, state=a.state, launches=6)
    )  # fmt: skip
    if a.norm_parameters:
        ops.append(
            Op("mixer.norm", "norm", "vector", "tensor", bias=a.norm_parameters, read=a.width, write=a.width,
               saved=a.width)
        )  # fmt: skip
    return ops
