"""Weights as they are stored: formats, lists of modules, names of copies, sizes of published checkpoints."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import planner
from planner.catalogue.formats import find_format, format_names, gguf_layout, layouts
from planner.catalogue.huggingface import model_from_config
from planner.catalogue.models import describe, load_model
from planner.catalogue.quantization import read_quantization
from planner.catalogue.schema import Model
from planner.cost.points import points, roofs, violations
from planner.demand.costs import op_costs, stored_bytes
from planner.demand.storage import Modules, bytes_by_precision, pieces
from planner.demand.transformer import demand
from planner.demand.workload import Precision, work
from planner.errors import BadInputError
from planner.planning.estimate import estimate_scenario
from planner.precision import DTYPES
from planner.scenario.stored import stored_model

DATA = Path(__file__).parent / "data"
ONE = np.ones(1)
DECODE: dict[str, object] = {"task": "decode", "model": "llama-3.1-8b", "hardware": "dgx-h100", "devices": 1}


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def weights(model: Model, *, towers: bool = True) -> float:
    """Bytes of a model's weights as stored."""
    plain = demand(model).total_parameters * 2.0
    return sum(bytes_by_precision(model, demand(model).sections, towers=towers).values()) or plain


def read(section: dict[str, object]) -> tuple[dict[str, float], str]:
    """Bits a value of each kind that a quantization_config stores narrow, and the dtype of its matmuls."""
    q = read_quantization({"quantization_config": section}, where="x.json", wide="bf16")
    assert q is not None
    return {kind: layout.bits_per_weight for kind, layout in q.kinds}, q.dtype


def llama(section: dict[str, object], **more: object) -> Model:
    """Llama 3.1 8B with a quantization_config."""
    config = describe("llama-3.1-8b")["config"] | {"quantization_config": section} | more
    return model_from_config(config, id="llama", where="config.json")


# Formats


@pytest.mark.parametrize("row", rows("formats.csv"), ids=lambda r: r["format"])
def test_every_format_is_known_or_refused_by_name(row: dict[str, str]) -> None:
    names = {"quark fp8 / mxfp4": ["quark fp8", "quark mxfp4"],
             "gguf removed ids 4,5,31,32,33,36,37,38": ["q4_2", "q4_3", "q4_0_4_4", "q4_0_4_8", "q4_0_8_8",
                                                        "iq4_nl_4_4", "iq4_nl_4_8", "iq4_nl_8_8"]}  # fmt: skip
    for name in names.get(row["format"], [row["format"]]):
        try:
            q = find_format(name)
        except BadInputError as error:
            assert "is refused: " in str(error) and name in str(error)
            continue
        assert q.dtype in DTYPES
        if row["bits_per_weight"].replace(".", "").isdigit() and " type " not in name:
            printed = float(row["bits_per_weight"])
            assert dict(q.kinds)["experts"].bits_per_weight == pytest.approx(printed, rel=1e-6)
        if " type " in name:
            layout = next(v for v in layouts().values() if v.name in _type_names(name))
            assert layout.bits == float(row["bits_per_weight"])


def _type_names(label: str) -> tuple[str, ...]:
    name = label.split()[2].lower()
    return (name, f"gguf_{name}")


@pytest.mark.parametrize("name", format_names())
def test_every_name_is_read_back(name: str) -> None:
    assert find_format(name.upper().replace("_", " ")).name == find_format(name).name == name


@pytest.mark.parametrize(
    ("name", "telling"),
    [
        ("q4_km", ["q4_km", "q4_k_m"]),
        ("UD-Q4_K_XL", ["refused", "q4_k_m"]),
        ("q8_1", ["refused", "never stored"]),
        ("hqq", ["refused"]),
        ("exl2-9.5", ["1 to 8"]),
        ("fp8-g64", ["no groups"]),
    ],
)
def test_other_names_are_refused_with_the_nearest(name: str, telling: list[str]) -> None:
    with pytest.raises(BadInputError) as error:
        find_format(name)
    assert all(t in str(error.value) for t in telling) and "\n" not in str(error.value)


