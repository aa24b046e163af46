"""The roofline: FLOP/byte against FLOP/s, both logarithmic, to one scale, so that bandwidths rise at 45°."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from planner.cost.points import COMMUNICATION, Point, violations
from planner.cost.roofs import Roof
from planner.present.figures.ceilings import DASHES, Frame, draw_roofs
from planner.present.figures.placement import Board, Box, leader
from planner.present.figures.style import (
    BOUND_STYLE,
    FAINT,
    HALO,
    INK,
    MUTED,
    SMALL,
    WARNING,
    axes_size,
    floating,
    intensity_axes,
    legend_row,
    percent,
    sheet,
    text_width,
)

NAMED_SHARE = 0.05  # points with less of the time go unnamed
FRAMING_SHARE = 0.015  # points with less do not widen the chart; a note says what lies outside
AREA = 1200.0  # pt² of a dot that takes all of the time
MARKER_SIZE = {"o": 4.0 / math.pi, "s": 1.0, "^": 2.0, "D": 1.0}  # scatter size of a marker of unit area
WIDTH = 8.6
LEFT, RIGHT, BOTTOM, TOP = 1.12, 0.25, 1.08, 0.85  # inches around the axes
BACKWARD = ("backward", "optimizer")
_SHORT = {"forward": "", "decode": "", "backward": " bwd", "recompute": " recompute", "optimizer": ""}


def roofline_figure(
    points: Sequence[Point],
    roofs: Sequence[Roof],
    *,
    title: str,
    subtitle: str = "",
    warn: bool = True,
    ax: Axes | None = None,
) -> Figure:
    """Operators of a pass under the roofs of a device.

    Parameters
    ----------
    points : sequence of Point      coloured by what bounds them; dot area is the share of the time
    roofs : sequence of Roof        solid: datasheet, dashed: achievable; names and values on the lines
    title, subtitle : str
    warn : bool                     say so where a point lies above its roof

    Returns
    -------
    Figure                          operators without FLOPs and communication are counted in a note, not drawn
    """
    computing = [p for p in points if p.flops > 0 and p.bytes > 0]
    frame = _frame(computing, roofs)
    flagged = violations(computing, roofs) if warn else []
    drawn = [p for p in computing if frame.holds(p) or p in flagged]
    wide, high = (s / 72 for s in frame.size)
    width, height = wide + LEFT + RIGHT, high + BOTTOM + TOP
    figure, axes = sheet(width, height, title=title, subtitle=subtitle, ax=ax)
    if ax is None:
        axes.set_position((LEFT / width, BOTTOM / height, wide / width, high / height))
    else:
        frame = frame.within(*axes_size(axes))
    intensity_axes(axes, (frame.x0, frame.x1, frame.y0, frame.y1))
    board = Board(Box(2.0, 2.0, frame.size[0] - 2.0, frame.size[1] - 2.0))
    _draw_points(axes, drawn, flagged, frame, board)
    draw_roofs(axes, roofs, frame, board)
    _name_points(axes, [p for p in drawn if p.share >= NAMED_SHARE or p in flagged], flagged, frame, board)
    _legend(figure, drawn, ax)
    if ax is None:
        _notes(figure, points, drawn, flagged)
    return figure


def _frame(computing: Sequence[Point], roofs: Sequence[Roof]) -> Frame:
    """Limits that show what matters: the larger points, the main ridge, the roofs."""
    main = [r for r in roofs if r.kind == "compute" and r.main] or [r for r in roofs if r.kind == "compute"]
    memory = next(r for r in roofs if r.kind == "memory")
    ridge = max(r.value for r in main) / memory.value
    top = max(r.value for r in roofs if r.kind == "compute")
    shown = [p for p in computing if p.share >= FRAMING_SHARE]
    intensities = [p.intensity for p in shown] or [ridge]
    x0 = math.log10(min(min(intensities) / 2.5, ridge / 12.0))
    x1 = math.log10(max(max(intensities) * 3.0, ridge * 20.0))
    y1 = math.log10(max(top, *(p.achieved_flops for p in shown), 1.0)) + 0.17
    y0 = min(math.log10(min([p.achieved_flops for p in shown] or [top / 10.0]) / 2.5), y1 - 1.9)
    wide, high = x1 - x0, y1 - y0
    if wide < 1.5 * high:
        x0 -= (1.5 * high - wide) * 0.6
        x1 += (1.5 * high - wide) * 0.4
    elif wide > 1.75 * high:
        y0 = y1 - wide / 1.75
    return Frame(x0, x1, y0, y1, (WIDTH - LEFT - RIGHT) * 72.0 / (x1 - x0))


def _draw_points(axes: Axes, drawn: Sequence[Point], flagged: Sequence[Point], frame: Frame, board: Board) -> None:
    """Dots, the largest underneath."""
    for p in sorted(drawn, key=lambda p: -p.share):
        ink, marker = BOUND_STYLE[p.bound]
        hollow, bad = p.phase in BACKWARD, p in flagged
        axes.scatter(
            [p.intensity],
            [p.achieved_flops],
            s=AREA * p.share * MARKER_SIZE[marker],
            marker=marker,
            zorder=5,
            facecolor="white" if hollow else ink,
            edgecolor=WARNING if bad else ink if hollow else "white",
            linewidth=1.5 if hollow or bad else 0.6,
            label=f"_{p.name} {p.phase}",
        )
        x, y = frame.at(p.intensity, p.achieved_flops)
        board.boxes.append(Box(x - _radius(p), y - _radius(p), x + _radius(p), y + _radius(p)))


def _radius(p: Point) -> float:
    return math.sqrt(AREA * p.share / math.pi) + 0.8


def _name_points(axes: Axes, named: Sequence[Point], flagged: Sequence[Point], frame: Frame, board: Board) -> None:
    """Names and shares; points that lie on one another share one label, a line each."""
    bunches: list[list[Point]] = []
    for p in sorted(named, key=lambda p: -p.share):
        x, y = frame.at(p.intensity, p.achieved_flops)
        for bunch in bunches:
            u, v = frame.at(bunch[0].intensity, bunch[0].achieved_flops)
            same_side = (p.phase in BACKWARD) == (bunch[0].phase in BACKWARD)
            if same_side and math.hypot(x - u, y - v) < max(9.0, 1.4 * _radius(bunch[0])):
                bunch.append(p)
                break
        else:
            bunches.append([p])
    for bunch in bunches:
        _name(axes, bunch, frame, board, ink=WARNING if any(p in flagged for p in bunch) else INK)


def _name(axes: Axes, bunch: Sequence[Point], frame: Frame, board: Board, *, ink: str) -> None:
    lines = [f"{p.name}{_SHORT.get(p.phase, '')} {percent(p.share)}" for p in bunch]
    x, y = frame.at(bunch[0].intensity, bunch[0].achieved_flops)
    box = board.place(
        x,
        y,
        radius=_radius(bunch[0]),
        width=max(text_width(t, SMALL) for t in lines),
        height=SMALL * (1.45 * len(lines) - 0.2),
    )
    middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
    floating(axes, "\n".join(lines), middle, color=ink, ha="center", zorder=7, linespacing=1.25, bbox=HALO)
    line = leader(x, y, _radius(bunch[0]) - 0.8, box)
    if math.hypot(line.x1 - line.x0, line.y1 - line.y0) > 3.0:
        ends = [
            (10 ** (frame.x0 + u / frame.scale), 10 ** (frame.y0 + v / frame.scale))
            for u, v in ((line.x0, line.y0), (line.x1, line.y1))
        ]
        axes.plot(*zip(*ends, strict=True), color=MUTED, linewidth=0.6, zorder=6)


def _legend(figure: Figure, drawn: Sequence[Point], ax: Axes | None) -> None:
    """One row under the chart: what the colours, the filling and the areas say."""
    handles = [
        Line2D([], [], linestyle="none", marker=marker, color=ink, markersize=6, label=f"{bound} bound")
        for bound, (ink, marker) in BOUND_STYLE.items()
        if any(p.bound == bound for p in drawn)
    ]
    if any(p.phase in BACKWARD for p in drawn):
        handles.append(
            Line2D(
                [],
                [],
                linestyle="none",
                marker="o",
                markerfacecolor="white",
                markeredgecolor=MUTED,
                markeredgewidth=1.4,
                markersize=6,
                label="open: backward, optimizer",
            )
        )
    handles.append(
        Line2D(
            [],
            [],
            linestyle="none",
            marker="o",
            color=FAINT,
            markeredgecolor="none",
            markersize=2 * math.sqrt(AREA * 0.1 / math.pi),
            label="area: 10 % of the time",
        )
    )
    handles.append(Line2D([], [], color=MUTED, linewidth=1.0, linestyle=DASHES, label="dashed: what matmuls reach"))
    legend_row(figure, handles, lift=0.27, ax=ax)


def _notes(figure: Figure, points: Sequence[Point], drawn: Sequence[Point], flagged: Sequence[Point]) -> None:
    """What is not drawn, and a warning where a point is above its roof."""
    width, height = figure.get_size_inches()
    waits = sum(p.share for p in points if p.bound == COMMUNICATION)
    light = sum(p.share for p in points if p.bound != COMMUNICATION and not (p.flops > 0 and p.bytes > 0))
    beyond = sorted((p for p in points if p.flops > 0 and p.bytes > 0 and p not in drawn), key=lambda p: -p.share)
    some = ", ".join(p.name for p in beyond[:1]) + (", …" if len(beyond) > 1 else "")
    parts = [
        f"{percent(light)} in operators without FLOPs (norms, activations)" if light else "",
        f"{percent(waits)} in exposed communication" if waits else "",
        f"{percent(sum(p.share for p in beyond))} outside the chart ({some})" if beyond else "",
    ]
    said = "Not drawn: " + ", ".join(p for p in parts if p) + "."
    if any(parts):
        figure.text(0.2 / width, 0.1 / height, said, fontsize=SMALL, color=MUTED, va="bottom")
    if flagged:
        names = ", ".join(f"{p.name}{_SHORT.get(p.phase, '')}" for p in flagged[:4])
        figure.text(
            1 - 0.2 / width,
            1 - 0.2 / height,
            f"Above its roof, which is a bug: {names}",
            fontsize=SMALL,
            fontweight="bold",
            color=WARNING,
            ha="right",
            va="top",
        )
