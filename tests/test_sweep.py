"""Lists and ranges of values."""

from __future__ import annotations

import csv
import io
import json

import pytest
from conftest import Cli

import planner
from planner.errors import BadInputError
from planner.planning.sweep import combinations, held_values, values_of


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("tp", "1,2,4", [1, 2, 4]),
        ("devices", "64..1024", [64, 128, 256, 512, 1024]),
        ("devices", "64..1000", [64, 128, 256, 512]),
        ("devices", "8..24+8", [8, 16, 24]),
        ("zero_stage", "0..3+1", [0, 1, 2, 3]),
        ("batch", "1,4..16", [1, 4, 8, 16]),
        ("batch", "7", [7]),
        ("batch", (1, 2), [1, 2]),
        ("recompute", "none,full", ["none", "full"]),
        ("recompute_modules", "core_attn,mlp", ["core_attn,mlp"]),
        ("model", "a,b", ["a,b"]),
    ],
)
def test_values(name: str, text: object, values: list[object]) -> None:
    assert values_of(name, text) == values


@pytest.mark.parametrize("text", [",", "1,", "1,,2"])
def test_what_is_no_list_is_refused(cli: Cli, text: str) -> None:
    for verb in ("plan", "estimate"):
        ran = cli(verb, "gpt2", "dgx-h100", "--devices", "2", "--tp", text)
        assert ran.code == 2 and "tp" in ran.err and "empty" in ran.err


def test_a_wrong_value_among_several_is_refused_before_any_work(cli: Cli) -> None:
    ran = cli("estimate", "gpt2", "dgx-h100", "--task", "decode", "--batch", "1,x")
    assert ran.code == 2 and not ran.out and "batch: 'x' is not a number" in ran.err


@pytest.mark.parametrize("text", ["8..4", "a..4", "0..8", "8..64+0", "8..", "..8", "1.5..3"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match=r"devices: .*no range"):
        values_of("devices", text)


def test_combinations_are_bounded() -> None:
    assert len(combinations({"tp": "1,2", "batch": "1..8", "model": "gpt2"})) == 8
    with pytest.raises(BadInputError, match="combinations"):
        combinations({"devices": "1..100+1", "batch": "1..200+1"})


def test_estimates_of_every_combination(cli: Cli) -> None:
    ran = cli("estimate", "gpt2", "dgx-h100", "--task", "decode", "--batch", "1,4", "--input-len", "128..512",
              "--format", "csv")  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert [(r["batch"], r["input_len"]) for r in rows] == [(b, n) for n in ("128", "256", "512") for b in "14"]
    alone = planner.estimate(model="gpt2", hardware="dgx-h100", task="decode", batch=4, input_len=256)
    assert float(rows[3]["step_time_s"]) == alone.row["step_time_s"]


def test_a_search_is_held_to_the_values() -> None:
    asked = {"model": "llama-3.1-8b", "hardware": "dgx-h100", "devices": 8, "global_batch": 32}
    free, held = planner.plan(asked, top=1000), planner.plan(asked, top=1000, tp="2,4", zero_stage=(1, 3))
    assert {e.row["tp"] for e in held.rows} == {2, 4} and {e.row["zero_stage"] for e in held.rows} <= {1, 3}
    within = [e for e in free.rows if e.row["tp"] in (2, 4) and e.row["zero_stage"] in (1, 3)]
    assert held.best is not None and held.best.row["step_time_s"] == within[0].row["step_time_s"]
    assert held.considered < free.considered


def test_values_that_a_search_is_held_to_are_checked() -> None:
    with pytest.raises(BadInputError, match="tp: 'x' is not a number"):
        held_values({"tp": "1,x"})
    with pytest.raises(BadInputError, match="empty"):
        held_values({"tp": ()})


def test_a_search_for_every_number_of_devices(cli: Cli) -> None:
    arguments = ("plan", "llama-3.1-8b", "dgx-h100", "--devices", "1..8", "--global-batch", "8", "--seq-len", "4096")
    ran = cli(*arguments, "--format", "json")
    rows = json.loads(ran.out)
    assert ran.code == 0 and [int(r["devices"]) for r in rows] == [1, 2, 4, 8]
    assert "nothing fits" in rows[0]["error"] and rows[3]["step_time_s"] > 0
    assert cli(*arguments, "--strict").code == 1
