"""The GPT line: LayerNorm decoders with biases, learned or rotary or ALiBi positions."""

from __future__ import annotations

from dataclasses import replace

from planner.catalogue.families.blocks import attention, decoder, head_width, layer, layer_count, moe_block
from planner.catalogue.families.config import Config
from planner.catalogue.schema import Attention, Embedding, Head, Mlp, Model, NormKind


def _dropout(c: Config, *keys: str) -> bool:
    return any(isinstance(c.values.get(k, c.defaults.get(k)), float) and c.number(k, 0.0) > 0 for k in keys)


def gpt2(c: Config) -> Model:
    """GPT-2, and GPT-BigCode, whose ``multi_query`` leaves one key/value head."""
    hidden, n = c.integer("n_embd" if "n_embd" in c.defaults else "hidden_size"), layer_count(c)
    heads = c.integer("num_attention_heads", high=10**6)
    kv = 1 if c.model_type == "gpt_bigcode" and c.flag("multi_query") else heads
    if c.model_type == "gpt_bigcode":
        c.ignore("num_key_value_heads")  # the class sets it from multi_query
    mixer = Attention(
        heads,
        kv,
        head_width(c, hidden, heads, explicit=False),
        q_bias=True,
        k_bias=True,
        v_bias=True,
        out_bias=True,
        rotary=False,
    )
    mlp = Mlp(c.optional("intermediate_size") or 4 * hidden, False, bias=True, activation="gelu")
    if c.flag("add_cross_attention"):
        raise c.error("add_cross_attention", "is true; a GPT-2 with cross-attention is not supported")
    return decoder(
        c,
        [layer(mixer, mlp, "layer", hidden)] * n,
        norm="layer",
        hidden=hidden,
        positions=c.integer("max_position_embeddings"),
        dropout=_dropout(c, "resid_pdrop", "attn_pdrop"),
    )


def gpt_neo(c: Config) -> Model:
    """GPT-Neo: no q/k/v bias, local and global attention in turn."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    heads = c.integer("num_attention_heads", high=10**6)
    window = c.optional("window_size")
    mixer = Attention(heads, heads, head_width(c, hidden, heads, explicit=False), out_bias=True, rotary=False)
    mlp = Mlp(c.optional("intermediate_size") or 4 * hidden, False, bias=True, activation="gelu")
    kinds = _neo_kinds(c, n)
    layers = [layer(replace(mixer, window=window if k == "local" else None), mlp, "layer", hidden) for k in kinds]
    return decoder(c, layers, norm="layer", hidden=hidden, positions=c.integer("max_position_embeddings"))


def _neo_kinds(c: Config, n: int) -> list[str]:
    kinds: list[str] = []
    stated = c.items("attention_layers", length=n)
    if stated is not None and not set(map(str, stated)) <= {"global", "local"}:
        raise c.error("attention_layers", "may hold global and local only")
    for entry in c.items("attention_types") or [[["global", "local"], n // 2]]:
        ok = isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[0], list)
        if not ok or not isinstance(entry[1], int) or not 0 < entry[1] <= n:
            raise c.error("attention_types", "must be a list of [kinds, repeats]")
        kinds += [str(k) for k in entry[0]] * entry[1]
    if len(kinds) != n or not set(kinds) <= {"global", "local"}:
        raise c.error("attention_types", f"names {len(kinds)} layers of {n}; kinds: global, local")
    return kinds if stated is None else [str(kind) for kind in stated]


def gptj(c: Config) -> Model:
    """GPT-J and CodeGen: parallel attention and MLP behind one norm, rotary, head with bias."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    heads = c.integer("num_attention_heads", high=10**6)
    mixer = Attention(heads, heads, head_width(c, hidden, heads, explicit=False))
    mlp = Mlp(c.optional("intermediate_size") or 4 * hidden, False, bias=True, activation="gelu")
    layers = [layer(mixer, mlp, "layer", hidden, norms=1, parallel=True)] * n
    return decoder(c, layers, norm="layer", hidden=hidden, head_bias=True)


