"""Latent-attention decoders: DeepSeek V2 to V3.2, Kimi K2, GLM-5, MiniCPM3 and their kin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.catalogue.families.blocks import decoder, layer, layer_count, layer_types
from planner.catalogue.families.config import Config
from planner.catalogue.families.experts import deepseek_experts
from planner.catalogue.schema import LatentAttention, Mlp, Model, Stack

INDEXED = ("deepseek_v32", "glm_moe_dsa")
DENSE = ("minicpm3", "youtu")


def latent_attention(c: Config) -> LatentAttention:
    """The attention block; ``q_lora_rank`` null means that queries are projected directly."""
    heads = c.integer("num_attention_heads", high=10**6)
    bias = c.flag("attention_bias")
    nope = c.integer("qk_nope_head_dim", low=0)
    value = c.optional("v_head_dim") or _value_dim(c, heads)
    wide = nope + c.integer("qk_rope_head_dim")
    if c.model_type == "longcat_flash" and c.values.get("qk_head_dim") not in (None, wide):
        raise c.error("qk_head_dim", f"is not {wide}, the sum of qk_nope_head_dim and qk_rope_head_dim")
    c.ignore("head_dim", "num_key_value_heads", "qk_head_dim", "mlp_bias", "moe_layer_freq")
    return LatentAttention(
        heads, c.optional("q_lora_rank") or 0, c.integer("kv_lora_rank"), nope, c.integer("qk_rope_head_dim"), value,
        bias=bias, out_bias=bias,
    )  # fmt: skip


def _value_dim(c: Config, heads: int) -> int:
    hidden = c.integer("hidden_size")
    if hidden % heads:
        raise c.error("v_head_dim", f"is missing and {heads} heads do not divide hidden_size {hidden}")
    c.assume(f"v_head_dim {hidden // heads} is hidden_size / num_attention_heads")
    return hidden // heads


def build(c: Config, *, root: Config | None = None, before: tuple[Stack, ...] = (), **more: Any) -> Model:
    """A latent-attention decoder with dense and expert layers."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    mixer = latent_attention(c)
    mixers = [mixer] * n
    if c.model_type in INDEXED:
        layer_types(c, n, [], known=frozenset({"indexed_attention"}), only=True)
        indexed = replace(
            mixer, indexer_heads=c.integer("index_n_heads", high=10**6), indexer_dim=c.integer("index_head_dim"),
            indexer_top_k=c.integer("index_topk"),
        )  # fmt: skip
        mixers = [indexed if own else replace(mixer, indexer_top_k=indexed.indexer_top_k) for own in _own_indexer(c, n)]
    moe, routed = (None, [False] * n) if c.model_type in DENSE else deepseek_experts(c, n)
    c.ignore("intermediate_size")
    bias = c.model_type in ("deepseek_v2", "minicpm3") and c.flag("mlp_bias")
    dense = None if all(routed) else Mlp(c.integer("intermediate_size"), True, bias=bias)
    layers = [layer(m, moe if r else dense, "rms", hidden) for m, r in zip(mixers, routed, strict=True)]
    return decoder(c, layers, root=root, before=before, **more)


def _own_indexer(c: Config, n: int) -> list[bool]:
    """Which layers run an indexer of their own; the others reuse the selection of the layer before."""
    kinds = c.items("indexer_types", length=n)
    if kinds is not None:
        if not set(kinds) <= {"full", "shared"}:
            raise c.error("indexer_types", "may hold full and shared only")
        return [kind == "full" for kind in kinds]
    for key in ("index_topk_pattern", "index_skip_topk_offset", "index_topk_freq"):
        if c.has(key) and c.get(key) not in (0, 1):
            raise c.error(key, "is not supported; state indexer_types, one a layer")
    return [True] * n
