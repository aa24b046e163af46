"""Image-text models of Qwen's and GLM's kind: towers over patches of two frames, merged two by two; ERNIE, MiniMax.

Structure as built by the classes of Hugging Face transformers 5.24.0.
"""

from __future__ import annotations

from dataclasses import replace

from planner.catalogue.families import llama
from planner.catalogue.families.blocks import attention, layer, layer_count
from planner.catalogue.families.config import MAX_LAYERS, Config
from planner.catalogue.families.decoders import built
from planner.catalogue.families.image_text import bare, behind, dense, language, part, sound, text_size, whisper_tower
from planner.catalogue.families.vision import Tower, basic, square
from planner.catalogue.schema import Mlp, Model, Moe, Stack


def merging(v: Config, *, deep: int = 0, kv: int = 0) -> Stack:
    """Qwen2.5-VL's tower (RMS norms, a gated block) or Qwen3-VL's (``deep`` mergers besides the last)."""
    third = "num_position_embeddings" in v.defaults
    hidden, heads, n = v.integer("hidden_size"), v.integer("num_heads", high=10**6), v.integer("depth", high=MAX_LAYERS)
    t = Tower(hidden, n, heads, v.integer("intermediate_size"), gated=not third, norm="layer" if third else "rms",
              final_norm="none")  # fmt: skip
    merge, frames = v.integer("spatial_merge_size", 2, high=100), v.integer("temporal_patch_size", 2, high=100)
    wide, out = hidden * merge * merge, v.integer("out_hidden_size")
    positions = v.integer("num_position_embeddings") * hidden if third else 0
    v.ignore("window_size", "fullatt_block_indexes", "deepstack_visual_indexes", "tokens_per_second")
    norms = (2 if third else 1) * hidden + deep * 2 * wide
    merger = dense(wide, wide) + dense(wide, out)
    body = bare(v, t, frames=frames, more=positions, bias=third, norms=norms, output=merger * (1 + deep))
    if kv and kv != heads:
        kinds = tuple(replace(k, mixer=replace(k.mixer, kv_heads=kv)) for k in body.kinds)  # type: ignore[type-var]
        body = replace(body, kinds=kinds)
    return body


def _deep(v: Config) -> int:
    return len(v.items("deepstack_visual_indexes") or [])


def merged(c: Config) -> Model:
    """Cosmos 3 Omni (Qwen3-VL), EXAONE 4.5 (grouped heads), HyperCLOVA X Vision 2 (a projection more)."""
    v, name = part(c), c.model_type
    kv = v.integer("num_key_value_heads", high=10**6) if name == "exaone4_5" else 0
    if kv and v.integer("num_heads", high=10**6) % kv:
        raise v.error("num_key_value_heads", f"is {kv}, which does not divide the heads")
    body = merging(v, deep=_deep(v) if name == "cosmos3_omni" else 0, kv=kv)
    out = v.integer("out_hidden_size")
    v.refuse_unread()
    if name == "hyperclovax_vision_v2":
        body = behind(body, dense(out, text_size(c)))
    return language(c, [body])


def omni(c: Config) -> Model:
    """The thinkers of Qwen2.5-Omni and Qwen3-Omni: images, audio, and a text model."""
    v, a = part(c), part(c, "audio_config")
    third = c.model_type.startswith("qwen3")
    images = merging(v, deep=_deep(v) if third else 0)
    v.refuse_unread()
    out = a.integer("output_dim")
    if third:
        audio = convolved(a, (a.integer("d_model"), out))
    else:
        audio = whisper_tower(a, positions=False)
        audio = behind(audio, dense(audio.hidden, out) + 2 * out)
    a.ignore("n_window", "n_window_infer", "conv_chunksize", "max_source_positions", "max_position_embeddings",
             "scale_embedding")  # fmt: skip
    a.refuse_unread()
    c.ignore("audio_config", "position_id_per_seconds", "seconds_per_chunk")
    return language(c, [images, audio], build=_thinker_text if third else None)


