"""Encoders of text: BERT and its kin. The head follows the class that ``architectures`` names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from planner.catalogue.families.blocks import (
    FULL,
    every,
    head_width,
    layer,
    layer_count,
    layer_types,
    stack,
    tied,
)
from planner.catalogue.families.config import Config
from planner.catalogue.families.stored import weight_dtype
from planner.catalogue.schema import Attention, Embedding, Head, Layer, Mlp, Model, NormKind

ONE_BIAS = ("distilbert", "electra")  # the head has one bias also where it is not tied


def self_attention(c: Config, hidden: int, *, bias: bool = True, rotary: bool = False, **more: Any) -> Attention:
    """Bidirectional multi-head attention with biases."""
    heads = c.integer("num_attention_heads", high=10**6)
    width = head_width(c, hidden, heads, explicit=c.model_type == "nomic_bert")
    return Attention(
        heads, heads, width, q_bias=bias, k_bias=bias, v_bias=bias, out_bias=bias, causal=False, rotary=rotary, **more
    )


@dataclass(frozen=True)
class Parts:
    """What is put together at the end: table, layers, and what the head may need."""

    table: Embedding
    layers: list[Layer]
    final_norm: NormKind = "none"
    other: int = 0
    norm_kind: NormKind = "layer"


def assemble(c: Config, hidden: int, parts: Parts, *, head_width_: int = 0) -> Model:
    """An encoder with its masked-language head: a transform, a norm, the token table, a bias."""
    text = stack("encoder", "encoder", hidden, parts.layers, final_norm=parts.final_norm)
    dropout = c.values.get("hidden_dropout_prob", c.defaults.get("hidden_dropout_prob", 0.0))
    width, vocab = head_width_ or hidden, parts.table.vocab
    tie = tied(c, fallback=True)
    if c.model_type.startswith("deberta") and not c.flag("legacy", True):
        tie = True  # this head multiplies with the table itself
    biases = width + vocab * (1 if tie or c.model_type in ONE_BIAS else 2)
    head = Head(vocab, tie, extra_matmuls=(("head.transform", hidden, width),), extra_parameters=biases,
                norm_parameters=2 * width, width=width)  # fmt: skip
    return Model(
        id="",
        name="",
        family=c.model_type,
        hidden=hidden,
        embedding=parts.table,
        head=head,
        stacks=(text,),
        dropout=isinstance(dropout, float) and dropout > 0,
        other_parameters=parts.other,
        max_positions=c.optional("max_position_embeddings") or 0,
        weight_dtype=weight_dtype(c, c),
    )


def bert(c: Config) -> Model:
    """BERT, RoBERTa, XLM-RoBERTa, CamemBERT, ERNIE, MPNet, ELECTRA, Nomic BERT: post-norm layers."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    c.ignore("position_embedding_type", "embedding_size")
    width = c.optional("embedding_size") or hidden
    if c.model_type != "electra":
        width = hidden
    types = c.integer("type_vocab_size", 0, low=0) if c.model_type != "mpnet" else 0
    positions = c.integer("max_position_embeddings")
    projection = width * hidden + hidden if width != hidden else 0
    extra = 0
    if c.model_type == "ernie":
        extra = c.integer("task_type_vocab_size", 3) * hidden * c.flag("use_task_id")
    table = Embedding(c.integer("vocab_size"), width, positions, types, norm_parameters=2 * width,
                      projection_parameters=projection, extra_parameters=extra)  # fmt: skip
    mixer = self_attention(c, hidden)
    mlp = Mlp(c.integer("intermediate_size"), False, bias=True, activation="gelu")
    layers = [layer(mixer, mlp, "layer", hidden)] * n
    if c.model_type == "mpnet":
        buckets = c.integer("relative_attention_num_buckets", 32) * mixer.heads
        layers[0] = layer(replace(mixer, extra_parameters=buckets), mlp, "layer", hidden)
    if c.flag("is_decoder") and c.flag("add_cross_attention"):
        raise c.error("add_cross_attention", "is true; a cross-attending BERT is not supported")
    return assemble(c, hidden, Parts(table, layers), head_width_=width)


def distilbert(c: Config) -> Model:
    """DistilBERT: no segment table; the head projects at full width."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    c.ignore("sinusoidal_pos_embds")
    table = Embedding(c.integer("vocab_size"), hidden, c.integer("max_position_embeddings"), norm_parameters=2 * hidden)
    mlp = Mlp(c.integer("hidden_dim"), False, bias=True, activation="gelu")
    return assemble(c, hidden, Parts(table, [layer(self_attention(c, hidden), mlp, "layer", hidden)] * n))


def albert(c: Config) -> Model:
    """ALBERT: a factored table, and layers of a group that share their weights."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    width = c.integer("embedding_size")
    table = Embedding(c.integer("vocab_size"), width, c.integer("max_position_embeddings"),
                      c.integer("type_vocab_size", 0, low=0), norm_parameters=2 * width,
                      projection_parameters=width * hidden + hidden)  # fmt: skip
    mlp = Mlp(c.integer("intermediate_size"), False, bias=True, activation="gelu")
    groups, inner = c.integer("num_hidden_groups", 1, high=10**5), c.integer("inner_group_num", 1, high=10**5)
    if groups > n:
        raise c.error("num_hidden_groups", f"is {groups}, more than the {n} layers")
    own = layer(self_attention(c, hidden), mlp, "layer", hidden)
    again = replace(own, name="attention + mlp, weights shared", shared_weights=True)
    layers = [own] * (groups * inner) + [again] * (inner * (n - groups))
    return assemble(c, hidden, Parts(table, layers), head_width_=width)


