"""Points under the roofline: they add up to the estimate they come from, and none lies above its roof."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from planner.cost.points import PHASES, Point, points, roofs, violations
from planner.cost.runs import HEADROOM
from planner.errors import BadInputError
from planner.planning.estimate import Estimate, estimate_scenario
from planner.planning.landscape import landscape
from planner.planning.sensitivity import sensitivity
from planner.scenario.keys import parse_scenario
from planner.scenario.resolve import resolve_run
from planner.supply.roofline import BOUND_NAMES

H100 = "h100-sxm5-80gb"


def estimate(**scenario: object) -> Estimate:
    return estimate_scenario(scenario, today=date(2026, 11, 1))


def kernel_ledger(e: Estimate) -> float:
    """What the estimate spends in kernels and exposed communication [s]."""
    heads = ("forward", "backward", "recompute", "optimizer", "comm", "prefill of arriving requests")
    return sum(v for k, v in e.time.items() if k.split(".")[0] in heads)


TRAINING = [
    {"model": "llama-3.1-8b", "devices": 1, "global_batch": 4, "seq_len": 2048},
    {"model": "llama-3.1-8b", "devices": 8, "zero_stage": 3, "global_batch": 16, "seq_len": 2048},
    {"model": "llama-3.1-8b", "devices": 8, "tp": 8, "recompute": "full", "global_batch": 2},
    {"model": "llama-3.1-8b", "devices": 4, "tp": 2, "recompute": "selective", "attention": "eager"},
    {"model": "mixtral-8x7b", "devices": 8, "ep": 8, "global_batch": 16, "seq_len": 4096},
    {"model": "gpt2-xl", "devices": 2, "global_batch": 8, "seq_len": 1024, "optimizer": "muon"},
    {"model": "transformer-big", "devices": 1, "global_batch": 8, "seq_len": 256},
    {"model": "llama-3.1-8b", "devices": 1, "compute_dtype": "fp8", "seq_len": 1024},
    {"model": "llama-3.1-8b", "devices": 4, "zero_stage": 3, "recompute": "full", "framework": "torch"},
    {"model": "llama-3.1-8b", "devices": 2, "lora_rank": 16, "global_batch": 4},
    {"model": "llama-3.1-8b", "devices": 2, "framework": "megatron-deepspeed", "global_batch": 8},
    {"model": "mixtral-8x7b", "devices": 8, "ep": 8, "global_batch": 16, "seq_len": 4096, "overlap_ep": True},
    {"model": "llama-3.1-8b", "devices": 8, "cp": 8, "global_batch": 1, "seq_len": 131072, "recompute": "full"},
    {"model": "llama-3.1-8b", "devices": 8, "cp": 4, "tp": 2, "global_batch": 2, "context_exchange": "all_gather"},
    {"model": "llama-3.1-70b", "devices": 64, "tp": 4, "pp": 4, "vpp": 4, "global_batch": 64, "recompute": "selective"},
    {"model": "llama-3.1-8b", "devices": 8, "pp": 8, "global_batch": 32, "schedule": "dualpipe"},
    {
        "model": "mixtral-8x7b",
        "devices": 16,
        "ep": 8,
        "pp": 2,
        "global_batch": 32,
        "recompute": "selective",
        "recompute_modules": "moe",
    },
    {"model": "mixtral-8x7b", "devices": 8, "ep": 8, "global_batch": 16, "recompute": "full", "framework": "torch"},
]
INFERENCE = [
    {"task": task, "model": model}
    | {"concurrency" if k == "batch" and task == "serve" else k: v for k, v in sizes.items()}
    for task in ("prefill", "decode", "serve")
    for model, sizes in (
        ("llama-3.1-8b", {"devices": 1, "batch": 1}),
        ("llama-3.1-70b", {"tp": 8, "batch": 32, "input_len": 4096}),
        ("llama-3.1-8b", {"devices": 1, "batch": 8, "weight_dtype": "fp8", "kv_dtype": "fp8"}),
        ("llama-3.1-8b", {"devices": 1, "batch": 8, "weight_dtype": "int4", "compute_dtype": "bf16"}),
        ("mixtral-8x7b", {"tp": 2, "ep": 2, "batch": 16}),
        ("transformer-big", {"devices": 1, "batch": 4, "input_len": 128}),
        ("llama-3.1-70b", {"devices": 8, "tp": 2, "pp": 4, "batch": 32}),
        ("llama-3.1-8b", {"devices": 2, "dp": 2, "batch": 8, "engine": "vllm"}),
    )
]


@pytest.mark.parametrize("given", [{"task": "train", **t} for t in TRAINING] + INFERENCE, ids=str)
def test_times_add_up_to_the_ledger_and_shares_to_one(given):
    """Points are of the device that the ledger is of, so their times are the ledger's."""
    e = estimate(hardware=H100, **given)
    found = points(e.job)
    assert sum(p.time * p.count for p in found) == pytest.approx(kernel_ledger(e), rel=1e-9)
    assert sum(p.share for p in found) == pytest.approx(1.0)
    assert all(p.phase in PHASES and p.bound in (*BOUND_NAMES, "communication") for p in found)


