"""Rules for the feed-forward block of the Llama line: which layers hold experts, and which experts."""

from __future__ import annotations

from collections.abc import Callable

from planner.catalogue.families.blocks import (
    moe_block,
    sparse_layers,
)
from planner.catalogue.families.config import MAX_LAYERS, Config
from planner.catalogue.schema import Mlp, Moe


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
    block = Mlp(width * shared, True, bias=bias) if shared else None
    return moe_block(c, width=width, shared=block, **_groups(c)), routed


def _groups(c: Config) -> dict[str, int]:
    """Groups of experts and how many of them a token visits, where the file says so."""
    groups, chosen = (c.optional(k, low=0) if c.has(k) else None for k in ("n_group", "topk_group"))
    return {"groups": groups, "chosen_groups": chosen} if groups and chosen else {}


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
