"""Figures of the hardware given in place of the catalogue's: a cluster and what is given in, a cluster out.

    W = w/o                    w: bandwidth of a device into the network, o: oversubscription beyond a domain
    t_0(op, n) = α_op + m·L    L: latency of a message, n: domains that a group reaches over

with α_op what starting the collective costs, as fitted, and m the messages that wait for one another: n - 1 round a
ring, 2·log2(n) up and down the tree of an all_reduce, as NCCL counts its steps between nodes [1]_; one for a send, and
for an all_to_all, whose messages leave at once (assumption).

References
----------
.. [1] NVIDIA, NCCL, src/graph/tuning.cc (``ncclTopoTuneModel``), https://github.com/NVIDIA/nccl
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.catalogue.classes import EfficiencyClass
from planner.catalogue.fields import EVERYWHERE
from planner.catalogue.hardware import Accelerator, CollectiveEfficiency, Fabric, System
from planner.errors import BadInputError
from planner.supply.cluster import Cluster, fabric_kind
from planner.supply.collectives import OPERATIONS, collective_efficiency
from planner.units import format_quantity


@dataclass(frozen=True)
class Overrides:
    """What is given of the hardware; None leaves the catalogue's figure.

    Attributes
    ----------
    network_bandwidth : [byte/s] one way, of a device into the network between domains; joins nodes that have none
    network_latency : [s] of one message across that network
    oversubscription : what the bandwidth of that network is divided by, at least 1
    domain : devices of a scale-up domain
    memory_capacity : [byte] of a device, what a program can allocate
    price : [USD/hour] of a device
    price_kind : kind of the observed price that is taken
    """

    network_bandwidth: float | None = None
    network_latency: float | None = None
    oversubscription: float | None = None
    domain: int | None = None
    memory_capacity: float | None = None
    price: float | None = None
    price_kind: str | None = None


def overridden(cluster: Cluster, given: Overrides) -> Cluster:
    """The cluster with the figures that are given.

    Raises
    ------
    BadInputError
        A figure of a fabric that the system lacks, or a domain that its links cannot make.
    """
    system = _with_domain(cluster.system, given.domain)
    system = _with_network(system, given)
    return replace(
        cluster,
        accelerator=_with_memory(cluster.accelerator, given.memory_capacity),
        system=system,
        efficiency=_with_latency(cluster.efficiency, system, given.network_latency),
        price=cluster.price if given.price is None else given.price,
        price_kind=given.price_kind or cluster.price_kind,
    )


def _with_memory(chip: Accelerator, capacity: float | None) -> Accelerator:
    if capacity is None:
        return chip
    first, *others = chip.memory
    return replace(chip, memory=(replace(first, capacity=capacity), *others))


def _with_domain(system: System, devices: int | None) -> System:
    """A switch joins any number of devices; the links of a mesh no more than they do, those of a torus just these."""
    fabric = system.scale_up
    own = fabric.domain if fabric is not None else 1
    if devices is None or devices == own:
        return system
    if fabric is None:
        raise BadInputError(f"domain: {devices} given, but no fabric joins the devices of {system.id}")
    if fabric.topology in ("torus", "ring"):
        size = " x ".join(str(a) for a in fabric.axes) or str(own)
        raise BadInputError(f"domain: {devices} given, but {system.id} is a {fabric.topology} of {size}, not a switch")
    if fabric.topology == "mesh" and devices > own:
        raise BadInputError(f"domain: {devices} given, but {system.id} is a mesh with links for {own} devices at most")
    return replace(system, scale_up=replace(fabric, domain=devices))


def _with_network(system: System, given: Overrides) -> System:
    network, bandwidth = system.scale_out, given.network_bandwidth
    if network is None and bandwidth is None:
        _refuse_without_network(system, given)
        return system
    if network is None:
        network = Fabric("network as given", "switched", bandwidth or 0.0, None, EVERYWHERE)
    elif bandwidth is not None:
        network = _scaled(network, bandwidth / network.bandwidth, bandwidth)
    if given.oversubscription is not None:
        share = 1.0 / given.oversubscription
        network = _scaled(network, share, network.bandwidth / given.oversubscription)
    return replace(system, scale_out=network)


def _refuse_without_network(system: System, given: Overrides) -> None:
    if given.network_latency is not None:
        said = f"network_latency: {format_quantity(given.network_latency, 's')}"
    elif given.oversubscription not in (None, 1.0):
        said = f"oversubscription: {given.oversubscription:g}"
    else:
        return
    raise BadInputError(f"{said} given, but {system.id} has no network between its domains; give network_bandwidth too")


def _scaled(fabric: Fabric, by: float, bandwidth: float) -> Fabric:
    each = None if fabric.per_peer is None else fabric.per_peer * by
    return replace(fabric, bandwidth=bandwidth, per_peer=each)


def _with_latency(efficiency: EfficiencyClass, system: System, latency: float | None) -> EfficiencyClass:
    if latency is None or system.scale_out is None:
        return efficiency
    kind = fabric_kind(system.scale_out, inside=False)
    table = {op: _steps(op, collective_efficiency(op, efficiency=efficiency, kind=kind), latency) for op in OPERATIONS}
    return replace(efficiency, collectives={**efficiency.collectives, kind: table})


def _steps(op: str, fitted: CollectiveEfficiency, latency: float) -> CollectiveEfficiency:
    """The fitted parameters with m·L for the fitted steps; collectives.py multiplies by the hops of a group."""
    if op == "all_to_all":
        return replace(fitted, latency=fitted.latency + latency)
    return replace(fitted, latency_per_rank=2.0 * latency if op == "all_reduce" else latency)
