"""Serving memory against what engines logged at start: weights, the pool for the KV cache, and whether they started.

``serving_memory.csv`` holds a scenario a row, with the source of its log and what was logged: GiB a device, tokens of
all replicas. Empty cells were not logged, or count something else (tokens of hybrid models).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from importlib import resources

import numpy as np

from planner.catalogue.engines import engine
from planner.planning.estimate import Estimate, estimate_scenario
from planner.validation.study import Residual, Rows, error_row

LOGGED = ("weights_gib", "kv_gib", "kv_tokens")
BESIDE = ("id", "source", "quality", "version", "started", *LOGGED)
GIB = 2.0**30


@dataclass(frozen=True)
class Logged:
    """One start of an engine: what it logged, and the estimate of it."""

    row: Mapping[str, str]
    estimate: Estimate

    @property
    def ratios(self) -> dict[str, float]:
        """ln(predicted / logged) of every figure that was logged."""
        e = self.estimate
        # An engine that allocates the whole context logs the cache that was asked for, whatever is left.
        whole = engine(self.row["engine"]).memory.allocates == "context"
        pool = e.memory["kv_cache"] if whole else _number(e.results["kv_pool_bytes"])
        found = (e.memory["weights"] / GIB, pool / GIB, _number(e.results["kv_cache_tokens"]))
        return {k: float(np.log(v / float(self.row[k]))) for k, v in zip(LOGGED, found, strict=True) if self.row[k]}

    @property
    def right(self) -> bool:
        """Whether the engine is said to start where it did, and not to where it did not."""
        return self.estimate.results["starts"] == (self.row["started"] == "yes")


def _number(value: object) -> float:
    return float(str(value or "nan"))


def serving_logs() -> list[Logged]:
    """Every row that ships with the planner, estimated."""
    path = resources.files("planner.validation") / "serving_memory.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    given = [{k: v for k, v in r.items() if k not in BESIDE and v} for r in rows]
    return [Logged(r, estimate_scenario(g, today=date(2026, 1, 1))) for r, g in zip(rows, given, strict=True)]


def serving_residuals(logs: list[Logged]) -> list[Residual]:
    """(regime, source, ln(measured / predicted)) of a full device whose pool for the cache was logged.

    What the pool lacks of its prediction is held by all else, so that a peak predicted to fill the device, C, would
    have been C + predicted pool - logged pool.
    """
    out: list[Residual] = []
    for x in logs:
        if "kv_gib" in x.ratios and engine(x.row["engine"]).memory.allocates != "context":
            missing = _number(x.estimate.results["kv_pool_bytes"]) - float(x.row["kv_gib"]) * GIB
            out.append(("infer", x.row["source"], float(np.log1p(missing / x.estimate.capacity))))
    return out


def served_by(x: Logged) -> str:
    """Engine of a start, without its release."""
    return x.row["engine"].rpartition("-")[0] if x.row["engine"][-1].isdigit() else x.row["engine"]


def served_kind(x: Logged) -> str:
    """Kind of a start: whether the model has experts, states or windows, and is quantised."""
    d, resolved = x.estimate.resolved.demand, x.estimate.resolved
    ops = [o for s in d.sections for o in s.table.ops]
    capped = any(o.state or (o.cache and np.isfinite(o.window)) for o in ops)
    names = ["experts" if resolved.case.sizes.experts else "dense"]
    names += ["states or windows"] if capped else []
    names += ["quantised"] if resolved.precision.bytes_of("weight") < 2.0 else []
    return ", ".join(names)


def serving_rows(logs: list[Logged], by: Callable[[Logged], str] = served_by, label: str = "engine") -> Rows:
    """Errors of each figure by engine (or whatever ``by`` says) and over all, a row each."""
    out: Rows = []
    for name in (*sorted({by(x) for x in logs}), "all"):
        of = [x for x in logs if name in ("all", by(x))]
        for figure in LOGGED:
            values = [x.ratios[figure] for x in of if figure in x.ratios]
            if values:
                out.append({label: name, "figure": figure, **error_row(values)})
        wrong = sum(not x.right for x in of)
        out.append({label: name, "figure": f"started or not, {wrong} wrong", "runs": len(of)})
    return out
