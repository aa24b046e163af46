"""Facts of serving engines that cannot be: refused with file and line, or answered with numbers that can."""

from __future__ import annotations

import random
import re
from datetime import date
from pathlib import Path

from judge import ANSWERED, REFUSED, believable, fault
from profiles import HOSTILE, mutated

from planner.catalogue import engines
from planner.errors import CatalogueError, PlannerError
from planner.planning.estimate import estimate_scenario

TASKS = ({"task": "decode", "devices": 2, "tp": 2, "batch": 4}, {"task": "serve", "devices": 1, "concurrency": 8},
         {"task": "serve", "devices": 1, "rate": 2.0})  # fmt: skip
SECTIONS = re.split(r"(?m)^(?=[\w.\-]+:$)", engines.FILE.read_text(encoding="utf-8"))  # remarks, then an engine each
PLAIN = ("0", "0.5", "1", "2", "7", "100", "4096")
real = engines.engines


def trial(draw: random.Random, folder: Path) -> str:
    """The table of engines with one to three figures changed, read, and asked for an estimate."""
    i = draw.randrange(1, len(SECTIONS))
    name = SECTIONS[i].partition(":")[0]
    changed = mutated(SECTIONS[i], draw, draw.choice((HOSTILE, PLAIN)))
    path = folder / "engines.yaml"
    path.write_text("".join([*SECTIONS[:i], changed, *SECTIONS[i + 1 :]]), encoding="utf-8")
    try:
        found = engines.read_engines(path)
    except CatalogueError as error:
        placed = all(str(f).startswith(f"{path}:") for f in error.faults)
        return REFUSED if placed else fault("refused without a line", error)
    except Exception as error:
        return fault(f"reading raised {type(error).__name__}", error)
    engines.engines = lambda: found  # type: ignore[assignment]
    try:
        e = estimate_scenario({"model": "gpt2", "hardware": "t4-16gb", "engine": name, **draw.choice(TASKS)},
                              today=date(2026, 1, 1))  # fmt: skip
    except PlannerError as error:
        return fault("stopped by the last check", error) if "internal error" in str(error) else REFUSED
    except Exception as error:
        return fault(f"estimate raised {type(error).__name__}", error)
    finally:
        engines.engines = real
    wrong = believable(e.row) or believable({f"{k}_s": v for k, v in e.time.items()})
    return fault("a result that cannot be", wrong) if wrong else ANSWERED
