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
    FULL,
    SLIDING,
    attention,
    decoder,
    layer,
    layer_count,
    layer_types,
    moe_block,
    window_of,
)
from planner.catalogue.families.config import MAX_LAYERS, Config
from planner.catalogue.families.vision import Tower, basic, clip_tower, patches, siglip_tower, square, tower
from planner.catalogue.schema import Mlp, Model, Stack

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


def qwen_vl(c: Config) -> Model:
    """Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Qwen3.5: a tower over patches of two frames and a 2 x 2 merger."""
    family = c.model_type
    default = {"qwen3_5": "qwen3_5_text", "qwen3_5_moe": "qwen3_5_moe_text"}.get(family, f"{family}_text")
    v = vision_section(c, f"{family}_vision")
    t, positions, deep = _qwen_tower(v, family)
    merge, frames = (
        v.integer("spatial_merge_size", 2, high=100),
        v.integer("temporal_patch_size", 2, high=100),
    )
    wide = t.hidden * merge * merge
    key = "hidden_size" if family == "qwen2_vl" else "out_hidden_size"
    out = v.integer(key)
    merger = wide * wide + wide + wide * out + out
    norm = t.hidden if t.norm == "rms" else 2 * t.hidden
    body = tower(v, t, name="vision", patch=square(v, "patch_size"), count=1, tokens=1, frames=frames,
                 more=positions * t.hidden, bias=family.startswith("qwen3"), output=merger * (1 + deep), group="mlp",
                 extra_norms=norm + deep * 2 * wide)  # fmt: skip
    v.ignore("deepstack_visual_indexes", "window_size", "fullatt_block_indexes", "tokens_per_second", "in_chans",
             "spatial_patch_size", "hidden_size")  # fmt: skip
    return text_model(c, default, body)


def _qwen_tower(v: Config, family: str) -> tuple[Tower, int, int]:
    """Tower, stored positions, and mergers besides the last one."""
    hidden = v.integer("embed_dim" if family == "qwen2_vl" else "hidden_size")
    heads, n = v.integer("num_heads", high=10**6), v.integer("depth", high=MAX_LAYERS)
    if family == "qwen2_vl":
        return Tower(hidden, n, heads, int(v.number("mlp_ratio", 4) * hidden), final_norm="none"), 0, 0
    ffn = v.integer("intermediate_size")
    if family == "qwen2_5_vl":
        return Tower(hidden, n, heads, ffn, gated=True, norm="rms", final_norm="none"), 0, 0
    deep = v.items("deepstack_visual_indexes") or [] if family.startswith("qwen3_vl") else []
    return Tower(hidden, n, heads, ffn, final_norm="none"), v.integer("num_position_embeddings"), len(deep)


def kimi_k25(c: Config) -> Model:
    """Kimi K2.5: a MoonViT tower, a patch merger, the text of Kimi K2."""
    v = vision_section(c, "kimi_k25_vision")
    names = {"vt_hidden_size": "hidden_size", "vt_num_hidden_layers": "num_hidden_layers",
             "vt_num_attention_heads": "num_attention_heads", "vt_intermediate_size": "intermediate_size",
             "init_pos_emb_height": "pos_emb_height", "init_pos_emb_width": "pos_emb_width"}  # fmt: skip
    values = {names.get(k, k): x for k, x in v.values.items()}
    w = Config(values, where=c.where, model_type="kimi_k25_vision", path="vision_config.", assumed=c.assumed)
    c.parts["vision_config"] = w
    w.ignore("mm_hidden_size", "text_hidden_size")
    t = basic(w)
    merge = w.items("merge_kernel_size") or [2, 2]
    factor = w._bounded("merge_kernel_size", merge[0], 1, 100) * w._bounded("merge_kernel_size", merge[-1], 1, 100)
    positions = w.integer("pos_emb_height", 64, high=10**5) * w.integer("pos_emb_width", 64, high=10**5)
    text = c.section("text_config", "deepseek_v3", allowed=(*TEXT, *PLAIN))
    assert text is not None
    wide, hidden = t.hidden * factor, text.integer("hidden_size")
    c.ignore("use_unified_vision_chunk")
    body = tower(w, t, name="vision", patch=square(w, "patch_size"), count=1, tokens=1, more=positions * t.hidden,
                 extra_norms=2 * c.integer("projection_hidden_size"),
                 output=wide * wide + wide + wide * hidden + hidden)  # fmt: skip
    return text_model(c, "deepseek_v3", body)


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
    positions = (count + 1) * t.hidden if v.flag("use_absolute_position_embeddings", True) else 0
    v.ignore("projection_dropout", "initializer_factor", "layer_scale_init_value")
    body = tower(v, t, name="vision", patch=patch, count=count, tokens=count + 1, more=(1 + v.flag("use_mask_token")) * t.hidden + positions,
                 extra_norms=2 * wide, output=wide * hidden + hidden + hidden * hidden + hidden)  # fmt: skip
    c.ignore("image_seq_length", "vision_feature_layer", "vision_feature_select_strategy")
    return text_model(c, "qwen2", body)


def _flat_ignored(c: Config) -> None:
    """Text keys at the top level of an old config, which the class does not read."""
    flat = [k for k in ("num_hidden_layers", "hidden_size", "num_experts", "vocab_size") if k in c.values]
    if flat and not isinstance(c.values.get("text_config"), Mapping):
        c.assume("the class reads text_config only: keys at the top level are ignored, text is the class default")
        c.read.update(c.values)


