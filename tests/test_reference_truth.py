"""Every class, form and tie of every type against the reference, from rows that were counted on its models."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import script

from planner.catalogue.families.checked import supported_rows
from planner.catalogue.huggingface import model_from_config, supported_types
from planner.demand.counts import forward_flops, parameter_counts
from planner.errors import BadInputError

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
TRUTH, TABLE, FLOPS = (DATA / f"reference_{name}" for name in ("truth.jsonl.gz", "table.json", "flops.jsonl.gz"))
SAMPLE = 32  # of so many groups of rows the fast suite takes one, beside each type's defaults
FLOP_SAMPLE = 4


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


@cache
def truth() -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for group in lines(TRUTH):
        groups[group["config"]["model_type"]].append(group)
    return groups


def taken(group: dict[str, Any]) -> bool:
    return group["form"] == "default" or zlib.crc32(json.dumps(group["config"]).encode()) % SAMPLE == 0


def counted(config: dict[str, Any], class_name: str) -> list[int] | str:
    """Total and active parameters, or that the planner refuses."""
    try:
        p = parameter_counts(model_from_config(config, id="truth", where="truth", class_name=class_name))
    except BadInputError:
        return "refused"
    return [p["total"], p["active"]]


def differing(groups: list[dict[str, Any]]) -> dict[tuple[str, str, str], tuple[Any, Any]]:
    wrong = {}
    for group in groups:
        for name, expected in group["counts"].items():
            ours = counted(group["config"], name)
            if ours != expected:
                wrong[group["config"]["model_type"], name, group["form"]] = (ours, expected)
    return wrong


def test_parameters_of_a_sample_equal_the_reference() -> None:
    assert differing([g for groups in truth().values() for g in groups if taken(g)]) == {}


@pytest.mark.exhaustive
def test_parameters_of_every_class_and_form_equal_the_reference() -> None:
    assert differing([g for groups in truth().values() for g in groups if not taken(g)]) == {}


def test_rows_cover_the_types_the_reference_knows() -> None:
    tally = Counter(expected == "refused" for gs in truth().values() for g in gs for expected in g["counts"].values())
    assert tally[False] > tally[True] > 0
    known = {row["id"] for row in supported_rows() if row["checked"]}
    assert known == set(truth()) and known < set(supported_types())


def flop_rows() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    about, *rows = lines(FLOPS)
    return about, rows


def off(row: dict[str, Any]) -> float:
    """The largest relative difference of a row's FLOPs from what torch's counter counted on the model."""
    model = model_from_config(row["config"], id="truth", where="truth", class_name=row["class"])
    counts = row["flops"].items()
    return max(abs(forward_flops(model, seq_len=int(tokens))["total"] / flops - 1) for tokens, flops in counts)


@pytest.mark.parametrize("part", [0, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_flops_of_small_real_models_are_within_a_thousandth(part: int) -> None:
    _, rows = flop_rows()
    mine = [r for i, r in enumerate(rows) if bool(i % FLOP_SAMPLE) == bool(part)]
    assert {r["class"]: off(r) for r in mine if off(r) > 1e-3} == {}


def test_few_types_count_other_flops_than_their_class_and_each_says_why() -> None:
    about, rows = flop_rows()
    assert len(rows) >= 240 and len(about["_differs"]) <= 16
    assert all(len(reason) > 20 for reason in about["_differs"].values())
    assert about["_version"] == json.loads(TABLE.read_text())["transformers"]


def test_the_documented_table_is_what_the_rows_came_to() -> None:
    generate = script(ROOT / "docs" / "generate.py")
    assert generate.stale(["reference"], write=False) == [], "run: python docs/generate.py reference"
    kept = json.loads(TABLE.read_text())
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for group in (g for groups in truth().values() for g in groups):
        for expected in group["counts"].values():
            forms[group["form"]]["refused" if expected == "refused" else "exact"] += 1
    for form, tally in kept["forms"].items():
        assert not {"wrong", "crashed"} & set(tally)
        # Of mutations a part is kept; who ties what comes to the same configuration now and then, which is one row.
        least = 1 if form == "mutated" else tally["exact"] * (0.995 if form.endswith("tied") else 1.0)
        assert least <= forms[form]["exact"] <= tally["exact"]
    assert set(forms) == set(kept["forms"])


def test_the_documented_kinds_are_what_was_checked() -> None:
    kept = json.loads(TABLE.read_text())
    path = ROOT / "planner" / "catalogue" / "families" / "checked.csv"
    with path.open(encoding="utf-8") as file:
        exact = {(r["model_type"], r["class"]) for r in csv.DictReader(file) if r["outcome"] == "exact"}
    for kind, classes in kept["classes"].items():
        assert kept["kinds"][kind]["exact"] == sum(pair in exact for pair in classes.items())
        assert sum(kept["kinds"][kind].values()) == len(classes)
    least = {"causal": 150, "masked": 40, "seq2seq": 30, "image-text": 75}
    assert {k: kept["kinds"][k]["exact"] >= n for k, n in least.items()} == dict.fromkeys(least, True)
