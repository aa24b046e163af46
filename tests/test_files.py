"""Files and pipes: the end of a path says the format, columns are fixed, what a user brought comes back untouched."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Cli

from planner.planning.columns import FIXED

ROOT = Path(__file__).resolve().parent.parent
DECODE = ("estimate", "llama-3.1-8b", "dgx-h100", "--devices", "8", "--tp", "8", "--task", "decode", "--batch", "4")
TEXT = "id,my site,task,model,hardware,devices,tpp\nr1,Oslo,decode,LLAMA 3.1 8B,p5,8,x\nr2,Ulm,decode,nobody,p5,8,\n"


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def scenarios(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("end", ["csv", "json", "md", "parquet"])
def test_the_end_of_the_path_says_the_format(cli: Cli, tmp_path: Path, scenarios: Path, end: str) -> None:
    import pandas as pd

    target = tmp_path / f"out.{end}"
    ran = cli("estimate", "--scenarios", scenarios, "-o", target)
    assert ran.code == 0 and not ran.out and f"out.{end}: 2 rows" in ran.err
    if end == "md":
        assert target.read_text().startswith("| id | my site |")
        return
    if end == "csv":
        frame = pd.read_csv(target, keep_default_na=False)
    else:
        frame = pd.read_parquet(target) if end == "parquet" else pd.DataFrame(json.loads(target.read_text()))
    assert list(frame.columns) == ["id", "my site", "tpp", *FIXED]
    assert list(frame["id"]) == ["r1", "r2"] and list(frame["my site"]) == ["Oslo", "Ulm"]


PLAN = ("plan", "gpt2", "dgx-h100", "--devices", "2")


@pytest.mark.parametrize("arguments", [DECODE, PLAN, ("hardware",), ("models",)], ids=lambda a: a[0])
@pytest.mark.parametrize("end", ["csv", "json", "md", "parquet"])
def test_every_table_can_be_written(cli: Cli, tmp_path: Path, arguments: tuple[str, ...], end: str) -> None:
    target = tmp_path / f"out.{end}"
    ran = cli(*arguments, "-o", target)
    assert ran.code == 0 and not ran.out, ran.err
    assert target.stat().st_size > 100


def test_a_strange_end_and_parquet_of_what_is_no_table_are_refused(cli: Cli, tmp_path: Path) -> None:
    for arguments in ((*DECODE, "-o", tmp_path / "x.xls"), ("summary", "gpt2", "-o", tmp_path / "x.parquet"),
                      (*DECODE, "--format", "csv", "-o", tmp_path / "x.parquet")):  # fmt: skip
        ran = cli(*arguments)
        assert ran.code == 2 and not ran.out and not list(tmp_path.iterdir())


def test_labels_come_back_as_given_beside_what_they_resolved_to(cli: Cli, scenarios: Path) -> None:
    good, bad = table(cli("estimate", "--scenarios", scenarios).out)
    assert (good["model"], good["hardware"]) == ("LLAMA 3.1 8B", "p5")
    assert (good["resolved_model"], good["resolved_hardware"]) == ("llama-3.1-8b", "aws-p5-48xlarge")
    assert "input_len = 1024" in good["assumed"] and good["price_basis"].startswith("aws, on-demand")
    assert bad["model"] == "nobody" and "nobody" in bad["error"] and not bad["resolved_model"]


def test_unknown_columns_pass_with_a_warning_and_are_refused_when_strict(cli: Cli, scenarios: Path) -> None:
    ran = cli("estimate", "--scenarios", scenarios)
    assert ran.code == 0 and "'tpp'" in ran.err and "tp" in ran.err and "'my site'" in ran.err
    assert [r["tpp"] for r in table(ran.out)] == ["x", ""]
    ran = cli("estimate", "--scenarios", scenarios, "--strict")
    assert ran.code == 2 and not ran.out and "tpp" in ran.err


@pytest.mark.parametrize(
    ("models", "strict", "code"),
    [
        (("gpt2", "gpt2"), False, 0),
        (("gpt2", "none"), False, 0),
        (("none", "no"), False, 1),
        (("gpt2", "none"), True, 1),
    ],
)
def test_exit_codes_of_a_file(cli: Cli, tmp_path: Path, models: tuple[str, ...], strict: bool, code: int) -> None:
    path = tmp_path / "in.csv"
    path.write_text("task,model,hardware\n" + "".join(f"decode,{m},dgx-h100\n" for m in models))
    assert cli("estimate", "--scenarios", path, *(["--strict"] if strict else [])).code == code


def test_one_estimate_that_does_not_fit_is_1_and_still_answers(cli: Cli) -> None:
    ran = cli("estimate", "llama-3.1-70b", "l4-24gb", "--task", "decode", "--format", "json")
    assert ran.code == 1 and json.loads(ran.out)[0]["fits"] in (False, "no")


@pytest.mark.parametrize("text", [TEXT, '[{"task": "decode", "model": "gpt2", "hardware": "dgx-h100"}]',
                                  "- {task: decode, model: gpt2, hardware: dgx-h100}\n"])  # fmt: skip
def test_a_dash_is_a_pipe(text: str) -> None:
    command = [sys.executable, "-m", "planner", "estimate", "--scenarios", "-", "-o", "-"]
    ran = subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    assert float(table(ran.stdout)[0]["tpot_s"]) > 0


def test_columns_are_the_same_whatever_the_task(cli: Cli) -> None:
    headers = {cli("estimate", "gpt2", "dgx-h100", "--task", t, "--format", "csv").out.splitlines()[0]
               for t in ("train", "prefill", "decode", "serve")}  # fmt: skip
    assert headers == {",".join(FIXED)}


def test_columns_of_parquet_have_the_same_types_whatever_the_rows(cli: Cli, tmp_path: Path) -> None:
    import pandas as pd

    types = []
    for name, rows in (("a", "decode,gpt2,dgx-h100,8\n"), ("b", "train,gpt2,dgx-h100,2\nx,gpt2,dgx-h100,many\n")):
        (tmp_path / f"{name}.csv").write_text(f"task,model,hardware,devices\n{rows}")
        assert cli("estimate", "--scenarios", tmp_path / f"{name}.csv", "-o", tmp_path / f"{name}.parquet").code == 0
        types.append(pd.read_parquet(tmp_path / f"{name}.parquet").dtypes)
    assert types[0].equals(types[1])
    assert types[0]["step_time_s"] == types[0]["devices"] == "float64" and types[0]["starts"] == "boolean"
