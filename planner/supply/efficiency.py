"""How much of the roofs each kind of kernel reaches, and where that figure comes from.

Looked up from the most specific to the most general: the accelerator's own measurements, the defaults of its
class, then one global assumption. The answer carries its provenance, so that a plan can say what was assumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike

from planner.catalogue.classes import UNMEASURED, EfficiencyClass
from planner.catalogue.hardware import Accelerator, KernelEfficiency, Provenance
from planner.errors import unknown
from planner.precision import DTYPES
from planner.supply.roofline import Floats

KERNELS = (
    "matmul",
    "grouped_matmul",
    "grouped_matmul_training",
    "attention_prefill",
    "attention_backward",
    "attention_decode",
    "vector",
    "optimizer",
)
_SIMILAR = {
    "grouped_matmul_training": "grouped_matmul",
    "grouped_matmul": "matmul",
    "attention_backward": "attention_prefill",
    "optimizer": "vector",
}
_SAME_RATE = {"fp16": "bf16", "bf16": "fp16", "mxfp8": "fp8", "mxfp4": "nvfp4"}

GLOBAL_DEFAULT = KernelEfficiency(
    compute=0.77,
    memory=0.76,
    overhead=3.5e-6,
    sharpness=1.8,
    provenance=Provenance("assumption", "assumed", "median of the measured data-centre chips"),
)


def kernel_efficiency(
    accelerator: Accelerator, kernel: str, dtype: str, *, defaults: EfficiencyClass = UNMEASURED
) -> KernelEfficiency:
    """Parameters of ``kernel_time`` for one kind of kernel.

    Parameters
    ----------
    accelerator : Accelerator
    kernel : str                    one of ``KERNELS``
    dtype : str                     what the kernel computes in
    defaults : EfficiencyClass      of the accelerator's class (``planner.catalogue.classes``)

    Returns
    -------
    KernelEfficiency                its provenance says measured or assumed

    Notes
    -----
    Order: accelerator, then class; in each the very dtype, its twin of equal rate (bf16/fp16, fp8/mxfp8,
    nvfp4/mxfp4), then ``default``. A kernel found nowhere falls back on the one most like it (grouped matmul
    of training frameworks on those of engines, these on matmul, attention backward on prefill, optimizer on vector),
    then on the global assumption.
    """
    if kernel not in KERNELS:
        raise unknown("kernel", kernel, KERNELS)
    names = [kernel]
    while names[-1] in _SIMILAR:
        names.append(_SIMILAR[names[-1]])
    for name in names:
        for table in (accelerator.kernels, defaults.kernels):
            for found in _by_dtype(table.get(name, {}), dtype):
                return found
    return GLOBAL_DEFAULT


def _by_dtype(table: Mapping[str, KernelEfficiency], dtype: str) -> Iterator[KernelEfficiency]:
    for name in (dtype, _SAME_RATE.get(dtype, dtype), "default"):
        if name in table:
            yield table[name]


def sustained_fraction(accelerator: Accelerator, dtype: str, *, defaults: EfficiencyClass = UNMEASURED) -> float:
    """Share of peak FLOP/s that the power limit lets a matmul hold for minutes on end.

    Parameters
    ----------
    accelerator : Accelerator
    dtype : str
    defaults : EfficiencyClass      holds the energy of a FLOP of this generation

    Returns
    -------
    float                           at most 1; 1 where power or energy is not known

    Notes
    -----
    min(1, TDP / (ε·(b/16)^x·P)): ε [J/FLOP] the energy of a FLOP with 16-bit operands, x how it falls with the bits b
    of an operand, one pair a generation (``MatmulEnergy``). A burst reaches ``KernelEfficiency.compute``, a long run
    the smaller of the two.
    """
    energy, power = defaults.energy, accelerator.power
    if energy is None or power is None or dtype not in accelerator.peak_flops:
        return 1.0
    joules: float = energy.joules_per_flop * float((DTYPES[dtype].bytes / 2.0) ** energy.narrow_exponent)
    return min(1.0, power / (joules * accelerator.peak_flops[dtype]))


def quantisation_bytes(m: ArrayLike, k: ArrayLike, *, dtype: str) -> Floats:
    """Traffic of turning a 16-bit activation A[m, k] into a narrower dtype before a matmul.

    Parameters
    ----------
    m, k : array_like, shape (n,)           rows and inner dimension of the activation
    dtype : str                             what the matmul computes in

    Returns
    -------
    ndarray, shape (n,)                     [byte]; 0 where the dtype is no narrower than 16 bits

    Notes
    -----
    (2 + b)·m·k: read 16 bits, write b bytes. The matmul then reads b·m·k once more, which is its own traffic.
    The fitted fp8, nvfp4 and int8 efficiencies assume that this term is added to the bytes of the matmul;
    their t_0 holds the launch of the quantising kernel.
    """
    width = DTYPES[dtype].bytes
    elements = np.asarray(m, dtype=np.float64) * np.asarray(k, dtype=np.float64)
    return (2.0 + width if width < 2.0 else 0.0) * elements
