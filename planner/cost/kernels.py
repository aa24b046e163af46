"""Where demand meets supply: the time of every operator of every layout, shape (n, op).

Forward matmuls are one kernel; backward they are two, the input gradient (weights and output gradient in, input
gradient out) and the weight gradient (input and output gradient in, gradient accumulator read and written). Flash
attention's backward is 2.5 times its forward FLOPs (it recomputes the scores), https://arxiv.org/abs/2307.08691,
section 3.1; unfused attention's is twice. Vector operators move twice their forward bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from planner.catalogue.classes import Execution
from planner.catalogue.hardware import KernelEfficiency
from planner.cost import constants
from planner.cost.adapters import Adapters, adapter_bytes
from planner.demand.costs import WIDE_BYTES, AttentionKind, Costs, input_width, stays_wide, weight_width
from planner.demand.ops import KERNELS, Array, Kernel, OpTable
from planner.demand.workload import Precision
from planner.precision import DTYPES
from planner.supply.accelerator import peak_flops, vector_flops
from planner.supply.cluster import Cluster
from planner.supply.efficiency import kernel_efficiency, quantisation_bytes, sustained_fraction
from planner.supply.roofline import kernel_time

FLASH_BACKWARD, EAGER_BACKWARD = 2.5, 2.0
# The first FlashAttention and its Triton port reach 25 to 40 % of an A100's peak, backward less than forward (Dao
# 2023, https://arxiv.org/abs/2307.08691, abstract and section 1); the two values within that range are fitted with the
# constants of ``planner.cost.constants``.
FLASH_1_REACH = {"forward": 0.40, "backward": 0.30}
# Attention is measured with heads of this width. Narrower ones compute more exponentials a matmul FLOP. It is also how
# many lanes a systolic array has.
MEASURED_HEAD = 128.0
STANDARD_NORMAL = NormalDist()
_CODE = {k: i for i, k in enumerate(KERNELS)}
# Matmuls whose weights stay in 16 bits where the others compute in fewer; rates of theirs follow those of ``KERNELS``.
WIDE: tuple[Kernel, ...] = ("matmul", "grouped_matmul")


@dataclass(frozen=True)
class Rates:
    """What the device offers each kernel class; arrays of shape (kernel,), indexed by ``KERNELS`` and ``WIDE``.

    ``peak`` [FLOP/s], ``compute``, ``memory`` fractions, ``overhead`` [s], ``sharpness``; ``bandwidth`` [byte/s];
    ``casts_apart`` whether narrowing an activation is a kernel of its own (training) or part of the matmul's;
    ``exponentials`` time of attention's exponentials over that of its matmuls, for heads of ``MEASURED_HEAD``; infinite
    on a systolic array, where they run beside the matmuls (``head_width_factor``). ``assumed`` says what is taken for
    each kernel class that nobody measured.
    """

    peak: Array
    compute: Array
    memory: Array
    overhead: Array
    sharpness: Array
    bandwidth: float
    assumed: Mapping[str, str]
    casts_apart: bool = False
    exponentials: float = 0.0

    @property
    def array_reach(self) -> float:
        """What attention reaches of the peak over what matmuls do: the least part of its time that is theirs."""
        return float(min(self.compute[_CODE["attention"]] / self.compute[_CODE["matmul"]], 1.0))

    def moving(self, moved: Array | float) -> Array:
        """Time of kernels that only move bytes [s]."""
        return np.asarray(np.asarray(moved) / (self.memory[_CODE["vector"]] * self.bandwidth))

    def time(self, table: OpTable, flops: Array, moved: Array) -> Array:
        """Kernel time of every op, shape (n, op) [s]; ops that do nothing take none."""
        code = _rate_code(table)
        slower = head_width_factor(table, self.exponentials, array_reach=self.array_reach)
        flops = flops * slower if (slower != 1.0).any() else flops
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


def head_width_factor(table: OpTable, exponentials: float, *, array_reach: float = 1.0) -> Array:
    """Time of attention at each operator's head width over that at the same FLOPs and ``MEASURED_HEAD``, shape (op,).

    GPU: matmuls and exponentials take turns, (1 + x·128/d)/(1 + x), d the wider of keys and values. Still wider heads
    run out of registers before they gain.

    Systolic array: matmuls and exponentials have engines of their own, so the slower sets the pace. Exponentials go
    with the scores, 2·128 a FLOP over keys' and values' width; matmuls pad both widths to a multiple of the array's
    128 lanes and take no less than ``array_reach`` of the time. Inferred from published steps: Llama 8B with heads of
    256 holds 0.7 to 0.8 of a TPU v5p's peak over 4M tokens (https://github.com/AI-Hypercomputer/tpu-recipes), more than
    the 0.5 assumed of heads of 128.
    """
    keys, values = table.columns["qk_dim"], table.columns["v_dim"]
    width = np.maximum(keys, values)
    if math.isinf(exponentials):
        both = np.maximum(keys + values, 1.0)
        padded = 2.0 * MEASURED_HEAD * np.ceil(width / MEASURED_HEAD)
        slower = np.maximum(2.0 * MEASURED_HEAD / both, array_reach * padded / both)
        return np.where(width > 0, slower, 1.0)
    narrow = np.where(width > 0, np.maximum(MEASURED_HEAD / np.maximum(width, 1.0), 1.0), 1.0)
    return (1.0 + exponentials * narrow) / (1.0 + exponentials)


def slowest_of(devices: int, execution: Execution) -> float:
    """Time of the slowest of so many equal devices, over their mean; compiled chips of fixed clock run alike.

    The mean of the largest of n normal draws, Φ⁻¹((n − 3/8)/(n + 1/4)): Blom, Statistical Estimates and Transformed
    Beta-Variables, 1958. It lies 1.4 spreads out for 8 devices, 3 for 512 and 3.8 for 8,192.
    """
    spread = 0.0 if execution.steady_clock else constants.DEVICE_SPREAD
    n = max(devices, 1)
    return 1.0 + spread * STANDARD_NORMAL.inv_cdf((n - 0.375) / (n + 0.25))


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
    attention: AttentionKind = "flash",
    kernels: str = "native",
    training: bool = False,
    plain_experts: bool = False,
) -> Rates:
    """Resolve peaks and efficiencies of a device for one direction: ``forward``, ``backward`` or ``decode``.

    ``sustained`` holds matmuls to what the power limit allows for minutes; ``kernels`` is the generation of attention
    kernels that a framework calls. ``training`` takes a library's matmul in every dtype and casts in a kernel of its
    own: the 16-bit fit is of such a library, the narrow ones are of the fused kernels of inference engines.
    ``plain_experts`` run at the rate of a plain matmul, not of a grouped one.
    """
    chip, defaults = cluster.accelerator, cluster.efficiency
    wide = attention_dtype(precision, cluster)
    eager = attention == "eager"
    cores = {"forward": "attention_prefill", "backward": "attention_backward", "decode": "attention_decode"}
    grouped = "grouped_matmul_training" if training else "grouped_matmul"
    names = {"matmul": "matmul", "grouped_matmul": "matmul" if plain_experts else grouped,
             "vector": "vector", "scan": "vector", "lookup": "vector",
             "attention": "matmul" if eager else cores[direction]}  # fmt: skip
    rows = []
    assumed: dict[str, str] = {}
    unquantised = wide if DTYPES[precision.compute].bytes < WIDE_BYTES else precision.compute
    for kernel, own in [*((k, precision.compute) for k in KERNELS), *((k, unquantised) for k in WIDE)]:
        name = names[kernel]
        matrix = kernel in WIDE
        d = own if matrix else wide
        found = kernel_efficiency(chip, name, wide if training else d, defaults=defaults)
        compute = found.compute
        if name != "vector":
            peak = peak_flops(chip, d)
            if sustained and matrix:
                compute = min(compute, sustained_fraction(chip, d, defaults=defaults))
            if kernel == "attention" and not eager:
                compute = min(compute, _attention_reach(defaults.execution, attention, direction, kernels=kernels))
            if matrix and precision.sparsity == "2:4":
                peak *= chip.sparse_factor.get(d, 1.0)
        else:
            peak = vector_flops(chip)
        memory = min(found.memory, 1.0)  # a fit above 1 is traffic that a cache took; device memory gives no more
        if sustained:
            compute /= slowest_of(cluster.devices, defaults.execution)
        if found.provenance.basis == "assumed":
            assumed.setdefault(kernel, efficiency_text(name, found))
        rows.append((peak, compute, memory, found.overhead, found.sharpness))
    table = np.array(rows).T
    return Rates(
        table[0], table[1], table[2], table[3], table[4], chip.bandwidth, assumed, training,
        0.0 if eager else _exponentials(cluster, peak_flops(chip, wide), direction),
    )  # fmt: skip


def efficiency_text(name: str, found: KernelEfficiency) -> str:
    """A kernel's efficiencies in words, and what they are assumed from."""
    why = found.provenance.note or found.provenance.source
    return f"{name} reaches {found.compute:.0%} of peak FLOP/s, {found.memory:.0%} of bandwidth (assumed: {why})"


