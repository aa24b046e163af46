"""Counts against models built elsewhere, the quirks that break formulas, and the laws every count obeys."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest
import yaml

from planner.catalogue.huggingface import model_from_config, supported_types
from planner.catalogue.models import describe, load_model, model_aliases, model_ids, resolve_id
from planner.catalogue.schema import Attention, LatentAttention, LinearAttention, Model, Moe
from planner.demand.cache import kv_cache_bytes, kv_cache_bytes_per_token, recurrent_state_bytes
from planner.demand.counts import forward_flops, parameter_counts, summary
from planner.errors import BadInputError, CatalogueError

DATA = Path(__file__).parent / "data"
GROUPS = ("total", "embedding", "head", "attention", "mlp", "experts", "norm", "other", "active")
# The reference groups by parameter name: it files the convolutions of a Mamba mixer under embedding (patch embeddings
# are convolutions too) and gates and gated position tables of the Llama 3.2 tower under mlp. Totals agree.
GROUPED_ELSEWHERE = {
    "modernbert-base": ("head", "other"),
    "nemotron-3-nano-30b-a3b": ("embedding", "other"),
    "nemotron-3-ultra-550b-a55b": ("embedding", "other"),
    "llama-3.2-11b-vision": ("embedding", "attention", "mlp"),
}
# One compressed key is written as a fraction of a head; grouped output projections are batched matmuls there.
SCORES_ELSEWHERE = {"deepseek-v4-pro"}


def truth() -> list[dict[str, str]]:
    lines = [line for line in (DATA / "model_truth.csv").read_text().splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


CONFIGS = yaml.safe_load((DATA / "model_configs.yaml").read_text())


def built(row: dict[str, str]) -> Model:
    if row["catalogue_id"]:
        return load_model(row["catalogue_id"])
    return model_from_config(CONFIGS[row["name"]], id=row["name"], where=row["name"])


def from_config(**config: object) -> Model:
    return model_from_config(config, id="test", where="test")


@pytest.mark.parametrize("row", truth(), ids=lambda r: r["name"])
def test_parameters_equal_the_reference(row: dict[str, str]) -> None:
    counts = parameter_counts(built(row))
    expected = {g: int(row[g]) for g in GROUPS}
    moved = GROUPED_ELSEWHERE.get(row["name"], ())
    assert {g: counts[g] for g in GROUPS if g not in moved} == {g: expected[g] for g in GROUPS if g not in moved}
    assert sum(counts[g] for g in moved) == sum(expected[g] for g in moved)


@pytest.mark.parametrize("row", [r for r in truth() if r["forward_flops"]], ids=lambda r: r["name"])
def test_forward_flops_match_the_reference(row: dict[str, str]) -> None:
    flops = forward_flops(built(row), batch=1, seq_len=int(row["seq_len"]))
    assert flops["total"] == pytest.approx(float(row["forward_flops"]), rel=1e-3)
    if row["name"] not in SCORES_ELSEWHERE:
        assert flops["attention_scores"] == pytest.approx(float(row["attention_scores"]), rel=1e-3)


def test_at_least_118_references_are_equal() -> None:
    assert len(truth()) >= 118


@pytest.mark.parametrize("model_id", model_ids())
def test_every_catalogue_model_loads_and_sums(model_id: str) -> None:
    model = load_model(model_id)
    table = summary(model, batch=2, seq_len=256)
    p, f = table["parameters"], table["forward_flops"]
    assert sum(p[g] for g in ("embedding", "head", "attention", "mlp", "norm", "other")) == p["total"]
    assert sum(r["parameters"] for r in table["layers"]) == p["total"]
    assert sum(r["forward_flops"] for r in table["layers"]) == pytest.approx(f["total"], rel=1e-9)
    assert 0 < p["active"] <= p["total"] and p["experts"] <= p["mlp"]
    assert 0 < f["causal_total"] <= f["total"] and f["attention_scores"] < f["total"]
    assert model.source and model.id == model_id == model_id.lower()
    if model.published_parameters is not None:
        assert p["total"] == pytest.approx(model.published_parameters, rel=0.1)
        assert describe(model_id)["published_source"]


def test_batch_scales_flops_and_causal_halving_is_of_the_scores_only() -> None:
    one = forward_flops(load_model("llama-3.1-8b"), batch=1, seq_len=512)
    four = forward_flops(load_model("llama-3.1-8b"), batch=4, seq_len=512)
    assert four["total"] == pytest.approx(4 * one["total"])
    assert one["causal_total"] == pytest.approx(one["total"] - one["attention_scores"] / 2)


# -- quirks, each with the published model that exposes it --------------------------------------------------------


def test_tied_head_is_counted_once_and_multiplied_with() -> None:
    gpt2 = load_model("gpt2")
    assert parameter_counts(gpt2)["head"] == 0
    untied = from_config(**{**describe("gpt2")["config"], "tie_word_embeddings": False})
    assert parameter_counts(untied)["total"] - parameter_counts(gpt2)["total"] == 50257 * 768
    assert forward_flops(untied, seq_len=64) == forward_flops(gpt2, seq_len=64)


def test_padded_vocabulary_is_counted_as_stated() -> None:
    assert parameter_counts(load_model("qwen2.5-7b"))["embedding"] == 152064 * 3584  # 151665 tokens, padded
    assert parameter_counts(load_model("gpt-22b"))["embedding"] == (51200 + 2048) * 6144  # 50257 tokens, padded


def test_a_doctored_vocabulary_is_counted_as_what_it_says() -> None:
    row = next(r for r in truth() if "TRAP" in r["name"])
    real = parameter_counts(load_model("bert-base-uncased"))
    doctored = parameter_counts(built(row))
    assert doctored["total"] - real["total"] == (50265 - 30522) * (768 + 1)


def test_head_dim_is_not_hidden_over_heads() -> None:
    mixer = load_model("qwen3-0.6b").text.kinds[0].mixer
    assert isinstance(mixer, Attention) and mixer.head_dim == 128 != 1024 // 16


def test_gated_and_plain_mlp() -> None:
    config = describe("nemotron-4-340b")["config"]
    plain = parameter_counts(load_model("nemotron-4-340b"))["mlp"]
    assert plain == 2 * 96 * config["hidden_size"] * config["intermediate_size"]
    gated = parameter_counts(load_model("llama-2-7b"))["mlp"]
    assert gated == 3 * 32 * 4096 * 11008


def test_qkv_only_biases() -> None:
    mixer = load_model("qwen2.5-7b").text.kinds[0].mixer
    assert isinstance(mixer, Attention) and mixer.q_bias and not mixer.out_bias


def test_latent_attention_ranks_and_cache() -> None:
    model = load_model("deepseek-v3")
    mixer = model.text.kinds[0].mixer
    assert isinstance(mixer, LatentAttention) and (mixer.q_rank, mixer.kv_rank) == (1536, 512)
    assert kv_cache_bytes_per_token(model, bytes_per_value=2) == 61 * (512 + 64) * 2


def test_shared_experts_and_first_dense_layers() -> None:
    model = load_model("deepseek-v3")
    dense, sparse = model.text.kinds
    assert model.text.order.count(0) == 3 and model.text.order[:4] == (0, 0, 0, 1)
    assert isinstance(sparse.ffn, Moe) and sparse.ffn.shared is not None and sparse.ffn.shared.width == 2048
    assert not isinstance(dense.ffn, Moe)


def test_interleaved_experts() -> None:
    scout = describe("llama-4-scout")["config"]
    text = {**scout["text_config"], "interleave_moe_layer_step": 2}
    model = from_config(**{**scout, "text_config": text})
    routed = [isinstance(model.text.kinds[k].ffn, Moe) for k in model.text.order]
    assert routed == [False, True] * 24


def test_sliding_windows_cap_the_cache_and_not_the_full_rectangle() -> None:
    model = load_model("gemma-3-27b")
    kinds = [model.text.kinds[k].mixer for k in model.text.order]
    windows = [m.window for m in kinds if isinstance(m, Attention)]
    assert windows.count(None) == 10 and windows.count(1024) == 52
    per_token = kv_cache_bytes_per_token(model, bytes_per_value=1)
    assert kv_cache_bytes(model, context=32768, bytes_per_value=1) == per_token / 62 * (10 * 32768 + 52 * 1024)
    full = forward_flops(model, seq_len=4096)["attention_scores"]
    assert full == 62 * 4 * 4096**2 * 32 * 128


def test_parallel_attention_blocks_have_one_norm() -> None:
    assert [len(k.norms) for k in load_model("falcon-7b").text.kinds] == [1]
    assert [len(k.norms) for k in load_model("falcon-40b").text.kinds] == [2]
    assert load_model("command-r-35b").text.kinds[0].parallel


def test_query_and_key_norms() -> None:
    full, head = load_model("olmo2-7b").text.kinds[0].mixer, load_model("qwen3-32b").text.kinds[0].mixer
    assert isinstance(full, Attention) and full.qk_norm_parameters == 2 * 4096
    assert isinstance(head, Attention) and head.qk_norm_parameters == 2 * 128


def test_relative_position_buckets_at_the_first_layer_only() -> None:
    model = load_model("t5-base")
    extra = [k.mixer.extra_parameters for s in model.stacks for k in s.kinds if isinstance(k.mixer, Attention)]
    assert extra == [32 * 12, 0, 32 * 12, 0]


def test_learned_positions_with_an_offset() -> None:
    opt = load_model("opt-125m").embedding
    assert opt is not None and opt.extra_parameters == (2048 + 2) * 768
    gpt2 = load_model("gpt2").embedding
    assert gpt2 is not None and gpt2.positions == 1024


def test_multi_token_prediction_layers_are_described_and_not_counted() -> None:
    model = load_model("deepseek-v3")
    assert model.mtp_layers == 1 and parameter_counts(model)["total"] == 671026404352


def test_linear_attention_layers_hold_state_and_no_cache() -> None:
    model = load_model("qwen3-next-80b-a3b")
    kinds = [model.text.kinds[k].mixer for k in model.text.order]
    assert sum(isinstance(m, LinearAttention) for m in kinds) == 36
    assert kv_cache_bytes_per_token(model, bytes_per_value=2) == 12 * 2 * 2 * 256 * 2
    assert recurrent_state_bytes(model, bytes_per_value=4) == 36 * 4 * (32 * 128 * 128 + 8192 * 4)


def test_a_tower_counts_in_parameters_and_not_on_the_text_path() -> None:
    model = load_model("llama-3.2-11b-vision")
    same_text = forward_flops(load_model("llama-3.1-8b"), seq_len=2048)
    assert forward_flops(model, seq_len=2048) == same_text
    assert parameter_counts(model)["total"] > 10.6e9


def test_layers_that_share_weights() -> None:
    base = {"model_type": "albert", "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
    one, twelve = (from_config(**base, num_hidden_layers=n) for n in (1, 12))
    assert parameter_counts(one)["attention"] == parameter_counts(twelve)["attention"]
    assert forward_flops(twelve, seq_len=128)["total"] > 8 * forward_flops(one, seq_len=128)["total"] / 2


# -- reading --------------------------------------------------------------------------------------------------------


def test_names_aliases_and_paths(tmp_path: Path) -> None:
    assert resolve_id("META-LLAMA/Llama-3.1-8B") == "llama-3.1-8b" == load_model("Llama3.1-8B").id
    assert not set(model_aliases()) & set(model_ids())
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "config.json").write_text('{"model_type": "llama", "num_hidden_layers": 2}')
    folder = load_model("my/config.json", relative_to=tmp_path)
    assert folder.id == "my" and folder.layers == 2
    for spelling in ("my", "./my", "my/", str(tmp_path / "my")):
        assert load_model(spelling, relative_to=tmp_path) == folder
    assert "intermediate_size 11008 is the class default of LlamaConfig" in folder.assumed
    assert load_model(tmp_path / "my").layers == 2
    with pytest.raises(BadInputError, match=r"nearest: llama-3\.1-8b"):
        load_model("llama-3.1-8bb")


def test_native_models_and_their_faults(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        "architecture: decoder\nlayers: 2\nhidden: 64\nheads: 4\nvocab: 100\nexperts: 8\nexperts_top_k: 2\n"
    )
    assert parameter_counts(load_model(path))["experts"] == 2 * 8 * (2 * 64 * 256 + 256 + 64)
    path.write_text("layers: 2\nhidden: 64\nheads: 4\nvocab: 100\nlayer: 3\n")
    with pytest.raises(CatalogueError, match=r"m\.yaml:5: unknown key 'layer'; nearest: layers"):
        load_model(path)
    path.write_text("layers: 2\nhidden: [64\n")
    with pytest.raises(CatalogueError, match=r"m\.yaml:\d+: not YAML"):
        load_model(path)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"model_type": "llama", "hidden_size": None}, "hidden_size"),
        ({"model_type": "llama", "num_attention_heads": 0}, "num_attention_heads"),
        ({"model_type": "llama", "num_attention_heads": 30}, "num_attention_heads"),
        ({"model_type": "llama", "num_key_value_heads": 5}, "num_key_value_heads"),
        ({"model_type": "llama", "hidden_size": "4096"}, "hidden_size"),
        ({"model_type": "mixtral", "num_experts_per_tok": 9}, "num_experts_per_tok"),
        ({"model_type": "llama", "vocab_size": 10**12}, "vocab_size"),
        ({"model_type": "llama", "num_experts": 8}, "num_experts"),
        ({"model_type": "qwen3", "layer_types": ["warp"] * 32}, "layer_types"),
        ({"model_type": "lama"}, "lama.*nearest: llama"),
        ({"hidden_size": 8}, "model_type"),
        ({"model_type": "kimi_k3"}, "kimi_k3"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(config: dict[str, object], field: str) -> None:
    with pytest.raises(BadInputError, match=field):
        model_from_config(config, id="x", where="x.json")


@pytest.mark.parametrize(
    ("quantization", "dtype"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "awq", "bits": 4}, "int4"),
        ({"quant_method": "gptq", "bits": 8}, "int8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4"),
    ],
)
def test_quantisation_sets_the_weight_dtype(quantization: dict[str, object], dtype: str) -> None:
    assert from_config(model_type="llama", quantization_config=quantization).weight_dtype == dtype


def test_counting_a_config_takes_milliseconds() -> None:
    config = describe("deepseek-v3")["config"]
    model_from_config(config, id="warm", where="warm")
    best = min(_seconds(config, i) for i in range(5))
    assert best < 0.02  # 5 ms on an idle machine; room for a busy one


def _seconds(config: dict[str, object], i: int) -> float:
    start = time.perf_counter()
    parameter_counts(model_from_config(config, id=f"timed-{i}", where="timed"))
    return time.perf_counter() - start


def test_many_types_are_understood() -> None:
    assert len(supported_types()) >= 120
