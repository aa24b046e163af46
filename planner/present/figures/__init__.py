"""Figures: each takes results and returns a ``matplotlib.figure.Figure``; nothing here computes a result."""

from planner.present.figures.choices import heatmap_figure, scaling_figure, tornado_figure
from planner.present.figures.compared import roofs_figure
from planner.present.figures.ledgers import memory_figure, waterfall_figure
from planner.present.figures.pareto import pareto_figure
from planner.present.figures.roofline import roofline_figure
from planner.present.figures.sizing import size_figure
from planner.present.figures.style import save

__all__ = [
    "heatmap_figure",
    "memory_figure",
    "pareto_figure",
    "roofline_figure",
    "roofs_figure",
    "save",
    "scaling_figure",
    "size_figure",
    "tornado_figure",
    "waterfall_figure",
]
