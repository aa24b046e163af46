"""Image-text models with towers of their own: Florence-2, UDOP, Fuyu, LFM3-VL, Muse Glimmer, Gemma 4 without towers.

Structure as built by the classes of Hugging Face transformers 5.24.0.
"""

from __future__ import annotations

from dataclasses import replace

from planner.catalogue.families import seq2seq
from planner.catalogue.families.blocks import attention, layer, layer_count, layer_types, stack
from planner.catalogue.families.config import Config
from planner.catalogue.families.decoders import built, windowed, with_gate
from planner.catalogue.families.image_text import bare, behind, dense, language, part, text_size
from planner.catalogue.families.vision import Tower, patches, siglip_tower, square
from planner.catalogue.schema import Attention, Layer, Mlp, Model


def florence2(c: Config) -> Model:
    """Florence-2: DaViT (windows and channels attend in turn), rows and columns with tables, BART behind."""
    v = part(c, default="florence_vision")
    widths, depths = (v.items(k) or [] for k in ("embed_dim", "depths"))
    kernels, before = v.items("patch_size") or [], v.integer("in_channels", 3)
    first = v.items("patch_prenorm") or []
    if not widths or len({len(widths), len(depths), len(kernels), len(first)}) != 1:
        raise v.error("embed_dim", "and depths, patch_size, patch_prenorm must list one entry a stage")
    ratio, bias, count = v.number("mlp_ratio", 4.0), v.flag("qkv_bias", True), 0
    for width, depth, kernel, pre in zip(widths, depths, kernels, first, strict=True):
        d, k = v._bounded("embed_dim", width, 1, 10**6), v._bounded("patch_size", kernel, 1, 1000)
        block = (
            20 * d + 4 * d + dense(d, 3 * d, bias) + dense(d, d) + dense(d, int(d * ratio)) + dense(int(d * ratio), d)
        )
        count += before * k * k * d + d + 2 * (before if pre else d) + 2 * v._bounded("depths", depth, 0, 10**5) * block
        before = d
    out = v.integer("projection_dim")
    p = before * out + v.integer("max_position_embeddings", 50) * before
    v.ignore("num_heads", "num_groups", "patch_stride", "patch_padding", "window_size", "max_temporal_embeddings")
    v.refuse_unread()
    body = stack(
        "vision",
        "tower",
        before,
        [],
        final_norm="none",
        tokens=1,
        input_parameters=count,
        output_parameters=p,
        output_group="other",
        optional=True,
        extra_norm_parameters=2 * out,
    )
    text = part(c, "text_config", "bart")
    model = language(c, [body], default="bart", tie=text.flag("tie_word_embeddings", True))
    assert model.head is not None  # the whole says whether it shares the table, the text whether encoder and decoder do
    return replace(model, head=replace(model.head, tied=c.flag("tie_word_embeddings", True)))


def udop(c: Config) -> Model:
    """UDOP: T5 whose encoder also reads patches and where on the page a token stands."""
    c.ignore("is_gated_act", "image_size", "max_2d_position_embeddings", "relative_bias_args", "is_decoder")
    if c.get("relative_bias_args") not in (None, [{"type": "1d"}, {"type": "horizontal"}, {"type": "vertical"}]):
        raise c.error("relative_bias_args", "differs from 1d, horizontal, vertical; not supported")
    model = seq2seq.t5(c)
    hidden = model.hidden
    patch, _ = patches(c, default=224)
    embed = c.integer("num_channels", 3) * patch * patch * hidden + hidden
    if c.integer("relative_attention_num_buckets", 32) != 32:
        raise c.error("relative_attention_num_buckets", "is not 32; not supported")
    buckets = 2 * 32 * c.integer("num_heads", high=10**6)
    rows = 2 * c.integer("max_2d_position_embeddings", 1024) * hidden
    first, second = model.stacks
    first = replace(first, input_parameters=embed + rows + buckets, input_group="other")
    return replace(model, stacks=(first, replace(second, input_parameters=embed + buckets, input_group="other")))


def fuyu(c: Config) -> Model:
    """Fuyu: patches are projected straight into the text's tokens."""
    text = text_size(c, default="persimmon")
    patch = square(c, "patch_size")
    c.ignore("image_size")
    return language(c, [], default="persimmon", other=dense(patch * patch * c.integer("num_channels", 3), text))


