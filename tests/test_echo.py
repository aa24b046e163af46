"""A row put in again gives itself: every key that applies to a task stands in the answer, as resolved."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import planner
from planner.catalogue.loader import accelerator_ids, resolve_hardware
from planner.errors import PlannerError
from planner.planning.estimate import COLUMNS, Estimate, estimate_rows, estimate_scenario
from planner.planning.plan import make_plan
from planner.present.tables import to_csv
from planner.scenario.keys import KEYS, TASKS

TODAY = date(2026, 11, 1)
ROOT = Path(__file__).resolve().parent.parent
SMALL = "planner/catalogue/models/gpt2.yaml"  # a path, from the root
MODELS = ("llama-3.1-8b", "mixtral-8x7b", "deepseek-v2-lite", "flan-t5-xl", "whisper-large", "gpt2", SMALL,
          "gpt-oss-20b", "llama-3.1-8b-AWQ")  # fmt: skip
HARDWARE = ("dgx-h100", "mi300x-platform", "tpu-v5p-pod", "h100-sxm5-80gb", "aws-trn2-48xlarge", "dgx-b200")
BASES: Mapping[str, dict[str, object]] = {
    "train": {"model": "mixtral-8x7b", "hardware": "dgx-h100", "devices": 16, "global_batch": 64, "pp": 2},
    "prefill": {"model": "mixtral-8x7b", "hardware": "dgx-h100", "devices": 16},
    "decode": {"model": "flan-t5-xl", "hardware": "dgx-h100", "devices": 16},
    "serve": {"model": "mixtral-8x7b", "hardware": "dgx-h100", "devices": 16},
    "forward": {"model": "flan-t5-xl", "hardware": "dgx-h100", "devices": 16},
}
# A value of each key that no scenario above resolves to by itself.
OTHER: Mapping[str, object] = {
    "model": "gpt2", "hardware": "dgx-b200", "devices": 32, "dp": 4, "tp": 2, "pp": 4, "cp": 2, "ep": 2, "etp": 2,
    "vpp": 2,
    "micro_batch": 2, "global_batch": 128, "zero_stage": 2, "sequence_parallel": True, "recompute": "selective",
    "recompute_modules": "core_attn,mlp", "attention": "eager", "loss": "chunked", "schedule": "gpipe",
    "offload": "optimizer", "seq_len": 256, "encoder_len": 128, "input_len": 512, "output_len": 32, "batch": 48,
    "concurrency": 48, "engine": "vllm", "compute_dtype": "fp16", "weight_dtype": "fp32", "activation_dtype": "fp32",
    "kv_dtype": "fp8", "grad_dtype": "bf16", "optimizer": "muon", "sparsity": "2:4", "compression": "width:0.5",
    "overlap_dp": False, "overlap_tp": "none", "overlap_ep": True, "context_exchange": "all_gather",
    "framework": "torch", "lora_rank": 16, "compiled": True, "imbalance": 1.7, "network_bandwidth": "100 Gbit/s",
    "network_latency": "30 ms", "oversubscription": 2.5, "domain": 4, "memory_capacity": "40 GiB",
    "price": "1.25 USD/hour", "price_kind": "spot", "quantization": "gptq-int4", "memory_fraction": 0.5,
    "token_budget": 4096, "max_num_seqs": 64, "max_model_len": 4096, "latent_cache": "expanded", "headroom": 0.9,
    "first_stage_layers": 14, "last_stage_layers": 18, "master_weights": False,
    "expandable_segments": True, "lora_targets": "attention", "rate": 3.5, "requests": 96, "admission_steps": 4.0,
    "dispatcher": "all_to_all", "moe_kernels": "unfused", "capacity_factor": 1.25,
}  # fmt: skip
BESIDE: Mapping[str, dict[str, object]] = {
    "ep": {"model": "mixtral-8x7b"}, "etp": {"model": "mixtral-8x7b"}, "quantization": {"lora_rank": 16},
    "latent_cache": {"model": "deepseek-v2-lite"}, "lora_targets": {"lora_rank": 16},
}  # fmt: skip
PAIRS = [(k, t) for k in OTHER for t in KEYS[k].tasks if k != "cp" or t not in ("decode", "serve")]


def estimated(scenario: Mapping[str, object]) -> Estimate:
    return estimate_scenario(scenario, folder=str(ROOT), today=TODAY)


def figures(e: Estimate) -> tuple[object, ...]:
    """All of an answer but what had to be assumed for it."""
    return e.inputs, e.results, e.time, e.memory


def put_in_again(e: Estimate) -> None:
    """The answer, its text and its table give the same answer to the last bit, wherever they are read."""
    assert figures(estimate_scenario(e.inputs, folder="/", today=TODAY)) == figures(e)
    cells = next(csv.DictReader(io.StringIO(to_csv([e.row]))))
    (row,) = estimate_rows([cells], today=TODAY)
    assert row["error"] == "" and {k: row[k] for k in e.row} == e.row


def test_every_key_has_another_value_here() -> None:
    assert set(OTHER) == set(KEYS) - {"task"}


@pytest.mark.parametrize("task", TASKS)
def test_all_keys_of_a_task_are_echoed_in_their_order(task: str) -> None:
    e = estimated({"task": task, **BASES[task]})
    echoed = [k for k in e.inputs if k != "accelerator"]
    assert echoed == [k for k, v in KEYS.items() if task in v.tasks]
    assert list(e.row) == [*e.inputs, *(c for c in COLUMNS if c != "error")]


@pytest.mark.parametrize(("key", "task"), PAIRS, ids=lambda v: v)
def test_what_is_given_is_echoed_and_gives_itself(key: str, task: str) -> None:
    base = {"task": task, **BASES[task], **BESIDE.get(key, {})}
    if key == "dp":  # devices follow
        base.pop("devices")
    e = estimated({**base, key: OTHER[key]})
    assert e.inputs[key] == OTHER[key] != estimated(base).inputs[key]
    put_in_again(e)


def test_an_encoder_of_its_own_length_and_an_imbalance_are_kept() -> None:
    keys = {"model": "flan-t5-xl", "hardware": "dgx-h100", "devices": 8, "batch": 64, "encoder_len": 8192}
    e = estimated({"task": "decode", **keys, "imbalance": 2.0})
    shorter = estimated({"task": "decode", **keys, "encoder_len": 64})
    assert estimate_scenario(e.inputs, today=TODAY).results["step_time_s"] == e.results["step_time_s"]
    assert float(str(shorter.results["step_time_s"])) < 0.9 * float(str(e.results["step_time_s"]))


def test_what_says_nothing_is_left_empty() -> None:
    inputs = estimated({"task": "train", "model": "gpt2", "hardware": "dgx-h100", "devices": 8}).inputs
    unset = {"encoder_len", "network_bandwidth", "network_latency", "oversubscription", "domain", "memory_capacity",
             "first_stage_layers", "last_stage_layers"}  # fmt: skip
    assert {k for k, v in inputs.items() if v is None} == unset | {"price", "price_kind"}


@pytest.mark.parametrize("name", accelerator_ids())
def test_the_name_of_the_hardware_finds_it_again(name: str) -> None:
    e = estimate_scenario({"task": "forward", "model": "gpt2", "hardware": name}, today=TODAY)
    assert resolve_hardware(str(e.inputs["hardware"])) == resolve_hardware(name)


@pytest.mark.parametrize("compression", ["none", "depth:0.5", "student:gpt2", f"student:{SMALL}"])
@pytest.mark.parametrize("model", ["llama-3.2-1b", SMALL])
def test_a_model_is_found_again_compressed_or_from_a_path(model: str, compression: str) -> None:
    e = estimated({"model": model, "hardware": "dgx-h100", "devices": 8, "compression": compression})
    again = estimate_scenario(e.inputs, folder="/", today=TODAY)
    assert figures(again) == figures(e)
    assert again.resolved.model == e.resolved.model


def test_a_row_of_a_search_gives_itself() -> None:
    scenario = {"model": "llama-3.1-8b", "hardware": "rtx-4090-8x", "devices": 16, "global_batch": 32,
                "network_bandwidth": "100 Gbit/s", "memory_capacity": "40 GiB", "price": "0.5 USD/h"}  # fmt: skip
    found = make_plan(scenario, top=4, today=TODAY)
    assert len(found.rows) == 4
    for e in found.rows:
        put_in_again(e)


def test_a_table_of_answers_is_a_table_of_scenarios() -> None:
    scenarios = [{"task": t, **BASES[t], "price": "2 USD/h"} for t in TASKS]
    table = planner.estimates(scenarios)
    again = planner.estimates(table)
    assert not table["error"].any()
    for column in COLUMNS:
        assert table[column].equals(again[column]), column


# Any scenario

LIKELY: Mapping[str, tuple[object, ...]] = {
    "devices": (8, 16, 16), "tp": (1, 2, 4), "pp": (1, 2), "cp": (1, 1, 2), "ep": (1, 2), "vpp": (1, 2),
    "dp": (None, 4), "micro_batch": (None, 1, 2), "global_batch": (32, 64), "zero_stage": (0, 1, 2, 3),
    "seq_len": (256, 512, 448), "encoder_len": (128, 1500), "input_len": (16, 200), "output_len": (1, 32),
    "batch": (1, 16, 24), "concurrency": (1, 16, 40), "lora_rank": (0, 8), "domain": (4, 8),
    "engine": ("ideal", "vllm", "tensorrt-llm"), "compute_dtype": ("bf16", "bf16", "fp8"),
    "weight_dtype": ("bf16", "fp32", "fp8", "q4_k_m"), "activation_dtype": ("bf16", "fp32"),
    "kv_dtype": ("bf16", "fp8"), "quantization": ("none", "q4_k_m", "fp8", "awq"), "grad_dtype": ("bf16", "fp32"),
    "sparsity": ("none", "none", "2:4"), "imbalance": (1.0, 1.1, 1.3333333333333333),
    "compression": ("none", "width:0.75", "depth:0.5", "student:gpt2"),
    "recompute_modules": ("core_attn", "layernorm,moe_act", "mlp", "moe"), "oversubscription": (1.0, 1.7, 3),
    "network_bandwidth": ("400 Gbit/s", "3.3 GB/s"), "network_latency": ("0 s", "7 us", "0.03 ms"),
    "memory_capacity": ("80 GiB", "12345678901 B"), "price": ("2.5 USD/hour", "0.1 USD/h"),
}  # fmt: skip


def values(name: str) -> tuple[Any, ...]:
    """Values of a key that many scenarios allow."""
    key = KEYS[name]
    return LIKELY.get(name) or key.choices or (True, False)


@st.composite
def scenarios(draw: st.DrawFn) -> dict[str, object]:
    task = draw(st.sampled_from(TASKS))
    free = [k for k, v in KEYS.items() if task in v.tasks and k not in ("task", "model", "hardware", "devices")]
    keys = draw(st.lists(st.sampled_from(free), unique=True, max_size=9))
    base = {"task": task, "model": draw(st.sampled_from(MODELS)), "hardware": draw(st.sampled_from(HARDWARE))}
    return base | {k: draw(st.sampled_from(values(k))) for k in ("devices", *keys)}


@settings(max_examples=25)
@given(scenario=scenarios())
def test_any_answer_put_in_again_gives_itself(scenario: dict[str, object]) -> None:
    gives_itself(scenario)


@pytest.mark.exhaustive
@settings(max_examples=200)
@given(scenario=scenarios())
def test_any_of_many_answers_put_in_again_gives_itself(scenario: dict[str, object]) -> None:
    gives_itself(scenario)


def gives_itself(scenario: dict[str, object]) -> None:
    try:
        e = estimated(scenario)
    except PlannerError:
        assume(False)
        raise
    put_in_again(e)
