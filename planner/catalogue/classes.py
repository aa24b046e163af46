"""Efficiency defaults of a class of chips: what to expect where nobody measured the chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from planner.catalogue.hardware import CollectiveEfficiency, KernelEfficiency


@dataclass(frozen=True)
class EfficiencyClass:
    """Defaults of one class, ``hardware/classes/<id>.yaml``.

    Attributes
    ----------
    kernels : mapping               kernel -> dtype or ``default`` -> parameters
    collectives : mapping           fabric kind (scale_up, scale_out, pcie) -> operation -> parameters
    joules_per_flop : mapping       dtype -> energy of one matmul FLOP [J], for sustained power limits
    """

    id: str
    kernels: Mapping[str, Mapping[str, KernelEfficiency]] = field(default_factory=dict)
    collectives: Mapping[str, Mapping[str, CollectiveEfficiency]] = field(default_factory=dict)
    joules_per_flop: Mapping[str, float] = field(default_factory=dict)


UNMEASURED = EfficiencyClass("unmeasured")