@given(st.sampled_from(sorted(layouts())), st.integers(1, 300), st.integers(1, 40), st.integers(1, 9))
def test_a_matrix_is_its_values_and_what_they_share(name: str, rows: int, blocks: int, copies: int) -> None:
    """A scalar oracle: walk the rows, groups and tiles one by one."""
    layout, columns = layouts()[name], blocks * max(layouts()[name].block, 8)
    bits = 0.0
    for r in range(rows):
        bits += columns * layout.bits + layout.row_bits
        bits += layout.group_bits * len(range(0, columns, layout.group or columns))
        if layout.tile and r % layout.tile == 0:
            bits += layout.tile_bits * len(range(0, columns, layout.tile))
    bits += columns * layout.column_bits
    assert layout.bytes(rows, columns, copies) == pytest.approx(copies * bits / 8, rel=1e-12)


# GGUF files: the rules of llama.cpp, src/llama-quant.cpp


@pytest.mark.parametrize(("layers", "lifted"), [(26, 13), (28, 14), (32, 16), (36, 18), (48, 24), (61, 30), (80, 40)])
def test_about_half_of_the_layers_get_more_bits(layers: int, lifted: int) -> None:
    mix = find_format("q4_k_m").mix
    assert mix is not None
    names = [gguf_layout(mix, "ffn_down", columns=4096, layer=i, layers=layers, facts=frozenset()).name
             for i in range(layers)]  # fmt: skip
    assert names.count("q6_k") == lifted and set(names) == {"q6_k", "q4_k"}


@pytest.mark.parametrize(
    ("mix", "tensor", "columns", "facts", "layout"),
    [
        ("q4_k_m", "attn_q", 896, (), "q5_0"),  # 896 is no multiple of 256
        ("q6_k", "attn_q", 896, (), "q8_0"),
        ("q2_k", "ffn_up", 2880, (), "q4_0"),
        ("iq2_xs", "attn_q", 896, (), "iq4_nl"),
        ("q4_k_m", "attn_q", 900, (), "f16"),  # nor of 32
        ("q4_k_m", "output", 4096, (), "q6_k"),
        ("q4_k_m", "output", 896, (), "q8_0"),
        ("iq2_m", "output", 4096, (), "q5_k"),
        ("q8_0", "output", 4096, (), "q8_0"),
        ("q4_k_m", "output", 4096, ("falcon",), "q8_0"),
        ("q6_k_l", "token_embd", 4096, (), "q8_0"),
        ("iq1_s", "token_embd", 4096, (), "q2_k"),
        ("q2_k", "attn_v", 4096, ("gqa",), "q4_k"),
        ("q2_k", "attn_v", 4096, (), "q3_k"),
        ("q4_k_s", "attn_v", 4096, ("eight",), "q8_0"),
        ("q4_k_m", "attn_k", 4096, ("eight",), "q8_0"),
        ("q3_k_s", "attn_v", 8192, ("seventy",), "q5_k"),
        ("iq2_xxs", "attn_v", 4096, ("experts4",), "q4_k"),
        ("q4_k_m", "experts:ffn_down", 4096, (), "q6_k"),
        ("q4_k_m@2023", "experts:ffn_down", 4096, (), "q4_k"),
        ("mxfp4_moe", "experts:ffn_up", 2880, (), "gguf_mxfp4"),
        ("mxfp4_moe", "attn_q", 2880, (), "q8_0"),
        ("f16", "attn_q", 900, (), "f16"),
    ],
)
def test_which_tensor_gets_which_type(mix: str, tensor: str, columns: int, facts: tuple[str, ...], layout: str) -> None:
    rules = find_format(mix).mix
    assert rules is not None
    found = gguf_layout(rules, tensor, columns=columns, layer=0, layers=32, facts=frozenset(facts))
    assert found.name == layout


def test_q4_k_m_of_an_8b_model_is_4_58_gib() -> None:
    model = stored_model("llama-3.1-8b", "q4_k_m")
    assert round(weights(model) / 2**30, 2) == 4.58


def test_tensors_of_a_type_are_as_many_as_a_loader_counts() -> None:
    """llama.cpp's load log of DeepSeek-R1-Distill-Qwen-14B in Q4_K_M: 49 tensors in q6_K."""
    model = stored_model("DeepSeek-R1-Distill-Qwen-14B-Q4_K_M.gguf", None)
    assert sum(p.layout == "q6_k" for p in pieces(model, demand(model).sections)) == 49


