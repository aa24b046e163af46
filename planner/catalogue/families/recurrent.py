"""Decoders of linear cost and hybrids of 2024 to 2026: RWKV, xLSTM, Zamba, OLMo Hybrid, LFM3, Ling and Lara.

Structure as built by the classes of Hugging Face transformers 5.24.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from planner.catalogue.families import linear
from planner.catalogue.families.blocks import (
    FULL,
    SLIDING,
    attention,
    decoder,
    every,
    head_counts,
    layer,
    layer_count,
    layer_types,
    sparse_layers,
)
from planner.catalogue.families.config import MAX_LAYERS, Config
from planner.catalogue.families.decoders import built, experts, fed, windowed, with_gate
from planner.catalogue.families.latent import latent_attention
from planner.catalogue.schema import Attention, Embedding, Layer, LinearAttention, Mlp, Model

LINEAR, HYBRID = "linear_attention", "hybrid"


def rwkv(c: Config, **up: Any) -> Model:
    """RWKV-4: a decayed sum over the past instead of scores, two token-shifted blocks (https://arxiv.org/abs/2305.13048)."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    wide, inner = c.optional("attention_hidden_size") or hidden, c.optional("intermediate_size") or 4 * hidden
    mixer = LinearAttention(
        "RWKV", (("key", hidden, wide), ("value", hidden, wide), ("receptance", hidden, wide), ("out", wide, hidden)),
        width=wide, state=3 * wide + 2 * hidden, scan_flops=0.0, extra_parameters=2 * wide + 3 * hidden,
        tensor_parallel_heads=wide,
    )  # fmt: skip
    each = {"projections": (("mlp.receptance", hidden, hidden),), "extra_parameters": 2 * hidden}
    table = Embedding(c.integer("vocab_size"), hidden, norm_parameters=2 * hidden)
    c.ignore("context_length", "rescale_every")
    return built(c, [mixer] * n, [Mlp(inner, False, activation="relu2")] * n, norm="layer", embedding=table,
                 each=each, **up)  # fmt: skip


def xlstm(c: Config, **up: Any) -> Model:
    """xLSTM-7B: matrix memories with exponential gates, a gated block (https://arxiv.org/abs/2503.13427)."""
    hidden, n = c.integer("hidden_size", c.optional("embedding_dim")), layer_count(c)
    for key, same in (("embedding_dim", hidden), ("num_blocks", n)):
        if (c.optional(key) or same) != same:
            raise c.error(key, f"differs from {same}; not supported")
    if c.flag("use_bias"):
        raise c.error("use_bias", "is true; not supported")
    heads = c.integer("num_heads", high=10**6)
    qk, v = int(hidden * c.number("qk_dim_factor", 0.5)), int(hidden * c.number("v_dim_factor", 1.0))
    multiple = c.integer("ffn_round_up_to_multiple_of", 64)
    # The class rounds up in floating point: what is less than one above a multiple stays there.
    inner = int((hidden * c.number("ffn_proj_factor", 2.667) + multiple - 1) // multiple * multiple)
    if not qk or not v or qk % heads or v % heads:
        raise c.error("num_heads", f"is {heads}, which does not divide the widths {qk} of keys and {v} of values")
    chunk = c.integer("chunk_size", 64)
    scan = 2.0 * chunk * (qk + v) + 4.0 * qk * v / heads
    mixer = LinearAttention(
        "xLSTM", (("qkv", hidden, 2 * qk + v), ("gate", hidden, v), ("if", hidden, 2 * heads), ("out", v, hidden)),
        width=v, state=qk * v // heads + qk + heads, scan_flops=scan, score_flops=scan, chunk=chunk,
        chunk_flops=2.0 * chunk * (qk + v),
        extra_parameters=2 * heads, tensor_parallel_heads=heads, norm_parameters=v,
    )  # fmt: skip
    # The class builds the last norm whatever ``add_out_norm`` says.
    c.ignore("norm_reduction_force_float32", "max_inference_chunksize", "weight_mode", "add_out_norm")
    return built(c, [mixer] * n, [Mlp(inner, True)] * n, hidden=hidden, tie=False, **up)


def olmo_hybrid(c: Config, **up: Any) -> Model:
    """OLMo Hybrid: three gated delta nets for one attention with q/k norms over all heads."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    default = every(n, 4, miss=LINEAR)
    if FULL not in default:
        default[-1] = FULL
    kinds = layer_types(c, n, default, known=frozenset({LINEAR}))
    full = attention(c, hidden, bias=c.flag("attention_bias"), qk_norm="full")
    keys = c.optional("linear_num_key_heads", high=10**6) or full.heads
    width = c.optional("linear_key_head_dim") or int(0.75 * hidden / keys)
    fast = linear.gated_delta(
        c.with_values(
            linear_num_key_heads=keys, linear_key_head_dim=width,
            linear_num_value_heads=c.optional("linear_num_value_heads", high=10**6) or full.heads,
            linear_value_head_dim=c.optional("linear_value_head_dim") or 2 * width,
        )
    )  # fmt: skip
    c.ignore("linear_allow_neg_eigval", "linear_a_log_min", "linear_a_log_max", "linear_dt_min", "linear_dt_max",
             "linear_dt_init_floor")  # fmt: skip
    mlp = Mlp(c.integer("intermediate_size"), True)
    return built(c, [fast if k == LINEAR else full for k in kinds], [mlp] * n, **up)


def lara_mini(c: Config, **up: Any) -> Model:
    """Lara Mini: gated delta nets, windows and full attention in turn, experts beside a shared one everywhere."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    pattern = (LINEAR, SLIDING, LINEAR, FULL, SLIDING)
    kinds = layer_types(c, n, [pattern[i % 5] for i in range(n)], known=frozenset({LINEAR}))
    full, fast = attention(c, hidden, bias=c.flag("attention_bias"), qk_norm="head"), linear.gated_delta(c)
    mixers = [fast if k == LINEAR else m for k, m in zip(kinds, windowed(c, full, kinds), strict=True)]
    moe = experts(c, shared=c.integer("shared_expert_intermediate_size"))
    return built(c, mixers, [moe] * n, **up)


def lfm3(c: Config, **up: Any) -> Model:
    """LFM3: short convolutions, windows and full attention with a gate a head, norms before and after the blocks."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    default = [FULL if i % 4 == 2 else SLIDING if i % 4 == 0 and i else "conv" for i in range(n)]
    kinds = layer_types(c, n, default, known=frozenset({"conv"}))
    full = attention(c, hidden, bias=c.flag("attention_bias"), qk_norm="head")
    full = with_gate(full, head=True) if c.flag("use_attention_gate", True) else full
    fast = linear.short_convolution(hidden, kernel=c.integer("conv_L_cache", 3, high=1024), bias=c.flag("conv_bias"))
    mixers = [fast if k == "conv" else m for k, m in zip(kinds, windowed(c, full, kinds), strict=True)]
    norms = 4 if c.flag("use_sandwich_norm", True) else 2
    return built(c, mixers, [Mlp(c.integer("intermediate_size"), True)] * n, norms=norms, **up)


def bailing_hybrid(c: Config, **up: Any) -> Model:
    """Ling hybrid: Kimi delta attention with gated latent attention at every sixth layer, two dense layers first."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    kinds = layer_types(c, n, every(n, c.integer("layer_group_size", 6, high=MAX_LAYERS), miss=LINEAR),
                        known=frozenset({LINEAR}))  # fmt: skip
    heads, width = c.integer("num_attention_heads", high=10**6), c.integer("head_dim")
    for key, value in (("linear_head_dim", width), ("linear_num_heads", heads)):
        width, heads = (
            (c.optional(key) or value, heads) if key == "linear_head_dim" else (width, c.optional(key) or value)
        )
    inner, kernel = heads * width, c.integer("linear_conv_kernel_dim", 4, high=1024)
    scan = linear.delta_scan_flops(heads, width, width)
    fast = LinearAttention(
        "Kimi delta attention",
        (("qkv", hidden, 3 * inner), ("decay", hidden, inner), ("beta", hidden, heads), ("gate", hidden, inner),
         ("out", inner, hidden)),
        width=inner, state=inner * width + 3 * inner * kernel, scan_flops=scan, score_flops=scan,
        chunk=linear.DELTA_CHUNK, conv_flops=6.0 * inner * kernel, extra_parameters=3 * inner * kernel + inner + heads,
        tensor_parallel_heads=heads, norm_parameters=width,
    )  # fmt: skip
    full = latent_attention(c)
    c.ignore("layer_group_size", "kda_safe_gate", "kda_lower_bound", "short_conv_kernel_size", "num_mtp_layers")
    shared = c.integer("moe_intermediate_size") * c.integer("n_shared_experts", 1, low=0, high=10**4)
    feed = fed(c, sparse_layers(c, n, first=2), experts(c, shared=shared))
    gate = (("attn.gate", hidden, full.heads),)
    layers = [
        layer(full if k == FULL else fast, f, "rms", hidden, projections=gate if k == FULL else ())
        for k, f in zip(kinds, feed, strict=True)
    ]
    return decoder(c, layers, tie=False, **up)


def _zamba_kinds(c: Config, n: int, default: Sequence[str]) -> list[str]:
    """Whether each layer also runs a shared transformer block; old configs say mamba for the plain ones."""
    if not c.flag("tie_word_embeddings", True):
        raise c.error("tie_word_embeddings", "is false; the class then shares no blocks either, which is not supported")
    listed = c.items("layers_block_type", length=n) or list(default)
    names = {"mamba": LINEAR, LINEAR: LINEAR, HYBRID: HYBRID}
    for kind in listed:
        if kind not in names:
            raise c.error("layers_block_type", f"holds {kind!r:.40}; allowed: {', '.join(names)}")
    if len(listed) != n:
        raise c.error("num_hidden_layers", f"is {n}, for which the class has no pattern: state layers_block_type")
    return [names[kind] for kind in listed]


def _beside(hidden: int, a: Attention) -> tuple[tuple[str, int, int], ...]:
    """Projections of the second half of the input: the shared block reads the token table's row too."""
    return (("attn.qkv.embedding", hidden, (a.heads + 2 * a.kv_heads) * a.head_dim),)


def zamba(c: Config, **up: Any) -> Model:
    """Zamba: Mamba, and one transformer block that several layers share (https://arxiv.org/abs/2405.16712)."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    period, offset = c.integer("attn_layer_period", 6), c.integer("attn_layer_offset", 4, low=0)
    kinds = _zamba_kinds(c, n, [LINEAR, LINEAR, HYBRID] + [
        HYBRID if i % period == offset else LINEAR for i in range(n - 3)])  # fmt: skip
    if (c.optional("attention_hidden_size") or 2 * hidden) != 2 * hidden:
        raise c.error("attention_hidden_size", f"is not twice hidden_size {hidden}; not supported")
    rank = c.get("mamba_dt_rank", "auto")
    rank = -(-hidden // 16) if rank in (None, "auto") else c.integer("mamba_dt_rank")
    fast = linear.mamba1(
        hidden, inner=c.integer("mamba_expand", high=100) * hidden, state=c.integer("mamba_d_state"), rank=rank,
        kernel=c.integer("mamba_d_conv", high=1024), conv_bias=c.flag("mamba_conv_bias", True),
        bias=c.flag("mamba_proj_bias"),
    )  # fmt: skip
    heads = c.integer("num_attention_heads", high=10**6)
    c.ignore("attention_hidden_size", "n_mamba_heads", "attn_layer_period", "attn_layer_offset")
    a = Attention(*head_counts(c), c.optional("attention_head_dim") or 2 * hidden // heads, rotary=False)
    own = layer(a, Mlp(c.integer("intermediate_size"), True, activation="gelu"), "rms", hidden, norms=1,
                extra_norms=[("rms", 2 * hidden)], projections=_beside(hidden, a))  # fmt: skip
    joined = layer(fast, None, "rms", hidden, norms=1, projections=(("join", hidden, hidden),))
    return decoder(c, _interleaved(kinds, [own], layer(fast, None, "rms", hidden, norms=1), [joined]), **up)


def _interleaved(kinds: Sequence[str], shared: Sequence[Layer], plain: Layer, joined: Sequence[Layer]) -> list[Layer]:
    """Plain layers, and at hybrid ones the next shared block (which holds weights once) before a joining layer."""
    again = [replace(one, name=f"{one.name}, weights shared", shared_weights=True) for one in shared]
    layers, met = [], 0
    for kind in kinds:
        if kind == LINEAR:
            layers.append(plain)
            continue
        layers += [(shared if met < len(shared) else again)[met % len(shared)], joined[0]]
        met += 1
    return layers


def zamba2(c: Config, **up: Any) -> Model:
    """Zamba2: Mamba-2, shared transformer blocks with low-rank adapters of each use (https://arxiv.org/abs/2411.15242)."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    default = (
        [LINEAR] + ([LINEAR] * 5 + [HYBRID]) * 7 + [LINEAR] * 4 + [HYBRID] + [LINEAR] * 3 + [HYBRID] + [LINEAR] * 2
    )
    kinds = _zamba_kinds(c, n, default)
    inner, heads = int(c.number("mamba_expand", 2) * hidden), c.integer("n_mamba_heads", high=10**6)
    if inner % heads:
        raise c.error("n_mamba_heads", f"is {heads}, which does not divide the inner width {inner}")
    bias = c.flag("add_bias_linear")
    fast = linear.mamba2(
        hidden, heads=heads, head_dim=inner // heads, groups=c.integer("mamba_ngroups", high=10**6),
        state=c.integer("mamba_d_state"), kernel=c.integer("mamba_d_conv", high=1024),
        chunk=c.integer("chunk_size", 256), conv_bias=True, bias=bias,
    )  # fmt: skip
    count = c.integer("num_attention_heads", high=10**6)
    if 2 * hidden % count:
        raise c.error("num_attention_heads", f"is {count}, which does not divide twice hidden_size {hidden}")
    a = Attention(*head_counts(c), 2 * hidden // count, rotary=c.flag("use_mem_rope"))
    rank, width = c.integer("adapter_rank", 128), c.optional("intermediate_size") or 4 * hidden
    adapters = [("mlp.adapter.down", hidden, rank), ("mlp.adapter.up", rank, 2 * width)]
    if c.flag("use_shared_attention_adapter"):
        adapters += [("attn.adapter.down", 2 * hidden, 3 * rank), ("attn.adapter.up", rank, 6 * hidden)]
    for key, due in (("attention_hidden_size", 2 * hidden), ("attention_head_dim", a.head_dim),
                     ("mamba_headdim", inner // heads)):  # fmt: skip
        if (c.optional(key) or due) != due:
            raise c.error(key, f"is not {due}, as the other widths give it; not supported")
    c.ignore("kv_channels", "num_query_groups",
             "hybrid_layer_ids", "use_conv_bias", "use_mem_eff_path", "use_long_context")  # fmt: skip
    own = layer(a, Mlp(width, True, bias=bias, activation="gelu"), "rms", hidden, norms=1,
                extra_norms=[("rms", 2 * hidden)], projections=_beside(hidden, a))  # fmt: skip
    joined = layer(fast, None, "rms", hidden, norms=1, projections=(("join", hidden, hidden), *adapters))
    blocks = [own] * c.integer("num_mem_blocks", 1, high=1000)
    return decoder(c, _interleaved(kinds, blocks, layer(fast, None, "rms", hidden, norms=1), [joined]), **up)
