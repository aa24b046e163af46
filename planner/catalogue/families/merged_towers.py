"""Vision-language models whose tower joins its patches before the text: Qwen-VL, GLM-V, Kimi K2.5, Step 3.7."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

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
from planner.catalogue.families.layerwise import per_layer
from planner.catalogue.families.multimodal import PLAIN, TEXT, text_model, vision_section
from planner.catalogue.families.vision import Tower, basic, patches, square, tower
from planner.catalogue.schema import Mlp, Model, Stack


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
    over = per_layer(c, n, ("num_attention_heads",))
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
