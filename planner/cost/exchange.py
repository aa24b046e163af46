"""What ranks exchange during a layer, and what of it compute does not hide: tensor, context and expert parallelism."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.catalogue.schema import Attention, LatentAttention, Layer, Moe
from planner.cost import constants
from planner.cost.groups import Group, context_group, expert_group, shared_expert_group, tensor_group
from planner.cost.layouts import Layouts
from planner.demand.ops import Array
from planner.demand.transformer import Demand, Section
from planner.demand.workload import Work
from planner.supply.cluster import Cluster
from planner.supply.collectives import collective_time

EXCHANGED = ("tp", "cp", "ep", "etp")  # axes that ranks exchange along within a layer


@dataclass(frozen=True)
class Exchange:
    """Exposed exchange along one axis for one layer and micro-batch, shape (n,) or (n, section) [s].

    ``last`` is the part of ``forward`` that follows a layer's last matmul.
    """

    forward: Array
    backward: Array
    last: Array


@dataclass(frozen=True)
class Traffic:
    """How a run exchanges: bytes of a value, of a gathered value (0: the same), what hides, which collectives; whether
    tokens cross to experts as copies."""

    width: float
    gathered: float = 0.0
    overlap_tp: str = "none"
    context_exchange: str = "ring"
    low_latency: bool = False
    copies: bool = False


@dataclass(frozen=True)
class Window:
    """Compute of a layer that exchange can hide behind, shape (n,) [s]: its attention core forward, its forward matmuls
    and its weight gradients; none where nothing hides."""

    core: Array
    matmul: Array
    weight_gradient: Array


def layer_exchange(
    d: Demand, s: Section, w: Work, x: Layouts, cluster: Cluster, traffic: Traffic, window: Window
) -> dict[str, Exchange]:
    """Exchange of one layer of a section along each of :data:`EXCHANGED`."""
    stack = d.model.stacks[s.stack]
    layer = stack.kinds[s.kind] if s.role == "layer" else None
    zero = np.zeros(len(x))
    none = Exchange(zero, zero, zero)
    out = dict.fromkeys(EXCHANGED, none)
    out["tp"] = tensor_exchange(s, layer, w, x, cluster, traffic, window, hidden=stack.hidden)
    if layer is None:
        return out
    if x.cp.max() > 1 and isinstance(layer.mixer, Attention | LatentAttention):
        out["cp"] = _context_exchange(layer.mixer, w, x, cluster, traffic, window)
    if x.ep.max() > 1 and isinstance(layer.ffn, Moe):
        rows = w.tokens / x.tp * layer.ffn.top_k * w.imbalance  # the busiest rank receives as many more
        row_bytes = (layer.ffn.latent_dim or stack.hidden) * traffic.width
        once = expert_exchange(rows, layer.ffn.top_k, row_bytes, expert_group(x), cluster, copies=traffic.copies,
                               limit=(layer.ffn.groups, layer.ffn.chosen_groups))  # fmt: skip
        out["ep"] = Exchange(2.0 * once, 2.0 * once, once)
    if max(x.tp.max(), x.etp.max()) > 1 and isinstance(layer.ffn, Moe):
        out["etp"] = shared_expert_exchange(layer.ffn, w, x, cluster, traffic, hidden=stack.hidden)
    return out


def tensor_exchange(
    s: Section, layer: Layer | None, w: Work, x: Layouts, cluster: Cluster, traffic: Traffic, window: Window, *,
    hidden: int,
) -> Exchange:  # fmt: skip
    """Exposed tensor-parallel exchange of one layer [s].

    Each block that ends in a row-parallel matmul all-reduces its output forward and its input gradient backward; with
    sequence parallelism the same volume travels as reduce-scatter and all-gather. ``overlap_tp`` backward hides the
    exchange of the input gradient behind the weight gradient, and gathers the saved input once more behind the input
    gradient; all pipelines every exchange with its matmul, inside a scale-up domain: Transformer Engine's overlap maps
    the buffers of its peers.
    """
    message = w.tokens * hidden * traffic.width
    blocks = sum(o.shard == "row" for o in s.table.ops) + sum(o.shard == "vocab" for o in s.table.ops)
    if layer is not None and layer.parallel:
        blocks = min(blocks, 1)
    group = tensor_group(x)
    narrow = (traffic.gathered or traffic.width) / traffic.width
    reduce = _time("all_reduce", message, group, cluster, low_latency=traffic.low_latency)
    gather = _time("all_gather", narrow * message, group, cluster)
    scatter = _time("reduce_scatter", message, group, cluster)
    split = x.sequence_parallel > 0
    forward = backward = blocks * np.where(split, gather + scatter, reduce)
    if traffic.overlap_tp != "none":
        part = contention(group, cluster, inside=0.0)
        late = hidden_behind(blocks * np.where(split, scatter, reduce), window.weight_gradient, contention=part)
        backward = late + np.where(split, blocks * gather * (1.0 + part), 0.0)
    if traffic.overlap_tp == "all":
        near = group.domains(cluster) <= 1
        whole, little = blocks * np.where(split, gather + scatter, reduce), np.full(len(x), constants.OVERLAPPED_TP)
        forward = np.where(near, hidden_behind(whole, window.matmul, contention=little), forward)
        backward = np.where(near, hidden_behind(whole, 2.0 * window.matmul, contention=little), backward)
    after = forward / max(blocks, 1) * np.where(split, scatter / np.maximum(gather + scatter, 1e-30), 1.0)
    return Exchange(forward, backward, after)


def contention(group: Group, cluster: Cluster, *, inside: float) -> Array:
    """Part of the time of a group's hidden traffic that is paid all the same, shape of its ranks; ``inside`` a scale-up
    domain it is none on chips whose links have engines of their own."""
    inside *= not cluster.efficiency.execution.link_engines
    return np.where(group.domains(cluster) > 1, constants.CONTENTION, inside)


def hidden_behind(traffic: Array, window: Array, *, contention: Array) -> Array:
    """What traffic costs behind a window of compute [s]: what exceeds it, and the part of the rest that shows."""
    return np.asarray(np.maximum(traffic - window, 0.0) + contention * np.minimum(traffic, window))


def expert_exchange(
    rows: Array, top_k: int, token_bytes: float, group: Group, cluster: Cluster, *, copies: bool = False,
    limit: tuple[int, int] = (1, 1),
) -> Array:  # fmt: skip
    """Time to send routed rows to their experts, one way, shape (n,) [s].

    As ``copies`` each row crosses to its expert's rank. Else a token crosses to a rank once, however many of its
    experts live there, and to a domain once: with k experts drawn from D of them it visits D·(1 − (1 − 1/D)^k). DeepEP,
    https://github.com/deepseek-ai/DeepEP

    Parameters
    ----------
    rows : rows a rank sends (tokens x top_k);  token_bytes : [byte] of one row;  group : ranks that hold the experts
    limit : groups of experts, and how many a token visits at most: g of G groups leave as many places in reach as those
        hold of P, g·P/G, or one each where a place holds whole groups (node-limited routing, DeepSeek-V3,
        https://arxiv.org/abs/2412.19437, section 2.1.2)
    """
    if copies:
        return _time("all_to_all", rows * token_bytes, group, cluster)
    inside, domains = group.inside(cluster), group.domains(cluster)
    tokens = rows / top_k

    def visited(places: Array) -> Array:
        groups, chosen = limit
        reached = np.minimum(places, chosen * np.maximum(places / groups, 1.0)) if chosen < groups else places
        return np.asarray(reached * (1.0 - (1.0 - 1.0 / reached) ** top_k))

    one = np.ones(len(rows))
    near = _time("all_to_all", tokens * visited(group.ranks) * token_bytes, Group(inside, one), cluster)
    far = _time("all_to_all", tokens * visited(domains) * token_bytes, Group(domains, inside), cluster)
    return np.maximum(near, far)


def shared_expert_exchange(
    moe: Moe, w: Work, x: Layouts, cluster: Cluster, traffic: Traffic, *, hidden: int
) -> Exchange:
    """Exchange of the ranks that share each expert, whose outputs are parts of a sum [s].

    Rows that were dispatched over ep are gathered before the experts and scattered after, and the gradients the other
    way round: A2A(EP), AG(TP), RS(TP), A2A(EP) in megatron/core/transformer/moe/token_dispatcher.py,
    https://github.com/NVIDIA/Megatron-LM. Without ep nothing was dispatched, so tokens are gathered, not their top_k
    rows (its all-gather dispatcher). Ranks of a tensor-parallel group that hold the same tokens each have a part of
    the output, of an expert or of the rows, and all-reduce it; where a shared block's output is summed, with that one
    (vLLM and SGLang: one all-reduce a block).
    """
    group, split = shared_expert_group(x), x.sequence_parallel > 0
    rows = w.tokens / x.tp * np.where(x.ep > 1, moe.top_k * w.imbalance, 1.0) * x.etp
    message = rows * (moe.latent_dim or hidden) * traffic.width
    narrow = (traffic.gathered or traffic.width) / traffic.width
    gather = _time("all_gather", narrow * message, group, cluster)
    scatter = _time("reduce_scatter", message, group, cluster)
    reduce = _time("all_reduce", w.tokens * (moe.latent_dim or hidden) * traffic.width, tensor_group(x), cluster,
                   low_latency=traffic.low_latency) * (moe.shared is None)  # fmt: skip
    alike = ~split & (x.ep == 1) & (x.etp <= x.tp)
    once = np.where(alike, reduce, gather + scatter)
    return Exchange(once, once, np.where(alike, once, scatter))


def _context_exchange(
    mixer: Attention | LatentAttention, w: Work, x: Layouts, cluster: Cluster, traffic: Traffic, window: Window
) -> Exchange:
    """Exposed exchange of keys and values under context parallelism [s].

    ring: each rank passes its keys and values on cp - 1 times, behind the attention of a chunk; backward passes their
    gradients too. https://arxiv.org/abs/2310.01889
    all_gather: all keys and values are gathered before attention, and their gradients scattered after; the gather is
    repeated backward. Llama 3, https://arxiv.org/abs/2407.21783, section 3.3.2
    all_to_all: queries, keys, values and outputs trade sequence for heads, four exchanges each way. DeepSpeed Ulysses,
    https://arxiv.org/abs/2309.14509. Fewer k/v heads than ranks are copied first, one a rank (ulysses_sp.py,
    https://github.com/deepspeedai/DeepSpeed).
    """
    queries, keys, values, outputs = _context_widths(mixer, x)
    held = w.tokens * traffic.width
    zero, group = np.zeros(len(x)), context_group(x)
    if traffic.context_exchange == "all_to_all":
        copies = _kv_copies(mixer, x)
        once = sum(
            (_time("all_to_all", held * v, group, cluster) for v in (queries, copies * keys, copies * values, outputs)),
            zero,
        )
        return Exchange(once, once, zero)
    if traffic.context_exchange == "all_gather":
        gather = _time("all_gather", held * x.cp * (keys + values), group, cluster)
        scatter = _time("reduce_scatter", held * x.cp * (keys + values), group, cluster)
        return Exchange(gather, gather + scatter, zero)
    hop = _time("send_recv", held * (keys + values), group, cluster)
    steps = x.cp - 1.0
    forward = steps * np.maximum(hop - window.core / x.cp, 0.0)
    return Exchange(forward, steps * np.maximum(2.0 * hop - 2.5 * window.core / x.cp, 0.0), zero)


def _kv_copies(mixer: Attention | LatentAttention, x: Layouts) -> Array:
    """Copies of each k/v head of a tensor-parallel rank that the ranks of context parallelism need, shape (n,)."""
    own = np.maximum((mixer.kv_heads if isinstance(mixer, Attention) else mixer.heads) / x.tp, 1.0)
    return np.asarray(np.maximum(x.cp / own, 1.0))


def _context_widths(mixer: Attention | LatentAttention, x: Layouts) -> tuple[Array, Array, Array, Array]:
    """Values of queries, keys, values and outputs a token has on one tensor-parallel rank, shape (n,) each."""
    if isinstance(mixer, Attention):
        shared = np.minimum(x.tp, mixer.kv_heads)
        keys, values = mixer.kv_heads * mixer.head_dim / shared, mixer.kv_heads * mixer.value_dim / shared
        return mixer.heads * mixer.head_dim / x.tp, keys, values, mixer.heads * mixer.value_dim / x.tp
    queries = mixer.heads * (mixer.nope_dim + mixer.rope_dim) / x.tp
    outputs = mixer.heads * mixer.v_head_dim / x.tp
    return queries, queries, outputs, outputs


def _time(operation: str, size: Array, group: Group, cluster: Cluster, *, low_latency: bool = False) -> Array:
    return collective_time(operation, size, group.ranks, stride=group.stride, cluster=cluster, low_latency=low_latency)
