"""Resident bytes a device needs for parameters: weights, gradients and optimizer state under ZeRO / FSDP.

Mixed precision with Adam holds 2 (weights) + 2 (gradients) + 12 (fp32 master and two moments) = 16 bytes a parameter,
18 with fp32 gradients. ZeRO stage 1 divides the 12 over the data-parallel ranks, stage 2 the gradients too, stage 3
everything. Rajbhandari et al. 2019, https://arxiv.org/abs/1910.02054, section 3 and figure 1
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from planner.demand.ops import Array
from planner.demand.optimizer import NEWTON_SCHULZ_STEPS, Optimizer
from planner.demand.workload import Precision

MASTER_BYTES = 4.0


@dataclass(frozen=True)
class StateBytes:
    """Bytes a parameter, before sharding: ``weight``, ``grad``, ``optimizer`` (moments and master copy) [byte]."""

    weight: float
    grad: float
    moments: float
    master: float

    @property
    def optimizer(self) -> float:
        return self.moments + self.master


def state_bytes_per_parameter(precision: Precision, opt: Optimizer, *, moments: float | None = None) -> StateBytes:
    """Bytes of each kind a parameter of a training run costs, before ZeRO.

    A master copy is kept where the optimizer wants one and weights are narrower than 4 bytes. Weights that compute in
    8 or 4 bits are trained from the activation dtype, which is what is stored.
    """
    stored = max(precision.bytes_of("weight"), 2.0) if precision.compute != "fp32" else 4.0
    master = MASTER_BYTES if opt.master and stored < 4.0 else 0.0
    return StateBytes(stored, precision.bytes_of("grad"), opt.state_bytes if moments is None else moments, master)


def sharded(parameters: Array, per: StateBytes, *, zero_stage: ArrayLike, ranks: Array) -> dict[str, Array]:
    """Bytes of weights, gradients and optimizer state on one device.

    Parameters
    ----------
    parameters : parameters the device would hold without data-parallel sharding; any shape
    zero_stage, ranks : ZeRO stage and data-parallel ranks, broadcastable to it

    Returns
    -------
    dict of arrays [byte]
    """
    stage = np.asarray(zero_stage)
    share = 1.0 / np.maximum(ranks, 1.0)
    return {
        "weights": parameters * per.weight * np.where(stage >= 3, share, 1.0),
        "gradients": parameters * per.grad * np.where(stage >= 2, share, 1.0),
        "optimizer": parameters * per.optimizer * np.where(stage >= 1, share, 1.0),
    }


def update_bytes(per: StateBytes, precision: Precision) -> float:
    """Memory traffic of one optimizer update, bytes a parameter.

    Optimizer state is read and written, the weight written. The gradient is read for its norm, read and written to
    clip it, read by the update and zeroed: five passes. With fp16's loss scaling it is first cast to fp32 and unscaled.
    """
    main_grad = max(per.grad, MASTER_BYTES) if precision.activation == "fp16" else per.grad
    scaling = per.grad + main_grad + 2.0 * main_grad if precision.activation == "fp16" else 0.0
    return 2.0 * per.optimizer + per.weight + 5.0 * main_grad + scaling


def newton_schulz_flops(parameters: ArrayLike) -> Array:
    """FLOPs of Muon's orthogonalisation of so many parameters [FLOP].

    A step is three matmuls, 6·n·k·min(n, k). The narrower side is taken as the root of the parameters a rank owns, at
    most 8,192: assumption, because shapes are not kept per rank. https://kellerjordan.github.io/posts/muon/
    """
    owned = np.asarray(parameters, dtype=np.float64)
    return np.asarray(NEWTON_SCHULZ_STEPS * 6.0 * owned * np.minimum(np.sqrt(np.maximum(owned, 1.0)), 8192.0))
