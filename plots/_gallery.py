"""What the gallery scripts share: today's date held still, so that a drawn figure is the same next year."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from matplotlib.figure import Figure

from planner.cost.points import points, roofs
from planner.planning.estimate import Estimate, estimate_scenario
from planner.present.figures import roofline_figure, save

GALLERY = Path(__file__).parent / "gallery"
TODAY = date(2026, 11, 1)


def estimate(**scenario: object) -> Estimate:
    """One estimate from scenario keys."""
    return estimate_scenario(scenario, today=TODAY)


def roofline(estimate: Estimate, *, title: str, subtitle: str) -> Figure:
    """The roofline of an estimate."""
    return roofline_figure(points(estimate.job), roofs(estimate.job), title=title, subtitle=subtitle)


def write(figure: Figure, name: str) -> None:
    """Write a figure into the gallery as SVG and PNG."""
    GALLERY.mkdir(exist_ok=True)
    for suffix in ("svg", "png"):
        print(save(figure, GALLERY / f"{name}.{suffix}").relative_to(GALLERY.parents[1]))
