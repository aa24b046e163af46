"""Image-text models that read pages through SAM's encoder: GOT-OCR 2, DeepSeek-VL hybrid, Unlimited OCR.

Structure as built by the classes of Hugging Face transformers 5.24.0.
"""

from __future__ import annotations

from dataclasses import replace

from planner.catalogue.families.blocks import attention, layer_count, sparse_layers
from planner.catalogue.families.config import MAX_LAYERS, Config
from planner.catalogue.families.decoders import built, experts, fed
from planner.catalogue.families.image_text import behind, dense, language, part, text_size
from planner.catalogue.families.vision import Tower, patches, siglip_tower, square, tower
from planner.catalogue.schema import Model, Stack


def sam(v: Config, *, name: str = "pages", output: int = 0) -> tuple[Stack, int]:
    """SAM's image encoder: windows and a few global layers with relative positions by row and column, a neck.

    Returns the tower and the channels of its output.
    """
    hidden, n, heads = v.integer("hidden_size"), layer_count(v), v.integer("num_attention_heads", high=10**6)
    width = v.optional("mlp_dim") or int(hidden * v.number("mlp_ratio", 4.0))
    patch, _ = patches(v)
    side = square(v, "image_size") // patch
    window, out = v.integer("window_size", 14, low=0), v.integer("output_channels", 256)
    at = set(v.indices("global_attn_indexes", high=MAX_LAYERS))
    bias = v.flag("qkv_bias", True)
    v.ignore("num_pos_feats", "global_attn_indexes", "mlp_ratio")
    blocks = []
    for i in range(n):
        rows = side if i in at or not window else window
        scale = 2 * (2 * rows - 1) * (hidden // heads) if v.flag("use_rel_pos", True) else 0
        blocks.append(Tower(hidden, n, heads, width, bias=bias, scale=scale).layer(v))
    neck = hidden * out + 9 * out * out
    more = side * side * hidden if v.flag("use_abs_pos", True) else 0
    t = Tower(hidden, n, heads, width, final_norm="none")
    return tower(v, t, name=name, patch=patch, count=1, tokens=1, more=more, extra_norms=4 * out, output=neck + output,
                 blocks=blocks), out  # fmt: skip


def got_ocr2(c: Config) -> Model:
    """GOT-OCR 2 and PP-Chart2Table: SAM, two strided convolutions, a projection."""
    v = part(c, default=f"{c.model_type}_vision")
    body, out = sam(v)
    v.refuse_unread()
    text = text_size(c, default="qwen2")
    p = 18 * out * out + 18 * out * text + dense(text, text)
    c.ignore("image_seq_length")
    return language(c, [behind(body, p)], default="qwen2")


def deepseek_hybrid(c: Config) -> Model:
    """DeepSeek-VL 7B: SigLIP at low and SAM at high resolution, joined."""
    v, w = part(c, default="siglip_vision_model"), part(c, "high_res_vision_config", "sam_vision_model")
    body = siglip_tower(v)
    pages, out = sam(w)
    hidden = pages.hidden
    v.refuse_unread()
    w.refuse_unread()
    text = text_size(c)
    if text % 2:
        raise c.error("text_config", f"is {text} wide; the two towers take half of it each")
    again = hidden * out + 9 * out * out + 18 * out * out + 72 * out * out + 1
    p = dense(body.hidden, text // 2) + dense(4 * out, text // 2) + dense(text, text)
    c.ignore("high_res_vision_config")
    return language(c, [behind(pages, again, norm=4 * out), behind(body, p)])


def unlimited_ocr(c: Config) -> Model:
    """Unlimited OCR: SAM before CLIP's layers, joined by a projection; a text model of fine-grained experts."""
    v = part(c, default="unlimited_ocr_vision")
    w, e = part(v, "sam_config", ""), part(v, "encoder_config", "")
    down = [w._bounded("downsample_channels", x, 1, 10**5) for x in w.items("downsample_channels") or [512, 1024]]
    if len(down) != 2:
        raise w.error("downsample_channels", "must hold two widths")
    pages, out = sam(w)
    pages = behind(pages, 9 * out * down[0] + 9 * down[0] * down[1])
    patch, count = patches(e)
    t = Tower(e.integer("hidden_size"), layer_count(e), e.integer("num_attention_heads", high=10**6),
              e.integer("intermediate_size"), final_norm="none")  # fmt: skip
    body = tower(e, t, name="vision", patch=patch, count=1, tokens=1, more=(count + 2) * t.hidden, bias=False,
                 extra_norms=2 * t.hidden)  # fmt: skip
    # What SAM hands over takes the place of patches: this tower embeds none.
    body = replace(body, input_matmuls=())
    body = replace(body, input_parameters=(count + 2) * t.hidden)
    for section in (w, e, v):
        section.ignore("num_channels", "sam_config", "encoder_config")
        section.refuse_unread()
    text = text_size(c, default="unlimited_ocr_text")
    return language(c, [pages, behind(body, dense(down[1] + t.hidden, text))], default="unlimited_ocr_text",
                    other=2 * text, build=_fine_experts)  # fmt: skip


def _fine_experts(c: Config) -> Model:
    """DeepSeekMoE with windows that the sections of images keep out of: Llama attention, routed and shared experts."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    # The class sets the width of a head from the others.
    c.values = {**c.values, "head_dim": hidden // c.integer("num_attention_heads", high=hidden)}
    a = replace(attention(c, hidden, bias=c.flag("attention_bias")), window=c.optional("sliding_window"))
    shared = c.integer("moe_intermediate_size") * c.integer("n_shared_experts", 0, low=0, high=10**4)
    c.ignore("layer_types")
    return built(c, [a] * n, fed(c, sparse_layers(c, n, first=1), experts(c, shared=shared)))
