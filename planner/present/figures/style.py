"""What all figures share: colours, type sizes, a sheet to draw on, and how one is written to a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from planner.errors import BadInputError

# Okabe, Ito, "Color universal design", 2008, https://jfly.uni-koeln.de/color/
OKABE_ITO = {
    "orange": "#E69F00", "sky": "#56B4E9", "green": "#009E73", "yellow": "#F0E442", "blue": "#0072B2",
    "vermillion": "#D55E00", "purple": "#CC79A7", "black": "#000000",
}  # fmt: skip
BOUND_STYLE: Mapping[str, tuple[str, str]] = {
    "compute": (OKABE_ITO["blue"], "o"),
    "memory": (OKABE_ITO["orange"], "s"),
    "overhead": (OKABE_ITO["purple"], "^"),
    "communication": (OKABE_ITO["green"], "D"),
}
INK, MUTED, FAINT, GRID = "#1a1a1a", "#6b6b6b", "#a6a6a6", "#e4e4e4"
WARNING = "#b00020"
BODY, SMALL, TITLE = 9.0, 7.8, 11.5
SUFFIXES = ("svg", "pdf", "png")
PNG_DPI = 144


def sheet(
    width: float, height: float, *, title: str, subtitle: str = "", left: float = 0.9
) -> tuple[Figure, Axes]:
    """A figure of ``width`` x ``height`` inches with one pair of axes, its title flush left above them."""
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((left / width, 0.62 / height, 1 - (left + 0.3) / width, 1 - 1.4 / height))
    headline(figure, title, subtitle)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(labelsize=SMALL + 0.4, colors=MUTED, labelcolor=INK, length=3)
    axes.set_axisbelow(True)
    return figure, axes


def headline(figure: Figure, title: str, subtitle: str) -> None:
    """Title and subtitle in the top left corner, at a fixed distance in inches from it."""
    width, height = figure.get_size_inches()
    figure.text(0.2 / width, 1 - 0.18 / height, title, fontsize=TITLE, fontweight="bold", color=INK, va="top")
    figure.text(0.2 / width, 1 - 0.45 / height, subtitle, fontsize=BODY, color=MUTED, va="top")


def axis_labels(axes: Axes, x: str, y: str) -> None:
    """Names of the two axes, units in square brackets."""
    axes.set_xlabel(x, fontsize=BODY, color=INK, labelpad=6)
    axes.set_ylabel(y, fontsize=BODY, color=INK, labelpad=6)


def percent(share: float) -> str:
    """A share for people: ``12 %``, ``0.4 %``, ``< 0.1 %``."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{share * 100:.0f} %" if share >= 0.0095 else f"{share * 100:.1f} %"


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure; the suffix says as what.

    Parameters
    ----------
    figure : Figure
    path : path                     ends in .svg (text stays text), .pdf or .png

    Raises
    ------
    BadInputError
        Another suffix. The same figure is written as the same bytes: no date, fixed ids.
    """
    target = Path(path)
    suffix = target.suffix.lower().removeprefix(".")
    if suffix not in SUFFIXES:
        raise BadInputError(f"{target}: cannot write a figure as {target.suffix or 'a file without suffix'!r}; "
                            f"allowed: {', '.join('.' + s for s in SUFFIXES)}")  # fmt: skip
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[suffix]
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "roofline-planner", "pdf.fonttype": 42}):
        figure.savefig(target, format=suffix, dpi=PNG_DPI, metadata=metadata)
    return target
