"""Served deployments as benchmarks measured them, beside what the very code that answers users predicts.

``serving.csv`` holds a scenario a row: engine and version, layout, clients or rate, lengths (means), and the settings
that the run's own script gives (token budget, cache dtype, steps that prompts are held back), with the mean time to
first token and per output token. ``doubt`` says where a figure cannot be what it seems, of the first token's time
(``ttft``) or of all: such rows stand in the tables, and intervals are made without them. Nothing in the cost model
reads the file.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from planner.errors import PlannerError
from planner.planning.service import service
from planner.planning.uncertainty import clients_bucket, serving_regime
from planner.scenario.keys import KEYS, parse_scenario
from planner.scenario.resolve import resolve
from planner.validation.study import Residual, Rows, error_row

FIGURES = ("ttft", "tpot", "rate")
SURE = "all but those in doubt"


@dataclass(frozen=True)
class Deployed:
    """One measured deployment: its row, ln(predicted / measured) of each figure, its regimes, or why it was refused.

    ``rate`` is output tokens a second of all clients, C·N / (ttft + (N - 1)·tpot); none where requests come at a rate.
    """

    row: Mapping[str, str]
    ratios: Mapping[str, float]
    regimes: Mapping[str, str]
    chip: str
    clients: int
    error: str = ""

    def doubtful(self, figure: str) -> bool:
        """Whether a measured figure cannot be what it seems; a rate holds the time to first token."""
        about = self.row["doubt"].partition(":")[0]
        return about == "all" or (about == "ttft" and figure != "tpot")

    @property
    def bucket(self) -> str:
        """Requests at once, in ranges; ``at a rate`` where they come on their own."""
        return "at a rate" if self.row["rate"] else clients_bucket(self.clients)


def deployments(rows: Sequence[Mapping[str, str]] | None = None) -> list[Deployed]:
    """Every row that ships with the planner, predicted."""
    if rows is None:
        with (resources.files("planner.validation") / "serving.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    return [_deployed(r) for r in rows]


def _deployed(row: Mapping[str, str]) -> Deployed:
    scenario = {k: v for k, v in row.items() if k in KEYS and v}
    try:
        resolved, x = resolve(parse_scenario({"task": "serve", **scenario}))
        found = service(resolved, x, resolved.run)  # type: ignore[arg-type]
    except PlannerError as error:
        return Deployed(row, {}, {}, "refused", 0, str(error))
    run = resolved.run
    ttft, tpot = (float(str(found.results[f"{k}_s"] or "nan")) for k in ("ttft", "tpot"))
    measured = {k: float(row[f"measured_{k}_s"]) for k in ("ttft", "tpot")}
    more = run.output_len - 1  # type: ignore[union-attr]
    ratios = {"ttft": np.log(ttft / measured["ttft"]), "tpot": np.log(tpot / measured["tpot"])}
    if not row["rate"]:
        ratios["rate"] = -np.log((ttft + more * tpot) / (measured["ttft"] + more * measured["tpot"]))
    regimes = {k: serving_regime(run, k) for k in FIGURES}  # type: ignore[arg-type]
    return Deployed(row, {k: float(v) for k, v in ratios.items()}, regimes, resolved.cluster.accelerator.id,
                    run.batch)  # type: ignore[union-attr]  # fmt: skip


def deployment_rows(found: Sequence[Deployed], by: Callable[[Deployed], str], label: str) -> Rows:
    """Errors of each figure, a row a group and figure, over all, and over all whose figures are what they seem."""
    groups = sorted({by(d) for d in found if not d.error})
    out: Rows = []
    for name in (*groups, "all", SURE):
        of = [d for d in found if name in ("all", SURE, by(d))]
        for figure in FIGURES:
            values = [d.ratios[figure] for d in of if np.isfinite(d.ratios.get(figure, np.nan))
                      and not (name == SURE and d.doubtful(figure))]  # fmt: skip
            if values:
                out.append({label: name, "figure": figure, **error_row(values)})
    return out


def deployment_tables(found: Sequence[Deployed]) -> dict[str, list[dict[str, Any]]]:
    """Measured beside predicted: by source and engine, by engine and version, by requests at once, by chip."""
    return {
        "served deployments, by source and engine": deployment_rows(
            found, lambda d: f"{d.row['source']}: {d.row['engine']}", "source and engine"
        ),
        "by engine and version": deployment_rows(
            found, lambda d: f"{d.row['engine']} {d.row['version']}", "engine and version"
        ),
        "by requests at once": deployment_rows(found, lambda d: d.bucket, "requests"),
        "by chip": deployment_rows(found, lambda d: d.chip, "chip"),
    }


def deployment_residuals(found: Sequence[Deployed]) -> list[Residual]:
    """(regime, model, ln(measured / predicted)) of every figure: intervals are held to models they were made without.

    What a measured rate exceeds the predicted by is the factor of an interval like that of a time.
    """
    return [
        (d.regimes[k], d.row["model"], -v)
        for d in found for k, v in d.ratios.items() if np.isfinite(v) and not d.doubtful(k)
    ]  # fmt: skip