# Published checkpoints

SIZES = rows("checkpoint_sizes.csv")
GIVEN = yaml.safe_load((DATA / "checkpoint_configs.yaml").read_text(encoding="utf-8"))


def error(row: dict[str, str]) -> float:
    """Relative error of one file's size; a GGUF file leaves the tower to a file of its own."""
    model = stored_model(row["model"], row["quantization"])
    return weights(model, towers=row["file"] != "gguf") / float(row["bytes"]) - 1.0


@pytest.fixture(scope="module")
def errors() -> dict[str, list[tuple[str, float]]]:
    """Errors of all files by whether a known reason leaves them out."""
    out: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for row in SIZES:
        out["left out" if row["left_out"] else row["file"]].append((row["id"], error(row)))
    return out


def test_sizes_of_published_files(errors: dict[str, list[tuple[str, float]]]) -> None:
    found = np.abs([e for kind in ("gguf", "safetensors") for _, e in errors[kind]])
    assert len(found) >= 190
    assert np.median(found) < 0.0025
    assert np.mean(found < 0.01) > 0.95
    assert np.mean(found < 0.03) > 0.99
    assert abs(np.mean([e for kind in ("gguf", "safetensors") for _, e in errors[kind]])) < 0.003


UNSAID = ("group not shown", "mixed by the publisher (DQ4plus)")  # of which the format isn't known


def test_sizes_with_what_is_left_out(errors: dict[str, list[tuple[str, float]]]) -> None:
    """Copies, padding and heads stored twice count too: all files whose format is known."""
    unsaid = {row["id"] for row in SIZES if row["left_out"] in UNSAID}
    found = np.abs([e for kind in errors for id, e in errors[kind] if id not in unsaid])
    assert len(found) >= 215 and np.median(found) < 0.0025 and np.mean(found < 0.03) >= 0.95


@pytest.mark.parametrize("file", ["gguf", "safetensors"])
def test_sizes_by_kind_of_file(file: str, errors: dict[str, list[tuple[str, float]]]) -> None:
    assert np.median(np.abs([e for _, e in errors[file]])) < 0.01


def test_few_files_are_left_out_and_each_for_a_reason(errors: dict[str, list[tuple[str, float]]]) -> None:
    assert len(errors["left out"]) < 0.06 * len(SIZES)
    assert all(abs(e) > 0.02 for _, e in errors["left out"]), "a file that fits needs no reason to be left out"


@pytest.mark.parametrize("name", GIVEN)
def test_sizes_of_models_given_by_their_configuration(name: str, tmp_path: Path) -> None:
    path = tmp_path / name / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(GIVEN[name]["config"]))
    for quantization, published in GIVEN[name]["sizes"].items():
        model = stored_model(str(path), quantization)
        assert weights(model) == pytest.approx(published, rel=0.02 if quantization == "q4_k_m" else 0.001)


def test_405b_in_fbgemm_fp8_on_eight_devices() -> None:
    """57.75 GiB a device as vLLM logs it for meta-llama/Llama-3.1-405B-Instruct-FP8 on 8 H100."""
    e = planner.estimate(**DECODE | {"model": "Llama-3.1-405B-Instruct-FP8", "devices": 8, "tp": 8,
                                     "quantization": "fbgemm_fp8"})  # fmt: skip
    assert e.memory["weights"] / 2**30 == pytest.approx(57.75, rel=0.02)


# quantization_config


