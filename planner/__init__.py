"""What will this Transformer cost on that hardware, and how should it be laid out?

>>> import planner
>>> planner.estimate(model="llama-3.1-8b", hardware="dgx-h100", devices=8, tp=8, task="decode").row["tpot_s"]

:func:`estimate` answers for one layout, :func:`estimates` for a table of scenarios, :func:`plan` searches,
:func:`compare` searches on several kinds of hardware, and :func:`roofline` gives the points and roofs of a figure.
Everything is imported when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what a type checker takes for true; `typing` is imported when something needs it
if TYPE_CHECKING:
    from typing import Any

    from planner.api import compare, estimate, estimates, hardware, models, plan, roofline, summary

__version__ = "0.1.0"
__all__ = ["__version__", "compare", "estimate", "estimates", "hardware", "models", "plan", "roofline", "summary"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from planner import api

        return getattr(api, name)
    raise AttributeError(f"module 'planner' has no attribute {name!r}")
