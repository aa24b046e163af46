"""Training frameworks by name, from ``frameworks.yaml``: facts that the cost model asks for, never their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources

import yaml

from planner.errors import unknown


@dataclass(frozen=True)
class Framework:
    """What a framework does that shows in a step's time or memory; ``frameworks.yaml`` cites each fact.

    Attributes
    ----------
    why : what an estimate says where it took this framework because none was given
    attention_kernels : ``native`` where the chip's own are called, else the generation that is
    unfused_vectors : vector operators run step by step unless a compiler fuses them
    compiled : kernels are taken as fused or replayed where ``compiled`` is not given
    launches : the host launches each operator
    gathers_in : compute dtypes that weights and activations are cast to before they are gathered
    logit_copies, fp32_logit_copies : copies of the logits under its own loss, in the activation dtype and in fp32
    stops_early : full recomputation spares a layer's last matmul and the exchange after it
    removes_unread : a policy never repeats the last matmul of an MLP
    saved_matmuls : part of matmul outputs that its selective policy saves, of attention and of the MLP; empty where
        selective recomputation repeats named modules
    saves_compute_width : inputs of matmuls are kept in the compute dtype
    accumulates_apart : gradients are added by a kernel of their own, beside those autograd wrote
    sends_whole : pipeline stages send the whole activation from every tensor-parallel rank
    shards_masters_only : ZeRO 3 holds fp32 shards alone and casts what it gathers
    keeps_gathered_under_pipeline : ZeRO 3 keeps weights gathered between the micro-batches of a pipeline
    static_buffers : buffers are laid out when compiled
    holds_both_usages : 8- and 4-bit weights are held as matmuls read them, by row and by column
    bucket_elements : elements of the buffers that gradients are reduced through and weights gathered into under ZeRO
    fragmentation : what a caching allocator reserves beyond what is allocated and freed each step, a part of it
    reduces_in_activation_dtype : gradients cross the network as matmuls wrote them
    overlap_tp : ``none``, ``backward``, ``all``, or ``pipelined``: all where the chip's library can, else backward
    dispatcher : how tokens reach experts where ``dispatcher`` is not given
    narrow_grad_dtype : accumulator beside 8- and 4-bit matmuls where ``grad_dtype`` is not given
    """

    id: str
    name: str
    why: str
    attention_kernels: str = "native"
    unfused_vectors: bool = False
    compiled: bool = False
    launches: bool = True
    gathers_in: tuple[str, ...] = ()
    logit_copies: float = 1.0
    fp32_logit_copies: float = 1.0
    stops_early: bool = False
    removes_unread: bool = False
    saved_matmuls: Mapping[str, float] = field(default_factory=dict, hash=False)
    saves_compute_width: bool = False
    accumulates_apart: bool = False
    sends_whole: bool = False
    shards_masters_only: bool = False
    keeps_gathered_under_pipeline: bool = False
    static_buffers: bool = False
    holds_both_usages: bool = False
    bucket_elements: float = 0.0
    fragmentation: float = 0.0
    reduces_in_activation_dtype: bool = False
    overlap_tp: str = "none"
    narrow_grad_dtype: str = "fp32"
    dispatcher: str = "all_to_all"


@lru_cache(maxsize=1)
def frameworks() -> Mapping[str, Framework]:
    """All frameworks by id."""
    text = (resources.files("planner.catalogue") / "frameworks.yaml").read_text(encoding="utf-8")
    return {id: Framework(id, **{**entry, "gathers_in": tuple(entry.get("gathers_in", ()))})
            for id, entry in yaml.safe_load(text).items()}  # fmt: skip


def framework(name: str) -> Framework:
    """Look a framework up by name; an unknown one is refused with the allowed names."""
    found = frameworks().get(name.strip().lower())
    if found is None:
        raise unknown("framework", name, frameworks())
    return found
