"""Several devices' roofs in one chart: where each is limited by memory, and where by arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from planner.cost.roofs import Roof
from planner.errors import BadInputError
from planner.present.figures.placement import spread
from planner.present.figures.style import OKABE_ITO, axes_size, floating, intensity_axes, sheet
from planner.units import format_quantity

WIDE, BESIDE = 5.2, 4.15  # inches of the chart, and of what stands beside it
LINES = ("blue", "vermillion", "green", "purple", "orange", "sky", "black")


def roofs_figure(
    devices: Mapping[str, Sequence[Roof]], *, title: str, subtitle: str = "", ax: Axes | None = None
) -> Figure:
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
    x0, x1, y0, y1 = _limits(pairs)
    scale = WIDE / (x1 - x0)
    width, high = WIDE + BESIDE, scale * (y1 - y0)
    figure, axes = sheet(width, high + 1.6, title=title, subtitle=subtitle, left=1.12, bottom=0.75, ax=ax)
    if ax is None:
        axes.set_position((1.12 / width, 0.75 / (high + 1.6), WIDE / width, high / (high + 1.6)))
    else:
        scale = min(axes_size(axes)[0] / (x1 - x0), axes_size(axes)[1] / (y1 - y0)) / 72
        high = scale * (y1 - y0)
    across = scale * (x1 - x0)
    intensity_axes(axes, (x0, x1, y0, y1))
    heights = [(math.log10(peak) - y0) * scale * 72 for peak, _, _ in pairs.values()]
    rows = zip(pairs.items(), LINES, heights, spread(heights, 24.0), strict=False)
    for (name, (peak, bandwidth, dtype)), colour, height, place in rows:
        ink, ridge = OKABE_ITO[colour], peak / bandwidth
        ends = [10**x0, ridge, 10**x1]
        axes.plot(ends, [10**x0 * bandwidth, peak, peak], color=ink, linewidth=1.8, label=f"_{name}")
        axes.plot([ridge], [peak], marker="o", markersize=5, color=ink)
        offers = f"{dtype} {format_quantity(peak, 'FLOP/s', digits=4)}, {format_quantity(bandwidth, 'byte/s')}"
        floating(axes, f"{name}\n{offers}, ridge {ridge:.0f}", (across * 72 + 12, place), linespacing=1.25)
        stub = [1.0, 1.0 + 10 / 72 / across], [height / 72 / high, place / 72 / high]
        axes.plot(*stub, color=ink, linewidth=1.2, transform=axes.transAxes, clip_on=False)
    return figure


def _limits(pairs: Mapping[str, tuple[float, float, str]]) -> tuple[float, float, float, float]:
    """Powers of ten that show every ridge with room on both sides."""
    ridges = [math.log10(peak / bandwidth) for peak, bandwidth, _ in pairs.values()]
    x0, x1 = min(ridges) - 1.6, max(ridges) + 1.0
    y1 = math.log10(max(peak for peak, _, _ in pairs.values())) + 0.2
    return x0, x1, min(x0 + math.log10(min(b for _, b, _ in pairs.values())), y1 - 1.8), y1


def _main(ceilings: Sequence[Roof]) -> tuple[float, float, str]:
    """Peak of the fastest main dtype, memory bandwidth, and that dtype."""
    lead = max((r for r in ceilings if r.kind == "compute" and r.main), key=lambda r: r.value)
    return lead.value, next(r.value for r in ceilings if r.kind == "memory"), lead.name
