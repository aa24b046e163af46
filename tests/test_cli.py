"""The command line: what it answers, in which form, and that bad input is one clear line and an exit code."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Cli

from planner.present.verbs import verbs
from planner.scenario.keys import KEYS

ROOT = Path(__file__).resolve().parent.parent
LAYOUT = ("llama-3.1-8b", "dgx-h100", "--devices", "8", "--tp", "8")
DECODE = (*LAYOUT, "--task", "decode", "--batch", "4")
HEADER = "task,model,hardware,devices,tp,batch\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def one_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("planner: ")
    return lines[0]


# Bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["estimate"], ["model", "missing"]),
        (["estimate", "llama-3.1-8b"], ["hardware", "missing"]),
        (["estimate", "llama-3.1-9b", "dgx-h100"], ["llama-3.1-9b", "nearest", "llama-3.1-8b"]),
        (["estimate", "llama-3.1-8b", "dgx-h10"], ["dgx-h10", "nearest", "dgx-h100"]),
        (["estimate", *LAYOUT, "--devces", "8"], ["--devces", "--devices"]),
        (["estimate", *LAYOUT, "--compute-dtype", "fp4"], ["fp4", "nvfp4", "allowed", "bf16"]),
        (["estimate", *LAYOUT, "--compute-dtype", "nvfp4"], ["h100-sxm5-80gb", "nvfp4", "fp8"]),
        (["estimate", *LAYOUT, "--dp", "8"], ["dp 8", "8 devices"]),
        (["estimate", "llama-3.1-8b", "dgx-h100", "--devices", "8", "--tp", "3"], ["tp 3", "8 devices"]),
        (["estimate", *LAYOUT, "--micro-batch", "-1"], ["micro_batch", "-1", "1"]),
        (["estimate", *LAYOUT, "--global-batch", "nan"], ["global_batch", "nan"]),
        (["estimate", *LAYOUT, "--seq-len", "1e99"], ["seq_len", "outside"]),
        (["estimate", *LAYOUT, "--format", "yaml"], ["--format", "yaml", "table", "json"]),
        (["estimate", *LAYOUT, "-o", "/no/such/folder/x"], ["-o", "/no/such/folder"]),
        (["estimate", *LAYOUT, "--figure", "x.bmp"], [".bmp", ".svg"]),
        (["estimate", *LAYOUT, "--figure", "/no/such/folder/x.svg"], ["/no/such/folder/x.svg"]),
        (["estimate", *LAYOUT, "--scenarios", "x.csv"], ["--scenarios"]),
        (["estimate", "--scenarios", "/no/such.csv"], ["/no/such.csv"]),
        (["estimate", "--hardware-dir", "/no/such", *LAYOUT], ["/no/such"]),
        (["estimate", "/no/such/config.json", "dgx-h100"], ["/no/such/config.json"]),
        (["plan", "llama-3.1-8b"], ["hardware"]),
        (["plan", "llama-3.1-8b", "dgx-h100"], ["devices"]),
        (["plan", *LAYOUT, "--top", "0"], ["--top"]),
        (["compare", "llama-3.1-8b", "h1", "h2", "--devices", "8"], ["h1"]),
        (["summary", "llama-3.1-8"], ["llama-3.1-8", "nearest", "llama-3.1-8b"]),
        (["summary", "gpt2", "--seq-len", "0"], ["--seq-len"]),
        (["hardware", "h100"], ["h100-sxm5-80gb", "h100-pcie-80gb"]),
        (["hardware", "h101-sxm5-80gb"], ["nearest", "h100-sxm5-80gb"]),
        (["models", "gpt-33"], ["gpt-33", "nearest"]),
        (["check", "/no/such"], ["/no/such"]),
        (["roofline", *LAYOUT, "-o", "x.jpeg"], [".jpeg", ".png"]),
        (["estimte"], ["estimte", "estimate"]),
        (["--nonsense"], ["--nonsense"]),
    ],
    ids=lambda v: " ".join(v[:1] + v[-2:]) if isinstance(v, list) else "",
)
def test_bad_input_is_one_line_and_exit_2(cli: Cli, arguments: list[str], words: list[str]) -> None:
    ran = cli(*arguments)
    assert ran.code == 2
    assert not ran.out
    line = one_line(ran.err)
    assert all(w in line for w in words), line


@pytest.mark.parametrize(
    "text",
    ["not json", "[1, 2]", "{}", '{"model_type": "nonsense"}', '{"model_type": "llama", "hidden_size": "wide"}'],
)
def test_bad_configurations_are_refused_by_name(cli: Cli, tmp_path: Path, text: str) -> None:
    path = write(tmp_path, "config.json", text)
    ran = cli("summary", path)
    assert ran.code == 2
    assert str(path) in one_line(ran.err)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("empty.csv", ""),
        ("keys.csv", "a,b\n1,2\n"),
        ("map.yaml", "scenarios: 3\n"),
        ("broken.yaml", ": : :\n\t- ["),
        ("object.json", "{}"),
    ],
)
def test_bad_scenario_files_are_refused_by_name(cli: Cli, tmp_path: Path, name: str, text: str) -> None:
    path = write(tmp_path, name, text)
    ran = cli("estimate", "--scenarios", path)
    assert ran.code == 2
    assert name in one_line(ran.err)


def test_bytes_that_are_no_text_are_refused(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "scenarios.csv"
    path.write_bytes(b"\xff\xfe\x00")
    ran = cli("estimate", "--scenarios", path)
    assert ran.code == 2 and "UTF-8" in one_line(ran.err)


def test_a_folder_is_no_output_file(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path, "in.csv", HEADER + "decode,gpt2,dgx-h100,1,1,1\n")
    for arguments in (("estimate", *LAYOUT), ("estimate", "--scenarios", path)):
        ran = cli(*arguments, "-o", tmp_path)
        assert ran.code == 2
        assert str(tmp_path) in ran.err and "Traceback" not in ran.err


# Forms


LISTS = [
    ["hardware"],
    ["hardware", "--systems"],
    ["hardware", "h100-sxm5-80gb"],
    ["models"],
    ["models", "gpt2"],
    ["compare", "gpt2", "dgx-h100", "mi300x-platform", "--devices", "8"],
    ["roofline", *DECODE],
    ["estimate", *LAYOUT],
    ["estimate", *DECODE],
]


@pytest.mark.parametrize("arguments", LISTS, ids=lambda a: " ".join(a[:2]))
def test_json_of_a_list_is_a_list_of_objects_with_an_id(cli: Cli, arguments: list[str]) -> None:
    ran = cli(*arguments, "--format", "json")
    assert ran.code == 0 and not ran.err
    rows = json.loads(ran.out)
    assert isinstance(rows, list) and rows
    assert all(isinstance(r, dict) and "id" in r for r in rows)


@pytest.mark.parametrize("arguments", [*LISTS, ["summary", "gpt2"], ["plan", *LAYOUT]], ids=lambda a: " ".join(a[:2]))
def test_csv_has_a_header_and_rows_of_its_length(cli: Cli, arguments: list[str]) -> None:
    ran = cli(*arguments, "--format", "csv")
    assert ran.code == 0
    header, *rows = csv.reader(io.StringIO(ran.out.rstrip("\n")))
    assert rows and len(set(header)) == len(header)
    assert all(len(r) == len(header) for r in rows)


@pytest.mark.parametrize("arguments", [*LISTS, ["summary", "gpt2"], ["plan", *LAYOUT]], ids=lambda a: " ".join(a[:2]))
@pytest.mark.parametrize("form", ["table", "markdown"])
def test_text_forms_are_not_empty(cli: Cli, arguments: list[str], form: str) -> None:
    ran = cli(*arguments, "--format", form)
    assert ran.code == 0
    assert len(ran.out.strip().splitlines()) > 2
    assert "nan" not in ran.out.lower().split()
    assert "\x1b" not in ran.out


def test_the_answer_leads(cli: Cli) -> None:
    assert cli("estimate", *DECODE).out.startswith("Llama 3.1 8B on 8 x NVIDIA H100")
    assert cli("plan", *LAYOUT).out.startswith("Best: Llama 3.1 8B on 8 x NVIDIA H100")


def test_summary_of_the_first_transformer(cli: Cli) -> None:
    answer = json.loads(cli("summary", "transformer-base", "--seq-len", "128", "--format", "json").out)
    counted = sum(r["parameters"] for r in answer["layers"])
    groups = {"embedding", "head", "attention", "mlp", "norm", "other"}
    assert counted == answer["parameters"]["total"]
    assert {"total", "active", *groups} <= set(answer["parameters"])
    assert {"total", "attention_scores", "causal_total"} <= set(answer["forward_flops"])
    assert sum(r["forward_flops"] for r in answer["layers"]) == pytest.approx(answer["forward_flops"]["total"])
    text = cli("summary", "transformer-base", "--seq-len", "128").out
    assert f"{answer['parameters']['total']:,}" in text.strip().splitlines()[-1]


def test_every_scenario_key_is_a_flag_of_every_verb_that_takes_one(cli: Cli) -> None:
    for verb in ("estimate", "plan", "compare", "roofline"):
        shown = cli(verb, "--help").out
        missing = [k for k in KEYS if k not in ("model", "hardware") and f"--{k.replace('_', '-')}" not in shown]
        assert not missing, (verb, missing)


def test_every_command_explains_itself(cli: Cli) -> None:
    for verb in verbs():
        ran = cli(verb, "--help")
        assert ran.code == 0 and f"usage: planner {verb}" in ran.out and not ran.err


# Files


def test_output_to_a_file(cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "answer.json"
    ran = cli("estimate", *DECODE, "--format", "json", "-o", target)
    assert ran.code == 0 and not ran.out
    assert json.loads(target.read_text())[0]["tpot_s"] > 0


@pytest.mark.parametrize("name", ["memory.svg", "waterfall.png", "memory.pdf"])
def test_figures_of_an_estimate(cli: Cli, tmp_path: Path, name: str) -> None:
    ran = cli("estimate", *LAYOUT, "--figure", tmp_path / name)
    assert ran.code == 0
    assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize("task", ["train", "prefill", "decode"])
def test_a_roofline_figure(cli: Cli, tmp_path: Path, task: str) -> None:
    target = tmp_path / "roofline.svg"
    ran = cli("roofline", "llama-3.1-8b", "h100-sxm5-80gb", "--task", task, "-o", target)
    assert ran.code == 0 and "above its roof" not in ran.err
    assert "<svg" in target.read_text()


SCENARIOS = (
    HEADER + "decode,llama-3.1-8b,dgx-h100,8,8,4\n"
    "decode,llama-3.1-8b,dgx-h100,8,3,4\n"
    "decode,nobody,dgx-h100,8,8,4\n"
    "decode,llama-3.1-8b,dgx-h100,nan,,4\n"
    "decode,llama-3.1-8b,dgx-h100,8,8,4,surplus\n"
    ",,,,,\n"
    "prefill,llama-3.1-8b,dgx-h100,8,8,4\n"
)


def test_a_file_of_scenarios(cli: Cli, tmp_path: Path) -> None:
    source, target = write(tmp_path, "in.csv", SCENARIOS), tmp_path / "out.csv"
    ran = cli("estimate", "--scenarios", source, "-o", target)
    assert ran.code == 0
    assert "2 of 7" in ran.err
    rows = list(csv.DictReader(io.StringIO(target.read_text())))
    assert [bool(r["error"]) for r in rows] == [False, True, True, True, True, True, False]
    assert [r["task"] for r in rows] == ["decode", *["decode"] * 4, "", "prefill"]
    assert "tp 3" in rows[1]["error"] and "nobody" in rows[2]["error"]
    assert not rows[1]["step_time_s"] and float(rows[0]["step_time_s"]) > 0


def test_scenarios_are_a_table_where_one_is_asked_for_or_a_person_looks(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path, "in.csv", SCENARIOS)
    piped = cli("estimate", "--scenarios", source).out
    asked = cli("estimate", "--scenarios", source, "--format", "table").out
    assert len(list(csv.DictReader(io.StringIO(piped)))) == 7 and piped.startswith("task,")
    assert "step time" in asked and "nobody" in asked and "──" in asked and "\x1b" not in asked
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert "──" in cli("estimate", "--scenarios", source).out


def test_rows_of_deployments_say_how_they_serve(cli: Cli) -> None:
    serve = ("estimate", "llama-3.1-8b", "h100-sxm5-80gb", "--task", "serve")
    text = cli(*serve, "--concurrency", "16,64").out
    for words in ("ttft", "tpot", "requests", "in flight", "utilisation"):
        assert words in text
    assert "saturated" not in text
    beyond = cli(*serve, "--rate", "2,500")
    first, second = beyond.out.splitlines()[-2:]
    assert "saturated" not in first and second.split()[1] == "saturated"
    assert beyond.code == 0
    alone = cli(*serve, "--rate", "500").out
    assert ": saturated, " in alone and "most requests a second" in alone and "usd per million" not in alone


def test_a_tight_fit_is_told_a_device(cli: Cli) -> None:
    layout = ("--devices", "64", "--tp", "8", "--pp", "2", "--global-batch", "128")
    first = cli("estimate", "llama-3.1-70b", "dgx-h100", *layout).out.splitlines()[0]
    assert " GiB a device: tight, fits with a chance of " in first and first.endswith("%.")


def test_a_roofline_keeps_the_count_beside_the_time(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = cli("roofline", "llama-3.1-8b", "h100-sxm5-80gb", "--task", "decode").out
    assert "count" in text.partition("──")[0]


def test_searches_have_no_default_number_of_devices(cli: Cli) -> None:
    def told(verb: str) -> str:
        return " ".join(cli(verb, "--help").out.split()).partition("--devices N")[2].partition("--dp N")[0]

    assert all("required" in told(v) and "default" not in told(v) for v in ("plan", "compare"))
    assert "(default: 1)" in told("estimate")


@pytest.mark.parametrize(
    ("text", "word"),
    [("model|hardware\ngpt2|dgx-h100\n", "divided by commas, semicolons or tabs"), ("a;b\n1;2\n", "'a;b'"),
     ("", "empty")],
)  # fmt: skip
def test_a_header_without_keys_tells_how_cells_are_divided(cli: Cli, tmp_path: Path, text: str, word: str) -> None:
    assert word in one_line(cli("estimate", "--scenarios", write(tmp_path, "in.csv", text)).err)


def test_a_name_like_none_is_told_a_few(cli: Cli) -> None:
    said = one_line(cli("estimate", *LAYOUT, "--weight-dtype", "bogus").err)
    assert "a few: " in said and "bf16" in said and "are known" in said


def test_scenarios_as_yaml_and_json_are_the_same(cli: Cli, tmp_path: Path) -> None:
    row = {"task": "decode", "model": "gpt2", "hardware": "dgx-h100", "devices": 2}
    as_json = write(tmp_path, "a.json", json.dumps([row]))
    as_yaml = write(tmp_path, "a.yaml", "scenarios:\n  - {task: decode, model: gpt2, hardware: dgx-h100, devices: 2}\n")
    answers = [json.loads(cli("estimate", "--scenarios", p, "--format", "json").out) for p in (as_json, as_yaml)]
    assert answers[0] == answers[1] and answers[0][0]["tpot_s"] > 0


def test_model_paths_start_from_the_scenario_file(cli: Cli, tmp_path: Path) -> None:
    config = {
        "model_type": "llama", "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8,
        "num_key_value_heads": 2, "intermediate_size": 1024, "vocab_size": 32000, "tie_word_embeddings": False,
        "max_position_embeddings": 4096,
    }  # fmt: skip
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine", "config.json", json.dumps(config))
    source = write(tmp_path, "in.csv", "task,model,hardware,devices\ndecode,mine/config.json,dgx-h100,1\n")
    (row,) = json.loads(cli("estimate", "--scenarios", source, "--format", "json").out)
    assert row["error"] == "" and row["tpot_s"] > 0


# As a process


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "cli.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_exit_codes_of_the_process() -> None:
    assert process("estimate", *DECODE).returncode == 0
    bad = process("estimate", "nobody", "dgx-h100")
    assert bad.returncode == 2 and "Traceback" not in bad.stderr and not bad.stdout
    assert process("plan", "llama-3.1-70b", "l4-24gb", "--devices", "1", "--task", "decode").returncode == 1


def test_no_colour_where_there_is_no_terminal() -> None:
    assert "\x1b" not in process("hardware", FORCE_COLOR="").stdout


def test_check_of_the_catalogue(cli: Cli) -> None:
    ran = cli("check")
    assert ran.code == 0 and ran.out.startswith("ok:")


def test_check_tells_all_faults_of_a_folder(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "accelerators").mkdir()
    write(tmp_path / "accelerators", "mine-1gb.yaml", "nmae: x\npeak_flops: {bf16: {value: 3}}\n")
    ran = cli("check", tmp_path)
    assert ran.code == 2
    assert "mine-1gb.yaml:1" in ran.err and len(ran.err.strip().splitlines()) >= 2


def test_the_summary_of_a_large_configuration_is_quick(cli: Cli, tmp_path: Path) -> None:
    kinds = ["linear_attention", "linear_attention", "linear_attention", "full_attention"] * 250
    config = {"model_type": "qwen3_5_moe_text", "num_hidden_layers": 1000, "layer_types": kinds, "num_experts": 512}
    made = write(tmp_path, "config.json", json.dumps(config))
    cli("summary", "gpt2")
    for model in (made, "gemma-4-31b", "llama-3.2-90b-vision", "nemotron-3-ultra-550b-a55b"):
        took = []
        for _ in range(3):  # the processor's time, and the best of three: other processes run beside the tests
            start = time.process_time()
            assert cli("summary", model).code == 0
            took.append(time.process_time() - start)
        assert min(took) < 0.3
