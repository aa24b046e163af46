"""Vision-language models: a tower and a projector before a text model.

The tower and projector count in the parameters; FLOPs are those of the text path. Structure as built by the classes of
Hugging Face transformers 5.23.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from planner.catalogue.families import hybrid, latent, llama
from planner.catalogue.families.blocks import (
    layer_count,
)
from planner.catalogue.families.config import Config
from planner.catalogue.families.vision import Tower, basic, clip_tower, patches, siglip_tower, tower
from planner.catalogue.schema import Model, Stack

TextAdapter = Callable[..., Model]
TEXT: dict[str, TextAdapter] = {
    **dict.fromkeys(llama.RECIPES, llama.build),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "kimi_k2", "mistral4"), latent.build),
    **dict.fromkeys(("qwen3_5_text", "qwen3_5_moe_text", "qwen3_next"), hybrid.qwen3_next),
}
# Text types of vision-language models that are built like a plain type.
PLAIN = {
    "qwen2_vl_text": "qwen2", "qwen2_5_vl_text": "qwen2", "qwen3_vl_text": "qwen3", "qwen3_vl_moe_text": "qwen3_moe",
    "glm4v_text": "glm4", "glm4v_moe_text": "glm4_moe", "kimi_k2": "deepseek_v3",
}  # fmt: skip


def text_model(root: Config, default: str, before: Stack, **more: Any) -> Model:
    """The text part, with the tower before it; keys may also stand at the root, as old configs have them."""
    section = root.values.get("text_config")
    if section is None and default in ("qwen2_vl_text", "qwen2_5_vl_text"):
        values: Mapping[str, Any] = {k: v for k, v in root.values.items() if k not in ("vision_config", "model_type")}
        root.read.update(values)
        text = Config(values, where=root.where, model_type=default, assumed=root.assumed)
    else:
        found = root.section("text_config", default, allowed=(*TEXT, *PLAIN))
        assert found is not None
        text = found
    plain = PLAIN.get(text.model_type, text.model_type)
    if text.model_type == "glm4v_text":
        text.values = {**text.values, "attention_bias": True}
    if plain not in TEXT:
        raise text.error("model_type", f"{plain!r} is not supported as the text part")
    text.model_type = plain
    root.ignore("vocab_size", "hidden_size", "num_attention_heads", "num_hidden_layers", "image_seq_len")
    text.ignore("model_type", "architectures", "auto_map", "tie_word_embeddings")
    model = TEXT[plain](text, root=root, before=(before,), **more)
    return replace(model, family=root.model_type)


@dataclass(frozen=True)
class Projector:
    """Parameters between tower and text by group, added to the tower's output."""

    parameters: int
    norm: int = 0


def with_projector(body: Stack, p: Projector, group: str = "other") -> Stack:
    """The tower with a projector behind it."""
    return replace(body, output_parameters=body.output_parameters + p.parameters, output_group=group,
                   extra_norm_parameters=body.extra_norm_parameters + p.norm)  # fmt: skip


def text_width(root: Config, default: str) -> int:
    """Width of the text part."""
    section = root.section("text_config", default, allowed=(*TEXT, *PLAIN))
    assert section is not None
    if root.values.get("text_config") is None and root.has("hidden_size"):
        return root.integer("hidden_size")
    return section.integer("hidden_size")


def vision_section(root: Config, default: str, *, allowed: tuple[str, ...] = ()) -> Config:
    """The vision section; its ``model_type`` counts only where the family allows several."""
    section = root.section("vision_config", default, allowed=allowed)
    assert section is not None
    if root.values.get("vision_config") is None:
        root.assume(f"vision_config is missing: the tower is the default of {root.class_name}")
    section.ignore("model_type", "architectures", "auto_map", "torch_dtype", "dtype", "vocab_size", "projection_dim",
                   "head_dim" if "head_dim" not in section.defaults else "model_type")  # fmt: skip
    return section


def gemma3(c: Config) -> Model:
    """Gemma 3: SigLIP, a norm and a projection; PaliGemma: a projection with bias."""
    pali = c.model_type == "paligemma"
    text_type = "gemma" if pali else "gemma3_text"
    v = vision_section(c, "siglip_vision_model")
    body = siglip_tower(v)
    c.ignore("mm_tokens_per_image", "projection_dim", "hidden_size", "vocab_size", "ignore_index")
    wide = text_width(c, text_type)
    if pali:
        wide = c.integer("projection_dim", 2048)
        return text_model(c, text_type, with_projector(body, Projector(body.hidden * wide + wide)))
    return text_model(c, text_type, with_projector(body, Projector(body.hidden * wide, body.hidden)))


