"""Serving engines by name: what a step costs beyond its kernels."""

from __future__ import annotations

from planner.errors import unknown
from planner.plan.inference import Engine

# Step overheads are not set until they are calibrated against published runs; only the definition ships.
ENGINES = {e.name: e for e in (Engine("ideal"),)}


def engine(name: str) -> Engine:
    """Look an engine up by name; an unknown one is refused with the allowed names."""
    found = ENGINES.get(name.lower())
    if found is None:
        raise unknown("engine", name, ENGINES)
    return found
