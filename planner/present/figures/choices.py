"""Choices drawn: layouts against each other, and what the answer hangs on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter

from planner.planning.sensitivity import Sensitivity
from planner.present.figures.rows import Row, holds, number, round_numbers
from planner.present.figures.style import (
    BODY,
    FAINT,
    GRID,
    INK,
    MUTED,
    OKABE_ITO,
    SMALL,
    axis_labels,
    bare_rows,
    ink_on,
    label,
    legend_row,
    percent,
    seconds,
    sheet,
    text_width,
)
from planner.units import format_gib


def heatmap_figure(
    rows: Sequence[Row], *, x: str = "pp", y: str = "tp", title: str, subtitle: str = "", ax: Axes | None = None
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
    across = sorted({int(number(r, x)) for r in rows})
    up = sorted({int(number(r, y)) for r in rows})
    cells = _best_cells(rows, x, y)
    wide, high = max(5.6, 1.5 + 0.86 * len(across)), 1.9 + 0.52 * len(up)
    figure, axes = sheet(wide, high, title=title, subtitle=subtitle, left=0.8, bottom=0.95, ax=ax)
    times = [number(r, "step_time_s") for r in cells.values() if holds(r)]
    best = min(times, default=math.nan)
    norm: Normalize = LogNorm(best or 1.0, max(max(times, default=1.0), 1.01 * best)) if times else Normalize()
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
        Rectangle((0, 0), 1, 1, facecolor="white", edgecolor=OKABE_ITO["vermillion"], linewidth=1.8, label="fastest"),
        Patch(facecolor="#f2f2f2", edgecolor="#cfcfcf", hatch="////", label="does not fit: least memory"),
    ]
    legend_row(figure, handles if any(not holds(r) for r in cells.values()) else handles[:1], ax=ax)
    return figure


def _best_cells(rows: Sequence[Row], x: str, y: str) -> dict[tuple[int, int], Row]:
    cells: dict[tuple[int, int], Row] = {}
    for row in sorted(rows, key=_rank, reverse=True):
        cells[int(number(row, x)), int(number(row, y))] = row
    return cells


def _rank(row: Row) -> tuple[bool, float]:
    return (not holds(row), number(row, "step_time_s" if holds(row) else "memory_peak_bytes"))


def _cell(axes: Axes, i: int, j: int, row: Row, *, best: float, norm: Normalize) -> None:
    """One cell: time and distance from the best, or the memory it would take."""
    box: dict[str, Any] = {"xy": (i - 0.47, j - 0.45), "width": 0.94, "height": 0.9}
    middle: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 4}
    if not holds(row):
        axes.add_patch(Rectangle(**box, facecolor="#f2f2f2", edgecolor="#d9d9d9", hatch="////", linewidth=0.0))
        halo = {"facecolor": "#f2f2f2", "edgecolor": "none", "pad": 1.0}
        text = format_gib(number(row, "memory_peak_bytes"))
        axes.text(i, j, text, fontsize=SMALL, color=MUTED, bbox=halo, **middle)
        return
    value = number(row, "step_time_s")
    ratio, leads = value / best, value == best
    colour = to_hex(colormaps["Blues"](0.92 - 0.8 * float(norm(value))))
    edge = OKABE_ITO["vermillion"] if leads else "none"
    axes.add_patch(Rectangle(**box, facecolor=colour, zorder=3 if leads else 2, edgecolor=edge, linewidth=2.2))
    beyond = "best" if leads else f"+{(ratio - 1) * 100:.0f} %" if ratio < 10 else f"× {ratio:.0f}"
    ink = ink_on(colour)
    axes.text(i, j + 0.14, seconds(value), fontsize=BODY, color=ink, fontweight="bold", **middle)
    axes.text(i, j - 0.2, beyond, fontsize=SMALL - 0.6, color=ink, **middle)


def tornado_figure(
    sensitivities: Sequence[Sensitivity], *, title: str, subtitle: str = "", ax: Axes | None = None
) -> Figure:
    """What a change of each hardware figure does to the step time, the strongest on top.

    Parameters
    ----------
    sensitivities : sequence of Sensitivity     (``planner.planning.sensitivity.sensitivity``)

    Returns
    -------
    Figure                          change of step time in percent; to the right is slower
    """
    ordered = sorted(sensitivities, key=lambda s: -s.swing)
    left = max((text_width(s.name, BODY) for s in ordered), default=60.0) / 72 + 0.35
    figure, axes = sheet(8.6, 1.95 + 0.42 * len(ordered), title=title, subtitle=subtitle, left=left, bottom=1.05, ax=ax)
    reach = max((s.swing for s in ordered), default=0.01) * 100 * 1.28 or 1.0
    change = ordered[0].change if ordered else 0.2
    looks = {
        f"{change * 100:.0f} % less": OKABE_ITO["vermillion"],
        f"{change * 100:.0f} % more": OKABE_ITO["blue"],
    }
    for y, s in enumerate(ordered):
        for value, (name, colour) in zip((s.low, s.high), looks.items(), strict=True):
            moved = (value / s.base - 1) * 100
            axes.barh(y, moved, height=0.6, color=colour, label=f"_{s.name} {name}")
            left_side = moved < 0 or (moved == 0 and value is s.high)
            text = f"{moved:+.1f} %".replace("-", "−") if abs(moved) >= 0.05 else "0 %"
            at, shift = (moved, y), (-4.0 if left_side else 4.0, 0.0)
            label(axes, text, at, shift=shift, ha="right" if left_side else "left")
    axes.axvline(0, color=INK, linewidth=1.0)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.set_yticks(range(len(ordered)), [s.name for s in ordered], fontsize=BODY)
    bare_rows(axes)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:+g} %".replace("-", "−") if v else "0"))
    base = seconds(ordered[0].base) if ordered else "n/a"
    axis_labels(axes, f"change of the step time, {base} as it is: faster ← → slower", "")
    legend_row(figure, [Patch(facecolor=colour, label=name) for name, colour in looks.items()], ax=ax)
    return figure


def scaling_figure(rows: Sequence[Row], *, title: str, subtitle: str = "", ax: Axes | None = None) -> Figure:
    """Throughput over the number of devices, beside what perfect scaling from the smallest would give.

    Parameters
    ----------
    rows : sequence of mappings     with ``devices`` and ``tokens_per_s``, the best layout of each size

    Returns
    -------
    Figure                          both axes logarithmic; each point says its share of perfect scaling
    """
    ordered = sorted(rows, key=lambda r: number(r, "devices"))
    devices = np.array([number(r, "devices") for r in ordered])
    rate = np.array([number(r, "tokens_per_s") for r in ordered])
    figure, axes = sheet(8.6, 5.2, title=title, subtitle=subtitle, left=1.05, bottom=1.05, ax=ax)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ideal = rate[0] * devices / devices[0]
    axes.plot(devices, ideal, color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)), label="_ideal")
    axes.plot(devices, rate, color=OKABE_ITO["blue"], linewidth=1.6, marker="o", markersize=6, label="_rate")
    for n, r, i in zip(devices, rate, ideal, strict=True):
        label(axes, percent(r / i), (n, r), shift=(5.0, -7.0))
    axes.set_xticks(devices, [f"{n:,.0f}" for n in devices])
    axes.xaxis.set_minor_locator(FixedLocator([]))
    low, high = axes.set_ylim(rate.min() / 1.8)
    axes.yaxis.set_major_locator(FixedLocator([v for v in round_numbers(low, high) if low <= v <= high]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    axes.yaxis.set_minor_locator(FixedLocator([]))
    axes.grid(True, which="major", color=GRID, linewidth=0.6)
    axis_labels(axes, "devices", "throughput [tokens/s]")
    mine = Line2D([], [], color=OKABE_ITO["blue"], marker="o", label="best layout, share of perfect scaling")
    perfect = Line2D([], [], color=FAINT, linestyle=(0, (4, 3)), label="perfect scaling")
    legend_row(figure, [mine, perfect], ax=ax)
    return figure
