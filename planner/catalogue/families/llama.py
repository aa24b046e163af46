"""The Llama line: pre-norm decoders with rotary positions that differ in biases, norms, MLP and experts.

Each ``model_type`` is a row of :data:`RECIPES`. Structure as built by the classes of Hugging Face transformers 5.23.0.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    window_of,
)
from planner.catalogue.families.config import MAX_LAYERS, Config
from planner.catalogue.families.experts import EXPERTS
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
