"""What a device holds while an engine serves, against what engines logged; and one formula for every cache."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import numpy as np
import pytest
from conftest import Cli

from planner.catalogue.engines import engine, engines
from planner.catalogue.models import load_model, model_ids
from planner.catalogue.schema import Attention, CompressedAttention
from planner.demand.cache import kv_cache_bytes, kv_cache_bytes_per_token, recurrent_state_bytes
from planner.demand.counts import encoder_tokens, summary
from planner.errors import BadInputError
from planner.planning.estimate import Estimate, estimate_scenario
from planner.planning.plan import make_plan
from planner.validation.serving import served_by, served_kind, serving_logs

GIB = 2.0**30
TODAY = date(2026, 11, 1)
LOGS = serving_logs()
GENERATING = [m for m in model_ids() if load_model(m).text.role == "decoder" and load_model(m).head is not None]
LONG = {"task": "decode", "model": "llama-3.1-8b", "hardware": "rtx-3090-24gb", "engine": "vllm",
        "memory_fraction": 0.9}  # fmt: skip


def estimated(scenario: Mapping[str, object]) -> Estimate:
    return estimate_scenario(scenario, today=TODAY)


@pytest.mark.parametrize(("figure", "most"), [("weights_gib", 0.015), ("kv_gib", 0.05), ("kv_tokens", 0.07)])
def test_what_engines_logged(figure: str, most: float) -> None:
    """Median error of all starts; and where weights are plain, nine in ten within three times that."""
    found = np.abs(np.expm1([x.ratios[figure] for x in LOGS if figure in x.ratios]))
    plain = [abs(np.expm1(x.ratios[figure])) for x in LOGS
             if figure in x.ratios and "quantised" not in served_kind(x) and served_by(x) == "vllm"]  # fmt: skip
    assert len(found) >= 30 and len(plain) >= 15
    assert np.median(found) <= most
    assert np.mean(np.array(plain) <= 3 * most) >= 0.9


def test_kinds_of_starts() -> None:
    """Experts, quantised weights, states and windows are all among them."""
    kinds = {part for x in LOGS for part in served_kind(x).split(", ")}
    assert kinds == {"dense", "experts", "states or windows", "quantised"}
    assert {served_by(x) for x in LOGS} == {"vllm", "sglang", "tensorrt-llm", "llama.cpp"}


def test_engines_start_where_they_started() -> None:
    assert np.mean([x.right for x in LOGS]) >= 0.92 and {x.row["started"] for x in LOGS} == {"yes", "no"}
    assert all(x.row["source"].startswith("https://") for x in LOGS)


def test_a_profile_with_its_lines() -> None:
    """vLLM 0.6.5 on an H100: weights 14.96, activations 1.26, cache 53.29 GiB, 436.6 thousand tokens.
    https://github.com/vllm-project/vllm/pull/10511"""
    e = estimated({"task": "decode", "model": "llama-3-8b", "hardware": "h100-sxm5-80gb", "engine": "vllm-0.6",
                   "max_model_len": 8192})  # fmt: skip
    assert e.memory["weights"] / GIB == pytest.approx(14.96, rel=0.01)
    assert (e.memory["activations"] + e.memory["logits"]) / GIB == pytest.approx(1.26, rel=0.03)
    assert float(str(e.results["kv_pool_bytes"])) / GIB == pytest.approx(53.29, rel=0.05)
    assert e.results["kv_cache_tokens"] == pytest.approx(436_600, rel=0.07)


def test_no_start_without_room_for_one_sequence(cli: Cli) -> None:
    """Llama 3.1 8B on 24 GB: prompts of 20,000 tokens in one step start, of 29,000 do not."""
    assert estimated({**LONG, "max_model_len": 20000, "token_budget": 20000}).results["starts"]
    flags = ("--task", "decode", "--engine", "vllm", "--memory-fraction", 0.9)
    ran = cli("estimate", "llama-3.1-8b", "rtx-3090-24gb", *flags, "--max-model-len", 29000, "--token-budget", 29000)
    assert ran.code == 1 and "kv_cache" in ran.out
    assert "does not start" in ran.err and "max_model_len at most" in ran.err
    ran = cli("estimate", "llama-3.1-8b", "rtx-3090-24gb", *flags, "--max-model-len", 20000, "--token-budget", 20000)
    assert ran.code == 0 and "room for kv cache" in ran.out.replace("_", " ")


