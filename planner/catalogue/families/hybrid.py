"""Hybrids: layers of attention among layers of linear cost, and pure state space models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.catalogue.families import linear
from planner.catalogue.families.blocks import (
    FULL,
    attention,
    decoder,
    every,
    layer,
    layer_count,
    layer_types,
    moe_block,
)
from planner.catalogue.families.config import MAX_LAYERS, Config
from planner.catalogue.families.experts import deepseek_experts, qwen_experts
from planner.catalogue.families.latent import latent_attention
from planner.catalogue.schema import LinearAttention, Mixer, Mlp, Model, Moe, Stack

LINEAR = "linear_attention"


def qwen3_next(c: Config, *, root: Config | None = None, before: tuple[Stack, ...] = (), **more: Any) -> Model:
    """Qwen3-Next and Qwen3.5: three gated delta nets for one gated attention; experts or a dense MLP."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    c.ignore("mtp_use_dedicated_embeddings", "attn_output_gate", "intermediate_size")
    if c.values.get("attn_output_gate") is False:
        raise c.error("attn_output_gate", "is false; the class always builds the gate")
    period = c.integer("full_attention_interval", 4, high=MAX_LAYERS)
    kinds = layer_types(c, n, every(n, period, miss=LINEAR), known=frozenset({FULL, LINEAR}), only=True)
    full = attention(c, hidden, bias=c.flag("attention_bias"), qk_norm="head")
    full = replace(full, gate=full.heads * full.head_dim, q_bias=full.q_bias)
    mixers: dict[str, Mixer] = {FULL: full, LINEAR: linear.gated_delta(c)}
    if c.flag("attention_bias"):
        full = replace(full, extra_parameters=full.heads * full.head_dim)
        mixers[FULL] = full
    ffn = _qwen_ffn(c, n)
    layers = [layer(mixers[k], f, "rms", hidden) for k, f in zip(kinds, ffn, strict=True)]
    return decoder(c, layers, root=root, before=before, **more)


def _qwen_ffn(c: Config, n: int) -> list[Mlp | Moe]:
    if "num_experts" not in c.defaults or not c.integer("num_experts", low=0, high=10**6):
        c.ignore("mlp_only_layers")
        return [Mlp(c.integer("intermediate_size"), True)] * n
    step = c.integer("decoder_sparse_step", 1, high=MAX_LAYERS)
    only = set(c.indices("mlp_only_layers", high=MAX_LAYERS))
    routed = [i not in only and (i + 1) % step == 0 for i in range(n)]
    moe = qwen_experts(c)
    dense: Mlp | Moe = moe if all(routed) else Mlp(c.integer("intermediate_size"), True)
    return [moe if r else dense for r in routed]


def kimi_linear(c: Config, *, root: Config | None = None, before: tuple[Stack, ...] = ()) -> Model:
    """Kimi Linear: Kimi delta attention with latent attention at every fourth layer."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    section = c.section("linear_attn_config", "kimi_linear_attention", required=False)
    kinds = [FULL if i and i % 4 == 0 else LINEAR for i in range(n)]
    source = c
    if section is not None:
        full = {section._bounded("full_attn_layers", v, 1, n) - 1 for v in section.items("full_attn_layers") or []}
        kinds = [FULL if i in full else LINEAR for i in range(n)]
        section.ignore("kda_layers")
        values = {
            "hidden_size": hidden,
            "linear_num_heads": section.integer("num_heads", 32, high=10**6),
            "linear_head_dim": section.integer("head_dim", 128),
            "linear_conv_kernel_dim": section.integer("short_conv_kernel_size", 4, high=1024),
        }
        source = Config(values, where=c.where, model_type=c.model_type, path="linear_attn_config.")
    kinds = layer_types(c, n, kinds, known=frozenset({FULL, LINEAR}), only=True)
    c.ignore("tie_word_embeddings", "rope_theta", "mla_use_nope", "use_grouped_topk", "moe_router_activation_func")
    mixers: dict[str, Mixer] = {FULL: latent_attention(c), LINEAR: linear.kimi_delta(source)}
    moe, routed = deepseek_experts(c, n)
    dense = None if all(routed) else Mlp(c.integer("intermediate_size"), True)
    layers = [layer(mixers[k], moe if r else dense, "rms", hidden) for k, r in zip(kinds, routed, strict=True)]
    return decoder(c, layers, root=root, before=before)


def minimax(c: Config) -> Model:
    """MiniMax-Text-01: lightning attention with softmax attention at every eighth layer, experts everywhere."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    listed = c.items("attn_type_list", length=n)
    default = [FULL if v else LINEAR for v in listed] if listed else every(n, 2, offset=1)
    default = [k if k == FULL else LINEAR for k in default]
    kinds = layer_types(c, n, default, known=frozenset({FULL, LINEAR}), only=True)
    full = attention(c, hidden)
    fast = linear.lightning(hidden, heads=full.heads, width=full.head_dim, block=c.integer("block_size", 256))
    moe = moe_block(c, width=c.integer("intermediate_size"))
    c.ignore("shared_intermediate_size", "postnorm", "shared_moe_mode")
    if c.values.get("shared_intermediate_size") not in (None, 0):
        raise c.error("shared_intermediate_size", "is not zero; the class builds no shared expert")
    return decoder(c, [layer(full if k == FULL else fast, moe, "rms", hidden) for k in kinds])


