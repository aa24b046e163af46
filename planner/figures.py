"""Figures as public functions: each draws results into ``ax``, or on a sheet of its own, and returns Figure and Axes.

>>> from planner import estimate, figures
>>> figure, axes = figures.waterfall(estimate(model="gpt2", hardware="dgx-h100", devices=8))
>>> figures.save(figure, "waterfall.svg")

Tables of layouts are DataFrames or rows with the columns of an answer, as ``Plan.to_frame`` and
:func:`planner.estimates` give them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from planner.cost.points import points
from planner.cost.roofs import roofs as roofs_of
from planner.planning.estimate import Estimate
from planner.present import figures as drawn
from planner.present.figures import save
from planner.present.plans import layout_text, titles

if TYPE_CHECKING:
    from planner.frames import Frame
    from planner.planning.sensitivity import Sensitivity

Drawn = tuple[Figure, Axes]
Rows = Iterable[Mapping[str, object]]

__all__ = ["heatmap", "memory", "pareto", "roofline", "roofs", "save", "scaling", "tornado", "waterfall"]


def roofline(estimate: Estimate, *, ax: Axes | None = None, title: str = "", subtitle: str = "") -> Drawn:
    """Operators of an estimate under the roofs of its device."""
    found, lines = points(estimate.job), roofs_of(estimate.job)
    return _both(drawn.roofline_figure(found, lines, ax=ax, **_titles(estimate, title, subtitle)), ax)


def waterfall(estimate: Estimate, *, ax: Axes | None = None, title: str = "", subtitle: str = "") -> Drawn:
    """Step time as a waterfall of the terms of its ledger, with its 90 % interval."""
    return _both(drawn.waterfall_figure(estimate, ax=ax, **_titles(estimate, title, subtitle)), ax)


def memory(
    estimates: Estimate | Mapping[str, Estimate], *, ax: Axes | None = None, title: str = "", subtitle: str = ""
) -> Drawn:
    """Memory ledgers as stacked bars, one an estimate, beside the capacity of the first one's device [GiB]."""
    several = {layout_text(estimates): estimates} if isinstance(estimates, Estimate) else dict(estimates)
    first = next(iter(several.values()))
    ledgers = {name: e.memory for name, e in several.items()}
    return _both(drawn.memory_figure(ledgers, capacity=first.capacity, ax=ax, **_titles(first, title, subtitle)), ax)


def roofs(estimates: Mapping[str, Estimate], *, ax: Axes | None = None, title: str = "Roofs") -> Drawn:
    """Memory slope and main compute roof of the devices of several estimates, by name."""
    lines = {name: roofs_of(e.job) for name, e in estimates.items()}
    return _both(drawn.roofs_figure(lines, title=title, ax=ax), ax)


def heatmap(
    rows: Rows | Frame, *, x: str = "pp", y: str = "tp", ax: Axes | None = None, title: str = "Best step time"
) -> Drawn:
    """Best step time over two parallel sizes, of layouts that fit and that do not."""
    return _both(drawn.heatmap_figure(_rows(rows), x=x, y=y, title=title, ax=ax), ax)


def pareto(
    rows: Rows | Frame, *, x: str = "memory_peak_bytes", y: str = "step_time_s", ax: Axes | None = None,
    title: str = "Layouts by two costs",
) -> Drawn:  # fmt: skip
    """Layouts by two costs, both better when smaller, and the front that nothing beats in both."""
    return _both(drawn.pareto_figure(_rows(rows), x=x, y=y, title=title, ax=ax), ax)


def scaling(rows: Rows | Frame, *, ax: Axes | None = None, title: str = "Throughput over devices") -> Drawn:
    """Throughput over the number of devices beside perfect scaling, from rows with ``devices`` and ``tokens_per_s``."""
    return _both(drawn.scaling_figure(_rows(rows), title=title, ax=ax), ax)


def tornado(sensitivities: Sequence[Sensitivity], *, ax: Axes | None = None, title: str = "Sensitivity") -> Drawn:
    """What a change of each hardware figure does to the step time (``planner.planning.sensitivity.sensitivity``)."""
    return _both(drawn.tornado_figure(sensitivities, title=title, ax=ax), ax)


def _titles(estimate: Estimate, title: str, subtitle: str) -> dict[str, Any]:
    made = titles(estimate)
    return {"title": title or made["title"], "subtitle": subtitle or made["subtitle"]}


def _rows(rows: Rows | Frame) -> list[dict[str, Any]]:
    """Rows that have a step time, of a DataFrame or of mappings."""
    table: Any = rows
    found = table.to_dict("records") if hasattr(table, "to_dict") else list(table)
    return [dict(r) for r in found if not r.get("error")]


def _both(figure: Figure, ax: Axes | None) -> Drawn:
    return figure, figure.axes[0] if ax is None else ax
