"""Keys in place of the hardware's figures: what each changes by hand count, and where each says nothing."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from builders import cluster

from planner.errors import BadInputError
from planner.planning.estimate import Estimate, estimate_scenario
from planner.scenario.names import cluster_of
from planner.supply.collectives import OPERATIONS, collective_efficiency, collective_time
from planner.supply.cost import cluster_price
from planner.supply.overrides import Overrides, overridden

TODAY = date(2026, 11, 1)
TRAIN = {"model": "llama-3.1-8b", "hardware": "dgx-h100", "devices": 16, "tp": 4, "dp": 4, "global_batch": 64}
PLAIN = {"model": "llama-3.1-8b", "hardware": "rtx-4090-8x", "devices": 8, "tp": 8, "global_batch": 8}  # no network


def estimated(**keys: object) -> Estimate:
    return estimate_scenario({**TRAIN, **keys}, today=TODAY)


def refused(scenario: dict[str, object]) -> str:
    with pytest.raises(BadInputError) as error:
        estimate_scenario(scenario, today=TODAY)
    assert "\n" not in str(error.value)
    return str(error.value)


def across(given: Overrides, op: str, size: float, domains: int) -> float:
    """Time of a collective of one device in each of some domains."""
    c = overridden(cluster(8 * domains), given)
    one = collective_time(op, np.array([size]), np.array([domains]), stride=np.array([8]), cluster=c)
    return float(one[0])


# What each does


def test_nothing_given_changes_nothing() -> None:
    c = cluster(16)
    assert overridden(c, Overrides()) == c


def test_bandwidth_is_that_of_the_network_divided_by_oversubscription() -> None:
    c = overridden(cluster(16), Overrides(network_bandwidth=60e9, oversubscription=1.5))
    assert c.system.scale_out is not None and c.system.scale_out.bandwidth == 40e9
    assert c.system.scale_up == cluster(16).system.scale_up
    own = cluster(16).system.scale_out
    half = overridden(cluster(16), Overrides(oversubscription=2.0)).system.scale_out
    assert own is not None and half is not None and half.bandwidth == own.bandwidth / 2.0


def test_a_large_message_takes_its_bytes_over_the_network() -> None:
    size, slow = 2.0**36, Overrides(network_bandwidth=1e9)
    reach = collective_efficiency("send_recv", efficiency=cluster(16).efficiency, kind="scale_out").bandwidth
    assert across(slow, "send_recv", size, 2) == pytest.approx(size / (1e9 * reach), rel=1e-3)


@pytest.mark.parametrize("domains", [2, 4, 16])
@pytest.mark.parametrize("op", OPERATIONS)
def test_a_slow_message_counts_once_for_each_that_waits_for_another(op: str, domains: int) -> None:
    latency = 10.0  # so long that nothing else is seen
    waits = {"send_recv": 1.0, "all_to_all": 1.0, "all_reduce": 2.0 * np.log2(domains)}.get(op, domains - 1.0)
    time = across(Overrides(network_latency=latency), op, 8.0, domains)
    assert time == pytest.approx(waits * latency, rel=1e-3)


@pytest.mark.parametrize("op", OPERATIONS)
def test_latency_of_none_leaves_what_starting_a_collective_costs(op: str) -> None:
    none, own = across(Overrides(network_latency=0.0), op, 8.0, 16), across(Overrides(), op, 8.0, 16)
    fixed = collective_efficiency(op, efficiency=cluster(16).efficiency, kind="scale_out").latency
    assert fixed <= none <= own


def test_latency_leaves_the_fabric_inside_a_domain() -> None:
    c = overridden(cluster(8), Overrides(network_latency=1.0))
    size, ranks, stride = np.array([1e6]), np.array([8]), np.array([1])
    same = collective_time("all_gather", size, ranks, stride=stride, cluster=cluster(8))
    assert collective_time("all_gather", size, ranks, stride=stride, cluster=c) == same


def test_a_network_joins_nodes_that_have_none() -> None:
    with pytest.raises(BadInputError, match="no network between nodes"):
        cluster_of("rtx-4090-8x", 16)
    joined = cluster_of("rtx-4090-8x", 16, (), Overrides(network_bandwidth=12.5e9))
    assert joined.system.scale_out is not None and joined.system.scale_out.bandwidth == 12.5e9


def test_a_wider_domain_keeps_groups_off_the_network() -> None:
    near = estimated(tp=8, dp=2, domain=16, hardware="dgx-h100")
    far = estimated(tp=8, dp=2, domain=4)
    own = estimated(tp=8, dp=2)
    times = [float(str(e.results["step_time_s"])) for e in (near, own, far)]
    assert times == sorted(times) and times[0] < times[1] < times[2]
    assert near.resolved.cluster.domain == 16
    assert not any("across" in note for note in near.assumed)
    assert "placement: tp 8, dp 2 across domains" in far.assumed


def test_memory_decides_what_fits_and_what_a_cache_holds() -> None:
    small, large = (estimated(memory_capacity=m, recompute="full", micro_batch=1) for m in ("10 GiB", "100 GiB"))
    assert (small.results["fits"], large.results["fits"]) == ("no", "yes")
    assert small.results["memory_peak_bytes"] == large.results["memory_peak_bytes"]
    serve = {"task": "decode", "model": "llama-3.1-8b", "hardware": "h100-sxm5-80gb", "engine": "ideal"}
    tokens = [estimate_scenario({**serve, "memory_capacity": m}, today=TODAY).results["kv_cache_tokens"]
              for m in ("60 GiB", "61 GiB")]  # fmt: skip
    # a token of Llama 3.1 8B: keys and values of 32 layers, 8 heads of 128, 2 bytes each
    more = float(str(tokens[1])) - float(str(tokens[0]))
    assert more == pytest.approx(2.0**30 / (2 * 32 * 8 * 128 * 2), rel=1e-6)


def test_a_price_that_is_given_is_not_an_observation() -> None:
    e = estimated(price="1.5 USD/hour")
    assert e.results["usd_per_hour"] == 16 * 1.5
    assert "price 1.50 USD/h a device: given" in e.assumed
    chosen = cluster_price(e.resolved.cluster, today=TODAY)
    assert chosen is not None and chosen.basis == "given"
    assert estimated(price="0 USD/hour").results["usd_per_million_tokens"] == 0.0


def test_all_that_is_given_is_told_beside_what_the_hardware_has() -> None:
    told = estimated(network_bandwidth="100 Gbit/s", network_latency="5 us", oversubscription=2, domain=16,
                     memory_capacity="70 GiB").assumed  # fmt: skip
    assert (
        "network_bandwidth = 100 Gbit/s (given; dgx-h100 has 50 GB/s; 16 devices in a domain of 16 do not use it)"
        in told
    )
    assert "domain = 16 (given; dgx-h100 has 8)" in told
    assert "memory_capacity = 70 GiB (given; h100-sxm5-80gb has 79.2 GiB)" in told
    assert any(t.startswith("network_latency = 5 us (given; a message") for t in told)
    assert any(t.startswith("oversubscription = 2.0 (given; divides") for t in told)


# Where they say nothing


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network_latency": "5 us"}, ["network_latency: 5 µs", "rtx-4090-8x has no network", "network_bandwidth"]),
        ({"oversubscription": 2}, ["oversubscription: 2", "rtx-4090-8x has no network", "network_bandwidth"]),
        ({"oversubscription": 0.5}, ["oversubscription: 0.5", "1 … 10,000"]),
        ({"hardware": "tpu-v5p-pod", "domain": 64}, ["domain: 64", "torus of 16 x 20 x 28"]),
        ({"hardware": "mi300x-platform", "domain": 64}, ["domain: 64", "mesh", "8 devices at most"]),
        ({"hardware": "apple-m1-8gb", "devices": 1, "tp": 1, "domain": 4}, ["domain: 4", "no fabric"]),
        ({"domain": 4}, ["devices: 8", "rtx-4090-8x joins at most 4", "no network"]),
        ({"network_bandwidth": 50e9}, ["network_bandwidth: 50000000000.0 has no unit", "GB/s", "Gbit/s"]),
        ({"network_bandwidth": "0 GB/s"}, ["network_bandwidth: 0 GB/s is outside 1 B/s"]),
        ({"memory_capacity": "80 GB/s"}, ["memory_capacity: '80 GB/s'", "byte", "GiB"]),
        ({"network_latency": "2 h"}, ["network_latency: 2 h is outside 0 s"]),
        ({"price": True}, ["price: True has no unit", "USD/hour"]),
        ({"price": "2.5 EUR/hour"}, ["price: '2.5 EUR/hour'", "nearest: USD/hour"]),
        ({"price": "-1 USD/hour"}, ["price: '-1 USD/hour' must be finite and not negative"]),
    ],
    ids=lambda v: "-".join(f"{k}={x}" for k, x in v.items()) if isinstance(v, dict) else "",
)
def test_refusals(change: dict[str, object], words: list[str]) -> None:
    text = refused({**PLAIN, **change})
    assert all(w in text for w in words), text


def test_what_changes_nothing_is_never_refused() -> None:
    e = estimate_scenario({**PLAIN, "oversubscription": 1, "domain": 8}, today=TODAY)
    assert e.results == estimate_scenario(PLAIN, today=TODAY).results
    torus = {"model": "gpt2", "hardware": "tpu-v5p-pod", "devices": 8, "domain": 8960}
    assert estimate_scenario(torus, today=TODAY).inputs["domain"] == 8960
