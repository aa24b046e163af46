"""Decoders that route or repeat more than a feed-forward block: heads that are experts, layers that run again.

Structure as built by the classes of Hugging Face transformers 5.24.0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.catalogue.families.blocks import (
    attention,
    decoder,
    every,
    layer,
    layer_count,
    layer_types,
    sparse_layers,
    window_of,
)
from planner.catalogue.families.config import MAX_LAYERS, Config
from planner.catalogue.families.decoders import built, experts, fed, with_gate
from planner.catalogue.families.latent import latent_attention
from planner.catalogue.schema import Attention, Head, Layer, Mlp, Model, Moe


def jetmoe(c: Config, **up: Any) -> Model:
    """JetMoE: queries and outputs through routed experts too, keys and values shared (https://arxiv.org/abs/2404.07413)."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    kv, width = c.integer("num_key_value_heads", high=10**6), c.integer("kv_channels")
    moe = experts(c, "intermediate_size", router_parameters=hidden)
    c.ignore("num_attention_heads")
    a = Attention(kv * moe.top_k, kv, width, extra_parameters=hidden, idle_experts=moe.experts - moe.top_k)
    each = {"projections": (("attn.router", hidden, moe.experts),)}
    return built(c, [a] * n, [moe] * n, each=each, **up)


def longcat_flash(c: Config, **up: Any) -> Model:
    """LongCat-Flash: two latent attentions and dense blocks a layer, experts of which some do nothing.

    https://arxiv.org/abs/2509.01322; the class keeps up and gate weights for the experts that do nothing.
    """
    hidden, n = c.integer("hidden_size"), layer_count(c, "num_layers")
    real, idle = c.integer("num_experts", high=10**6), c.optional("zero_expert_num", low=0, high=10**6) or 0
    top_k, width = c.integer("num_experts_per_tok", high=10**6), c.integer("moe_intermediate_size")
    if top_k > real + idle:
        raise c.error(c.find("num_experts_per_tok")[0], f"is {top_k}, more than the {real + idle} experts")
    visited = max(round(top_k * real / (real + idle)), 1)
    if idle:
        c.assume(
            f"{visited} of {top_k} chosen experts compute: routing is taken as even over those that do nothing too"
        )
    bias = (real + idle) * c.flag("router_bias")
    router = (("router", hidden, real + idle),)
    moe = Moe(real, visited, width, router=router, router_parameters=bias, idle=idle)
    a, mlp = latent_attention(c), Mlp(c.integer("ffn_hidden_size"), True)
    c.ignore("router_bias", "intermediate_size")
    first = layer(a, mlp, "rms", hidden)
    second = layer(a, moe, "rms", hidden, projections=(
        ("mlp.up", hidden, 2 * mlp.width), ("mlp.down", mlp.width, hidden)))  # fmt: skip
    return decoder(c, [first, second] * n, **up)


def axk1(c: Config, **up: Any) -> Model:
    """A.X K1: DeepSeek-V3 with a norm after the experts."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    a, routed = latent_attention(c), sparse_layers(c, n, first=1)
    shared = c.integer("moe_intermediate_size") * c.integer("n_shared_experts", 1, low=0, high=10**4)
    feed = fed(c, routed, experts(c, shared=shared))
    of = {r: layer(a, f, "rms", hidden, norms=3 if r else 2) for r, f in zip(routed, feed, strict=True)}
    return decoder(c, [of[r] for r in routed], **up)


def zaya(c: Config, **up: Any) -> Model:
    """Zaya: convolutions over queries and keys, half of the values from the token before, a router that is an MLP."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    known = frozenset({"hybrid", "hybrid_sliding"})
    kinds = layer_types(c, n, ["hybrid"] * n, known=known)
    bias = c.flag("attention_bias")
    a = attention(c, hidden, bias=bias)
    if a.kv_heads * a.head_dim % 2:
        raise c.error("num_key_value_heads", "times head_dim is odd; values are made in two halves")
    channels, deep = (a.heads + a.kv_heads) * a.head_dim, c.integer("cca_time0", 2, high=100)
    wide = c.integer("cca_time1", 2, high=100)
    a = replace(a, extra_parameters=channels * (deep + 2) + a.kv_heads)
    inner, count = c.integer("router_hidden_size"), c.integer("num_experts", high=10**6)
    router = (("router.down", hidden, inner), ("router.fc1", inner, inner), ("router.fc2", inner, inner),
              ("router", inner, count + 1))  # fmt: skip
    # Norm, biases, and from the second layer on a scale of the states of the router before.
    moe = experts(c, router=router, router_parameters=4 * inner)
    later = replace(moe, router_parameters=5 * inner)
    beside = (("attn.conv", wide * a.head_dim, channels),)
    own = {k: replace(a, window=c.optional("sliding_window") if k == "hybrid_sliding" else None) for k in set(kinds)}
    layers = [
        layer(own[k], later if i else moe, "rms", hidden, projections=beside, extra_parameters=8 * hidden)
        for i, k in enumerate(kinds)
    ]
    return decoder(c, layers, head_bias=c.flag("lm_head_bias"), other_parameters=2 * hidden, **up)


def hrm_text(c: Config, **up: Any) -> Model:
    """HRM: two stacks that take turns, the lower ``L_cycles`` times for the upper once; norms without weights."""
    hidden, total = c.integer("hidden_size"), layer_count(c)
    high, low = c.integer("H_cycles", 2, high=1000), c.integer("L_cycles", 3, high=1000)
    depth = c.optional("num_layers_per_stack", high=MAX_LAYERS) or total
    if depth * high * (low + 1) > MAX_LAYERS:
        raise c.error("H_cycles", f"times L_cycles make more than {MAX_LAYERS} layer runs")
    bias = c.flag("attention_bias")
    a = with_gate(attention(c, hidden, bias=bias))
    a = replace(a, extra_parameters=bias * a.gate)
    own = layer(a, Mlp(c.integer("intermediate_size"), True, bias=c.flag("mlp_bias")), "none", hidden)
    again = replace(own, name="attention + mlp, weights shared", shared_weights=True)
    c.ignore("L_bp_cycles", "embedding_scale", "prefix_lm")
    layers = [own] * (2 * depth) + [again] * (depth * (high * (low + 1) - 2))
    return decoder(c, layers, norm="none", other_parameters=hidden, **up)


def dory(c: Config, **up: Any) -> Model:
    """Dory: learned scales for norms, gated attention, layers in the middle that run in loops."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    if "mlp" in (c.items("layer_types") or ()):
        # Published configs count a layer's attention and its feed-forward block apart: attention, mlp, attention, ...
        stated = c.items("layer_types", length=n) or []
        if n % 2 or set(stated[1::2]) != {"mlp"}:
            raise c.error("layer_types", "holds 'mlp' but not at every second place")
        counts = ("n_input_layers", "n_output_layers", "n_recurrent_layers")
        halves = {k: c.integer(k, low=0) // 2 for k in counts if c.has(k)}
        n //= 2
        c = c.with_values(num_hidden_layers=n, layer_types=stated[::2], **halves)
    kinds = layer_types(c, n, every(n, 4))
    before, after = (c.integer(k, 8, low=0, high=n) for k in ("n_input_layers", "n_output_layers"))
    middle = n - before - after
    if middle < 0 or (c.optional("n_recurrent_layers", low=0) or middle) != middle:
        raise c.error("n_recurrent_layers", f"and n_input_layers, n_output_layers do not add up to {n} layers")
    loops, width = c.integer("n_recurrent_loops", 2, high=1000), c.integer("intermediate_size")
    a = with_gate(attention(c, hidden, bias=c.flag("attention_bias")))
    a = replace(a, extra_parameters=2 * a.heads * a.head_dim)
    mlp = Mlp(width, True, bias=c.flag("mlp_bias"), extra_parameters=2 * width)
    of: dict[str, Layer] = {
        kind: layer(replace(a, window=window_of(c, kind)), mlp, "none", hidden, extra_parameters=2 * hidden)
        for kind in set(kinds)
    }
    layers = [of[k] for k in kinds]
    again = [
        replace(one, name=f"{one.name}, weights shared", shared_weights=True)
        for one in layers[before : before + middle]
    ]
    layers = [*layers[: before + middle], *again * (loops - 1), *layers[before + middle :]]
    vocab = c.integer("vocab_size")
    head = Head(vocab, c.flag("tie_word_embeddings"), extra_parameters=vocab)  # a learned scale of each logit
    return decoder(c, layers, norm="none", head=head, **up)
