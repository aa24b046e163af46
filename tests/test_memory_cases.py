"""Bytes held: cases with a logged figure, rules over the whole catalogue, and what a run says of its memory."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from planner.catalogue.models import load_model, model_ids
from planner.cost.layouts import layouts
from planner.cost.memory import FREED
from planner.cost.stages import stage_counts
from planner.demand.costs import stored_bytes
from planner.demand.ops import Array
from planner.demand.transformer import Demand, demand
from planner.errors import BadInputError
from planner.planning.estimate import Estimate, estimate_scenario
from planner.planning.search import Found, _note_leanest, _prefer_leaner

GIB = 2.0**30
TODAY = date(2026, 11, 1)
TRAIN: dict[str, object] = {"model": "llama-3.1-8b", "hardware": "dgx-h100", "devices": 8, "global_batch": 64,
                            "seq_len": 8192}  # fmt: skip


def estimated(**keys: object) -> Estimate:
    return estimate_scenario(keys, today=TODAY)


def trained(**keys: object) -> Estimate:
    return estimate_scenario({**TRAIN, **keys}, today=TODAY)


# Logged


def test_experts_divide_over_tensor_ranks() -> None:
    """Qwen3-30B-A3B on four devices: 14.25 GiB a device, as vLLM logs it."""
    e = estimated(task="decode", model="qwen3-30b-a3b", hardware="dgx-h100", devices=4, tp=4)
    assert e.memory["weights"] / GIB == pytest.approx(14.25, rel=0.02)


@pytest.mark.parametrize("engine", ["vllm-0.6.5", "vllm-0.6", "vllm"])
def test_prompts_in_one_step_leave_less_for_the_cache(engine: str) -> None:
    """Llama 3.1 8B on 24 GB: vLLM logs 31,232 tokens at max_model_len 20,000 and does not start at 29,000."""
    keys = {"task": "decode", "model": "llama-3.1-8b", "hardware": "rtx-3090-24gb", "engine": engine,
            "memory_fraction": 0.9}  # fmt: skip
    for length, starts in ((20000, True), (29000, False)):
        whole = {} if engine.startswith("vllm-0.6") else {"token_budget": length}
        e = estimated(**keys, max_model_len=length, **whole)
        assert e.inputs["token_budget"] == length and e.results["starts"] is starts
        if starts:
            assert e.results["kv_cache_tokens"] == pytest.approx(31232, rel=0.07)


def test_longer_prompts_than_32768_are_chunked() -> None:
    """vLLM's V0 engine reads them in chunks unless told not to (vllm/engine/arg_utils.py)."""
    keys = {"task": "decode", "model": "llama-3.1-8b", "hardware": "h100-sxm5-80gb", "engine": "vllm-0.7"}
    budgets = [estimated(**keys, max_model_len=n).inputs["token_budget"] for n in (1024 + 256, 32768, 32769)]
    assert budgets == [2048, 32768, 2048]


def test_an_engine_that_unties_holds_the_table_twice() -> None:
    """Qwen2.5-0.5B in 8-bit weights: 0.854 GiB in TensorRT-LLM (https://github.com/NVIDIA/TensorRT-LLM/issues/1188)."""
    keys = {"task": "decode", "model": "qwen2.5-0.5b", "hardware": "rtx-a4000-16gb", "weight_dtype": "int8"}
    twice, once = (estimated(**keys, engine=e).memory["weights"] for e in ("tensorrt-llm", "vllm"))
    assert twice - once == 151936 * 896 * 2
    assert twice / GIB == pytest.approx(0.854, rel=0.02)


# The whole catalogue


def held(d: Demand, tp: Array, ep: Array, etp: Array) -> Array:
    """Bytes of one layer of each section on one device, (layout, section)."""
    none = np.zeros(len(tp))
    each = [stored_bytes(s.table, tp=tp, ep=ep, etp=etp, width=2.0) if s.table.ops else none for s in d.sections]
    return np.stack(each, axis=1)


