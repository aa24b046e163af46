"""What low-rank adapters add to the matmuls they stand beside: kernels that move activations.

y = x·W + s·(x·A)·B, Hu et al. 2021, https://arxiv.org/abs/2106.09685. A and B are narrow, so their matmuls cost what
they move: values of x, k a token, and of y, n a token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.demand.costs import Costs, input_width
from planner.demand.ops import Array, OpTable
from planner.demand.workload import Precision


@dataclass(frozen=True)
class Passes:
    """Passes over x and over y, forward and backward, in values of the activation's width."""

    forward: tuple[float, float]
    backward: tuple[float, float]


# Each step a kernel in 16 bits but scaling joined with the sum: x·A reads x; ·B writes, the sum reads two and writes
# one. Backward the gradients of h and B read that of y, that of A reads x, and that of x is written, then read twice
# and written in the sum.
FUSED = Passes(forward=(1.0, 4.0), backward=(5.0, 2.0))
# PEFT as it comes (peft/tuners/lora/layer.py, https://github.com/huggingface/peft; autocast_adapter_dtype): x is cast
# to fp32 (3), dropped out (4, a mask 0.5), cast back (3), read by A (1); scaling is a kernel (2). Backward the same way
# back: casts 6, dropout 4.5, the gradient of A 1, that of x written 1 and summed 3; scaling 2, of B and h one each.
STEPWISE = Passes(forward=(11.5, 6.0), backward=(15.5, 4.0))
LAUNCHES = 4.0  # two matmuls, a scaling, a sum


@dataclass(frozen=True)
class Adapters:
    """Adapters of a run: parameter groups that have them, and the passes that they take."""

    groups: tuple[str, ...]
    passes: Passes


def adapted(table: OpTable, adapters: Adapters) -> Array:
    """Which operators have adapters, shape (op,)."""
    return np.array([float(o.kernel == "matmul" and o.group in adapters.groups) for o in table.ops])


def adapter_bytes(
    table: OpTable, c: Costs, precision: Precision, adapters: Adapters | None, *, backward: bool
) -> Array | float:
    """What adapters move beside each operator in one direction, shape (n, op) [byte]; 0 without any."""
    if adapters is None:
        return 0.0
    x, y = adapters.passes.backward if backward else adapters.passes.forward
    inputs = c.input_bytes * precision.bytes_of("activation") / input_width(table, precision)
    return np.asarray((x * inputs + y * c.output_bytes) * adapted(table, adapters))
