"""One training step: a time ledger and a memory ledger for every layout at once.

The step is the pipeline of its micro-batches on the slowest stage, the bubble of filling and draining it, what the
data-parallel exchange cannot hide, and the optimizer. Terms of a ledger sum to its total; each has shape (n,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.cost import constants
from planner.cost.kernels import attention_dtype, slowest_of
from planner.cost.layers import contention, hidden_behind, training_terms
from planner.cost.layouts import Layouts, stage_sections
from planner.cost.memory import Pair, held_zero_stage, memory_ledger, replicas, run_state, total
from planner.cost.recompute import SPARES_LAST_MATMUL, recomputed
from planner.cost.runs import Terms, TrainingRun, gathered_bytes
from planner.cost.schedules import Pipeline, Placement, StageTimes, loop_placement
from planner.demand.memory import newton_schulz_flops, update_bytes
from planner.demand.ops import Array
from planner.demand.transformer import Demand
from planner.scenario.keys import RECOMPUTE
from planner.supply.accelerator import peak_flops
from planner.supply.cluster import Cluster
from planner.supply.collectives import collective_time, host_transfer_time, p2p_time
from planner.supply.efficiency import kernel_efficiency

NEWTON_SCHULZ_EFFICIENCY = 0.5  # share of the 16-bit peak that Muon's batched matmuls reach; assumption


@dataclass(frozen=True)
class Step:
    """Ledgers of one step. ``time`` [s] and ``memory`` [byte] map a term to an array of shape (n,)."""

    time: Terms
    memory: Terms
    bottleneck: Array

    @property
    def step_time(self) -> Array:
        """Sum of the time ledger, shape (n,) [s]."""
        return np.asarray(np.sum(list(self.time.values()), axis=0))

    @property
    def peak_memory(self) -> Array:
        """Sum of the memory ledger, shape (n,) [byte]."""
        return np.asarray(np.sum(list(self.memory.values()), axis=0))


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
    terms = training_terms(d, cluster, x, run, detail=detail)
    again, kept = recomputed(x, terms, run, layers=np.array([s.role == "layer" for s in d.sections]))
    order = running_layers(d)
    out: list[tuple[Array, Step]] = []
    for pp, vpp in sorted(set(zip(x.pp.tolist(), x.vpp.tolist(), strict=True))):
        rows = np.flatnonzero((x.pp == pp) & (x.vpp == vpp))
        counts = stage_counts(d, order, pp=pp, vpp=vpp, placement=run.schedule.placement)
        here = {k: v[rows] for k, v in terms.items()}
        out.append((rows, _group_step(d, cluster, x.take(rows), run, counts, here, again[rows], kept[rows])))
    return _merge(out, len(x))


def running_layers(d: Demand) -> tuple[int, ...]:
    """Section of each layer that runs in the token path, in order; towers are held but not run."""
    return tuple(i for i in d.layer_sections if d.runs(d.sections[i]))


def stage_counts(
    d: Demand, order: tuple[int, ...], *, pp: int, vpp: int, placement: Placement = loop_placement
) -> Array:
    """Layers of each section on each stage, shape (pp, section); inputs with the first chunk, outputs with the last.

    A tower that is held but not run sits with the first chunk.
    """
    counts = stage_sections(order, sections=len(d.sections), pp=pp, vpp=vpp, placement=placement)
    ends = placement(np.arange(pp)[:, None], np.array([0, pp * vpp - 1]), pp)
    running = set(order)
    for i, s in enumerate(d.sections):
        if s.role == "input":
            counts[:, i] = ends[:, 0]
        elif s.role == "output":
            counts[:, i] = ends[:, -1]
        elif i not in running:
            counts[:, i] = s.count * ends[:, 0]
    return counts


def _group_step(
    d: Demand,
    cluster: Cluster,
    x: Layouts,
    run: TrainingRun,
    counts: Array,
    terms: Terms,
    again: Array,
    kept: Array,
) -> Step:
    """Ledgers of the rows that share pp and vpp: (section) terms become (stage) terms, the slowest stage leads."""
    distinct, first_at, multiplicity = _distinct_stages(counts)

    def on_stages(name: str) -> Array:
        return terms[name] @ distinct.T

    paced = distinct.T * _stage_pace(cluster, multiplicity)
    ahead = {k: v @ paced for k, v in terms.items() if k.startswith("forward.")}
    back = {k: v @ paced for k, v in terms.items() if k.startswith("backward.")}
    repeat = again @ paced
    device_ahead, device_back = total(ahead), total(back)
    host = on_stages("host")
    full = (x.recompute == RECOMPUTE.index("full"))[:, None]
    # Tensor-parallel exchange is launched like any kernel, so the host runs ahead of it too.
    waits = _late_host(host, device_ahead + on_stages("tp"))
    waits_back = _late_host((2.0 + full) * host, device_back + repeat + on_stages("tp_back"))
    # The ring of context parallelism runs on while the host is late, so only what outlasts the wait is exposed.
    ring, ring_back = (np.maximum(on_stages(k) - w, 0.0) for k, w in (("cp", waits), ("cp_back", waits_back)))
    experts, experts_back = on_stages("ep"), on_stages("ep_back")
    experts_again = full * (experts - on_stages("ep_last") * (run.framework in SPARES_LAST_MATMUL))
    compute = device_ahead + device_back + repeat - experts_again
    shown = exposed_share(run, experts + experts_back + experts_again, compute)
    experts, experts_back = shown * experts, shown * experts_back
    repeat = repeat - (1.0 - shown) * experts_again
    parallel = {"tp": on_stages("tp") + on_stages("tp_back"), "cp": ring + ring_back, "ep": experts + experts_back}
    copies = run.schedule.weight_copies
    held = copies * on_stages("dense"), copies * on_stages("expert")
    trained = held if run.lora_rank == 0 else (copies * on_stages("adapter"), 0.0 * held[1])
    adds = accumulation_time(cluster, run, trained) / copies
    f_stage = device_ahead + waits + ring + on_stages("tp") + experts
    b_stage = device_back + waits_back + repeat + adds + ring_back + on_stages("tp_back") + experts_back
    send = _send_time(d, cluster, x, run)
    slow = np.argmax(f_stage + b_stage, axis=1)
    m = x.micro_batches.astype(np.float64)
    share = multiplicity / multiplicity.sum()
    mean_f, mean_b = f_stage @ share, b_stage @ share
    mean_w = on_stages("wgrad") @ share
    at = np.arange(len(x)), slow

    time = {k: m * v[at] for k, v in (ahead | back).items()}
    time["recompute"] = m * repeat[at]
    if adds.any():
        time["backward.accumulation"] = m * adds[at]
    time["host.launch"] = m * (waits + waits_back)[at]
    time |= {f"comm.{k}": m * v[at] for k, v in parallel.items()}
    pipeline = Pipeline(pp=x.pp, vpp=x.vpp, micro_batches=m)
    time["comm.pp"] = np.where(x.pp > 1, run.schedule.exposed_sends(send, pipeline), 0.0)
    if run.offload == "activations":
        time["offload"] = m * _offload_time(cluster, kept @ distinct.T, f_stage, b_stage)[at]
    mean = StageTimes(forward=mean_f, backward=mean_b, weight_gradient=mean_w)
    time["pipeline.bubble"] = run.schedule.bubble(mean, pipeline)
    time |= _data_parallel_time(cluster, x, run, held, trained, f_stage, b_stage, m)
    time["optimizer"] = _optimizer_time(d, cluster, x, run, *trained)
    memory = memory_ledger(d, x, run, distinct, first_at, terms, kept, held, trained, m)
    return Step(time, memory, first_at[slow].astype(np.float64))


def _stage_pace(cluster: Cluster, multiplicity: Array) -> Array:
    """Compute time of each kind of stage over that on the slowest device of all, which kernels are timed at, (stage,).

    A stage waits for the slowest of its own devices only, which matters where one stage is longer than the others.
    """
    chip, n = cluster.accelerator, cluster.devices
    own = [slowest_of(round(k * n / multiplicity.sum()), chip) for k in multiplicity]
    return np.array(own) / slowest_of(n, chip)


def _late_host(host: Array, device: Array) -> Array:
    """What a device waits for launches: the two run side by side, so the longer sets the pace."""
    return np.asarray(np.maximum(host - device, 0.0))


def exposed_share(run: TrainingRun, exchange: Array, compute: Array) -> Array:
    """Part of the dispatch and combine of a micro-batch that is on the critical path.

    Experts wait for their tokens, so nothing hides the exchange but the compute of another micro-batch: that of the
    other direction under DualPipe (DeepSeek-V3, https://arxiv.org/abs/2412.19437, section 3.2.1), or the next one
    where the framework merges their passes (Megatron-LM, ``--overlap-moe-expert-parallel-comm``).

    Parameters
    ----------
    exchange, compute : time of one micro-batch forward and back, any shape [s]
    """
    if not (run.schedule.merges_passes or run.overlap_ep):
        return np.ones_like(exchange)
    shown = hidden_behind(exchange, compute, contention=np.full_like(exchange, constants.HIDDEN_EXCHANGE_SHARE))
    return np.divide(shown, exchange, out=np.zeros_like(exchange), where=exchange > 0)


def accumulation_bytes(run: TrainingRun) -> float:
    """What adding a micro-batch's gradient to the accumulator moves in a kernel of its own [byte a parameter].

    Megatron-LM's matmuls accumulate as they write. DeepSpeed adds what autograd wrote in 16 bits: written, read, and
    the accumulator read and written (``BF16_Optimizer``, https://github.com/deepspeedai/DeepSpeed).
    """
    moved = 2.0 * run.precision.bytes_of("activation") + 2.0 * run.precision.bytes_of("grad")
    return moved * (run.framework == "megatron-deepspeed")


def accumulation_time(cluster: Cluster, run: TrainingRun, trained: Pair) -> Array:
    """Time of that kernel for so many parameters, shape of ``trained`` [s]."""
    reach = kernel_efficiency(cluster.accelerator, "vector", "fp32", defaults=cluster.efficiency).memory
    moved = (trained[0] + trained[1]) * accumulation_bytes(run)
    return np.asarray(moved / (cluster.accelerator.bandwidth * min(reach, 1.0)))


def _offload_time(cluster: Cluster, kept: Array, f_stage: Array, b_stage: Array) -> Array:
    """What sending a micro-batch's activations to the host and back takes beyond the passes it hides behind; nothing
    where the catalogue lists no link to the host, which the estimate says."""
    if cluster.accelerator.host is None:
        return np.zeros_like(f_stage)
    there = host_transfer_time(kept, cluster=cluster)
    return np.asarray(np.maximum(there - f_stage, 0.0) + np.maximum(there - b_stage, 0.0))


def _distinct_stages(counts: Array) -> tuple[Array, Array, Array]:
    """Stages of different content: their counts, the earliest position of each, and how many there are."""
    distinct, first_at, multiplicity = np.unique(counts, axis=0, return_index=True, return_counts=True)
    return distinct, first_at, multiplicity.astype(np.float64)


def _send_time(d: Demand, cluster: Cluster, x: Layouts, run: TrainingRun) -> Array:
    """One activation sent to the next stage [s]; each tensor-parallel rank sends its part and gathers inside the node
    (scatter/gather, Narayanan et al. 2021, section 4.1, https://arxiv.org/abs/2104.04473). DeepSpeed's pipeline engine
    sends the whole from every rank."""
    tokens = x.micro_batch * run.seq_len / x.cp
    size = tokens * d.model.hidden * run.precision.bytes_of("activation")
    size = size / (1.0 if run.framework == "megatron-deepspeed" else x.tp)
    return p2p_time(size, ranks=x.pp, stride=x.tp * x.cp * x.dp, cluster=cluster)


def _data_parallel_time(
    cluster: Cluster, x: Layouts, run: TrainingRun, held: Pair, trained: Pair, f_stage: Array, b_stage: Array, m: Array
) -> Terms:  # fmt: skip
    """Exposed gradient and parameter exchange of the stage that has most [s].

    ZeRO 0 all-reduces gradients; 1 reduce-scatters gradients and all-gathers parameters; 2 scatters gradients every
    micro-batch; 3 gathers parameters forward and again backward too. What overlaps hides behind a micro-batch's
    backward (gradients) or forward (parameters) pass, once a step behind as many as the schedule's ``exchange_window``.
    """
    grad_width = exchanged_gradient_bytes(run)
    weight_width = gathered_bytes(run, max(run.precision.bytes_of("weight"), 2.0))
    (dense_ranks, expert_ranks), stride, expert_stride = replicas(x, run), x.tp[:, None], x.ep[:, None]

    def exchange(op: str, width: float, parameters: Pair) -> Array:
        dense, expert = parameters
        one = collective_time(op, dense * width, dense_ranks + 0 * dense, stride=stride + 0 * dense, cluster=cluster)
        if not expert.any():
            return one
        two = collective_time(
            op,
            expert * width,
            np.floor(expert_ranks) + 0 * dense,
            stride=expert_stride + 0 * dense,
            cluster=cluster,
        )
        return one + two

    zero = held_zero_stage(x, run)[:, None]
    reduce, scatter = (
        exchange("all_reduce", grad_width, trained),
        exchange("reduce_scatter", grad_width, trained),
    )
    gather = exchange("all_gather", weight_width, held)
    updated = gather if trained is held else exchange("all_gather", weight_width, trained)
    every = np.where(zero >= 2, m[:, None], 1.0)
    times = np.where(zero >= 3, m[:, None], 1.0)
    gradients = np.where(zero == 0, reduce, scatter) * every
    parameters = np.where(zero == 0, 0.0, np.where(zero >= 3, 2.0 * gather * times, updated))
    if run.overlap_dp:
        pipeline = Pipeline(pp=x.pp, vpp=x.vpp, micro_batches=m)
        once = run.schedule.exchange_window(pipeline)[:, None]
        window_b, window_f = b_stage * np.maximum(every, once), f_stage * np.maximum(times, once)
        both = np.where(zero >= 3, window_b + window_f, window_f)
        spare = np.maximum(both - parameters, 0.0) * (zero >= 3)
        part = contention(dense_ranks, stride, cluster, inside=constants.CONTENTION)
        gradients = hidden_behind(gradients, np.where(zero >= 3, spare, window_b), contention=part)
        parameters = hidden_behind(parameters, both, contention=part)
    return {"comm.dp.gradients": gradients.max(axis=1), "comm.dp.parameters": parameters.max(axis=1)}


def exchanged_gradient_bytes(run: TrainingRun) -> float:
    """Width of a gradient on the network [byte]: the accumulator's, but what XLA compiles reduces the outputs of
    matmuls as they are and widens them after (``fp32_reduce_scatter`` is off by default,
    https://github.com/pytorch/xla/pull/3588; https://jax-ml.github.io/scaling-book/training counts two bytes too)."""
    wide = run.precision.bytes_of("grad")
    return min(wide, run.precision.bytes_of("activation")) if run.framework == "jax" else wide


def _optimizer_time(d: Demand, cluster: Cluster, x: Layouts, run: TrainingRun, dense: Array, expert: Array) -> Array:
    """Update of the parameters a rank owns [s]."""
    per = run_state(d, run)
    ranks_d, ranks_e = replicas(x, run)
    sharded_over = (x.zero_stage >= 1)[:, None]
    owned = dense / np.where(sharded_over, ranks_d, 1.0) + expert / np.where(sharded_over, ranks_e, 1.0)
    moved = owned * update_bytes(per, run.precision)
    memory = kernel_efficiency(cluster.accelerator, "optimizer", "fp32", defaults=cluster.efficiency).memory
    time = moved / (cluster.accelerator.bandwidth * memory)
    if run.optimizer.matrices_only:
        peak = peak_flops(cluster.accelerator, attention_dtype(run.precision, cluster))
        time = time + newton_schulz_flops(owned) / (NEWTON_SCHULZ_EFFICIENCY * peak)
    if run.offload == "optimizer":
        time = time + host_transfer_time(owned * (per.grad + per.weight), cluster=cluster)
    return np.asarray(time.max(axis=1), dtype=np.float64)


def _merge(parts: list[tuple[Array, Step]], n: int) -> Step:
    """Put the rows of each (pp, vpp) group back in their places."""

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
