"""Time, traffic and memory of one layer of every kind, for every distinct division of it.

What a layer costs depends on (tp, cp, ep, micro_batch, sequence_parallel) only, so it is computed on their unique
combinations and gathered. A *term* is one named array of shape (n, section): seconds, or bytes, of one layer of each
section for one micro-batch on one device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from planner.catalogue.schema import Attention, LatentAttention, Layer, Moe
from planner.cost import constants
from planner.cost.frameworks import gathered_bytes, logit_bytes, unfused
from planner.cost.kernels import Rates, attention_dtype, backward_time, forward, rates, weight_gradient_time
from planner.cost.layouts import Layouts
from planner.cost.recompute import kept_bytes, last_matmul_time, selective_time
from planner.cost.runs import Terms, TrainingRun
from planner.demand.costs import local_weights, stored_bytes
from planner.demand.ops import GROUPS, Array, OpTable
from planner.demand.transformer import Demand, Section
from planner.demand.workload import Precision, Work, work
from planner.precision import DTYPES
from planner.supply.cluster import Cluster, domains_spanned, ranks_inside
from planner.supply.collectives import collective_time


@dataclass(frozen=True)
class Behind:
    """Compute of a layer that tensor-parallel traffic can hide behind, shape (n,) [s]: its forward matmuls, and its
    weight gradients."""

    matmul: Array
    weight_gradient: Array


def unique_rows(*columns: Array) -> tuple[Array, Array]:
    """Index of one representative of each distinct row, and the inverse that gathers it back."""
    key = np.stack([np.asarray(c, dtype=np.float64) for c in columns], axis=1)
    order = np.lexsort(key.T[::-1])
    ordered = key[order]
    fresh = np.ones(len(key), dtype=bool)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    inverse = np.empty(len(key), dtype=np.int64)
    inverse[order] = np.cumsum(fresh) - 1
    return order[fresh], inverse


def section_precision(s: Section, precision: Precision, cluster: Cluster) -> Precision:
    """Dtypes a section trains in: the head stays in 16 bits where layers compute in fewer, as Transformer Engine and
    torchao leave it."""
    if s.role != "output" or DTYPES[precision.compute].bytes >= 2:
        return precision
    return replace(precision, compute=attention_dtype(precision, cluster))


def training_rates(cluster: Cluster, run: TrainingRun, precision: Precision) -> tuple[Rates, Rates]:
    """What a device offers the forward and the backward pass of a run in a precision, over minutes on end."""

    def one(direction: str) -> Rates:
        return rates(cluster, precision, direction=direction, sustained=True, attention=run.attention,
                     kernels=run.framework.attention_kernels, training=True)  # fmt: skip

    return one("forward"), one("backward")


def training_terms(d: Demand, cluster: Cluster, x: Layouts, run: TrainingRun, *, detail: bool) -> Terms:
    """Terms of every section for every layout, arrays of shape (n, section).

    ``forward.*`` and ``backward.*`` [s] by parameter group when ``detail``, else one ``all``; ``wgrad`` [s];
    ``host`` [s] launch time of a forward pass; ``tp``, ``cp``, ``ep`` [s] exposed communication of a forward pass and
    ``*_back`` of a backward one; ``core`` [s] attention core; ``saved``, ``saved_selective``, ``input`` [byte];
    ``dense``, ``expert`` [parameters] held, ``frozen`` [byte] of them where they are not trained.
    """
    first, inverse = unique_rows(x.tp, x.cp, x.ep, x.micro_batch, x.sequence_parallel)
    u = x.take(first)
    w = work(
        batch=u.micro_batch, q_len=run.seq_len, encoder_len=run.encoder_len, tp=u.tp, cp=u.cp, ep=u.ep,
        sequence_parallel=u.sequence_parallel, imbalance=run.imbalance,
    )  # fmt: skip
    precisions = [section_precision(s, run.precision, cluster) for s in d.sections]
    offered = {p: training_rates(cluster, run, p) for p in set(precisions)}
    columns: dict[str, list[Array]] = {}
    for section, precision in zip(d.sections, precisions, strict=True):
        ahead, back = offered[precision]
        own = replace(run, precision=precision)
        for name, value in _section_terms(d, section, w, u, cluster, own, ahead, back, detail).items():
            columns.setdefault(name, []).append(value)
    return {name: np.stack(values, axis=1)[inverse] for name, values in columns.items()}


def _section_terms(
    d: Demand, s: Section, w: Work, u: Layouts, cluster: Cluster, run: TrainingRun, ahead: Rates, back: Rates,
    detail: bool,
) -> Terms:  # fmt: skip
    stack = d.model.stacks[s.stack]
    zero = np.zeros(len(u))
    groups = GROUPS if detail else ("all",)
    local = local_weights(s.table, tp=w.tp, ep=w.ep)
    expert = np.array([o.kernel == "grouped_matmul" for o in s.table.ops])
    stored = run.precision.bytes_of("weight")
    held = {"frozen": stored_bytes(s.table, tp=w.tp, ep=w.ep, width=stored) if s.table.ops else zero,
            "adapter": zero + _adapter_parameters(s.table, run.lora_rank, w),
            "dense": (local * ~expert).sum(axis=1) if len(expert) else zero,
            "expert": (local * expert).sum(axis=1) if len(expert) else zero}  # fmt: skip
    idle = not d.runs(s) or not s.table.ops
    w = d.stream(s, w)
    if idle:
        names = [f"{way}.{g}" for way in ("forward", "backward") for g in groups]
        names += [key + way for key in ("tp", "cp", "ep") for way in ("", "_back", "_last")]
        names += ["wgrad", "host", "core", "saved", "saved_selective", "input", "transient", "last", "selective"]
        return dict.fromkeys(names, zero) | held
    dropout = d.model.dropout
    c, ahead_time = forward(s.table, w, ahead, run.precision, attention=run.attention, dropout=dropout,
                            unfused=unfused(run))  # fmt: skip
    back_time = backward_time(s.table, c, back, run.precision, attention=run.attention,
                              frozen=run.lora_rank > 0)  # fmt: skip
    terms = _grouped(s.table, "forward", ahead_time, groups) | _grouped(s.table, "backward", back_time, groups)
    terms["wgrad"] = weight_gradient_time(s.table, c, back, run.precision).sum(axis=1) * (run.lora_rank == 0)
    launches = float(s.table.columns["launches"].sum())
    if run.attention == "eager":
        launches += constants.EAGER_LAUNCHES * sum(o.kernel == "attention" for o in s.table.ops)
    if DTYPES[run.precision.compute].bytes < 2:
        launches += sum(o.kernel in ("matmul", "grouped_matmul") for o in s.table.ops)  # each casts its input
    launches *= constants.COMPILED_SHARE if run.compiled else 1.0
    launches *= run.framework.launches
    terms["host"] = zero + launches * constants.LAUNCH_TIME
    core = np.array([o.kernel == "attention" for o in s.table.ops])
    terms["core"] = (ahead_time * core).sum(axis=1)
    width = run.precision.bytes_of("activation")
    matmul = np.array([o.kernel in ("matmul", "grouped_matmul") for o in s.table.ops])
    behind = Behind((ahead_time * matmul).sum(axis=1), terms["wgrad"])
    terms |= communication_terms(d, s, w, u, cluster, width=width, gathered=gathered_bytes(run, width),
                                 core=terms["core"], overlap_tp=run.overlap_tp, behind=behind,
                                 context_exchange=run.context_exchange)  # fmt: skip
    terms["last"] = last_matmul_time(s.table, ahead_time) + terms["tp_last"] + terms["ep_last"]
    terms["selective"] = selective_time(s.table, ahead_time, terms["ep"], run)
    terms |= _saved_terms(s, w, run, hidden=stack.hidden)
    return terms | held


def _adapter_parameters(table: OpTable, rank: int, w: Work) -> Array:
    """Parameters of low-rank adapters on every dense matmul of a layer, rank·(k + n), over tp, shape (n,).

    Hu et al. 2021, https://arxiv.org/abs/2106.09685
    """
    widths = sum(o.k + o.n for o in table.ops if o.kernel == "matmul" and o.group in ("attention", "mlp"))
    return rank * widths / w.tp


def _grouped(table: OpTable, way: str, times: Array, groups: tuple[str, ...]) -> Terms:
    if len(groups) == 1:
        return {f"{way}.all": times.sum(axis=1)}
    member = np.array([[o.group == g for g in groups] for o in table.ops], dtype=np.float64)
    totals = times @ member
    return {f"{way}.{g}": totals[:, i] for i, g in enumerate(groups)}


def _saved_terms(s: Section, w: Work, run: TrainingRun, *, hidden: int) -> Terms:
    """Activation bytes one layer keeps: with nothing recomputed, under selective recomputation, its input alone."""
    width = run.precision.bytes_of("activation")
    everything, selective = kept_bytes(s.table, w, run, hidden=hidden)
    whole_div = np.where(w.sequence_parallel > 0, w.tp, 1.0)
    layer_input = w.tokens * hidden * width / whole_div if s.role == "layer" else everything
    transient = np.zeros(len(w.tp))
    for op in s.table.ops:
        if op.name == "head.logits":
            transient = _loss_bytes(w, run, width, hidden=hidden, outputs=op.n)
    return {"saved": everything, "saved_selective": selective, "input": layer_input, "transient": transient}


def _loss_bytes(w: Work, run: TrainingRun, width: float, *, hidden: int, outputs: float) -> Array:
    """What logits, their copies and gradients take at once, shape (n,) [byte].

    eager: the framework's own, in the activation dtype and in fp32 for the loss, whose gradient overwrites it at best.
    fused: logits and their gradient in the activation dtype. chunked: a chunk has as many logits as the input has
    values, in the activation dtype and in fp32 (Liger Kernel, https://arxiv.org/abs/2410.10989, section 3.2).
    """
    if run.loss == "chunked":
        return np.asarray(w.tokens * hidden * (width + 4.0))
    return np.asarray(w.tokens * outputs / w.tp * logit_bytes(run))


def communication_terms(
    d: Demand, s: Section, w: Work, u: Layouts, cluster: Cluster, *, width: float, core: Array,
    gathered: float = 0.0,
    overlap_tp: str = "none",
    context_exchange: str = "ring",
    behind: Behind | None = None,
    low_latency: bool = False,
) -> Terms:  # fmt: skip
    """Exposed tensor, context and expert parallel communication of one layer, forward and backward [s].

    Each block that ends in a row-parallel matmul all-reduces its output forward and its input gradient backward; with
    sequence parallelism the same volume travels as reduce-scatter and all-gather. ``overlap_tp`` backward hides the
    exchange of the input gradient behind the weight gradient, and gathers the saved input once more behind the input
    gradient; all pipelines every exchange with its matmul, inside a scale-up domain: Transformer Engine's overlap maps
    the buffers of its peers. A gathered value is ``gathered`` bytes wide, as wide as the others (``width``) if 0. Keys
    in ``_last`` follow a layer's last matmul.
    """
    stack = d.model.stacks[s.stack]
    message = w.tokens * stack.hidden * width
    blocks = sum(o.shard == "row" for o in s.table.ops) + sum(o.shard == "vocab" for o in s.table.ops)
    layer: Layer | None = stack.kinds[s.kind] if s.role == "layer" else None
    if layer is not None and layer.parallel:
        blocks = min(blocks, 1)
    reduce = collective_time("all_reduce", message, u.tp, stride=np.ones(len(u)), cluster=cluster,
                             low_latency=low_latency)  # fmt: skip
    narrow = (gathered or width) / width
    gather = collective_time("all_gather", narrow * message, u.tp, stride=np.ones(len(u)), cluster=cluster)
    scatter = collective_time("reduce_scatter", message, u.tp, stride=np.ones(len(u)), cluster=cluster)
    split = u.sequence_parallel > 0
    ahead = back = blocks * np.where(split, gather + scatter, reduce)
    zero = np.zeros(len(u))
    if overlap_tp != "none" and behind is not None:
        part = contention(u.tp, np.ones(len(u)), cluster, inside=0.0)
        late = hidden_behind(blocks * np.where(split, scatter, reduce), behind.weight_gradient, contention=part)
        back = late + np.where(split, blocks * gather * (1.0 + part), 0.0)
    if overlap_tp == "all" and behind is not None:
        near = domains_spanned(u.tp, np.ones(len(u)), domain=cluster.domain) <= 1
        whole, little = blocks * np.where(split, gather + scatter, reduce), np.full(len(u), constants.OVERLAPPED_TP)
        ahead = np.where(near, hidden_behind(whole, behind.matmul, contention=little), ahead)
        back = np.where(near, hidden_behind(whole, 2.0 * behind.matmul, contention=little), back)
    after = ahead / max(blocks, 1) * np.where(split, scatter / np.maximum(gather + scatter, 1e-30), 1.0)
    terms = {"tp": ahead, "tp_back": back, "cp": zero, "cp_back": zero, "ep": zero, "ep_back": zero}
    terms |= {"tp_last": after, "cp_last": zero, "ep_last": zero}
    if layer is None:
        return terms
    if u.cp.max() > 1 and isinstance(layer.mixer, Attention | LatentAttention):
        terms |= _context_exchange(layer.mixer, w, u, cluster, width, core, kind=context_exchange)
    if u.ep.max() > 1 and isinstance(layer.ffn, Moe):
        rows = w.tokens / u.tp * layer.ffn.top_k
        exchange = expert_exchange(rows, layer.ffn.top_k, (layer.ffn.latent_dim or stack.hidden) * width, u.ep, cluster)
        terms |= {"ep": 2.0 * exchange, "ep_back": 2.0 * exchange, "ep_last": exchange}
    return terms


def contention(ranks: Array, stride: Array, cluster: Cluster, *, inside: float) -> Array:
    """Part of the time of a group's hidden traffic that is paid all the same, shape of ``ranks``; ``inside`` a scale-up
    domain it is none on chips whose links have engines of their own."""
    across = domains_spanned(ranks, stride, domain=cluster.domain) > 1
    inside *= not cluster.efficiency.execution.link_engines
    return np.where(across, constants.CONTENTION, inside)


def hidden_behind(traffic: Array, window: Array, *, contention: Array) -> Array:
    """What traffic costs behind a window of compute [s]: what exceeds it, and the part of the rest that shows."""
    return np.asarray(np.maximum(traffic - window, 0.0) + contention * np.minimum(traffic, window))


def expert_exchange(rows: Array, top_k: int, token_bytes: float, ep: Array, cluster: Cluster) -> Array:
    """Time to send routed rows to their experts, one way, shape (n,) [s].

    A token crosses to a rank once, however many of its experts live there, and to a domain once: with k experts drawn
    from D of them it visits D·(1 − (1 − 1/D)^k). DeepEP, https://github.com/deepseek-ai/DeepEP

    Parameters
    ----------
    rows : rows a rank sends (tokens x top_k);  token_bytes : [byte] of one row;  ep : ranks
    """
    one = np.ones(len(rows))
    inside, domains = (
        ranks_inside(ep, one, domain=cluster.domain),
        domains_spanned(ep, one, domain=cluster.domain),
    )
    tokens = rows / top_k

    def visited(places: Array) -> Array:
        return places * (1.0 - (1.0 - 1.0 / places) ** top_k)

    near = collective_time("all_to_all", tokens * visited(ep) * token_bytes, inside, stride=one, cluster=cluster)
    far = collective_time("all_to_all", tokens * visited(domains) * token_bytes, domains, stride=inside,
                          cluster=cluster)  # fmt: skip
    return np.maximum(near, far)


def _context_exchange(
    mixer: Attention | LatentAttention, w: Work, u: Layouts, cluster: Cluster, width: float, core: Array, *, kind: str
) -> Terms:
    """Exposed exchange of keys and values under context parallelism, forward and backward [s].

    ring: each rank passes its keys and values on cp - 1 times, behind the attention of a chunk; backward passes their
    gradients too. https://arxiv.org/abs/2310.01889
    all_gather: all keys and values are gathered before attention, and their gradients scattered after; the gather is
    repeated backward. Llama 3, https://arxiv.org/abs/2407.21783, section 3.3.2
    all_to_all: queries, keys, values and outputs trade sequence for heads, four exchanges each way. DeepSpeed Ulysses,
    https://arxiv.org/abs/2309.14509
    """
    if isinstance(mixer, Attention):
        queries, outputs = mixer.heads * mixer.head_dim / u.tp, mixer.heads * mixer.value_dim / u.tp
        keys = mixer.kv_heads * mixer.head_dim / np.minimum(u.tp, mixer.kv_heads)
        values = mixer.kv_heads * mixer.value_dim / np.minimum(u.tp, mixer.kv_heads)
    else:
        queries = keys = mixer.heads * (mixer.nope_dim + mixer.rope_dim) / u.tp
        outputs = values = mixer.heads * mixer.v_head_dim / u.tp
    held = w.tokens * width

    def exchange(op: str, size: Array) -> Array:
        return collective_time(op, size, u.cp, stride=u.tp, cluster=cluster)

    if kind == "all_to_all":
        once = sum((exchange("all_to_all", held * v) for v in (queries, keys, values, outputs)), np.zeros(len(u)))
        return {"cp": once, "cp_back": once}
    if kind == "all_gather":
        gather = exchange("all_gather", held * u.cp * (keys + values))
        return {"cp": gather, "cp_back": gather + exchange("reduce_scatter", held * u.cp * (keys + values))}
    hop = exchange("send_recv", held * (keys + values))
    steps = u.cp - 1.0
    ahead = steps * np.maximum(hop - core / u.cp, 0.0)
    back = steps * np.maximum(2.0 * hop - 2.5 * core / u.cp, 0.0)
    return {"cp": ahead, "cp_back": back}