def lfm2(c: Config) -> Model:
    """LFM2: gated short convolutions with a few layers of attention; a dense MLP or experts."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    at = c.items("full_attn_idxs")
    default = [FULL] * n if at is None else [FULL if i in set(at) else "conv" for i in range(n)]
    kinds = layer_types(c, n, default, known=frozenset({"conv", FULL}), only=True)
    full = attention(c, hidden, qk_norm="head")
    fast = linear.short_convolution(hidden, kernel=c.integer("conv_L_cache", 3, high=1024), bias=c.flag("conv_bias"))
    c.ignore(
        "block_multiple_of",
        "block_dim",
        "block_mlp_init_scale",
        "block_norm_eps",
        "block_out_init_scale",
        "block_use_swiglu",
        "block_use_xavier_init",
        "conv_dim",
        "conv_dim_out",
        "use_pos_enc",
        "block_ff_dim",
        "conv_use_xavier_init",
        "intermediate_size",
        "num_heads",
        "use_expert_bias",
    )
    ffn: list[Mlp | Moe] = [Mlp(_lfm2_width(c), True)] * n
    if c.model_type == "lfm2_moe":
        dense = c.integer("num_dense_layers", 2, low=0, high=MAX_LAYERS)
        moe = moe_block(c, width=c.integer("moe_intermediate_size"))
        ffn = [Mlp(c.integer("intermediate_size"), True) if i < dense else moe for i in range(n)]
    return decoder(c, [layer(full if k == FULL else fast, f, "rms", hidden) for k, f in zip(kinds, ffn, strict=True)])


def _lfm2_width(c: Config) -> int:
    width = c.optional("block_ff_dim") or c.integer("intermediate_size")
    if not c.flag("block_auto_adjust_ff_dim", True):
        return width
    width = 2 * width // 3
    factor = c.get("block_ffn_dim_multiplier")
    if factor is None:
        return width
    multiple = c.integer("block_multiple_of", 256)
    width = int(c.number("block_ffn_dim_multiplier", 1.0) * width)
    return multiple * -(-width // multiple)


def recurrent_gemma(c: Config) -> Model:
    """RecurrentGemma: two gated linear recurrences for one local attention; the MLP width counts both halves."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    kinds = [str(k) for k in c.items("block_types") or ["recurrent", "recurrent", "attention"]]
    if not kinds or not set(kinds) <= {"recurrent", "attention"}:
        raise c.error("block_types", "may hold recurrent and attention only")
    full = attention(c, hidden, bias=c.flag("attention_bias"), out_bias=True)
    full = replace(full, window=c.optional("attention_window_size"))
    width, kernel = c.optional("lru_width") or hidden, c.integer("conv1d_width", 4, high=1024)
    if width % full.heads:
        raise c.error("lru_width", f"is {width}, not a multiple of the {full.heads} heads")
    gates = 2 * width * width // full.heads + 3 * width
    fast = LinearAttention(
        "gated linear recurrence",
        (("xy", hidden, 2 * width), ("out", width, hidden)),
        width=width,
        state=width + width * kernel,
        scan_flops=4.0 * width * width / full.heads,
        conv_flops=2.0 * width * kernel,
        extra_parameters=gates + width * kernel + width + 2 * width + hidden,
        tensor_parallel_heads=full.heads,
        group="other",
    )
    inner = c.integer("intermediate_size")
    mlp = Mlp(inner // 2, True, bias=True, activation="gelu")
    layers = [layer(full if kinds[i % len(kinds)] == "attention" else fast, mlp, "rms", hidden) for i in range(n)]
    return decoder(c, layers)
