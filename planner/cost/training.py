"""One training step: a time ledger and a memory ledger for every layout at once.

The step is the pipeline of its micro-batches on the slowest stage, the bubble of filling and draining it, what the
data-parallel exchange cannot hide, and the optimizer. Terms of a ledger sum to its total; each has shape (n,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.cost import constants
from planner.cost.constants import RECOMPUTE
from planner.cost.data_parallel import data_parallel_time
from planner.cost.exchange import hidden_behind
from planner.cost.frameworks import accumulation_bytes
from planner.cost.groups import stage_group
from planner.cost.layers import LayerTerms, layer_terms
from planner.cost.layouts import Layouts
from planner.cost.memory import Parameters, StageMemory, gathered_parameters, memory_ledger, replicas, total
from planner.cost.records import over
from planner.cost.runs import Terms, TrainingRun
from planner.cost.schedules import Pipeline, StageTimes
from planner.cost.stages import Stages, stage_counts, stages
from planner.cost.update import optimizer_time
from planner.demand.ops import Array
from planner.demand.transformer import Demand
from planner.supply.cluster import Cluster
from planner.supply.collectives import host_transfer_time, p2p_time
from planner.supply.efficiency import kernel_efficiency


@dataclass(frozen=True)
class Step:
    """Ledgers of one step. ``time`` [s] and ``memory`` [byte] map a term to an array of shape (n,).

    ``bottleneck`` is the slowest stage, which the ledger of time is of, shape (n,).
    """

    time: Terms
    memory: Terms
    bottleneck: Array

    @property
    def step_time(self) -> Array:
        """Sum of the time ledger, shape (n,) [s]."""
        return total(self.time)

    @property
    def peak_memory(self) -> Array:
        """Sum of the memory ledger, shape (n,) [byte]."""
        return total(self.memory)


@dataclass(frozen=True)
class StagePass:
    """One micro-batch in one direction on each kind of stage, arrays of shape (n, kind) [s].

    Attributes
    ----------
    kernels : by parameter group, or under ``all``
    wait : for launches that come late
    recompute : forward work repeated, its exchange included
    accumulation : adding gradients in a kernel of its own
    exchange : by axis (tp, cp, ep, etp), what is exposed
    """

    kernels: Terms
    wait: Array
    recompute: Array
    accumulation: Array
    exchange: Terms

    @property
    def time(self) -> Array:
        """All of it."""
        ahead = total(self.kernels) + self.wait + self.recompute + self.accumulation
        return np.asarray(
            ahead + self.exchange["cp"] + self.exchange["tp"] + self.exchange["ep"] + self.exchange["etp"]
        )


def training_step(d: Demand, cluster: Cluster, x: Layouts, run: TrainingRun, *, detail: bool = False) -> Step:
    """Estimate a step of every layout.

    Parameters
    ----------
    d : Demand;  cluster : Cluster;  x : Layouts, (n,);  run : TrainingRun
    detail : bool                   split forward and backward by parameter group

    Returns
    -------
    Step                            ledgers of arrays of shape (n,)
    """
    terms = layer_terms(d, cluster, x, run, detail=detail)
    out: list[tuple[Array, Step]] = []
    for pp, vpp in sorted(set(zip(x.pp.tolist(), x.vpp.tolist(), strict=True))):
        rows = np.flatnonzero((x.pp == pp) & (x.vpp == vpp))
        kinds = stages(d, cluster, pp=pp, vpp=vpp, placement=run.schedule.placement, ends=run.end_layers)
        here = over(lambda a, rows=rows: a[rows], terms)
        out.append((rows, _pipeline_step(d, cluster, x.take(rows), run, kinds, here)))
    return _merge(out, len(x))


def _pipeline_step(d: Demand, cluster: Cluster, x: Layouts, run: TrainingRun, kinds: Stages, terms: LayerTerms) -> Step:
    """Ledgers of the rows that share a pipeline: the slowest stage leads."""
    parameters, trained, forward, backward, slow = _timed_kinds(d, cluster, x, run, kinds, terms)
    at, m = (np.arange(len(x)), slow), x.micro_batches.astype(np.float64)
    saved = kinds.of(saved_bytes(x, terms))
    time = _stage_ledger(forward, backward, at, m)
    time["comm.pp"] = _exposed_sends(d, cluster, x, run)
    if run.offloads_activations or run.offloads_parameters:
        there, back = _offloaded(x, run, saved, parameters, trained)
        time["offload"] = m * _offload_time(cluster, there, back, forward.time, backward.time)[at]
    time["pipeline.bubble"] = _bubble_time(x, run, kinds, terms, forward, backward)
    time |= data_parallel_time(cluster, x, run, parameters, trained, forward.time, backward.time, m)
    time["optimizer"] = optimizer_time(d, cluster, x, run, trained)
    layers = _layers(d)
    memory = StageMemory(
        parameters=parameters, trained=trained, saved=saved,
        frozen=run.schedule.weight_copies * kinds.of(terms.parameters.frozen),
        rebuilt=np.max(terms.saved.everything * layers, axis=1), gathered=gathered_parameters(d, terms.parameters, run),
        head=kinds.of(terms.parameters.dense * _head(d)), loss=terms.saved.loss @ (kinds.layers > 0).T,
    )  # fmt: skip
    return Step(time, memory_ledger(d, x, run, kinds, memory, m), kinds.first[slow].astype(np.float64))


def _timed_kinds(
    d: Demand, cluster: Cluster, x: Layouts, run: TrainingRun, kinds: Stages, terms: LayerTerms
) -> tuple[Parameters, Parameters, StagePass, StagePass, NDArray[np.intp]]:
    """Parameters, and those trained, on each kind of stage, its passes forward and back, and the slowest kind, (n,)."""
    parameters, trained = _parameters(run, kinds, terms)
    forward, backward = stage_passes(d, cluster, x, run, kinds, terms, accumulation_time(cluster, run, trained))
    return parameters, trained, forward, backward, np.argmax(forward.time + backward.time, axis=1)


@dataclass(frozen=True)
class Timed:
    """One micro-batch on one stage of one layout.

    Attributes
    ----------
    stage : int;  layers : (section,) it holds;  pace : of its own slowest device
    forward, backward : exposed exchange by axis [s]
    recompute, accumulation : [s]
    trained : parameters of this stage, (1, 1);  everywhere : of every kind of stage, (1, kind)
    """

    stage: int
    layers: Array
    pace: float
    forward: dict[str, float]
    backward: dict[str, float]
    recompute: float
    accumulation: float
    trained: Parameters
    everywhere: Parameters


def timed_stage(d: Demand, cluster: Cluster, x: Layouts, run: TrainingRun, stage: int | None = None) -> Timed:
    """What a stage of one layout spends a micro-batch on, the slowest stage by default."""
    cut = {"pp": int(x.pp[0]), "vpp": int(x.vpp[0])}
    kinds = stages(d, cluster, **cut, placement=run.schedule.placement, ends=run.end_layers)
    terms = layer_terms(d, cluster, x, run, detail=False)
    _, trained, forward, backward, slow = _timed_kinds(d, cluster, x, run, kinds, terms)
    counts = stage_counts(d, **cut, placement=run.schedule.placement, ends=run.end_layers)
    chosen = int(kinds.first[slow[0]]) if stage is None else stage
    k = int(np.flatnonzero((kinds.layers == counts[chosen]).all(axis=1))[0])
    return Timed(
        stage=chosen, layers=kinds.layers[k], pace=float(kinds.pace[k]),
        forward={a: float(v[0, k]) for a, v in forward.exchange.items()},
        backward={a: float(v[0, k]) for a, v in backward.exchange.items()},
        recompute=float(backward.recompute[0, k]), accumulation=float(backward.accumulation[0, k]),
        trained=Parameters(trained.dense[:, [k]], trained.expert[:, [k]]), everywhere=trained,
    )  # fmt: skip


def _parameters(run: TrainingRun, kinds: Stages, terms: LayerTerms) -> tuple[Parameters, Parameters]:
    """Parameters, and those that are trained, on each kind of stage: all of them, or the adapters'."""
    copies = run.schedule.weight_copies
    parameters = Parameters(copies * kinds.of(terms.parameters.dense), copies * kinds.of(terms.parameters.expert))
    if not run.lora_rank:
        return parameters, parameters
    return parameters, Parameters(copies * kinds.of(terms.parameters.adapter), 0.0 * parameters.expert)