def _exponentials(cluster: Cluster, peak: float, direction: str) -> float:
    """Time of the exponentials of attention over that of its matmuls at full rate, heads ``MEASURED_HEAD`` wide.

    One exponential a score, which forward takes part in two matmuls and backward in five (Dao 2023,
    https://arxiv.org/abs/2307.08691, section 3.1).
    """
    runs = cluster.efficiency.execution
    if runs.systolic:
        return math.inf
    matmuls = 5.0 if direction == "backward" else 2.0
    exponentials = vector_flops(cluster.accelerator) / runs.flops_per_exponential
    return peak / (matmuls * 2.0 * MEASURED_HEAD) / exponentials


def _attention_reach(execution: Execution, attention: AttentionKind, direction: str, *, kernels: str) -> float:
    """The most of the peak that a generation of attention kernels has reached; 1 where the chip's own are in use.

    Chips with newer matrix instructions lose to kernels written for Ampere.
    """
    if attention == "flash-1":
        return FLASH_1_REACH.get(direction, 1.0) * execution.ampere_kernels
    reach = {"forward": execution.flash_2_forward, "backward": execution.flash_2_backward}
    return reach.get(direction, 1.0) if kernels == "flash-2" else 1.0


def backward_time(
    table: OpTable,
    c: Costs,
    r: Rates,
    precision: Precision,
    *,
    attention: AttentionKind,
    adapters: Adapters | None = None,
) -> Array:
    """Backward time of every op on one device, shape (n, op) [s]; ``r`` resolved for ``backward``.

    Where ``adapters`` are trained, weights are frozen and have an input gradient only.
    """
    inputs = input_gradient_time(table, c, r, precision)
    outputs = weight_gradient_time(table, c, r, precision) * (adapters is None)
    beside = r.moving(adapter_bytes(table, c, precision, adapters, backward=True))
    code = table.kernel
    factor = EAGER_BACKWARD if attention == "eager" else FLASH_BACKWARD
    moved = 2.0 * (c.input_bytes + c.output_bytes + c.cache_bytes)
    core = r.time(table, factor * c.flops, moved)
    is_core = code == _CODE["attention"]
    light = r.time(table, 2.0 * c.flops, 2.0 * (c.input_bytes + c.output_bytes))
    return np.where(is_core, core, np.where(_is_matmul(table), inputs + outputs + beside, light))


