"""Decoders of attention and experts that differ from the Llama line by more than a flag: gates, sinks, own patterns.

Structure as built by the classes of Hugging Face transformers 5.24.0; each builder names what sets its type apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from planner.catalogue.families import llama
from planner.catalogue.families.blocks import (
    FULL,
    SLIDING,
    attention,
    decoder,
    every,
    layer,
    layer_count,
    layer_types,
    moe_block,
    sparse_layers,
    window_of,
)
from planner.catalogue.families.config import MAX_LAYERS, Config
from planner.catalogue.schema import Attention, Head, Layer, Mixer, Mlp, Model, Moe, NormKind

Feed = Sequence[Mlp | Moe | None]


def built(c: Config, mixers: Sequence[Mixer], feed: Feed, *, norms: int = 2, norm: NormKind = "rms",
          each: dict[str, Any] | None = None, **up: Any) -> Model:  # fmt: skip
    """A decoder from a mixer and a feed-forward block a layer; ``each`` is what every layer gains besides."""
    hidden = c.integer("hidden_size")
    cached: dict[tuple[int, int], Layer] = {}
    layers = []
    for m, f in zip(mixers, feed, strict=True):
        key = (id(m), id(f))
        if key not in cached:
            cached[key] = layer(m, f, norm, hidden, norms=norms, **(each or {}))
        layers.append(cached[key])
    return decoder(c, layers, norm=norm, **up)


def windowed(c: Config, base: Attention, kinds: Sequence[str]) -> list[Mixer]:
    """The attention block of each layer, with the window of its kind."""
    of = {kind: replace(base, window=window_of(c, kind)) for kind in set(kinds)}
    return [of[kind] for kind in kinds]


def fed(c: Config, routed: Sequence[bool], moe: Moe | None, *, key: str = "intermediate_size", **more: Any) -> Feed:
    """Experts where ``routed``, a dense gated block of width ``key`` elsewhere."""
    c.ignore(key)
    dense = None if all(routed) else Mlp(c.integer(key), True, **more)
    return [moe if r else dense for r in routed]


def shared_block(width: int) -> Mlp | None:
    """A shared expert of this width, or none."""
    return Mlp(width, True) if width else None


def experts(c: Config, key: str = "moe_intermediate_size", *, shared: int = 0, **more: Any) -> Moe:
    """Routed experts of width ``key`` beside a shared block of width ``shared``."""
    return moe_block(c, width=c.integer(key), shared=shared_block(shared), **more)


def _shared_experts(c: Config, width: int, default: int = 0) -> int:
    return width * c.integer("n_shared_experts", default, low=0, high=10**4)


def with_gate(a: Attention, *, head: bool = False) -> Attention:
    """Attention with an output gate: a value for each of its outputs, or one a head."""
    return replace(a, gate=a.heads if head else a.heads * a.head_dim)


def afmoe(c: Config, **up: Any) -> Model:
    """AFMoE (Trinity): gated attention, four norms a layer, a learned bias of the router."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    kinds = layer_types(c, n, every(n, c.integer("global_attn_every_n_layers", 4, high=MAX_LAYERS)))
    c.ignore("global_attn_every_n_layers")
    a = with_gate(attention(c, hidden, bias=c.flag("attention_bias"), qk_norm="head"))
    first = c.integer("num_dense_layers", 1, low=0, high=MAX_LAYERS)
    moe = experts(c, shared=_shared_experts(c, c.integer("moe_intermediate_size")),
                  router_parameters=c.integer("num_experts", high=10**6))  # fmt: skip
    return built(c, windowed(c, a, kinds), fed(c, [i >= first for i in range(n)], moe), norms=4, **up)


