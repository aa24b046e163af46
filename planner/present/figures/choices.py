"""Choices drawn: layouts against each other, and what the answer hangs on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from planner.errors import unknown
from planner.plan.sensitivity import Sensitivity
from planner.present.figures.placement import Board, Box, Segment, leader
from planner.present.figures.style import (
    BODY,
    FAINT,
    GRID,
    INK,
    MUTED,
    OKABE_ITO,
    SMALL,
    axis_labels,
    ink_on,
    legend_row,
    seconds,
    sheet,
    text_width,
)
from planner.units import format_gib

Row = Mapping[str, object]
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
_LAYOUT = ("tp", "pp", "cp", "dp", "ep", "vpp", "micro_batch", "zero_stage", "recompute")
_SHORT = {"micro_batch": "mb", "zero_stage": "zero"}
_IDLE: Mapping[str, object] = {"zero_stage": 0, "recompute": "none"}
SPREAD = 1.5  # labels of the front are at least this many times their height apart


def pareto_figure(
    rows: Sequence[Row],
    *,
    x: str = "memory_peak_bytes",
    y: str = "step_time_s",
    title: str,
    subtitle: str = "",
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
    figure, axes = sheet(8.6, 5.6, title=title, subtitle=subtitle, left=1.0, bottom=1.05)
    fitting = [r for r in rows if r.get("fits", True)]
    others = [r for r in rows if not r.get("fits", True)]
    front = pareto_front(fitting, x, y)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _cloud(axes, others, x, y, colour="#dddddd")
    _cloud(axes, fitting, x, y, colour=OKABE_ITO["sky"])
    at = _values(front, x, y)
    axes.plot(
        at[:, 0],
        at[:, 1],
        color=OKABE_ITO["vermillion"],
        linewidth=1.4,
        drawstyle="steps-post",
        marker="o",
        markersize=5,
        zorder=4,
        label="_front",
    )
    _limits(axes, _values(fitting, x, y), _values(rows, x, y))
    _name_front(figure, axes, front, at)
    axes.grid(True, which="major", color=GRID, linewidth=0.6)
    axis_labels(axes, AXES[x][0], AXES[y][0])
    handles = [
        Line2D([], [], marker="o", color=OKABE_ITO["vermillion"], markersize=5, label="Pareto front"),
        Line2D(
            [],
            [],
            marker="o",
            linestyle="none",
            color=OKABE_ITO["sky"],
            markersize=4,
            label="layout that fits",
        ),
        Line2D([], [], marker="o", linestyle="none", color="#cccccc", markersize=4, label="does not fit"),
    ]
    legend_row(figure, handles if others else handles[:2])
    return figure


def pareto_front(rows: Sequence[Row], x: str, y: str) -> list[Row]:
    """Rows that no other row equals or beats in both columns, by rising ``x``."""
    front: list[Row] = []
    lowest = math.inf
    for row in sorted(rows, key=lambda r: (_number(r, x), _number(r, y))):
        if _number(row, y) < lowest:
            front.append(row)
            lowest = _number(row, y)
    return front


def _number(row: Row, key: str) -> float:
    value = row[key]
    assert isinstance(value, int | float)
    return float(value)


def _values(rows: Sequence[Row], x: str, y: str) -> np.ndarray:
    pairs = [(_number(r, x) * AXES[x][1], _number(r, y) * AXES[y][1]) for r in rows]
    return np.array(pairs, dtype=np.float64).reshape(-1, 2)


def _cloud(axes: Axes, rows: Sequence[Row], x: str, y: str, *, colour: str) -> None:
    at = _values(rows, x, y)
    axes.scatter(at[:, 0], at[:, 1], s=11, color=colour, linewidth=0, zorder=2)


def _limits(axes: Axes, fitting: np.ndarray, everything: np.ndarray) -> None:
    """Room for the layouts that fit, and for as many of the others as lie within a factor of them."""
    lead = fitting if len(fitting) else everything
    low, high = lead.min(axis=0), lead.max(axis=0)
    high = np.minimum(everything.max(axis=0), high * (1.6, 1.0))
    axes.set_xlim(low[0] / 1.15, high[0] * 1.1)
    axes.set_ylim(low[1] / 1.25, min(high[1], low[1] * 30.0) * 1.1)
    for axis in (axes.xaxis, axes.yaxis):
        start, end = axis.get_view_interval()
        ticks = [v for v in _round_numbers(start, end) if start <= v <= end]
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.6g}"))
        axis.set_minor_formatter(NullFormatter())
        axis.set_tick_params(which="minor", length=0)


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2, 5 (and 3, 7 in narrow ranges) times powers of ten."""
    digits = (1, 2, 5) if high / low > 8 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [d * 10.0**e for e in range(first, last + 1) for d in digits]


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
        if any(math.hypot(u - a, v - b) < 4.0 * SMALL * SPREAD for a, b in named):
            continue
        named.append((u, v))
        text = layout_name(front[i])
        box = board.place(u, v, radius=3.5, width=text_width(text, SMALL), height=SMALL * 1.15)
        line = leader(u, v, 3.0, box)
        axes.annotate(
            text,
            (0, 0),
            xycoords=("axes fraction", "axes fraction"),
            textcoords="offset points",
            xytext=((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2),
            fontsize=SMALL,
            color=INK,
            ha="center",
            va="center",
            zorder=6,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
        )
        ends = [
            (line.x0 / width / spot.width, line.y0 / height / spot.height),
            (line.x1 / width / spot.width, line.y1 / height / spot.height),
        ]
        axes.plot(*zip(*ends, strict=True), transform=axes.transAxes, color=MUTED, linewidth=0.6, zorder=5)


def layout_name(row: Row) -> str:
    """A layout in few words: the sizes that are not 1, ``tp 8 pp 2 zero 1``."""
    parts = [f"{_SHORT.get(k, k)} {row[k]}" for k in _LAYOUT if k in row and row[k] != _IDLE.get(k, 1)]
    return " ".join(parts) or "one device"


def heatmap_figure(
    rows: Sequence[Row], *, x: str = "pp", y: str = "tp", title: str, subtitle: str = ""
) -> Figure:
    """Best step time over two parallel sizes; a cell where nothing fits says how much memory it would take.

    Parameters
    ----------
    rows : sequence of mappings     with ``x``, ``y``, ``step_time_s``, ``memory_peak_bytes`` and ``fits``; of
                                    several rows a cell the fastest that fits counts

    Returns
    -------
    Figure                          time and distance from the best in each cell; impossible sizes stay empty
    """
    across = sorted({int(_number(r, x)) for r in rows})
    up = sorted({int(_number(r, y)) for r in rows})
    cells = _best_cells(rows, x, y)
    wide, high = max(5.6, 1.5 + 0.86 * len(across)), 1.9 + 0.52 * len(up)
    figure, axes = sheet(wide, high, title=title, subtitle=subtitle, left=0.8, bottom=0.95)
    times = [_number(r, "step_time_s") for r in cells.values() if r["fits"]]
    best = min(times, default=math.nan)
    norm: Normalize = (
        LogNorm(best or 1.0, max(max(times, default=1.0), 1.01 * best)) if times else Normalize()
    )
    for (i, j), row in cells.items():
        _cell(axes, across.index(i), up.index(j), row, best=best, norm=norm)
    axes.set_xlim(-0.5, len(across) - 0.5)
    axes.set_ylim(-0.5, len(up) - 0.5)
    axes.set_xticks(range(len(across)), [str(v) for v in across])
    axes.set_yticks(range(len(up)), [str(v) for v in up])
    axes.tick_params(length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axis_labels(axes, f"{x} (stages)" if x == "pp" else x, f"{y} (tensor parallel)" if y == "tp" else y)
    handles = [
        Rectangle(
            (0, 0), 1, 1, facecolor="white", edgecolor=OKABE_ITO["vermillion"], linewidth=1.8, label="fastest"
        ),
        Patch(facecolor="#f2f2f2", edgecolor="#cfcfcf", hatch="////", label="does not fit: least memory"),
    ]
    legend_row(figure, handles if any(not r["fits"] for r in cells.values()) else handles[:1])
    return figure


def _best_cells(rows: Sequence[Row], x: str, y: str) -> dict[tuple[int, int], Row]:
    cells: dict[tuple[int, int], Row] = {}
    for row in sorted(rows, key=_rank, reverse=True):
        cells[int(_number(row, x)), int(_number(row, y))] = row
    return cells


def _rank(row: Row) -> tuple[bool, float]:
    return (not row["fits"], _number(row, "step_time_s" if row["fits"] else "memory_peak_bytes"))


def _cell(axes: Axes, i: int, j: int, row: Row, *, best: float, norm: Normalize) -> None:
    corner = (i - 0.47, j - 0.45)
    if not row["fits"]:
        axes.add_patch(
            Rectangle(
                corner, 0.94, 0.9, facecolor="#f2f2f2", edgecolor="#d9d9d9", hatch="////", linewidth=0.0
            )
        )
        axes.text(
            i,
            j,
            format_gib(_number(row, "memory_peak_bytes")),
            ha="center",
            va="center",
            fontsize=SMALL,
            color=MUTED,
            bbox={"facecolor": "#f2f2f2", "edgecolor": "none", "pad": 1.0},
        )
        return
    value = _number(row, "step_time_s")
    colour = to_hex(colormaps["Blues"](0.92 - 0.8 * float(norm(value))))
    leads = value == best
    axes.add_patch(
        Rectangle(
            corner,
            0.94,
            0.9,
            facecolor=colour,
            zorder=3 if leads else 2,
            edgecolor=OKABE_ITO["vermillion"] if leads else "none",
            linewidth=2.2,
        )
    )
    ratio = value / best
    beyond = "best" if leads else f"+{(ratio - 1) * 100:.0f} %" if ratio < 10 else f"× {ratio:.0f}"
    axes.text(
        i,
        j + 0.14,
        seconds(value),
        ha="center",
        va="center",
        fontsize=BODY,
        zorder=4,
        color=ink_on(colour),
        fontweight="bold",
    )
    axes.text(
        i, j - 0.2, beyond, ha="center", va="center", fontsize=SMALL - 0.6, color=ink_on(colour), zorder=4
    )


def tornado_figure(sensitivities: Sequence[Sensitivity], *, title: str, subtitle: str = "") -> Figure:
    """What a change of each hardware figure does to the step time, the strongest on top.

    Parameters
    ----------
    sensitivities : sequence of Sensitivity     (``planner.plan.sensitivity.sensitivity``)

    Returns
    -------
    Figure                          change of step time in percent; to the right is slower
    """
    ordered = sorted(sensitivities, key=lambda s: -s.swing)
    left = max((text_width(s.name, BODY) for s in ordered), default=60.0) / 72 + 0.35
    figure, axes = sheet(
        8.6, 1.95 + 0.42 * len(ordered), title=title, subtitle=subtitle, left=left, bottom=1.05
    )
    reach = max((s.swing for s in ordered), default=0.01) * 100 * 1.28 or 1.0
    change = ordered[0].change if ordered else 0.2
    looks = (
        (f"{change:.0%} less".replace("%", " %"), OKABE_ITO["vermillion"]),
        (f"{change:.0%} more".replace("%", " %"), OKABE_ITO["blue"]),
    )
    for y, s in enumerate(ordered):
        for value, (label, colour) in zip((s.low, s.high), looks, strict=True):
            percent = (value / s.base - 1) * 100
            axes.barh(y, percent, height=0.6, color=colour, label=f"_{s.name} {label}")
            side = -1 if percent < 0 or (percent == 0 and value is s.high) else 1
            axes.annotate(
                f"{percent:+.1f} %".replace("-", "−") if abs(percent) >= 0.05 else "0 %",
                (percent, y),
                xytext=(4 * side, 0),
                textcoords="offset points",
                ha="left" if side > 0 else "right",
                va="center",
                fontsize=SMALL,
                color=INK if abs(percent) >= 0.05 else MUTED,
            )
    axes.axvline(0, color=INK, linewidth=1.0)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.set_yticks(range(len(ordered)), [s.name for s in ordered], fontsize=BODY)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x", color=GRID, linewidth=0.6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:+g} %".replace("-", "−") if v else "0"))
    base = seconds(ordered[0].base) if ordered else "n/a"
    axis_labels(axes, f"change of the step time, {base} as it is: faster ← → slower", "")
    legend_row(figure, [Patch(facecolor=colour, label=label) for label, colour in looks])
    return figure


