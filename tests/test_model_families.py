"""Families against their classes: a default and a varied configuration of each type, FLOPs of a small one."""

import csv
import json
from pathlib import Path

import pytest

import planner
from planner.catalogue.huggingface import model_from_config
from planner.demand.counts import forward_flops, parameter_counts
from planner.errors import BadInputError

TRUTH = Path(__file__).parent / "data" / "family_truth.csv"


def truth() -> list[dict[str, str]]:
    return list(csv.DictReader(line for line in TRUTH.read_text().splitlines() if not line.startswith("#")))


def named(row: dict[str, str]) -> str:
    return f"{row['class']}-{row['total']}"


@pytest.mark.parametrize("row", truth(), ids=named)
def test_parameters_equal_the_class(row: dict[str, str]) -> None:
    model = model_from_config(json.loads(row["config"]), id=row["type"], where=row["type"])
    assert parameter_counts(model)["total"] == int(row["total"])


@pytest.mark.parametrize("row", [r for r in truth() if r["forward_flops"]], ids=named)
def test_forward_flops_equal_the_counter(row: dict[str, str]) -> None:
    model = model_from_config(json.loads(row["config"]), id=row["type"], where=row["type"])
    flops = forward_flops(model, batch=1, seq_len=int(row["seq_len"]))
    assert flops["total"] == pytest.approx(float(row["forward_flops"]), rel=1e-3)


HIDDEN, BLOCKS = 512, [
    {"attention": {"n_heads_in_group": 4, "no_op": False}, "ffn": {"ffn_mult": 1.5, "no_op": False}},
    {"attention": {"n_heads_in_group": None, "no_op": True}, "ffn": {"ffn_mult": 1.0, "sparsify": None}},
    {"attention": {"replace_with_linear": True}, "ffn": {"no_op": True}},
]  # fmt: skip


def test_layers_found_by_search_each_have_their_size() -> None:
    config = {"model_type": "nemotron-nas", "hidden_size": HIDDEN, "num_hidden_layers": 3, "num_attention_heads": 8,
              "num_key_value_heads": None, "intermediate_size": None, "vocab_size": 1000, "block_configs": BLOCKS,
              "tie_word_embeddings": False, "max_position_embeddings": 4096}  # fmt: skip
    model = model_from_config(config, id="nas", where="nas")
    attention = 2 * HIDDEN * HIDDEN + 2 * HIDDEN * 2 * 64
    mlps = 3 * HIDDEN * 512 + 3 * HIDDEN * 512  # two thirds of 1.5 and of 1 times the width, up to a multiple of 256
    norms = (2 + 1 + 1 + 1) * HIDDEN
    assert parameter_counts(model)["total"] == attention + mlps + HIDDEN * HIDDEN + norms + 2 * 1000 * HIDDEN


@pytest.mark.parametrize(("half", "key", "value"), [
    ("attention", "n_heads_in_group", 3), ("ffn", "ffn_mult", "1"), ("ffn", "window_length", 8), ("ffn", "no_op", 2),
])  # fmt: skip
def test_a_layer_of_a_size_that_is_none_is_refused_by_name(half: str, key: str, value: object) -> None:
    block = {**BLOCKS[0], half: {**BLOCKS[0][half], key: value}}  # type: ignore[dict-item]
    config = {"model_type": "nemotron-nas", "hidden_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 8,
              "vocab_size": 1000, "block_configs": [block]}  # fmt: skip
    with pytest.raises(BadInputError, match=f"block_configs.0.{half}.{key}"):
        model_from_config(config, id="nas", where="nas")


def test_mimo_is_qwen2_with_layers_that_look_ahead() -> None:
    config = {"model_type": "mimo", "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32,
              "num_key_value_heads": 8, "intermediate_size": 11008, "vocab_size": 151680, "attention_bias": True,
              "tie_word_embeddings": False}  # fmt: skip
    bare = parameter_counts(model_from_config(config, id="mimo", where="mimo"))["total"]
    ahead = parameter_counts(model_from_config({**config, "num_nextn_predict_layers": 1}, id="m", where="m"))["total"]
    attention = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 4096 + 2 * 1024
    block = attention + 3 * 4096 * 11008
    assert bare == 36 * (block + 2 * 4096) + 4096 + 2 * 151680 * 4096
    assert ahead - bare == block + 2 * 4096 * 4096 + 5 * 4096  # two norms more are of what is joined, one is the last


def test_each_new_type_has_a_default_and_a_varied_row() -> None:
    types = [row["type"] for row in truth()]
    assert len(set(types)) >= 140
    assert sum(types.count(t) >= 2 for t in set(types)) >= 138


@pytest.mark.parametrize(("config", "said"), [
    ({"model_type": "llama", "architectures": ["LlamaForSequenceClassification"], "num_labels": 5,
      "id2label": {"0": "a", "1": "b", "2": "c"}}, "num_labels is 5 beside an id2label of 3 entries"),
    ({"model_type": "llama4_text", "layer_types": ["bogus"] * 48}, "layer_types.*'bogus'"),
    ({"model_type": "jamba", "num_hidden_layers": 2, "layers_block_type": ["mamba", "attention"]}, "layers_block_type"),
], ids=("labels", "llama4", "jamba"))  # fmt: skip
def test_what_is_said_twice_or_of_no_known_kind_is_refused_by_name(config: dict[str, object], said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        model_from_config(config, id="x", where="x")


def test_labels_said_twice_alike_are_one() -> None:
    config = {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"], "num_labels": 3}
    named_too = {**config, "id2label": {"0": "a", "1": "b", "2": "c"}}
    one, other = (parameter_counts(model_from_config(c, id="x", where="x")) for c in (config, named_too))
    assert one == other


@pytest.mark.parametrize(("name", "note"), [
    ("llama-3.3-70b", "model llama-3.3-70b is read as llama-3.1-70b, which has its shape"),
    ("meta-llama/Llama-3.1-70B-Instruct", None), ("google/gemma-3-4b-it", None),
])  # fmt: skip
def test_a_name_of_another_model_of_the_same_shape_is_told(name: str, note: str | None) -> None:
    e = planner.estimate(model=name, hardware="dgx-h100", devices=8, tp=4, task="decode")
    assert [a for a in e.assumed if "is read as" in a] == ([note] if note else [])
