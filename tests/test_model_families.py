"""Families against their classes: a default and a varied configuration of each type, FLOPs of a small one."""

import csv
import json
from pathlib import Path

import pytest

from planner.catalogue.huggingface import model_from_config
from planner.demand.counts import forward_flops, parameter_counts

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


def test_each_new_type_has_a_default_and_a_varied_row() -> None:
    types = [row["type"] for row in truth()]
    assert len(set(types)) >= 140
    assert sum(types.count(t) >= 2 for t in set(types)) >= 138
