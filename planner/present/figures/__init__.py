"""Figures: each takes results and returns a :class:`matplotlib.figure.Figure`; nothing here computes a result."""

from planner.present.figures.roofline import roofline_figure
from planner.present.figures.style import save

__all__ = ["roofline_figure", "save"]
