"""Encoders whose layer is not BERT's: bottlenecks, grouped and dynamic convolutions, Fourier transforms, ESM, XLNet.

Structure as built by the classes of Hugging Face transformers 5.24.0.
"""

from __future__ import annotations

from dataclasses import replace

from planner.catalogue.families.bert_kin import encoder
from planner.catalogue.families.blocks import layer, layer_count
from planner.catalogue.families.config import Config
from planner.catalogue.families.encoders import Parts, assemble, self_attention
from planner.catalogue.schema import Attention, Embedding, Head, Layer, Mlp, Model


def convbert(c: Config) -> Model:
    """ConvBERT: half of the heads are convolutions whose kernels depend on the token (https://arxiv.org/abs/2008.02496)."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    width, heads, ratio = c.integer("embedding_size"), c.integer("num_attention_heads"), c.integer("head_ratio", 2)
    kernel = c.integer("conv_kernel_size", 9, high=1024)
    heads = max(heads // ratio, 1)
    if hidden % heads or c.integer("num_groups", 1) != 1:
        raise c.error("num_attention_heads", "and head_ratio, num_groups: heads that don't divide, or grouped layers")
    inner = heads * (hidden // heads // 2)
    if 2 * inner != hidden:
        raise c.error("num_attention_heads", f"and head_ratio do not halve hidden_size {hidden}")
    table = Embedding(c.integer("vocab_size"), width, c.integer("max_position_embeddings"),
                      c.integer("type_vocab_size", 0, low=0), norm_parameters=2 * width,
                      projection_parameters=width * hidden + hidden if width != hidden else 0)  # fmt: skip
    biases = inner + heads * kernel + inner  # of the separable convolution, its kernels, and what it is applied to
    a = Attention(heads, heads, inner // heads, q_bias=True, k_bias=True, v_bias=True, out_bias=True, causal=False,
                  rotary=False, extra_parameters=hidden * kernel + biases, tied_matmuls=(
                      ("conv.depthwise", kernel, hidden, 1.0), ("conv.apply", kernel, inner, 1.0)))  # fmt: skip
    beside = (("conv.key", hidden, inner), ("conv.kernel", inner, heads * kernel), ("conv.value", hidden, inner),
              ("conv.out", inner, hidden))  # fmt: skip
    mlp = Mlp(c.integer("intermediate_size"), False, bias=True, activation="gelu")
    layers = [layer(a, mlp, "layer", hidden, projections=beside)] * n
    tie = c.flag("tie_word_embeddings", True)
    head = Head(table.vocab, tie, bias=True, extra_matmuls=(("head.transform", hidden, width),),
                extra_parameters=width, norm_parameters=2 * width, width=width)  # fmt: skip
    return encoder(c, hidden, table, layers, head)


def squeezebert(c: Config) -> Model:
    """SqueezeBERT: projections are grouped convolutions (https://arxiv.org/abs/2006.11316)."""
    hidden, n, inner = c.integer("hidden_size"), layer_count(c), c.integer("intermediate_size")
    names = ("q", "k", "v", "post_attention", "intermediate", "output")
    groups = {name: c.integer(f"{name}_groups", high=10**5) for name in names}
    for name, count in groups.items():
        if hidden % count or inner % count:
            raise c.error(f"{name}_groups", f"is {count}, which does not divide {hidden} and {inner}")
    if (c.optional("embedding_size") or hidden) != hidden:
        raise c.error("embedding_size", "differs from hidden_size; the class needs them equal")
    a = self_attention(c, hidden)
    a = replace(a, projections=(*((x, hidden // groups[x], hidden) for x in "qkv"),
                                ("out", hidden // groups["post_attention"], hidden)))  # fmt: skip
    beside = (("mlp.up", hidden // groups["intermediate"], inner), ("mlp.down", inner // groups["output"], hidden))
    one = layer(a, None, "layer", hidden, name="attention + mlp", projections=beside, extra_parameters=inner + hidden)
    table = Embedding(c.integer("vocab_size"), hidden, c.integer("max_position_embeddings"),
                      c.integer("type_vocab_size", 0, low=0), norm_parameters=2 * hidden)  # fmt: skip
    return assemble(c, hidden, Parts(table, [one] * n))


def fnet(c: Config) -> Model:
    """FNet: a Fourier transform mixes tokens, without parameters (https://arxiv.org/abs/2105.03824)."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    table = Embedding(c.integer("vocab_size"), hidden, c.integer("max_position_embeddings"),
                      c.integer("type_vocab_size", 0, low=0), norm_parameters=2 * hidden,
                      projection_parameters=hidden * hidden + hidden)  # fmt: skip
    mlp = Mlp(c.integer("intermediate_size"), False, bias=True, activation="gelu")
    c.ignore("tpu_short_seq_length", "use_tpu_fourier_optimizations")
    return assemble(c, hidden, Parts(table, [layer(None, mlp, "layer", hidden, name="Fourier + mlp")] * n))


def mobilebert(c: Config) -> Model:
    """MobileBERT: layers work at a bottleneck's width, several small blocks each (https://arxiv.org/abs/2004.02984)."""
    hidden, n, inner = c.integer("hidden_size"), layer_count(c), c.integer("intermediate_size")
    narrow, vocab = c.integer("intra_bottleneck_size"), c.integer("vocab_size")
    if c.integer("true_hidden_size", narrow) != narrow:
        raise c.error("true_hidden_size", f"differs from intra_bottleneck_size {narrow}; not supported")
    width, blocks = c.integer("embedding_size"), c.integer("num_feedforward_networks", 4, high=1000)
    for key, due in (
        ("use_bottleneck", True),
        ("key_query_shared_bottleneck", True),
        ("use_bottleneck_attention", False),
    ):
        if c.flag(key, due) is not due:
            raise c.error(key, f"is {not due}; not supported")
    heads = c.integer("num_attention_heads")
    if narrow % heads or width >= hidden:
        raise c.error("num_attention_heads", f"does not divide {narrow}, or embedding_size is not below hidden_size")
    a = Attention(
        heads, heads, narrow // heads, q_bias=True, k_bias=True, v_bias=True, out_bias=True, causal=False, rotary=False,
        projections=(("qk", narrow, 2 * narrow), ("v", hidden, narrow), ("out", narrow, narrow)),
    )  # fmt: skip
    beside = [("bottleneck.in", hidden, 2 * narrow), ("bottleneck.out", narrow, hidden)]
    beside += [("mlp.up", narrow, inner), ("mlp.down", inner, narrow)] * blocks
    c.ignore("normalization_type", "classifier_activation")
    one = layer(
        a,
        None,
        "layer",
        narrow,
        norms=3 + blocks,
        extra_norms=[("layer", hidden)],
        name="attention + mlp",
        projections=tuple(beside),
        extra_parameters=2 * narrow + hidden + blocks * (inner + narrow),
    )
    wide = width * (3 if c.flag("trigram_input", True) else 1)
    # The table's vectors of three neighbouring tokens are joined; positions and segments are at full width.
    rows = c.integer("max_position_embeddings") + c.integer("type_vocab_size", 0, low=0)
    table = Embedding(
        vocab,
        width,
        norm_parameters=2 * hidden,
        extra_parameters=rows * hidden + hidden,
    )
    tie = c.flag("tie_word_embeddings", True)
    head = Head(
        vocab,
        tie,
        bias=True,
        extra_matmuls=(("head.transform", hidden, hidden), ("head.rest", hidden - width, vocab)),
        extra_parameters=hidden + (0 if tie else vocab),
        norm_parameters=2 * hidden,
        width=width,
    )
    model = encoder(c, hidden, table, [one] * n, head)
    joined = replace(model.text, input_matmuls=(("embedding.projection", wide, hidden, 1.0),))
    return replace(model, stacks=(joined,))


def esm(c: Config) -> Model:
    """ESM-2: pre-norm, rotary or learned positions, and a regression on the attention maps that predicts contacts."""
    hidden, n, vocab = c.integer("hidden_size"), layer_count(c), c.integer("vocab_size")
    if c.flag("is_folding_model"):
        raise c.error("is_folding_model", "is true; the folding trunk is not supported")
    kind = c.text("position_embedding_type", "absolute")
    positions = c.integer("max_position_embeddings") if kind == "absolute" else 0
    a = self_attention(c, hidden, rotary=kind == "rotary")
    norm = 2 * hidden if c.flag("emb_layer_norm_before") else 0
    table = Embedding(vocab, hidden, positions, norm_parameters=norm)
    mlp = Mlp(c.integer("intermediate_size"), False, bias=True, activation="gelu")
    c.ignore("token_dropout", "vocab_list", "esmfold_config")
    head = Head(vocab, c.flag("tie_word_embeddings", True), bias=True, extra_parameters=hidden,
                extra_matmuls=(("head.transform", hidden, hidden),), norm_parameters=2 * hidden)  # fmt: skip
    return encoder(c, hidden, table, [layer(a, mlp, "layer", hidden)] * n, head, final_norm="layer",
                   other=n * a.heads + 1)  # fmt: skip


def xlnet(c: Config) -> Model:
    """XLNet: relative positions with a projection of their own, segments, biases of the queries."""
    hidden, n, vocab = c.integer("d_model"), layer_count(c), c.integer("vocab_size")
    heads = c.integer("num_attention_heads", high=10**6)
    width = c.optional("d_head") or (hidden // heads if hidden % heads == 0 else 0)
    if heads * width != hidden:
        raise c.error("n_head", f"is {heads}: times d_head {width} it must be d_model {hidden}")
    a = Attention(heads, heads, width, causal=False, rotary=False, extra_parameters=hidden * hidden + 5 * hidden,
                  position_dim=2 * width, tied_matmuls=(("position", hidden, hidden, 2.0),))  # fmt: skip
    c.ignore(
        "mem_len",
        "reuse_len",
        "start_n_top",
        "end_n_top",
        "clamp_len",
        "bi_data",
        "use_mems_eval",
        "use_mems_train",
        "same_length",
        "untie_r",
        "ff_activation",
    )
    mlp = Mlp(c.integer("d_inner"), False, bias=True, activation="gelu")
    layers: list[Layer] = [layer(a, mlp, "layer", hidden)] * n
    head = Head(vocab, c.flag("tie_word_embeddings", True), bias=True)
    return encoder(c, hidden, Embedding(vocab, hidden, extra_parameters=hidden), layers, head)
