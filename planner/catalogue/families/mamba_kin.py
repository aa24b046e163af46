"""State space models, and hybrids of them with attention: Mamba, Jamba, Bamba, Falcon-H1, Granite 4, Nemotron-H."""

from __future__ import annotations

from dataclasses import replace

from planner.catalogue.families import linear
from planner.catalogue.families.blocks import (
    FULL,
    attention,
    decoder,
    layer,
    layer_count,
    layer_types,
    moe_block,
)
from planner.catalogue.families.config import MAX_LAYERS, Config
from planner.catalogue.schema import Layer, LinearAttention, Mixer, Mlp, Model, Moe

LINEAR = "linear_attention"

_PATTERN = {"M": "mamba", "E": "moe", "*": "attention", "-": "mlp"}
_KINDS = {
    "mamba": "mamba",
    LINEAR: "mamba",
    "moe": "moe",
    "attention": "attention",
    FULL: "attention",
    "mlp": "mlp",
}


def nemotron_h(c: Config) -> Model:
    """Nemotron-H and Nemotron 3: each layer is one of Mamba-2, attention, MLP or experts, behind one norm."""
    hidden = c.integer("hidden_size")
    kinds = _nemotron_kinds(c)
    built = {kind: _nemotron_layer(c, kind, hidden) for kind in dict.fromkeys(kinds)}
    c.ignore(
        "num_hidden_layers",
        "mtp_layers_block_type",
        "mtp_hybrid_override_pattern",
        "expand",
        "mamba_expand",
        "n_group",
        "mamba_num_groups",
        "intermediate_size",
        "attention_bias",
        "mamba_proj_bias",
        "tie_word_embeddings",
    )
    return decoder(c, [built[k] for k in kinds])


def _nemotron_kinds(c: Config) -> list[str]:
    listed = c.items("layers_block_type") or c.items("layer_types")
    pattern = c.text("hybrid_override_pattern")
    if listed is None and pattern:
        unknown_marks = set(pattern) - set(_PATTERN)
        if unknown_marks:
            raise c.error("hybrid_override_pattern", f"holds {sorted(unknown_marks)[0]!r}; allowed: M E * -")
        listed = [_PATTERN[mark] for mark in pattern]
    if listed is None:
        c.assume("layers_block_type Mamba, experts, attention, MLP is the class default of NemotronHConfig")
        listed = ["mamba", "moe", "attention", "mlp"]
    if not listed:
        raise c.error("layers_block_type", "is empty")
    for kind in listed:
        if not isinstance(kind, str) or kind not in _KINDS:
            raise c.error("layers_block_type", f"holds {kind!r:.40}; allowed: {', '.join(sorted(_KINDS))}")
    stated = c.optional("num_hidden_layers", high=MAX_LAYERS)
    if stated is not None and stated != len(listed):
        raise c.error("num_hidden_layers", f"is {stated}, but {len(listed)} layers are listed")
    if len(listed) > MAX_LAYERS:
        raise c.error("layers_block_type", f"lists more than {MAX_LAYERS} layers")
    return [_KINDS[k] for k in listed]


def _nemotron_layer(c: Config, kind: str, hidden: int) -> Layer:
    mixer: Mixer | None = None
    ffn: Mlp | Moe | None = None
    if kind == "mamba":
        mixer = linear.mamba2(
            hidden, heads=c.integer("mamba_num_heads", high=10**6), head_dim=c.integer("mamba_head_dim"),
            groups=c.integer("n_groups", high=10**6), state=c.integer("ssm_state_size"),
            kernel=c.integer("conv_kernel", high=1024), chunk=c.integer("chunk_size", 128),
            conv_bias=c.flag("use_conv_bias", True), bias=c.flag("use_bias"),
        )  # fmt: skip
    elif kind == "attention":
        mixer = replace(attention(c, hidden), rotary=False)
    elif kind == "mlp":
        ffn = Mlp(c.integer("intermediate_size"), False, bias=c.flag("mlp_bias"), activation="relu2")
    else:
        bias = c.flag("mlp_bias")
        shared = Mlp(c.integer("moe_shared_expert_intermediate_size"), False, bias=bias, activation="relu2")
        c.ignore("n_shared_experts")
        latent = c.optional("moe_latent_size") or 0
        ffn = moe_block(
            c,
            width=c.integer("moe_intermediate_size"),
            shared=shared,
            gated=False,
            activation="relu2",
            latent_dim=latent,
            router_parameters=(hidden + latent) * bias if latent else 0,
        )
    return layer(mixer, ffn, "rms", hidden, norms=1)


