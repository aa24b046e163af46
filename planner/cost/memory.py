"""What a device holds during a training step: the memory ledger of its fullest pipeline stage, for every layout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.cost.constants import RECOMPUTE
from planner.cost.frameworks import copied_weight_bytes, held_zero_stage
from planner.cost.groups import shares_experts_apart
from planner.cost.layers import LayerParameters
from planner.cost.layouts import Layouts
from planner.cost.runs import InferenceRun, Terms, TrainingRun
from planner.cost.schedules import Pipeline
from planner.cost.stages import Stages
from planner.demand.memory import MASTER_BYTES, StateBytes, sharded, state_bytes_per_parameter
from planner.demand.ops import Array
from planner.demand.optimizer import Optimizer, state_bytes
from planner.demand.transformer import Demand
from planner.supply.cluster import Cluster

# What a device loses before the first tensor: driver context and workspaces, and the buffers of each communicator.
# Assumption; vLLM's memory profile of an 80 GB GPU reports 1.8 to 3.6 GiB outside torch with NCCL running.
CONTEXT_BYTES = 0.6 * 2**30
COMMUNICATOR_BYTES = 0.4 * 2**30
FREED = ("activations", "working", "logits")


@dataclass(frozen=True)
class Parameters:
    """Parameters on a device of each kind of stage, shape (n, kind): dense ones and those of routed experts."""

    dense: Array
    expert: Array


@dataclass(frozen=True)
class StageMemory:
    """What the memory of a stage is made of, arrays of shape (n, kind).

    Attributes
    ----------
    parameters, trained : Parameters      trained are the adapters' where the weights are frozen
    frozen : [byte] of weights that are held and not trained
    saved : [byte] of activations that a micro-batch keeps on the stage
    rebuilt : (n,) [byte] of the largest layer's activations, which full recomputation rebuilds
    gathered : (n,) parameters that ZeRO 3 gathers at a time
    head : parameters of the head, which are gathered beside the logits
    loss : [byte] of logits, their copies and gradients
    """

    parameters: Parameters
    trained: Parameters
    frozen: Array
    saved: Array
    rebuilt: Array
    gathered: Array
    head: Array
    loss: Array


def device_capacity(cluster: Cluster, run: TrainingRun | InferenceRun) -> float:
    """Memory that a run may fill on a device [byte]: what a program can allocate.

    A layout fits where its ledger sums to no more. What an engine leaves unused is a line of that.
    """
    return cluster.accelerator.capacity


def memory_ledger(
    d: Demand, x: Layouts, run: TrainingRun, stages: Stages, at: StageMemory, micro_batches: Array
) -> Terms:
    """Memory ledger of the fullest stage, (n,) a term [byte]."""
    state = _training_state(d, x, run, at)
    activations = at.saved * _in_flight(x, run, stages, micro_batches)
    if run.offloads_activations:
        activations = activations / np.maximum(stages.layers.sum(axis=1)[None, :], 1.0)
    full = (x.recompute == RECOMPUTE.index("full")).astype(np.float64)[:, None]
    sharded_weights = held_zero_stage(x, run)[:, None] >= 3
    rebuilt = at.rebuilt[:, None] * full
    width = _gathered_width(d, run, at) * sharded_weights
    gathered, head = at.gathered[:, None] * width * 2.0, at.head * width
    ledger = {
        **state,
        "activations": activations,
        # Logits and their gradients are gone when the last layer is rebuilt or gathered.
        "working": np.maximum(rebuilt + gathered - at.loss, head) + _buckets(x, run),
        "logits": at.loss,
    }
    freed = activations + 2.0 * rebuilt + gathered + _buckets(x, run) + at.loss
    ledger["fragmentation"] = _cached(d, x, run, at, freed, total({k: ledger[k] for k in FREED}))
    # What is laid out when it compiles has no communicators of its own.
    caches = not run.framework.static_buffers
    groups = ((x.tp > 1) * 1.0 + (x.pp > 1) + (x.dp * x.cp > 1) + (x.ep > 1) + shares_experts_apart(x)) * caches
    ledger["context"] = CONTEXT_BYTES + COMMUNICATOR_BYTES * groups[:, None] + np.zeros_like(activations)
    fullest = np.argmax(total(ledger), axis=1)
    return {k: v[np.arange(len(x)), fullest] for k, v in ledger.items()}


def _training_state(d: Demand, x: Layouts, run: TrainingRun, at: StageMemory) -> Terms:
    """Weights, gradients and optimizer state of each kind of stage, (n, kind) a term [byte]."""
    per = run_state(d, run)
    ranks, expert_ranks = replicas(x, run)
    zero = held_zero_stage(x, run)[:, None]
    dense = sharded(at.trained.dense, per, zero_stage=zero, ranks=ranks)
    expert = sharded(at.trained.expert, per, zero_stage=zero, ranks=expert_ranks)
    state = {k: dense[k] + expert[k] for k in dense}
    if run.framework.shards_masters_only and per.master:
        shards = state["optimizer"] * (per.master / per.optimizer)
        state["weights"] = np.where(zero >= 3, shards, state["weights"])
        state["optimizer"] = state["optimizer"] - np.where(zero >= 3, shards, 0.0)
    if run.lora_rank:
        share = at.parameters.dense / np.maximum(ranks, 1.0) + at.parameters.expert / np.maximum(expert_ranks, 1.0)
        share = share / np.maximum(at.parameters.dense + at.parameters.expert, 1.0)
        state["weights"] = state["weights"] + at.frozen * np.where(zero >= 3, share, 1.0)
    state["weights"] = state["weights"] + (at.trained.dense + at.trained.expert) * copied_weight_bytes(run)
    width = run.precision.bytes_of("activation")
    if run.framework.accumulates_apart and per.grad > width:
        state["gradients"] = state["gradients"] + (at.trained.dense + at.trained.expert) * width
    if run.offloads_optimizer:
        state["optimizer"] = state["optimizer"] * 0.0
    # A layer is gathered from the host, and its gradients go there as they are made (CPUOffload,
    # https://pytorch.org/docs/stable/fsdp.html): what is gathered at a time is counted apart.
    return {k: v * 0.0 for k, v in state.items()} if run.offloads_parameters else state


def _gathered_width(d: Demand, run: TrainingRun, at: StageMemory) -> Array:
    """Bytes of a parameter that ZeRO 3 gathers, (n, kind): as trained, or as frozen weights are stored."""
    if not run.lora_rank:
        return np.full_like(at.frozen, run_state(d, run).weight)
    return np.asarray(at.frozen / np.maximum(at.parameters.dense + at.parameters.expert, 1.0))


def _cached(d: Demand, x: Layouts, run: TrainingRun, at: StageMemory, freed: Array, alive: Array) -> Array:
    """What a caching allocator reserves beyond the tensors that are alive at the peak, (n, kind) [byte].

    Blocks that are freed stay with it, and tensors of another size take new ones: what was there before the peak or
    comes after it (logits beside the rebuilt layer, the layer's gradients, which come as its activations go), and a
    part of all that is freed. Segments that grow and shrink serve every size
    (https://pytorch.org/docs/stable/notes/cuda.html, expandable_segments).

    Parameters
    ----------
    freed, alive : (n, kind) [byte] of all that is allocated and freed in a step, and of what of it lives at the peak
    """
    if run.framework.static_buffers or run.expandable_segments:
        return np.zeros_like(alive)
    return np.asarray(freed * (1.0 + run.framework.fragmentation) - alive + _widened_gradients(d, x, run, at))


def _buckets(x: Layouts, run: TrainingRun) -> Array:
    """Buffers that gradients are reduced through and weights gathered into under ZeRO, (n, 1) [byte]."""
    return run.framework.bucket_elements * run.precision.bytes_of("activation") * (x.zero_stage >= 1)[:, None]


def _widened_gradients(d: Demand, x: Layouts, run: TrainingRun, at: StageMemory) -> Array:
    """fp32 copies of 16-bit gradients that loss scaling makes for the update, (n, kind) [byte].

    They come when activations are gone, in blocks of other sizes, which a caching allocator keeps beside them
    (Float16OptimizerWithFloat16Params, https://github.com/NVIDIA/Megatron-LM; FP16_Optimizer,
    https://github.com/deepspeedai/DeepSpeed).
    """
    per = run_state(d, run)
    if run.precision.activation != "fp16" or per.grad >= MASTER_BYTES:
        return np.zeros_like(at.saved)
    ranks, expert_ranks = replicas(x, run)
    shards = held_zero_stage(x, run)[:, None] >= 1
    dense = at.trained.dense / np.where(shards, ranks, 1.0)
    return np.asarray((dense + at.trained.expert / np.where(shards, expert_ranks, 1.0)) * MASTER_BYTES)


def replicas(x: Layouts, run: TrainingRun) -> tuple[Array, Array]:
    """Ranks that hold the same dense weights, and the same experts, shape (n, 1): copies of a schedule count as data
    parallelism does, whose gradients are summed and whose state may be sharded over all of them (assumption)."""
    copies = run.schedule.weight_copies
    return (copies * x.dp * x.cp).astype(np.float64)[:, None], copies * x.expert_dp[:, None]


def _in_flight(x: Layouts, run: TrainingRun, stages: Stages, micro_batches: Array) -> Array:
    """Micro-batches whose activations each kind of stage holds at its peak, (n, kind)."""
    m = micro_batches[:, None]
    pipeline = Pipeline(pp=x.pp[:, None], vpp=x.vpp[:, None], micro_batches=m)
    in_flight = run.schedule.in_flight(stages.first[None, :].astype(np.float64), pipeline)
    if run.overlap_ep and not run.schedule.merges_passes:
        in_flight = np.minimum(in_flight + 1.0, m)  # the next one runs forward while this one runs back
    return in_flight


def gathered_parameters(d: Demand, layer: LayerParameters, run: TrainingRun) -> Array:
    """Parameters that ZeRO 3 gathers at a time, shape (n,): a layer, or a matrix where a compiler schedules them."""
    layers = [i for i, s in enumerate(d.sections) if s.role == "layer"]
    whole = layer.dense + layer.expert
    if run.framework.static_buffers:
        largest = [max((o.parameters for o in d.sections[i].table.ops), default=0.0) for i in layers]
        totals = [max(sum(o.parameters for o in d.sections[i].table.ops), 1.0) for i in layers]
        whole = whole[:, layers] * (np.array(largest) / np.array(totals))
        return np.asarray(whole.max(axis=1))
    return np.asarray(whole[:, layers].max(axis=1))


def run_state(d: Demand, run: TrainingRun) -> StateBytes:
    """Bytes a parameter, moments averaged over the model where an optimizer treats matrices and vectors apart."""
    opt = run.optimizer
    if not (opt.factored or opt.matrices_only):
        return state_bytes_per_parameter(run.precision, opt)
    moments = moment_bytes(d, opt) / max(d.total_parameters, 1)
    return state_bytes_per_parameter(run.precision, opt, moments=moments)


def moment_bytes(d: Demand, opt: Optimizer) -> float:
    """Moment bytes of the whole model [byte]: rows + columns for factored, AdamW outside hidden matrices for Muon."""
    matrices = factors = others = 0.0
    for s in d.sections:
        for op in s.table.ops:
            weights = op.parameters - op.bias
            hidden_matrix = s.role == "layer"
            matrices += weights * s.count * hidden_matrix
            others += (weights * (not hidden_matrix) + op.bias) * s.count
            factors += ((op.k + op.n) * op.experts * s.count if weights else 0.0) + op.bias * s.count
    return state_bytes(opt, matrices=matrices, others=others, factors=factors)


def total(parts: Terms) -> Array:
    """Sum of the terms of a ledger."""
    return np.asarray(np.sum(list(parts.values()), axis=0), dtype=np.float64)
