"""Where demand meets supply: the time of every operator of every layout, shape (n, op).

Forward matmuls are one kernel; backward they are two, the input gradient (weights and output gradient in, input
gradient out) and the weight gradient (input and output gradient in, gradient accumulator read and written). Flash
attention's backward is 2.5 times its forward FLOPs (it recomputes the scores), https://arxiv.org/abs/2307.08691,
section 3.1; unfused attention's is twice. Vector operators move twice their forward bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.demand.costs import AttentionKind, Costs, op_costs
from planner.demand.ops import KERNELS, Array, OpTable
from planner.demand.workload import Precision, Work
from planner.plan import constants
from planner.precision import DTYPES
from planner.supply.accelerator import peak_flops, vector_flops
from planner.supply.cluster import Cluster
from planner.supply.efficiency import kernel_efficiency, quantisation_bytes, sustained_fraction
from planner.supply.roofline import kernel_time

FLASH_BACKWARD, EAGER_BACKWARD = 2.5, 2.0
# PyTorch's attention is FlashAttention-2, written for Ampere: elsewhere it lacks the newer matrix instructions and
# reaches 35 % of an H100's peak (Shah et al. 2024, https://arxiv.org/abs/2407.08608, abstract).
FLASH_2_NATIVE = (
    "nvidia-volta",
    "nvidia-turing",
    "nvidia-ampere",
    "nvidia-ampere-consumer",
    "nvidia-ada",
    "google-tpu",
)
FLASH_2_ELSEWHERE = 0.35
_CODE = {k: i for i, k in enumerate(KERNELS)}


@dataclass(frozen=True)
class Rates:
    """What the device offers each kernel class; arrays of shape (kernel,), indexed by ``KERNELS``.

    ``peak`` [FLOP/s], ``compute``, ``memory`` fractions, ``overhead`` [s], ``sharpness``; ``bandwidth`` [byte/s].
    """

    peak: Array
    compute: Array
    memory: Array
    overhead: Array
    sharpness: Array
    bandwidth: float
    assumed: tuple[str, ...]

    def time(self, table: OpTable, flops: Array, moved: Array) -> Array:
        """Kernel time of every op, shape (n, op) [s]; ops that do nothing take none."""
        code = table.kernel
        t = kernel_time(
            flops,
            moved,
            peak_flops=self.peak[code],
            bandwidth=self.bandwidth,
            compute_efficiency=self.compute[code],
            memory_efficiency=self.memory[code],
            overhead=self.overhead[code],
            sharpness=self.sharpness[code],
        )
        return np.where((flops > 0) | (moved > 0), t, 0.0)


def attention_dtype(precision: Precision, cluster: Cluster) -> str:
    """Attention runs in the activations' 16-bit dtype, else the first wide dtype the chip has."""
    has = cluster.accelerator.peak_flops
    if precision.activation in has and DTYPES[precision.activation].bytes >= 2:
        return precision.activation
    return next((d for d in ("bf16", "fp16", "tf32", "fp32") if d in has), next(iter(has)))


def rates(
    cluster: Cluster,
    precision: Precision,
    *,
    direction: str,
    sustained: bool,
    eager: bool = False,
    torch: bool = False,
) -> Rates:
    """Resolve peaks and efficiencies of a device for one direction: ``forward``, ``backward`` or ``decode``.

    ``sustained`` holds matmuls to what the power limit allows for minutes; ``torch`` takes the attention kernels that
    PyTorch ships.
    """
    chip, defaults = cluster.accelerator, cluster.efficiency
    wide = attention_dtype(precision, cluster)
    attention = {
        "forward": "attention_prefill",
        "backward": "attention_backward",
        "decode": "attention_decode",
    }
    names = {"matmul": "matmul", "grouped_matmul": "grouped_matmul", "vector": "vector", "scan": "vector",
             "lookup": "vector", "attention": "matmul" if eager else attention[direction]}  # fmt: skip
    rows, assumed = [], []
    for kernel in KERNELS:
        name = names[kernel]
        matrix = kernel in ("matmul", "grouped_matmul")
        d = precision.compute if matrix else wide
        found = kernel_efficiency(chip, name, d, defaults=defaults)
        compute = found.compute
        if name != "vector":
            peak = peak_flops(chip, d)
            if sustained and matrix:
                compute = min(compute, sustained_fraction(chip, d, defaults=defaults))
            if torch and kernel == "attention" and not eager and chip.efficiency_class not in FLASH_2_NATIVE:
                compute = min(compute, FLASH_2_ELSEWHERE)
            if matrix and precision.sparsity == "2:4":
                peak *= chip.sparse_factor.get(d, 1.0)
        else:
            peak = vector_flops(chip)
        memory = min(found.memory, 1.0)  # a fit above 1 is traffic that a cache took; device memory gives no more
        if sustained:
            compute /= constants.STRAGGLER if cluster.devices > 1 else 1.0
            if kernel == "vector":
                memory /= constants.VECTOR_PASSES if torch else 1.0
        if found.provenance.basis == "assumed":
            assumed.append(f"{name} efficiency {found.compute:.2f}/{found.memory:.2f} ({found.provenance.source})")
        rows.append((peak, compute, memory, found.overhead, found.sharpness))
    table = np.array(rows).T
    return Rates(table[0], table[1], table[2], table[3], table[4], chip.bandwidth, tuple(dict.fromkeys(assumed)))


