"""The roofline: FLOP/byte against FLOP/s, both logarithmic, to one scale, so that bandwidths rise at 45°."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from planner.plan.points import COMMUNICATION, Point, violations
from planner.plan.roofs import Roof
from planner.present.figures.placement import Board, Box, Segment, leader, spread
from planner.present.figures.style import (
    BOUND_STYLE,
    FAINT,
    GRID,
    INK,
    MUTED,
    SMALL,
    WARNING,
    axis_labels,
    legend_row,
    percent,
    sheet,
    text_width,
)
from planner.units import format_quantity

NAMED_SHARE = 0.05  # points with less of the time go unnamed
FRAMING_SHARE = 0.015  # points with less do not widen the chart; a note says what lies outside
AREA = 1200.0  # pt² of a dot that takes all of the time
MARKER_SIZE = {"o": 4.0 / math.pi, "s": 1.0, "^": 2.0, "D": 1.0}  # scatter size of a marker of unit area
WIDTH = 8.6
LEFT, RIGHT, BOTTOM, TOP = 1.12, 0.25, 1.08, 0.85  # inches around the axes
DASHES = (0, (4, 3))
BACKWARD = ("backward", "optimizer")
_SHORT = {"forward": "", "decode": "", "backward": " bwd", "recompute": " recompute", "optimizer": ""}


@dataclass(frozen=True)
class _Frame:
    """Limits of the axes in powers of ten, and how many typographic points a decade takes."""

    x0: float
    x1: float
    y0: float
    y1: float
    scale: float

    def at(self, intensity: float, flops: float) -> tuple[float, float]:
        """Where a place on the chart lies, in points from the lower left corner of the axes."""
        return (math.log10(intensity) - self.x0) * self.scale, (math.log10(flops) - self.y0) * self.scale

    def holds(self, p: Point) -> bool:
        """Whether a point lies on the chart."""
        return (
            self.x0 < math.log10(p.intensity) < self.x1 and self.y0 < math.log10(p.achieved_flops) < self.y1
        )

    @property
    def size(self) -> tuple[float, float]:
        return (self.x1 - self.x0) * self.scale, (self.y1 - self.y0) * self.scale


def roofline_figure(
    points: Sequence[Point], roofs: Sequence[Roof], *, title: str, subtitle: str = "", warn: bool = True
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
    figure, axes = sheet(width, height, title=title, subtitle=subtitle)
    axes.set_position((LEFT / width, BOTTOM / height, wide / width, high / height))
    _axes(axes, frame)
    board = Board(Box(2.0, 2.0, frame.size[0] - 2.0, frame.size[1] - 2.0))
    _draw_points(axes, drawn, flagged, frame, board)
    _draw_roofs(axes, roofs, frame, board)
    _name_points(axes, [p for p in drawn if p.share >= NAMED_SHARE or p in flagged], flagged, frame, board)
    _legend(figure, drawn)
    _notes(figure, points, drawn, flagged)
    return figure


def _frame(computing: Sequence[Point], roofs: Sequence[Roof]) -> _Frame:
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
    return _Frame(x0, x1, y0, y1, (WIDTH - LEFT - RIGHT) * 72.0 / (x1 - x0))


def _axes(axes: Axes, frame: _Frame) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(10**frame.x0, 10**frame.x1)
    axes.set_ylim(10**frame.y0, 10**frame.y1)
    axes.set_aspect("equal")
    axes.grid(True, which="major", color=GRID, linewidth=0.6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 1 else f"{v:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: format_quantity(v, "FLOP/s", digits=4)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10.0))
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=2, color=FAINT)
    axis_labels(axes, "arithmetic intensity [FLOP/byte]", "throughput of one device [FLOP/s]")


def _draw_roofs(axes: Axes, roofs: Sequence[Roof], frame: _Frame, board: Board) -> None:
    """Slopes up to the highest compute roof, ceilings from the memory slope to the right."""
    memory = next(r for r in roofs if r.kind == "memory")
    ceilings = _grouped([r for r in roofs if r.kind == "compute" and math.log10(r.value) > frame.y0])
    top = max(r.value for r in roofs if r.kind == "compute" and r.main)
    for roof in ceilings:
        ink, width = (INK, 1.7) if roof.main else (FAINT, 0.9)
        _line(axes, frame, board, roof.value / memory.value, roof.value, 10**frame.x1, roof.value, ink, width)
        if roof.main and roof.achievable:
            reach = memory.achievable or memory.value
            _line(
                axes,
                frame,
                board,
                roof.achievable / reach,
                roof.achievable,
                10**frame.x1,
                roof.achievable,
                MUTED,
                1.0,
                dashed=True,
            )
    for roof in roofs:
        if roof.kind != "compute":
            _draw_slope(
                axes, roof, frame, board, top=max(c.value for c in ceilings) if roof is memory else top
            )
    _label_ceilings(axes, ceilings, frame, board)


def _grouped(ceilings: Sequence[Roof]) -> list[Roof]:
    """Roofs of equal value as one line with all their names; the main one gives the look."""
    by_value: dict[float, list[Roof]] = {}
    for roof in ceilings:
        by_value.setdefault(float(f"{roof.value:.3g}"), []).append(roof)
    out = []
    for same in by_value.values():
        lead = next((r for r in same if r.main), same[0])
        names = [r.name for r in sorted(same, key=lambda r: not r.main)]
        out.append(Roof(", ".join(names), "compute", lead.value, lead.achievable, lead.main, lead.dtype))
    return out


def _line(
    axes: Axes,
    frame: _Frame,
    board: Board,
    x0: float,
    y0: float,
    x1: float,
    y1: float,
    ink: str,
    width: float,
    *,
    dashed: bool = False,
) -> None:
    axes.plot(
        [x0, x1],
        [y0, y1],
        color=ink,
        linewidth=width,
        linestyle=DASHES if dashed else "solid",
        zorder=2,
        solid_capstyle="butt",
    )
    board.lines.append(Segment(*frame.at(x0, y0), *frame.at(x1, y1)))


def _draw_slope(axes: Axes, roof: Roof, frame: _Frame, board: Board, *, top: float) -> None:
    main = roof.kind == "memory"
    ink, width = (INK, 1.7) if main else (FAINT, 0.9)
    start = 10**frame.x0
    if start * roof.value < 10**frame.y0:
        start = 10**frame.y0 / roof.value
    if top / roof.value > start:
        _line(axes, frame, board, start, start * roof.value, top / roof.value, top, ink, width)
    text = f"{roof.name}: {format_quantity(roof.value, 'byte/s')}{' one way' if roof.kind == 'link' else ''}"
    _label_slope(axes, roof.value, text, frame, board, ink=INK if main else MUTED)
    if main and roof.achievable and roof.achievable != roof.value:
        _line(
            axes,
            frame,
            board,
            start,
            start * roof.achievable,
            top / roof.achievable,
            top,
            MUTED,
            1.0,
            dashed=True,
        )
        text = f"achievable {format_quantity(roof.achievable, 'byte/s')}"
        _label_slope(axes, roof.achievable, text, frame, board, ink=MUTED, below=roof.achievable < roof.value)


def _label_slope(
    axes: Axes, bandwidth: float, text: str, frame: _Frame, board: Board, *, ink: str, below: bool = False
) -> None:
    """Written along a slope, just above it or below, at the first place from its foot that is free."""
    foot = max(frame.x0, frame.y0 - math.log10(bandwidth))
    length = text_width(text, SMALL) * 0.7072
    side = -1.0 if below else 1.0
    for offset in range(8, 400, 12):
        x = (foot - frame.x0) * frame.scale + offset
        y = (foot + math.log10(bandwidth) - frame.y0) * frame.scale + offset
        if x + length > frame.size[0] or y + length > frame.size[1]:
            return
        steps = max(int(length / 6), 1)
        u, v = x - side * 5.0, y + side * 5.0
        along = (i * length / steps for i in range(steps + 1))
        tiles = [Box(u - 5.5 + t, v - 5.5 + t, u + 5.5 + t, v + 5.5 + t) for t in along]
        level = [line for line in board.lines if line.y0 == line.y1]
        if not any(t.overlap(b) for t in tiles for b in board.boxes) and not any(
            line.inside(t) for t in tiles for line in level
        ):
            break
    axes.annotate(
        text,
        (0, 0),
        xycoords=("axes fraction", "axes fraction"),
        xytext=(x - side * 2.2, y + side * 2.2),
        textcoords="offset points",
        fontsize=SMALL,
        color=ink,
        rotation=45,
        rotation_mode="anchor",
        ha="left",
        va="top" if below else "bottom",
        zorder=3,
    )
    board.boxes += tiles


def _label_ceilings(axes: Axes, ceilings: Sequence[Roof], frame: _Frame, board: Board) -> None:
    """Names and values at the right end, on the line; crowded ones are moved apart."""
    entries = [
        (f"{r.name}: {format_quantity(r.value, 'FLOP/s', digits=4)}", r.value, INK if r.main else MUTED)
        for r in ceilings
    ]
    entries += [
        (f"achievable {format_quantity(r.achievable, 'FLOP/s')}", r.achievable, MUTED)
        for r in ceilings
        if r.main and r.achievable
    ]
    entries = [e for e in entries if math.log10(e[1]) > frame.y0]
    heights = [frame.at(1.0, value)[1] + 6.5 for _, value, _ in entries]
    wide = frame.size[0]
    for (text, _, ink), middle in zip(entries, spread(heights, 10.5), strict=True):
        axes.annotate(
            text,
            (0, 0),
            xycoords=("axes fraction", "axes fraction"),
            xytext=(wide - 2.0, middle),
            textcoords="offset points",
            fontsize=SMALL,
            color=ink,
            ha="right",
            va="center",
            zorder=3,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8},
        )
        board.boxes.append(Box(wide - 4.0 - text_width(text, SMALL), middle - 5.5, wide, middle + 5.5))


def _draw_points(
    axes: Axes, drawn: Sequence[Point], flagged: Sequence[Point], frame: _Frame, board: Board
) -> None:
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


def _name_points(
    axes: Axes, named: Sequence[Point], flagged: Sequence[Point], frame: _Frame, board: Board
) -> None:
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


def _name(axes: Axes, bunch: Sequence[Point], frame: _Frame, board: Board, *, ink: str) -> None:
    lines = [f"{p.name}{_SHORT.get(p.phase, '')} {percent(p.share)}" for p in bunch]
    x, y = frame.at(bunch[0].intensity, bunch[0].achieved_flops)
    box = board.place(
        x,
        y,
        radius=_radius(bunch[0]),
        width=max(text_width(t, SMALL) for t in lines),
        height=SMALL * (1.28 * len(lines) - 0.1),
    )
    axes.annotate(
        "\n".join(lines),
        (0, 0),
        xycoords=("axes fraction", "axes fraction"),
        textcoords="offset points",
        xytext=((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2),
        fontsize=SMALL,
        color=ink,
        ha="center",
        va="center",
        zorder=7,
        linespacing=1.25,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.75},
    )
    line = leader(x, y, _radius(bunch[0]) - 0.8, box)
    if math.hypot(line.x1 - line.x0, line.y1 - line.y0) > 3.0:
        ends = [
            (10 ** (frame.x0 + u / frame.scale), 10 ** (frame.y0 + v / frame.scale))
            for u, v in ((line.x0, line.y0), (line.x1, line.y1))
        ]
        axes.plot(*zip(*ends, strict=True), color=MUTED, linewidth=0.6, zorder=6)


def _legend(figure: Figure, drawn: Sequence[Point]) -> None:
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
    handles.append(
        Line2D([], [], color=MUTED, linewidth=1.0, linestyle=DASHES, label="dashed: what matmuls reach")
    )
    legend_row(figure, handles, lift=0.27)


def _notes(figure: Figure, points: Sequence[Point], drawn: Sequence[Point], flagged: Sequence[Point]) -> None:
    """What is not drawn, and a warning where a point is above its roof."""
    width, height = figure.get_size_inches()
    waits = sum(p.share for p in points if p.bound == COMMUNICATION)
    light = sum(p.share for p in points if p.bound != COMMUNICATION and not (p.flops > 0 and p.bytes > 0))
    beyond = sorted(
        (p for p in points if p.flops > 0 and p.bytes > 0 and p not in drawn), key=lambda p: -p.share
    )
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
