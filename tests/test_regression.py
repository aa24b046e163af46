"""Answers are those on record: a change that moves one is a change of physics, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import script

record = script(Path(__file__).parent / "regression" / "record.py")
TOLERANCE = 1e-9  # relative; vector units of processors sum in another order


@pytest.mark.published
def test_answers_are_those_on_record() -> None:
    moved = {}
    entries = list(record.recorded())
    assert len(entries) > 2000
    for i, entry in enumerate(entries):
        found = list(record.differences(entry, record.again(entry), tolerance=TOLERANCE))
        if found:
            moved[i] = found[:3]
    assert not moved, f"{len(moved)} answers moved; {dict(list(moved.items())[:10])}"


def test_a_moved_answer_is_seen() -> None:
    then = {"row": {"tp": 4, "mfu": 0.5, "rows": [1.0, None]}}
    assert not list(
        record.differences(then, {"row": {"tp": 4, "mfu": 0.5 + 1e-12, "rows": [1.0, None]}}, tolerance=1e-9)
    )
    for now in (
        {"row": {"tp": 8, "mfu": 0.5, "rows": [1.0, None]}},
        {"row": {"tp": 4, "mfu": 0.5 + 1e-8, "rows": [1.0, None]}},
        {"row": {"tp": 4, "mfu": 0.5, "rows": [1.0, 2.0]}},
        {"row": {"tp": 4, "mfu": 0.5}},
    ):
        assert list(record.differences(then, now, tolerance=1e-9)), now