def backward_time(
    table: OpTable,
    c: Costs,
    r: Rates,
    precision: Precision,
    *,
    attention: AttentionKind,
    frozen: bool = False,
) -> Array:
    """Backward time of every op on one device, shape (n, op) [s]; ``r`` resolved for ``backward``.

    ``frozen`` weights (adapters are trained instead) have an input gradient only.
    """
    inputs = input_gradient_time(table, c, r, precision)
    outputs = weight_gradient_time(table, c, r, precision) * (0.0 if frozen else 1.0)
    code = table.kernel
    factor = FLASH_BACKWARD if attention == "flash" else EAGER_BACKWARD
    moved = 2.0 * (c.input_bytes + c.output_bytes + c.cache_bytes)
    core = r.time(table, factor * c.flops, moved)
    is_core = code == _CODE["attention"]
    is_matmul = np.isin(code, [_CODE["matmul"], _CODE["grouped_matmul"]])
    light = r.time(table, 2.0 * c.flops, 2.0 * (c.input_bytes + c.output_bytes))
    return np.where(is_core, core, np.where(is_matmul, inputs + outputs, light))


def input_gradient_time(table: OpTable, c: Costs, r: Rates, precision: Precision) -> Array:
    """Time of dX = dY·Wᵀ of every matmul, shape (n, op) [s]; dY is quantised first where compute is narrower."""
    is_matmul = np.isin(table.kernel, [_CODE["matmul"], _CODE["grouped_matmul"]])
    return r.time(table, c.flops, c.bytes_moved + c.output_bytes * quantised_traffic(precision)) * is_matmul


def weight_gradient_time(table: OpTable, c: Costs, r: Rates, precision: Precision) -> Array:
    """Time of dW += Xᵀ·dY of every matmul, shape (n, op) [s]; the accumulator is read and written."""
    is_matmul = np.isin(table.kernel, [_CODE["matmul"], _CODE["grouped_matmul"]])
    accumulator = c.weight_bytes / precision.bytes_of("weight") * 2.0 * precision.bytes_of("grad")
    return r.time(table, c.flops, c.input_bytes + c.output_bytes + accumulator) * is_matmul


def forward(
    table: OpTable,
    w: Work,
    r: Rates,
    precision: Precision,
    *,
    attention: AttentionKind,
    dropout: bool = False,
) -> tuple[Costs, Array]:
    """Costs and forward time of every op, shapes (n, op)."""
    c = op_costs(table, w, precision, attention=attention, dropout=dropout)
    is_matmul = np.isin(table.kernel, [_CODE["matmul"], _CODE["grouped_matmul"]])
    wide = c.input_bytes * precision.bytes_of("activation") / precision.matmul_input_bytes
    return c, r.time(table, c.flops, c.bytes_moved + wide * is_matmul * quantised_traffic(precision))


def quantised_traffic(precision: Precision) -> float:
    """Bytes of casting an activation to a narrower compute dtype, over the activation's own bytes; 0 if no cast."""
    return float(quantisation_bytes(1.0, 1.0, dtype=precision.compute)) / precision.bytes_of("activation")
