"""The Llama line: pre-norm decoders with rotary positions that differ in biases, norms, MLP and experts.

Each ``model_type`` is a row of :data:`RECIPES`. Structure as built by the classes of Hugging Face transformers 5.23.0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
from planner.catalogue.schema import Attention, Layer, Mlp, Model, Moe, NormKind, Stack

Key = bool | str  # a constant, or the flag of the config that decides


@dataclass(frozen=True)
class Recipe:
    """What sets one ``model_type`` apart from Llama.

    ``bias`` of q, k and v, ``out_bias`` of the output projection (None: as ``bias``); ``qk_norm`` is none, head
    or full, counted where ``qk_norm_key`` is true; ``norms`` a layer; ``windows`` names the rule for layers that
    state no type; ``experts`` names the rule for the feed-forward block (none: dense).
    """

    bias: Key = "attention_bias"
    out_bias: Key | None = None
    mlp_bias: Key = False
    head_bias: Key = False
    gated: bool = True
    activation: str = "silu"
    norm: NormKind = "rms"
    norms: int = 2
    qk_norm: str = "none"
    qk_norm_key: Key = True
    parallel: Key = False
    windows: str = "stated"
    experts: str = ""
    sinks: bool = False
    act_parameters: int = 0
    sub_norms: bool = False
    final_norm: NormKind | None = None
    ignored: tuple[str, ...] = ()


_MISTRAL = Recipe(bias=False, windows="all")
_OLMO2 = Recipe(qk_norm="full")
_GEMMA2 = Recipe(norms=4, windows="even", activation="gelu")
RECIPES: dict[str, Recipe] = {
    "llama": Recipe(mlp_bias="mlp_bias"),
    "mistral": _MISTRAL,
    "ministral": _MISTRAL,
    "ministral3": _MISTRAL,
    "mixtral": replace(_MISTRAL, experts="mixtral"),
    "qwen2": Recipe(bias=True, out_bias=False, windows="qwen", ignored=("attention_bias",)),
    "qwen2_moe": Recipe(bias="qkv_bias", out_bias=False, windows="qwen", experts="qwen"),
    "qwen3": Recipe(qk_norm="head", windows="qwen"),
    "qwen3_moe": Recipe(qk_norm="head", windows="qwen", experts="qwen"),
    "gemma": Recipe(activation="gelu"),
    "gemma2": _GEMMA2,
    "gemma3_text": replace(_GEMMA2, qk_norm="head", windows="sixth"),
    "vaultgemma": replace(_GEMMA2, norms=2),
    "phi3": Recipe(bias=False, windows="all"),
    "phimoe": Recipe(norm="layer", windows="all", experts="mixtral", head_bias="lm_head_bias"),
    "stablelm": Recipe(bias="use_qkv_bias", out_bias=False, norm="layer"),
    "starcoder2": Recipe(
        bias="use_bias",
        mlp_bias="use_bias",
        gated=False,
        norm="layer",
        windows="all",
        activation="gelu",
        ignored=("mlp_type", "norm_type"),
    ),
    "glm": Recipe(out_bias=False),
    "glm4": Recipe(out_bias=False, norms=4),
    "glm4_moe": Recipe(out_bias=False, qk_norm="head", qk_norm_key="use_qk_norm", experts="deepseek"),
    "cohere": Recipe(norm="layer_nobias", norms=1, parallel=True, qk_norm="full", qk_norm_key="use_qk_norm"),
    "cohere2": Recipe(norm="layer_nobias", norms=1, parallel=True, windows="fourth"),
    "olmo": Recipe(norm="none"),
    "olmo2": _OLMO2,
    "olmo3": replace(_OLMO2, windows="fourth"),
    "olmoe": replace(_OLMO2, experts="mixtral"),
    "flex_olmo": replace(_OLMO2, experts="mixtral"),
    "nemotron": Recipe(mlp_bias="mlp_bias", gated=False, norm="layer", activation="relu2"),
    "granite": Recipe(mlp_bias="mlp_bias"),
    "granitemoe": Recipe(experts="mixtral"),
    "granitemoeshared": Recipe(experts="granite"),
    "smollm3": Recipe(mlp_bias="mlp_bias", windows="none", ignored=("no_rope_layers",)),
    "exaone4": Recipe(bias=False, qk_norm="head", windows="exaone"),
    "exaone_moe": Recipe(bias=False, qk_norm="head", windows="exaone", experts="deepseek"),
    "persimmon": Recipe(
        bias=True,
        mlp_bias=True,
        gated=False,
        norm="layer",
        qk_norm="head_layer",
        qk_norm_key="qk_layernorm",
        activation="relu2",
    ),
    "ernie4_5": Recipe(bias="use_bias", mlp_bias="use_bias"),
    "ernie4_5_moe": Recipe(bias="use_bias", mlp_bias="use_bias", experts="ernie", head_bias="use_bias"),
    "hunyuan_v1_dense": Recipe(qk_norm="head", ignored=("use_qk_norm", "cla_share_factor", "attention_head_dim")),
    "hunyuan_v1_moe": Recipe(
        qk_norm="head",
        experts="hunyuan",
        ignored=("use_qk_norm", "dense_list", "cla_share_factor", "use_mixed_mlp_moe", "attention_head_dim"),
    ),
    "seed_oss": Recipe(out_bias="attention_out_bias", mlp_bias="mlp_bias"),
    "orion": Recipe(norm="layer"),
    "apertus": Recipe(
        qk_norm="head", gated=False, mlp_bias="mlp_bias", act_parameters=2, activation="xielu", ignored=("qk_norm",)
    ),
    "arcee": Recipe(gated=False, mlp_bias="mlp_bias", activation="relu2"),
    "helium": Recipe(out_bias=False, mlp_bias="mlp_bias", activation="silu"),
    "dots1": Recipe(qk_norm="head", windows="dots", experts="deepseek"),
    "internlm3": Recipe(bias="qkv_bias", out_bias="bias", mlp_bias="bias"),
    "bitnet": Recipe(sub_norms=True, activation="relu2"),
    "cwm": Recipe(bias=False, mlp_bias="mlp_bias", windows="fourth"),
    "minimax_m2": Recipe(
        bias=False,
        qk_norm="full",
        experts="mixtral",
        ignored=("use_qk_norm", "use_routing_bias", "mtp_transformer_layers", "use_mtp", "attn_type_list"),
    ),
    "hy_v3": Recipe(qk_norm="head", experts="deepseek"),
    "solar_open": Recipe(bias=False, experts="deepseek"),
    "gpt_oss": Recipe(windows="even", experts="gpt_oss", sinks=True),
    "iquestcoder": Recipe(mlp_bias="mlp_bias"),
    "jais2": Recipe(norm="layer", gated=False, mlp_bias="mlp_bias", activation="relu2"),
    "sarvam_moe": Recipe(out_bias=False, qk_norm="head", qk_norm_key="use_qk_norm", experts="deepseek"),
    "apertus1p5_text": Recipe(qk_norm="head", gated=False, mlp_bias=False, act_parameters=2, activation="xielu"),
    "nanochat": Recipe(norm="none", gated=False, activation="relu2"),
}


def build(
    c: Config, *, root: Config | None = None, before: Sequence[Stack] = (), recipe: Recipe | None = None, **more: Any
) -> Model:
    """A model of any ``model_type`` of :data:`RECIPES` or of a ``recipe``; ``before`` are towers of a parent."""
    recipe = recipe or RECIPES[c.model_type]
    hidden, n = c.integer("hidden_size"), layer_count(c)
    head_bias = _flag(c, recipe.head_bias)
    layers = layers_of(c, recipe, hidden, n)
    return decoder(
        c, layers, root=root, norm=recipe.final_norm or recipe.norm, head_bias=head_bias, before=before, **more
    )


def _flag(c: Config, key: Key) -> bool:
    return c.flag(key) if isinstance(key, str) else key


def layers_of(c: Config, recipe: Recipe, hidden: int, n: int) -> list[Layer]:
    """The layers in order."""
    base = mixer(c, recipe, hidden)
    parallel = _flag(c, recipe.parallel) or (c.model_type == "stablelm" and c.flag("use_parallel_residual"))
    norms = 1 if parallel else recipe.norms
    dense, sparse, is_sparse = feed_forward(c, recipe, n)
    extra = []
    if recipe.sub_norms and dense is not None:
        extra.append((recipe.norm, dense.width))
    kinds = windows(c, recipe.windows, n)
    found: dict[tuple[int | None, bool], Layer] = {}
    layers = []
    for kind, routed in zip(kinds, is_sparse, strict=True):
        key = (window_of(c, kind), routed)
        if key not in found:
            ffn = sparse if routed else dense
            found[key] = layer(
                replace(base, window=key[0]),
                ffn,
                recipe.norm,
                hidden,
                norms=norms,
                parallel=parallel,
                extra_norms=extra,
            )
        layers.append(found[key])
    return layers


def mixer(c: Config, recipe: Recipe, hidden: int) -> Attention:
    """The attention block of a recipe, without a window."""
    bias = _flag(c, recipe.bias)
    out = bias if recipe.out_bias is None else _flag(c, recipe.out_bias)
    qk = recipe.qk_norm if recipe.qk_norm != "none" and _flag(c, recipe.qk_norm_key) else "none"
    a = attention(c, hidden, bias=bias, out_bias=out, qk_norm=qk)
    if c.model_type == "stablelm" and c.flag("qk_layernorm"):
        a = replace(a, qk_norm_parameters=(a.heads + a.kv_heads) * a.head_dim)
    if c.model_type == "helium" and a.heads * a.head_dim != hidden:
        raise c.error("head_dim", f"times {a.heads} heads is not hidden_size {hidden}, which the class needs")
    if recipe.sinks:
        a = replace(a, extra_parameters=a.heads)
    if recipe.sub_norms:
        a = replace(a, qk_norm_parameters=hidden)
    return a


def feed_forward(c: Config, recipe: Recipe, n: int) -> tuple[Mlp | None, Moe | None, list[bool]]:
    """Dense block, experts block, and which layers hold the latter."""
    bias = _flag(c, recipe.mlp_bias)
    c.ignore(*recipe.ignored, "intermediate_size")
    rule = EXPERTS.get(recipe.experts)
    sparse, routed = rule(c, n) if rule is not None else (None, [False] * n)
    dense = None
    if not all(routed):
        dense = Mlp(c.integer("intermediate_size"), recipe.gated, bias=bias, activation=recipe.activation,
                    extra_parameters=recipe.act_parameters)  # fmt: skip
    return dense, sparse, routed


def _mixtral(c: Config, n: int) -> tuple[Moe, list[bool]]:
    return moe_block(c, width=c.integer("intermediate_size")), [True] * n


def _granite(c: Config, n: int) -> tuple[Moe, list[bool]]:
    shared = c.integer("shared_intermediate_size", 0, low=0)
    block = Mlp(shared, True) if shared else None
    return moe_block(c, width=c.integer("intermediate_size"), shared=block), [True] * n


def _qwen(c: Config, n: int) -> tuple[Moe | None, list[bool]]:
    step = c.integer("decoder_sparse_step", 1, low=1, high=MAX_LAYERS)
    only = set(c.indices("mlp_only_layers", high=MAX_LAYERS))
    experts = c.integer("num_experts", low=0, high=10**6)
    routed = [experts > 0 and i not in only and (i + 1) % step == 0 for i in range(n)]
    if not any(routed):
        return None, routed
    return qwen_experts(c), routed


def qwen_experts(c: Config) -> Moe:
    """Routed experts of Qwen; Qwen2-MoE and Qwen3-Next add a shared expert behind a gate, Qwen3-MoE none."""
    width = c.integer("moe_intermediate_size")
    shared = None
    if c.model_type not in ("qwen3_moe", "qwen3_vl_moe_text"):
        shared = Mlp(c.integer("shared_expert_intermediate_size"), True)
    else:
        c.ignore("shared_expert_intermediate_size", "qkv_bias", "use_qk_norm")
    return moe_block(c, width=width, shared=shared, shared_gate=shared is not None)


def deepseek_experts(c: Config, n: int) -> tuple[Moe | None, list[bool]]:
    """Routed experts plus ``n_shared_experts`` of the same width as one block; the first layers may be dense."""
    routed = sparse_layers(c, n)
    if not any(routed):
        return None, routed
    width = c.integer("moe_intermediate_size")
    low = 1 if c.model_type == "hy_v3" else 0
    shared = c.integer("n_shared_experts", 0, low=low, high=10**4)
    bias = c.model_type == "deepseek_v2" and c.flag("mlp_bias")
    if bias and not shared and c.has("n_shared_experts"):
        raise c.error("n_shared_experts", "is 0 with mlp_bias; the class would build an expert of biases alone")
    return moe_block(c, width=width, shared=Mlp(width * shared, True, bias=bias) if shared else None), routed


def _ernie(c: Config, n: int) -> tuple[Moe | None, list[bool]]:
    start = c.integer("moe_layer_start_index", 0, low=0, high=MAX_LAYERS)
    end = c.get("moe_layer_end_index", -1)
    last = n - 1 if end in (None, -1) else c.integer("moe_layer_end_index", high=MAX_LAYERS)
    step = c.integer("moe_layer_interval", 1, high=MAX_LAYERS)
    kinds = c.items("mlp_layer_types", length=n)
    routed = [k == "sparse" for k in kinds] if kinds else [
        start <= i <= last and (i + 1) % step == 0 for i in range(n)
    ]  # fmt: skip
    if not any(routed):
        return None, routed
    width, experts = c.integer("moe_intermediate_size"), c.integer("num_experts", high=10**6)
    shared = c.integer("n_shared_experts", 0, low=0, high=10**4)
    bias = c.flag("use_bias")
    block = Mlp(width * shared, True, bias=bias) if shared else None
    return moe_block(c, width=width, shared=block, experts=experts, router_parameters=experts), routed


def _hunyuan(c: Config, n: int) -> tuple[Moe, list[bool]]:
    width = c.integer("intermediate_size")
    c.ignore("moe_intermediate_size", "num_shared_expert", "moe_topk", "num_experts_per_tok")
    if isinstance(c.values.get("moe_topk"), list | tuple):
        listed = c.items("moe_topk", length=n) or []
        if len(set(map(repr, listed))) != 1:
            raise c.error("moe_topk", "differs between layers; not supported")
        c = c.with_values(moe_topk=listed[0])
    if c.has("use_cla") and c.flag("use_cla"):
        raise c.error("use_cla", "is true; shared keys and values are not supported")
    return moe_block(c, width=width, shared=Mlp(width, True)), [True] * n


def _gpt_oss(c: Config, n: int) -> tuple[Moe, list[bool]]:
    experts = c.integer("num_experts", high=10**6)
    block = moe_block(c, width=c.integer("intermediate_size"), bias=True, experts=experts, router_parameters=experts)
    return block, [True] * n


EXPERTS: dict[str, Callable[[Config, int], tuple[Moe | None, list[bool]]]] = {
    "mixtral": _mixtral,
    "granite": _granite,
    "qwen": _qwen,
    "deepseek": deepseek_experts,
    "ernie": _ernie,
    "hunyuan": _hunyuan,
    "gpt_oss": _gpt_oss,
}


def windows(c: Config, rule: str, n: int) -> list[str]:
    """Attention kind of each layer: as ``layer_types`` states, else the family's rule."""
    c.ignore("sliding_window_pattern", "_sliding_window_pattern", "use_sliding_window", "sliding_window_size")
    has_window = c.values.get("sliding_window", c.defaults.get("sliding_window")) is not None
    default = [FULL] * n
    if rule == "all":
        default = [SLIDING if has_window else FULL] * n
    elif rule == "qwen" and c.flag("use_sliding_window"):
        first = c.integer("max_window_layers", n, low=0, high=MAX_LAYERS)
        default = [SLIDING if i >= first and has_window else FULL for i in range(n)]
    elif rule == "even":
        default = every(n, 2)
    elif rule in ("sixth", "fourth", "exaone"):
        pattern = c.get("sliding_window_pattern", 6 if rule == "sixth" else 4)
        if isinstance(pattern, str) and pattern and set(pattern) <= {"L", "G"}:
            default = [SLIDING if pattern[i % len(pattern)] == "L" else FULL for i in range(n)]
        elif has_window and pattern is not None:
            default = every(n, c.integer("sliding_window_pattern", 6 if rule == "sixth" else 4, high=MAX_LAYERS))
    elif rule == "dots" and has_window:
        first = c.integer("max_window_layers", n, low=0, high=MAX_LAYERS)
        default = [SLIDING if i >= first else FULL for i in range(n)]
    return layer_types(c, n, default)
