"""Exchange of gradients and parameters between replicas, by ZeRO stage, and what compute hides of it."""

from __future__ import annotations

import numpy as np

from planner.cost import constants
from planner.cost.exchange import contention, hidden_behind
from planner.cost.frameworks import exchanged_gradient_bytes, gathered_bytes, held_zero_stage
from planner.cost.groups import Group, expert_gradient_group, gradient_group
from planner.cost.layouts import Layouts
from planner.cost.memory import Parameters
from planner.cost.runs import Terms, TrainingRun
from planner.cost.schedules import Pipeline
from planner.demand.ops import Array
from planner.supply.cluster import Cluster
from planner.supply.collectives import collective_time


def data_parallel_time(
    cluster: Cluster, x: Layouts, run: TrainingRun, parameters: Parameters, trained: Parameters, forward: Array,
    backward: Array, m: Array,
) -> Terms:  # fmt: skip
    """Exposed gradient and parameter exchange of the stage that has most, (n,) a term [s].

    ZeRO 0 all-reduces gradients; 1 reduce-scatters gradients and all-gathers parameters; 2 scatters gradients every
    micro-batch; 3 gathers parameters forward and again backward too. What overlaps hides behind a micro-batch's
    backward (gradients) or forward (parameters) pass, once a step behind as many as the schedule's ``exchange_window``.

    Parameters
    ----------
    parameters, trained : (n, kind) parameters;  forward, backward : (n, kind) a micro-batch's pass on a stage [s]
    m : (n,) micro-batches
    """
    grad_width = exchanged_gradient_bytes(run)
    weight_width = gathered_bytes(run, max(run.precision.bytes_of("weight"), 2.0))
    zero = held_zero_stage(x, run)[:, None]
    reduce = _exchange("all_reduce", trained, grad_width, x, run, cluster)
    scatter = _exchange("reduce_scatter", trained, grad_width, x, run, cluster)
    gather = _exchange("all_gather", parameters, weight_width, x, run, cluster)
    updated = gather if trained is parameters else _exchange("all_gather", trained, weight_width, x, run, cluster)
    grad_times = np.where(zero >= 2, m[:, None], 1.0)
    weight_times = np.where(zero >= 3, m[:, None], 1.0)
    gradients = np.where(zero == 0, reduce, scatter) * grad_times
    gathers = np.where(zero == 0, 0.0, np.where(zero >= 3, 2.0 * gather * weight_times, updated))
    if run.overlap_dp:
        once = run.schedule.exchange_window(Pipeline(pp=x.pp, vpp=x.vpp, micro_batches=m))[:, None]
        behind_backward, behind_forward = (
            backward * np.maximum(grad_times, once),
            forward * np.maximum(weight_times, once),
        )
        both = np.where(zero >= 3, behind_backward + behind_forward, behind_forward)
        spare = np.maximum(both - gathers, 0.0)
        group = gradient_group(x, copies=run.schedule.weight_copies)
        column = Group(group.ranks[:, None], group.stride[:, None])
        part = contention(column, cluster, inside=constants.CONTENTION)
        gradients = hidden_behind(gradients, np.where(zero >= 3, spare, behind_backward), contention=part)
        gathers = hidden_behind(gathers, both, contention=part)
    return {"comm.dp.gradients": gradients.max(axis=1), "comm.dp.parameters": gathers.max(axis=1)}


def _exchange(
    operation: str, parameters: Parameters, width: float, x: Layouts, run: TrainingRun, cluster: Cluster
) -> Array:
    """Time of one collective over dense parameters and one over experts, ``width`` bytes each, (n, kind) [s]."""

    def one(size: Array, group: Group) -> Array:
        every = group.spread(size)
        return collective_time(operation, size * width, every.ranks, stride=every.stride, cluster=cluster)

    copies = run.schedule.weight_copies
    dense = one(parameters.dense, gradient_group(x, copies=copies))
    if not parameters.expert.any():
        return dense
    return dense + one(parameters.expert, expert_gradient_group(x, copies=copies))