def input_gradient_time(table: OpTable, c: Costs, r: Rates, precision: Precision) -> Array:
    """Time of dX = dY·Wᵀ of every matmul, shape (n, op) [s]; dY is quantised first where compute is narrower."""
    return _cast_matmul_time(table, c.flops, c.bytes_moved, c.output_bytes, r, precision) * _is_matmul(table)


def weight_gradient_time(table: OpTable, c: Costs, r: Rates, precision: Precision) -> Array:
    """Time of dW += Xᵀ·dY of every matmul, shape (n, op) [s]; the accumulator is read and written."""
    accumulator = c.weight_bytes / weight_width(table, precision) * 2.0 * precision.bytes_of("grad")
    return r.time(table, c.flops, c.input_bytes + c.output_bytes + accumulator) * _is_matmul(table)


def forward_time(table: OpTable, c: Costs, r: Rates, precision: Precision, adapters: Adapters | None = None) -> Array:
    """Forward time of every op on one device, shape (n, op) [s]; ``r`` resolved for the direction."""
    wide = c.input_bytes * precision.bytes_of("activation") / input_width(table, precision)
    beside = r.moving(adapter_bytes(table, c, precision, adapters, backward=False))
    return _cast_matmul_time(table, c.flops, c.bytes_moved, wide * _is_matmul(table), r, precision) + beside


def _is_matmul(table: OpTable) -> Array:
    return np.asarray(np.isin(table.kernel, [_CODE[k] for k in WIDE]))


def _rate_code(table: OpTable) -> Array:
    """Index of each operator's rates, shape (op,); where compute is wide itself the two sets are equal."""
    wide = _is_matmul(table) & (table.columns["stored"] >= WIDE_BYTES)
    return np.where(wide, len(KERNELS) + table.kernel, table.kernel)


def _cast_matmul_time(
    table: OpTable, flops: Array, moved: Array, activation_bytes: Array, r: Rates, precision: Precision
) -> Array:
    """Time of matmuls one of whose operands is first cast from 16 bits to the compute dtype, shape (n, op) [s].

    A fused kernel adds the traffic to its own. Apart, the cast is a memory-bound kernel before it, which also writes
    the transpose that the weight gradient reads.
    """
    elements = np.where(stays_wide(table, precision), 0.0, activation_bytes / precision.bytes_of("activation"))
    cast = quantisation_bytes(elements, 1.0, dtype=precision.compute)
    if not r.casts_apart:
        return r.time(table, flops, moved + cast)
    transposed = elements * DTYPES[precision.compute].bytes * (cast > 0)
    return np.asarray(r.time(table, flops, moved) + r.moving(cast + transposed))
