"""Every class, form and tie of every type against the reference, from rows that were counted on its models."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from planner.catalogue.families.checked import supported_rows
from planner.catalogue.huggingface import model_from_config, supported_types
from planner.demand.counts import parameter_counts
from planner.errors import BadInputError

TRUTH = Path(__file__).parent / "data" / "reference_truth.jsonl.gz"


def truth() -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for line in gzip.decompress(TRUTH.read_bytes()).decode().splitlines():
        group = json.loads(line)
        groups.setdefault(group["config"]["model_type"], []).append(group)
    return groups


GROUPS = truth()


def counted(config: dict[str, Any], class_name: str, *, numbers: int) -> list[int] | str:
    """Total and active parameters (the first ``numbers`` of them), or that the planner refuses."""
    try:
        p = parameter_counts(model_from_config(config, id="truth", where="truth", class_name=class_name))
    except BadInputError:
        return "refused"
    return [p["total"], p["active"]][:numbers]


@pytest.mark.parametrize("model_type", GROUPS)
def test_parameters_of_every_class_and_form_equal_the_reference(model_type: str) -> None:
    wrong = {}
    for group in GROUPS[model_type]:
        for name, expected in group["counts"].items():
            ours = counted(group["config"], name, numbers=2 if expected == "refused" else len(expected))
            if ours != expected:
                wrong[name, group["form"]] = (ours, expected)
    assert not wrong


def test_rows_cover_the_types_the_reference_knows() -> None:
    tally = Counter(expected == "refused" for g in GROUPS.values() for r in g for expected in r["counts"].values())
    assert tally[False] > tally[True] > 0
    known = {row["id"] for row in supported_rows() if row["checked"]}
    assert known == set(GROUPS) and known < set(supported_types())