def _layers(d: Demand) -> Array:
    """Which sections are layers, shape (section,)."""
    return np.array([s.role == "layer" for s in d.sections])


def _head(d: Demand) -> Array:
    """Which sections hold the weights that logits are computed with, shape (section,): the head, or a tied table."""
    tied = d.model.head is not None and d.model.head.tied
    return np.array([s.role == "output" or (tied and s.role == "input") for s in d.sections])


def recompute_time(d: Demand, x: Layouts, terms: LayerTerms, run: TrainingRun) -> Array:
    """Forward time repeated in the backward pass, exchange included, by recompute mode, (n, section) [s].

    Only layers are recomputed: the embedding, the head and the loss run once. Where checkpoints stop early, a layer's
    last matmul and the exchange after it are spared.
    """
    mode = x.recompute[:, None]
    forward = sum(terms.forward.values(), np.zeros_like(terms.last))
    exchange = terms.exchange
    whole = forward + exchange["tp"].forward + exchange["ep"].forward + exchange["cp"].forward + exchange["etp"].forward
    whole = whole - terms.last * run.framework.stops_early
    repeated = np.where(mode == RECOMPUTE.index("full"), whole,
                     np.where(mode == RECOMPUTE.index("selective"), terms.selective, 0.0))  # fmt: skip
    return np.asarray(repeated * _layers(d))


