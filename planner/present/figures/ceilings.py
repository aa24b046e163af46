"""Roofs on a roofline: slopes and ceilings, with their names and values written on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes

from planner.cost.points import Point
from planner.cost.roofs import Roof
from planner.present.figures.placement import Board, Box, Segment, spread
from planner.present.figures.style import FAINT, HALO, INK, MUTED, SMALL, floating, text_width
from planner.units import format_quantity

DASHES = (0, (4, 3))
Place = tuple[float, float]  # intensity [FLOP/byte], throughput [FLOP/s]


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
        return self.x0 < math.log10(p.intensity) < self.x1 and self.y0 < math.log10(p.achieved_flops) < self.y1

    def within(self, width: float, height: float) -> Frame:
        """The same limits on axes of a size [pt], whose decades are equally long in both directions."""
        return replace(self, scale=min(width / (self.x1 - self.x0), height / (self.y1 - self.y0)))

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
        start = (roof.value / memory.value, roof.value)
        _line(axes, frame, board, start, (10**frame.x1, roof.value), ink=ink, width=width)
    for roof in roofs:
        if roof.kind == "compute" and roof.main and roof.achievable and math.log10(roof.value) > frame.y0:
            start = (roof.achievable / (memory.achievable or memory.value), roof.achievable)
            end = (10**frame.x1, roof.achievable)
            _line(axes, frame, board, start, end, ink=MUTED, width=1.0, dashed=True)
    highest = max(c.value for c in ceilings)
    for roof in roofs:
        if roof.kind != "compute":
            _draw_slope(axes, roof, frame, board, top=highest if roof is memory else top)
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
    start: Place,
    end: Place,
    *,
    ink: str,
    width: float,
    dashed: bool = False,
) -> None:
    look: dict[str, Any] = {"color": ink, "linewidth": width, "linestyle": DASHES if dashed else "solid"}
    axes.plot(*zip(start, end, strict=True), zorder=2, solid_capstyle="butt", **look)
    segment = Segment(*frame.at(*start), *frame.at(*end))
    board.lines.append(segment)
    if ink == INK:
        board.walls.append(segment)


def _draw_slope(axes: Axes, roof: Roof, frame: Frame, board: Board, *, top: float) -> None:
    """A bandwidth as a slope up to the ceiling ``top``; a link without room for its name is left out."""
    main = roof.kind == "memory"
    ink, width = (INK, 1.7) if main else (FAINT, 0.9)
    text = f"{roof.name}: {format_quantity(roof.value, 'byte/s')}{' one way' if roof.kind == 'link' else ''}"
    named = _label_slope(axes, roof.value, text, frame, board, ink=INK if main else MUTED)
    if named or main:
        foot, head = _foot(roof.value, frame), (top / roof.value, top)
        _line(axes, frame, board, foot, head, ink=ink, width=width)
    if main and roof.achievable and roof.achievable != roof.value:
        foot, head = _foot(roof.achievable, frame), (top / roof.achievable, top)
        _line(axes, frame, board, foot, head, ink=MUTED, width=1.0, dashed=True)
        text = f"achievable {format_quantity(roof.achievable, 'byte/s')}"
        _label_slope(axes, roof.achievable, text, frame, board, ink=MUTED, below=roof.achievable < roof.value)


def _foot(bandwidth: float, frame: Frame) -> Place:
    """Where a slope enters the chart, from the left or from below."""
    intensity = max(10**frame.x0, 10**frame.y0 / bandwidth)
    return intensity, intensity * bandwidth


def _label_slope(
    axes: Axes, bandwidth: float, text: str, frame: Frame, board: Board, *, ink: str, below: bool = False
) -> bool:
    """Written along a slope, above or below it, at the first free place from its foot; False without room."""
    left, bottom = frame.at(*_foot(bandwidth, frame))
    length, side = text_width(text, SMALL) * math.sqrt(0.5), -1.0 if below else 1.0
    room = min(frame.size[0] - left, frame.size[1] - bottom) - length
    level = [line for line in board.lines if line.y0 == line.y1]
    tried: list[tuple[float, float, list[Box]]] = []
    for offset in range(8, int(max(room, 0.0)), 6):
        tiles = _tiles(left + offset - side * 5.0, bottom + offset + side * 5.0, length)
        covered = sum(50.0 for t in tiles for b in board.boxes if t.overlap(b))
        crossed = sum(10.0 for t in tiles for line in level if line.inside(t))
        tried.append((covered + crossed + 0.01 * offset, offset, tiles))
    if not tried:
        return False
    _, along, tiles = min(tried, key=lambda t: t[0])
    x, y = left + along, bottom + along
    turned: dict[str, Any] = {"rotation": 45, "rotation_mode": "anchor", "va": "top" if below else "bottom"}
    floating(axes, text, (x - side * 2.2, y + side * 2.2), color=ink, zorder=3, **turned)
    board.boxes += tiles
    return True


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
        floating(axes, text, (wide - 2.0, middle), color=ink, ha="right", zorder=3, bbox=HALO)
        board.boxes.append(Box(wide - 4.0 - text_width(text, SMALL), middle - 5.5, wide, middle + 5.5))


def _tiles(x: float, y: float, length: float) -> list[Box]:
    """Small boxes along a text that rises at 45 degrees from (x, y) over ``length`` points each way."""
    steps = max(int(length / 6), 1)
    along = (i * length / steps for i in range(steps + 1))
    return [Box(x - 5.5 + t, y - 5.5 + t, x + 5.5 + t, y + 5.5 + t) for t in along]
