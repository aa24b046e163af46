"""Whether a run fits a device, in doubt: the chance by how far published peaks lay from their prediction.

``planner/validation/intervals.yaml`` holds quantiles of measured over predicted memory by framework, and of what
engines logged: a device filled as predicted, with what the pool for the cache lacked, over the device. The logarithm of
that ratio is taken as normal between neighbouring quantiles, and beyond the outer ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray

from planner.catalogue.intervals import memory_table
from planner.cost.memory import device_capacity
from planner.cost.runs import InferenceRun, TrainingRun
from planner.demand.ops import Array
from planner.supply.cluster import Cluster

# Normal scores of the quantiles 5, 25, 50, 75 and 95 %.
SCORES = {"low": -1.6449, "low50": -0.6745, "middle": 0.0, "high50": 0.6745, "high": 1.6449}
SURE = 0.95  # chance from which a run fits; it does not below what is left of 1


def quantiles(run: TrainingRun | InferenceRun) -> dict[str, float]:
    """Measured over predicted memory at five quantiles, of the narrowest regime that has published peaks."""
    parts = ["train", run.framework.id] if isinstance(run, TrainingRun) else ["infer"]
    found = memory_table().get(".".join(parts)) or memory_table()[parts[0]]
    return {k: found[k] for k in SCORES}


def fit_chance(run: TrainingRun | InferenceRun, memory: Array, capacity: float) -> Array:
    """Chance that layouts of a predicted peak fit, same shape as ``memory`` [byte]; ``capacity`` [byte]."""
    return chance_below(np.log(capacity / np.maximum(memory, 1.0)), quantiles(run))


def chance_below(room: Array, factors: Mapping[str, float]) -> Array:
    """Chance that measured over predicted is at most exp(``room``), same shape.

    Parameters
    ----------
    room : logarithm of what there is over what is predicted
    factors : measured over predicted at quantiles of :data:`SCORES`, or at some of them

    Notes
    -----
    The logarithm is normal between neighbouring quantiles, and beyond the outer ones.
    """
    at = np.log(list(factors.values()))
    at = np.maximum.accumulate(at + np.arange(len(at)) * 1e-9)
    scores = np.array([SCORES[k] for k in factors])
    score = np.interp(room, at, scores)
    score = score + np.minimum(room - at[0], 0.0) * (scores[1] - scores[0]) / (at[1] - at[0])
    score = score + np.maximum(room - at[-1], 0.0) * (scores[-1] - scores[-2]) / (at[-1] - at[-2])
    normal = [0.5 * (1.0 + erf(z / sqrt(2.0))) for z in np.ravel(score).tolist()]
    return np.array(normal).reshape(np.shape(score))


def fitting(cluster: Cluster, run: TrainingRun | InferenceRun, memory: Array) -> NDArray[np.bool_]:
    """Which layouts fit with the chance that the run's ``headroom`` asks for, same shape as ``memory`` [byte]."""
    return fit_chance(run, memory, device_capacity(cluster, run)) >= run.headroom


def verdict(chance: float) -> str:
    """``yes``, ``tight`` or ``no``."""
    return "yes" if chance >= SURE else "tight" if chance > 1.0 - SURE else "no"
