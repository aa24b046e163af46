"""What all figures share: colours, type sizes, a sheet to draw on, and how one is written to a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from planner.errors import BadInputError, legible
from planner.files import replacing
from planner.units import format_quantity

# Okabe, Ito, "Color universal design", 2008, https://jfly.uni-koeln.de/color/
OKABE_ITO = {
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
    "black": "#000000",
}
BOUND_STYLE: Mapping[str, tuple[str, str]] = {
    "compute": (OKABE_ITO["blue"], "o"),
    "memory": (OKABE_ITO["orange"], "s"),
    "overhead": (OKABE_ITO["purple"], "^"),
    "communication": (OKABE_ITO["green"], "D"),
}
INK, MUTED, FAINT, GRID = "#1a1a1a", "#6b6b6b", "#a6a6a6", "#e4e4e4"
WARNING = "#b00020"
HALO = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8}  # keeps text legible over lines
BODY, SMALL, TITLE = 9.0, 7.8, 11.5
SUFFIXES = ("svg", "pdf", "png")
PNG_DPI = 144


def sheet(
    width: float,
    height: float,
    *,
    title: str,
    subtitle: str = "",
    left: float = 0.9,
    bottom: float = 0.62,
    ax: Axes | None = None,
) -> tuple[Figure, Axes]:
    """A figure of ``width`` x ``height`` inches with one pair of axes under a title flush left; or the figure of ``ax``
    and ``ax`` itself, which then has the title."""
    if ax is None:
        figure = Figure(figsize=(width, height), facecolor="white")
        FigureCanvasAgg(figure)
        inside = (left / width, bottom / height, 1 - (left + 0.25) / width, 1 - (bottom + 0.85) / height)
        axes = figure.add_axes(inside)
        headline(figure, title, subtitle)
    else:
        axes, figure = ax, root_of(ax)
        axes.set_title(title, loc="left", fontsize=BODY + 1, fontweight="bold", color=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(labelsize=SMALL + 0.4, colors=MUTED, labelcolor=INK, length=3)
    axes.set_axisbelow(True)
    return figure, axes


def ink_on(colour: str) -> str:
    """Black or white, whichever reads better on a colour (WCAG relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return INK if 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.2 else "white"


@lru_cache(maxsize=4096)
def text_width(text: str, size: float) -> float:
    """Width of a line of text in the default typeface [pt], with 4 % for rounding to pixels."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), False)
    return 1.04 * float(width)


def folded(text: str, size: float, room: float) -> str:
    """A text in lines that are at most ``room`` points wide, broken between words."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def root_of(axes: Axes) -> Figure:
    """The whole figure that a pair of axes is in, a subfigure's too."""
    figure = axes.figure
    while not isinstance(figure, Figure):
        figure = figure.figure
    return figure


def axes_size(axes: Axes) -> tuple[float, float]:
    """Width and height of a pair of axes [pt]."""
    spot = axes.get_position()
    width, height = root_of(axes).get_size_inches()
    return float(spot.width * width * 72), float(spot.height * height * 72)


def legend_row(figure: Figure, handles: Sequence[Artist], *, lift: float = 0.16, ax: Axes | None = None) -> None:
    """A legend in one row along the foot of the figure, ``lift`` inches above its edge; of ``ax`` in a corner of it."""
    if ax is not None:
        ax.legend(handles=list(handles), loc="best", fontsize=SMALL, labelcolor=INK, framealpha=0.8, edgecolor="none")
        return
    width, height = figure.get_size_inches()
    figure.legend(
        handles=list(handles),
        loc="lower left",
        bbox_to_anchor=(0.12 / width, lift / height),
        ncols=max(len(handles), 1),
        frameon=False,
        fontsize=SMALL,
        labelcolor=INK,
        columnspacing=1.3,
        handletextpad=0.5,
        handlelength=1.4,
        borderaxespad=0.0,
    )


def headline(figure: Figure, title: str, subtitle: str) -> None:
    """Title and subtitle in the top left corner, at a fixed distance in inches from it; long ones shrink to fit."""
    width, height = figure.get_size_inches()
    room = (width - 0.4) * 72
    look: dict[str, Any] = {"color": INK, "fontweight": "bold"}
    for text, size, down in ((title, TITLE, 0.18), (subtitle, BODY, 0.45)):
        needed = text_width(text, size) * (1.12 if look.get("fontweight") else 1.0)
        figure.text(
            0.2 / width, 1 - down / height, text, fontsize=size * min(1.0, room / max(needed, 1.0)), va="top", **look
        )
        look = {"color": MUTED}


def label(
    axes: Axes, text: str, at: tuple[float, float], *, shift: tuple[float, float] = (5.0, 0.0), **look: Any
) -> None:
    """A line of small text, ``shift`` points from a place on the chart."""
    merged: dict[str, Any] = {"fontsize": SMALL, "color": INK, "va": "center"} | look
    axes.annotate(text, at, xytext=shift, textcoords="offset points", **merged)


def floating(axes: Axes, text: str, place: tuple[float, float], **look: Any) -> None:
    """A line of small text at a place in points from the lower left corner of the axes."""
    corner = ("axes fraction", "axes fraction")
    merged: dict[str, Any] = {"fontsize": SMALL, "color": INK, "va": "center"} | look
    axes.annotate(text, (0, 0), xycoords=corner, xytext=place, textcoords="offset points", **merged)


def bare_rows(axes: Axes) -> None:
    """Rows of bars: no ticks at their names, faint lines to read lengths by."""
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x", color=GRID, linewidth=0.6)


def intensity_axes(axes: Axes, limits: tuple[float, float, float, float]) -> None:
    """Logarithmic axes of a roofline to one scale; ``limits`` x0, x1, y0, y1 are powers of ten."""
    x0, x1, y0, y1 = limits
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(10**x0, 10**x1)
    axes.set_ylim(10**y0, 10**y1)
    axes.set_aspect("equal")
    axes.grid(True, which="major", color=GRID, linewidth=0.6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 1 else f"{v:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: format_quantity(v, "FLOP/s", digits=4)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10.0))
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=2, color=FAINT)
    axis_labels(axes, "arithmetic intensity [FLOP/byte]", "throughput of one device [FLOP/s]")


def axis_labels(axes: Axes, x: str, y: str) -> None:
    """Names of the two axes, units in square brackets."""
    axes.set_xlabel(x, fontsize=BODY, color=INK, labelpad=6)
    axes.set_ylabel(y, fontsize=BODY, color=INK, labelpad=6)


def percent(share: float) -> str:
    """A share for people: ``12 %``, ``0.4 %``, ``< 0.1 %``."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{share * 100:.0f} %" if share >= 0.0095 else f"{share * 100:.1f} %"


def seconds(value: float) -> str:
    """A time with three figures, trailing zeros kept: ``14.0 s``, ``1.30 ms``."""
    scale, unit = next(((k, u) for k, u in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")) if value >= k), (1e-9, "ns"))
    return f"{value / scale:#.3g}".rstrip(".") + f" {unit}"


def room_for(values: Sequence[float], texts: Sequence[str], *, width: float) -> float:
    """Upper limit of an axis ``width`` points wide on which each text fits to the right of its value."""
    needed = (
        v * width / max(width - text_width(t, SMALL) * 1.15 - 14.0, 0.2 * width)
        for v, t in zip(values, texts, strict=True)
    )
    return max(needed, default=1.0)


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure; the suffix says as what.

    Parameters
    ----------
    figure : Figure
    path : path                     ends in .svg (text stays text), .pdf or .png

    Raises
    ------
    BadInputError
        Another suffix, or a file that cannot be written; the one that stood there stays then.

    Notes
    -----
    The same figure is written as the same bytes: no date, fixed ids.
    """
    target = Path(path)
    suffix = target.suffix.lower().removeprefix(".")
    if suffix not in SUFFIXES:
        raise BadInputError(
            f"{target}: cannot write a figure as {target.suffix or 'a file without suffix'!r}; "
            f"allowed: {', '.join('.' + s for s in SUFFIXES)}"
        )
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[suffix]
    _take_literally(figure)
    look: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "roofline-planner",
        "pdf.fonttype": 42,
        "text.parse_math": False,
    }
    with rc_context(look), replacing(target) as file:
        figure.savefig(file, format=suffix, dpi=PNG_DPI, metadata=metadata)
    return target


def _take_literally(figure: Figure) -> None:
    """Show every text as it is written: a name of a user's may hold a dollar sign, or what no SVG may."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text("\n".join(legible(line) for line in text.get_text().split("\n")))
