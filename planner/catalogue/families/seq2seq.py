"""Encoder-decoders: the T5 line, the BART line, Whisper."""

from __future__ import annotations

from dataclasses import replace

from planner.catalogue.families.blocks import layer, stack
from planner.catalogue.families.config import MAX_LAYERS, Config
from planner.catalogue.families.stored import weight_dtype
from planner.catalogue.schema import Attention, Embedding, Head, Layer, Mlp, Model, Stack


def t5(c: Config) -> Model:
    """T5, mT5, UMT5: RMS norms, no biases, relative-position buckets at the first layer (UMT5: at every)."""
    hidden, depth = c.integer("d_model"), c.integer("num_layers", high=MAX_LAYERS)
    decoder_depth = c.optional("num_decoder_layers", high=MAX_LAYERS) or depth
    heads = c.integer("num_heads", high=10**6)
    form = c.text("feed_forward_proj", "relu")
    gated = c.flag("is_gated_act") if "is_gated_act" in c.values else form.startswith("gated")
    c.ignore("dense_act_fn", "n_positions", "output_past", "relative_attention_max_distance")
    mlp = Mlp(c.integer("d_ff"), gated, activation=form.removeprefix("gated-"))
    buckets = c.integer("relative_attention_num_buckets", 32) * heads
    mixer = Attention(heads, heads, c.integer("d_kv"), rotary=False)
    every = c.model_type == "umt5"
    encoder = _t5_layers(replace(mixer, causal=False), mlp, hidden, depth, buckets, every=every)
    cross = replace(mixer, cross=True, causal=False)
    decoder = _t5_layers(mixer, mlp, hidden, decoder_depth, buckets, every=every, cross=cross)
    stacks = [stack("encoder", "encoder", hidden, encoder), stack("decoder", "decoder", hidden, decoder)]
    vocab = c.integer("vocab_size")
    notes: tuple[str, ...] = ()
    if c.values.get("tie_word_embeddings") is False:
        notes = ("the class ties the head; v1.1, flan and mT5 checkpoints hold a head of their own: "
                 f"{vocab * hidden} parameters more",)  # fmt: skip
    c.ignore("tie_word_embeddings")
    return Model(
        id="", name="", family=c.model_type, hidden=hidden, embedding=Embedding(vocab, hidden),
        head=Head(vocab, True), stacks=tuple(stacks), dropout=_drops(c),
        weight_dtype=weight_dtype(c, c), notes=notes,
    )  # fmt: skip


def _t5_layers(
    mixer: Attention,
    mlp: Mlp,
    hidden: int,
    n: int,
    buckets: int,
    *,
    every: bool,
    cross: Attention | None = None,
) -> list[Layer]:
    norms = 3 if cross else 2
    first = layer(replace(mixer, extra_parameters=buckets), mlp, "rms", hidden, norms=norms, cross=cross)
    rest = first if every else layer(mixer, mlp, "rms", hidden, norms=norms, cross=cross)
    return [first] + [rest] * (n - 1)


def _drops(c: Config) -> bool:
    value = c.get("dropout_rate" if "dropout_rate" in c.defaults else "dropout", 0.0)
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _bart_side(c: Config, side: str, hidden: int) -> tuple[Attention, Mlp, int]:
    n = c.integer(f"{side}_layers", high=MAX_LAYERS)
    heads = c.integer(f"{side}_attention_heads", high=10**6)
    if hidden % heads:
        raise c.error(f"{side}_attention_heads", f"is {heads}, which does not divide d_model {hidden}")
    k_bias = c.model_type != "whisper"
    mixer = Attention(heads, heads, hidden // heads, q_bias=True, k_bias=k_bias, v_bias=True, out_bias=True,
                      causal=side == "decoder", rotary=False)  # fmt: skip
    return mixer, Mlp(c.integer(f"{side}_ffn_dim"), False, bias=True, activation="gelu"), n


LEARNED = {
    "bart": 2,
    "mbart": 2,
    "plbart": 2,
    "blenderbot": 0,
    "marian": 0,
    "pegasus": 0,
    "blenderbot-small": 0,
}
FIXED_BUT_STORED = ("marian", "pegasus")  # sinusoidal, held as a table that is counted
TABLE_NORM = ("bart", "mbart", "plbart", "blenderbot-small")
FINAL_NORM = ("mbart", "pegasus", "m2m_100", "blenderbot", "whisper", "speech_to_text")


