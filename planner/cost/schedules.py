"""Pipeline schedules: how long a step takes from the time of its stages, and how many micro-batches are in flight.

1F1B: Narayanan et al. 2021 (PipeDream-Flush), https://arxiv.org/abs/2104.04473, section 2.2; interleaved: the same;
zero-bubble ZB-H1: Qi et al. 2023, https://arxiv.org/abs/2401.10241; DualPipe: DeepSeek-V3 2024,
https://arxiv.org/abs/2412.19437, table 1.
"""

from __future__ import annotations

import numpy as np

from planner.demand.ops import Array


def bubble_time(
    schedule: str, *, forward: Array, backward: Array, weight_gradient: Array, pp: Array, vpp: Array
) -> Array:
    """Idle time of the bottleneck stage in one step, shape (n,) [s].

    Parameters
    ----------
    forward, backward : mean time of one micro-batch on one stage [s]; backward holds both gradients and recompute
    weight_gradient : the part of backward that computes weight gradients [s]
    pp, vpp : stages and model chunks a stage

    Notes
    -----
    1F1B and GPipe (p-1)(F+B); interleaved (p-1)(F+B)/v; ZB-H1 (p-1)(F+B-2W) with W moved into the bubble, B
    holding the input and weight gradients; DualPipe (p/2-1)(F+B-3W).
    """
    whole = forward + backward
    if schedule == "zb-h1":
        return np.asarray(np.maximum((pp - 1) * (whole - 2 * weight_gradient), 0.0))
    if schedule == "dualpipe":
        return np.asarray(np.maximum((pp / 2 - 1) * (whole - 3 * weight_gradient), 0.0))
    return np.asarray((pp - 1) * whole / np.where(schedule_is_interleaved(schedule, vpp), vpp, 1.0))


def schedule_is_interleaved(schedule: str, vpp: Array) -> Array:
    """Rows whose stages hold several model chunks."""
    return (vpp > 1) & (schedule in ("interleaved", "1f1b"))


def in_flight(schedule: str, *, stage: Array, pp: Array, vpp: Array, micro_batches: Array) -> Array:
    """Micro-batches whose activations a stage holds at its peak, shape (n,) or (n, stage), in whole-stage units.

    Notes
    -----
    1F1B and ZB-H1: p - i on stage i; interleaved: (2·(p - i - 1) + (v - 1)·p + 1)/v, on the first stage
    p·(1 + (p-1)/(p·v)) (Korthikanti et al. 2022, section 4.2.3, https://arxiv.org/abs/2205.05198); GPipe: all;
    DualPipe: p + 1 on every stage.
    """
    m = micro_batches
    if schedule == "gpipe":
        return np.broadcast_to(m, np.broadcast_shapes(np.shape(stage), np.shape(m))).astype(np.float64)
    if schedule == "dualpipe":
        return np.asarray(np.minimum(pp + 1 + 0.0 * stage, 2 * m))
    plain = pp - stage
    chunks = 2.0 * (pp - stage - 1) + (vpp - 1) * pp + 1
    return np.asarray(np.where(vpp > 1, np.minimum(chunks / vpp, m), np.minimum(plain, m)))
