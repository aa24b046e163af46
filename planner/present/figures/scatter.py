"""Predicted against measured, one dot a published run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from planner.present.figures.style import BODY, FAINT, MUTED, OKABE_ITO, SMALL, axis_labels, sheet

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h")
COLOURS = tuple(OKABE_ITO[c] for c in ("blue", "vermillion", "green", "orange", "purple", "sky", "black"))


def scatter_figure(
    points: Mapping[str, Sequence[tuple[float, float]]], *, title: str, subtitle: str = "", ax: Axes | None = None
) -> Figure:
    """Dots of (measured, predicted) seconds by source, the diagonal, and the band of 30 % either way.

    Parameters
    ----------
    points : source -> pairs of (measured, predicted) [s]
    """
    figure, axes = sheet(7.4, 6.2, title=title, subtitle=subtitle, left=0.85, bottom=0.75, ax=ax)
    every = np.array([p for pairs in points.values() for p in pairs])
    low, high = every.min() / 1.6, every.max() * 1.6
    line = np.array([low, high])
    axes.fill_between(line, line / 1.3, line * 1.3, color=FAINT, alpha=0.28, linewidth=0)
    axes.plot(line, line, color=MUTED, linewidth=0.9)
    for i, (source, pairs) in enumerate(points.items()):
        measured, predicted = np.array(pairs).T
        axes.scatter(measured, predicted, s=17, marker=MARKERS[i % len(MARKERS)], color=COLOURS[i % len(COLOURS)],
                     alpha=0.75, linewidths=0, label=f"{source} ({len(pairs)})")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    axes.set_aspect("equal")
    axes.text(low * 1.9, low * 1.22, "±30 %", fontsize=SMALL, color=MUTED, ha="left", va="top", rotation=45)
    axis_labels(axes, "measured step time [s]", "predicted step time [s]")
    axes.legend(loc="upper left", fontsize=SMALL, frameon=False, handletextpad=0.2, borderaxespad=0.2,
                labelspacing=0.35)  # fmt: skip
    axes.tick_params(labelsize=BODY)
    return figure
