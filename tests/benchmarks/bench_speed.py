"""What the planner costs to run: CPU seconds against the limits it promises. Run by hand; prints a table.

    python tests/benchmarks/bench_speed.py

Each figure is the least of a few repetitions, user and system time of the process that works, so that a busy machine
disturbs little. Exit code 1 if a limit is passed.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT)]
REPETITIONS = 5


def cpu_of(*arguments: str) -> float:
    """User and system seconds of one ``planner`` process."""
    before = os.times()
    subprocess.run([sys.executable, str(ROOT / "cli.py"), *arguments], check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def cpu_here(work: Callable[[], object]) -> float:
    """CPU seconds of a call in this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


CLUSTER = {"model": "llama-3.1-70b", "hardware": "dgx-h100", "devices": 1024, "global_batch": 1024, "seq_len": 8192}


def least(measure: Callable[[], float], repetitions: int = REPETITIONS) -> float:
    return min(measure() for _ in range(repetitions))


def hundred_thousand_layouts() -> float:
    """Evaluate 10^5 admissible layouts of Llama 3.1 70B, repeated from the search's own candidates."""
    from planner.planning.search import CHUNK, Found, admissible, candidates, evaluate
    from planner.scenario.resolve import resolve_run

    resolved = resolve_run(CLUSTER)
    rows = [admissible(x, resolved, Found(), CLUSTER) for x in candidates(resolved, CLUSTER)]
    parts = [x.take(np.arange(i, min(i + CHUNK, len(x)))) for x in rows for i in range(0, len(x), CHUNK)]

    def work() -> None:
        done = 0
        while done < 100_000:
            for x in parts:
                evaluate(resolved, x)
                done += len(x)

    work_count = sum(len(x) for x in parts)
    rounds = -(-100_000 // work_count)
    return cpu_here(work) * 100_000 / (work_count * rounds)


def search_of_a_cluster() -> tuple[float, int]:
    """A whole search, refusals included, and how many layouts it considered."""
    from planner.planning.search import search
    from planner.scenario.resolve import resolve_run

    resolved = resolve_run(CLUSTER)
    considered: list[int] = []
    seconds = cpu_here(lambda: considered.append(search(resolved, CLUSTER).considered))
    return seconds, considered[0]


def thousand_scenarios() -> float:
    """A CSV of 1,000 scenarios over 50 models, training, prefill and decode, through the command."""
    from planner.catalogue.models import model_ids

    names = list(model_ids())
    chosen = [names[i * len(names) // 50] for i in range(50)]
    tasks = ("train", "decode", "prefill", "decode")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.csv"
        with source.open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["task", "model", "hardware", "devices"])
            for i in range(1000):
                out.writerow([tasks[i % 4], chosen[i % 50], ("dgx-h100", "l40s-48gb")[i % 3 == 0], 2 ** (i % 4)])
        return cpu_of("estimate", "--scenarios", str(source), "-o", str(Path(folder) / "out.csv"))


def main() -> int:
    layout = ("llama-3.1-70b", "dgx-h100", "--devices", "64", "--tp", "8", "--global-batch", "64")
    seconds, considered = search_of_a_cluster()
    rows = [
        ("planner --help", least(lambda: cpu_of("--help")), 0.3),
        ("planner estimate, one layout", least(lambda: cpu_of("estimate", *layout)), 0.7),
        ("10^5 layouts evaluated", least(hundred_thousand_layouts, 3), 2.0),
        (f"a search of {considered:,} layouts", seconds, 2.0 * max(considered / 1e5, 1.0)),
        ("1,000 scenarios over 50 models", least(thousand_scenarios, 2), 10.0),
    ]
    print(f"{'what':36}{'CPU s':>10}{'limit':>10}")
    for name, seconds, limit in rows:
        print(f"{name:36}{seconds:>10.3f}{limit:>10.2f}{'' if seconds <= limit else '  over'}")
    return int(any(seconds > limit for _, seconds, limit in rows))


if __name__ == "__main__":
    raise SystemExit(main())
