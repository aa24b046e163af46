"""Collectives one group at a time: where it lies, what a rank sends, over which links, and what adds to what."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scalar import LINK, NETWORK, collective, estimate

from planner.catalogue.classes import EfficiencyClass
from planner.catalogue.hardware import Accelerator, CollectiveEfficiency, Fabric, Provenance
from planner.supply.cluster import Cluster
from planner.supply.collectives import collective_efficiency, collective_time, host_transfer_time, usable_bandwidth

RINGS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")


@cache
def cluster(devices: int = 4096) -> Cluster:
    found = estimate(model="gpt2", devices=devices, seq_len=16, global_batch=devices).resolved.cluster
    assert isinstance(found, Cluster)
    return found


def took(
    op: str, size: float, ranks: int, stride: int = 1, *, on: Cluster | None = None, engine: bool = False
) -> float:
    return float(collective_time(op, size, ranks, stride=stride, cluster=on or cluster(), low_latency=engine))


@given(
    op=st.sampled_from([*RINGS, "send_recv"]), size=st.floats(1.0, 1e11),
    ranks=st.sampled_from([1, 2, 4, 8, 16, 64, 512]), stride=st.sampled_from([1, 2, 4, 8, 16]),
)  # fmt: skip
def test_a_collective_is_its_latency_and_what_its_slower_phase_sends(
    op: str, size: float, ranks: int, stride: int
) -> None:
    assert took(op, size, ranks, stride) == pytest.approx(collective(op, size, ranks, stride))


@pytest.mark.parametrize("size", [1e4, 1e9])
def test_a_broadcast_passes_the_whole_message_on(size: float) -> None:
    """Once around inside a domain, and each rank its share over its own port."""
    assert took("broadcast", size, 4) == pytest.approx(5e-6 + 3e-6 + size / LINK)
    latency = 5e-6 + 7e-6 + 20e-6 + 3 * 3e-6
    assert took("broadcast", size, 32) == pytest.approx(latency + max(size / LINK, size / 8 / NETWORK))


@pytest.mark.parametrize("size", [1e4, 1e6, 1e9])
def test_an_engine_takes_the_faster_of_ring_and_one_shot(size: float) -> None:
    shot = 2e-6 + 7 * 0.5e-6 + 7 * size / LINK
    assert took("all_reduce", size, 8, engine=True) == pytest.approx(min(shot, collective("all_reduce", size, 8, 1)))
    assert took("all_reduce", size, 16, engine=True) == pytest.approx(collective("all_reduce", size, 16, 1))
    assert took("all_gather", size, 8, engine=True) == pytest.approx(collective("all_gather", size, 8, 1))


def with_up(fabric: Fabric, **efficiency: CollectiveEfficiency) -> Cluster:
    """The plain cluster with another scale-up fabric, and its own efficiencies on it."""
    base = cluster()
    tables = {**base.efficiency.collectives, **({"scale_up": efficiency} if efficiency else {})}
    return replace(
        base, system=replace(base.system, scale_up=fabric), efficiency=replace(base.efficiency, collectives=tables)
    )


def test_latency_and_transfer_meet_in_a_soft_maximum() -> None:
    """(α^r + (X/(η·W))^r)^(1/r), the network's r where a group reaches it; a share of what stays is sent too."""
    fabric = Fabric("up", "switched", LINK, None, 8)
    soft = CollectiveEfficiency(0.8, 10e-6, 2e-6, 0.5, Provenance("plain"), own_share=0.5)
    on = with_up(fabric, default=soft)
    size = 4e6
    sent = 7 / 8 * size + 0.5 * size / 8
    latency, transfer = 10e-6 + 2e-6 * 7, sent / (0.8 * LINK)
    assert took("all_gather", size, 8, on=on) == pytest.approx((latency**0.5 + transfer**0.5) ** 2)
    latency += 20e-6 + 3e-6
    transfer = max(transfer, 1 / 2 * size / 8 / NETWORK)
    assert took("all_gather", size, 16, on=on) == pytest.approx(latency + transfer)


def test_what_no_class_lists_is_assumed() -> None:
    empty = EfficiencyClass("none")
    for kind, due in (
        ("scale_up", (0.8, 10e-6, 2e-6)),
        ("scale_out", (0.8, 20e-6, 4e-6)),
        ("pcie", (0.5, 12e-6, 3e-6)),
    ):
        found = collective_efficiency("all_reduce", efficiency=empty, kind=kind)
        assert (found.bandwidth, found.latency, found.latency_per_rank) == due
        assert found.sharpness == 0.6 and found.provenance.basis == "assumed"