def saved_bytes(x: Layouts, terms: LayerTerms) -> Array:
    """Activations that a layer keeps for its backward pass, by recompute mode, (n, section) [byte]."""
    mode, saved = x.recompute[:, None], terms.saved
    return np.where(mode == RECOMPUTE.index("full"), saved.input,
                    np.where(mode == RECOMPUTE.index("selective"), saved.selective, saved.everything))  # fmt: skip


def stage_passes(
    d: Demand, cluster: Cluster, x: Layouts, run: TrainingRun, kinds: Stages, terms: LayerTerms, accumulation: Array
) -> tuple[StagePass, StagePass]:
    """One micro-batch forward and back on each kind of stage.

    The host launches ahead of the device, tensor-parallel exchange like any kernel. The ring of context parallelism
    runs on while the host is late, so only what outlasts the wait is exposed.
    """
    forward = {k: kinds.computed(v) for k, v in terms.forward.items()}
    backward = {k: kinds.computed(v) for k, v in terms.backward.items()}
    recompute, launches = kinds.computed(recompute_time(d, x, terms, run)), kinds.of(terms.launches)
    tp, cp, ep, etp = (over(kinds.of, terms.exchange[k]) for k in ("tp", "cp", "ep", "etp"))
    full = (x.recompute == RECOMPUTE.index("full"))[:, None]
    busy, busy_back = total(forward), total(backward) + recompute
    wait = _late_host(launches, busy + tp.forward + etp.forward)
    wait_back = _late_host((2.0 + full) * launches, busy_back + tp.backward + etp.backward)
    experts_again = full * (ep.forward - ep.last * run.framework.stops_early)
    compute = total(forward) + total(backward) + recompute - experts_again
    exposed = exposed_share(run, ep.forward + ep.backward + experts_again, compute)
    ring, ring_back = np.maximum(cp.forward - wait, 0.0), np.maximum(cp.backward - wait_back, 0.0)
    none = np.zeros_like(wait)
    return (
        StagePass(forward, wait, none, none,
                  {"tp": tp.forward, "cp": ring, "ep": exposed * ep.forward, "etp": etp.forward}),
        StagePass(backward, wait_back, recompute - (1.0 - exposed) * experts_again, accumulation,
                  {"tp": tp.backward, "cp": ring_back, "ep": exposed * ep.backward, "etp": etp.backward}),
    )  # fmt: skip


def _stage_ledger(forward: StagePass, backward: StagePass, at: tuple[Array, Array], m: Array) -> Terms:
    """Terms of all micro-batches on the slowest stage, ``at`` (row, kind)."""
    time = {f"forward.{k}": m * v[at] for k, v in forward.kernels.items()}
    time |= {f"backward.{k}": m * v[at] for k, v in backward.kernels.items()}
    time["recompute"] = m * backward.recompute[at]
    if backward.accumulation.any():
        time["backward.accumulation"] = m * backward.accumulation[at]
    time["host.launch"] = m * (forward.wait + backward.wait)[at]
    return time | {f"comm.{k}": m * (forward.exchange[k] + backward.exchange[k])[at] for k in forward.exchange}


def _bubble_time(
    x: Layouts, run: TrainingRun, kinds: Stages, terms: LayerTerms, forward: StagePass, backward: StagePass
) -> Array:
    """Idle time of a stage in a step, from the mean of the stages, (n,) [s]."""
    mean = StageTimes(
        forward=forward.time @ kinds.share, backward=backward.time @ kinds.share,
        weight_gradient=kinds.of(terms.weight_gradient) @ kinds.share,
    )  # fmt: skip
    return run.schedule.bubble(mean, _pipeline(x))


