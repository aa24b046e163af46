"""What a device holds during a training step: the memory ledger of its fullest pipeline stage, for every layout."""

from __future__ import annotations

import numpy as np

from planner.cost.layouts import Layouts
from planner.cost.runs import Terms, TrainingRun
from planner.cost.schedules import Pipeline
from planner.demand.memory import StateBytes, sharded, state_bytes_per_parameter
from planner.demand.ops import Array
from planner.demand.optimizer import Optimizer, state_bytes
from planner.demand.transformer import Demand
from planner.scenario.keys import RECOMPUTE

# What a device loses before the first tensor: driver context and workspaces, and the buffers of each communicator.
# Assumption; vLLM's memory profile of an 80 GB GPU reports 1.8 to 3.6 GiB outside torch with NCCL running.
CONTEXT_BYTES = 0.6 * 2**30
COMMUNICATOR_BYTES = 0.4 * 2**30
# Caching allocators round up and fragment: reserved and device-level peaks lie above what tensors need. Fitted on the
# published peaks of planner/validation, of which it leaves 7 % in the median.
FRAGMENTATION = 0.10
# Frameworks whose ZeRO 3 holds fp32 shards alone and casts what it gathers: FSDP's mixed precision
# (https://pytorch.org/docs/stable/fsdp.html, MixedPrecision) and XLA.
KEEPS_MASTER_ONLY = ("torch", "jax")

Pair = tuple[Array, Array]  # dense and expert parameters of a stage


def memory_ledger(
    d: Demand, x: Layouts, run: TrainingRun, distinct: Array, first_at: Array, terms: Terms,
    kept: Array, held: Pair, trained: Pair, m: Array,
) -> Terms:  # fmt: skip
    """Memory ledger of the fullest stage [byte]."""
    per = run_state(d, run)
    ranks, expert_ranks = replicas(x, run)
    zero = held_zero_stage(x, run)[:, None]
    a, b = (sharded(p, per, zero_stage=zero, ranks=r) for p, r in zip(trained, (ranks, expert_ranks), strict=True))
    state = {k: a[k] + b[k] for k in a}
    if run.framework in KEEPS_MASTER_ONLY and per.master:
        shards = state["optimizer"] * (per.master / per.optimizer)
        state["weights"] = np.where(zero >= 3, shards, state["weights"])
        state["optimizer"] = state["optimizer"] - np.where(zero >= 3, shards, 0.0)
    if run.lora_rank:
        frozen = run.schedule.weight_copies * (terms["frozen"] @ distinct.T)
        over = (held[0] / np.maximum(ranks, 1.0) + held[1] / np.maximum(expert_ranks, 1.0)) / np.maximum(sum(held), 1.0)
        state["weights"] = state["weights"] + frozen * np.where(zero >= 3, over, 1.0)
    width = run.precision.bytes_of("activation")
    if run.framework == "megatron-deepspeed" and per.grad > width:
        # DeepSpeed's BF16_Optimizer accumulates in fp32 beside the 16-bit gradients of autograd.
        state["gradients"] = state["gradients"] + (trained[0] + trained[1]) * width
    if run.offload == "optimizer":
        state["optimizer"] = state["optimizer"] * 0.0
    pipeline = Pipeline(pp=x.pp[:, None], vpp=x.vpp[:, None], micro_batches=m[:, None])
    flying = run.schedule.in_flight(first_at[None, :].astype(np.float64), pipeline)
    if run.overlap_ep and not run.schedule.merges_passes:
        flying = np.minimum(flying + 1.0, m[:, None])  # the next one runs forward while this one runs back
    activations = (kept @ distinct.T) * flying
    if run.offload == "activations":
        activations = activations / np.maximum((distinct.sum(axis=1))[None, :], 1.0)
    layers = np.array([s.role == "layer" for s in d.sections])
    full = (x.recompute == RECOMPUTE.index("full")).astype(np.float64)[:, None]
    # One layer is rebuilt whole, and its activation gradients stand beside it.
    working = 2.0 * np.max(terms["saved"] * layers, axis=1)[:, None] * full
    gathered = _gathered_weights(d, terms, run)[:, None] * per.weight * 2.0 * (zero >= 3)
    logits = terms["transient"] @ (distinct > 0).T
    ledger = {
        **state,
        "activations": activations,
        "working": working + gathered + np.zeros_like(activations),
        "logits": logits,
    }
    # XLA lays buffers out when it compiles: no caching allocator, no communicators of their own.
    caches = run.framework != "jax"
    ledger["fragmentation"] = total(ledger) * FRAGMENTATION * caches
    groups = ((x.tp > 1) * 1.0 + (x.pp > 1) + (x.dp * x.cp > 1) + (x.ep > 1)) * caches
    ledger["context"] = CONTEXT_BYTES + COMMUNICATOR_BYTES * groups[:, None] + np.zeros_like(activations)
    worst = np.argmax(total(ledger), axis=1)
    return {k: v[np.arange(len(x)), worst] for k, v in ledger.items()}


def replicas(x: Layouts, run: TrainingRun) -> Pair:
    """Ranks that hold the same dense weights, and the same experts, shape (n, 1): copies of a schedule count as data
    parallelism does, whose gradients are summed and whose state may be sharded over all of them (assumption)."""
    copies = run.schedule.weight_copies
    return (copies * x.dp * x.cp).astype(np.float64)[:, None], copies * x.expert_dp[:, None]


def _gathered_weights(d: Demand, terms: Terms, run: TrainingRun) -> Array:
    """Parameters that ZeRO 3 gathers at a time, shape (n,): a layer, or a single matrix where XLA schedules it."""
    layers = [i for i, s in enumerate(d.sections) if s.role == "layer"]
    whole = terms["dense"] + terms["expert"]
    if run.framework == "jax":
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


def held_zero_stage(x: Layouts, run: TrainingRun) -> Array:
    """ZeRO stage by which a rank holds weights and gradients during the step, shape (n,).

    Under a pipeline gradients are kept whole from the first micro-batch to the last, so that they are exchanged once a
    step: stage 2 is stage 1 (DeepSpeed refuses it, https://github.com/deepspeedai/DeepSpeed/issues/823). PyTorch's FSDP
    keeps weights gathered too: stage 3 is stage 1 (torchtitan, ``fsdp_reshard_after_forward`` default,
    https://github.com/pytorch/torchtitan).
    """
    whole = (x.zero_stage == 2) | ((x.zero_stage == 3) & (run.framework == "torch"))
    return np.where((x.pp > 1) & whole, 1, x.zero_stage)


def total(parts: Terms) -> Array:
    return np.asarray(np.sum(list(parts.values()), axis=0), dtype=np.float64)
