"""Llama 4 and Llama 3.2 Vision: a tower before the text, experts or gated cross-attention in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.catalogue.families.blocks import FULL, attention, decoder, layer, layer_count, layer_types, moe_block
from planner.catalogue.families.config import MAX_LAYERS, Config
from planner.catalogue.families.multimodal import Projector, vision_section, with_projector
from planner.catalogue.families.vision import Tower, basic, patches, tower
from planner.catalogue.schema import Attention, Embedding, Layer, Mlp, Model, Stack

# Kinds of layers that the library knows besides; none changes a parameter of this class.
OTHER_KINDS = frozenset({"linear_attention", "conv", "hybrid", "mamba", "moe", "sparse", "dense"})


def llama4(c: Config) -> Model:
    """Llama 4: a tower with pixel shuffle and an adapter, experts in every or every other layer."""
    v = vision_section(c, "llama4_vision_model")
    t = replace(basic(v), mlp_bias=True)
    patch, count = patches(v)
    inner, wide = v.integer("projector_input_dim"), v.integer("projector_output_dim")
    if inner != wide:
        raise v.error("projector_input_dim", f"is {inner} and projector_output_dim is {wide}; the class needs one size")
    adapter = t.ffn * inner + inner * wide
    out = v.integer("vision_output_dim")
    text = c.section("text_config", "llama4_text")
    assert text is not None
    hidden = text.integer("hidden_size")
    v.ignore("multi_modal_projector_bias", "pixel_shuffle_ratio", "vision_feature_layer")
    body = tower(v, t, name="vision", patch=patch, count=count, tokens=count + 1, more=(count + 2) * t.hidden,
                 bias=False, output=adapter, group="mlp", extra_norms=2 * t.hidden)  # fmt: skip
    return llama4_text(text, root=c, before=(body,), other_parameters=out * hidden)


def llama4_text(c: Config, *, root: Config | None = None, before: tuple[Stack, ...] = (), **more: Any) -> Model:
    """Llama 4's text part: chunked attention, one routed and one shared expert, or a dense MLP."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    c.ignore("model_type", "architectures", "for_llm_compressor", "floor_scale", "attn_scale", "use_qk_norm",
             "attn_temperature_tuning", "no_rope_layers", "no_rope_layer_interval")  # fmt: skip
    layer_types(c, n, [FULL] * n, known=OTHER_KINDS)
    step = c.integer("interleave_moe_layer_step", 1, high=MAX_LAYERS)
    listed = c.items("moe_layers")
    at = set(range(step - 1, n, step)) if listed is None else set(c.indices("moe_layers", high=n - 1))
    width = c.integer("intermediate_size")
    moe, dense = (
        moe_block(c, width=width, shared=Mlp(width, True)),
        Mlp(c.integer("intermediate_size_mlp"), True),
    )
    full = attention(c, hidden, bias=c.flag("attention_bias"))
    chunked = replace(full, window=c.optional("attention_chunk_size"))
    rope = c.items("no_rope_layers") or [int((i + 1) % 4 != 0) for i in range(n)]
    if len(rope) != n:
        raise c.error("no_rope_layers", f"has {len(rope)} entries for {n} layers")
    layers = [layer(chunked if r else full, moe if i in at else dense, "rms", hidden) for i, r in enumerate(rope)]
    return decoder(c, layers, root=root, before=before, **more)


def mllama(c: Config) -> Model:
    """Llama 3.2 Vision: cross-attention layers that run only where an image is given."""
    v = vision_section(c, "mllama_vision_model")
    body = _mllama_tower(v)
    text = c.section("text_config", "mllama_text_model")
    assert text is not None
    hidden = text.integer("hidden_size")
    wide = v.integer("vision_output_dim")
    model = mllama_text(text, root=c, before=(with_projector(body, Projector(wide * hidden + hidden)),))
    return replace(model, family="mllama")


def _mllama_tower(v: Config) -> Stack:
    hidden, n = v.integer("hidden_size"), layer_count(v)
    extra = layer_count(v, "num_global_layers")
    heads, ffn = v.integer("num_attention_heads", high=10**6), v.integer("intermediate_size")
    patch, count = patches(v)
    tiles = v.integer("max_num_tiles", 4, high=1000)
    stated = v.items("supported_aspect_ratios")
    ratios = stated if stated is not None else [[i, j] for i in range(1, tiles + 1) for j in range(1, tiles + 1)
                                                   if i * j <= tiles]  # fmt: skip
    v.ignore("intermediate_layers_indices", "vision_output_dim")
    t = Tower(hidden, n, heads, ffn, bias=False, out_bias=False)
    plain = t.layer(v)
    assert isinstance(plain.mixer, Attention) and isinstance(plain.ffn, Mlp)
    gated = replace(plain, mixer=replace(plain.mixer, extra_parameters=1), ffn=replace(plain.ffn, extra_parameters=1))
    rows = len(ratios) + 1
    tokens = count + 1
    more = hidden + 1 + tokens * hidden + rows * tiles * tokens * hidden + 2 * (1 + rows * tiles * hidden)
    return tower(v, t, name="vision", patch=patch, count=count * tiles, tokens=tokens * tiles, more=more, bias=False,
                 extra_norms=2 * hidden, blocks=[plain] * n + [gated] * extra)  # fmt: skip


def mllama_text(c: Config, *, root: Config | None = None, before: tuple[Stack, ...] = ()) -> Model:
    """The text part: Llama layers, and at ``cross_attention_layers`` gated cross-attention instead of attention."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    own = attention(c, hidden)
    mlp = Mlp(c.integer("intermediate_size"), True)
    at = set(c.indices("cross_attention_layers", high=n - 1)) if c.has("cross_attention_layers") else {
        3, 8, 13, 18, 23, 28, 33, 38}  # fmt: skip
    cross = replace(own, cross=True, causal=False, rotary=False, qk_norm_parameters=2 * own.head_dim,
                    extra_parameters=1)  # fmt: skip
    seeing = layer(None, replace(mlp, extra_parameters=1), "rms", hidden, cross=cross, optional=True)
    plain = layer(own, mlp, "rms", hidden)
    layers: list[Layer] = [seeing if i in at else plain for i in range(n)]
    vocab = c.integer("vocab_size")
    table = Embedding(vocab + 8, hidden)
    return decoder(c, layers, root=root, before=before, embedding=table)