def beam(c: Config, **up: Any) -> Model:
    """Beam: gated attention with a bias a head, a full layer in six and at the end, three dense layers first."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    kinds = layer_types(c, n, [*every(n - 1, 6), FULL])
    a = with_gate(attention(c, hidden, bias=c.flag("attention_bias"), qk_norm="head"))
    routed = sparse_layers(c, n, first=3)
    return built(c, windowed(c, replace(a, extra_parameters=a.heads), kinds), fed(c, routed, experts(c)), norms=4, **up)


def cohere2_moe(c: Config, **up: Any) -> Model:
    """Command A with experts: one norm before attention and feed-forward block side by side."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    first = c.integer("first_k_dense_replace", 0, low=0, high=n)
    period = c.integer("sliding_window_pattern", 4, high=MAX_LAYERS)
    before = c.integer("prefix_dense_sliding_window_pattern", 1, high=MAX_LAYERS)
    kinds = layer_types(c, n, every(first, before) + every(n - first, period))
    c.ignore("sliding_window_pattern", "prefix_dense_sliding_window_pattern", "intermediate_size")
    routed, width = sparse_layers(c, n), c.integer("intermediate_size")
    moe = experts(c, "intermediate_size", shared=_shared_experts(c, width))
    dense = c.optional("prefix_dense_intermediate_size") or width
    feed: Feed = [moe if r else Mlp(dense, True) for r in routed]
    a = attention(c, hidden, bias=c.flag("attention_bias"))
    norm: NormKind = "layer_nobias" if c.values.get("rms_norm_eps", c.defaults.get("rms_norm_eps")) is None else "rms"
    return built(c, windowed(c, a, kinds), feed, norms=1, norm=norm, each={"parallel": True}, **up)


def diffllama(c: Config, **up: Any) -> Model:
    """Differential attention: two softmaxes of half the heads each, subtracted (https://arxiv.org/abs/2410.05258)."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    a = attention(c, hidden, bias=c.flag("attention_bias"))
    if c.flag("mlp_bias"):
        raise c.error("mlp_bias", "is true; the class builds no biases there")
    # The class attends twice, with half of the values each time: products are twice as wide as keys and values.
    d, q, kv = a.head_dim, a.heads * a.head_dim, a.kv_heads * a.head_dim
    own = (("q", hidden, q), ("k", hidden, kv), ("v", hidden, kv), ("out", q, hidden))
    biases = a.q_bias * (q + 2 * kv)
    a = replace(a, head_dim=2 * d, projections=own, cached=2 * kv, q_bias=False, k_bias=False, v_bias=False,
                extra_parameters=4 * d + biases)  # fmt: skip
    return built(c, [a] * n, [Mlp(c.integer("intermediate_size"), True)] * n, **up)


def doge(c: Config, **up: Any) -> Model:
    """Doge: a learned mask from the values, residuals with learned scales."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    if c.flag("is_moe"):
        raise c.error("is_moe", "is true; cross-domain experts are not supported")
    bias = c.flag("attention_bias")
    a = attention(c, hidden, bias=bias, qk_norm="head")
    kv = a.kv_heads
    a = replace(a, extra_parameters=kv + bias * kv)
    c.ignore("num_experts", "num_experts_per_tok", "keep_window_size", "sliding_window", "norm_topk_prob")
    each = {"projections": (("attn.dynamic_mask", kv * a.head_dim, kv),), "extra_parameters": 2 * hidden}
    mlp = Mlp(c.integer("intermediate_size"), True, bias=c.flag("mlp_bias"))
    return built(c, [a] * n, [mlp] * n, each=each, **up)


def flint(c: Config, **up: Any) -> Model:
    """Flint: sinks, q/k norms, a shared expert without a gate; the first two layers are dense."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    kinds = layer_types(c, n, [FULL if i < 2 or i % 4 == 1 or i == n - 1 else SLIDING for i in range(n)])
    a = attention(c, hidden, bias=c.flag("attention_bias"), qk_norm="head")
    listed = c.items("mlp_only_layers")
    only = {0, 1} if listed is None else set(c.indices("mlp_only_layers", high=MAX_LAYERS))
    step = c.integer("decoder_sparse_step", 1, high=MAX_LAYERS)
    routed = [i not in only and (i + 1) % step == 0 for i in range(n)]
    moe = experts(c, shared=c.integer("shared_expert_intermediate_size"))
    return built(c, windowed(c, replace(a, extra_parameters=a.heads), kinds), fed(c, routed, moe), **up)


def kolibri(c: Config, **up: Any) -> Model:
    """Kolibri 1: q/k norms, four norms a layer, experts everywhere, a full layer in five."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    kinds = layer_types(c, n, every(n, 5))
    a = attention(c, hidden, qk_norm="head")
    moe = experts(c, shared=c.integer("shared_expert_intermediate_size"))
    return built(c, windowed(c, a, kinds), [moe] * n, norms=4, **up)


