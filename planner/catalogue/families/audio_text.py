"""Audio-text models: Whisper's encoder (or one near it), a projector, a text model of any type.

Structure as built by the classes of Hugging Face transformers 5.24.0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.catalogue.families.blocks import attention, layer_count, stack
from planner.catalogue.families.config import Config
from planner.catalogue.families.decoders import built
from planner.catalogue.families.image_merged import convolved
from planner.catalogue.families.image_text import behind, dense, language, part, sound, text_size, whisper_tower
from planner.catalogue.families.llama import RECIPES, build
from planner.catalogue.families.vision import Tower, basic
from planner.catalogue.schema import Embedding, Layer, Mlp, Model

TIED = {"audioflamingo3": False, "musicflamingo": False, "qwen2_audio": False, "voxtral": False, "omniasr": False}


def whispering(c: Config) -> Model:
    """Qwen2-Audio (one layer), Audio and Music Flamingo (two), Voxtral (four frames joined), MOSS (and a norm)."""
    a, name = part(c, "audio_config"), c.model_type
    body, text = whisper_tower(a), text_size(c, default="qwen2")
    hidden, norm = body.hidden, 0
    bias = c.flag("projector_bias", True) if "projector_bias" in c.defaults else True
    if name == "qwen2_audio":
        p = dense(hidden, text)
    elif name == "voxtral":
        p = dense(a.integer("intermediate_size"), text, False) + dense(text, text, False)
    elif name == "moss_transcribe_diarize":
        p = dense(hidden * c.integer("audio_merge_size", 4, high=100), text, bias) + dense(text, text, bias)
        norm = 2 * text
    else:
        p = dense(hidden, text, bias) + dense(text, text, bias)
    a.refuse_unread()
    c.ignore("audio_config", "audio_chunk_size", "audio_frame_step", "head_dim", "hidden_size", "vocab_size")
    return language(c, [behind(body, p, norm=norm)], default="qwen2", tie=TIED.get(name))


def glmasr(c: Config) -> Model:
    """GLM-ASR: Whisper's stem, rotary layers, four frames joined by two layers."""
    a = part(c, "audio_config")
    hidden, mels, text = a.integer("hidden_size"), a.integer("num_mel_bins"), text_size(c)
    if (a.optional("num_key_value_heads") or a.integer("num_attention_heads")) != a.integer("num_attention_heads"):
        raise a.error("num_key_value_heads", "differs from num_attention_heads; not supported")
    body = sound(a, replace(basic(a), k_bias=False), 3 * mels * hidden + 3 * hidden * hidden + 2 * hidden)
    p = dense(a.integer("intermediate_size"), 2 * text) + dense(2 * text, text)
    a.ignore("head_dim")
    a.refuse_unread()
    c.ignore("audio_config")
    return language(c, [behind(body, p)])


def qwen3_asr(c: Config) -> Model:
    """Qwen3-ASR: three convolutions over time and mels, layers, two layers behind them."""
    a = part(c, "audio_config")
    body = convolved(a, (a.integer("d_model"), a.integer("output_dim")))
    a.ignore("max_position_embeddings")
    a.refuse_unread()
    c.ignore("audio_config", "token_classification_bias")
    return language(c, [body], default="qwen3")


def voxtral_realtime(c: Config) -> Model:
    """Voxtral Realtime: a causal gated audio encoder; text layers conditioned on the delay through a bottleneck."""
    a = part(c, "audio_config")
    hidden, mels, text = a.integer("hidden_size"), a.integer("num_mel_bins"), text_size(c, default="ministral")
    heads = a.integer("num_attention_heads", high=10**6)
    t = Tower(hidden, layer_count(a), heads, a.integer("intermediate_size"), k_bias=False, gated=True, mlp_bias=False,
              norm="rms", final_norm="rms", head_dim=a.integer("head_dim"))  # fmt: skip
    one = t.layer(a)
    assert isinstance(one.ffn, Mlp)
    one = replace(one, ffn=replace(one.ffn, down_bias=True))
    stem = 3 * mels * hidden + 3 * hidden * hidden + 2 * hidden
    p = dense(hidden * c.integer("downsample_factor", 4, high=100), text, False) + dense(text, text, False)
    body = stack("audio", "tower", hidden, [one] * t.layers, final_norm="rms", tokens=1, input_parameters=stem,
                 output_parameters=p, output_group="other", optional=True)  # fmt: skip
    a.ignore("vocab_size", "sliding_window", "max_position_embeddings")
    a.refuse_unread()
    c.ignore("audio_config", "audio_length_per_tok", "default_num_delay_tokens", "hidden_size")
    return language(c, [body], default="voxtral_realtime_text", build=_delayed_text)


def _delayed_text(c: Config) -> Model:
    """Mistral's layers, each with a bottleneck of 32 that reads the delay once a sequence."""
    hidden = c.integer("hidden_size")
    model = build(c, recipe=RECIPES["ministral"])

    def wider(kind: Layer) -> Layer:
        return replace(kind, extra_parameters=kind.extra_parameters + 64 * hidden)

    return replace(model, stacks=(replace(model.text, kinds=tuple(map(wider, model.text.kinds))),))


def omniasr(c: Config) -> Model:
    """OmniASR: wav2vec 2.0's convolutions with norms, a convolution that encodes positions, pre-norm layers."""
    a = part(c, "audio_config")
    hidden, text = a.integer("hidden_size"), text_size(c)
    widths, kernels = a.items("conv_dim") or [], a.items("conv_kernel") or []
    if not widths or len(widths) != len(kernels):
        raise a.error("conv_dim", "and conv_kernel must list one entry a convolution")
    stem, before, bias = 0, 1, a.flag("conv_bias", True)
    for width, kernel in zip(widths, kernels, strict=True):
        w, k = a._bounded("conv_dim", width, 1, 10**6), a._bounded("conv_kernel", kernel, 1, 10**4)
        stem, before = stem + before * w * k + w * bias + 2 * w, w
    groups = a.integer("num_conv_pos_embedding_groups", 16)
    if hidden % groups:
        raise a.error("num_conv_pos_embedding_groups", f"is {groups}, which does not divide hidden_size {hidden}")
    stem += (
        2 * before + dense(before, hidden) + hidden * (hidden // groups) * a.integer("num_conv_pos_embeddings") + hidden
    )
    body = sound(a, basic(a), stem, output=dense(hidden, text))
    a.ignore("conv_stride", "layerdrop")
    a.refuse_unread()
    c.ignore("audio_config")
    return language(c, [body], tie=TIED["omniasr"])


def moshi(c: Config, **up: Any) -> Model:
    """Moshi's language model alone: a gated block of half ``ffn_dim``, one more token than the vocabulary."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    a = replace(attention(c, hidden), window=c.optional("sliding_window"))
    c.ignore("audio_encoder_config", "depth_decoder_config", "audio_vocab_size", "num_codebooks")
    vocab = c.integer("vocab_size")
    return built(c, [a] * n, [Mlp(c.integer("ffn_dim") // 2, True)] * n,
                 embedding=Embedding(vocab + 1, hidden), tie=False, **up)  # fmt: skip
