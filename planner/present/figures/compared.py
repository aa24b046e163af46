"""Several devices' roofs in one chart: where each is limited by memory, and where by arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from planner.errors import BadInputError
from planner.plan.roofs import Roof
from planner.present.figures.placement import spread
from planner.present.figures.style import (
    GRID,
    INK,
    MUTED,
    OKABE_ITO,
    SMALL,
    axis_labels,
    sheet,
)
from planner.units import format_quantity

WIDE = 5.2  # inches of the chart; the labels stand to its right
LINES = ("blue", "vermillion", "green", "purple", "orange", "sky", "black")


def roofs_figure(devices: Mapping[str, Sequence[Roof]], *, title: str, subtitle: str = "") -> Figure:
    """Memory slope and main compute roof of several devices, labelled at the end of each line.

    Parameters
    ----------
    devices : mapping               name to its roofs; at most seven, so that colours stay apart

    Returns
    -------
    Figure                          the ridge of each is marked and labelled with its intensity
    """
    if not 0 < len(devices) <= len(LINES):
        raise BadInputError(f"{len(devices)} devices given; the figure holds 1 to {len(LINES)}")
    pairs = {name: _main(ceilings) for name, ceilings in devices.items()}
    ridges = [peak / width for peak, width, _ in pairs.values()]
    x0, x1 = math.log10(min(ridges)) - 1.6, math.log10(max(ridges)) + 1.0
    y1 = math.log10(max(peak for peak, _, _ in pairs.values())) + 0.2
    y0 = min(x0 + math.log10(min(width for _, width, _ in pairs.values())), y1 - 1.8)
    scale = WIDE / (x1 - x0)
    wide, high = WIDE, scale * (y1 - y0)
    figure, axes = sheet(wide + 4.15, high + 1.6, title=title, subtitle=subtitle, left=1.12, bottom=0.75)
    axes.set_position((1.12 / (wide + 4.15), 0.75 / (high + 1.6), wide / (wide + 4.15), high / (high + 1.6)))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(10**x0, 10**x1)
    axes.set_ylim(10**y0, 10**y1)
    axes.set_aspect("equal")
    heights = [(math.log10(peak) - y0) * scale * 72 for peak, _, _ in pairs.values()]
    for (name, (peak, width, dtype)), colour, place in zip(
        pairs.items(), LINES, spread(heights, 24.0), strict=False
    ):
        ink, ridge = OKABE_ITO[colour], peak / width
        axes.plot(
            [10**x0, ridge, 10**x1], [10**x0 * width, peak, peak], color=ink, linewidth=1.8, label=f"_{name}"
        )
        axes.plot([ridge], [peak], marker="o", markersize=5, color=ink)
        offers = f"{dtype} {format_quantity(peak, 'FLOP/s', digits=4)}, {format_quantity(width, 'byte/s')}"
        axes.annotate(
            f"{name}\n{offers}, ridge {ridge:.0f}",
            (0, 0),
            xycoords=("axes fraction", "axes fraction"),
            xytext=(wide * 72 + 12, place),
            textcoords="offset points",
            fontsize=SMALL,
            color=INK,
            va="center",
            linespacing=1.25,
        )
        axes.plot(
            [1.0, 1.0 + 10 / 72 / wide],
            [(math.log10(peak) - y0) / (y1 - y0), place / 72 / high],
            color=ink,
            linewidth=1.2,
            transform=axes.transAxes,
            clip_on=False,
        )
    axes.grid(True, which="major", color=GRID, linewidth=0.6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 1 else f"{v:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: format_quantity(v, "FLOP/s", digits=4)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10.0))
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=2, color=MUTED)
    axis_labels(axes, "arithmetic intensity [FLOP/byte]", "throughput of one device [FLOP/s]")
    return figure


def _main(ceilings: Sequence[Roof]) -> tuple[float, float, str]:
    """Peak of the fastest main dtype, memory bandwidth, and that dtype."""
    lead = max((r for r in ceilings if r.kind == "compute" and r.main), key=lambda r: r.value)
    return lead.value, next(r.value for r in ceilings if r.kind == "memory"), lead.name