def _thinker_text(c: Config) -> Model:
    """Qwen3's experts; a head width that does not divide is rounded down, as the class does."""
    hidden, heads = c.integer("hidden_size"), c.integer("num_attention_heads", high=10**6)
    if not c.has("head_dim") and hidden % heads and hidden > heads:
        c.assume(f"head_dim {hidden // heads} is hidden_size {hidden} / {heads} heads rounded down, as the class does")
        c.values = {**c.values, "head_dim": hidden // heads}
        c.ignore("head_dim")
    return llama.build(c)


def convolved(a: Config, widths: tuple[int, ...]) -> Stack:
    """Qwen3's audio tower: three strided convolutions over time and mels, layers, a projection a width."""
    hidden, channels, mels = a.integer("d_model"), a.integer("downsample_hidden_size"), a.integer("num_mel_bins")
    rows = (((mels + 1) // 2 + 1) // 2 + 1) // 2
    stem = 10 * channels + 2 * (9 * channels * channels + channels) + channels * rows * hidden
    output, before = 0, hidden
    for width in widths:
        output, before = output + dense(before, width), width
    a.ignore("scale_embedding", "n_window", "n_window_infer", "conv_chunksize", "max_source_positions")
    return sound(a, basic(a), stem, output=output)


def glm_vision(c: Config) -> Model:
    """GLM-OCR: q/k norms and biases in the tower, a merger ``in_channels`` times as wide; no stored positions."""
    v = part(c)
    hidden, heads, n = v.integer("hidden_size"), v.integer("num_heads", high=10**6), v.integer("depth", high=MAX_LAYERS)
    bias, out = v.flag("attention_bias"), v.integer("out_hidden_size")
    if hidden % heads:
        raise v.error("num_heads", f"is {heads}, which does not divide hidden_size {hidden}")
    t = Tower(hidden, n, heads, v.integer("intermediate_size"), bias=bias, out_bias=bias, mlp_bias=bias, gated=True,
              norm="rms", final_norm="rms", qk_norm=2 * (hidden // heads))  # fmt: skip
    merge, frames = v.integer("spatial_merge_size", 2, high=100), v.integer("temporal_patch_size", 2, high=100)
    inner = out * v.integer("in_channels", 3, high=1000)
    p = hidden * out * merge * merge + out + out * out + 3 * out * inner
    body = bare(v, t, frames=frames, norms=2 * out, output=p)
    v.ignore("image_size")
    v.refuse_unread()
    return language(c, [body], default="glm_ocr_text")


def minimax_vl(c: Config) -> Model:
    """MiniMax-M3 with images: CLIP's layers over patches of two frames, two layers a patch and two a merged patch."""
    v = part(c)
    t = replace(basic(v), final_norm="none")
    body = bare(v, t, frames=v.integer("temporal_patch_size", 2, high=100), bias=False, norms=2 * t.hidden)
    merge = v.integer("spatial_merge_size", 2, high=100)
    v.ignore("image_size")
    v.refuse_unread()
    text, inner = text_size(c, default="minimax_m3_vl_text"), c.integer("projector_hidden_size")
    p = dense(t.hidden, inner) + dense(text * merge * merge, inner) + 2 * dense(inner, text)
    c.ignore("merged_hidden_size")
    return language(c, [behind(body, p)], default="minimax_m3_vl_text")


def ernie_vl(c: Config) -> Model:
    """ERNIE 4.5 VL: a plain tower, merging in space and time, experts of their own for text and for images."""
    v = part(c)
    hidden, n = v.integer("hidden_size"), v.integer("depth", high=MAX_LAYERS)
    t = Tower(hidden, n, v.integer("num_heads", high=10**6), v.integer("intermediate_size"))
    merge, frames = v.integer("spatial_merge_size", 2, high=100), v.integer("temporal_merge_size", 2, high=100)
    text, wide = text_size(c, default="ernie4_5_vl_moe_text"), hidden * merge * merge
    p = dense(wide, wide) + dense(wide * frames, wide) + 2 * dense(wide, wide) + dense(wide, text)
    body = bare(v, t, patch=square(v, "patch_size"), bias=False)
    v.refuse_unread()
    return language(c, [behind(body, p, norm=4 * wide + text)], default="ernie4_5_vl_moe_text", build=_ernie_text)


def _ernie_text(c: Config) -> Model:
    """Text tokens pass the text experts; those of images are held and don't run."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    widths = [c._bounded("moe_intermediate_size", w, 1, 10**9) for w in c.items("moe_intermediate_size") or [1536, 512]]
    if len(widths) != 2:
        raise c.error("moe_intermediate_size", "must hold two widths: of experts for text and for images")
    count, top_k = c.integer("num_experts", high=10**6), c.integer("num_experts_per_tok", high=10**6)
    if top_k > count:
        raise c.error(c.find("num_experts_per_tok")[0], f"is {top_k}, more than the {count} experts")
    bias = c.flag("use_bias")
    shared = widths[0] * c.integer("n_shared_experts", 0, low=0, high=10**4)
    moe = Moe(count, top_k, widths[0], shared=Mlp(shared, True, bias=bias) if shared else None, router_parameters=count)
    images = Moe(count, top_k, widths[1], router_parameters=count)
    kinds = c.items("mlp_layer_types", length=n)
    routed = [k == "sparse" for k in kinds] if kinds else [i > 0 for i in range(n)]
    a = attention(c, hidden, bias=bias)
    dense_block = Mlp(c.integer("intermediate_size"), True, bias=bias)
    model = built(c, [a] * n, [moe if r else dense_block for r in routed])
    idle = replace(layer(None, images, "none", hidden, norms=0, name="experts for images"), optional=True)
    text = model.text
    kinds_all = (*text.kinds, idle)
    order = tuple(x for o, r in zip(text.order, routed, strict=True) for x in ((o, len(kinds_all) - 1) if r else (o,)))
    return replace(model, stacks=(*model.stacks[:-1], replace(text, kinds=kinds_all, order=order)))
