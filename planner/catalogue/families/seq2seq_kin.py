"""Encoder-decoders built like BART or T5 but for positions, experts or tables: LED, NLLB-MoE, Switch, FSMT, T5Gemma.

Structure as built by the classes of Hugging Face transformers 5.24.0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from planner.catalogue.families import encoders
from planner.catalogue.families.blocks import layer, stack
from planner.catalogue.families.config import MAX_LAYERS, Config
from planner.catalogue.families.stored import weight_dtype
from planner.catalogue.schema import Attention, Embedding, Head, Mlp, Model, Moe, NormKind, Stack

Wrap = Callable[[int, Mlp], Mlp | Moe]


@dataclass(frozen=True)
class Row:
    """What sets a type apart from BART: rows of learned positions (a key and an offset for each side, or none)."""

    positions: tuple[str, ...] = ()
    offset: int = 0
    table_norm: bool = False
    final_norm: bool = True
    bias: str | bool = True
    ignored: tuple[str, ...] = ()


_BOTH = ("max_position_embeddings", "max_position_embeddings")
ROWS: dict[str, Row] = {
    "bigbird_pegasus": Row(_BOTH, bias="use_bias", ignored=("num_random_blocks",)),
    "led": Row(("max_encoder_position_embeddings", "max_decoder_position_embeddings"), table_norm=True,
               final_norm=False, ignored=("attention_window",)),
    "mvp": Row(_BOTH, offset=2, table_norm=True, final_norm=False, ignored=("prompt_length", "prompt_mid_dim")),
    "nllb-moe": Row(),
    "pegasus_x": Row(bias=False, ignored=("stagger_local_blocks",)),
    "seamless_m4t": Row(),
    "seamless_m4t_v2": Row(),
}  # fmt: skip
SPEECH = ("speech_", "t2u_", "adaptor_", "conformer_", "variance_", "vocoder_", "unit_", "num_adapter", "resblock_",
          "upsample_", "sampling_", "leaky_", "lang_", "spkr_", "var_", "conv_", "num_conv", "feature_", "position_",
          "char_", "left_max", "right_max", "max_source", "add_adapter", "t2u", "num_langs", "num_spkrs")  # fmt: skip


def side(c: Config, name: str, hidden: int, *, bias: bool = True) -> tuple[Attention, Mlp, int]:
    """Attention, feed-forward block and depth of the encoder or the decoder."""
    n, heads = c.integer(f"{name}_layers", high=MAX_LAYERS), c.integer(f"{name}_attention_heads", high=10**6)
    if hidden % heads:
        raise c.error(f"{name}_attention_heads", f"is {heads}, which does not divide the width {hidden}")
    a = Attention(heads, heads, hidden // heads, q_bias=bias, k_bias=bias, v_bias=bias, out_bias=bias,
                  causal=name == "decoder", rotary=False)  # fmt: skip
    return a, Mlp(c.integer(f"{name}_ffn_dim"), False, bias=True, activation="gelu"), n


def joined(c: Config, hidden: int, stacks: Sequence[Stack], head: Head | None, table: Embedding) -> Model:
    """The model of two stacks."""
    drop = c.get("dropout", 0.0)
    return Model(
        id="", name="", family=c.model_type, hidden=hidden, embedding=table, head=head, stacks=tuple(stacks),
        dropout=isinstance(drop, int | float) and drop > 0, weight_dtype=weight_dtype(c, c),
        max_positions=c.optional("max_position_embeddings") or 0,
    )  # fmt: skip


def bart_like(c: Config) -> Model:
    """A model of any ``model_type`` of :data:`ROWS`."""
    row, hidden = ROWS[c.model_type], c.integer("hidden_size" if c.model_type.startswith("seamless") else "d_model")
    bias = c.flag(row.bias) if isinstance(row.bias, str) else row.bias
    if c.model_type == "mvp" and c.flag("use_prompt"):
        raise c.error("use_prompt", "is true; prompts are not supported")
    if c.model_type in ("bigbird_pegasus", "led", "pegasus_x"):
        c.assume("attention scores are counted in full, where the encoder computes blocks of them")
    c.ignore(*row.ignored, *(k for k in c.values if c.model_type.startswith("seamless") and k.startswith(SPEECH)))
    last: NormKind = "layer" if row.final_norm else "none"
    stacks = []
    for i, name in enumerate(("encoder", "decoder")):
        a, mlp, n = side(c, name, hidden, bias=bias)
        rows = c.integer(row.positions[i]) + row.offset if row.positions else 0
        if name == "encoder":
            a, rows = _own_encoder(c, a, hidden, rows)
        wrap = _experts(c, name) if c.model_type == "nllb-moe" else None
        cross = replace(a, cross=True, causal=False) if name == "decoder" else None
        norms = 3 if cross or c.model_type == "pegasus_x" else 2
        layers = [layer(a, wrap(j, mlp) if wrap else mlp, "layer", hidden, norms=norms, cross=cross) for j in range(n)]
        stacks.append(
            stack(
                name,
                "decoder" if cross else "encoder",
                hidden,
                layers,
                final_norm=last,
                input_parameters=rows * hidden,
                extra_norm_parameters=2 * hidden * row.table_norm,
            )
        )
    vocab, tie = c.integer("vocab_size"), c.flag("tie_word_embeddings", True)
    return joined(
        c, hidden, stacks, Head(vocab, tie), Embedding(vocab, hidden, extra_parameters=_untied(c, vocab * hidden))
    )


def _untied(c: Config, table: int) -> int:
    """Tables of their own that encoder and decoder hold where nothing is tied."""
    return 0 if c.flag("tie_word_embeddings", True) else 2 * table


def _own_encoder(c: Config, a: Attention, hidden: int, rows: int) -> tuple[Attention, int]:
    if c.model_type == "led":  # global tokens have projections of their own
        return replace(a, extra_parameters=3 * (hidden * hidden + hidden)), rows
    return a, c.integer("num_global_tokens", 32) if c.model_type == "pegasus_x" else rows


def _experts(c: Config, name: str) -> Wrap:
    """NLLB's experts: two of them at every ``*_sparse_step``-th layer."""
    step, count = c.integer(f"{name}_sparse_step", 4, low=0, high=MAX_LAYERS), c.integer("num_experts", high=10**6)
    bias = count * c.flag("router_bias")
    c.ignore("expert_capacity", "moe_token_dropout")

    def block(i: int, mlp: Mlp) -> Mlp | Moe:
        if not step or (i + 1) % step:
            return mlp
        return Moe(count, min(2, count), mlp.width, gated=False, bias=True, router_parameters=bias, activation="relu")

    return block


