"""What image-text and audio-text models share: the text part of any type, towers before it, projectors between them.

A tower and its projector count in the parameters; FLOPs are those of the text path. Structure as built by the classes
of Hugging Face transformers 5.24.0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from planner.catalogue.families import (
    decoders,
    gemma,
    gpt,
    hybrid,
    latent,
    llama,
    mamba_kin,
    minimax,
    recurrent,
    routed,
    seq2seq,
)
from planner.catalogue.families.blocks import stack, tied
from planner.catalogue.families.config import Config
from planner.catalogue.families.stored import weight_dtype
from planner.catalogue.families.vision import Tower, basic, square, tower
from planner.catalogue.schema import Model, Stack

TextBuilder = Callable[[Config], Model]
TEXT: dict[str, TextBuilder] = {
    **dict.fromkeys(llama.RECIPES, llama.build),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "mistral4"), latent.build),
    **dict.fromkeys(("qwen3_5_text", "qwen3_5_moe_text", "qwen3_next"), hybrid.qwen3_next),
    **dict.fromkeys(("lfm2", "lfm2_moe"), hybrid.lfm2),
    "nemotron_h": mamba_kin.nemotron_h,
    "opt": gpt.opt,
    "gpt2": gpt.gpt2,
    "t5": seq2seq.t5,
    "bart": seq2seq.bart,
    "aria_text": decoders.aria_text,
    "minimax_m3_vl_text": minimax.minimax_m3_text,
    "hyperclovax": decoders.hyperclovax,
    "cohere2_moe": decoders.cohere2_moe,
    "lfm3": recurrent.lfm3,
    "gemma4_unified_text": gemma.gemma4_text,
    "zaya": routed.zaya,
}
# Text types of image-text models that are built like a plain type, with defaults of their own.
LIKE = {
    "qwen2_5_omni_text": "qwen2", "qwen3_omni_moe_text": "qwen3_moe", "qwen3_vl_text": "qwen3", "glm4v_text": "glm4",
    "glm_ocr_text": "glm4", "paddleocr_vl_text": "ernie4_5", "granite_docling_text": "granite",
    "qwen2_vl_text": "qwen2", "qwen2_5_vl_text": "qwen2", "qwen3_vl_moe_text": "qwen3_moe", "mistral": "mistral",
}  # fmt: skip


FILLED = ("glmasr", "voxtral", "voxtral_realtime")  # types that fill a stated section of the text with their own values


def language(
    root: Config, before: Sequence[Stack], *, key: str = "text_config", default: str = "llama", tie: bool | None = None,
    other: int = 0, build: TextBuilder | None = None,
) -> Model:  # fmt: skip
    """The text part of a model, its towers before it; ``other`` parameters stand between them.

    Head and token table are one where the configuration of the whole says so (``tie`` None), whatever the section says.
    """
    text = text_part(root, key, default)
    text.ignore("model_type", "architectures", "auto_map", "tie_word_embeddings")
    kind = LIKE.get(text.model_type, text.model_type)
    if text.model_type in ("glm4v_text",):
        text.values = {**text.values, "attention_bias": True}
    text.model_type = kind
    bound = tied(root, text) if tie is None else tie
    text.values = {**text.values, "tie_word_embeddings": bound}
    if build is None and kind not in TEXT:
        raise text.error("model_type", f"{kind!r} is not supported as the text part")
    model = (build or TEXT[kind])(text)
    text.refuse_unread()
    root.ignore(key)
    head = model.head and replace(model.head, tied=bound)
    return replace(
        model,
        head=head,
        family=root.model_type,
        stacks=(*before, *model.stacks),
        weight_dtype=weight_dtype(text, root),
        other_parameters=model.other_parameters + other,
    )


def text_part(root: Config, key: str = "text_config", default: str = "llama") -> Config:
    """The configuration of the text part; some classes fill what it leaves out with values of their own."""
    text = root.section(key, default, allowed=(*TEXT, *LIKE))
    assert text is not None
    if root.model_type in FILLED:
        text.values = {**root.facts.sections.get(key, {}).get("values", {}), **text.values}
    return text


def text_size(root: Config, field: str = "hidden_size", *, key: str = "text_config", default: str = "llama") -> int:
    """A width of the text part."""
    return text_part(root, key, default).integer(field)


def part(root: Config, key: str = "vision_config", default: str = "", *, allowed: tuple[str, ...] = ()) -> Config:
    """The configuration of a tower."""
    section = root.section(key, default, allowed=allowed)
    assert section is not None
    section.ignore("model_type", "architectures", "auto_map", "torch_dtype", "dtype", "projection_dim", "vocab_size")
    return section


def dense(k: int, n: int, bias: bool = True) -> int:
    """Parameters of a linear layer."""
    return k * n + bias * n


def behind(body: Stack, parameters: int, *, norm: int = 0) -> Stack:
    """The tower with a projector behind it."""
    return replace(body, output_parameters=body.output_parameters + parameters,
                   extra_norm_parameters=body.extra_norm_parameters + norm)  # fmt: skip


def siglip2(v: Config) -> Stack:
    """SigLIP 2's image encoder for any aspect ratio: patches are projected, ``num_patches`` positions are stored."""
    count = v.integer("num_patches", 256)
    t = basic(v)
    h = t.hidden
    pooled = "vision_use_head" in v.defaults and v.flag("vision_use_head", True)
    output = h + dense(h, 3 * h) + dense(h, h) + dense(h, t.ffn) + dense(t.ffn, h) if pooled else 0
    return tower(v, t, name="vision", patch=square(v, "patch_size"), count=count, tokens=count, more=count * h,
                 extra_norms=2 * h if pooled else 0, output=output)  # fmt: skip


def bare(v: Config, t: Tower, *, patch: int = 0, more: int = 0, frames: int = 1, bias: bool = True, norms: int = 0,
         output: int = 0, name: str = "vision") -> Stack:  # fmt: skip
    """A tower of which only the parameters matter here: its tokens depend on the image."""
    return tower(v, t, name=name, patch=patch or square(v, "patch_size"), count=1, tokens=1, more=more, frames=frames,
                 bias=bias, extra_norms=norms, output=output)  # fmt: skip


def whisper_tower(v: Config, *, name: str = "audio", positions: bool = True, k_bias: bool = False) -> Stack:
    """Whisper's audio encoder: two convolutions over mel frames, stored positions, a norm at the end."""
    hidden, mels = v.integer("hidden_size"), v.integer("num_mel_bins")
    t = replace(basic(v), k_bias=k_bias)
    rows = v.integer("max_source_positions", 1500)
    v.ignore("vocab_size", "num_channels", "layerdrop", "scale_embedding", "encoder_layerdrop")
    for key, due in (("num_key_value_heads", t.heads), ("head_dim", hidden // t.heads)):
        # Checkpoints state what the class works out for itself.
        if v.values.get(key) == due and not v.facts.knows(key):
            v.ignore(key)
    more = (rows * hidden if positions else 0) + 3 * mels * hidden + 3 * hidden * hidden + 2 * hidden
    return sound(v, t, more, name=name)


def sound(v: Config, t: Tower, stem: int, *, name: str = "audio", norms: int = 0, output: int = 0) -> Stack:
    """An audio tower whose ``stem`` turns frames into tokens."""
    layers = [t.layer(v)] * t.layers
    return stack(
        name,
        "tower",
        t.hidden,
        layers,
        final_norm=t.final_norm,
        tokens=1,
        input_parameters=stem,
        extra_norm_parameters=norms,
        output_parameters=output,
        output_group="other",
        optional=True,
    )
