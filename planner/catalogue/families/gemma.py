"""Gemma 3n and Gemma 4: layers of different head widths, shared keys and values, per-layer inputs, experts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.catalogue.families.blocks import (
    FULL,
    SLIDING,
    attention,
    decoder,
    every,
    layer,
    layer_count,
    layer_types,
    moe_block,
)
from planner.catalogue.families.config import MAX_LAYERS, Config
from planner.catalogue.families.layerwise import per_layer
from planner.catalogue.families.multimodal import vision_section
from planner.catalogue.families.vision import Tower, square, tower
from planner.catalogue.schema import Attention, Embedding, Layer, Mlp, Model, Moe, Stack


def shared_from(c: Config, n: int, kinds: list[str], default: int) -> int:
    """Index of the first layer that reuses keys and values; each kind must have a layer that makes them."""
    shared = c.integer("num_kv_shared_layers", default, low=0, high=MAX_LAYERS)
    first = n - shared
    if shared and (first < 1 or set(kinds[:first]) != set(kinds)):
        raise c.error("num_kv_shared_layers", f"is {shared}: no layer of each kind is left to make keys and values")
    return first


def per_layer_inputs(c: Config, hidden: int, n: int) -> tuple[int, int, dict[str, Any]]:
    """Width of the per-layer input, its table's rows, and what the stack gains: a projection and a norm."""
    low = 1 if c.model_type == "gemma3n_text" else 0  # Gemma 3n has these inputs in every form
    width = c.integer("hidden_size_per_layer_input", 0, low=low)
    if not width:
        c.ignore("vocab_size_per_layer_input")
        return 0, 0, {}
    more = {"input_matmuls": (("per_layer.model_projection", hidden, n * width, 1.0),), "extra_norm_parameters": width}
    return width, c.integer("vocab_size_per_layer_input"), more


def with_layer_input(one: Layer, hidden: int, width: int) -> Layer:
    """A layer that also reads its own input: a gate, a projection, a norm."""
    if not width:
        return one
    return replace(one, norms=(*one.norms, ("rms", hidden)),
                   projections=(*one.projections, ("per_layer.gate", hidden, width),
                                ("per_layer.projection", width, hidden)))  # fmt: skip


