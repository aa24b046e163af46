"""Devices joined by fabrics, and which fabric a group of ranks meets.

Ranks are numbered so that neighbours share a scale-up domain. A group is (ranks, stride): members r, r + s,
r + 2·s, … . The innermost parallel axis has stride 1, the next the product of the sizes inside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from planner.catalogue.classes import UNMEASURED, EfficiencyClass
from planner.catalogue.hardware import Accelerator, Fabric, System
from planner.errors import BadInputError
from planner.supply.roofline import Floats

FabricKind = Literal["scale_up", "scale_out", "pcie"]


@dataclass(frozen=True)
class Cluster:
    """``devices`` accelerators of one system; ``efficiency`` holds the defaults of the chip's class, ``price`` what is
    given in place of the observed rents [USD/hour per device], ``price_kind`` the kind of rent that is asked for."""

    accelerator: Accelerator
    system: System
    devices: int
    efficiency: EfficiencyClass = UNMEASURED
    price: float | None = None
    price_kind: str | None = None

    def __post_init__(self) -> None:
        if self.devices < 1:
            raise BadInputError(f"devices: {self.devices} given; at least 1 is needed")
        if self.devices > self.domain and self.system.scale_out is None:
            raise BadInputError(
                f"devices: {self.devices} given, but {self.system.id} joins at most {self.domain} and has no "
                f"network between nodes; give at most {self.domain} devices or a system with one"
            )

    @property
    def domain(self) -> int:
        """Devices that share the scale-up fabric; 1 where there is none."""
        return self.system.scale_up.domain if self.system.scale_up is not None else 1

    @property
    def nodes(self) -> int:
        """Nodes that hold the devices, the last one possibly part-filled."""
        return -(-self.devices // self.system.devices_per_node)


def fabric_kind(fabric: Fabric, *, inside: bool) -> FabricKind:
    """Which table of collective efficiencies describes a fabric."""
    if fabric.topology == "pcie":
        return "pcie"
    return "scale_up" if inside else "scale_out"


def ranks_inside(ranks: ArrayLike, stride: ArrayLike, *, domain: ArrayLike) -> Floats:
    """Members of a group that share one scale-up domain.

    Parameters
    ----------
    ranks, stride : array_like, shape (n,)
    domain : array_like                     devices of the scale-up domain

    Returns
    -------
    ndarray, shape (n,)                     clip(domain // stride, 1, ranks)
    """
    fit = np.asarray(domain, dtype=np.float64) // np.asarray(stride, dtype=np.float64)
    return np.minimum(np.maximum(fit, 1.0), np.asarray(ranks, dtype=np.float64))


def domains_spanned(ranks: ArrayLike, stride: ArrayLike, *, domain: ArrayLike) -> Floats:
    """Scale-up domains that a group reaches over, shape (n,): ceil(ranks / ranks_inside)."""
    return np.ceil(np.asarray(ranks, dtype=np.float64) / ranks_inside(ranks, stride, domain=domain))
