"""Efficiency defaults of a class of chips: what to expect where nobody measured the chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from planner.catalogue.hardware import CollectiveEfficiency, KernelEfficiency, Provenance


@dataclass(frozen=True)
class MatmulEnergy:
    """What a matmul FLOP costs in energy when a chip computes for minutes on end, the whole board included.

    ``joules_per_flop`` is for 16-bit operands [J]; operands of b bits cost (b/16)^``narrow_exponent`` of it. Moving
    operands costs energy in proportion to their width, multiplying them to its square: the exponent lies from 1 to 2.
    """

    joules_per_flop: float
    provenance: Provenance
    narrow_exponent: float = 1.15


@dataclass(frozen=True)
class Execution:
    """How chips of a class run programs.

    Attributes
    ----------
    compiled : bool                 programs are compiled as a whole (XLA), so frameworks that do that are the default
    steady_clock : bool             equal devices run alike in speed
    link_engines : bool             the links have engines of their own, so traffic takes nothing from compute
    systolic : bool                 matmuls and exponentials have engines of their own, 128 lanes wide
    flops_per_exponential : float   vector FLOP/s over the exponentials a second
    pipelined_exchange : bool       the library pipelines tensor-parallel exchange with matmuls
    names_modules : bool            libraries repeat named modules under selective recomputation, whatever the framework
    ampere_kernels : float          what attention kernels written for Ampere reach here over what they reach there
    flash_2_forward, flash_2_backward : float   the most of the peak that FlashAttention-2 reaches; 1 where it is native
    """

    compiled: bool = False
    steady_clock: bool = False
    link_engines: bool = False
    systolic: bool = False
    flops_per_exponential: float = 16.0
    pipelined_exchange: bool = False
    names_modules: bool = False
    ampere_kernels: float = 1.0
    flash_2_forward: float = 1.0
    flash_2_backward: float = 1.0


@dataclass(frozen=True)
class EfficiencyClass:
    """Defaults of one class, ``hardware/classes/<id>.yaml``.

    Attributes
    ----------
    kernels : mapping               kernel -> dtype or ``default`` -> parameters
    collectives : mapping           fabric kind (scale_up, scale_out, pcie) -> operation -> parameters
    energy : MatmulEnergy or None   for the power limit of long runs; None where nothing shows one
    execution : Execution           how its chips run programs
    """

    id: str
    kernels: Mapping[str, Mapping[str, KernelEfficiency]] = field(default_factory=dict)
    collectives: Mapping[str, Mapping[str, CollectiveEfficiency]] = field(default_factory=dict)
    energy: MatmulEnergy | None = None
    execution: Execution = Execution()


UNMEASURED = EfficiencyClass("unmeasured")
