"""What will this Transformer cost on that hardware, and how should it be laid out?

>>> import planner
>>> planner.estimate(model="llama-3.1-8b", hardware="dgx-h100", devices=8, tp=8, task="decode").row["tpot_s"]

:func:`estimate` answers for one layout, :func:`estimates` for a table of scenarios, :func:`plan` searches,
:func:`compare` searches on several kinds of hardware, :func:`size` says how many devices a deadline takes,
:func:`roofline` gives the points and roofs of a figure, and ``planner.figures`` draws. Everything else is imported when
it is first used.
"""

from __future__ import annotations

from planner.api import compare, estimate, estimates, hardware, models, plan, roofline, size, summary, sweep_frames
from planner.errors import BadInputError, CatalogueError, InfeasibleError, PlannerError

__version__ = "0.1.0"
__all__ = [
    "BadInputError",
    "CatalogueError",
    "InfeasibleError",
    "PlannerError",
    "__version__",
    "compare",
    "estimate",
    "estimates",
    "hardware",
    "models",
    "plan",
    "roofline",
    "size",
    "summary",
    "sweep_frames",
]
