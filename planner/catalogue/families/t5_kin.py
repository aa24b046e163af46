"""Kin of T5: LongT5's wide encoder, Switch's experts, and Gemma 2 twice (T5Gemma).

Structure as built by the classes of Hugging Face transformers 5.24.0.
"""

from __future__ import annotations

from dataclasses import replace

from planner.catalogue.families.blocks import attention, every, layer, layer_types, stack, window_of
from planner.catalogue.families.config import MAX_LAYERS, Config
from planner.catalogue.families.seq2seq_kin import Wrap, joined
from planner.catalogue.schema import Attention, Embedding, Head, Layer, Mlp, Model, Moe, Stack


def t5_like(c: Config) -> Model:
    """LongT5 (local or transient-global encoder) and Switch Transformers (one expert of several at some layers)."""
    hidden, depth = c.integer("d_model"), c.integer("num_layers", high=MAX_LAYERS)
    below = c.optional("num_decoder_layers", high=MAX_LAYERS) or depth
    heads, vocab = c.integer("num_heads", high=10**6), c.integer("vocab_size")
    switch = c.model_type == "switch_transformers"
    form = "relu" if switch else c.text("feed_forward_proj", "relu")
    gated = bool(c.values["is_gated_act"]) if not switch and "is_gated_act" in c.values else form.startswith("gated")
    mlp = Mlp(c.integer("d_ff"), gated, activation=form.removeprefix("gated-"))
    buckets = c.integer("relative_attention_num_buckets", 32) * heads
    a = Attention(heads, heads, c.integer("d_kv"), rotary=False)
    wide = not switch and c.text("encoder_attention_type", "local") == "transient-global"
    c.ignore(
        "is_gated_act",
        "dense_act_fn",
        "local_radius",
        "global_block_size",
        "expert_capacity",
        "encoder_sparse_step",
        "decoder_sparse_step",
        "relative_attention_max_distance",
        "num_hidden_layers",
    )
    stacks = []
    for name, n in (("encoder", depth), ("decoder", below)):
        cross = replace(a, cross=True, causal=False) if name == "decoder" else None
        wrap = _switch(c, name, n) if switch else lambda i, block: block
        own = replace(a, causal=cross is not None)
        whole = wide and cross is None
        layers = []
        for i in range(n):
            first = replace(own, extra_parameters=buckets * (2 if whole else 1)) if i == 0 else own
            layers.append(layer(first, wrap(i, mlp), "rms", hidden, norms=3 if cross or whole else 2, cross=cross))
        stacks.append(stack(name, "decoder" if cross else "encoder", hidden, layers))
    # LongT5 ties whatever the config says, as T5 does.
    tie = c.flag("tie_word_embeddings", True) or not switch
    table = Embedding(vocab, hidden, extra_parameters=0 if tie else 2 * vocab * hidden)
    return joined(c, hidden, stacks, Head(vocab, tie), table)


def _switch(c: Config, name: str, n: int) -> Wrap:
    sparse, count = c.integer(f"num_sparse_{name}_layers", 3, low=0, high=n), c.integer("num_experts", high=10**6)
    # A stated step is the one the class keeps.
    step = c.integer(f"{name}_sparse_step", n // sparse if sparse else n, low=0, high=MAX_LAYERS)
    bias = count * c.flag("router_bias")

    def block(i: int, mlp: Mlp) -> Mlp | Moe:
        if not step or (i % step != 1 and step != 1):
            return mlp
        return Moe(count, 1, mlp.width, gated=False, router_parameters=bias, activation="relu")

    return block


def t5gemma(c: Config) -> Model:
    """T5Gemma: Gemma 2 twice, the decoder with cross-attention in six norms a layer, tables of their own."""
    stacks: list[Stack] = []
    tables, read = [], 0
    for name in ("encoder", "decoder"):
        s = c.section(name, "t5_gemma_module")
        assert s is not None
        hidden, n = s.integer("hidden_size"), s.integer("num_hidden_layers", high=MAX_LAYERS)
        kinds = layer_types(s, n, every(n, 2))
        a = attention(s, hidden, bias=s.flag("attention_bias"))
        mlp = Mlp(s.integer("intermediate_size"), True, activation="gelu")
        cross = None
        if name == "decoder":
            if hidden != read:
                raise s.error("hidden_size", f"is {hidden} and the encoder's {read}; unequal widths are not supported")
            cross = replace(a, cross=True, causal=False, rotary=False)
        own = {k: replace(a, causal=cross is not None, window=window_of(s, k)) for k in set(kinds)}
        layers: list[Layer] = [layer(own[k], mlp, "rms", hidden, norms=6 if cross else 4, cross=cross) for k in kinds]
        s.ignore("cross_attention_hidden_size", "use_bidirectional_attention", "is_decoder")
        tables.append(s.integer("vocab_size"))
        s.refuse_unread()
        read = hidden
        stacks.append(stack(name, "decoder" if cross else "encoder", hidden, layers))
    if tables[0] != c.integer("vocab_size", tables[1]) or tables[0] != tables[1]:
        raise c.error("vocab_size", "differs between encoder, decoder and the whole; not supported")
    stacks[1] = replace(stacks[1], input_parameters=tables[1] * read)
    return joined(c, read, stacks, Head(tables[1], c.flag("tie_word_embeddings", True)), Embedding(tables[0], read))
