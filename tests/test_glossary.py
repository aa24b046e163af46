"""The glossary is the law for names: every key, column, term and bound stands in it, and nothing that is gone."""

from __future__ import annotations

import gzip
import json
import re
from functools import cache
from pathlib import Path

import pytest

from planner.demand.ops import GROUPS
from planner.planning.estimate import COLUMNS, MEMORY_PARTS
from planner.scenario.keys import KEYS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")


def rows(heading: str) -> dict[str, str]:
    """First cell, without quotes, to second of every table row under a heading; ``<group>`` stands for each of them."""
    section = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", section, flags=re.MULTILINE)
    return {name.replace("<group>", g): text.strip() for name, text in found
            for g in (GROUPS if "<group>" in name else ("",))}  # fmt: skip


@cache
def recorded(part: str) -> frozenset[str]:
    """Keys of a part (``row``, ``time``, ``memory``) of all answers on record, and the bounds that they name."""
    with gzip.open(ROOT / "tests" / "regression" / "answers.jsonl.gz", "rt", encoding="utf-8") as lines:
        answers = [a for a in map(json.loads, lines) if "row" in a]
    return frozenset({a["row"]["bound"] for a in answers} if part == "bound" else {k for a in answers for k in a[part]})


def test_every_scenario_key_is_explained() -> None:
    explained = rows("Scenario keys")
    assert set(explained) == set(KEYS)
    assert all(explained[k.name].startswith(k.help.split("|")[0].strip()) for k in KEYS.values())


def test_every_result_column_is_explained() -> None:
    explained = set(rows("Result columns"))
    assert {*COLUMNS, "accelerator"} <= explained
    assert recorded("row") <= explained | set(KEYS)


def test_every_bound_is_explained() -> None:
    assert recorded("bound") <= set(rows("Result columns"))


def test_every_term_of_time_is_explained_and_none_is_invented() -> None:
    assert recorded("time") == set(rows("Ledger terms of time"))


def test_every_term_of_memory_is_explained_and_none_is_invented() -> None:
    assert recorded("memory") == set(rows("Ledger terms of memory")) == set(MEMORY_PARTS)


@pytest.mark.parametrize("name", re.findall(r"`((?:[\w-]+/)+[\w.]*)`", TEXT))
def test_places_that_are_named_exist(name: str) -> None:
    assert any((root / name).exists() for root in (ROOT, ROOT / "planner", ROOT / "hardware"))
