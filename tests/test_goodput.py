"""Failures and goodput: the model against a simulation and its limits, and against what clusters published."""

from __future__ import annotations

import math
import random
from datetime import date

import pytest

from planner.catalogue.economics import reliability
from planner.planning.goodput import (
    NODE_DAY,
    checkpoint_bytes,
    checkpoint_interval,
    effective_share,
    failure_model,
    goodput,
)
from planner.planning.outlook import Terms, outlook
from planner.planning.plan import best_plan
from planner.scenario.keys import parse_scenario
from planner.scenario.resolve import resolve_run

TODAY = date(2026, 11, 1)


def simulated(*, interval: float, write: float, restart: float, mtbf: float, segments: int, seed: int) -> float:
    """Effective share of a job played out failure by failure."""
    draw = random.Random(seed)
    clock, done, until = 0.0, 0, draw.expovariate(1 / mtbf)
    while done < segments:
        if until >= interval + write:
            clock, until, done = clock + interval + write, until - interval - write, done + 1
            continue
        clock += until
        while (until := draw.expovariate(1 / mtbf)) < restart:  # it fails again while it restarts
            clock += until
        clock, until = clock + restart, until - restart
    return segments * interval / clock


@pytest.mark.parametrize(
    ("interval", "write", "restart", "mtbf"),
    [(220.0, 2.3, 600.0, 10_900.0), (1800.0, 60.0, 900.0, 7200.0), (3600.0, 300.0, 1200.0, 5000.0)],
)
def test_share_is_what_failures_played_out_leave(interval: float, write: float, restart: float, mtbf: float) -> None:
    expected = simulated(interval=interval, write=write, restart=restart, mtbf=mtbf, segments=60_000, seed=7)
    found = effective_share(interval=interval, write=write, restart=restart, mtbf=mtbf)
    assert found == pytest.approx(expected, rel=0.01)


def test_daly_interval_is_nearly_best() -> None:
    for write, mtbf in ((2.0, 10_000.0), (60.0, 7200.0), (300.0, 5000.0)):
        own = checkpoint_interval(write, mtbf)
        assert own == pytest.approx(math.sqrt(2 * write * mtbf), rel=0.2)  # Young's
        tried = [own * k for k in (0.5, 0.8, 1.0, 1.25, 2.0)]
        shares = [effective_share(interval=t, write=write, restart=0.0, mtbf=mtbf) for t in tried]
        assert max(shares) == shares[2]


def test_limits() -> None:
    never = effective_share(interval=1e4, write=10.0, restart=600.0, mtbf=1e12)
    assert never == pytest.approx(1e4 / (1e4 + 10.0), rel=1e-6)
    assert effective_share(interval=1e4, write=1e4, restart=600.0, mtbf=10.0) == 0.0
    assert checkpoint_interval(100.0, 40.0) == 40.0


def test_more_devices_fail_more_and_write_faster() -> None:
    found = [goodput(1e12, n, failure_model()) for n in (8, 512, 16384, 131072)]
    assert [g.share for g in found] == sorted((g.share for g in found), reverse=True)
    assert found[1].mtbf == pytest.approx(found[0].mtbf / 64)
    assert found[1].write == pytest.approx(found[0].write / 64)
    assert all(g.low < g.share < g.high < 1 for g in found)


def test_given_figures_stand_in_for_published_ones() -> None:
    f = failure_model(mtbf=3.6e6, recovery=60.0, storage=1e9)
    assert (f.rate, f.recovery, f.storage, f.spread) == (1 / 3.6e6, 60.0, 1e9, 0.0)
    assert all("given" in line for line in f.basis)


def test_checkpoint_holds_weights_and_optimizer() -> None:
    """BLOOM's checkpoint of 176 billion parameters is 2.3 TiB: 2 bytes of bf16 and 12 of fp32 master and moments."""
    given = parse_scenario({"model": "bloom-176b", "hardware": "jean-zay-a100-80gb", "devices": 384})
    resolved = resolve_run(given)
    found = checkpoint_bytes(resolved.demand, resolved.run)  # type: ignore[arg-type]
    assert found == pytest.approx(14 * resolved.demand.total_parameters)
    assert found == pytest.approx(2.3 * 2**40, rel=0.05)
    adapters = resolve_run({**given, "lora_rank": 16})
    assert 0 < checkpoint_bytes(adapters.demand, adapters.run) < 0.02 * found  # type: ignore[arg-type]


def left_out(cluster: str) -> float:
    """Failures a thousand node-days by the general rates of other clusters."""
    others = [r for r in reliability().rates if r.general and cluster not in r.cluster]
    return failure_model(rates=others).rate * NODE_DAY * 1000


def test_llama_3_window_from_the_rates_of_other_clusters() -> None:
    """54 days on 16,384 H100: 419 unexpected interruptions, effective training time above 90 %
    (https://arxiv.org/abs/2407.21783, section 3.3.4)."""
    others = [r for r in reliability().rates if r.general and "Llama" not in r.cluster]
    up = goodput(14 * 405e9, 16384, failure_model(rates=others))
    assert up.interruptions(54 * 86400.0) == pytest.approx(419, rel=0.10)
    assert 0.90 < up.share < 0.99


@pytest.mark.parametrize(
    ("devices", "parameters", "least", "most"),
    [
        (12288, 175e9, 0.90, 1.0),  # MegaScale: above 90 %, https://arxiv.org/abs/2402.15627
        (9600, 200e9, 0.97 * 0.95, 0.97 * 1.05),  # ByteRobust: 97 %, https://arxiv.org/abs/2509.16293
    ],
)
def test_published_goodputs(devices: int, parameters: float, least: float, most: float) -> None:
    assert least < goodput(14 * parameters, devices, failure_model()).share < most


def test_a_rate_left_out_is_within_the_spread_of_the_others() -> None:
    for r in reliability().rates:
        if r.general:
            assert abs(math.log(left_out(r.cluster) / r.per_1000_node_days)) < 1.6449 * failure_model().spread * 1.5


def test_days_of_llama_3_405b_from_the_rates_of_other_clusters() -> None:
    """15.6T tokens in 30.84 million GPU hours, 78.4 days of 16,384 devices
    (https://github.com/meta-llama/llama-models, model card of Llama 3.1), at 38 to 43 % MFU."""
    others = [r for r in reliability().rates if r.general and "Llama" not in r.cluster]
    scenario = parse_scenario({"model": "llama-3.1-405b", "hardware": "grand-teton-h100-80gb", "devices": 16384,
                               "global_batch": 2048, "seq_len": 8192, "tp": 8, "micro_batch": 1})  # fmt: skip
    best, _ = best_plan(scenario, today=TODAY)
    assert best is not None
    found = outlook(best, 15.6e12, Terms(failures=failure_model(rates=others)), today=TODAY)
    assert found.days == pytest.approx(30.84e6 / 16384 / 24, rel=0.10)
    assert 0.38 <= found.mfu <= 0.43
