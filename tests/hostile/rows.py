"""Rows of every kind of trouble, faults of the planner itself among them: each stays in its row."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from judge import ANSWERED, believable, fault

from planner.planning import estimate as planning
from planner.planning.columns import COLUMNS

ODD: tuple[Any, ...] = (
    None, "", "0", "-1", 0, -1, 1.5, float("nan"), float("inf"), 10**400, 10**5000, "9" * 5000, True, [], {}, [1, 2],
    {"a": 1}, b"x", object(), date(2026, 1, 1), "é", "\x00", "a\nb", "no/such/path.json", "/", "~", ".", "nan", "1e999",
)  # fmt: skip
FAULTS: tuple[type[Exception], ...] = (
    ValueError, KeyError, IndexError, AssertionError, ZeroDivisionError, RecursionError, MemoryError, OSError,
    TypeError, OverflowError, FloatingPointError, AttributeError, StopIteration, UnicodeError,
)  # fmt: skip
KEYS = ("model", "hardware", "devices", "tp", "pp", "dp", "batch", "task", "seq_len", "weight_dtype", "quantization",
        "engine", "compression", "price", "network_bandwidth", "recompute_modules", "memory_fraction",
        "odd key")  # fmt: skip
GOOD = {"model": "gpt2", "hardware": "t4-16gb", "task": "decode", "devices": 1, "batch": 2}
real = planning.estimate_scenario


def trial(draw: random.Random, folder: Path) -> str:
    """A batch of good, odd and crashing rows."""
    rows: list[dict[str, Any]] = []
    for i in range(draw.randint(1, 4)):
        row: dict[Any, Any] = {"id": i, **GOOD}
        for _ in range(draw.choice((0, 1, 1, 2))):
            row[draw.choice(KEYS)] = draw.choice(ODD)
        if draw.random() < 0.05:
            row[draw.choice((None, 7, ("a",)))] = "x"
        rows.append(row)
    crashing = {i: draw.choice(FAULTS) for i in range(len(rows)) if draw.random() < 0.2}
    calls = iter(range(len(rows)))

    def struck(given: Mapping[str, object], **how: Any) -> Any:
        i = next(calls)
        if i in crashing:
            raise crashing[i]("struck")
        return real(given, **how)

    planning.estimate_scenario = struck
    try:
        found = list(planning.estimate_rows(rows, today=date(2026, 1, 1)))
    except Exception as error:
        return fault(f"the batch was lost to {type(error).__name__}", (error, rows))
    finally:
        planning.estimate_scenario = real
    return _judged(rows, found, set(crashing))


def _judged(rows: list[dict[str, Any]], found: list[dict[str, Any]], crashing: set[int]) -> str:
    if [r.get("id") for r in found] != [r["id"] for r in rows]:
        return fault("rows lost or shifted", found)
    for i, (row, got) in enumerate(zip(rows, found, strict=True)):
        if i in crashing and not got["error"]:
            return fault("a crash left no error", got)
        wrong = believable({k: got[k] for k in COLUMNS})
        if not got["error"] and wrong:
            return fault("a result that cannot be", wrong)
        if i not in crashing and "internal error" in str(got["error"]):
            return fault("an odd row crashed", (row, got["error"]))
        untouched = len(row) == len(GOOD) + 1 and all(type(row[k]) is type(v) and row[k] == v for k, v in GOOD.items())
        if i not in crashing and untouched and got["error"]:
            return fault("a good row was harmed", got["error"])
    return ANSWERED
