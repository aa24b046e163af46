"""Time of collective operations on a hierarchy of fabrics.

A group that reaches over several scale-up domains works in two pipelined phases: inside a domain over the
scale-up fabric, and across domains over the scale-out network, where every device drives its own network port
(rail). The phases overlap chunk by chunk, so the slower sets the pace; their latencies add.

    t = (α^r + (X/(η·W))^r)^(1/r)

with α the latency of the group, X the bytes a rank sends, W the one-way bandwidth a rank can use, η what the
ring reaches of it. η, α and r are fitted on published measurements (hardware/classes/*.yaml). Where links are about
as fast as the cores that drive them, X also holds a share of the part S/n that never leaves a rank.

References
----------
.. [1] Patarasuk, Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", JPDC 69(2),
   2009. https://doi.org/10.1016/j.jpdc.2008.09.002
.. [2] NVIDIA, "NCCL tests: performance", https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from planner.catalogue.classes import EfficiencyClass
from planner.catalogue.hardware import CollectiveEfficiency, Fabric, Provenance
from planner.errors import BadInputError, unknown
from planner.supply.cluster import Cluster, domains_spanned, fabric_kind, ranks_inside
from planner.supply.roofline import Floats, soft_maximum

# bytes sent per rank / message = numerator·(n - 1)/n, or the whole message where the flag is 1
_RING = {
    "all_reduce": (2.0, 0.0),
    "all_gather": (1.0, 0.0),
    "reduce_scatter": (1.0, 0.0),
    "all_to_all": (1.0, 0.0),
    "send_recv": (0.0, 1.0),
    "broadcast": (0.0, 1.0),
}
OPERATIONS = tuple(_RING)
_SHARED_HOST = 0.12
_ASSUMED = Provenance("assumption", "assumed")
_FALLBACK = {
    "scale_up": CollectiveEfficiency(0.8, 10e-6, 2e-6, 0.6, _ASSUMED),
    "scale_out": CollectiveEfficiency(0.8, 20e-6, 4e-6, 0.6, _ASSUMED),
    "pcie": CollectiveEfficiency(0.5, 12e-6, 3e-6, 0.6, _ASSUMED),
}


@dataclass(frozen=True)
class _Phase:
    """One level of the hierarchy: latency [s] and bandwidth time [s], shape (n,), and the sharpness."""

    latency: Floats
    transfer: Floats
    sharpness: Floats


def ring_volume(op: str, size: ArrayLike, ranks: ArrayLike) -> Floats:
    """Bytes each rank sends under the bandwidth-optimal ring [1]_, the pure law.

    Parameters
    ----------
    op : str                                one of ``OPERATIONS``
    size : array_like, shape (n,)           [byte] all_gather: the gathered result; reduce_scatter: the input;
                                            all_to_all: the whole buffer of a rank; others: the message
    ranks : array_like, shape (n,)

    Returns
    -------
    ndarray, shape (n,)                     [byte]; 0 for a single rank

    Notes
    -----
    all_reduce 2·(n-1)/n·S; all_gather, reduce_scatter, all_to_all (n-1)/n·S; send_recv, broadcast S.
    """
    if op not in _RING:
        raise unknown("collective", op, OPERATIONS)
    factor, whole = _RING[op]
    n = np.maximum(np.asarray(ranks, dtype=np.float64), 1.0)
    share = factor * (n - 1.0) / n + whole
    return np.where(n > 1, share * np.asarray(size, dtype=np.float64), 0.0)


def usable_bandwidth(op: str, ranks: ArrayLike, *, fabric: Fabric) -> Floats:
    """One-way bandwidth that a rank of an n-member group can drive on a fabric.

    Parameters
    ----------
    op : str
    ranks : array_like, shape (n,)
    fabric : Fabric

    Returns
    -------
    ndarray, shape (n,)                     [byte/s]

    Notes
    -----
    switched: the aggregate W. pcie: W/(1 + 0.12·(n-2)), the slots share bridges and sockets (fitted on 2, 4
    and 8 A100 PCIe, SimuMax configs/system/a100_pcie.json, and RTX PRO 6000,
    ai-dynamo/aiconfigurator@095f58a). mesh: min(W, per_peer·(n-1)), the direct links to the members only.
    torus, ring: per_peer times the links that the group's block of the torus closes, see ``_torus_links``;
    all_to_all is further held by the bisection of the longest axis a: W ≤ 4·w/a·(n-1)/n with w the bandwidth
    around that axis (https://jax-ml.github.io/scaling-book/sharding).
    """
    n = np.maximum(np.asarray(ranks, dtype=np.float64), 1.0)
    whole = np.full(n.shape, fabric.bandwidth)
    if fabric.topology == "pcie":
        return np.asarray(whole / (1.0 + _SHARED_HOST * np.maximum(n - 2.0, 0.0)), dtype=np.float64)
    if fabric.per_peer is None or fabric.topology in ("switched", "none"):
        return whole
    if op in ("send_recv", "broadcast"):
        return np.full(n.shape, fabric.per_peer, dtype=np.float64)
    if fabric.topology == "mesh":
        return _least(whole, fabric.per_peer * np.maximum(n - 1.0, 1.0))
    axes = fabric.axes or (fabric.domain,)
    around = _least(whole, fabric.per_peer * _torus_links(n, axes))
    if op != "all_to_all":
        return around
    longest = np.minimum(n, float(max(axes)))
    ways = np.where(longest >= max(axes), 2.0, 1.0)
    return _least(around, 4.0 * ways * fabric.per_peer / longest * np.maximum(n - 1.0, 1.0) / n)


def _least(left: Floats, right: Floats) -> Floats:
    return np.asarray(np.minimum(left, right), dtype=np.float64)


def _torus_links(ranks: Floats, axes: tuple[int, ...]) -> Floats:
    """Links a member of a compact block can use: 2 on an axis it closes (wrap-around), 1 on a part of one."""
    left, closed = ranks.copy(), np.zeros(ranks.shape)
    for length in sorted(axes):
        full = left >= length
        closed += np.where(full, 2.0 - (length == 2), np.where(left > 1, 1.0, 0.0))
        left = np.where(full, left // length, 1.0)
    spread = np.minimum(float(len(axes)), np.floor(np.log2(np.maximum(ranks, 1.0))))
    return np.maximum(np.maximum(closed, spread), 1.0)


def collective_time(
    op: str,
    size: ArrayLike,
    ranks: ArrayLike,
    *,
    stride: ArrayLike,
    cluster: Cluster,
    low_latency: bool = False,
) -> Floats:
    """Time of one collective.

    Parameters
    ----------
    op : str                                one of ``OPERATIONS``
    size : array_like, shape (n,)           [byte] full message, see ``ring_volume``
    ranks, stride : array_like, shape (n,)  members of the group and the distance between neighbours
    cluster : Cluster
    low_latency : bool                      use the one-shot kernels of inference engines where they are
                                            faster (all_reduce inside one domain)

    Returns
    -------
    ndarray, shape (n,)                     [s]; exactly 0 for one rank

    Notes
    -----
    Equation at the head of the module. Where the switch can sum (NVLink SHARP), the all_reduce inside a
    domain takes the faster of the ring and the in-network form, which sends (n+1)/n·S, not 2·(n-1)/n·S.
    """
    s, n, d = np.broadcast_arrays(
        np.asarray(size, dtype=np.float64),
        np.asarray(ranks, dtype=np.float64),
        np.asarray(stride, dtype=np.float64),
    )
    inside = ranks_inside(n, d, domain=cluster.domain)
    across = domains_spanned(n, d, domain=cluster.domain)
    local, remote = _split(op, s, inside, across)
    up = _phase(op, local, inside, fabric=cluster.system.scale_up, efficiency=cluster.efficiency, inner=True)
    out = _phase(op, remote, across, fabric=cluster.system.scale_out, efficiency=cluster.efficiency, inner=False)
    times = _combine(up, out)
    fabric = cluster.system.scale_up
    if op == "all_reduce" and fabric is not None:
        if fabric.in_network_reduction:
            flavour = "all_reduce_in_network"
            sums = _phase(flavour, local, inside, fabric=fabric, efficiency=cluster.efficiency, inner=True)
            times = np.minimum(times, _combine(sums, out))
        if low_latency:
            flavour = "all_reduce_low_latency"
            shot = _phase(flavour, local, inside, fabric=fabric, efficiency=cluster.efficiency, inner=True)
            times = np.where(across > 1, times, np.minimum(times, _combine(shot, out)))
    return np.where(n > 1, times, 0.0)


def _split(op: str, size: Floats, inside: Floats, across: Floats) -> tuple[Floats, Floats]:
    """Message of each phase [byte]: what a rank handles inside its domain, and on its rail across domains."""
    if op == "all_to_all":
        total = inside * across
        return size * inside / total, size
    if op == "send_recv":
        return np.where(across > 1, 0.0, size), size
    return size, size / inside


def _phase(
    op: str, size: Floats, ranks: Floats, *, fabric: Fabric | None, efficiency: EfficiencyClass, inner: bool
) -> _Phase:
    """One level: α + latency of the ranks, and X/(η·W); all zero where the level holds a single rank."""
    active = (ranks > 1) & (size > 0)
    if fabric is None or not active.any():
        zero = np.zeros(ranks.shape)
        return _Phase(zero, zero, np.ones(ranks.shape))
    base = "all_reduce" if op.startswith("all_reduce") else op
    chosen = collective_efficiency(op, efficiency=efficiency, kind=fabric_kind(fabric, inside=inner))
    hops = _hops(op, ranks, inner=inner)
    latency = chosen.latency + chosen.latency_per_rank * hops
    volume = _volume(op, size, ranks)
    if chosen.own_share:
        volume = volume + chosen.own_share * size / ranks
    transfer = volume / (chosen.bandwidth * usable_bandwidth(base, ranks, fabric=fabric))
    return _Phase(
        np.where(active, latency, 0.0),
        np.where(active, transfer, 0.0),
        np.full(ranks.shape, chosen.sharpness),
    )


def _hops(op: str, ranks: Floats, *, inner: bool) -> Floats:
    """Ranks that add latency: one for a send, the depth of a tree for a remote all_reduce, else the ring."""
    if op == "send_recv":
        return np.ones(ranks.shape)
    if not inner and op == "all_reduce":
        return np.log2(np.maximum(ranks, 1.0))
    return ranks - 1.0


def _volume(op: str, size: Floats, ranks: Floats) -> Floats:
    """Bytes sent per rank, flavours of all_reduce too: in-network (n+1)/n·S, one-shot (n-1)·S."""
    if op == "all_reduce_in_network":
        return np.where(ranks > 1, size * (ranks + 1.0) / np.maximum(ranks, 1.0), 0.0)
    if op == "all_reduce_low_latency":
        return size * np.maximum(ranks - 1.0, 0.0)
    return ring_volume("all_reduce" if op.startswith("all_reduce") else op, size, ranks)


def _combine(up: _Phase, out: _Phase) -> Floats:
    """Latencies add, transfers overlap and the two meet in a soft maximum, the network's if any."""
    sharpness = np.where(out.latency + out.transfer > 0, out.sharpness, up.sharpness)
    return soft_maximum(up.latency + out.latency, np.maximum(up.transfer, out.transfer), sharpness)


def collective_efficiency(op: str, *, efficiency: EfficiencyClass, kind: str) -> CollectiveEfficiency:
    """Parameters for one operation on one kind of fabric: the class's own, its default, then assumed."""
    table = efficiency.collectives.get(kind, {})
    for name in (op, op.split("_in_")[0].split("_low_")[0], "default"):
        if name in table:
            return table[name]
    return _FALLBACK[kind]


def p2p_time(size: ArrayLike, *, ranks: ArrayLike, stride: ArrayLike, cluster: Cluster) -> Floats:
    """Time of a send to the next stage of a pipeline.

    Parameters
    ----------
    size : array_like, shape (n,)           [byte]
    ranks, stride : array_like, shape (n,)  stages, and the distance between them; one stage sends nothing

    Returns
    -------
    ndarray, shape (n,)                     [s]; across domains as soon as any of the boundaries is
    """
    return collective_time("send_recv", size, ranks, stride=stride, cluster=cluster)


def host_transfer_time(size: ArrayLike, *, cluster: Cluster) -> Floats:
    """Time to move bytes between a device and host memory, one way.

    Parameters
    ----------
    size : array_like, shape (n,)           [byte]

    Returns
    -------
    ndarray, shape (n,)                     [s]

    Notes
    -----
    size / (0.87·W) + 10 µs. 0.87 is nvbandwidth on PCIe 5 x16 (55 of 63 GB/s, stas00/ml-engineering@744d01e
    network/README.md); 10 µs is an assumption.
    """
    link = cluster.accelerator.host
    if link is None:
        raise BadInputError(f"{cluster.accelerator.id} lists no host link; offload cannot be timed")
    s = np.asarray(size, dtype=np.float64)
    return np.where(s > 0, s / (0.87 * link.bandwidth) + 10e-6, 0.0)