def mamba(c: Config) -> Model:
    """Mamba, Falcon-Mamba and Mamba-2: one norm and one mixer a layer."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    kernel, state = c.integer("conv_kernel", high=1024), c.integer("state_size")
    conv_bias, bias = c.flag("use_conv_bias", True), c.flag("use_bias")
    if c.model_type == "mamba2":
        heads, width = c.integer("num_heads", high=10**6), c.integer("head_dim")
        mixer = linear.mamba2(
            hidden,
            heads=heads,
            head_dim=width,
            groups=c.integer("n_groups", high=10**6),
            state=state,
            kernel=kernel,
            chunk=c.integer("chunk_size", 256),
            conv_bias=conv_bias,
            bias=bias,
        )
        inner = int(c.number("expand", 2.0) * hidden)
        if inner != heads * width:
            raise c.error("expand", f"times hidden_size is {inner}, but num_heads x head_dim is {heads * width}")
    else:
        rank = c.get("time_step_rank", "auto")
        rank = -(-hidden // 16) if rank in (None, "auto") else c.integer("time_step_rank")
        expanded = int(c.number("expand", 2.0) * hidden)
        inner = c.integer("intermediate_size", expanded)
        if c.values.get("d_inner") not in (None, inner):
            raise c.error("d_inner", f"differs from the inner width {inner}, and the class does not read it")
        c.ignore("d_inner")
        mixer = linear.mamba1(
            hidden, inner=inner, state=state, rank=rank, kernel=kernel, conv_bias=conv_bias, bias=bias
        )
    c.ignore("num_attention_heads", "rms_norm", "d_model")
    return decoder(c, [layer(mixer, None, "rms", hidden, norms=1)] * n)


def jamba(c: Config) -> Model:
    """Jamba: one attention in eight layers, the rest Mamba; experts in every second."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    rank = c.get("mamba_dt_rank", "auto")
    rank = -(-hidden // 16) if rank in (None, "auto") else c.integer("mamba_dt_rank")
    state, inner = c.integer("mamba_d_state"), c.integer("mamba_expand", high=100) * hidden
    fast = linear.mamba1(
        hidden, inner=inner, state=state, rank=rank, kernel=c.integer("mamba_d_conv", high=1024),
        conv_bias=c.flag("mamba_conv_bias", True), bias=c.flag("mamba_proj_bias"), norms=rank + 2 * state,
    )  # fmt: skip
    full = replace(attention(c, hidden), rotary=False)
    period, offset = c.integer("attn_layer_period", 8), c.integer("attn_layer_offset", 4, low=0)
    e_period, e_offset = c.integer("expert_layer_period", 2), c.integer("expert_layer_offset", 1, low=0)
    listed = c.items("layers_block_type", length=n)
    if listed is not None and list(listed) != ["attention" if i % period == offset else "mamba" for i in range(n)]:
        raise c.error("layers_block_type", "is not what attn_layer_period and attn_layer_offset say")
    width, experts = c.integer("intermediate_size"), c.integer("num_experts", high=10**6)
    dense = Mlp(width, True)
    moe = moe_block(c, width=width) if experts > 1 else dense
    layers = [
        layer(full if i % period == offset else fast, moe if i % e_period == e_offset else dense, "rms", hidden)
        for i in range(n)
    ]
    return decoder(c, layers)


def _mamba_keys(
    c: Config, hidden: int, *, inner: int | None = None, norm: bool = True, out_bias: bool = True
) -> LinearAttention:
    """Mamba-2 from the ``mamba_*`` keys of Bamba, Granite 4 and Falcon-H1."""
    inner = inner or c.integer("mamba_expand", high=100) * hidden
    heads = c.integer("mamba_n_heads", high=10**6)
    width = c.get("mamba_d_head", "auto")
    if inner % heads:
        raise c.error("mamba_n_heads", f"is {heads}, which does not divide the inner width {inner}")
    width = inner // heads if width in (None, "auto") else c.integer("mamba_d_head")
    if width * heads != inner:
        raise c.error("mamba_d_head", f"times {heads} heads is not the inner width {inner}")
    return linear.mamba2(
        hidden, heads=heads, head_dim=width, groups=c.integer("mamba_n_groups", high=10**6),
        state=c.integer("mamba_d_state"), kernel=c.integer("mamba_d_conv", high=1024),
        chunk=c.integer("mamba_chunk_size", 256), conv_bias=c.flag("mamba_conv_bias", True),
        bias=c.flag("mamba_proj_bias"), norm=norm, out_bias=out_bias,
    )  # fmt: skip


def bamba(c: Config) -> Model:
    """Bamba: Mamba-2 with attention at the listed layers, a dense MLP everywhere."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    at = set(c.indices("attn_layer_indices", high=n - 1))
    fast, full = _mamba_keys(c, hidden), attention(c, hidden, bias=c.flag("attention_bias"))
    mlp = Mlp(c.integer("intermediate_size"), True, bias=c.flag("mlp_bias"))
    return decoder(c, [layer(full if i in at else fast, mlp, "rms", hidden) for i in range(n)])


def falcon_h1(c: Config) -> Model:
    """Falcon-H1: attention and Mamba-2 side by side in every layer."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    inner = c.optional("mamba_d_ssm") or c.integer("mamba_expand", high=100) * hidden
    c.ignore(
        "mamba_expand",
        "mamba_use_mlp",
        "mlp_expansion_factor",
        "attn_layer_indices",
        "mamba_norm_before_gate",
        "projectors_bias",
        "attn_layer_indices",
    )
    fast = _mamba_keys(c, hidden, inner=inner, norm=c.flag("mamba_rms_norm"), out_bias=False)
    if c.flag("projectors_bias"):
        raise c.error("projectors_bias", "is true; not supported")
    full = attention(c, hidden, bias=c.flag("attention_bias"))
    mlp = Mlp(c.integer("intermediate_size"), True, bias=c.flag("mlp_bias"))
    one = replace(layer(full, mlp, "rms", hidden), second_mixer=fast, name="attention beside Mamba-2 + mlp")
    return decoder(c, [one] * n)


def granite_hybrid(c: Config) -> Model:
    """Granite 4: Mamba-2 and attention, routed experts (or none) plus a shared MLP."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    kinds = layer_types(c, n, ["mamba"] * n, known=frozenset({"mamba", LINEAR, "attention", FULL}), only=True)
    full = attention(c, hidden, bias=c.flag("attention_bias"))
    fast = _mamba_keys(c, hidden)
    shared = Mlp(c.integer("shared_intermediate_size"), True)
    ffn: Mlp | Moe = shared
    if c.integer("num_experts", low=0, high=10**6):
        ffn = moe_block(c, width=c.integer("intermediate_size"), shared=shared)
    c.ignore("intermediate_size", "num_experts_per_tok")
    return decoder(c, [layer(fast if k in ("mamba", LINEAR) else full, ffn, "rms", hidden) for k in kinds])