@pytest.mark.parametrize(
    ("section", "bits", "dtype"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, 4 + 20 / 128, "int4"),
        ({"quant_method": "gptq", "bits": 8, "group_size": 32}, 8 + 24 / 32, "int8"),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, 4.0, "int4"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, 4 + 20 / 128, "int4"),
        ({"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": False}, 4 + 16 / 64, "int4"),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True}, 4 + 20 / 128, "int4"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8 + 32 / 128**2, "fp8"),
        ({"quant_method": "fp8", "activation_scheme": "static"}, 8.0, "fp8"),
        ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head"]}, 8.0, "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16}, 4.5, "nvfp4"),
        ({"quant_algo": "FP8", "producer": {"name": "modelopt"}}, 8.0, "fp8"),
        ({"quantization": {"quant_algo": "W4A16_AWQ", "group_size": 64}}, 4 + 16 / 64, "int4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, 4.5, "int4"),
        ({"load_in_4bit": True, "bnb_4bit_use_double_quant": True}, 4 + 8 / 64 + 32 / (64 * 256), "int4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8.0, "int8"),
        ({"bits": 4, "group_size": 64}, 4.5, "int4"),
        ({"quant_method": "exl2", "bits": 4.65, "head_bits": 6}, 4.65, "int4"),
        ({"quant_method": "torchao", "quant_type": "int4_weight_only"}, 4 + 32 / 128, "int4"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}}, 8.0, "fp8"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_what_quantisers_write_is_read(section: dict[str, object], bits: float, dtype: str) -> None:
    found, runs_in = read(section)
    assert found["linear"] == found["experts"] == pytest.approx(bits, rel=1e-9)
    assert runs_in == dtype
    in_mlx = section.keys() == {"bits", "group_size"}
    assert ("embedding" in found) == in_mlx  # the one that quantises token tables


@pytest.mark.parametrize(
    ("scheme", "bits"),
    [
        ({"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True}, 4 + 16 / 128),
        ({"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": False}, 4 + 20 / 128),
        ({"num_bits": 8, "type": "int", "strategy": "channel"}, 8.0),
        ({"num_bits": 8, "type": "float", "strategy": "tensor"}, 8.0),
        ({"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}, 8 + 16 / 128**2),
        ({"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}, 4.5),
        ({"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32}, 4.25),
    ],
)
def test_schemes_of_compressed_tensors(scheme: dict[str, object], bits: float) -> None:
    group = {"weights": scheme, "targets": ["Linear"]}
    found, _ = read({"quant_method": "compressed-tensors", "config_groups": {"group_0": group}, "ignore": ["lm_head"]})
    assert found["linear"] == pytest.approx(bits, rel=1e-9)


@pytest.mark.parametrize(
    ("section", "telling"),
    [
        ({"quant_method": "gpqt"}, ["quant_method", "gpqt", "gptq"]),
        ({"quant_method": "aqlm"}, ["quant_method", "refused"]),
        ({"quant_method": "gptq", "bits": "four"}, ["bits", "four"]),
        ({"quant_method": "awq", "group_size": 1.5}, ["group_size", "1.5"]),
        ({"quant_method": "fp8", "weight_block_size": [128, 64]}, ["weight_block_size"]),
        ({"quant_method": "gptq", "modules_to_not_convert": "lm_head"}, ["modules_to_not_convert", "a list"]),
        ({"quant_method": "compressed-tensors"}, ["config_groups"]),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, ["quantized_layers"]),
        ({"quant_method": "modelopt", "quant_algo": "NVFP5"}, ["quant_algo", "NVFP4"]),
        ({"quant_method": "torchao", "quant_type": None}, ["quant_type"]),
        ({"quant_method": "gptq", "modules_to_not_convert": ["lm_haed"]}, ["lm_haed", "lm_head"]),
        ({"quant_method": "fp8", "ignored_layers": ["re:(", "lm_head"]}, ["regular expression"]),
        ({"quant_method": "fp8", "modules_to_not_convert": ["model.layers.99.mlp.gate"]}, ["none of the modules"]),
    ],
    ids=lambda v: str(v)[:40],
)
def test_what_cannot_be_read_is_one_clear_error(section: dict[str, object], telling: list[str]) -> None:
    with pytest.raises(BadInputError) as error:
        demand(llama(section))
    text = str(error.value)
    assert all(t in text for t in telling) and "\n" not in text


ATTENTION, UP, DOWN = 2 * 4096**2 + 2 * 1024 * 4096, 2 * 14336 * 4096, 14336 * 4096


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["lm_head"], 0),
        (["model.layers.0.self_attn.q_proj"], 4096**2),
        (["self_attn"], 32 * ATTENTION),
        (["model.layers.*.self_attn"], 32 * ATTENTION),
        (["re:.*self_attn.*", "lm_head"], 32 * ATTENTION),
        (["model.layers.1.*", "model.layers.10*"], 2 * (ATTENTION + UP + DOWN)),
        (["re:model\\.layers\\.1\\..*"], ATTENTION + UP + DOWN),
        (["model.layers.0", "model.layers.-1"], 2 * (ATTENTION + UP + DOWN)),
        (["down_proj.weight"], 32 * DOWN),
    ],
)
def test_modules_that_stay_as_they_were(patterns: list[str], left: int) -> None:
    """Values of the layers' matrices in 16 bits."""
    d = demand(llama({"quant_method": "fp8", "modules_to_not_convert": patterns}))
    matrices = [p for p in pieces(d.model, d.sections) if d.sections[p.section].role == "layer"
                and d.sections[p.section].table.ops[p.op].kernel == "matmul"]  # fmt: skip
    assert sum(p.values for p in matrices) == 32 * (ATTENTION + UP + DOWN)
    assert sum(p.values for p in matrices if p.layout == "bf16") == left


def test_embedding_head_router_and_norms_stay_wide() -> None:
    model = stored_model("qwen3-30b-a3b", "fp8")
    d = demand(model)
    wide = {d.sections[p.section].table.ops[p.op].name for p in pieces(model, d.sections) if p.layout == "bf16"}
    assert {"embedding.tokens", "head.logits", "moe.router", "norm.1", "attn.qk_norm"} <= wide
    assert not {"attn.qkv", "attn.out", "moe.up", "moe.down"} & wide


def test_experts_alone_are_narrow_in_gpt_oss() -> None:
    model = load_model("gpt-oss-20b")
    held = bytes_by_precision(model, demand(model).sections)
    experts = 2 * 2880 * 2880 * 32 * 24 + 2880 * 2880 * 32 * 24
    assert held["mxfp4"] == experts * 17 / 32
    assert held["bf16"] == 2.0 * (demand(model).total_parameters - experts)


def test_expert_dtype_is_read() -> None:
    model = load_model("deepseek-v4-pro")
    assert model.quantization is not None
    assert {k: v.name for k, v in model.quantization.kinds} == {"linear": "fp8-block", "experts": "mxfp4"}
    config = describe("deepseek-v4-pro")["config"] | {"expert_dtype": "fp3"}
    with pytest.raises(BadInputError, match=r"expert_dtype.*fp3"):
        model_from_config(config, id="x", where="x")


def test_single_layers_may_be_narrower() -> None:
    """A ModelOpt checkpoint of mixed precision: NVFP4 in the experts of one layer, fp8 in all else."""
    layers = {"model.layers.3.mlp.experts": {"quant_algo": "NVFP4", "group_size": 16}}
    section = {"quant_method": "fp8", "weight_block_size": [128, 128], "quantized_layers": layers}
    config = describe("qwen3-30b-a3b")["config"] | {"quantization_config": section}
    model = model_from_config(config, id="mixed", where="x")
    held = bytes_by_precision(model, demand(model).sections)
    assert held["nvfp4"] == 3 * 2048 * 768 * 128 * (4.5 / 8)


def test_globs_and_names_mean_whole_parts() -> None:
    modules = Modules(["model.layers.1*", "gate", "re:.*shared.*"])
    assert modules.match(["layers.12.self_attn.q_proj"]) and modules.match(["layers.3.mlp.gate"])
    assert not modules.match(["layers.3.mlp.gate_proj"]) and not modules.match(["layers.2.mlp.up_proj"])
    assert modules.match(["layers.2.mlp.shared_experts.up_proj"])


@pytest.mark.parametrize("name", ["hf_quant_config.json", "quantize_config.json"])
def test_a_file_beside_the_configuration_is_read(name: str, tmp_path: Path) -> None:
    beside = {
        "hf_quant_config.json": {"quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}},
        "quantize_config.json": {"bits": 4, "group_size": 32, "desc_act": True},
    }[name]
    (tmp_path / "config.json").write_text(json.dumps(describe("llama-3.1-8b")["config"]))
    (tmp_path / name).write_text(json.dumps(beside))
    q = load_model(tmp_path).quantization
    assert (
        q is not None and q.name == {"hf_quant_config.json": "modelopt-fp8", "quantize_config.json": "gptq-int4"}[name]
    )


# Memory and traffic


@pytest.mark.parametrize(
    "quantization", ["q4_k_m", "iq3_xs", "awq", "gptq-int4-g32", "fp8", "nvfp4", "nf4-dq", "mlx-4bit"]
)
@pytest.mark.parametrize("model", ["llama-3.1-8b", "qwen3-30b-a3b", "deepseek-v2-lite", "gemma-3-4b", "falcon-40b"])
def test_operators_sum_to_the_checkpoint(model: str, quantization: str) -> None:
    d = demand(stored_model(model, quantization))
    one = sum(stored_bytes(s.table, tp=ONE, ep=ONE, etp=ONE, width=2.0)[0] * s.count for s in d.sections if s.table.ops)
    assert one == pytest.approx(weights(d.model), rel=1e-9)


@pytest.mark.parametrize("quantization", ["q4_k_m", "awq", "fp8"])
def test_devices_sum_to_the_checkpoint(quantization: str) -> None:
    """Tensor parallelism divides all but norms, and those are copied."""
    d = demand(stored_model("llama-3.1-8b", quantization))
    tp = np.array([1.0, 8.0])
    held = sum(
        stored_bytes(s.table, tp=tp, ep=np.ones(2), etp=np.ones(2), width=2.0) * s.count
        for s in d.sections
        if s.table.ops
    )
    assert held[1] * 8 == pytest.approx(held[0], rel=2e-3) and held[1] * 8 > held[0]


def test_decode_reads_the_weights_as_stored() -> None:
    d = demand(stored_model("llama-3.1-8b", "q4_k_m"))
    w = work(batch=1, q_len=1, kv_len=1024, decode=1.0)
    read_ = stored = 0.0
    for s in d.sections:
        matrices = np.array([o.kernel == "matmul" for o in s.table.ops])
        read_ += float((op_costs(s.table, w, Precision(weight="int4")).weight_bytes[0]).sum()) * s.count
        stored += float((s.table.parameters * s.table.columns["stored"] * matrices).sum()) * s.count
    assert read_ == pytest.approx(stored, rel=1e-12)


def test_a_tied_head_reads_the_table_at_the_tables_width() -> None:
    d = demand(stored_model("gemma-2-9b", "q4_k_m"))
    head = next(o for s in d.sections for o in s.table.ops if o.name == "head.logits")
    table = next(o for s in d.sections for o in s.table.ops if o.name == "embedding.tokens")
    assert head.tied and head.stored == table.stored == 6.5625 / 8


def test_a_plain_model_has_no_width_of_its_own() -> None:
    d = demand(load_model("llama-3.1-8b"))
    assert not any(o.stored for s in d.sections for o in s.table.ops)


# Names


@pytest.mark.parametrize(
    ("name", "id", "quantization"),
    [
        ("Qwen3-32B-FP8", "qwen3-32b", "fp8"),
        ("Qwen/Qwen3-32B-AWQ", "qwen3-32b", "awq"),
        ("Qwen3-30B-A3B-GPTQ-Int4", "qwen3-30b-a3b", "gptq-int4"),
        ("unsloth/Qwen3-32B-GGUF:Q4_K_M", "qwen3-32b", "q4_k_m"),
        ("bartowski/Meta-Llama-3.1-8B-Instruct-Q5_K_S.gguf", "llama-3.1-8b", "q5_k_s"),
        ("llama-2-7b.Q2_K.gguf", "llama-2-7b", "q2_k"),
        ("unsloth/Llama-3.2-1B-Instruct", "llama-3.2-1b", None),
        ("DeepSeek-R1-Distill-Llama-70B", "llama-3.1-70b", None),
        ("mistralai/Mistral-7B-Instruct-v0.2", "mistral-7b-v0.1", None),
        ("nvidia/Llama-3.1-Nemotron-70B-Instruct-HF", "llama-3.1-70b", None),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "qwen3-30b-a3b", None),
        ("meta-llama/Llama-3.1-405B-Instruct-FP8", "llama-3.1-405b", "fbgemm_fp8"),
        ("nvidia/Llama-3.1-70B-Instruct-FP8", "llama-3.1-70b", "modelopt-fp8"),
        ("mlx-community/Qwen3-0.6B-4bit", "qwen3-0.6b", "mlx-4bit"),
        ("neuralmagic/Qwen2.5-14B-quantized.w8a8", "qwen2.5-14b", "w8a8"),
        ("unsloth/llama-3-8b-bnb-4bit", "llama-3-8b", "nf4-dq"),
    ],
)
def test_names_of_copies_resolve_and_say_to_what(name: str, id: str, quantization: str | None) -> None:
    model = load_model(name)
    assert model.id == id and (model.quantization.name if model.quantization else None) == quantization
    assert name in model.assumed[0] and id in model.assumed[0] and (quantization or "") in model.assumed[0]
    e = planner.estimate(**DECODE | {"model": name, "devices": 8, "tp": 8})
    assert model.assumed[0] in e.assumed and e.inputs["quantization"] == (quantization or "none")


@pytest.mark.parametrize(
    ("name", "telling"),
    [
        ("Qwen3-32B-GGUF", ["which", "Q4_K_M"]),
        ("Qwen3-32B-GGUF:Q4_K_XL", ["refused"]),
        ("Qwen3-32C-AWQ", ["Qwen3-32C-AWQ", "qwen3-32b"]),
        ("unsloth/Qwen3-8B-unsloth-bnb-4bit", ["measurement"]),
        ("some/Thing-7B-GGUF:Q4_K_M", ["unknown model"]),
    ],
)
def test_names_that_tell_too_little_are_refused(name: str, telling: list[str]) -> None:
    with pytest.raises(BadInputError) as error:
        load_model(name)
    assert all(t in str(error.value) for t in telling)


# The scenario


@pytest.mark.parametrize(
    ("given_", "weight_dtype", "quantization"),
    [
        ({}, "bf16", "none"),
        ({"quantization": "q4_k_m"}, "int4", "q4_k_m"),
        ({"weight_dtype": "Q4_K_M"}, "int4", "q4_k_m"),
        ({"quantization": "fp8", "weight_dtype": "fp8"}, "fp8", "fp8"),
        ({"model": "gpt-oss-20b"}, "mxfp4", "checkpoint"),
        ({"model": "kimi-k2.5", "devices": 64, "tp": 8}, "int4", "checkpoint"),
        ({"model": "gpt-oss-20b", "weight_dtype": "bf16"}, "bf16", "none"),
        ({"model": "gpt-oss-20b", "quantization": "none"}, "bf16", "none"),
        ({"model": "gpt-oss-20b", "weight_dtype": "mxfp4"}, "mxfp4", "checkpoint"),
        ({"model": "gpt-oss-20b", "quantization": "q4_k_m"}, "int4", "q4_k_m"),
        ({"model": "Qwen3-32B-GGUF", "quantization": "q8_0"}, "int8", "q8_0"),
    ],
    ids=str,
)
def test_a_run_says_how_its_weights_are_stored_and_can_be_given_again(
    given_: dict[str, object], weight_dtype: str, quantization: str
) -> None:
    e = planner.estimate(**DECODE | given_)
    assert (e.inputs["weight_dtype"], e.inputs["quantization"]) == (weight_dtype, quantization)
    keys = {k: v for k, v in e.inputs.items() if k != "accelerator"}
    assert estimate_scenario(keys, today=date.today()).results == e.results


def test_what_the_checkpoint_leaves_in_16_bits_is_multiplied_in_16_bits() -> None:
    """fbgemm leaves attention alone: its projections take the time they take in a bf16 model, the MLPs do not."""
    keys = {"task": "prefill", "model": "llama-3.1-70b", "devices": 8, "tp": 8, "input_len": 8192}
    plain, narrow = (planner.estimate(**DECODE | keys | q) for q in ({}, {"quantization": "fbgemm_fp8"}))
    assert (plain.inputs["compute_dtype"], narrow.inputs["compute_dtype"]) == ("bf16", "fp8")
    assert narrow.time["forward.attention"] == pytest.approx(plain.time["forward.attention"], rel=1e-12)
    assert narrow.time["forward.head"] == pytest.approx(plain.time["forward.head"], rel=1e-12)
    assert 0.5 < narrow.time["forward.mlp"] / plain.time["forward.mlp"] < 0.75
    dtypes = {p.name: p.dtype for p in points(narrow.job)}
    assert (dtypes["attn.qkv"], dtypes["mlp.up"], dtypes["head.logits"]) == ("bf16", "fp8", "bf16")
    assert not violations(points(narrow.job), roofs(narrow.job))


def test_experts_of_gpt_oss_compute_in_four_bits_and_its_attention_does_not() -> None:
    keys = {"task": "prefill", "model": "gpt-oss-20b", "hardware": "dgx-b200", "batch": 4}
    dtypes = {p.name.split(" (")[0]: p.dtype for p in points(planner.estimate(**DECODE | keys).job)}
    assert (dtypes["attn.qkv"], dtypes["moe.up"], dtypes["moe.router"]) == ("bf16", "mxfp4", "bf16")


def test_weight_only_formats_are_widened_before_they_are_multiplied() -> None:
    chips = (
        {"quantization": "gptq-int8", "hardware": "dgx-a100-80gb"},
        {"quantization": "w8a8", "hardware": "dgx-a100-80gb"},
    )
    assert [planner.estimate(**DECODE | c).inputs["compute_dtype"] for c in chips] == ["bf16", "int8"]


@pytest.mark.parametrize(
    ("given_", "telling"),
    [
        ({"quantization": "q4km"}, ["quantization", "q4_k_m"]),
        ({"weight_dtype": "bf61"}, ["weight_dtype", "bf16"]),
        ({"quantization": "q4_k_m", "weight_dtype": "fp8"}, ["weight_dtype", "q4_k_m", "int4"]),
        ({"quantization": "awq", "weight_dtype": "q4_k_m"}, ["weight_dtype", "awq"]),
        ({"quantization": "checkpoint"}, ["llama-3.1-8b", "none of its own"]),
        ({"quantization": "fp8", "sparsity": "2:4"}, ["sparsity", "fp8"]),
        ({"task": "train", "quantization": "nf4"}, ["lora_rank", "nf4"]),
    ],
    ids=str,
)
def test_contradictions_are_one_clear_error(given_: dict[str, object], telling: list[str]) -> None:
    with pytest.raises(BadInputError) as error:
        planner.estimate(**DECODE | given_)
    assert all(t in str(error.value) for t in telling) and "\n" not in str(error.value)


def test_adapters_train_on_quantised_weights() -> None:
    base = {"task": "train", "model": "llama-3.1-8b", "hardware": "dgx-h100", "devices": 1, "global_batch": 1,
            "lora_rank": 16, "micro_batch": 1, "recompute": "full"}  # fmt: skip
    plain, narrow = (planner.estimate(**base | q).memory["weights"] for q in ({}, {"quantization": "nf4-dq"}))
    model = stored_model("llama-3.1-8b", "nf4-dq")
    assert plain - narrow == pytest.approx(2 * demand(model).total_parameters - weights(model), rel=1e-3)


def test_a_summary_shows_bytes_by_precision() -> None:
    data = planner.summary("llama-3.1-8b", quantization="q4_k_m")
    assert set(data["weight_bytes"]) == {"q4_k", "q6_k", "f32"}
    assert sum(data["weight_bytes"].values()) == pytest.approx(sum(r["weight_bytes"] for r in data["layers"]))
    assert planner.summary("llama-3.1-8b")["weight_bytes"] == {"bf16": 2.0 * 8030261248}


def test_pruned_models_keep_their_quantization() -> None:
    model = replace(stored_model("llama-3.1-8b", "q4_k_m"))
    whole = planner.estimate(**DECODE | {"quantization": "q4_k_m"}).memory["weights"]
    half = planner.estimate(**DECODE | {"quantization": "q4_k_m", "compression": "depth:0.5"}).memory["weights"]
    assert 0.5 < half / whole < 0.6 and model.quantization is not None