def bart(c: Config) -> Model:
    """BART, mBART, PLBART, Pegasus, Marian, M2M-100, Blenderbot: one shared table, biases everywhere."""
    hidden = c.integer("d_model")
    a, mlp, n = _bart_side(c, "encoder", hidden)
    b, mlp2, m = _bart_side(c, "decoder", hidden)
    vocab = c.integer("vocab_size")
    c.ignore("num_hidden_layers", "share_encoder_decoder_embeddings", "decoder_vocab_size")
    if c.values.get("decoder_vocab_size") not in (None, vocab):
        raise c.error("decoder_vocab_size", "differs from vocab_size; two tables are not supported")
    positions = 0
    if c.model_type in LEARNED:
        positions = c.integer("max_position_embeddings") + LEARNED[c.model_type]
    table_norm = 2 * hidden if c.model_type in TABLE_NORM else 0
    last = "layer" if c.model_type in FINAL_NORM else "none"
    encoder = stack("encoder", "encoder", hidden, [layer(a, mlp, "layer", hidden)] * n, final_norm=last,
                    input_parameters=positions * hidden, extra_norm_parameters=table_norm)  # fmt: skip
    cross = replace(b, cross=True, causal=False)
    layers = [layer(b, mlp2, "layer", hidden, norms=3, cross=cross)] * m
    decoder = stack(
        "decoder",
        "decoder",
        hidden,
        layers,
        final_norm=last,
        input_parameters=positions * hidden,
        extra_norm_parameters=table_norm,
    )
    tie = c.flag("tie_word_embeddings", True)
    if c.model_type == "marian" and not (tie and c.flag("share_encoder_decoder_embeddings", True)):
        raise c.error("share_encoder_decoder_embeddings", "or tie_word_embeddings is false; not supported")
    model = _seq2seq(c, hidden, vocab, Head(vocab, tie), (encoder, decoder))
    if tie or c.model_type == "whisper":
        return model
    # Untied, encoder and decoder hold tables of their own beside the shared one.
    return replace(model, embedding=Embedding(vocab, hidden, extra_parameters=2 * vocab * hidden))


def _seq2seq(c: Config, hidden: int, vocab: int, head: Head | None, stacks: tuple[Stack, ...]) -> Model:
    limit = c.optional("max_target_positions") if c.model_type == "whisper" else c.optional("max_position_embeddings")
    return Model(
        id="",
        name="",
        family=c.model_type,
        hidden=hidden,
        embedding=Embedding(vocab, hidden),
        head=head,
        stacks=stacks,
        dropout=_drops(c),
        max_positions=limit or 0,
        weight_dtype=weight_dtype(c, c),
    )


def whisper(c: Config) -> Model:
    """Whisper: two convolutions halve the mel frames to ``max_source_positions`` encoder tokens."""
    hidden, mels = c.integer("d_model"), c.integer("num_mel_bins")
    a, mlp, n = _bart_side(c, "encoder", hidden)
    b, mlp2, m = _bart_side(c, "decoder", hidden)
    frames, positions = c.integer("max_source_positions"), c.integer("max_target_positions")
    c.ignore(
        "num_hidden_layers",
        "classifier_proj_size",
        "use_weighted_layer_sum",
        "max_length",
        "mask_feature_length",
        "mask_time_length",
        "median_filter_width",
    )
    convolutions = (("conv1", 3 * mels, hidden, 2.0), ("conv2", 3 * hidden, hidden, 1.0))
    encoder = stack(
        "encoder",
        "encoder",
        hidden,
        [layer(a, mlp, "layer", hidden)] * n,
        final_norm="layer",
        tokens=frames,
        input_parameters=frames * hidden + 2 * hidden,
        input_matmuls=convolutions,
    )
    layers = [layer(b, mlp2, "layer", hidden, norms=3, cross=replace(b, cross=True, causal=False))] * m
    decoder = stack("decoder", "decoder", hidden, layers, final_norm="layer", input_parameters=positions * hidden)
    vocab = c.integer("vocab_size")
    return _seq2seq(c, hidden, vocab, Head(vocab, c.flag("tie_word_embeddings", True)), (encoder, decoder))
