"""Image-text models of a CLIP, SigLIP or Pixtral tower, a projector, and a text model.

Structure as built by the classes of Hugging Face transformers 5.24.0; each builder names its projector.
"""

from __future__ import annotations

from dataclasses import replace

from planner.catalogue.families.blocks import layer_count
from planner.catalogue.families.config import Config
from planner.catalogue.families.image_text import bare, behind, dense, language, part, siglip2, text_size
from planner.catalogue.families.llama import RECIPES, build
from planner.catalogue.families.multimodal import pixtral_tower
from planner.catalogue.families.vision import Tower, basic, clip_tower, patches, siglip_tower
from planner.catalogue.schema import Embedding, Head, Model, Stack


def _siglip(c: Config, *, head: bool | None = None, default: str = "siglip_vision_model") -> Stack:
    v = part(c, default=default)
    body = siglip_tower(v, head=head)
    v.refuse_unread()
    return body


def cohere_vision(c: Config) -> Model:
    """Aya Vision and Command A Vision: SigLIP, pixels shuffled, a gated layer (Aya: behind a norm), a projection."""
    body, text = _siglip(c), text_size(c, default="cohere2")
    aya = c.model_type == "aya_vision"
    wide = body.hidden * c.integer("downsample_factor", 2, high=100) ** 2
    inner = c.optional("alignment_intermediate_size") or text
    c.ignore("vision_feature_layer", "vision_feature_select_strategy")
    p = dense(wide, inner) + dense(inner // 2, text)
    return language(c, [behind(body, p, norm=2 * wide * aya)], default="cohere2")


def deepseek_vl(c: Config) -> Model:
    """DeepSeek-VL: SigLIP and two layers."""
    body, text = _siglip(c), text_size(c)
    return language(c, [behind(body, dense(body.hidden, text) + dense(text, text))])


def lfm2_vl(c: Config) -> Model:
    """LFM2-VL: SigLIP 2, pixels unshuffled, a norm and two layers."""
    v = part(c, default="siglip2_vision_model")
    body, text = siglip2(v), text_size(c, default="lfm2")
    v.refuse_unread()
    wide = body.hidden * c.integer("downsample_factor", 2, high=100) ** 2
    inner, bias = c.integer("projector_hidden_size"), c.flag("projector_bias", True)
    norm = 2 * wide if c.flag("projector_use_layernorm", True) else 0
    return language(c, [behind(body, dense(wide, inner, bias) + dense(inner, text, bias), norm=norm)], default="lfm2")


def cosmos_edge(c: Config) -> Model:
    """Cosmos 3 Edge: SigLIP 2, a norm, patches merged by two layers; a plain text model with squared ReLU."""
    v = part(c, default="cosmos3_edge_vision")
    body, text = siglip2(v), text_size(c)
    merge, inner = v.integer("spatial_merge_size", 2, high=100), c.integer("projector_hidden_size")
    v.refuse_unread()
    wide = body.hidden * merge * merge
    p = dense(wide, inner) + dense(inner, text)
    return language(c, [behind(body, p, norm=2 * body.hidden)], default="cosmos3_edge_text", tie=False,
                    build=_relu2_text)  # fmt: skip


def _relu2_text(c: Config) -> Model:
    recipe = replace(RECIPES["llama"], gated=False, mlp_bias="mlp_bias", activation="relu2")
    return build(c, recipe=recipe)


def lighton_ocr(c: Config) -> Model:
    """LightOnOCR: Pixtral, a norm, patches merged, two layers without biases."""
    v = part(c, default="pixtral")
    body, text = pixtral_tower(v), text_size(c, default="qwen3")
    v.refuse_unread()
    merge = c.integer("spatial_merge_size", 2, high=100)
    p = (
        dense(body.hidden * merge * merge, body.hidden, False)
        + dense(body.hidden, text, False)
        + dense(text, text, False)
    )
    return language(c, [behind(body, p, norm=body.hidden)], default="qwen3")


def llava_video(c: Config) -> Model:
    """LLaVA-NeXT-Video, VipLLaVA, Video-LLaVA: CLIP (one for images and one for video), two layers."""
    v = part(c, default="clip_vision_model", allowed=("clip_vision_model", "siglip_vision_model"))
    body = clip_tower(v) if v.model_type == "clip_vision_model" else siglip_tower(v)
    v.refuse_unread()
    text, name = text_size(c), c.model_type
    layers = c.get("vision_feature_layer", -2)
    wide = body.hidden * (len(layers) if isinstance(layers, list | tuple) else 1)
    bias = name == "vipllava" or c.flag("multimodal_projector_bias", True)
    p = dense(wide, text, bias) + dense(text, text, bias)
    first = behind(body, p, norm=2 * wide if name == "vipllava" else 0)
    c.ignore("image_seq_length", "video_seq_length", "image_grid_pinpoints", "vision_feature_select_strategy",
             "spatial_pool_mode", "spatial_pool_stride", "vision_feature_layer")  # fmt: skip
    towers = [first, replace(body, name="video")] if name == "video_llava" else [first]
    return language(c, towers, other=text if name == "llava_next_video" else 0)


def video_llama_3(c: Config) -> Model:
    """VideoLLaMA 3: SigLIP layers with rotary positions, two layers."""
    v = part(c, default="video_llama_3_vision")
    body, text = bare(v, basic(v)), text_size(c, default="qwen2")
    v.refuse_unread()
    return language(c, [behind(body, dense(body.hidden, text) + dense(text, text))], default="qwen2")


def paddleocr_vl(c: Config) -> Model:
    """PaddleOCR-VL: SigLIP layers, a norm, patches merged by two layers."""
    v = part(c, default="paddleocr_vl_vision")
    body, text = siglip_tower(v, head=False), text_size(c, default="paddleocr_vl_text")
    wide = body.hidden * v.integer("spatial_merge_size", 2, high=100) ** 2
    v.refuse_unread()
    p = dense(wide, wide) + dense(wide, text)
    return language(c, [behind(body, p, norm=2 * body.hidden)], default="paddleocr_vl_text")


def minicpm(c: Config) -> Model:
    """MiniCPM-V 4.6 and 4.7, MiniCPM-OCR: SigLIP layers, windows merged inside the tower, patches merged behind it."""
    v = part(c, default=f"{c.model_type}_vision")
    body, text = siglip_tower(v, head=False), text_size(c, default="qwen3_5_text")
    h = body.hidden
    window = v.items("window_kernel_size") or [2, 2]
    wide = (
        h * v._bounded("window_kernel_size", window[0], 1, 100) * v._bounded("window_kernel_size", window[-1], 1, 100)
    )
    inner = v.integer("intermediate_size") * wide // h
    v.ignore("insert_layer_id", "window_hidden_size", "window_intermediate_size")
    v.refuse_unread()
    inside = 4 * dense(h, h) + dense(wide, inner) + dense(inner, h)
    times = c.integer("merger_times", 1, high=100)
    last = dense(4 * h, 4 * h) + dense(4 * h, text)
    rest = (times - 1) * (dense(4 * h, 4 * h) + dense(4 * h, h))
    c.ignore(
        "insert_layer_id", "image_size", "patch_size", "merge_kernel_size", "downsample_mode", "drop_vision_last_layer"
    )
    norms = 2 * h + 2 * wide + times * 8 * h
    return language(c, [behind(body, inside + last + rest, norm=norms)], default="qwen3_5_text")


def idefics2(c: Config) -> Model:
    """Idefics2: SigLIP, a gated projection, latents that attend to the patches."""
    body = _siglip(c, head=False, default="idefics2_vision")
    p = part(c, "perceiver_config", "idefics2_perceiver")
    text, inner = text_size(c, default="mistral"), text_size(c, "intermediate_size", default="mistral")
    wide, depth = text, p.integer("resampler_depth", 3, high=1000)
    heads, kv = p.integer("resampler_n_heads"), p.integer("num_key_value_heads")
    q, k = heads * p.integer("resampler_head_dim"), kv * p.integer("resampler_head_dim")
    latents = p.integer("resampler_n_latents")
    p.ignore("hidden_size")  # the class sets it to the width of the text
    p.refuse_unread()
    each = 2 * wide * q + 2 * wide * k + 12 * wide * wide
    count = 2 * body.hidden * inner + inner * text + latents * wide + depth * each
    c.ignore("perceiver_config")
    return language(c, [behind(body, count, norm=(3 * depth + 1) * wide)], default="mistral")


def aria(c: Config) -> Model:
    """Aria: SigLIP, learned queries that attend to the patches, two layers."""
    body, text = _siglip(c, head=False, default="idefics3_vision"), text_size(c, default="aria_text")
    h, stated = body.hidden, c.get("projector_patch_to_query_dict")
    if stated is not None and (not isinstance(stated, dict) or not stated):
        raise c.error("projector_patch_to_query_dict", f"is {stated!r:.40}; a mapping of patches to queries is due")
    sizes = (stated or {"": 256}).values()
    most = max(c._bounded("projector_patch_to_query_dict", v, 1, 10**6) for v in sizes)
    queries = c.integer("max_value_projector_patch_to_query_dict", most, low=0, high=10**6)
    p = queries * h + dense(h, 3 * h, False) + dense(h, 3 * h) + 2 * dense(h, h) + dense(h, text, False) + text * text
    c.ignore("vision_feature_layer")
    return language(c, [behind(body, p, norm=6 * h)], default="aria_text")


def ovis2(c: Config) -> Model:
    """Ovis2: a tower that names visual words, and a table of them."""
    v = part(c, default="ovis2_vision")
    t = replace(basic(v, bias=v.flag("qkv_bias")), out_bias=v.flag("qkv_bias"), mlp_bias=v.flag("mlp_bias"), gated=True,
                norm="rms", final_norm="rms")  # fmt: skip
    _, count = patches(v)
    stride, words = v.integer("hidden_stride", 1, high=100), v.integer("vocab_size")
    named = words - v.integer("num_visual_indicator_tokens", 5, low=0)
    if named < 1:
        raise v.error("vocab_size", f"is {words}, not above the indicator tokens")
    body = bare(v, t, more=count * t.hidden, norms=t.hidden + 2 * named, output=t.hidden * stride * stride * named)
    v.refuse_unread()
    c.ignore("vocab_size", "hidden_size")
    text = text_size(c, default="qwen2")
    width = c.integer("hidden_size", text)
    tie = c.flag("tie_word_embeddings", True)
    model = language(c, [body], default="qwen2", other=words * width)
    if not tie:
        raise c.error("tie_word_embeddings", "is false; not supported")
    return model


def molmo2(c: Config) -> Model:
    """Molmo 2: a tower of which two layers are read, attention that pools patches, a gated projection."""
    v, a = part(c, default="molmo2_vision"), part(c, "adapter_config", "molmo2_adapter")
    heads, width = v.integer("num_attention_heads", high=10**6), v.integer("head_dim")
    if v.integer("num_key_value_heads", heads) != heads:
        raise v.error("num_key_value_heads", "differs from num_attention_heads; not supported")
    bias = v.flag("attention_bias", True)
    t = Tower(v.integer("hidden_size"), layer_count(v), heads, v.integer("intermediate_size"), bias=bias, out_bias=bias,
              head_dim=width, final_norm="none")  # fmt: skip
    side = v.get("image_size") or [378, 378]
    side = side if isinstance(side, list | tuple) else [side, side]
    patch = v.integer("patch_size")
    count = v.optional("num_position_embeddings") or (side[0] // patch) * (side[-1] // patch)
    body = bare(v, t, more=count * t.hidden)
    v.refuse_unread()
    h, inner, text = a.integer("hidden_size"), a.integer("intermediate_size"), a.integer("text_hidden_size")
    q, kv = (a.integer(k) * a.integer("head_dim") for k in ("num_attention_heads", "num_key_value_heads"))
    layers = a.items("vision_feature_layer") or [-3, -9]
    wide, biased = h * len(layers), a.flag("attention_bias", True)
    mlp = a.flag("mlp_bias")
    p = dense(wide, q + 2 * kv, biased) + dense(q, h, biased) + 2 * dense(h, inner, mlp) + inner * text
    a.refuse_unread()
    c.ignore("adapter_config")
    return language(c, [behind(body, p)], default="molmo2_text", build=_molmo2_text)


def _molmo2_text(c: Config) -> Model:
    """Qwen3's layers; the table has ``additional_vocab_size`` rows more than the head."""
    hidden, vocab = c.integer("hidden_size"), c.integer("vocab_size")
    if c.text("qk_norm_type", "qwen3") != "qwen3" or not c.flag("use_qk_norm", True) or c.flag("norm_after"):
        raise c.error("qk_norm_type", "or use_qk_norm, norm_after: only Qwen3's norms are supported")
    if c.flag("tie_word_embeddings"):
        raise c.error("tie_word_embeddings", "is true; the head and the table differ in rows")
    recipe = replace(RECIPES["qwen3"], bias="qkv_bias", out_bias=False, windows="none")
    c.ignore("rope_scaling_layers")
    table = Embedding(vocab + c.integer("additional_vocab_size", 128, low=0), hidden)
    return build(c, recipe=recipe, embedding=table, head=Head(vocab, False))
