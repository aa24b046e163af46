"""Where labels go: the nearest free place around their points, joined to them by a thin leader."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

ANGLES = tuple(range(0, 360, 15))
DISTANCES = (4.0, 9.0, 15.0, 22.0, 30.0, 40.0, 52.0, 66.0, 82.0, 100.0, 120.0, 145.0, 175.0)


@dataclass(frozen=True)
class Box:
    """A rectangle in typographic points, from (x0, y0) to (x1, y1)."""

    x0: float
    y0: float
    x1: float
    y1: float

    def overlap(self, other: Box) -> float:
        """Area shared with another box [pt²]."""
        across = min(self.x1, other.x1) - max(self.x0, other.x0)
        up = min(self.y1, other.y1) - max(self.y0, other.y0)
        return across * up if across > 0 and up > 0 else 0.0

    def outside(self, frame: Box) -> float:
        """How far it sticks out of a frame [pt]."""
        return sum(
            max(v, 0.0) for v in (frame.x0 - self.x0, frame.y0 - self.y0, self.x1 - frame.x1, self.y1 - frame.y1)
        )


@dataclass(frozen=True)
class Segment:
    """A straight line in typographic points."""

    x0: float
    y0: float
    x1: float
    y1: float

    def inside(self, box: Box) -> float:
        """Length that runs through a box [pt] (Liang and Barsky's clipping)."""
        start, end = 0.0, 1.0
        dx, dy = self.x1 - self.x0, self.y1 - self.y0
        for p, q in (
            (-dx, self.x0 - box.x0),
            (dx, box.x1 - self.x0),
            (-dy, self.y0 - box.y0),
            (dy, box.y1 - self.y0),
        ):
            if p == 0:
                if q < 0:
                    return 0.0
            elif p < 0:
                start = max(start, q / p)
            else:
                end = min(end, q / p)
        return max(end - start, 0.0) * math.hypot(dx, dy)

    def crosses(self, other: Segment) -> bool:
        """Whether two lines meet between their ends."""
        return _opposite(self, other) and _opposite(other, self)


def _opposite(line: Segment, other: Segment) -> bool:
    """Whether the ends of ``other`` lie on opposite sides of ``line``."""
    dx, dy = line.x1 - line.x0, line.y1 - line.y0
    first = dx * (other.y0 - line.y0) - dy * (other.x0 - line.x0)
    second = dx * (other.y1 - line.y0) - dy * (other.x1 - line.x0)
    return first * second < 0


@dataclass
class Board:
    """What is on the page already; labels are placed one after another and become obstacles themselves."""

    frame: Box
    boxes: list[Box] = field(default_factory=list)
    lines: list[Segment] = field(default_factory=list)
    leaders: list[Segment] = field(default_factory=list)
    walls: list[Segment] = field(default_factory=list)  # lines that a label stays on its dot's side of
    preferred: int = 300  # degrees: to the right and below, where the room under a roof is
    insistence: float = 0.02  # cost of a degree away from it

    def place(self, x: float, y: float, *, radius: float, width: float, height: float) -> Box:
        """The best box of a size around a dot at (x, y); it is added to the board with its leader."""
        candidates = [
            (
                self._cost(x, y, radius, box) + 0.35 * distance + self.insistence * _turn(angle, self.preferred),
                box,
            )
            for distance in DISTANCES
            for angle in ANGLES
            for box in (_beside(x, y, radius + distance, angle, width, height),)
        ]
        best = min(candidates, key=lambda c: c[0])[1]
        self.boxes.append(best)
        self.leaders.append(leader(x, y, radius, best))
        return best

    def _cost(self, x: float, y: float, radius: float, box: Box) -> float:
        padded = Box(box.x0 - 1.5, box.y0 - 1.0, box.x1 + 1.5, box.y1 + 1.0)
        cost = 200.0 * box.outside(self.frame)
        cost += sum(5.0 + 4.0 * padded.overlap(b) for b in self.boxes if padded.overlap(b) > 0)
        cost += sum(1.5 * line.inside(padded) for line in self.lines)
        cost += sum(4.0 * line.inside(padded) for line in self.leaders)
        own = leader(x, y, radius, box)
        cost += sum(9.0 for line in self.lines if own.crosses(line))
        heart = Segment(x, y, (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
        cost += sum(60.0 for wall in self.walls if heart.crosses(wall))
        return cost + sum(3.0 * own.inside(b) for b in self.boxes if not _holds(b, x, y))


def leader(x: float, y: float, radius: float, box: Box) -> Segment:
    """From the rim of a dot to the nearest edge of its label."""
    tx, ty = min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)
    length = max(math.hypot(tx - x, ty - y), 1e-9)
    return Segment(x + (tx - x) / length * radius, y + (ty - y) / length * radius, tx, ty)


def _holds(box: Box, x: float, y: float) -> bool:
    return box.x0 <= x <= box.x1 and box.y0 <= y <= box.y1


def _turn(angle: int, preferred: int) -> float:
    away = abs(angle - preferred) % 360
    return min(away, 360 - away)


def _beside(x: float, y: float, away: float, angle: int, width: float, height: float) -> Box:
    """A box whose nearest edge is ``away`` from a point in a direction."""
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    cx, cy = x + away * c + width / 2 * _lean(c), y + away * s + height / 2 * _lean(s)
    return Box(cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)


def _lean(part: float) -> float:
    return 0.0 if abs(part) < 0.2 else math.copysign(1.0, part)


def spread(values: Sequence[float], gap: float) -> list[float]:
    """Positions as near to ``values`` as a least ``gap`` between neighbours allows, in the same order."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    clusters: list[list[int]] = []
    centres: list[float] = []
    for i in order:
        clusters.append([i])
        centres.append(values[i])
        while len(clusters) > 1 and centres[-1] - centres[-2] < gap * (len(clusters[-1]) + len(clusters[-2])) / 2:
            last, _ = clusters.pop(), centres.pop()
            clusters[-1] += last
            centres[-1] = sum(values[j] for j in clusters[-1]) / len(clusters[-1])
    out = [0.0] * len(values)
    for cluster, centre in zip(clusters, centres, strict=True):
        for k, i in enumerate(cluster):
            out[i] = centre + (k - (len(cluster) - 1) / 2) * gap
    return out
