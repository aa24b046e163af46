"""Pieces shared by the adapters: attention geometry, feed-forward blocks, windows, stacks, and the finished model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.catalogue.families.config import MAX_LAYERS, Config
from planner.catalogue.families.stored import weight_dtype
from planner.catalogue.schema import (
    Attention,
    CompressedAttention,
    Embedding,
    Head,
    LatentAttention,
    Layer,
    LinearAttention,
    Mixer,
    Mlp,
    Model,
    Moe,
    NormKind,
    Stack,
)  # fmt: skip

SLIDING, CHUNKED, FULL = "sliding_attention", "chunked_attention", "full_attention"
FIRST_DENSE = {"kimi_linear", "hy_v3", "glm4_moe_lite"}  # classes that make the first layer dense
ROUNDED_HEADS = {"glm4_moe"}  # classes whose own defaults do not divide
_LAYER_TYPES = {SLIDING, CHUNKED, FULL, "attention", "full", "sliding", "global", "local"}


def layer_count(c: Config, key: str = "num_hidden_layers", fallback: Any = None) -> int:
    """Number of layers of a stack."""
    if fallback is None:
        return c.integer(key, high=MAX_LAYERS)
    return c.integer(key, fallback, high=MAX_LAYERS)


def head_counts(c: Config, *, kv_key: str = "num_key_value_heads") -> tuple[int, int]:
    """Query and key/value heads; the latter default to the former and must divide them."""
    heads = c.integer("num_attention_heads", high=10**6)
    kv = c.optional(kv_key, high=10**6) or heads
    if heads % kv:
        raise c.error(c.find(kv_key)[0], f"is {kv}, which does not divide the {heads} attention heads")
    return heads, kv


def head_width(c: Config, hidden: int, heads: int, *, explicit: bool = True) -> int:
    """``head_dim`` as stated, else hidden / heads, which must divide."""
    stated = c.optional("head_dim") if explicit else None
    if stated is not None:
        return stated
    if hidden % heads and c.model_type in ROUNDED_HEADS and hidden > heads:
        c.assume(f"head_dim {hidden // heads} is hidden_size {hidden} / {heads} heads rounded down, as the class does")
        return hidden // heads
    if hidden % heads:
        name = c.find("num_attention_heads")[0]
        raise c.error(name, f"is {heads}, which does not divide hidden_size {hidden}, and head_dim is not given")
    return hidden // heads


def attention(
    c: Config,
    hidden: int,
    *,
    bias: bool = False,
    out_bias: bool | None = None,
    qk_norm: str = "none",
    explicit_head_dim: bool = True,
    **more: Any,
) -> Attention:
    """Grouped-query attention from the usual keys; ``qk_norm`` is none, head (one weight a dimension) or full."""
    heads, kv = head_counts(c)
    width = head_width(c, hidden, heads, explicit=explicit_head_dim)
    norms = {"none": 0, "head": 2 * width, "full": (heads + kv) * width, "head_layer": 4 * width}[qk_norm]
    return Attention(
        heads, kv, width, q_bias=bias, k_bias=bias, v_bias=bias, out_bias=bias if out_bias is None else out_bias,
        qk_norm_parameters=norms, **more,
    )  # fmt: skip


def moe_block(c: Config, *, width: int, shared: Mlp | None = None, experts: int | None = None, **more: Any) -> Moe:
    """Routed experts from the usual keys; top_k may not exceed them."""
    count = experts or c.integer("num_experts", high=10**6)
    top_k = c.integer("num_experts_per_tok", high=10**6)
    if top_k > count:
        name = c.find("num_experts_per_tok")[0]
        raise c.error(name, f"is {top_k}, more than the {count} experts")
    return Moe(count, top_k, width, shared=shared, **more)


def layer_types(
    c: Config, n: int, default: Sequence[str], *, known: frozenset[str] = frozenset(), only: bool = False
) -> list[str]:
    """``layer_types`` as given (one a layer, only known kinds), else the family's default pattern.

    ``known`` are kinds besides those of attention, or with ``only`` instead of them.
    """
    given = c.items("layer_types", length=n)
    if given is None:
        return list(default)
    allowed = known if only else _LAYER_TYPES | known
    for i, kind in enumerate(given):
        if not isinstance(kind, str) or kind not in allowed:
            raise c.error("layer_types", f"[{i}] is {kind!r:.40}; allowed: {', '.join(sorted(allowed))}")
    return [str(k) for k in given]


def every(n: int, period: int, *, offset: int = 0, hit: str = FULL, miss: str = SLIDING) -> list[str]:
    """``hit`` at the last layer of each period (shifted by ``offset``), ``miss`` elsewhere."""
    return [hit if (i + 1 + offset) % period == 0 else miss for i in range(n)]


def window_of(c: Config, kind: str) -> int | None:
    """Keys a query sees in a layer of this kind; None for all."""
    if kind in (SLIDING, "sliding", "local"):
        return c.optional("sliding_window")
    if kind == CHUNKED:
        return c.optional("attention_chunk_size")
    return None


def sparse_layers(c: Config, n: int, *, first: int | None = None) -> list[bool]:
    """Which layers hold experts, by whichever of the usual keys says so; ``first`` dense ones if none does."""
    kinds = c.items("mlp_layer_types", length=n)
    if kinds is not None:
        for kind in kinds:
            if kind not in ("sparse", "dense"):
                raise c.error("mlp_layer_types", f"holds {kind!r:.40}; allowed: dense, sparse")
        c.ignore("first_k_dense_replace", "moe_layer_freq")
        return [kind == "sparse" for kind in kinds]
    freq = c.get("moe_layer_freq", 1)
    if isinstance(freq, list | tuple):
        listed = c.items("moe_layer_freq", length=n) or []
        c.ignore("first_k_dense_replace")
        if any(v not in (0, 1) for v in listed):
            raise c.error("moe_layer_freq", "may hold 0 and 1 only")
        return [bool(v) for v in listed]
    default = first if first is not None else int(c.model_type in FIRST_DENSE)
    first = c.integer("first_k_dense_replace", default, low=0, high=MAX_LAYERS)
    step = c.integer("moe_layer_freq", 1, high=MAX_LAYERS)
    return [i >= first and i % step == 0 for i in range(n)]


def stack(name: str, role: Any, hidden: int, layers: Sequence[Layer], **more: Any) -> Stack:
    """A stack from its layers in order; equal layers become one kind, kinds of one name are numbered."""
    kinds: list[Layer] = []
    order: list[int] = []
    seen: dict[Layer, int] = {}
    for layer in layers:
        if layer not in seen:
            seen[layer] = len(kinds)
            kinds.append(layer)
        order.append(seen[layer])
    named: list[Layer] = []
    taken: dict[str, int] = {}
    for layer in kinds:
        taken[layer.name] = taken.get(layer.name, 0) + 1
        suffix = f" {taken[layer.name]}" if taken[layer.name] > 1 else ""
        named.append(_renamed(layer, layer.name + suffix))
    return Stack(name, role, hidden, tuple(named), tuple(order), **more)


def _renamed(layer: Layer, name: str) -> Layer:
    values = dict(vars(layer))
    values["name"] = name
    return Layer(**values)


def layer(
    mixer: Mixer | None, ffn: Mlp | Moe | None, norm: NormKind, hidden: int, *, norms: int = 2, **more: Any
) -> Layer:
    """A layer with ``norms`` norms of one kind and width, named after what it holds."""
    extra = tuple(more.pop("extra_norms", ()))
    name = more.pop("name", None) or layer_name(mixer, ffn, more.get("cross"))
    return Layer(name, mixer, ffn, ((norm, hidden),) * norms + extra, **more)


def layer_name(mixer: Mixer | None, ffn: Mlp | Moe | None, cross: Attention | None = None) -> str:
    """Words for a layer: its mixer and its feed-forward block."""
    parts = []
    if isinstance(mixer, LatentAttention):
        parts.append("latent attention")
    elif isinstance(mixer, CompressedAttention):
        parts.append("compressed attention")
    elif isinstance(mixer, LinearAttention):
        parts.append(mixer.flavour)
    elif mixer is not None:
        parts.append("windowed attention" if mixer.window else "attention")
    if cross is not None:
        parts.append("cross-attention")
    if ffn is not None:
        parts.append("experts" if isinstance(ffn, Moe) else "mlp")
    return " + ".join(parts) or "empty"


def tied(root: Config, text: Config | None = None, fallback: bool = False) -> bool:
    """Whether head and token table are one: as the configuration of the class says, or its text section for some."""
    rule, inner = root.facts.ties, text is not None and text is not root and text.flag("tie_word_embeddings")
    stated = root.flag("tie_word_embeddings", fallback)
    return {"root": stated, "either": stated or inner, "section": inner, "never": False}[rule]


def decoder(
    c: Config,
    layers: Sequence[Layer],
    *,
    root: Config | None = None,
    norm: NormKind = "rms",
    tie: bool | None = None,
    head_bias: bool = False,
    hidden: int | None = None,
    embedding: Embedding | None = None,
    head: Head | None = None,
    before: Sequence[Stack] = (),
    positions: int = 0,
    dropout: bool = False,
    stack_more: dict[str, Any] | None = None,
    **more: Any,
) -> Model:
    """A decoder-only model: token table, layers, final norm, head."""
    root = root or c
    hidden = hidden or c.integer("hidden_size")
    vocab = c.integer("vocab_size")
    table = embedding or Embedding(vocab, hidden, positions)
    is_tied = tied(root, c) if tie is None else tie
    text = stack("decoder", "decoder", hidden, layers, final_norm=norm, **(stack_more or {}))
    return Model(
        id="", name="", family=root.model_type, hidden=hidden, embedding=table,
        head=head or Head(vocab, is_tied, bias=head_bias), stacks=(*before, text), dropout=dropout,
        max_positions=c.optional("max_position_embeddings") or 0, weight_dtype=weight_dtype(c, root),
        mtp_layers=c.integer("num_nextn_predict_layers", 0, low=0, high=MAX_LAYERS), **more,
    )  # fmt: skip