@pytest.mark.parametrize(
    "given",
    [
        {"model": "llama-3.1-8b", "devices": 8, "global_batch": 16, "zero_stage": 1, "seq_len": 2048},
        {"model": "llama-3.1-8b", "devices": 8, "tp": 4, "pp": 2, "global_batch": 8, "seq_len": 2048},
        {"model": "mixtral-8x7b", "devices": 8, "ep": 4, "global_batch": 16, "seq_len": 2048},
    ],
    ids=str,
)
def test_forward_flops_of_all_devices_are_a_third_of_the_model_flops_of_a_step(given):
    e = estimate(task="train", hardware=H100, **given)
    devices = int(e.layout.dp[0] * e.layout.tp[0] * e.layout.cp[0])
    stages = range(int(e.layout.pp[0]))
    forward = sum(p.flops * p.count for s in stages for p in points(e.job, stage=s) if p.phase == "forward") * devices
    assert forward == pytest.approx(e.results["model_flops_per_step"] / 3.0, rel=1e-9)


def test_decode_flops_are_the_model_flops_of_a_step():
    e = estimate(task="decode", model="llama-3.1-70b", hardware=H100, tp=8, batch=16)
    counted = sum(p.flops * p.count for p in points(e.job)) * 8
    assert counted == pytest.approx(e.results["model_flops_per_step"], rel=1e-9)


def test_backward_doubles_matmuls_and_takes_two_and_a_half_times_flash_attention():
    found = points(estimate(task="train", model="llama-3.1-8b", hardware=H100, devices=1, global_batch=1).job)
    ahead = {p.name: p for p in found if p.phase == "forward"}
    back = {p.name: p for p in found if p.phase == "backward"}
    assert back["mlp.up"].flops == pytest.approx(2.0 * ahead["mlp.up"].flops)
    assert back["attn.core"].flops == pytest.approx(2.5 * ahead["attn.core"].flops)
    assert ahead["norm.1"].flops == 0.0 and ahead["norm.1"].bytes > 0


def test_a_matmul_moves_weights_inputs_and_outputs_once():
    """Llama 3.1 8B, one prompt of 1024 tokens: y[1024, 28672] = x[1024, 4096]·W, 2 bytes a value."""
    found = points(estimate(task="prefill", model="llama-3.1-8b", hardware=H100, batch=1, input_len=1024).job)
    up = next(p for p in found if p.name == "mlp.up")
    assert up.flops == 2.0 * 1024 * 4096 * 28672
    assert up.bytes == 2.0 * (4096 * 28672 + 1024 * 4096 + 1024 * 28672)
    assert up.intensity == pytest.approx(up.flops / up.bytes)
    assert up.count == 32 and up.dtype == "bf16"


def test_full_recompute_repeats_the_forward_pass():
    common = {"task": "train", "model": "llama-3.1-8b", "hardware": H100, "devices": 1, "global_batch": 1}
    found = points(estimate(**common, recompute="full").job)
    ahead = {(p.name, p.flops, p.count) for p in found if p.phase == "forward" and p.kernel == "matmul"}
    again = {(p.name, p.flops, p.count) for p in found if p.phase == "recompute" and p.kernel == "matmul"}
    assert again and again <= ahead
    assert not [p for p in points(estimate(**common, recompute="none").job) if p.phase == "recompute"]


CHIPS = (
    "a100-sxm4-80gb", H100, "b200-sxm-180gb", "mi300x-192gb", "mi355x-288gb", "tpu-v5p-95gb", "tpu-v6e-32gb",
    "gaudi3-128gb", "trainium2-96gb", "l40s-48gb", "v100-sxm2-32gb",
)  # fmt: skip
WORK = (
    {"task": "train", "global_batch": 2, "seq_len": 2048},
    {"task": "prefill", "batch": 2, "input_len": 2048},
    {"task": "decode", "batch": 1, "input_len": 512},
    {"task": "decode", "batch": 128, "input_len": 1536},
)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt3-175b", "qwen3-32b", "transformer-big"])
def test_no_point_lies_above_its_roof(model, chip):
    for work in WORK:
        e = estimate(model=model, hardware=chip, devices=1, **work)
        ceilings = roofs(e.job)
        assert violations(points(e.job), ceilings) == []


def test_a_point_above_its_roof_is_told():
    e = estimate(task="decode", model="llama-3.1-8b", hardware=H100)
    found, ceilings = points(e.job), roofs(e.job)
    high = replace(found[2], achieved_flops=found[2].achieved_flops * 100)
    assert violations([high, *found[3:]], ceilings) == [high]