def gemma4_text(c: Config, *, root: Config | None = None, before: tuple[Stack, ...] = (), **more: Any) -> Model:
    """Gemma 4: wider heads in global layers, whose values may be their keys; experts beside the MLP in the 26B."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    kinds = layer_types(c, n, every(n, 6))
    kinds[-1] = FULL
    first = shared_from(c, n, kinds, 0)
    width, rows, stack_more = per_layer_inputs(c, hidden, n)
    mlp = Mlp(c.integer("intermediate_size"), True, activation="gelu")
    wide = replace(mlp, width=2 * mlp.width) if c.flag("use_double_wide_mlp") else mlp
    experts = _gemma4_experts(c, hidden) if c.flag("enable_moe_block") else None
    c.ignore("moe_intermediate_size", "top_k_experts", "num_experts", "expert_intermediate_size")
    heads_of = _gemma4_heads(c, kinds)
    keys = [(kind, i >= first, heads_of[i]) for i, kind in enumerate(kinds)]
    built: dict[tuple[str, bool, tuple[int, int, int]], Layer] = {}
    for kind, reuse, sizes in dict.fromkeys(keys):
        a = _gemma4_attention(c, kind, sizes, reuse=reuse)
        dense = wide if reuse else mlp
        ffn: Mlp | Moe = dense if experts is None else replace(experts, shared=dense)
        one = layer(a, ffn, "rms", hidden, norms=4 if experts is None else 7)
        built[kind, reuse, sizes] = with_layer_input(one, hidden, width)
    table = Embedding(c.integer("vocab_size"), hidden, extra_parameters=rows * n * width)
    return decoder(
        c, [built[k] for k in keys], root=root, before=before, embedding=table, stack_more=stack_more, **more
    )


def _gemma4_heads(c: Config, kinds: list[str]) -> list[tuple[int, int, int]]:
    """Query heads, key/value heads and their width, of each layer: as ``per_layer_config`` states, else by kind."""
    heads = c.integer("num_attention_heads", high=10**6)
    usual = {"num_attention_heads": heads, "num_key_value_heads": c.integer("num_key_value_heads", heads, high=10**6),
             "head_dim": c.integer("head_dim")}  # fmt: skip
    wide: dict[str, Any] = {"head_dim": c.integer("global_head_dim", 512)}
    few = c.optional("num_global_key_value_heads", high=10**6)
    if few and c.flag("attention_k_eq_v"):
        wide["num_key_value_heads"] = few
    stated = per_layer(c, len(kinds), tuple(usual)) or [wide if kind == FULL else {} for kind in kinds]
    found = []
    for i, over in enumerate(stated):
        sizes = [c._bounded(f"per_layer_config.{i}.{k}", over.get(k, v), 1, 10**6) for k, v in usual.items()]
        if sizes[0] % sizes[1]:
            raise c.error("num_key_value_heads", f"is {sizes[1]}, which does not divide the {sizes[0]} attention heads")
        found.append((sizes[0], sizes[1], sizes[2]))
    return found


def _gemma4_attention(c: Config, kind: str, sizes: tuple[int, int, int], *, reuse: bool) -> Attention:
    heads, kv, width = sizes
    same = kind == FULL and c.flag("attention_k_eq_v")
    bias = c.flag("attention_bias")
    return Attention(
        heads,
        kv,
        width,
        q_bias=bias,
        k_bias=bias and not reuse,
        v_bias=bias and not reuse and not same,
        out_bias=bias,
        qk_norm_parameters=width if reuse else 2 * width,
        window=c.optional("sliding_window") if kind == SLIDING else None,
        kv_shared=reuse,
        value_is_key=same,
    )


def _gemma4_experts(c: Config, hidden: int) -> Moe:
    experts = c.integer("num_experts", high=10**6)
    return moe_block(c, width=c.integer("moe_intermediate_size"), experts=experts, router_parameters=hidden + experts)


def gemma4(c: Config) -> Model:
    """Gemma 4 with its image tower; the audio tower of the small ones is not modelled."""
    if c.values.get("audio_config") is not None:
        raise c.error("audio_config", "is stated; the audio tower is not supported")
    text = c.section("text_config", "gemma4_text")
    assert text is not None
    before = _gemma4_tower(c, text.integer("hidden_size")) if c.values.get("vision_config") is not None else ()
    c.ignore("vision_config", "audio_config", "vision_soft_tokens_per_image")
    return gemma4_text(text, root=c, before=before)


def _gemma4_tower(c: Config, text_hidden: int) -> tuple[Stack, ...]:
    v = vision_section(c, "gemma4_vision")
    hidden, heads = v.integer("hidden_size"), v.integer("num_attention_heads", high=10**6)
    if v.integer("num_key_value_heads", heads) != heads:
        raise v.error("num_key_value_heads", "differs from num_attention_heads; not supported")
    width = v.integer("head_dim", hidden // heads)
    t = Tower(
        hidden,
        layer_count(v),
        heads,
        v.integer("intermediate_size"),
        bias=v.flag("attention_bias"),
        out_bias=False,
        mlp_bias=False,
        gated=True,
        norm="rms",
        head_dim=width,
        qk_norm=2 * width,
        final_norm="none",
    )
    one = replace(t.layer(v), norms=(("rms", hidden),) * 4)
    rows = 2 * v.integer("position_embedding_size", 10240)
    v.ignore(
        "global_head_dim",
        "pooling_kernel_size",
        "max_position_embeddings",
        "standardize",
        "use_clipped_linears",
        "default_output_length",
    )
    body = tower(
        v,
        t,
        name="vision",
        patch=square(v, "patch_size"),
        count=1,
        tokens=1,
        more=rows * hidden,
        bias=False,
        output=hidden * text_hidden,
        blocks=[one] * t.layers,
    )
    return (body,)


def gemma3n_text(c: Config, *, root: Config | None = None, before: tuple[Stack, ...] = (), **more: Any) -> Model:
    """Gemma 3n: alternating updates of several streams, a low-rank branch, per-layer inputs, shared keys and values."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    kinds = layer_types(c, n, every(n, 5))
    first = shared_from(c, n, kinds, 15)
    streams, rank = c.integer("altup_num_inputs", 4, high=64), c.integer("laurel_rank", 64)
    width, rows, stack_more = per_layer_inputs(c, hidden, n)
    widths = c.get("intermediate_size")
    sizes = [c._bounded("intermediate_size", w, 1, 10**9) for w in widths] if isinstance(widths, list) else [
        c.integer("intermediate_size")] * n  # fmt: skip
    if len(sizes) != n:
        raise c.error("intermediate_size", f"has {len(sizes)} entries for {n} layers")
    c.ignore("altup_active_idx", "altup_coef_clip", "altup_correct_scale", "altup_lr_multiplier",
             "activation_sparsity_pattern")  # fmt: skip
    full = attention(c, hidden, bias=c.flag("attention_bias"), qk_norm="head")
    beside = (("laurel.left", hidden, rank), ("laurel.right", rank, hidden), ("altup.router", hidden, streams))
    scalars = hidden + streams * streams + streams**3
    layers = []
    for i, kind in enumerate(kinds):
        reuse = i >= first
        a = replace(
            full,
            window=c.optional("sliding_window") if kind == SLIDING else None,
            kv_shared=reuse,
            qk_norm_parameters=full.head_dim * (1 if reuse else 2),
            k_bias=full.k_bias and not reuse,
            v_bias=full.v_bias and not reuse,
        )
        one = layer(a, Mlp(sizes[i], True, activation="gelu"), "rms", hidden, norms=6, projections=beside,
                    extra_parameters=scalars)  # fmt: skip
        layers.append(with_layer_input(one, hidden, width))
    outer = 2 * (streams - 1)
    stack_more["output_matmuls"] = (("altup.projections", hidden, outer * hidden, 1.0),)
    table = Embedding(c.integer("vocab_size"), hidden, extra_parameters=rows * n * width)
    return decoder(c, layers, root=root, before=before, embedding=table, stack_more=stack_more, **more)
