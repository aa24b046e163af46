"""The Pareto front of layouts by two costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from planner.errors import BadInputError, unknown
from planner.present.figures.placement import Board, Box, Segment, leader
from planner.present.figures.rows import Row, holds, number, round_numbers
from planner.present.figures.style import (
    GRID,
    HALO,
    MUTED,
    OKABE_ITO,
    SMALL,
    axis_labels,
    floating,
    legend_row,
    sheet,
    text_width,
)

# column -> name on the axis, factor to the unit shown
AXES: Mapping[str, tuple[str, float]] = {
    "step_time_s": ("step time [s]", 1.0),
    "ttft_s": ("time to first token [s]", 1.0),
    "tpot_s": ("time per output token [ms]", 1e3),
    "memory_peak_bytes": ("memory of the fullest device [GiB]", 2.0**-30),
    "usd_per_million_tokens": ("cost [USD per million tokens]", 1.0),
    "usd_per_hour": ("rent [USD/hour]", 1.0),
    "devices": ("devices", 1.0),
}
_LAYOUT = ("tp", "pp", "cp", "dp", "ep", "etp", "vpp", "micro_batch", "zero_stage", "recompute")
_SHORT = {"micro_batch": "mb", "zero_stage": "zero"}
_IDLE: Mapping[str, object] = {"zero_stage": 0, "recompute": "none"}
APART = 80.0  # pt between the points of the front that are named


def pareto_figure(
    rows: Sequence[Row],
    *,
    x: str = "memory_peak_bytes",
    y: str = "step_time_s",
    title: str,
    subtitle: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Layouts by two costs, both better when smaller, and the front that nothing beats in both.

    Parameters
    ----------
    rows : sequence of mappings     with the columns ``x`` and ``y``, ``fits`` and the layout's keys
    x, y : str                      columns of AXES

    Returns
    -------
    Figure                          the front is drawn through the layouts that fit, and named
    """
    for name in (x, y):
        if name not in AXES:
            raise unknown("figure axis", name, AXES)
    if not rows:
        raise BadInputError("a Pareto figure needs at least one layout; none given")
    figure, axes = sheet(8.6, 5.6, title=title, subtitle=subtitle, left=1.0, bottom=1.05, ax=ax)
    fitting = [r for r in rows if holds(r)]
    others = [r for r in rows if not holds(r)]
    front = pareto_front(fitting, x, y)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _cloud(axes, others, x, y, colour="#dddddd")
    _cloud(axes, fitting, x, y, colour=OKABE_ITO["sky"])
    at = _values(front, x, y)
    look: dict[str, Any] = {"color": OKABE_ITO["vermillion"], "marker": "o", "markersize": 5}
    axes.plot(at[:, 0], at[:, 1], drawstyle="steps-post", linewidth=1.4, zorder=4, label="_front", **look)
    _limits(axes, _values(fitting, x, y), _values(rows, x, y))
    _name_front(figure, axes, front, at)
    axes.grid(True, which="major", color=GRID, linewidth=0.6)
    axis_labels(axes, AXES[x][0], AXES[y][0])
    dot: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 4}
    handles = [
        Line2D([], [], label="Pareto front", **look),
        Line2D([], [], color=OKABE_ITO["sky"], label="layout that fits", **dot),
        Line2D([], [], color="#cccccc", label="does not fit", **dot),
    ]
    legend_row(figure, handles if others else handles[:2], ax=ax)
    return figure


def pareto_front(rows: Sequence[Row], x: str, y: str) -> list[Row]:
    """Rows that no other row equals or beats in both columns, by rising ``x``."""
    front: list[Row] = []
    lowest = math.inf
    for row in sorted(rows, key=lambda r: (number(r, x), number(r, y))):
        if number(row, y) < lowest:
            front.append(row)
            lowest = number(row, y)
    return front


def _values(rows: Sequence[Row], x: str, y: str) -> np.ndarray:
    pairs = [(number(r, x) * AXES[x][1], number(r, y) * AXES[y][1]) for r in rows]
    return np.array(pairs, dtype=np.float64).reshape(-1, 2)


def _cloud(axes: Axes, rows: Sequence[Row], x: str, y: str, *, colour: str) -> None:
    at = _values(rows, x, y)
    axes.scatter(at[:, 0], at[:, 1], s=11, color=colour, linewidth=0, zorder=2)


def _limits(axes: Axes, fitting: np.ndarray, everything: np.ndarray) -> None:
    """Room for the layouts that fit, and for the others as far as they are within a factor of them."""
    lead = fitting if len(fitting) else everything
    low, high = lead.min(axis=0), lead.max(axis=0)
    high = np.minimum(everything.max(axis=0), high * (1.6, 1.0))
    axes.set_xlim(low[0] / 1.15, high[0] * 1.1)
    axes.set_ylim(low[1] / 1.25, min(high[1], low[1] * 30.0) * 1.1)
    for axis in (axes.xaxis, axes.yaxis):
        start, end = axis.get_view_interval()
        ticks = [v for v in round_numbers(start, end) if start <= v <= end]
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.6g}"))
        axis.set_minor_formatter(NullFormatter())
        axis.set_tick_params(which="minor", length=0)


def _name_front(figure: Figure, axes: Axes, front: Sequence[Row], at: np.ndarray) -> None:
    """Layouts of the front that stand far enough apart, the fastest and the leanest first."""
    width, height = (72 * v for v in figure.get_size_inches())
    spot = axes.get_position()
    places = axes.transAxes.inverted().transform(axes.transData.transform(at))
    places = places * (spot.width * width, spot.height * height)
    board = Board(Box(2, 2, spot.width * width - 2, spot.height * height - 2), preferred=225, insistence=0.15)
    board.boxes += [Box(u - 3, v - 3, u + 3, v + 3) for u, v in places]
    for (u0, v0), (u1, v1) in pairwise(places):
        board.lines += [Segment(u0, v0, u1, v0), Segment(u1, v0, u1, v1)]
    named: list[tuple[float, float]] = []
    order = [len(front) - 1, 0, *range(1, len(front) - 1)] if len(front) > 1 else range(len(front))
    for i in order:
        u, v = places[i]
        if any(math.hypot(u - a, v - b) < APART for a, b in named):
            continue
        named.append((u, v))
        text = layout_name(front[i])
        box = board.place(u, v, radius=3.5, width=text_width(text, SMALL), height=SMALL * 1.15)
        line = leader(u, v, 3.0, box)
        middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
        floating(axes, text, middle, ha="center", zorder=6, bbox=HALO)
        ends = [
            (line.x0 / width / spot.width, line.y0 / height / spot.height),
            (line.x1 / width / spot.width, line.y1 / height / spot.height),
        ]
        axes.plot(*zip(*ends, strict=True), transform=axes.transAxes, color=MUTED, linewidth=0.6, zorder=5)


def layout_name(row: Row) -> str:
    """A layout in few words: the sizes that are not 1, ``tp 8 pp 2 zero 1``."""
    parts = [f"{_SHORT.get(k, k)} {row[k]}" for k in _LAYOUT if k in row and row[k] != _IDLE.get(k, 1)]
    return " ".join(parts) or "one device"