def llava(c: Config) -> Model:
    """LLaVA: CLIP (or SigLIP) and a two-layer projector before any text model."""
    v = vision_section(c, "clip_vision_model", allowed=("clip_vision_model", "siglip_vision_model", "pixtral"))
    if c.model_type == "llava_onevision" and not isinstance(c.values.get("vision_config"), Mapping):
        v = vision_section(c, "siglip_vision_model")
    towers: dict[str, Callable[[Config], Stack]] = {
        "clip_vision_model": clip_tower,
        "siglip_vision_model": siglip_tower,
        "pixtral": pixtral_tower,
    }
    body = towers[v.model_type](v)
    hidden = text_width(c, "qwen2" if c.model_type == "llava_onevision" else "llama")
    bias = c.flag("multimodal_projector_bias", True)
    layers = c.get("vision_feature_layer", -2)
    factor = len(layers) if isinstance(layers, list | tuple) else 1
    p = factor * body.hidden * hidden + hidden * hidden + 2 * hidden * bias
    newline = hidden if c.model_type != "llava" else 0
    c.ignore(
        "image_seq_length",
        "image_grid_pinpoints",
        "vision_feature_select_strategy",
        "hidden_size",
        "mm_hidden_size",
    )
    model = text_model(c, "qwen2" if c.model_type == "llava_onevision" else "llama", with_projector(body, Projector(p)))
    return replace(model, other_parameters=newline)


def pixtral_tower(v: Config) -> Stack:
    """Pixtral's image encoder: rotary in two dimensions, RMS norms, gated MLP, no biases."""
    hidden = v.integer("hidden_size")
    heads = v.integer("num_attention_heads", high=10**6)
    t = Tower(hidden, layer_count(v), heads, v.integer("intermediate_size"), bias=False, out_bias=False, mlp_bias=False,
              gated=True, norm="rms", final_norm="none")  # fmt: skip
    patch, count = patches(v)
    v.ignore("head_dim", "spatial_merge_size", "image_token_id", "max_image_size", "adapter_bias",
             "add_pre_mm_projector_layer_norm", "mm_projector_id")  # fmt: skip
    return tower(v, t, name="vision", patch=patch, count=count, tokens=count, more=0, bias=False, extra_norms=hidden)


def mistral3(c: Config) -> Model:
    """Mistral Small 3.1: Pixtral's tower, a norm, a 2 x 2 patch merger, two projections."""
    v = vision_section(c, "pixtral")
    body = pixtral_tower(v)
    hidden = text_width(c, "mistral")
    merge = c.integer("spatial_merge_size", 2, high=100)
    bias = c.flag("multimodal_projector_bias")
    p = body.hidden * body.hidden * merge * merge + body.hidden * hidden + hidden * hidden + 2 * hidden * bias
    c.ignore("vision_feature_layer")
    return text_model(c, "mistral", with_projector(body, Projector(p, body.hidden)))


def idefics3(c: Config) -> Model:
    """Idefics3 and SmolVLM: a SigLIP body, pixel shuffle, one projection."""
    kind = f"{c.model_type}_vision"
    v = vision_section(c, kind)
    body = siglip_tower(v, head=False)
    factor = c.integer("scale_factor", 2, high=100)
    hidden = text_width(c, "llama")
    v.ignore("max_image_size", "size", "use_base_siglip")
    c.ignore("use_cache", "image_seq_len", "vision_use_base")
    return text_model(c, "llama", with_projector(body, Projector(body.hidden * factor * factor * hidden)))


def internvl(c: Config) -> Model:
    """InternVL: an InternViT tower with learned layer scales, pixel shuffle, a norm and two projections."""
    v = vision_section(c, "internvl_vision")
    t = replace(basic(v, bias=v.flag("attention_bias")), out_bias=True)
    qk = 2 * t.hidden if v.flag("use_qk_norm") else 0
    rms = v.text("norm_type", "layer_norm") == "rms_norm"
    pooled = v.flag("use_mean_pooling", True)
    t = replace(t, qk_norm=qk, norm="rms" if rms else "layer", scale=2 * t.hidden,
                final_norm="none" if pooled else "layer")  # fmt: skip
    patch, count = patches(v)
    ratio = c.number("downsample_ratio", 0.5)
    wide = int(t.hidden * round(1 / ratio) ** 2) if ratio > 0 else t.hidden
    hidden = text_width(c, "qwen2")
    rows = (count + 1) * v.flag("use_absolute_position_embeddings", True) + 1 + v.flag("use_mask_token")
    v.ignore("projection_dropout", "initializer_factor", "layer_scale_init_value")
    body = tower(v, t, name="vision", patch=patch, count=count, tokens=count + 1, more=rows * t.hidden,
                 extra_norms=2 * wide, output=wide * hidden + hidden + hidden * hidden + hidden)  # fmt: skip
    c.ignore("image_seq_length", "vision_feature_layer", "vision_feature_select_strategy")
    return text_model(c, "qwen2", body)
