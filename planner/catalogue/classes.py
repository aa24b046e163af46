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
class EfficiencyClass:
    """Defaults of one class, ``hardware/classes/<id>.yaml``.

    Attributes
    ----------
    kernels : mapping               kernel -> dtype or ``default`` -> parameters
    collectives : mapping           fabric kind (scale_up, scale_out, pcie) -> operation -> parameters
    energy : MatmulEnergy or None   for the power limit of long runs; None where nothing shows one
    """

    id: str
    kernels: Mapping[str, Mapping[str, KernelEfficiency]] = field(default_factory=dict)
    collectives: Mapping[str, Mapping[str, CollectiveEfficiency]] = field(default_factory=dict)
    energy: MatmulEnergy | None = None


UNMEASURED = EfficiencyClass("unmeasured")
