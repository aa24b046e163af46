"""Many estimates at once: scenarios of training that differ in their layouts alone are one evaluation.

Rows whose micro-batch or recomputation is still to be chosen, and tasks other than training, are estimated one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np

from planner.cost.constants import RECOMPUTE
from planner.cost.layouts import Layouts, layouts
from planner.cost.rules import RULES, first_broken
from planner.cost.runs import TrainingRun
from planner.cost.training import training_step
from planner.errors import PlannerError
from planner.planning.estimate import COLUMNS, estimate_scenario, held_columns, known, training_columns
from planner.scenario.complete import axis_sizes, layout_columns, runs
from planner.scenario.echo import LAYOUT
from planner.scenario.keys import Value, parse_scenario
from planner.scenario.names import HardwareDirs
from planner.scenario.resolve import Resolved, resolve_run, settle
from planner.supply.cost import cluster_price

Row = dict[str, object]
Group = list[tuple[int, dict[str, Value], dict[str, Value]]]  # place, scenario, sizes of its axes
RESULTS = tuple(c for c in COLUMNS if c != "error")


def estimate_many(
    cells: Sequence[Mapping[str, object]], *, dirs: HardwareDirs = (), folder: str | None = None, today: date
) -> list[Row]:  # fmt: skip
    """The layout and the results of each scenario, in order, as :func:`estimate_scenario` gives them one by one.

    Returns
    -------
    list of rows                    one that cannot be has its ``error`` alone
    """
    out: list[Row] = [{} for _ in cells]
    groups: dict[object, Group] = {}
    for i, cell in enumerate(cells):
        try:
            scenario = parse_scenario(cell)
            if _alone(scenario):
                e = estimate_scenario(cell, dirs=dirs, folder=folder, today=today)
                out[i] = {**{k: e.inputs.get(k) for k in LAYOUT}, **e.results}
                continue
            sizes = axis_sizes(scenario)
            groups.setdefault(_shared(scenario, sizes), []).append((i, scenario, sizes))
        except PlannerError as error:
            out[i] = _fault(error)
    for group in groups.values():
        try:
            _estimate_group(group, out, dirs, folder, today)
        except PlannerError as error:
            for i, *_ in group:
                out[i] = _fault(error)
    return out


def _fault(error: PlannerError) -> Row:
    return {"error": " ".join(str(error).split())}


def _alone(scenario: Mapping[str, Value]) -> bool:
    """Whether a scenario leaves a layout to choose, or is no training."""
    chooses = "recompute" not in scenario or ("micro_batch" not in scenario and "global_batch" in scenario)
    return scenario.get("task", "train") != "train" or chooses


def _shared(scenario: Mapping[str, Value], sizes: Mapping[str, Value]) -> object:
    """What scenarios of one evaluation have in common: the keys that are given, the devices, all but the layout."""
    return frozenset(scenario), sizes["devices"], tuple(sorted((k, v) for k, v in scenario.items() if k not in LAYOUT))


def _estimate_group(
    group: Group, out: list[Row], dirs: HardwareDirs, folder: str | None, today: date
) -> None:  # fmt: skip
    _, first, axes = group[0]
    resolved = resolve_run({**first, **axes}, dirs=dirs, folder=folder)
    experts = resolved.case.sizes.experts
    columns = [layout_columns(s, sizes, "train", experts=experts) for _, s, sizes in group]
    x = layouts(**{k: np.array([c[k] for c in columns]) for k in columns[0]})
    law = first_broken(x, resolved.case)
    for j in np.flatnonzero(law < len(RULES)):
        words = RULES[law[j]].words(x.row(int(j)), resolved.case)
        out[group[j][0]] = {"error": " ".join(words.split())}
    lawful = np.flatnonzero(law == len(RULES))
    if not len(lawful):
        return
    kept = x.take(lawful)
    assert isinstance(resolved.run, TrainingRun)
    for rows, run in runs(resolved.run, resolved.cluster.efficiency.execution, resolved.named, kept):
        _fill(out, [group[lawful[j]][0] for j in rows], settle(resolved, kept.take([rows[0]])), kept.take(rows), run,
              today)  # fmt: skip


def _fill(
    out: list[Row], places: Sequence[int], resolved: Resolved, x: Layouts, run: TrainingRun, today: date
) -> None:  # fmt: skip
    """Write the rows of layouts that share a run to their places."""
    step = training_step(resolved.demand, resolved.cluster, x, run, detail=True)
    found: dict[str, Any] = dict(training_columns(resolved, x, run, step))
    price = cluster_price(resolved.cluster, today=today)
    found |= held_columns(resolved, step.memory, found["tokens_per_s"], price)
    own = {k: getattr(x, k).tolist() for k in LAYOUT}
    own["recompute"] = [RECOMPUTE[i] for i in own["recompute"]]
    own["sequence_parallel"] = [bool(i) for i in own["sequence_parallel"]]
    names = [*LAYOUT, *RESULTS]
    lists = [own[k] if k in own else _cells(found.get(k), len(x)) for k in names]
    for place, values in zip(places, zip(*lists, strict=True), strict=True):
        out[place] = dict(zip(names, values, strict=True))


def _cells(column: Any, rows: int) -> list[object]:
    if column is None:
        return [None] * rows
    return [known(v) for v in column.tolist()]