@pytest.mark.parametrize("name", sorted(engines()))
def test_the_ledger_fills_the_device_where_the_pool_is_full(name: str) -> None:
    """All lines, with the pool in place of the cache that is needed, sum to the device."""
    e = estimated({**LONG, "hardware": "h100-sxm5-80gb", "engine": name, "max_model_len": 4096})
    filled = sum(e.memory.values()) - e.memory["kv_cache"] + float(str(e.results["kv_pool_bytes"]))
    assert filled == pytest.approx(e.capacity, rel=1e-9)
    assert all(v >= 0 for v in e.memory.values())


# One formula


LARGE = {"task": "decode", "hardware": "gb300-288gb", "memory_capacity": "40 TiB", "batch": 3}


@pytest.mark.parametrize("name", GENERATING)
def test_the_cache_of_an_estimate_is_that_of_the_summary(name: str) -> None:
    """Over the catalogue: bytes a token times tokens where no window caps them, states and the encoder's keys apart."""
    model = load_model(name)
    length = min(model.embedding.positions or 4096, 4096) if model.embedding else 4096
    e = estimated({**LARGE, "model": name, "input_len": length // 2, "output_len": length // 2})
    run, tokens = e.resolved.run, 2 * (length // 2)
    width = e.resolved.precision.bytes_of("kv")
    kept = kv_cache_bytes(model, context=tokens, bytes_per_value=width, encoder_len=run.encoder_len, read_at_once=512)
    assert e.memory["kv_cache"] == pytest.approx(3 * (kept + recurrent_state_bytes(model)))
    per_token = sum(r["kv_cache_bytes_per_token"] for r in summary(model)["layers"])
    assert per_token == pytest.approx(kv_cache_bytes_per_token(model))
    kinds = [model.text.kinds[k] for k in model.text.order]
    windowed = any(isinstance(k.mixer, Attention | CompressedAttention) and k.mixer.window for k in kinds)
    if not windowed and not any(k.cross for k in kinds):
        assert kept == pytest.approx(per_token * width / 2.0 * tokens)


def test_windows_keep_what_is_read_beside_them() -> None:
    """Gemma 3 4B at 131,072 tokens, whose cache llama.cpp logs at 2.67 GiB."""
    e = estimated({"task": "decode", "model": "gemma-3-4b", "hardware": "rtx-5080-16gb", "batch": 1,
                   "input_len": 131071, "output_len": 1, "weight_dtype": "int4"})  # fmt: skip
    assert e.memory["kv_cache"] / GIB == pytest.approx(2.67, rel=0.02)


def test_a_decoder_is_not_charged_its_encoder() -> None:
    """Whisper: keys and values of the decoder's layers, its own tokens and the encoder's 1,500 frames."""
    model = load_model("whisper-large")
    e = estimated({**LARGE, "model": "whisper-large", "batch": 1, "input_len": 4, "output_len": 60})
    assert encoder_tokens(model, 64) == 1500
    assert e.memory["kv_cache"] == 32 * 2 * 1280 * 2 * (64 + 1500)


def test_a_pass_without_generation_holds_no_cache() -> None:
    e = estimated({"task": "forward", "model": "llama-3.1-8b", "hardware": "dgx-h100"})
    assert e.memory["kv_cache"] == 0.0 and e.results["kv_cache_tokens"] is None


def test_expanded_latents_are_those_of_every_head_and_divide_over_tp() -> None:
    base = {"task": "decode", "model": "deepseek-v2-lite", "hardware": "dgx-h100", "devices": 2, "tp": 2,
            "input_len": 1000, "output_len": 24}  # fmt: skip
    absorbed, expanded = (estimated({**base, "latent_cache": k}) for k in ("absorbed", "expanded"))
    assert absorbed.memory["kv_cache"] == 27 * (512 + 64) * 2 * 1024
    assert expanded.memory["kv_cache"] == 27 * 16 * (192 + 128) * 2 * 1024 / 2
    assert expanded.time["forward.attention"] > absorbed.time["forward.attention"]
    with pytest.raises(BadInputError, match=r"latent_cache: expanded given, but llama-3\.1-8b has no latent"):
        estimated({**base, "model": "llama-3.1-8b", "latent_cache": "expanded"})


def test_states_of_linear_attention_are_fp32() -> None:
    """Qwen3-Next on four ranks: SGLang logs 1.42 GB of states and 0.03 GB of convolutions for 80 slots and a spare."""
    e = estimated({"task": "decode", "model": "qwen3-next-80b-a3b", "hardware": "dgx-h100", "devices": 4, "tp": 4,
                   "batch": 81, "input_len": 1, "output_len": 1})  # fmt: skip
    assert e.memory["kv_cache"] / GIB == pytest.approx(1.45, rel=0.05)


# Replicas


def test_no_replica_stands_idle() -> None:
    scenario = {"task": "decode", "model": "llama-3.1-8b", "hardware": "dgx-h100", "devices": 8, "batch": 2}
    plan = make_plan(scenario, today=TODAY)
    assert plan.rows and all(int(str(e.inputs["dp"])) <= 2 for e in plan.rows)
    assert plan.refused["dp_sequences"] > 0
    with pytest.raises(BadInputError, match="dp 8 for batch 2: 6 replicas would stand idle"):
        estimated(scenario)
    assert estimated({k: v for k, v in scenario.items() if k != "batch"}).inputs["batch"] == 8


def test_defaults_depend_on_the_device() -> None:
    found = {}
    for chip in ("h100-sxm5-80gb", "a100-sxm4-80gb", "l4-24gb"):
        e = estimated({"task": "decode", "model": "llama-3.2-1b", "hardware": chip, "engine": "vllm"})
        found[chip] = e.inputs["token_budget"], e.inputs["max_num_seqs"]
    assert found == {"h100-sxm5-80gb": (8192, 1024), "a100-sxm4-80gb": (2048, 256), "l4-24gb": (2048, 256)}
    sglang = estimated({"task": "decode", "model": "llama-3.1-8b", "hardware": "h100-sxm5-80gb", "engine": "sglang"})
    assert float(str(sglang.inputs["memory_fraction"])) == pytest.approx(0.835, abs=0.005)


@pytest.mark.parametrize(
    ("said", "means"),
    [("vllm-0.6.5", "vllm-0.6"), ("vllm-0.5.3", "vllm-0.6"), ("vllm-0.6.6", "vllm-0.7"),
     ("vllm-0.7.3", "vllm-0.7"), ("vllm-0.8.5", "vllm-0.11"), ("vllm-0.16.1", "vllm-0.11"),
     ("vllm-0.9.2", "vllm-0.11"), ("vllm-0.17.1", "vllm"), ("vllm-0.22", "vllm"), ("vllm-1.0", "vllm"),
     ("sglang-0.5.2", "sglang")],
)  # fmt: skip
def test_a_release_stands_for_its_generation(said: str, means: str) -> None:
    assert engine(said).id == means


@pytest.mark.parametrize("said", ["vllm-", "vllm-new", "tgi-2.4", "0.6"])
def test_an_unknown_engine_is_refused(said: str) -> None:
    with pytest.raises(BadInputError, match="unknown engine"):
        engine(said)


def test_a_longest_sequence_that_is_too_short_is_refused() -> None:
    with pytest.raises(BadInputError, match="max_model_len: 1000 given, but input_len \\+ output_len is 1280"):
        estimated({**LONG, "max_model_len": 1000})


@pytest.mark.parametrize(("model", "words"), [("bert-base-uncased", 30522), ("roberta-base", 50265)])
def test_a_masked_language_model_holds_the_logits_of_every_token(model: str, words: int) -> None:
    """One for each token and word, 16 bits each; beside them the last layer's output, when the layers are done."""
    keys = {"model": model, "hardware": "dgx-h100", "devices": 1, "task": "forward", "batch": 8, "seq_len": 512}
    found = estimate_scenario(keys, today=date(2026, 11, 1)).memory
    tokens = 8 * 512
    assert found["logits"] == pytest.approx(tokens * 2 * (words + 768) - found["activations"])


def test_a_classifier_of_pictures_holds_one_row_of_logits_for_each() -> None:
    """Their thousand classes are less than what the layers held, and take nothing beyond it."""
    keys = {"model": "vit-base-patch16-224", "hardware": "dgx-h100", "devices": 1, "task": "forward", "batch": 64}
    assert estimate_scenario(keys, today=date(2026, 11, 1)).memory["logits"] == 0.0
