"""Figures that cannot be, in accelerators, systems and classes: refused with file and line by ``check`` and by every
command, or answered with numbers that can."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from judge import ANSWERED, REFUSED, believable, fault

from planner.catalogue import loader
from planner.catalogue.check import check_hardware
from planner.errors import PlannerError
from planner.planning.estimate import estimate_scenario

ROOT = Path(__file__).resolve().parents[2]
BASES = (
    ("nvidia/h100-sxm5-80gb", "dgx-h100", "nvidia-hopper"),
    ("amd/mi300x-192gb", "mi300x-platform", "amd-cdna3"),
    ("google/tpu-v5p-95gb", "tpu-v5p-pod", "google-tpu"),
)
HOSTILE = (
    "0", "-1", "-0.0", "nan", "NaN", ".nan", "inf", ".inf", "-.inf", "1e400", "1e-400", "1e30", "1e-30", "1e18", "1e-9",
    "", "~", "null", "true", "[]", "{}", "''", "9" * 30, "9" * 5000, "0x10", "1_000", "1e", "5.", "١٢",
)  # fmt: skip
# What `check` says of figures that are possible: they disagree, or nothing cites a source.
REMARKS = ("(check ", "cited by nothing", "waived check", "is not the folder", "no part of devices_per_node")
NUMBER = re.compile(r"(?<![\w.\-])\d[\d.]*(?![\w.\-])")
TASKS = (
    {"task": "train", "model": "gpt2", "devices": 8, "global_batch": 16, "seq_len": 512},
    {"task": "decode", "model": "gpt2", "devices": 2, "tp": 2, "batch": 4},
    {"task": "prefill", "model": "gpt2", "devices": 1},
    {"task": "serve", "model": "gpt2", "devices": 1, "concurrency": 8},
)  # fmt: skip


def trial(draw: random.Random, folder: Path) -> str:
    """One profile with one to three figures changed, checked and asked for an estimate."""
    for kind in ("accelerators", "systems", "classes"):
        shutil.rmtree(folder / kind, ignore_errors=True)
    chip, system, cls = draw.choice(BASES)
    files = {
        folder / "accelerators" / f"{chip}.yaml": ROOT / "hardware" / "accelerators" / f"{chip}.yaml",
        folder / "systems" / f"{system}.yaml": ROOT / "hardware" / "systems" / f"{system}.yaml",
        folder / "classes" / f"{cls}.yaml": ROOT / "hardware" / "classes" / f"{cls}.yaml",
    }
    changed = draw.choice(list(files))
    for path, source in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        text = _figures_only(source.read_text(encoding="utf-8"))
        path.write_text(mutated(text, draw) if path == changed else text, encoding="utf-8")
    return _judged(folder, system, draw)


def _figures_only(text: str) -> str:
    """A profile without prices, which have figures that no time hangs on, but for the first two."""
    lines = text.splitlines(keepends=True)
    prices = [line for line in lines if line.startswith("  - {usd:")]
    return "".join(line for line in lines if line not in prices[2:])


def mutated(text: str, draw: random.Random, values: Sequence[str] = HOSTILE) -> str:
    """A text with one to three lines changed: a figure, a line dropped, a line doubled."""
    lines = text.splitlines(keepends=True)
    for _ in range(draw.randint(1, 3)):
        action = draw.choice(("figure", "figure", "figure", "figure", "drop", "double"))
        i = draw.randrange(len(lines))
        if action == "figure":
            figures = [(j, m) for j, line in enumerate(lines) for m in NUMBER.finditer(line)
                       if not line.lstrip().startswith(("-", "source", "note")) or "usd" in line]  # fmt: skip
            if not figures:
                continue
            i, m = draw.choice(figures)
            lines[i] = lines[i][: m.start()] + draw.choice(values) + lines[i][m.end() :]
        elif action == "drop":
            lines.pop(i)
        else:
            lines.insert(i, lines[i])
    return "".join(lines)


def _judged(folder: Path, system: str, draw: random.Random) -> str:
    try:
        said = check_hardware([folder])
    except PlannerError as error:
        said = [str(error)]
    except Exception as error:
        return fault(f"check raised {type(error).__name__}", error)
    task = draw.choice(TASKS)
    try:
        e = estimate_scenario({**task, "hardware": system}, dirs=(str(folder),), today=date(2026, 1, 1))
    except PlannerError as error:
        if "internal error" in str(error):
            return fault("stopped by the last check", error)
        if str(folder) in str(error) and not said:
            return fault("refused by a command, not by check", error)
        return REFUSED
    except Exception as error:
        return fault(f"estimate raised {type(error).__name__}", error)
    wrong = believable(e.row) or believable({f"{k}_s": v for k, v in e.time.items()})
    if wrong:
        return fault("a result that cannot be", wrong)
    grave = [s for s in said if not any(remark in s for remark in REMARKS)]
    return fault("answered what check refuses", grave) if grave else ANSWERED


def prepare(folder: Path) -> None:
    """The trials read their own files alone."""
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    loader.built_in = lambda: empty
