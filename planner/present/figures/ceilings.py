"""Roofs on a roofline: slopes and ceilings, with their names and values written on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from planner.plan.points import Point
from planner.plan.roofs import Roof
from planner.present.figures.placement import Board, Box, Segment, spread
from planner.present.figures.style import FAINT, INK, MUTED, SMALL, text_width
from planner.units import format_quantity

DASHES = (0, (4, 3))


@dataclass(frozen=True)
class Frame:
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


def draw_roofs(axes: Axes, roofs: Sequence[Roof], frame: Frame, board: Board) -> None:
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
    frame: Frame,
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
    segment = Segment(*frame.at(x0, y0), *frame.at(x1, y1))
    board.lines.append(segment)
    if ink == INK:
        board.walls.append(segment)


def _draw_slope(axes: Axes, roof: Roof, frame: Frame, board: Board, *, top: float) -> None:
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
    axes: Axes, bandwidth: float, text: str, frame: Frame, board: Board, *, ink: str, below: bool = False
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


def _label_ceilings(axes: Axes, ceilings: Sequence[Roof], frame: Frame, board: Board) -> None:
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