def deberta(c: Config) -> Model:
    """DeBERTa and DeBERTa-v2/v3: content and position attend apart (https://arxiv.org/abs/2006.03654)."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    second = c.model_type == "deberta-v2"
    positions = c.integer("max_position_embeddings")
    types = c.integer("type_vocab_size", 0, low=0)
    biased = c.flag("position_biased_input", True)
    if c.values.get("embedding_size") not in (None, hidden):
        raise c.error("embedding_size", "differs from hidden_size; not supported")
    c.ignore("embedding_size", "attention_head_size", "pooler_hidden_size")
    table = Embedding(c.integer("vocab_size"), hidden, positions if biased else 0, types, norm_parameters=2 * hidden)
    mlp = Mlp(c.integer("intermediate_size"), False, bias=True, activation="gelu")
    mixer = self_attention(c, hidden)
    if not second:
        mixer = replace(mixer, q_bias=False, k_bias=False, v_bias=False, extra_parameters=2 * hidden)
    relative = c.flag("relative_attention")
    extra = norm = 0
    if relative:
        mixer, extra, norm = _relative(c, mixer, hidden, second=second)
    if c.integer("conv_kernel_size", 0, low=0, high=100):
        raise c.error("conv_kernel_size", "is not zero; the convolution of DeBERTa-v2 xlarge is not supported")
    table = replace(table, extra_parameters=extra)
    model = assemble(c, hidden, Parts(table, [layer(mixer, mlp, "layer", hidden)] * n))
    text = replace(model.stacks[-1], extra_norm_parameters=norm)
    return replace(model, stacks=(text,))


def _relative(c: Config, mixer: Attention, hidden: int, *, second: bool) -> tuple[Attention, int, int]:
    """Attention with its position terms, the relative table, and the norm on that table."""
    stated = c.get("pos_att_type")
    raw = [p for p in stated.split("|") if p] if isinstance(stated, str) else c.items("pos_att_type") or []
    terms = [str(t).strip() for t in raw]
    span = c.get("max_relative_positions", -1)
    span = c.integer("max_position_embeddings") if not isinstance(span, int) or span < 1 else span
    buckets = c.get("position_buckets", -1) if second else -1
    size = 2 * (buckets if isinstance(buckets, int) and buckets > 0 else span)
    extra = mixer.extra_parameters
    if second:
        if not c.flag("share_att_key"):
            extra += sum({"c2p": 1, "p2c": 1}.get(t, 0) * (hidden * hidden + hidden) for t in terms)
    else:
        extra += hidden * hidden * ("c2p" in terms) + (hidden * hidden + hidden) * ("p2c" in terms)
    # Scores against every position, and the projection of the position table, once a pass.
    matmuls = tuple((f"position.{t}", hidden, size, 1.0) for t in terms)
    once = tuple((f"position.{t}_projection", hidden, hidden, size) for t in terms)
    norm = 2 * hidden if second and "layer_norm" in c.text("norm_rel_ebd", "none") else 0
    return replace(mixer, extra_parameters=extra, tied_matmuls=matmuls, pass_matmuls=once), size * hidden, norm


def modernbert(c: Config) -> Model:
    """ModernBERT: rotary, gated MLP, norms without bias, two local layers for one global."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    norm: NormKind = "layer" if c.flag("norm_bias") else "layer_nobias"
    factor = 2 if norm == "layer" else 1
    decoding = c.model_type == "modernbert-decoder"
    bias = c.flag("attention_bias")
    period = c.integer("global_attn_every_n_layers", 3, high=10**5)
    default = [FULL if i % period == 0 else "sliding_attention" for i in range(n)]
    kinds = layer_types(c, n, default if period > 1 else every(n, 1))
    window = c.optional("local_attention")
    mixer = replace(self_attention(c, hidden, bias=bias, rotary=True), causal=decoding)
    mlp = Mlp(c.integer("intermediate_size"), True, bias=c.flag("mlp_bias"), activation="gelu")
    layers = []
    for i, kind in enumerate(kinds):
        one = layer(replace(mixer, window=None if kind == FULL else window), mlp, norm, hidden, norms=2 if i else 1)
        layers.append(one)
    table = Embedding(c.integer("vocab_size"), hidden, norm_parameters=factor * hidden)
    c.ignore(
        "global_attn_every_n_layers",
        "reference_compile",
        "repad_logits_with_grad",
        "decoder_bias",
        "tie_weights",
    )
    text = stack("encoder", "decoder" if decoding else "encoder", hidden, layers, final_norm=norm)
    head = Head(table.vocab, tied(c, fallback=True), bias=c.flag("decoder_bias", True),
                extra_matmuls=(("head.transform", hidden, hidden),),
                extra_parameters=hidden if c.flag("classifier_bias") else 0,
                norm_parameters=factor * hidden)  # fmt: skip
    return Model(
        id="", name="", family=c.model_type, hidden=hidden, embedding=table, head=head, stacks=(text,),
        max_positions=c.optional("max_position_embeddings") or 0,
        weight_dtype=weight_dtype(c, c),
    )  # fmt: skip


def nomic_bert(c: Config) -> Model:
    """Nomic BERT: rotary, gated MLP, no biases, post-norm."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    mixer = self_attention(c, hidden, bias=False, rotary=True)
    mlp = Mlp(c.integer("intermediate_size"), True)
    table = Embedding(c.integer("vocab_size"), hidden, 0, c.integer("type_vocab_size", 0, low=0),
                      norm_parameters=2 * hidden)  # fmt: skip
    return assemble(c, hidden, Parts(table, [layer(mixer, mlp, "layer", hidden)] * n))