def laguna(c: Config, **up: Any) -> Model:
    """Laguna: query heads and gates that differ by layer, a dense first layer, a learned bias of the router."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    kinds = layer_types(c, n, [FULL] * n)
    listed = c.items("num_attention_heads_per_layer", length=n)
    usual = c.integer("num_attention_heads", high=10**6)
    counts = [usual] * n if listed is None else [
        c._bounded("num_attention_heads_per_layer", v, 1, 10**6) for v in listed
    ]  # fmt: skip
    gating = c.get("gating", True)
    if gating not in (True, "per-head", "per-element"):
        raise c.error("gating", f"is {gating!r:.40}; allowed: true, per-head, per-element")
    a = attention(c, hidden, bias=c.flag("attention_bias"), qk_norm="head")
    if any(h % a.kv_heads for h in counts):
        raise c.error("num_attention_heads_per_layer", f"holds a count that {a.kv_heads} key/value heads do not divide")
    of = {
        (h, k): with_gate(replace(a, heads=h, window=window_of(c, k)), head=gating in (True, "per-head"))
        for h, k in set(zip(counts, kinds, strict=True))
    }
    moe = experts(c, shared=c.integer("shared_expert_intermediate_size"),
                  router_parameters=c.integer("num_experts", high=10**6))  # fmt: skip
    mixers = [of[h, k] for h, k in zip(counts, kinds, strict=True)]
    return built(c, mixers, fed(c, sparse_layers(c, n, first=1), moe), **up)


def mellum(c: Config, **up: Any) -> Model:
    """Mellum: Qwen3-MoE with windows by ``layer_types``."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    kinds = layer_types(c, n, [FULL] * n)
    a = attention(c, hidden, bias=c.flag("attention_bias"), qk_norm="head")
    c.ignore("mtp_layer_types", "mtp_mlp_layer_types")
    return built(c, windowed(c, a, kinds), fed(c, sparse_layers(c, n), experts(c)), **up)


def granite_swa(c: Config, **up: Any) -> Model:
    """Granite with sinks and three windowed layers for a full one; dense, or experts beside a shared block."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    kinds = layer_types(c, n, [SLIDING if i % 4 else FULL for i in range(n)])
    a = attention(c, hidden, bias=c.flag("attention_bias"))
    mixers = windowed(c, replace(a, extra_parameters=a.heads), kinds)
    c.ignore("layer_rope_theta")
    if c.model_type == "granite_swa":
        return built(c, mixers, [Mlp(c.integer("intermediate_size"), True, bias=c.flag("mlp_bias"))] * n, **up)
    moe = experts(c, "intermediate_size", shared=c.integer("shared_intermediate_size", 0, low=0))
    return built(c, mixers, [moe] * n, **up)


def aria_text(c: Config, **up: Any) -> Model:
    """Aria's text part: Llama with experts of full width beside shared ones."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    width, bias = c.integer("intermediate_size"), c.flag("mlp_bias")
    shared = width * c.integer("n_shared_experts", 2, high=10**4)
    moe = moe_block(c, width=width, shared=Mlp(shared, True, bias=bias) if shared else None)
    return built(c, [attention(c, hidden, bias=c.flag("attention_bias"))] * n, [moe] * n, **up)


def apertus(c: Config, **up: Any) -> Model:
    """Apertus 1.5: Apertus whose head may leave out the rows of images and audio."""
    model = llama.build(c, **up)
    rows = c.optional("output_vocab_size")
    if rows is None or model.head is None or rows == model.head.outputs:
        return model
    if model.head.tied:
        raise c.error("output_vocab_size", "is stated and the head is tied; not supported")
    return replace(model, head=Head(rows, False))


def hyperclovax(c: Config, **up: Any) -> Model:
    """HyperCLOVA X: Llama, with norms after the blocks too where ``use_post_norm``."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    a = attention(c, hidden, bias=c.flag("attention_bias"))
    mlp = Mlp(c.integer("intermediate_size"), True, bias=c.flag("mlp_bias"))
    return built(c, [a] * n, [mlp] * n, norms=4 if c.flag("use_post_norm", True) else 2, **up)
