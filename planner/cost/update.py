"""The optimizer's update: what it moves, what it computes, and what the host link adds."""

from __future__ import annotations

import numpy as np

from planner.cost.kernels import attention_dtype
from planner.cost.layouts import Layouts
from planner.cost.memory import Parameters, replicas, run_state
from planner.cost.runs import TrainingRun
from planner.demand.memory import newton_schulz_flops, update_bytes
from planner.demand.ops import Array
from planner.demand.transformer import Demand
from planner.supply.accelerator import peak_flops
from planner.supply.cluster import Cluster
from planner.supply.collectives import host_transfer_time
from planner.supply.efficiency import kernel_efficiency

NEWTON_SCHULZ_EFFICIENCY = 0.5  # share of the 16-bit peak that Muon's batched matmuls reach; assumption


def owned_parameters(x: Layouts, run: TrainingRun, trained: Parameters) -> Array:
    """Parameters that a rank updates on each kind of stage, (n, kind): its shard under ZeRO, else all."""
    sharded = (x.zero_stage >= 1)[:, None]
    ranks, expert_ranks = replicas(x, run)
    dense = trained.dense / np.where(sharded, ranks, 1.0)
    return np.asarray(dense + trained.expert / np.where(sharded, expert_ranks, 1.0))


def optimizer_time(d: Demand, cluster: Cluster, x: Layouts, run: TrainingRun, trained: Parameters) -> Array:
    """Update of the parameters a rank owns, on the stage that owns most, (n,) [s]."""
    per = run_state(d, run)
    owned = owned_parameters(x, run, trained)
    moved = owned * update_bytes(per, run.precision)
    memory = kernel_efficiency(cluster.accelerator, "optimizer", "fp32", defaults=cluster.efficiency).memory
    time = moved / (cluster.accelerator.bandwidth * memory)
    if run.optimizer.matrices_only:
        peak = peak_flops(cluster.accelerator, attention_dtype(run.precision, cluster))
        time = time + newton_schulz_flops(owned) / (NEWTON_SCHULZ_EFFICIENCY * peak)
    if run.offloads_optimizer and not run.offloads_parameters:  # whose gradients are on the host already
        time = time + host_transfer_time(owned * (per.grad + per.weight), cluster=cluster)
    return np.asarray(time.max(axis=1), dtype=np.float64)