def lfm3_vl(c: Config) -> Model:
    """LFM3-VL: a tower of convolutions in two dimensions and attention, patches of two frames merged two by two."""
    v = part(c, default="lfm3_vl_vision")
    hidden, n = v.integer("hidden_size"), layer_count(v)
    heads, kv = v.integer("num_attention_heads", high=10**6), v.integer("num_key_value_heads", high=10**6)
    if hidden % heads or heads % kv:
        raise v.error(
            "num_attention_heads", f"is {heads}: it must divide hidden_size {hidden} and be a multiple of {kv}"
        )
    kinds = v.items("layer_types", length=n) or ["conv" if i < 2 or i % 2 else "full_attention" for i in range(n)]
    if not set(kinds) <= {"conv", "full_attention"}:
        raise v.error("layer_types", "may hold conv and full_attention only")
    kernel, mlp = v.integer("conv_kernel_size", 3, high=1024), Mlp(v.integer("intermediate_size"), True)
    a = Attention(heads, kv, hidden // heads, causal=False, qk_norm_parameters=2 * (hidden // heads))
    of: dict[str, Layer] = {
        "full_attention": layer(a, mlp, "rms", hidden),
        "conv": layer(None, mlp, "rms", hidden, name="convolution + mlp", extra_parameters=hidden * kernel * kernel,
                      projections=(("conv.in", hidden, 3 * hidden), ("conv.out", hidden, hidden))),
    }  # fmt: skip
    patch, frames = square(v, "patch_size"), v.integer("temporal_patch_size", 2, high=100)
    seen = v.integer("in_channels", 3) * patch * patch * frames
    wide = hidden * v.integer("spatial_merge_size", 2, high=100) ** 2
    v.refuse_unread()
    inner, bias, text = c.integer("projector_hidden_size"), c.flag("projector_bias", True), text_size(c, default="lfm3")
    body = stack("vision", "tower", hidden, [of[k] for k in kinds], tokens=1, optional=True, output_group="other",
                 input_matmuls=(("vision.patches", seen, hidden, 1.0),), extra_norm_parameters=2 * hidden,
                 output_parameters=dense(wide, inner, bias) + dense(inner, text, bias))  # fmt: skip
    return language(c, [body], default="lfm3")


def gemma4_unified(c: Config) -> Model:
    """Gemma 4 in one model: its text, where neither images nor audio are configured."""
    for key in ("vision_config", "audio_config"):
        if c.values.get(key) is not None:
            raise c.error(key, "is stated; the embedders of images and audio are not supported")
    return language(c, [], default="gemma4_unified_text")


def muse_glimmer(c: Config) -> Model:
    """Muse Glimmer: a plain tower over patches of two frames, an adapter, gated attention with four norms a layer."""
    v = part(c, default="muse_glimmer_vision")
    t = Tower(v.integer("hidden_size"), layer_count(v), v.integer("num_attention_heads", high=10**6),
              v.integer("intermediate_size"))  # fmt: skip
    rows = v.integer("pos_emb_height", 32, high=10**5) * v.integer("pos_emb_width", 32, high=10**5)
    frames = v.integer("patch_temporal", 2, high=100)
    body = bare(v, t, frames=frames, more=rows * t.hidden, bias=False, norms=2 * t.hidden)
    wide = t.hidden * v.integer("merge_size", 2, high=100) ** 2
    v.ignore("max_position_embeddings", "layer_types")
    v.refuse_unread()
    if c.integer("out_hidden_size", wide) != wide:
        raise c.error("out_hidden_size", f"is not the {wide} values of a merged patch; not supported")
    inner, text = c.integer("projector_hidden_size"), text_size(c, default="muse_glimmer_text")
    p = wide * inner + inner * inner + inner * text
    return language(c, [behind(body, p)], default="muse_glimmer_text", build=_muse_text)


def _muse_text(c: Config) -> Model:
    hidden, n = c.integer("hidden_size"), layer_count(c)
    kinds = layer_types(c, n, ["full_attention" if (i + 1) % 4 == 0 else "sliding_attention" for i in range(n)])
    a = with_gate(attention(c, hidden, bias=c.flag("attention_bias")))
    c.ignore("layer_rope_theta", "qk_scale_factor", "post_norm_eps")
    mlp = Mlp(c.integer("intermediate_size"), True, bias=c.flag("mlp_bias"))
    return built(c, windowed(c, a, kinds), [mlp] * n, norms=4)


def shieldgemma2(c: Config) -> Model:
    """ShieldGemma 2: Gemma 3 under another name."""
    v = part(c, default="siglip_vision_model")
    body, text = siglip_tower(v), text_size(c, default="gemma3_text")
    v.refuse_unread()
    c.ignore("mm_tokens_per_image")
    return language(c, [behind(body, body.hidden * text, norm=body.hidden)], default="gemma3_text")