def scaling_figure(rows: Sequence[Row], *, title: str, subtitle: str = "") -> Figure:
    """Throughput over the number of devices, beside what perfect scaling from the smallest would give.

    Parameters
    ----------
    rows : sequence of mappings     with ``devices`` and ``tokens_per_s``, the best layout of each size

    Returns
    -------
    Figure                          both axes logarithmic; each point says its share of perfect scaling
    """
    ordered = sorted(rows, key=lambda r: _number(r, "devices"))
    devices = np.array([_number(r, "devices") for r in ordered])
    rate = np.array([_number(r, "tokens_per_s") for r in ordered])
    figure, axes = sheet(8.6, 5.2, title=title, subtitle=subtitle, left=1.05, bottom=1.05)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ideal = rate[0] * devices / devices[0]
    axes.plot(devices, ideal, color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)), label="_ideal")
    axes.plot(devices, rate, color=OKABE_ITO["blue"], linewidth=1.6, marker="o", markersize=6, label="_rate")
    for n, r, i in zip(devices, rate, ideal, strict=True):
        axes.annotate(
            f"{r / i:.0%}".replace("%", " %"),
            (n, r),
            xytext=(5, -11),
            textcoords="offset points",
            fontsize=SMALL,
            color=INK,
        )
    axes.set_xticks(devices, [f"{n:,.0f}" for n in devices])
    axes.xaxis.set_minor_locator(FixedLocator([]))
    low, high = axes.set_ylim(rate.min() / 1.8)
    axes.yaxis.set_major_locator(FixedLocator([v for v in _round_numbers(low, high) if low <= v <= high]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    axes.yaxis.set_minor_locator(FixedLocator([]))
    axes.grid(True, which="major", color=GRID, linewidth=0.6)
    axis_labels(axes, "devices", "throughput [tokens/s]")
    legend_row(
        figure,
        [
            Line2D(
                [], [], color=OKABE_ITO["blue"], marker="o", label="best layout, share of perfect scaling"
            ),
            Line2D([], [], color=FAINT, linestyle=(0, (4, 3)), label="perfect scaling"),
        ],
    )
    return figure
