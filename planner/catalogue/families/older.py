"""Decoders of 2018 to 2022 that kept a shape of their own: GPT-1, CTRL, CPM-Ant, GPT-NeoX Japanese, TrOCR, Bert2Bert's.

Structure as built by the classes of Hugging Face transformers 5.24.0.
"""

from __future__ import annotations

from dataclasses import replace

from planner.catalogue.families.blocks import decoder, head_width, layer, layer_count
from planner.catalogue.families.config import MAX_LAYERS, Config
from planner.catalogue.families.heads import attention_parameters
from planner.catalogue.schema import Attention, Embedding, Head, Mlp, Model


def plain(c: Config, hidden: int, *, bias: bool = True, rotary: bool = False) -> Attention:
    """Multi-head attention whose heads divide the width."""
    heads = c.integer("num_attention_heads", high=10**6)
    width = head_width(c, hidden, heads, explicit=False)
    return Attention(heads, heads, width, q_bias=bias, k_bias=bias, v_bias=bias, out_bias=bias, rotary=rotary)


def openai_gpt(c: Config) -> Model:
    """GPT: norms after the blocks, none at the end, learned positions."""
    hidden, n = c.integer("n_embd"), layer_count(c)
    mlp = Mlp(4 * hidden, False, bias=True, activation="gelu")
    c.ignore("afn")
    return decoder(c, [layer(plain(c, hidden), mlp, "layer", hidden)] * n, norm="none", hidden=hidden,
                   positions=c.integer("max_position_embeddings"), tie=c.flag("tie_word_embeddings", True))  # fmt: skip


def ctrl(c: Config) -> Model:
    """CTRL: sinusoidal positions, a block of ``dff``, a tied head with a bias (https://arxiv.org/abs/1909.05858)."""
    hidden, n = c.integer("n_embd"), layer_count(c)
    mlp = Mlp(c.integer("dff"), False, bias=True, activation="relu")
    return decoder(c, [layer(plain(c, hidden), mlp, "layer", hidden)] * n, norm="layer", hidden=hidden, head_bias=True,
                   tie=c.flag("tie_word_embeddings", True))  # fmt: skip


def cpmant(c: Config) -> Model:
    """CPM-Ant: prompts and segments in the table, a bias a head by distance and segment, a head of its own."""
    hidden, n, vocab = c.integer("hidden_size"), layer_count(c), c.integer("vocab_size")
    heads, width = c.integer("num_attention_heads", high=10**6), c.integer("dim_head")
    kinds = c.integer("prompt_types", 32, high=10**5)
    segments = c.integer("segment_types", 32, high=10**5)
    rows = vocab + kinds * c.integer("prompt_length", 32, high=10**5)
    buckets = segments * segments + c.integer("position_bias_num_buckets", 512)
    a = Attention(heads, heads, width, rotary=False)
    table = Embedding(rows, hidden, extra_parameters=segments * hidden)
    c.ignore("position_bias_max_distance")
    c.assume("the prompt that the class puts before the text is not among the tokens counted")
    return decoder(c, [layer(a, Mlp(c.integer("dim_ff"), True, activation="gelu"), "rms", hidden)] * n, embedding=table,
                   head=Head(vocab, False), other_parameters=buckets * heads)  # fmt: skip


def gpt_neox_japanese(c: Config) -> Model:
    """GPT-NeoX Japanese: no biases but that of the last layer's attention output."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    a = plain(c, hidden, bias=False, rotary=True)
    mlp = Mlp(c.integer("intermediate_multiple_size", 4) * hidden, False, activation="gelu")
    layers = [layer(a, mlp, "layer", hidden)] * (n - 1) + [layer(replace(a, out_bias=True), mlp, "layer", hidden)]
    return decoder(c, layers, norm="layer")


def bert_generation(c: Config) -> Model:
    """The decoder of Bert2Bert, without an encoder to attend to: no segments, a tied head with a bias."""
    hidden, n, vocab = c.integer("hidden_size"), layer_count(c), c.integer("vocab_size")
    if c.flag("add_cross_attention"):
        raise c.error("add_cross_attention", "is true; not supported")
    a = replace(plain(c, hidden), causal=c.flag("is_decoder"))
    mlp = Mlp(c.integer("intermediate_size"), False, bias=True, activation="gelu")
    table = Embedding(vocab, hidden, c.integer("max_position_embeddings"), norm_parameters=2 * hidden)
    tie = c.flag("tie_word_embeddings", True)
    return decoder(c, [layer(a, mlp, "layer", hidden)] * n, norm="none", embedding=table,
                   head=Head(vocab, tie, bias=True, extra_parameters=0 if tie else vocab))  # fmt: skip


def trocr(c: Config) -> Model:
    """TrOCR's decoder alone: it holds its cross-attention and has nothing to attend to."""
    hidden, n = c.integer("d_model"), c.integer("decoder_layers", high=MAX_LAYERS)
    heads = c.integer("decoder_attention_heads", high=10**6)
    if hidden % heads:
        raise c.error("decoder_attention_heads", f"is {heads}, which does not divide d_model {hidden}")
    a = Attention(heads, heads, hidden // heads, q_bias=True, k_bias=True, v_bias=True, out_bias=True, rotary=False)
    if c.optional("cross_attention_hidden_size") not in (None, hidden):
        raise c.error("cross_attention_hidden_size", "differs from d_model; not supported")
    learned = c.flag("use_learned_position_embeddings", True)
    rows = c.integer("max_position_embeddings") + 2 if learned else 0
    norm = 2 * hidden if c.flag("layernorm_embedding", True) else 0
    mlp = Mlp(c.integer("decoder_ffn_dim"), False, bias=True, activation="gelu")
    one = layer(a, mlp, "layer", hidden, norms=3, extra_parameters=attention_parameters(a, hidden))
    table = Embedding(c.integer("vocab_size"), hidden, rows, norm_parameters=norm)
    c.ignore("num_hidden_layers")
    return decoder(c, [one] * n, norm="none", hidden=hidden, embedding=table, tie=c.flag("tie_word_embeddings", True))