def gpt_neox(c: Config) -> Model:
    """GPT-NeoX and Pythia: parallel residual, two norms, untied head."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    heads = c.integer("num_attention_heads", high=10**6)
    bias = c.flag("attention_bias", True)
    mixer = Attention(heads, heads, head_width(c, hidden, heads, explicit=False), q_bias=bias, k_bias=bias,
                      v_bias=bias, out_bias=bias)  # fmt: skip
    mlp = Mlp(c.integer("intermediate_size"), False, bias=True, activation="gelu")
    parallel = c.flag("use_parallel_residual", True)
    return decoder(c, [layer(mixer, mlp, "layer", hidden, parallel=parallel)] * n, norm="layer", hidden=hidden)


def opt(c: Config) -> Model:
    """OPT: learned positions with an offset of 2, optional factored embedding (350M) and post-norm."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    bias = c.flag("enable_bias", True)
    heads = c.integer("num_attention_heads", high=10**6)
    mixer = Attention(heads, heads, head_width(c, hidden, heads, explicit=False), q_bias=bias, k_bias=bias,
                      v_bias=bias, out_bias=bias, rotary=False)  # fmt: skip
    mlp = Mlp(c.integer("intermediate_size"), False, bias=bias, activation="relu")
    norm: NormKind = "layer" if c.flag("layer_norm_elementwise_affine", True) else "none"
    width = c.optional("word_embed_proj_dim") or hidden
    vocab, positions = c.integer("vocab_size"), c.integer("max_position_embeddings") + 2
    factored = width != hidden
    table = Embedding(vocab, width, 0, extra_parameters=positions * hidden,
                      projection_parameters=width * hidden if factored else 0)  # fmt: skip
    is_tied = c.flag("tie_word_embeddings", True)
    extra = (("head.project", hidden, width),) if factored else ()
    last: NormKind = norm if c.flag("do_layer_norm_before", True) and not c.flag("_remove_final_layer_norm") else "none"
    return decoder(
        c,
        [layer(mixer, mlp, norm, hidden)] * n,
        norm=last,
        hidden=hidden,
        embedding=table,
        head=Head(vocab, is_tied, extra_matmuls=extra, width=width),
        dropout=_dropout(c, "dropout"),
    )


def bloom(c: Config) -> Model:
    """BLOOM: ALiBi, a norm after the token table, tied head."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    heads = c.integer("num_attention_heads", high=10**6)
    mixer = Attention(heads, heads, head_width(c, hidden, heads, explicit=False), q_bias=True, k_bias=True,
                      v_bias=True, out_bias=True, rotary=False)  # fmt: skip
    mlp = Mlp(4 * hidden, False, bias=True, activation="gelu")
    table = Embedding(c.integer("vocab_size"), hidden, norm_parameters=2 * hidden)
    return decoder(c, [layer(mixer, mlp, "layer", hidden)] * n, norm="layer", hidden=hidden, embedding=table)


def mpt(c: Config) -> Model:
    """MPT: ALiBi, LayerNorm without bias, no biases at all."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    heads = c.integer("num_attention_heads", high=10**6)
    section = c.section("attn_config", "mpt_attention", required=False)
    kind = section.text("attn_type", "multihead_attention") if section else "multihead_attention"
    if section and (kind != "multihead_attention" or section.flag("qk_ln") or section.has("kv_n_heads")):
        raise c.error("attn_config", "states grouped attention or q/k norms; the MPT class builds neither")
    ratio = c.integer("expansion_ratio", 4, high=1000)
    if ratio != 4:
        raise c.error("expansion_ratio", f"is {ratio}, but the MPT class always builds 4")
    mixer = Attention(heads, heads, head_width(c, hidden, heads, explicit=False), rotary=False)
    mlp = Mlp(ratio * hidden, False, activation="gelu")
    if not c.flag("no_bias", True):
        raise c.error("no_bias", "is false; the MPT class builds no biases")
    return decoder(c, [layer(mixer, mlp, "layer_nobias", hidden)] * n, norm="layer_nobias", hidden=hidden)