def test_roofs_hold_the_catalogue_values_and_mark_what_the_run_uses():
    e = estimate(task="decode", model="llama-3.1-8b", hardware=H100)
    chip = e.resolved.cluster.accelerator
    found = roofs(e.job)
    compute = {r.name: r for r in found if r.kind == "compute"}
    assert {n: compute[n].value for n in chip.peak_flops} == dict(chip.peak_flops)
    assert [r.name for r in found if r.kind == "compute" and r.main] == ["bf16"]
    memory = next(r for r in found if r.kind == "memory")
    assert memory.value == chip.bandwidth
    assert all(r.achievable is None or 0 < r.achievable <= 1.3 * r.value for r in found)
    assert [r.value for r in found if r.kind == "link"] == [450e9, 50e9]


def test_serving_is_drawn_under_the_roofs_of_both_its_passes():
    """Decode steps are bursts; the prefills between them are held to the power limit, as a prefill alone is."""
    keys = {"model": "llama-3.1-8b", "hardware": "dgx-b200", "devices": 8, "tp": 8}
    serve, decode, prefill = (
        {r.name: r.achievable for r in roofs(estimate(**keys, **work).job) if r.kind == "compute"}
        for work in (
            {"task": "serve", "concurrency": 8},
            {"task": "decode", "batch": 8},
            {"task": "prefill", "batch": 8},
        )
    )
    assert decode["bf16"] > prefill["bf16"]
    assert (serve["bf16"], serve["bf16 in prefill"]) == (decode["bf16"], prefill["bf16"])
    assert set(serve) - set(decode) == {"bf16 in prefill"}


def test_sparse_weights_live_under_the_sparse_roof():
    e = estimate(task="prefill", model="llama-3.1-8b", hardware=H100, sparsity="2:4", batch=4)
    ceilings = {r.dtype: r for r in roofs(e.job)}
    assert ceilings["bf16 2:4"].value == 2.0 * ceilings["bf16"].value
    up = next(p for p in points(e.job) if p.name == "mlp.up")
    assert up.dtype == "bf16 2:4"


def test_an_unknown_phase_is_refused():
    with pytest.raises(BadInputError, match="prefill"):
        points(estimate(task="decode", model="llama-3.1-8b", hardware=H100).job, phase="prefil")


def test_a_decode_estimate_can_show_its_prefill():
    e = estimate(task="decode", model="llama-3.1-8b", hardware=H100, input_len=1024)
    assert {p.phase for p in points(e.job, phase="prefill")} == {"forward"}
    assert sum(p.time * p.count for p in points(e.job, phase="prefill")) == pytest.approx(e.results["ttft_s"])


def test_layer_kinds_that_differ_are_named_and_those_that_do_not_are_joined():
    found: list[Point] = points(estimate(task="prefill", model="llama-3.1-8b", hardware=H100).job)
    names = [(p.name, p.phase) for p in found]
    assert len(names) == len(set(names))
    assert not any("|" in n for n, _ in names)
    residual = points(estimate(task="train", model="llama-3.1-8b", hardware=H100, devices=1, global_batch=1).job)
    assert next(p for p in residual if p.name == "residual").count == 64


def test_sensitivity_finds_decode_memory_bound_and_more_never_slower():
    e = estimate(task="decode", model="llama-3.1-70b", hardware=H100, tp=8, batch=16)
    found = {s.name: s for s in sensitivity(e)}
    assert max(found.values(), key=lambda s: s.swing).name == "memory bandwidth"
    assert "scale-out bandwidth" not in found
    for s in found.values():
        assert s.base == pytest.approx(e.results["step_time_s"])
        better, worse = (s.low, s.high) if s.name in ("kernel launch overhead", "link latency") else (s.high, s.low)
        assert better <= s.base * (1 + 1e-12) and worse >= s.base * (1 - 1e-12)


def test_sensitivity_of_a_bound_stays_within_the_change():
    """Nothing that is scaled by 0.8 can cost more than a factor 1/0.8."""
    e = estimate(task="train", model="llama-3.1-8b", hardware=H100, devices=16, global_batch=16)
    found = sensitivity(e)
    assert "scale-out bandwidth" in [s.name for s in found]
    assert all(s.low <= s.base / 0.8 * (1 + 1e-9) for s in found)


def test_landscape_has_the_fastest_fitting_layout_of_each_cell():
    given = parse_scenario({
        "task": "train", "model": "llama-3.1-8b", "hardware": H100, "devices": 8, "global_batch": 16, "cp": 1,
    })  # fmt: skip
    resolved = resolve_run(given)
    cells = landscape(resolved, given, by=("tp", "pp"))
    fine = landscape(resolved, given, by=("tp", "pp", "zero_stage", "recompute", "micro_batch"))
    assert len({(r["tp"], r["pp"]) for r in cells}) == len(cells)
    for cell in cells:
        same = [r for r in fine if (r["tp"], r["pp"]) == (cell["tp"], cell["pp"])]
        fitting = [r["step_time_s"] for r in same if r["fits_chance"] >= HEADROOM]
        assert (cell["fits_chance"] >= HEADROOM) == bool(fitting)
        if fitting:
            assert cell["step_time_s"] == min(fitting)
        else:
            assert cell["memory_peak_bytes"] == np.min([r["memory_peak_bytes"] for r in same])
