"""Configurations and model files with odd values: refused by name, or priced with numbers that can be."""

from __future__ import annotations

import copy
import json
import random
import sys
from datetime import date
from pathlib import Path

from judge import ANSWERED, REFUSED, believable, fault

from planner.catalogue.models import describe, model_ids
from planner.errors import PlannerError
from planner.planning.estimate import estimate_scenario

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from test_config_fuzz import mutate

TASKS = (
    {"task": "train", "seq_len": 64, "global_batch": 8, "devices": 8},
    {"task": "decode", "batch": 2, "input_len": 32, "output_len": 8, "devices": 1},
    {"task": "forward", "batch": 1, "devices": 1},
)  # fmt: skip
HEADER = ("id", "name", "aliases", "source", "published_parameters", "published_source", "notes")


def _bases() -> list[dict[str, object]]:
    """Configurations of the catalogue, and its files in the planner's own keys."""
    found = []
    for name in model_ids():
        said = describe(name)
        found.append(said["config"] if "config" in said else {k: v for k, v in said.items() if k not in HEADER})
    return found


BASES = _bases()


def trial(draw: random.Random, folder: Path) -> str:
    """One to three fields changed, in a file of either kind, asked for one task."""
    values = copy.deepcopy(draw.choice(BASES))
    for _ in range(draw.randint(1, 3)):
        mutate(values, draw)
    own = "model_type" not in values
    path = folder / ("model.yaml" if own else "config.json")
    try:
        path.write_text(json.dumps(values, default=str), encoding="utf-8")
    except ValueError:  # a number of thousands of digits, which Python writes no more than it reads
        return REFUSED
    task = draw.choice(TASKS)
    try:
        e = estimate_scenario({**task, "model": str(path), "hardware": "dgx-h100"}, today=date(2026, 1, 1))
    except PlannerError as error:
        internal = "internal error" in str(error)
        return fault("stopped by the last check", error) if internal else REFUSED
    except Exception as error:
        return fault(f"estimate raised {type(error).__name__}", (error, values))
    wrong = believable(e.row)
    return fault("a result that cannot be", (wrong, values)) if wrong else ANSWERED
