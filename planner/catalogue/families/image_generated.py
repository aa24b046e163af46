"""Image-text models with an image tokenizer or several paths to the text: Janus, Chameleon, Granite Docling.

Structure as built by the classes of Hugging Face transformers 5.24.0.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from planner.catalogue.families.blocks import attention, decoder, layer, layer_count
from planner.catalogue.families.config import Config
from planner.catalogue.families.image_text import bare, behind, dense, language, part, text_size
from planner.catalogue.families.vision import Tower, patches, siglip_tower, square, tower
from planner.catalogue.schema import Mlp, Model


def _residual(k: int, n: int) -> int:
    """Two convolutions of 3 x 3 with norms, and one of 1 x 1 beside them where the width changes."""
    return 2 * k + dense(9 * k, n) + 2 * n + dense(9 * n, n) + (dense(k, n) if k != n else 0)


def vqgan(q: Config) -> int:
    """Parameters of a VQ-GAN: encoder and decoder with attention at the narrowest level, a table of codes."""
    base, latent, blocks = (
        q.integer("base_channels"),
        q.integer("latent_channels"),
        q.integer("num_res_blocks", high=100),
    )
    factors = [q._bounded("channel_multiplier", m, 1, 1000) for m in q.items("channel_multiplier") or []]
    if not factors:
        raise q.error("channel_multiplier", "is empty; one factor a level is due")
    widths, channels = [base * m for m in factors], q.integer("in_channels", 3)
    last, see = widths[-1], 2 * widths[-1] + 4 * dense(widths[-1], widths[-1])
    middle = 2 * _residual(last, last) + see
    down = (
        dense(9 * channels, base) + middle + 2 * last + dense(9 * last, latent * (2 if q.flag("double_latent") else 1))
    )
    up = dense(9 * latent, last) + middle + 2 * widths[0] + dense(9 * widths[0], q.integer("out_channels", 3))
    before = base
    for i, width in enumerate(widths):
        down += _residual(before, width) + (blocks - 1) * _residual(width, width)
        down += blocks * see if i == len(widths) - 1 else dense(9 * width, width)
        before = width
    for i, width in reversed(list(enumerate(widths))):
        above = widths[min(i + 1, len(widths) - 1)]
        up += _residual(above, width) + blocks * _residual(width, width)
        up += (blocks + 1) * see if i == len(widths) - 1 else 0
        up += dense(9 * width, width) if i else 0
    codes, wide = q.integer("num_embeddings"), q.integer("embed_dim")
    return down + up + codes * wide + dense(latent, wide) + dense(wide, latent)


def janus(c: Config) -> Model:
    """Janus: SigLIP to read images, a VQ-GAN with an aligner and a head of codes to make them."""
    v, q = part(c), part(c, "vq_config", "janus_vqgan")
    depth = v.values.get("depth", v.defaults.get("depth", 2))
    depth = v._bounded("depth", depth, 1, 1000)
    v.values = {k: x for k, x in v.values.items() if k != "depth"}
    hidden, heads, bias = (
        v.integer("hidden_size"),
        v.integer("num_attention_heads", high=10**6),
        v.flag("attention_bias", True),
    )
    if v.flag("use_qk_norm"):
        raise v.error("use_qk_norm", "is true; not supported")
    t = Tower(
        hidden, v.integer("num_hidden_layers", high=10**5), heads, int(hidden * v.number("mlp_ratio", 4.0)), bias=bias
    )
    patch, count = patches(v)
    body = tower(v, t, name="vision", patch=patch, count=count, tokens=count, more=count * hidden)
    wide = v.integer("projection_dim", 2048)
    v.ignore("num_image_tokens")
    v.refuse_unread()
    aligner = dense(hidden, wide) + (depth - 1) * dense(wide, wide)
    codes, seen, out = q.integer("num_embeddings"), q.integer("embed_dim"), q.integer("projection_dim", 2048)
    n = q.integer("num_hidden_layers", 2, high=1000)
    made = vqgan(q) + codes * seen + dense(seen, out) + (n - 1) * dense(out, out)
    made += dense(q.integer("image_token_embed_dim", 2048), out) + dense(out, codes)
    q.ignore("num_patches")
    q.refuse_unread()
    c.ignore("vq_config")
    return language(c, [behind(body, aligner)], other=made)


def granite_docling(c: Config) -> Model:
    """Granite Docling: SigLIP layers, a coarse and a fine path to the text with features of other layers."""
    v = part(c)
    body = siglip_tower(v, head=False)
    h, out, factor = body.hidden, v.integer("out_hidden_size"), v.integer("scale_factor", 4, high=100)
    listed = v.items("deepstack_visual_indexes")
    deep = 3 if listed is None else len(listed)
    p, norms = out * out, 2 * h + 4 * out
    for scale in (factor, factor // 2) if v.flag("use_fine_route", True) else (factor,):
        wide = h * scale * scale
        p += wide * out + deep * (dense(wide, out) + dense(out, out))
        norms += deep * 2 * wide
    v.refuse_unread()
    if c.optional("density_router_hidden_size") is not None:
        raise c.error("density_router_hidden_size", "is stated; the density router is not supported")
    return language(c, [behind(body, p, norm=norms)], default="granite_docling_text")


def nemotron_omni(c: Config) -> Model:
    """Nemotron Nano Omni: RADIO, pixels shuffled, a norm and two layers; a hybrid text model."""
    if c.values.get("audio_config") is not None:
        raise c.error("audio_config", "is stated; the audio tower is not supported")
    v = part(c, default="radio")
    if v.flag("use_swiglu_ffn"):
        raise v.error("use_swiglu_ffn", "is true; not supported")
    hidden, patch = v.integer("hidden_size"), square(v, "patch_size")
    t = Tower(
        hidden,
        layer_count(v),
        v.integer("num_attention_heads", high=10**6),
        int(hidden * v.number("mlp_ratio", 4.0)),
        bias=v.flag("qkv_bias", True),
        scale=2 * hidden,
        final_norm="none",
    )
    side, seen = v.integer("max_img_size", 2048) // patch, v.integer("num_channels", 3) * patch * patch
    frames = v.optional("video_temporal_patch_size", low=0) or (2 if c.values.get("vision_config") is None else 0)
    more = side * side + v.integer("num_cls_tokens", 3, low=0) + v.integer("num_registers", 7, low=0) + frames * seen
    body = bare(v, t, patch=patch, more=more * hidden, bias=False)
    v.ignore("image_size", "patch_dim", "video_patch_dim", "summary_idxs", "norm_mean", "norm_std", "drop_path_rate",
             "layerscale_value")  # fmt: skip
    v.refuse_unread()
    ratio = c.number("downsample_ratio", 0.5)
    wide = c.integer("vision_hidden_size") * int(1 / ratio) ** 2 if ratio > 0 else 0
    inner, text = c.integer("projector_hidden_size"), text_size(c, default="nemotron_h")
    c.ignore("audio_config", "force_image_size", "video_pruning_rate", "video_temporal_patch_size")
    if c.integer("vision_hidden_size") != hidden:
        raise c.error("vision_hidden_size", f"differs from the tower's {hidden}; not supported")
    model = language(c, [behind(body, wide * inner + inner * text, norm=wide)], default="nemotron_h", tie=False)
    if model.mtp_layers:
        model = replace(model, other_parameters=model.other_parameters + 2 * hidden)
    return model


def chameleon(c: Config) -> Model:
    """Chameleon: images as tokens of one vocabulary, q/k norms with a weight and a bias each head and dimension."""
    hidden, n, q = c.integer("hidden_size"), layer_count(c), part(c, "vq_config", "chameleon_vqgan")
    base, latent, blocks = q.integer("base_channels"), q.integer("latent_channels"), q.integer("num_res_blocks")
    factors = [q._bounded("channel_multiplier", m, 1, 1000) for m in q.items("channel_multiplier") or []]
    if not factors or base % 32:
        raise q.error("base_channels", f"is {base}, no multiple of 32, or channel_multiplier is empty")
    if q.values.get("attn_resolutions") is not None or q.values.get("attn_type", "vanilla") != "vanilla":
        raise q.error("attn_resolutions", "or another attn_type is stated; not supported")
    widths = [base, *(base * m for m in factors)]
    last, codes, wide = widths[-1], q.integer("num_embeddings"), q.integer("embed_dim")
    made = dense(9 * q.integer("in_channels", 3), base) + dense(9 * last, latent * (1 + q.flag("double_latent")))
    for i, (before, width) in enumerate(pairwise(widths)):
        made += _residual(before, width) + (blocks - 1) * _residual(width, width)
        made += dense(9 * width, width) if i < len(factors) - 1 else 0
    made += 2 * _residual(last, last) + 2 * last + 4 * dense(last, last) + 2 * last
    made += codes * wide + dense(latent, wide) + dense(wide, latent)
    q.ignore("resolution")
    q.refuse_unread()
    a = attention(c, hidden, bias=c.flag("attention_bias"), explicit_head_dim=False)
    a = replace(a, qk_norm_parameters=2 * (a.heads + a.kv_heads) * a.head_dim)
    mlp = Mlp(c.integer("intermediate_size"), True, bias=c.flag("mlp_bias"))
    c.ignore("vq_config", "vocabulary_map", "swin_norm", "model_parallel_size")
    return decoder(c, [layer(a, mlp, "rms", hidden)] * n, other_parameters=made)
