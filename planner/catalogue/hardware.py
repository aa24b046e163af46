"""What the catalogue says of hardware, as frozen dataclasses in base units (byte, FLOP/s, byte/s, W, second).

A *device* is what software sees as one accelerator: a GPU, an MI250X die, a TPU v3 core. Every figure here is
per device. Link bandwidths are one way. Peaks are dense, matrix unit, fp32 accumulate. ``provenance`` maps a
field path such as ``peak_flops.bf16`` to where the figure comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Topology = Literal["switched", "mesh", "torus", "pcie", "ring", "none"]
Basis = Literal["measured", "datasheet", "derived", "assumed"]


@dataclass(frozen=True)
class Provenance:
    """Where a figure comes from."""

    source: str
    basis: Basis = "datasheet"
    note: str = ""


@dataclass(frozen=True)
class MemoryLevel:
    """One level of the memory hierarchy, outermost (device memory) first.

    ``capacity`` is what a program can allocate [byte], ``marketed_capacity`` what the sheet prints [byte];
    ``bandwidth`` [byte/s] or None where no source gives it (caches).
    """

    name: str
    kind: str
    capacity: float
    bandwidth: float | None
    marketed_capacity: float


@dataclass(frozen=True)
class Link:
    """A device's own attachment: ``bandwidth`` is the one-way total, ``per_peer`` that to one peer."""

    name: str
    bandwidth: float
    per_peer: float | None = None
    links: int | None = None


@dataclass(frozen=True)
class KernelEfficiency:
    """Parameters of the kernel-time model for one class of kernel and one dtype (supply/roofline.py).

    ``compute`` and ``memory`` are fractions of peak FLOP/s and bandwidth, ``overhead`` [s] the launch term
    t_0, ``sharpness`` the exponent r of the soft maximum.
    """

    compute: float
    memory: float
    overhead: float
    sharpness: float
    provenance: Provenance


@dataclass(frozen=True)
class CollectiveEfficiency:
    """Parameters of the collective-time model for one operation (supply/collectives.py)."""

    bandwidth: float  # fraction of the one-way link that the ring reaches
    latency: float  # [s] fixed
    latency_per_rank: float  # [s] added a rank
    sharpness: float
    provenance: Provenance
    own_share: float = 0.0  # cost of the part of a message that stays on a rank, over that of sending as much


@dataclass(frozen=True)
class Price:
    """A dated observation, never a property of the chip [USD/hour per device]."""

    usd_per_hour: float
    provider: str
    kind: str
    region: str
    date: str
    source: str


@dataclass(frozen=True)
class Accelerator:
    """One chip variant as one device sees it."""

    id: str
    name: str
    vendor: str
    efficiency_class: str
    device_is: str
    devices_per_package: int
    peak_flops: Mapping[str, float]
    vector_flops: float | None
    sparse_factor: Mapping[str, float]
    memory: tuple[MemoryLevel, ...]
    scale_up: Link | None
    host: Link | None
    power: float | None
    year: int | None = None
    status: str = "released"
    default_system: str | None = None
    aliases: tuple[str, ...] = ()
    kernels: Mapping[str, Mapping[str, KernelEfficiency]] = field(default_factory=dict)
    prices: tuple[Price, ...] = ()
    conflicts: tuple[str, ...] = ()
    provenance: Mapping[str, Provenance] = field(default_factory=dict)

    @property
    def capacity(self) -> float:
        """Device memory a program can allocate [byte]."""
        return self.memory[0].capacity

    @property
    def bandwidth(self) -> float:
        """Device memory bandwidth [byte/s]."""
        assert self.memory[0].bandwidth is not None
        return self.memory[0].bandwidth


@dataclass(frozen=True)
class Fabric:
    """A network that joins devices.

    Attributes
    ----------
    bandwidth : float            [byte/s] one way per device, aggregate over its links
    per_peer : float or None     [byte/s] one way to a single peer (full mesh, torus link)
    domain : int                 devices it joins (scale-up: NVLink domain, pod; scale-out: very large)
    axes : tuple of int          torus axes, empty otherwise
    in_network_reduction : bool  the switch sums (NVLink SHARP)
    """

    name: str
    topology: Topology
    bandwidth: float
    per_peer: float | None
    domain: int
    axes: tuple[int, ...] = ()
    in_network_reduction: bool = False


@dataclass(frozen=True)
class System:
    """A node type and the fabric that joins nodes."""

    id: str
    name: str
    accelerator: str
    devices_per_node: int
    scale_up: Fabric | None
    scale_out: Fabric | None
    host_memory: float | None = None
    provider: str = ""
    aliases: tuple[str, ...] = ()
    prices: tuple[Price, ...] = ()
    conflicts: tuple[str, ...] = ()
    provenance: Mapping[str, Provenance] = field(default_factory=dict)