@pytest.mark.parametrize("name", model_ids())
def test_weights_over_devices_sum_to_the_model(name: str) -> None:
    """Tensor ranks divide all but what they copy, experts divide by ep·etp, and stages hold every layer once."""
    d = demand(load_model(name))
    tp, ep, etp = (np.array(v, dtype=np.float64) for v in ([1, 2, 1, 1, 2, 2], [1, 1, 2, 1, 2, 4], [1, 1, 1, 2, 2, 2]))
    counts = np.array([s.count for s in d.sections], dtype=np.float64)
    one, halved, spread, shared, both, most = held(d, tp, ep, etp) @ counts
    experts, divided = 2.0 * (one - spread), 2.0 * (one - halved)
    copied = one - experts - divided
    assert one - shared == pytest.approx(experts / 2.0, rel=2e-4)  # all but the biases of what a rank sums
    assert both == pytest.approx(copied + divided / 2.0 + experts / 4.0, rel=2e-4)
    assert most == pytest.approx(copied + divided / 2.0 + experts / 8.0, rel=2e-4)
    assert -1.0 <= copied <= 0.12 * one  # norms, routers, latents, projectors of images
    running = [s.count for s in d.sections if s.role == "layer" and d.runs(s)]
    for pp in {1, 2, 3, min(8, int(sum(running)))}:
        if pp <= sum(running):
            assert stage_counts(d, pp=pp, vpp=1).sum(axis=0) @ held(d, *(np.ones(1),) * 3)[0] == pytest.approx(one)


# Training


def test_parameters_on_the_host_leave_the_device() -> None:
    keys = {"zero_stage": 3, "framework": "torch", "micro_batch": 1, "recompute": "none"}
    here, there = trained(**keys), trained(**keys, offload="parameters")
    assert all(there.memory[k] == 0.0 < here.memory[k] for k in ("weights", "gradients", "optimizer"))
    assert all(there.memory[k] == here.memory[k] for k in (*FREED, "context"))
    disks = trained(**keys, offload="nvme")
    assert disks.memory == there.memory and any("disks are not timed" in a for a in disks.assumed)
    slow = {**keys, "hardware": "t4-16gb", "framework": "torch", "seq_len": 64, "global_batch": 8}
    times = [trained(**slow, offload=o).results["step_time_s"] for o in ("none", "parameters")]
    assert float(str(times[1])) > float(str(times[0]))


def test_both_may_live_on_the_host() -> None:
    keys = {"zero_stage": 3, "framework": "torch", "micro_batch": 2, "recompute": "none"}
    only, both = (trained(**keys, offload=o) for o in ("activations", "parameters+activations"))
    assert both.memory["activations"] == only.memory["activations"] < trained(**keys).memory["activations"]
    assert both.memory["optimizer"] == 0.0 < only.memory["optimizer"]


@pytest.mark.parametrize(("optimizer", "moments"), [("adamw", 4.0), ("sgd", 0.0), ("lion", 2.0), ("adam8bit", 2.03125)])
def test_without_masters_state_follows_16_bit_weights(optimizer: str, moments: float) -> None:
    e = trained(optimizer=optimizer, master_weights=False, zero_stage=0, micro_batch=1)
    parameters = e.memory["weights"] / 2.0
    assert e.memory["optimizer"] / parameters == pytest.approx(moments)
    assert e.memory["gradients"] == e.memory["weights"] and e.inputs["grad_dtype"] == "bf16"


def test_plain_adamw_is_the_one_in_bf16() -> None:
    plain, named = trained(master_weights=False), trained(optimizer="adamw-bf16")
    assert plain.memory == named.memory and named.inputs["master_weights"] is False


@pytest.mark.parametrize(
    ("keys", "telling"),
    [({"master_weights": True, "optimizer": "adamw-bf16"}, "adamw-bf16 keeps none"),
     ({"master_weights": False, "compute_dtype": "fp32"}, "the weights are fp32"),
     ({"offload": "disk"}, "offload"), ({"lora_targets": "head"}, "lora_targets")],
)  # fmt: skip
def test_what_cannot_be_is_one_clear_error(keys: dict[str, object], telling: str) -> None:
    with pytest.raises(BadInputError, match=telling) as error:
        trained(**keys)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("vpp", "first", "last"), [(1, 7, 5), (2, 6, 10), (1, 8, 8)])
