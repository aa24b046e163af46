"""Which published runs belong together: by lab, kind of model, and date; and layouts that were measured side by side.

``labs.csv`` joins the sources that one laboratory publishes, which are no strangers to each other.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources

import numpy as np

from planner.validation.published import Case, Compared
from planner.validation.study import Rows, rank_correlation, regime_of

LONG = 32768  # tokens of a sequence from which a run counts as one of long context
OLDER = "before 2025 or undated"


@lru_cache(maxsize=1)
def _labs() -> dict[str, str]:
    with (resources.files("planner.validation") / "labs.csv").open(encoding="utf-8") as file:
        return {row["source"]: row["lab"] for row in csv.DictReader(file)}


def lab(case: Case) -> str:
    """The laboratory that published a run: its source, unless several are one's."""
    return _labs().get(case.source, case.source)


def kind(c: Compared) -> str:
    """Kind of a run: adapters, long context, mixture of experts or dense."""
    if int(c.case.scenario.get("lora_rank", 0)):
        return "adapters"
    if int(c.case.scenario["seq_len"]) >= LONG:
        return "long context"
    return "mixture of experts" if ".moe" in regime_of(c) else "dense"


def quarter(case: Case) -> str:
    """Quarter in which the software of a run was released, as far as it is dated."""
    year, _, rest = case.released.partition("-")
    if not year or int(year) < 2025:
        return OLDER
    return f"{year} Q{(int(rest[:2] or 1) - 1) // 3 + 1}"


def side_by_side(compared: Sequence[Compared]) -> Rows:
    """Error, rank correlation and regret of each group of runs measured side by side, a row a group.

    Time is that of a token on a device. Regret is what the run predicted fastest loses to the fastest; runs that have
    the same keys are predicted alike, so the mean of those predicted fastest counts. Groups that the keys do not tell
    apart have nothing to choose.
    """
    groups: dict[str, list[Compared]] = {}
    for c in compared:
        if c.case.group and np.isfinite(c.log_ratio):
            groups.setdefault(c.case.group, []).append(c)
    return [row for name, members in sorted(groups.items()) if (row := _group_row(name, members))]


def _group_row(name: str, members: Sequence[Compared]) -> dict[str, object]:
    ratio = np.exp([c.log_ratio for c in members])
    keys = ("devices", "seq_len", "global_batch")
    devices, length, batch = (np.array([float(c.case.scenario[k]) for c in members]) for k in keys)
    measured = np.array([c.case.measured_s for c in members]) * devices / (length * batch)
    predicted = np.round(measured * ratio, 12)
    layouts = len(np.unique(predicted))
    if layouts < 2:
        return {}
    chosen = measured[np.isclose(predicted, predicted.min(), rtol=1e-9)].mean()
    return {
        "group": name, "runs": len(members), "layouts": layouts, "median_error": float(np.median(np.abs(ratio - 1.0))),
        "bias": float(np.median(ratio) - 1.0), "rank_correlation": rank_correlation(predicted, measured),
        "regret": float(chosen / measured.min() - 1.0),
    }  # fmt: skip
