"""Decoders whose attention differs by layer kind: MiMo-V2 (windowed layers of other widths) and DeepSeek-V4."""

from __future__ import annotations

from typing import Any

from planner.catalogue.families.blocks import (
    FULL,
    SLIDING,
    decoder,
    layer,
    layer_count,
    layer_types,
    moe_block,
    sparse_layers,
)
from planner.catalogue.families.config import Config
from planner.catalogue.schema import Attention, CompressedAttention, Layer, Mlp, Model


def mimo_v2(c: Config) -> Model:
    """MiMo-V2-Flash: windowed layers with sinks and more key/value heads, values narrower than keys, experts."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    kinds = _mimo_kinds(c, n)
    built = {kind: _mimo_attention(c, kind) for kind in dict.fromkeys(kinds)}
    moe = moe_block(c, width=c.integer("moe_intermediate_size"))
    if c.values.get("n_shared_experts") not in (None, 0):
        raise c.error("n_shared_experts", "is not zero; the class builds no shared expert")
    c.ignore("n_shared_experts", "attention_value_scale", "sliding_window_size", "attention_chunk_size",
             "add_swa_attention_sink_bias", "add_full_attention_sink_bias", "hybrid_layer_pattern")  # fmt: skip
    routed = sparse_layers(c, n) if c.has("moe_layer_freq") or c.has("mlp_layer_types") else [i > 0 for i in range(n)]
    dense = Mlp(c.integer("intermediate_size"), True)
    layers = [layer(built[k], moe if r else dense, "rms", hidden) for k, r in zip(kinds, routed, strict=True)]
    return decoder(c, layers)


def _mimo_kinds(c: Config, n: int) -> list[str]:
    pattern = c.items("hybrid_layer_pattern", length=n)
    default = [FULL if i == 0 or (i + 1) % 6 == 0 else SLIDING for i in range(n)]
    if pattern is not None:
        if any(v not in (0, 1) for v in pattern):
            raise c.error("hybrid_layer_pattern", "may hold 0 (full) and 1 (window) only")
        default = [SLIDING if v else FULL for v in pattern]
    return layer_types(c, n, default)


def _mimo_attention(c: Config, kind: str) -> Attention:
    prefix = "swa_" if kind == SLIDING else ""
    due = {"num_attention_heads": c.integer("num_attention_heads", high=10**6),
           "num_key_value_heads": c.integer("num_key_value_heads", high=10**6) * (2 if prefix else 1),
           "head_dim": c.integer("head_dim"), "v_head_dim": c.integer("v_head_dim")}  # fmt: skip
    for key, value in due.items() if prefix else ():
        if c.integer(prefix + key, value) != value:
            raise c.error(prefix + key, f"is not {value}, which the class takes in windowed layers; not supported")
    heads, kv = due["num_attention_heads"], due["num_key_value_heads"]
    if heads % kv:
        raise c.error("num_key_value_heads", f"makes {kv} a layer, which does not divide the {heads} attention heads")
    bias = c.flag("attention_bias")
    return Attention(
        heads, kv, due["head_dim"], due["v_head_dim"],
        q_bias=bias, k_bias=bias, v_bias=bias, window=c.optional("sliding_window") if prefix else None,
        extra_parameters=heads if prefix else 0,
    )  # fmt: skip


CSA, HCA = "compressed_sparse_attention", "heavily_compressed_attention"
_RATIOS: dict[Any, str] = {0: SLIDING, 4: CSA, 128: HCA}
_RATES = {CSA: 4, HCA: 128}


def deepseek_v4(c: Config) -> Model:
    """DeepSeek-V4: one shared key/value head, a window plus compressed keys, hyper-connections, experts everywhere."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    kinds = _v4_kinds(c, n)
    streams = c.integer("hc_mult", 4, high=64)
    width = c.integer("moe_intermediate_size")
    c.ignore("n_shared_experts", "num_hash_layers", "mlp_layer_types", "hc_sinkhorn_iters", "compress_rope_theta",
             "compress_ratios", "num_key_value_heads", "partial_rotary_factor", "intermediate_size",
             "index_n_heads", "index_head_dim", "index_topk", "qk_rope_head_dim")  # fmt: skip
    if c.values.get("num_key_value_heads") not in (None, 1):
        raise c.error("num_key_value_heads", "is not 1; all heads share one key, which is also the value")
    if c.values.get("compress_rates") not in (None, _RATES):
        raise c.error("compress_rates", f"is not {_RATES}; only the rates 4 and 128 of the class are supported")
    c.ignore("compress_rates")
    moe = moe_block(c, width=width, shared=Mlp(width, True))
    built: dict[str, Layer] = {}
    for kind in dict.fromkeys(kinds):
        words = {
            SLIDING: "windowed attention",
            CSA: "compressed sparse attention",
            HCA: "compressed attention",
        }[kind]
        built[kind] = layer(_v4_attention(c, kind), moe, "rms", hidden, name=f"{words} + experts", hyper=streams)
    last = (("hyper.head", streams * hidden, streams, 1.0),)
    return decoder(c, [built[k] for k in kinds], other_parameters=streams + 1, stack_more={"output_matmuls": last})


def _v4_kinds(c: Config, n: int) -> list[str]:
    ratios = c.items("compress_ratios")
    if ratios is not None and c.items("layer_types") is None:
        if len(ratios) < n or any(r not in _RATIOS for r in ratios):
            raise c.error("compress_ratios", f"must list 0, 4 or 128 for each of {n} layers")
        return [_RATIOS[r] for r in ratios[:n]]
    default = [HCA] * min(n, 2) + [CSA if i % 2 else HCA for i in range(max(n - 2, 0))]
    return layer_types(c, n, default, known=frozenset({CSA, HCA}))


def _v4_attention(c: Config, kind: str) -> CompressedAttention:
    heads, dim = c.integer("num_attention_heads", high=10**6), c.integer("head_dim")
    groups = c.integer("o_groups", high=10**6)
    if heads * dim % groups:
        raise c.error("o_groups", f"is {groups}, which does not divide the {heads} heads of {dim}")
    index = {}
    if kind == CSA:
        index = {"indexer_heads": c.integer("index_n_heads", high=10**6), "indexer_dim": c.integer("index_head_dim"),
                 "indexer_top_k": c.integer("index_topk")}  # fmt: skip
    return CompressedAttention(
        heads, dim, q_rank=c.integer("q_lora_rank"), out_groups=groups, out_rank=c.integer("o_lora_rank"),
        window=c.integer("sliding_window"), rate=_RATES.get(kind, 0), overlap=kind == CSA, **index,
    )  # fmt: skip
