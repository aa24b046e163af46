"""The scenario's vocabulary: what is read, what is refused and in which words; no value ends in a traceback."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.catalogue.loader import built_in
from planner.errors import BadInputError
from planner.planning.estimate import COLUMNS, estimate_rows, estimate_scenario
from planner.scenario.keys import KEYS, LARGEST, amount, parse_scenario

TODAY = date(2026, 11, 1)
BASE: dict[str, object] = {"model": "llama-3.1-8b", "hardware": "dgx-h100", "devices": 8, "global_batch": 32}
DECODE: dict[str, object] = {"task": "decode", "model": "llama-3.1-8b", "hardware": "dgx-h100", "devices": 8}


def refused(scenario: dict[str, object]) -> str:
    """The one line a bad scenario is answered with."""
    with pytest.raises(BadInputError) as error:
        estimate_scenario(scenario, today=TODAY)
    text = str(error.value)
    assert "\n" not in text
    return text


# Reading


def test_text_and_numbers_are_the_same() -> None:
    given_text = parse_scenario({"devices": " 8 ", "global_batch": "32.0", "recompute": "FULL", "overlap_dp": "no"})
    assert given_text == {"devices": 8, "global_batch": 32, "recompute": "full", "overlap_dp": False}


def test_missing_cells_are_left_out() -> None:
    assert parse_scenario({"devices": "", "tp": None, "pp": math.nan, "cp": "  "}) == {}


@pytest.mark.parametrize("key", [k for k, v in KEYS.items() if v.kind == "int"])
@pytest.mark.parametrize("value", ["-1", "inf", "-inf", "1.5", "x", "1e30", "0x10", "1_0", "٣.5", "99999999999"])
def test_sizes_refuse_what_is_no_size(key: str, value: str) -> None:
    if value == "1_0":
        return
    with pytest.raises(BadInputError, match=key):
        parse_scenario({key: value})


@pytest.mark.parametrize("key", [k for k, v in KEYS.items() if v.kind == "int" and v.least >= 1])
def test_zero_is_no_size(key: str) -> None:
    with pytest.raises(BadInputError, match=key):
        parse_scenario({key: 0})


@pytest.mark.parametrize("key", [k for k, v in KEYS.items() if v.kind == "quantity"])
@pytest.mark.parametrize("value", [1, 2.5, "3", "x", "1e400 s", "5 W", "-1 s", True, [1]])
def test_quantities_refuse_what_has_not_their_unit(key: str, value: object) -> None:
    with pytest.raises(BadInputError, match=key):
        parse_scenario({key: value})


@pytest.mark.parametrize(
    ("given_text", "kept", "base"),
    [
        ({"network_bandwidth": "400Gbit/s"}, "400Gbit/s", 50e9),
        ({"network_latency": " 30   ms "}, "30 ms", 0.03),
        ({"memory_capacity": "80 GiB"}, "80 GiB", 80 * 2.0**30),
        ({"price": "2.5 USD/hour"}, "2.5 USD/hour", 2.5),
    ],
    ids=str,
)
def test_quantities_are_kept_as_written(given_text: dict[str, object], kept: str, base: float) -> None:
    (key,) = given_text
    once = parse_scenario(given_text)
    assert once == {key: kept} and parse_scenario(once) == once
    assert amount(once, key) == base
    assert amount({}, key) is None


@pytest.mark.parametrize("key", [k for k, v in KEYS.items() if v.kind == "choice"])
def test_choices_name_what_is_allowed(key: str) -> None:
    with pytest.raises(BadInputError) as error:
        parse_scenario({key: "nonsense"})
    assert KEYS[key].allowed[0] in str(error.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(BadInputError) as error:
        parse_scenario({"devces": 8, "tp": -1, "recompute": "some", "dp": "many"})
    text = str(error.value)
    assert "'devces'; nearest: devices" in text
    assert all(word in text for word in ("tp: -1", "'some'", "'many'"))


# Refusals of a whole scenario


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "llama-3.1-71b"}, ["model", "llama-3.1-70b"]),
        ({"hardware": "h101-sxm5"}, ["h101-sxm5", "h100-sxm5-80gb"]),
        ({"compute_dtype": "fp9"}, ["compute_dtype", "fp8"]),
        ({"compute_dtype": "nvfp4"}, ["h100-sxm5-80gb has no nvfp4", "bf16"]),
        ({"weight_dtype": "int4", "compute_dtype": "fp8"}, ["weight_dtype", "int4"]),
        ({"tp": 3}, ["tp 3", "8 devices"]),
        ({"tp": 6, "devices": 6}, ["tp 6", "heads"]),
        ({"dp": 4, "tp": 4}, ["dp 4", "tp 4", "8 devices"]),
        ({"pp": 64, "devices": 64, "global_batch": 64}, ["pp 64", "32 layers"]),
        ({"ep": 2}, ["ep 2", "no experts"]),
        ({"model": "mixtral-8x7b", "ep": 16, "devices": 16}, ["ep 16", "8 experts"]),
        ({"micro_batch": 3}, ["global_batch 32", "micro_batch 3"]),
        ({"global_batch": 4}, ["global_batch 4", "dp 8"]),
        ({"vpp": 4}, ["vpp 4", "pp"]),
        ({"cp": 8, "seq_len": 4100}, ["cp 8", "4100"]),
        ({"zero_stage": 4}, ["zero_stage", "0", "3"]),
        ({"sparsity": "2:4", "hardware": "mi250x-64gb"}, ["sparsity", "mi250x-64gb"]),
        ({"compression": "width:2"}, ["compression"]),
        ({"compression": "wdith:0.5"}, ["compression", "width"]),
        ({"engine": "vlm", "task": "decode"}, ["engine", "ideal"]),
        ({"devices": LARGEST + 1}, ["devices", "outside"]),
        ({"devices": 64, "hardware": "l40s-48gb", "global_batch": 64}, ["devices"]),
        ({"model": ""}, ["model: missing"]),
        ({"hardware": None}, ["hardware: missing"]),
    ],
    ids=lambda v: "-".join(f"{k}={x}" for k, x in v.items()) if isinstance(v, dict) else "",
)
def test_refusals(change: dict[str, object], words: list[str]) -> None:
    text = refused(BASE | change)
    assert all(w in text for w in words), text


def test_tf32_multiplies_fp32_activations() -> None:
    keys = {"model": "gpt2", "hardware": "a100-sxm4-80gb", "devices": 1, "global_batch": 8, "compute_dtype": "tf32"}
    e = estimate_scenario({"task": "train", **keys}, today=TODAY)
    assert (e.inputs["activation_dtype"], e.inputs["weight_dtype"]) == ("fp32", "fp32")


def test_sequences_of_many_million_tokens_are_estimated() -> None:
    keys = {"model": "llama-3.1-8b", "hardware": "tpu-v7x-pod", "devices": 128, "global_batch": 1, "cp": 128}
    e = estimate_scenario({"task": "train", "seq_len": 2**24, **keys}, today=TODAY)
    assert 0.0 < e.results["mfu"] < 1.0


def test_the_dtypes_that_a_chip_has_are_listed() -> None:
    assert all(d in refused(BASE | {"compute_dtype": "mxfp4"}) for d in ("bf16", "fp16", "fp8", "int8"))


# Rows


def test_a_bad_row_leaves_the_others_unharmed_and_in_order() -> None:
    rows = [BASE, BASE | {"tp": 3}, DECODE, {"nonsense": 1}, BASE | {"hardware": "h1000"}, DECODE]
    out = list(estimate_rows(rows, today=TODAY))
    assert [bool(r["error"]) for r in out] == [False, True, False, True, True, False]
    assert out[0]["step_time_s"] == next(iter(estimate_rows([BASE], today=TODAY)))["step_time_s"]
    assert out[2]["tpot_s"] == out[5]["tpot_s"]
    assert out[1]["tp"] == 3
    assert all("\n" not in str(r["error"]) for r in out)


@pytest.mark.parametrize("scenario", [BASE, DECODE], ids=["train", "decode"])
def test_a_row_holds_every_column(scenario: dict[str, object]) -> None:
    row = next(iter(estimate_rows([scenario], today=TODAY)))
    assert set(COLUMNS) <= set(row)
    parts = [v for k, v in row.items() if k.startswith("memory_") and k != "memory_peak_bytes" and v is not None]
    assert sum(float(str(p)) for p in parts) == pytest.approx(float(str(row["memory_peak_bytes"])))


def test_the_interval_holds_the_estimate() -> None:
    r = estimate_scenario(BASE, today=TODAY).results
    low, mid, high = (float(str(r[k])) for k in ("step_time_low_s", "step_time_s", "step_time_high_s"))
    assert 0 < low <= mid <= high


# Fuzz

WILD = st.one_of(
    st.integers(-(10**9), 10**9),
    st.integers(1, 128),
    st.floats(),
    st.booleans(),
    st.none(),
    st.sampled_from(
        ["", " ", "nan", "inf", "-inf", "1e400", "0", "-1", "true", "8 ", "none", "2:4", "width:0", "heads:nan"]
    ),
    st.text(max_size=12),
    st.lists(st.integers(), max_size=2),
)


def likely(name: str) -> st.SearchStrategy[object]:
    """Mostly what a key allows, sometimes anything."""
    key = KEYS[name]
    if key.choices:
        return st.one_of(st.sampled_from(key.choices), st.sampled_from(key.choices), WILD)
    if key.kind == "int":
        return st.one_of(st.sampled_from([0, 1, 2, 3, 4, 8, 16, 1000, 10**7]), st.sampled_from([1, 2, 4, 8]), WILD)
    if key.kind == "quantity":
        sizes = st.sampled_from(["0", "1", "7.5", "1e3", "-1", "1e400"])
        units = st.sampled_from(["GB/s", "Gbit/s", "us", "ms", "GiB", "B", "USD/hour", "", "W"])
        return st.one_of(st.builds(lambda n, u: f"{n} {u}", sizes, units), WILD)
    return st.one_of(st.booleans(), WILD)


NAMES = {
    "model": st.sampled_from(["llama-3.1-8b", "mixtral-8x7b", "transformer-base", "gpt2", "no-such", "../x", ""]),
    "hardware": st.sampled_from(["dgx-h100", "l40s-48gb", "mi250x-64gb", "t4-16gb", "tpu-v5p-95gb", "h1"]),
    "engine": st.sampled_from(["ideal", "vllm", "nothing", ""]),
    "compression": st.sampled_from(
        ["none", "width:0.5", "heads:0.5", "depth:0.25", "width:", ":", "student:gpt2", "x:1"]
    ),
}


@st.composite
def scenarios(draw: st.DrawFn) -> dict[str, object]:
    """A model, hardware and a handful of other keys, most of them sensible."""
    keys = draw(st.lists(st.sampled_from(sorted(set(KEYS) - {"model", "hardware"})), unique=True, max_size=5))
    return {k: draw(NAMES.get(k, likely(k))) for k in ("model", "hardware", *keys)}


@settings(max_examples=60, deadline=None)
@given(scenario=scenarios())
def test_any_scenario_is_estimated_or_refused(scenario: dict[str, object]) -> None:
    answered_or_refused(scenario)


@pytest.mark.exhaustive
@settings(max_examples=600, deadline=None)
@given(scenario=scenarios())
def test_any_of_many_scenarios_is_estimated_or_refused(scenario: dict[str, object]) -> None:
    answered_or_refused(scenario)


def answered_or_refused(scenario: dict[str, object]) -> None:
    (row,) = estimate_rows([scenario], today=TODAY)
    assert "\n" not in str(row["error"])
    if not row["error"]:
        assert math.isfinite(float(str(row["step_time_s"]))) and float(str(row["step_time_s"])) > 0
        assert float(str(row["memory_peak_bytes"])) > 0
        assert 0 <= float(str(row["mfu"])) <= 1


@settings(max_examples=100, deadline=None)
@given(scenario=st.dictionaries(st.text(max_size=10), WILD, max_size=4))
def test_any_mapping_is_read_or_refused(scenario: dict[str, object]) -> None:
    (row,) = estimate_rows([scenario], today=TODAY)
    assert row["error"]


# Intervals by chip


def ends(hardware: str, task: str = "decode", **keys: object) -> tuple[float, float, str]:
    e = estimate_scenario({"model": "gpt2", "hardware": hardware, "task": task, **keys}, today=date(2026, 11, 1))
    return e.interval.low, e.interval.high, e.interval.basis


def test_a_chip_that_ran_the_task_has_the_interval_of_its_regime() -> None:
    low, high, basis = ends("rtx-4090-24gb")
    assert low > 0.5 and high < 2.0 and "none of" not in basis and "regime infer.decode" in basis


def test_a_chip_whose_own_matmuls_were_measured_has_it_too_and_says_so() -> None:
    low, high, basis = ends("h100-sxm5-80gb")
    assert low > 0.5 and high < 2.0 and "none of h100-sxm5-80gb" in basis


@pytest.mark.parametrize("task", ["decode", "prefill", "train", "serve"])
def test_a_class_is_said_to_be_a_class_and_has_the_wide_interval(task: str) -> None:
    low, high, basis = ends("h100-nvl-94gb", task)
    assert low <= 0.5 and high >= 2.0 and "class nvidia-hopper" in basis and "no published" in basis


def test_an_invented_chip_has_the_wide_interval(tmp_path: Path) -> None:
    text = (built_in() / "accelerators" / "nvidia" / "h100-nvl-94gb.yaml").read_text()
    text = text.replace("id: h100-nvl-94gb", "id: invented-94gb").replace("aliases:", "aliases: [] #")
    (tmp_path / "invented-94gb.yaml").write_text(text)
    e = estimate_scenario(
        {"model": "gpt2", "hardware": "invented-94gb"}, dirs=(str(tmp_path),), today=date(2026, 11, 1)
    )
    assert e.interval.low <= 0.5 and e.interval.high >= 2.0 and "invented-94gb" in e.interval.basis