def _pipeline(x: Layouts) -> Pipeline:
    return Pipeline(pp=x.pp, vpp=x.vpp, micro_batches=x.micro_batches.astype(np.float64))


def _late_host(host: Array, device: Array) -> Array:
    """What a device waits for launches: the two run side by side, so the longer sets the pace."""
    return np.asarray(np.maximum(host - device, 0.0))


def exposed_share(run: TrainingRun, exchange: Array, compute: Array) -> Array:
    """Part of the dispatch and combine of a micro-batch that is on the critical path.

    Experts wait for their tokens, so nothing hides the exchange but the compute of another micro-batch: that of the
    other direction where a schedule merges them (DeepSeek-V3, https://arxiv.org/abs/2412.19437, section 3.2.1), or the
    next one where the framework merges their passes (Megatron-LM, ``--overlap-moe-expert-parallel-comm``).

    Parameters
    ----------
    exchange, compute : time of one micro-batch forward and back, any shape [s]
    """
    if not (run.schedule.merges_passes or run.overlap_ep):
        return np.ones_like(exchange)
    exposed = hidden_behind(exchange, compute, contention=np.full_like(exchange, constants.HIDDEN_EXCHANGE_SHARE))
    return np.divide(exposed, exchange, out=np.zeros_like(exchange), where=exchange > 0)


def accumulation_time(cluster: Cluster, run: TrainingRun, trained: Parameters) -> Array:
    """Time of adding a micro-batch's gradients where a kernel of its own does it, shape of ``trained`` [s]."""
    reach = kernel_efficiency(cluster.accelerator, "vector", "fp32", defaults=cluster.efficiency).memory
    moved = (trained.dense + trained.expert) * accumulation_bytes(run)
    # Of the copies that a schedule holds, a micro-batch adds to one.
    return np.asarray(moved / (cluster.accelerator.bandwidth * min(reach, 1.0)) / run.schedule.weight_copies)


def _offloaded(
    x: Layouts, run: TrainingRun, saved: Array, parameters: Parameters, trained: Parameters
) -> tuple[Array, Array]:
    """Bytes between a device and its host in the forward and the backward pass of a micro-batch, (n, kind) each:
    activations out and back, its shard of the weights in both, its shard of the gradients out."""
    ranks, expert_ranks = replicas(x, run)
    shards = [(p.dense / ranks + p.expert / expert_ranks) * run.offloads_parameters for p in (parameters, trained)]
    weights = shards[0] * max(run.precision.bytes_of("weight"), 2.0)
    there = saved * run.offloads_activations + weights
    return there, there + shards[1] * run.precision.bytes_of("grad")


def _offload_time(cluster: Cluster, there: Array, back: Array, forward: Array, backward: Array) -> Array:
    """What traffic with the host takes beyond the passes it hides behind; nothing where the catalogue lists no link
    to the host, which the estimate says."""
    if cluster.accelerator.host is None:
        return np.zeros_like(forward)
    ahead = np.maximum(host_transfer_time(there, cluster=cluster) - forward, 0.0)
    return np.asarray(ahead + np.maximum(host_transfer_time(back, cluster=cluster) - backward, 0.0))


def _exposed_sends(d: Demand, cluster: Cluster, x: Layouts, run: TrainingRun) -> Array:
    """Sends between stages on the critical path of a step, (n,) [s].

    Each tensor-parallel rank sends its part of an activation and gathers inside the node (scatter/gather, Narayanan et
    al. 2021, section 4.1, https://arxiv.org/abs/2104.04473), or the whole of it.
    """
    tokens = x.micro_batch * run.seq_len / x.cp
    size = tokens * d.model.hidden * run.precision.bytes_of("activation")
    size = size / (1.0 if run.framework.sends_whole else x.tp)
    group = stage_group(x)
    send = p2p_time(size, ranks=group.ranks, stride=group.stride, cluster=cluster)
    return np.where(x.pp > 1, run.schedule.exposed_sends(send, _pipeline(x)), 0.0)


def _merge(parts: list[tuple[Array, Step]], n: int) -> Step:
    """Put the rows of each pipeline back in their places."""

    def gather(pick: str) -> Terms:
        names = list(dict.fromkeys(k for _, s in parts for k in getattr(s, pick)))
        out = {k: np.zeros(n) for k in names}
        for rows, step in parts:
            for k, v in getattr(step, pick).items():
                out[k][rows] = v
        return out

    bottleneck = np.zeros(n)
    for rows, step in parts:
        bottleneck[rows] = step.bottleneck
    return Step(gather("time"), gather("memory"), bottleneck)