def glm4v(c: Config) -> Model:
    """GLM-4.1V and GLM-4.5V: a gated tower, a strided convolution, a gated merger."""
    _flat_ignored(c)
    text = f"{c.model_type}_text"
    v = vision_section(c, f"{c.model_type}_vision")
    hidden, heads, n = (
        v.integer("hidden_size"),
        v.integer("num_heads", high=10**6),
        v.integer("depth", high=MAX_LAYERS),
    )
    out, inner = v.integer("out_hidden_size"), v.integer("intermediate_size")
    bias = v.flag("attention_bias")
    t = Tower(
        hidden,
        n,
        heads,
        out,
        bias=bias,
        out_bias=False,
        mlp_bias=False,
        gated=True,
        norm="rms",
        final_norm="rms",
    )
    patch, count = patches(v)
    merge, frames = (
        v.integer("spatial_merge_size", 2, high=100),
        v.integer("temporal_patch_size", 2, high=100),
    )
    down = hidden * out * merge * merge + out
    merger = out * out + 3 * out * inner
    body = tower(v, t, name="vision", patch=patch, count=count, tokens=count, frames=frames, more=count * hidden,
                 extra_norms=hidden + 2 * out, output=down + merger)  # fmt: skip
    v.ignore("rms_norm_eps")
    return text_model(c, text, body)


def step3p7(c: Config) -> Model:
    """Step 3.7: a tower with layer scales and two strided convolutions, gated attention, experts after layer 3."""
    _flat_ignored(c)
    v = vision_section(c, "step3p5_vision")
    hidden = v.integer("hidden_size")
    ffn = int(hidden * v.number("mlp_ratio", 8960 / 1536))
    heads = v.integer("num_attention_heads", high=10**6)
    t = Tower(hidden, layer_count(v), heads, ffn, scale=2 * hidden, final_norm="none")
    patch, count = patches(v)
    text = c.section("text_config", "step3p5")
    assert text is not None
    wide = 4 * hidden
    down = 2 * hidden * hidden * 9 + 2 * hidden + wide * 2 * hidden * 9 + wide
    v.ignore("intermediate_size", "max_position_embeddings")
    out = text.integer("hidden_size")
    output = down + wide * out + out * c.flag("projector_bias")
    body = tower(v, t, name="vision", patch=patch, count=count, tokens=count, more=count * hidden, bias=False,
                 extra_norms=2 * hidden, output=output)  # fmt: skip
    return step3_text(text, root=c, before=(body,))


def step3_text(c: Config, *, root: Config, before: tuple[Stack, ...]) -> Model:
    """The text part: q/k norms, a gate a head, a shared expert of ``share_expert_dim``; windowed layers may have other
    numbers of heads, by ``per_layer_config`` or the older keys."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    c = _without_mtp(c, n)
    kinds = layer_types(c, n, [FULL] * n, known=frozenset({FULL, SLIDING}), only=True)
    a = attention(c, hidden, bias=c.flag("attention_bias"), qk_norm="head")
    shared = Mlp(c.integer("share_expert_dim"), True)
    moe = moe_block(c, width=c.integer("moe_intermediate_size"), shared=shared, experts=c.integer("n_routed_experts"))
    dense, routed = Mlp(c.integer("intermediate_size"), True), _step3_routed(c, n)
    other = c.section("attention_other_setting", "step3_attention", required=False)
    fewer = other.integer("num_attention_heads", a.heads) if other is not None else a.heads
    windowed = {"num_attention_heads": c.integer("num_sliding_attention_heads", fewer, high=10**6)}
    over = c.per_layer(n, ("num_attention_heads",))
    layers = []
    for i, kind in enumerate(kinds):
        stated = over[i] if over is not None else windowed if kind == SLIDING else {}
        heads = c._bounded("num_attention_heads", stated.get("num_attention_heads", a.heads), 1, 10**6)
        if heads % a.kv_heads:
            raise c.error("num_attention_heads", f"is {heads}, which the {a.kv_heads} key/value heads do not divide")
        mixer = replace(a, heads=heads, gate=heads, window=window_of(c, kind))
        layers.append(layer(mixer, moe if routed[i] else dense, "rms", hidden))
    return decoder(c, layers, root=root, before=before)


def _without_mtp(c: Config, n: int) -> Config:
    """Lists that also speak of multi-token-prediction layers, cut to the layers."""
    padded = n + c.integer("num_nextn_predict_layers", 0, low=0, high=MAX_LAYERS)
    cut = {k: v[:n] for k in ("layer_types", "mlp_layer_types") if isinstance(v := c.values.get(k), list)
           and len(v) == padded}  # fmt: skip
    return c.with_values(**cut)


def _step3_routed(c: Config, n: int) -> list[bool]:
    kinds, listed = c.items("mlp_layer_types", length=n), c.values.get("moe_layers_enum")
    c.ignore("moe_layers_enum")
    if kinds is not None:
        if not set(map(str, kinds)) <= {"sparse", "dense"}:
            raise c.error("mlp_layer_types", "may hold sparse and dense only")
        return [kind == "sparse" for kind in kinds]
    if listed is None:
        return [i >= 3 for i in range(n)]
    marks = listed.split(",") if isinstance(listed, str) else listed if isinstance(listed, list) else [""]
    if not all(str(m).strip().isdigit() for m in marks):
        raise c.error("moe_layers_enum", f"is {listed!r:.40}; layer indices are due")
    return [i in {int(m) for m in marks} for i in range(n)]
