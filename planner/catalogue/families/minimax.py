"""MiniMax-M3: grouped heads, some layers with an index that picks blocks of keys, experts beside a shared one.

Structure as built by the classes of Hugging Face transformers 5.24.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from planner.catalogue.families.blocks import FULL, attention, decoder, layer, layer_count, layer_types, sparse_layers
from planner.catalogue.families.config import Config
from planner.catalogue.families.decoders import experts, fed
from planner.catalogue.families.remote import finish, translated
from planner.catalogue.schema import Model

SPARSE = "minimax_m3_sparse"
# Keys of ``sparse_attention_config`` in published configurations, and the fields of the class that they set.
INDEX = {
    "sparse_num_index_heads": "index_n_heads",
    "sparse_index_dim": "index_head_dim",
    "sparse_block_size": "index_block_size",
    "sparse_topk_blocks": "index_topk_blocks",
    "sparse_local_block": "index_local_blocks",
}
# What the checkpoint's own configuration must say for the class to describe it.
FIXED = {
    "attention_output_gate": False, "n_shared_experts": 1, "qk_norm_type": "per_head", "use_gemma_norm": True,
    "use_qk_norm": True,
}  # fmt: skip


def _indexed(c: Config, n: int) -> None:
    """The fields that ``sparse_attention_config`` states in a form of its own."""
    given = c.values.get("sparse_attention_config")
    c.ignore("sparse_attention_config")
    if given is None:
        return
    if not isinstance(given, Mapping):
        raise c.error("sparse_attention_config", "is not a mapping")
    values = {**c.values, **{INDEX[k]: v for k, v in given.items() if k in INDEX}}
    freq = given.get("sparse_attention_freq")
    if freq is not None and values.get("layer_types") is None:
        if not isinstance(freq, list | tuple) or len(freq) != n or any(f not in (0, 1) for f in freq):
            raise c.error("sparse_attention_config.sparse_attention_freq", f"must hold {n} values, each 0 or 1")
        values["layer_types"] = [SPARSE if f else FULL for f in freq]
    c.values = values


def minimax_m3_text(c: Config, **up: Any) -> Model:
    """The text part: sparse layers score blocks of keys with an index of their own."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    _indexed(c, n)
    kinds = layer_types(c, n, [FULL] * n, known=frozenset({SPARSE}))
    a = attention(c, hidden, qk_norm="head")
    heads, width = c.integer("index_n_heads", high=10**6), c.integer("index_head_dim")
    indexed = replace(a, extra_parameters=2 * width)
    beside = (("index.q", hidden, heads * width), ("index.k", hidden, width))
    shared = c.integer("shared_intermediate_size")
    feed = fed(c, sparse_layers(c, n), experts(c, "intermediate_size", shared=shared), key="dense_intermediate_size")
    c.ignore("index_block_size", "index_topk_blocks", "index_local_blocks", "rotary_dim", "intermediate_size")
    layers = [
        layer(indexed if k == SPARSE else a, f, "rms", hidden, projections=beside if k == SPARSE else ())
        for k, f in zip(kinds, feed, strict=True)
    ]
    return decoder(c, layers, **up)


def minimax_m3(c: Config) -> Model:
    """The language model alone, as its own code configures it."""
    for key, value in FIXED.items():
        if c.values.get(key, value) != value:
            raise c.error(key, f"is {c.values[key]!r:.40}; only {value!r} is supported")
    if c.values.get("moe_intermediate_size", c.values.get("intermediate_size")) != c.values.get("intermediate_size"):
        raise c.error("moe_intermediate_size", "differs from intermediate_size; not supported")
    dropped = (*FIXED, "moe_intermediate_size", "num_mtp_modules", "use_routing_bias", "use_sparse_attention")
    own = {k: v for k, v in c.values.items() if k not in dropped}
    out = translated(Config(own, where=c.where, model_type=c.model_type, assumed=c.assumed), "minimax_m3_vl_text")
    c.read.update(c.values)
    out.ignore("num_nextn_predict_layers")
    return finish(minimax_m3_text(out), out, "minimax_m3")
