"""How much of the roofs each kind of kernel reaches, and where that figure comes from.

Looked up from the most specific to the most general: the accelerator's own measurements, the defaults of its
class, then one global assumption. The answer carries its provenance, so that a plan can say what was assumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from planner.catalogue.classes import UNMEASURED, EfficiencyClass
from planner.catalogue.hardware import Accelerator, KernelEfficiency, Provenance
from planner.errors import unknown

KERNELS = (
    "matmul",
    "grouped_matmul",
    "attention_prefill",
    "attention_backward",
    "attention_decode",
    "vector",
    "optimizer",
)
_SIMILAR = {"grouped_matmul": "matmul", "attention_backward": "attention_prefill", "optimizer": "vector"}
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
    nvfp4/mxfp4), then ``default``. A kernel found nowhere falls back on the one most like it (grouped matmul on
    matmul, attention backward on prefill, optimizer on vector), then on the global assumption.
    """
    if kernel not in KERNELS:
        raise unknown("kernel", kernel, KERNELS)
    for name in (kernel, _SIMILAR.get(kernel, kernel)):
        for table in (accelerator.kernels, defaults.kernels):
            for found in _by_dtype(table.get(name, {}), dtype):
                return found
    return GLOBAL_DEFAULT


def _by_dtype(table: Mapping[str, KernelEfficiency], dtype: str) -> Iterator[KernelEfficiency]:
    for name in (dtype, _SAME_RATE.get(dtype, dtype), "default"):
        if name in table:
            yield table[name]


def sustained_fraction(
    accelerator: Accelerator, dtype: str, *, defaults: EfficiencyClass = UNMEASURED
) -> float:
    """Share of peak FLOP/s that the power limit allows a matmul to hold for minutes on end.

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
    min(1, TDP / (ε·P)), ε [J/FLOP] the energy of one FLOP of the generation, everything on the board included.
    Short bursts reach ``KernelEfficiency.compute``; a long run reaches the smaller of the two.
    """
    energy = defaults.joules_per_flop.get(dtype, defaults.joules_per_flop.get(_SAME_RATE.get(dtype, dtype)))
    if energy is None or accelerator.power is None or dtype not in accelerator.peak_flops:
        return 1.0
    return min(1.0, accelerator.power / (energy * accelerator.peak_flops[dtype]))
