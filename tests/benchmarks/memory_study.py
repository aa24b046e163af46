"""Predicted training memory beside published peaks and verdicts, a row a run.

python tests/benchmarks/memory_study.py            tables of errors and verdicts, and every run
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT)]

from planner.validation.published import Compared, compare_memory  # noqa: E402
from planner.validation.study import Rows, memory_rows, predicted_memory, verdict_rows  # noqa: E402


def line(c: Compared) -> str:
    """One run: what was measured, what is predicted, and what its ledger is made of [GiB]."""
    head = f"{c.case.id:12} {c.case.source[:22]:22} {c.case.name[:24]:24} {c.case.memory_kind:9}"
    if c.estimate is None:
        return f"{head} refused: {c.error[:90]}"
    terms = " ".join(f"{k[:6]} {v / 2**30:.1f}" for k, v in c.estimate.memory.items() if v > 0)
    predicted = predicted_memory(c) / 2**30
    ran = "ran" if c.case.ran else "failed"
    return f"{head} {c.case.memory_gib:6.1f} {predicted:6.1f} {predicted / c.case.memory_gib:5.2f} {ran:6} " \
           f"{c.estimate.results['fits']} | {terms}"  # fmt: skip


def show(rows: Rows) -> None:
    """Rows as text."""
    for row in rows:
        print("  ".join(f"{v:.3f}" if isinstance(v, float) else f"{v!s:>24}" for v in row.values()))


if __name__ == "__main__":
    found = compare_memory()
    print(*(line(c) for c in found), sep="\n")
    show(memory_rows(found))
    show(verdict_rows(found))
