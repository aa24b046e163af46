"""Which ranks exchange along each axis, what a device offers each pass, and what adapters leave frozen."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from builders import cluster, llama, serving, training

import planner
from planner.cost.groups import AXES, expert_gradient_group, gradient_group
from planner.cost.layouts import layouts
from planner.cost.passes import inference_rates, training_rates
from planner.cost.training import training_step
from planner.demand.ops import KERNELS
from planner.demand.transformer import demand
from planner.supply.cost import cluster_price

MATMUL = KERNELS.index("matmul")


def members(axis: str, x: object) -> list[int]:
    """Ranks of the group that rank 0 is in."""
    group = AXES[axis](x)  # type: ignore[arg-type]
    return [int(i * group.stride[0]) for i in range(int(group.ranks[0]))]


def test_axes_are_placed_innermost_first() -> None:
    """tp, cp, dp, pp: rank = tp + tp_size·(cp + cp_size·(dp + dp_size·pp)) (Megatron-LM, order tp-cp-dp-pp)."""
    x = layouts(tp=2, cp=3, dp=4, pp=5)
    assert members("tp", x) == [0, 1]
    assert members("cp", x) == [0, 2, 4]
    assert members("dp", x) == [0, 6, 12, 18]
    assert members("pp", x) == [0, 24, 48, 72, 96]
    gradients = gradient_group(x)
    assert [int(i * gradients.stride[0]) for i in range(int(gradients.ranks[0]))] == list(range(0, 24, 2))


def test_experts_fold_over_the_ranks_of_a_stage() -> None:
    x = layouts(tp=2, cp=1, dp=8, pp=2, ep=4)
    assert members("ep", x) == [0, 1, 2, 3]
    same = expert_gradient_group(x)
    assert (int(same.ranks[0]), int(same.stride[0])) == (4, 4)
    assert int(gradient_group(x, copies=2).ranks[0]) == 16


@pytest.mark.parametrize(("tp", "pp", "inside", "across"), [
    (8, 4, "tp 8 inside a domain of 8", "pp 4 across domains"),
    (1, 4, "dp 8 inside a domain of 8", "pp 4 across domains"),
    (4, 2, "tp 4 inside a domain of 8", "dp 4, pp 2 across domains"),
])  # fmt: skip
def test_an_axis_that_just_fills_a_domain_stays_inside(tp: int, pp: int, inside: str, across: str) -> None:
    e = planner.estimate(model="llama-3.1-8b", hardware="dgx-h100", devices=32, tp=tp, pp=pp, global_batch=64)
    assert f"placement: {inside}; {across}" in e.assumed


def test_minutes_of_matmuls_meet_the_power_limit_and_a_decode_step_does_not() -> None:
    c, run = cluster(8), serving()
    prefill = inference_rates(c, run, run.precision, phase="prefill").compute[MATMUL]
    decode = inference_rates(c, run, run.precision, phase="decode").compute[MATMUL]
    forward, backward = training_rates(c, training(), training().precision)
    assert prefill < decode and forward.compute[MATMUL] == pytest.approx(prefill)
    assert backward.compute[MATMUL] == forward.compute[MATMUL]


@pytest.mark.parametrize(("zero_stage", "share"), [(0, 1.0), (1, 1.0), (2, 1.0), (3, 1 / 4)])
def test_adapters_leave_the_weights_whole_but_under_zero_3(zero_stage: int, share: float) -> None:
    """Frozen weights as they are stored, and of the adapters what any weight costs. Hu et al. 2021."""
    d, x = demand(llama()), layouts(dp=4, micro_batch=1, global_batch=4, zero_stage=zero_stage)
    weights = [training_step(d, cluster(4), x, training(lora_rank=r)).memory["weights"][0] for r in (8, 16)]
    adapters = weights[1] - weights[0]
    assert weights[0] - adapters == pytest.approx(2.0 * d.total_parameters * share, rel=1e-9)


def test_a_price_that_is_given_is_seen_once_and_today() -> None:
    e = planner.estimate(model="gpt2", hardware="dgx-h100", devices=8, price="2.5 USD/hour")
    found = cluster_price(e.resolved.cluster, today=date(2026, 11, 1))
    assert found is not None and (found.observation.usd_per_hour, found.considered, found.stale_days) == (2.5, 1, 0)
    assert e.results["usd_per_hour"] == pytest.approx(20.0)
    assert np.isfinite(float(str(e.results["usd_per_million_tokens"])))