def test_ends_of_a_pipeline_hold_what_they_are_given(vpp: int, first: int, last: int) -> None:
    d = demand(load_model("llama-3.1-8b"))
    layer = [i for i, s in enumerate(d.sections) if s.role == "layer"]
    dealt = stage_counts(d, pp=4, vpp=vpp, ends=(first, last))[:, layer].sum(axis=1)
    rest = (32 - first - last) / 2
    assert list(dealt) == [first, rest, rest, last]
    if first == last == 8:
        assert (stage_counts(d, pp=4, vpp=vpp, ends=(first, last)) == stage_counts(d, pp=4, vpp=vpp)).all()


def test_a_shorter_last_stage_holds_and_takes_less() -> None:
    """The stage of the head has fewer layers, as recipes of Megatron-LM deal them."""
    keys = {"pp": 4, "micro_batch": 1, "recompute": "full", "zero_stage": 1, "seq_len": 1024}
    even, uneven = trained(**keys), trained(**keys, last_stage_layers=5)
    assert uneven.inputs["last_stage_layers"] == 5 and even.inputs["last_stage_layers"] is None
    assert even.memory != uneven.memory


def test_logits_are_gone_when_a_layer_is_rebuilt() -> None:
    """The larger of the two counts; an allocator that caches blocks keeps both, one whose segments grow neither."""
    keys = {"zero_stage": 3, "framework": "torch", "micro_batch": 1, "recompute": "full"}
    caching, growing = trained(**keys), trained(**keys, expandable_segments=True)
    chunked = trained(**keys, loss="chunked")
    logits, working = (caching.memory[k] for k in ("logits", "working"))
    rebuilt = chunked.memory["logits"] + chunked.memory["working"]
    assert logits + working == pytest.approx(max(logits + 2 * 128256 * 4096, rebuilt), rel=1e-6)
    assert growing.memory["fragmentation"] == 0.0 < caching.memory["fragmentation"]
    assert all(growing.memory[k] == caching.memory[k] for k in FREED)


def test_a_job_that_failed_by_fragmentation_runs_with_segments_that_grow() -> None:
    """Llama 3 70B on 32 H100: out of memory at 55 of 80 GiB; with expandable segments it ran (Megatron-Bridge)."""
    keys: dict[str, object] = {
        "model": "llama-3-70b", "hardware": "dgx-h100", "devices": 32, "tp": 4, "pp": 4, "vpp": 5, "micro_batch": 1,
        "recompute": "selective", "recompute_modules": "core_attn", "compute_dtype": "fp8", "global_batch": 32,
        "seq_len": 4096,
    }  # fmt: skip
    assert estimated(**keys).results["fits"] == "tight"
    assert estimated(**keys, expandable_segments=True).results["fits"] in ("yes", "tight")


def test_frozen_matmuls_without_an_adapter_keep_no_input() -> None:
    keys = {"lora_rank": 16, "micro_batch": 1, "recompute": "none", "framework": "torch"}
    every, attention = (trained(**keys, lora_targets=t) for t in ("all", "attention"))
    kept = every.memory["activations"] - attention.memory["activations"]
    assert kept == 32 * 8192 * (4096 + 14336) * 2  # inputs of the MLP's two matmuls
    assert attention.memory["optimizer"] < every.memory["optimizer"]


# Headroom


@pytest.mark.parametrize(("slower", "leaner"), [(0.004, True), (0.05, False)])
def test_what_fills_a_device_is_not_preferred_to_what_needs_half(slower: float, leaner: bool) -> None:
    x, capacity = layouts(tp=[1, 2], dp=[2, 1]), 80 * GIB
    seconds, share = np.array([1.0, 1.0 + slower]), np.array([0.99, 0.5])
    columns = [{k: int(v[i]) for k, v in vars(x).items()} for i in range(2)]
    found = Found(best=[(seconds[i], share[i] * capacity, columns[i]) for i in range(2)])
    lean: dict[tuple[int, int], tuple[float, float, dict[str, int]]] = {}
    _note_leanest(lean, x, np.arange(2), seconds, share, np.zeros(2, dtype=bool))
    _prefer_leaner(found, lean, capacity, 10)
    assert found.best[0][2]["tp"] == (2 if leaner else 1)
    assert (found.instead is not None) == leaner