def test_flavours_of_a_collective_fall_back_on_it() -> None:
    one = CollectiveEfficiency(0.9, 1e-6, 1e-6, 1.0, Provenance("plain"))
    other = replace(one, bandwidth=0.7)
    known = EfficiencyClass("x", collectives={"scale_up": {"all_reduce": one, "default": other}})
    for op, due in (("all_reduce_in_network", one), ("all_reduce_low_latency", one), ("all_gather", other)):
        assert collective_efficiency(op, efficiency=known, kind="scale_up") is due


@pytest.mark.parametrize(("ranks", "links"), [
    (2, 1), (3, 1), (4, 2), (8, 3), (16, 4), (32, 5), (64, 6),
])  # fmt: skip
def test_links_of_a_block_of_a_torus(ranks: int, links: int) -> None:
    """4 x 4 x 4, 10 GB/s a link: two on an axis that a block closes, one on a part of one, and a compact block of 2^k
    spreads over k axes. https://jax-ml.github.io/scaling-book/sharding"""
    torus = Fabric("ici", "torus", 60e9, 10e9, 64, (4, 4, 4))
    assert float(usable_bandwidth("all_gather", ranks, fabric=torus)) == links * 10e9
    longest, ways = min(ranks, 4), 2 if ranks >= 4 else 1
    bisection = 4 * ways * 10e9 / longest * (ranks - 1) / ranks
    assert float(usable_bandwidth("all_to_all", ranks, fabric=torus)) == pytest.approx(min(links * 10e9, bisection))
    assert float(usable_bandwidth("send_recv", ranks, fabric=torus)) == 10e9


def test_an_axis_of_two_has_one_link_and_a_ring_two() -> None:
    pair = Fabric("ici", "torus", 60e9, 10e9, 8, (2, 4))
    assert float(usable_bandwidth("all_gather", 2, fabric=pair)) == 10e9
    assert float(usable_bandwidth("all_gather", 8, fabric=pair)) == 3 * 10e9
    ring = Fabric("ring", "ring", 60e9, 10e9, 8)
    assert [float(usable_bandwidth("all_gather", n, fabric=ring)) for n in (2, 4, 8)] == [10e9, 10e9, 20e9]
    narrow = replace(ring, bandwidth=15e9)
    assert float(usable_bandwidth("all_gather", 8, fabric=narrow)) == 15e9


def test_a_mesh_and_slots_that_share_a_host() -> None:
    mesh = Fabric("mesh", "mesh", 60e9, 10e9, 8)
    assert [float(usable_bandwidth("all_to_all", n, fabric=mesh)) for n in (1, 2, 4, 8)] == [10e9, 10e9, 30e9, 60e9]
    slots = Fabric("slots", "pcie", 20e9, 20e9, 8)
    due = [20e9, 20e9, 20e9 / 1.24, 20e9 / 1.72]
    assert [float(usable_bandwidth("all_reduce", n, fabric=slots)) for n in (1, 2, 4, 8)] == pytest.approx(due)
    on = with_up(slots)
    assumed = 12e-6 + 3e-6 * 3, 2 * 3 / 4 * 1e8 / (0.5 * 20e9 / 1.24)
    assert took("all_reduce", 1e8, 4, on=on) == pytest.approx((assumed[0] ** 0.6 + assumed[1] ** 0.6) ** (1 / 0.6))


def test_a_cluster_counts_nodes_and_a_lone_device_has_no_domain() -> None:
    assert [replace(cluster(), devices=n).nodes for n in (1, 8, 9, 16, 17)] == [1, 1, 2, 2, 3]
    alone = replace(cluster(), system=replace(cluster().system, scale_up=None))
    assert (cluster().domain, alone.domain) == (8, 1)
    assert took("all_gather", 1e6, 8, on=alone) == pytest.approx(20e-6 + 7 * 3e-6 + 7 / 8 * 1e6 / NETWORK)


def test_a_host_transfer_is_the_link_and_a_start() -> None:
    """0.87 of 20 GB/s (nvbandwidth), 10 µs; nothing costs nothing."""
    found = host_transfer_time([0.0, 1e9], cluster=cluster())
    assert found.tolist() == pytest.approx([0.0, 1e9 / 17.4e9 + 10e-6])
    assert isinstance(cluster().accelerator, Accelerator)
