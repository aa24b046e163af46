"""Devices against days and against money, a line a kind of hardware."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter

from planner.errors import BadInputError
from planner.present.figures.rows import Row, number, round_numbers
from planner.present.figures.style import (
    FAINT,
    GRID,
    INK,
    MUTED,
    OKABE_ITO,
    SMALL,
    WARNING,
    axis_labels,
    legend_row,
    sheet,
)

LINES = ("blue", "vermillion", "green", "purple", "orange", "sky", "black")
WIDE, HIGH = 11.4, 5.4


def size_figure(
    curves: Mapping[str, Sequence[Row]], *, picked: Mapping[str, int], title: str, subtitle: str = "",
    deadline: float | None = None, budget: float | None = None,
) -> Figure:  # fmt: skip
    """Days and cost of a run over the number of devices.

    Parameters
    ----------
    curves : hardware -> rows        with ``devices``, ``days``, ``days_low``, ``days_high`` and ``usd`` (or None); at
                                     most seven
    picked : hardware -> devices     that are marked
    deadline, budget : [day], [USD]  drawn as lines

    Returns
    -------
    Figure                           left days with their 90 % band, right cost of those with a price
    """
    if not 0 < len(curves) <= len(LINES):
        raise BadInputError(f"{len(curves)} kinds of hardware given; the figure holds 1 to {len(LINES)}")
    figure, left = sheet(WIDE, HIGH, title=title, subtitle=subtitle, left=0.95, bottom=1.05)
    right = figure.add_axes((0.565, 1.05 / HIGH, 0.415, 1 - 1.9 / HIGH))
    left.set_position((0.083, 1.05 / HIGH, 0.405, 1 - 1.9 / HIGH))
    for side in ("top", "right"):
        right.spines[side].set_visible(False)
    for colour, (name, rows) in zip(LINES, curves.items(), strict=False):
        ink = OKABE_ITO[colour]
        ordered = sorted(rows, key=lambda r: number(r, "devices"))
        n = [number(r, "devices") for r in ordered]
        low, high = ([number(r, k) for r in ordered] for k in ("days_low", "days_high"))
        left.fill_between(n, low, high, color=ink, alpha=0.10, linewidth=0)
        _line(left, ordered, "days", ink, name, picked.get(name))
        _line(right, [r for r in ordered if r["usd"] is not None], "usd", ink, name, picked.get(name))
    _scales(left, [r for rows in curves.values() for r in rows], "days", "days, failures included", deadline)
    priced = [r for rows in curves.values() for r in rows if r["usd"] is not None]
    if priced:
        _scales(right, priced, "usd", "cost [USD]", budget)
    else:
        right.set_axis_off()
        right.text(0.5, 0.5, "no price is known", ha="center", color=MUTED, transform=right.transAxes)
    handles = [Line2D([], [], color=OKABE_ITO[c], marker="o", markersize=4, label=n)
               for c, n in zip(LINES, curves, strict=False)]  # fmt: skip
    mark = Line2D([], [], color=MUTED, marker="o", markersize=9, markerfacecolor="none", linestyle="none",
                  label="answer")  # fmt: skip
    legend_row(figure, [*handles, *([mark] if picked else [])])
    return figure


def _line(axes: Axes, rows: Sequence[Row], key: str, ink: str, name: str, picked: int | None) -> None:
    """One curve, the picked count ringed."""
    n = [number(r, "devices") for r in rows]
    axes.plot(n, [number(r, key) for r in rows], color=ink, linewidth=1.6, marker="o", markersize=4, label=f"_{name}")
    for r in rows:
        if number(r, "devices") == picked:
            axes.plot([picked], [number(r, key)], marker="o", markersize=10, markerfacecolor="none",
                      markeredgecolor=ink, markeredgewidth=1.4, linestyle="none")  # fmt: skip


def _scales(axes: Axes, rows: Sequence[Row], key: str, words: str, limit: float | None) -> None:
    """Logarithmic axes over the rows, with the limit as a line."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    n = sorted({int(number(r, "devices")) for r in rows})
    ticks = [v for v in n if v & (v - 1) == 0] or n
    ticks = ticks[:: max(1, -(-len(ticks) // 9))]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    axes.xaxis.set_minor_locator(FixedLocator([]))
    values = [number(r, key) for r in rows] + ([limit] if limit is not None else [])
    low, high = min(values) / 1.4, max(values) * 1.4
    axes.set_ylim(low, high)
    marks = [v for v in round_numbers(low, high) if low <= v <= high]
    axes.yaxis.set_major_locator(FixedLocator(marks))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.6g}" if key == "days" else _money(v)))
    axes.yaxis.set_minor_locator(FixedLocator([]))
    axes.grid(True, which="major", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL + 0.4, colors=MUTED, labelcolor=INK, length=3)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axis_labels(axes, "devices", words)
    if limit is not None:
        axes.axhline(limit, color=WARNING, linewidth=1.1, linestyle=(0, (5, 3)))
        said = f"deadline {limit:g} days" if key == "days" else f"budget {_money(limit)}"
        # Days fall to the right and money rises: words at the other end are clear of the curves.
        at, side = (0.01, "left") if key == "usd" else (0.99, "right")
        axes.annotate(said, (at, limit), xycoords=("axes fraction", "data"), xytext=(0, 3), ha=side,
                      textcoords="offset points", va="bottom", fontsize=SMALL, color=WARNING)  # fmt: skip


def _money(usd: float) -> str:
    return f"{usd / 1e6:g} M" if usd >= 1e6 else f"{usd / 1e3:g} k" if usd >= 1e3 else f"{usd:g}"
