"""Serving: closed forms against a simulation request by request, their limits and laws, and deployments of passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planner.cost.deployments import deployment
from planner.cost.layouts import layouts
from planner.cost.serving import QUANTILES, Replica, burst_wait, capacity, closed_loop, decode_time, open_loop
from planner.demand.ops import Array
from planner.demand.transformer import demand
from planner.errors import BadInputError
from planner.validation.deployments import deployments
from tests.builders import cluster, llama, serving
from tests.serving_simulation import Simulated, simulate
from tests.test_echo import estimated

SCENARIOS = 300
SPREAD = (0.8, 1.0)  # lengths over the longest, as InferenceX draws them


def random_replicas(n: int, *, seed: int, clients: bool) -> tuple[Replica, Array, Array]:
    """Replicas of linear steps, below saturation: at most as much time for prompts as for decoding, and slots that are
    filled by no more than 0.7 of the prompts that steps can take; their step and prompt costs [s], (n, 2) each."""
    rng, rows = np.random.default_rng(seed), []
    while len(rows) < n:
        slots = int(np.exp(rng.uniform(0 if clients else np.log(8), np.log(100 if clients else 200))))
        outputs, prompts = int(np.exp(rng.uniform(np.log(32), np.log(400)))), min(int(rng.integers(1, 9)), slots)
        step = 10 ** rng.uniform(-2.5, -1.5)
        each, fixed, read = (
            step * 10 ** rng.uniform(-3, -1.3),
            step * rng.uniform(0.2, 1),
            step * 10 ** rng.uniform(-1, 1),
        )
        load = slots * (fixed / prompts + read) / outputs / (step + each * slots)
        if load < 1 and slots < 0.7 * prompts * (outputs - 1):
            late = step * rng.uniform(0.5, 3)
            rows.append((slots, outputs, prompts, step, each, fixed, read, late, float(rng.integers(2))))
    slots, outputs, prompts, step, each, fixed, read, late, mixes = (
        np.array(v, dtype=np.float64) for v in zip(*rows, strict=True)
    )
    batches = np.stack([np.ones(n), np.maximum(slots / 2, 1.0), slots], axis=1)
    one, most, ones = fixed + read, fixed + read * prompts, np.ones(n)
    decode = step[:, None] + each[:, None] * batches
    r = Replica(
        batches, decode, one, most, one, most, prompts, ones, ones, slots, outputs, mixes, ones, late, 0.0 * ones
    )
    return r, np.stack([step, each], axis=1), np.stack([fixed, read], axis=1)


def played(r: Replica, i: int, step: Array, prompt: Array, *, outputs: Array, **how: object) -> Simulated:
    """Row ``i`` played out."""
    return simulate(
        decode=lambda b: step[i, 0] + step[i, 1] * b, prefill=lambda n: prompt[i, 0] + prompt[i, 1] * n,
        prompts=int(r.prompts[i]), slots=int(r.slots[i]), outputs=outputs, mixed=bool(r.mixes[i]),
        overhead=float(r.overhead[i]), **how,
    )  # type: ignore[arg-type]  # fmt: skip


def lengths(rng: np.random.Generator, mean: float, n: int) -> Array:
    return np.maximum(np.round(rng.uniform(*SPREAD, n) * mean / np.mean(SPREAD)), 1.0)


def errors(found: Array, played_out: Array) -> Array:
    return np.abs(found / played_out - 1.0)


@pytest.mark.parametrize("rounds", [1, 10])
def test_clients_of_a_closed_loop(rounds: int) -> None:
    r, step, prompt = random_replicas(SCENARIOS, seed=rounds, clients=True)
    rng, seen = np.random.default_rng(9), []
    for i in range(SCENARIOS):
        n = rounds * int(r.slots[i])
        s = played(r, i, step, prompt, outputs=lengths(rng, r.outputs[i], n), clients=int(r.slots[i]), rng=rng)
        seen.append((s.ttft.mean(), s.tpot.mean()))
    ttft, tpot = np.array(seen).T
    found = closed_loop(r, r.slots, rounds=float(rounds))
    assert np.median(errors(found.ttft, ttft)) < 0.06
    assert np.quantile(errors(found.ttft, ttft), 0.9) < 0.12
    if rounds > 1:  # one round is a burst that drains: no state of it is steady
        assert np.median(errors(found.tpot, tpot)) < 0.01
        assert np.quantile(errors(found.tpot, tpot), 0.95) < 0.03


def test_arrivals_at_a_rate() -> None:
    n = 100
    r, step, prompt = random_replicas(n, seed=3, clients=False)
    rng = np.random.default_rng(4)
    rate, seen = capacity(r) * rng.uniform(0.1, 0.8, n), []
    for i in range(n):
        arrivals = np.cumsum(rng.exponential(1.0 / rate[i], 1200))
        s = played(r, i, step, prompt, outputs=lengths(rng, r.outputs[i], 1200), arrivals=arrivals)
        steady = slice(150, -150)
        seen.append((s.ttft[steady].mean(), s.tpot[steady].mean(), np.quantile(s.ttft[steady], 0.95)))
    ttft, tpot, tail = np.array(seen).T
    found = open_loop(r, rate)
    assert np.median(errors(found.tpot, tpot)) < 0.03
    assert np.quantile(errors(found.tpot, tpot), 0.75) < 0.03
    assert np.median(errors(found.ttft, ttft)) < 0.04
    assert np.quantile(errors(found.ttft, ttft), 0.8) < 0.12
    assert np.quantile(errors(found.ttft_quantiles[:, QUANTILES.index(0.95)], tail), 0.75) < 0.2


def test_one_client_waits_for_nothing() -> None:
    r, _, _ = random_replicas(50, seed=5, clients=True)
    alone = closed_loop(r, np.ones(50))
    np.testing.assert_allclose(alone.ttft, r.overhead + r.prefill_one)
    np.testing.assert_allclose(alone.tpot, decode_time(r, np.ones(50)))


def test_rounds_without_end_leave_no_burst() -> None:
    r, _, _ = random_replicas(50, seed=6, clients=True)
    np.testing.assert_allclose(closed_loop(r, r.slots, rounds=1e12).ttft, closed_loop(r, r.slots).ttft, rtol=1e-9)
    whole = closed_loop(r, r.slots, rounds=1.0).ttft
    np.testing.assert_allclose(whole, r.overhead + burst_wait(r, r.slots), rtol=1e-9)


def test_requests_of_one_token_are_read_in_turn() -> None:
    r, _, _ = random_replicas(50, seed=7, clients=True)
    r = replace(r, outputs=np.ones(50), overhead=np.zeros(50), mixes=np.zeros(50))
    found = closed_loop(r, r.slots)
    np.testing.assert_allclose(found.ttft, r.slots / r.prompts * r.prefill_most, rtol=1e-9)


def test_clients_beyond_the_slots_wait_for_a_slot() -> None:
    r, _, _ = random_replicas(50, seed=8, clients=True)
    full, more = closed_loop(r, r.slots), closed_loop(r, 3.0 * r.slots)
    np.testing.assert_allclose(more.rate, full.rate)
    np.testing.assert_allclose(more.ttft - full.ttft, 2.0 * (full.ttft + (r.outputs - 1.0) * full.tpot))


def test_more_clients_and_more_arrivals_are_never_faster() -> None:
    r, _, _ = random_replicas(60, seed=9, clients=True)
    shares = np.linspace(0.05, 0.95, 12)
    closed = [closed_loop(r, np.maximum(np.round(s * r.slots), 1.0)) for s in shares]
    opened = [open_loop(r, s * capacity(r)) for s in shares]
    for found, slack in ((closed, 0.02), (opened, 1e-3)):
        assert (np.diff([s.tpot for s in found], axis=0) >= -1e-9).all()
        ttft = np.array([s.ttft for s in found])
        assert (np.diff(ttft, axis=0) >= -slack * ttft[:-1]).all()
        assert (np.diff([s.rate for s in found], axis=0) >= -1e-9).all()


def test_beyond_capacity_is_said_to_be_saturated() -> None:
    r, _, _ = random_replicas(20, seed=10, clients=False)
    found = open_loop(r, 1.5 * capacity(r))
    assert np.isinf(found.ttft).all() and (found.utilisation > 1.0).all()
    np.testing.assert_allclose(found.rate, capacity(r))


def test_rows_are_served_alone_as_together() -> None:
    d, c, run = demand(llama()), cluster(8), serving(batch=64)
    together = deployment(d, c, layouts(tp=[1, 2, 4, 8], dp=[8, 4, 2, 1]), run)
    for i, (tp, dp) in enumerate(((1, 8), (2, 4), (4, 2), (8, 1))):
        alone = deployment(d, c, layouts(tp=tp, dp=dp), run)
        np.testing.assert_allclose(together.served.tpot[i], alone.served.tpot[0], rtol=1e-12)
        np.testing.assert_allclose(together.served.ttft[i], alone.served.ttft[0], rtol=1e-12)


def test_arrivals_are_shared_among_replicas() -> None:
    """Two replicas, each a device, serve twice the rate as one device serves it, but for the room of communicators."""
    d = demand(llama())
    two = deployment(d, cluster(2), layouts(dp=2), serving(batch=2, rate=8.0))
    one = deployment(d, cluster(1), layouts(), serving(batch=1, rate=4.0))
    np.testing.assert_allclose(two.served.ttft, one.served.ttft, rtol=0.02)
    np.testing.assert_allclose(two.served.utilisation, one.served.utilisation, rtol=0.02)
    np.testing.assert_allclose(two.output_rate, 2.0 * one.output_rate, rtol=1e-9)


def test_stages_serve_different_requests_at_once() -> None:
    """Two stages serve as many tokens as one within the sends between them, for twice the latency at half the batch."""
    d, c = demand(llama()), cluster(2)
    run = serving(batch=128)
    staged = deployment(d, c, layouts(pp=2), run)
    divided = deployment(d, c, layouts(dp=2), run)
    assert staged.output_rate[0] > 0.6 * divided.output_rate[0]


def test_mixed_steps_read_weights_once() -> None:
    d, c = demand(llama()), cluster(1)
    run = serving(batch=32, input_len=64)
    apart = deployment(d, c, layouts(), run)
    steps = replace(run.engine.steps, mixes=True)
    mixed = deployment(d, c, layouts(), replace(run, engine=replace(run.engine, steps=steps)))
    assert (mixed.replica.beside_one < apart.replica.beside_one).all()
    assert (mixed.served.tpot < apart.served.tpot).all()


def test_serving_answers_for_a_rate_and_says_where_it_is_too_much() -> None:
    asked = {"task": "serve", "model": "llama-3.1-8b", "hardware": "dgx-h100", "engine": "vllm", "output_len": 128}
    some, much = estimated({**asked, "rate": 2.0}), estimated({**asked, "rate": 1e4})
    assert some.results["requests_per_s"] == pytest.approx(2.0)
    assert float(str(some.results["utilisation"])) < 1.0 and some.results["ttft_low_s"] < some.results["ttft_s"]  # type: ignore[operator]
    assert much.results["ttft_s"] is None and any("saturated" in note for note in much.assumed)
    with pytest.raises(BadInputError, match="concurrency"):
        estimated({**asked, "rate": 2.0, "concurrency": 4})


def test_requests_beyond_the_cache_are_said_to_wait() -> None:
    e = estimated({"task": "serve", "model": "llama-3.3-70b", "hardware": "hgx-h200", "engine": "tensorrt-llm",
                   "quantization": "fp8", "concurrency": 512, "input_len": 1024, "output_len": 8192})  # fmt: skip
    assert float(str(e.results["in_flight"])) < 512
    assert any("the others wait" in note for note in e.assumed)
    assert e.results["fits"] == "yes" and e.results["starts"] is True  # they wait outside of the pool


@pytest.mark.published
def test_served_deployments_are_predicted() -> None:
    found = deployments()
    sure = {k: [d.ratios[k] for d in found if k in d.ratios and not d.doubtful(k)] for k in ("ttft", "tpot", "rate")}
    assert not [d.error for d in found if d.error]
    off = {k: np.abs(np.expm1(v)) for k, v in sure.items()}
    assert np.median(off["tpot"]) < 0.10 and np.quantile(off["tpot"], 0.9) < 0.35
    assert np.median(off["rate"]) < 0.12
