"""Hostile inputs by the thousand: what a user, a disk or a reader can do to the planner, one kind at a time.

``python tests/hostile/run.py -n 20000`` runs every kind; ``python tests/hostile/run.py tables rows`` some. A trial is
made from a seed, so that ``--seed 17 -n 1`` repeats the one that is named; its verdict is *answered*, *refused* (with
an error of the product's own) or a fault. Exit 1 where any trial found a fault.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]
KINDS = ("profiles", "engined", "configs", "stale", "tables", "rows", "outputs", "bounds", "interrupts")
SHOWN = 12  # faults of a kind that are shown, one of each sort


def run(kind: str, trials: int, seed: int) -> Counter[str]:
    """The verdicts of so many trials, counted; the first fault of each sort is printed with its seed."""
    module = import_module(kind)
    counts: Counter[str] = Counter()
    root = Path(tempfile.mkdtemp(prefix=f"hostile-{kind}-"))
    if hasattr(module, "prepare"):
        module.prepare(root)
    for i in range(seed, seed + trials):
        folder = root / "work"
        folder.mkdir(exist_ok=True)
        verdict = module.trial(random.Random(f"{kind} {i}"), folder)
        name = verdict.split(": ")[0] if verdict.startswith("FAULT") else verdict
        counts[name] += 1
        if name.startswith("FAULT") and counts[name] == 1 and len(counts) <= SHOWN:
            print(f"  {kind} --seed {i}: {verdict}", flush=True)
    shutil.rmtree(root, ignore_errors=True)
    return counts


def main() -> int:
    """Run the kinds that are named, all of them if none."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("-n", type=int, default=20_000, help="trials of each kind")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first trial")
    asked = parser.parse_args()
    found = 0
    for kind in asked.kinds or KINDS:
        start = time.perf_counter()
        counts = run(kind, asked.n, asked.seed)
        faults = sum(v for k, v in counts.items() if k.startswith("FAULT"))
        print(f"{kind}: {sum(counts.values())} trials, {faults} faults, {time.perf_counter() - start:.0f} s")
        for name, count in counts.most_common():
            print(f"  {count:6d} {name}")
        found += faults
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