def falcon(c: Config) -> Model:
    """Falcon: 7B (one key/value head, one norm), 40B and 180B (grouped, two norms), RW (multi-head, ALiBi)."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    heads = c.integer("num_attention_heads", high=10**6)
    width = head_width(c, hidden, heads, explicit=False)
    new = c.flag("new_decoder_architecture")
    multi, parallel = c.flag("multi_query", True), c.flag("parallel_attn", True)
    stated = c.optional("num_key_value_heads", high=10**6) or heads
    kv = stated if new else 1 if multi else heads
    if heads % kv:
        raise c.error("num_kv_heads", f"is {kv}, which does not divide the {heads} attention heads")
    bias = c.flag("bias")
    mixer = Attention(heads, kv, width, q_bias=bias, k_bias=bias, v_bias=bias, out_bias=bias,
                      rotary=not c.flag("alibi"))  # fmt: skip
    mlp = Mlp(c.optional("intermediate_size") or 4 * hidden, False, bias=bias, activation="gelu")
    listed = c.optional("num_ln_in_parallel_attn", high=10)
    norms = 2 if not parallel or listed == 2 or (listed is None and new) else 1
    return decoder(c, [layer(mixer, mlp, "layer", hidden, norms=norms, parallel=parallel)] * n, norm="layer",
                   hidden=hidden)  # fmt: skip


def phi(c: Config) -> Model:
    """Phi-1, 1.5 and 2: parallel attention and MLP behind one norm, biases everywhere, head with bias."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    qk = "head_layer" if c.flag("qk_layernorm") else "none"
    mixer = attention(c, hidden, bias=True, qk_norm=qk, explicit_head_dim=False)
    mlp = Mlp(c.integer("intermediate_size"), False, bias=True, activation="gelu")
    return decoder(
        c, [layer(mixer, mlp, "layer", hidden, norms=1, parallel=True)] * n, norm="layer", hidden=hidden, head_bias=True
    )


def xglm(c: Config) -> Model:
    """XGLM: sinusoidal positions; BioGPT: learned positions with an offset of 2."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    key = "attention_heads" if c.model_type == "xglm" else "num_attention_heads"
    heads = c.integer(key, high=10**6)
    mixer = Attention(heads, heads, head_width(c, hidden, heads, explicit=False), q_bias=True, k_bias=True,
                      v_bias=True, out_bias=True, rotary=False)  # fmt: skip
    mlp = Mlp(c.integer("intermediate_size"), False, bias=True, activation="gelu")
    if c.flag("add_cross_attention"):
        raise c.error("add_cross_attention", "is true; not supported")
    positions = c.integer("max_position_embeddings") + 2 if c.model_type == "biogpt" else 0
    return decoder(c, [layer(mixer, mlp, "layer", hidden)] * n, norm="layer", hidden=hidden, positions=positions)


def dbrx(c: Config) -> Model:
    """DBRX: grouped attention, 16 experts of which 4 work, LayerNorm without bias; sizes in nested sections."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    heads = c.integer("num_attention_heads", high=10**6)
    a, f = c.section("attn_config", "dbrx_attention"), c.section("ffn_config", "dbrx_ffn")
    assert a is not None and f is not None
    kv = a.integer("kv_n_heads", 1, high=10**6)
    if heads % kv:
        raise a.error("kv_n_heads", f"is {kv}, which does not divide the {heads} attention heads")
    mixer = Attention(heads, kv, head_width(c, hidden, heads, explicit=False))
    f_width, experts = f.integer("intermediate_size", 3584), f.integer("num_experts", 4, high=10**6)
    top_k = f.integer("num_experts_per_tok", 1, high=10**6)
    values = {"num_experts": experts, "num_experts_per_tok": top_k}
    moe = moe_block(Config(values, where=c.where, model_type=c.model_type, path="ffn_config."), width=f_width)
    return decoder(c, [layer(mixer, moe, "layer_nobias", hidden)] * n, norm="layer_nobias", hidden=hidden)