def fsmt(c: Config) -> Model:
    """FSMT: tables of their own for source and target, an output projection that may share the target's."""
    pad = c.optional("pad_token_id", low=0)
    hidden, positions = c.integer("d_model"), c.integer("max_position_embeddings") + 1 + (1 if pad is None else pad)
    source, target = c.integer("src_vocab_size"), c.integer("tgt_vocab_size")
    tie = c.flag("tie_word_embeddings")
    if tie and source != target:
        raise c.error("src_vocab_size", f"is {source} and tgt_vocab_size {target}, but the tables are tied")
    a, mlp, n = side(c, "encoder", hidden)
    b, mlp2, m = side(c, "decoder", hidden)
    cross = replace(b, cross=True, causal=False)
    encoder = stack("encoder", "encoder", hidden, [layer(a, mlp, "layer", hidden)] * n, final_norm="none",
                    input_parameters=positions * hidden)  # fmt: skip
    decoder = stack("decoder", "decoder", hidden, [layer(b, mlp2, "layer", hidden, norms=3, cross=cross)] * m,
                    final_norm="none", input_parameters=(positions + target * (not tie)) * hidden)  # fmt: skip
    c.ignore("max_length", "langs")
    return joined(c, hidden, (encoder, decoder), Head(target, tie), Embedding(source, hidden))


def encoder_decoder(c: Config) -> Model:
    """Two BERTs joined: an encoder with its pooler, a decoder with cross-attention and its head."""
    sides = []
    for name in ("encoder", "decoder"):
        s = c.section(name, "bert", allowed=("bert",))
        assert s is not None
        s.ignore(
            "is_decoder",
            "add_cross_attention",
            "model_type",
            "architectures",
            "use_cache",
            "pooler_fc_size",
            "pooler_num_attention_heads",
            "pooler_num_fc_layers",
            "pooler_size_per_head",
            "pooler_type",
        )
        if name == "decoder" and not s.flag("add_cross_attention"):
            raise s.error("add_cross_attention", "is false; the decoder then does not see the encoder, not supported")
        sides.append(encoders.bert(s.with_values(is_decoder=False, add_cross_attention=False)))
        s.refuse_unread()
    first, second = sides
    if first.hidden != second.hidden:
        raise c.error("decoder", "and encoder differ in width, which needs a projection; not supported")
    hidden, e = second.hidden, second.embedding
    kinds = []
    for kind in second.text.kinds:
        assert isinstance(kind.mixer, Attention)
        a = replace(kind.mixer, causal=True)
        kinds.append(
            replace(kind, mixer=a, cross=replace(a, cross=True, causal=False), norms=(*kind.norms, kind.norms[0]))
        )
    assert e is not None
    own = (e.vocab + e.positions + e.types) * hidden
    decoder = replace(second.text, name="decoder", role="decoder", kinds=tuple(kinds), input_parameters=own,
                      extra_norm_parameters=e.norm_parameters)  # fmt: skip
    encoder = replace(first.text, output_parameters=hidden * hidden + hidden, output_group="other")
    return replace(second, family=c.model_type, embedding=first.embedding, stacks=(encoder, decoder),
                   max_positions=second.max_positions)  # fmt: skip
