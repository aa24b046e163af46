"""Serving engines by name, from ``engines.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import yaml

from planner.errors import unknown
from planner.units import parse_quantity


@dataclass(frozen=True)
class Engine:
    """Overhead of a serving engine per step [s], the share of device memory it manages, and where both come from."""

    id: str
    name: str
    step_overhead: float
    memory_fraction: float
    basis: str
    source: str


@lru_cache(maxsize=1)
def engines() -> Mapping[str, Engine]:
    """All engines by id."""
    text = (resources.files("planner.catalogue") / "engines.yaml").read_text(encoding="utf-8")
    return {
        id: Engine(
            id, e["name"], parse_quantity(e["step_overhead"], "s"), float(e["memory_fraction"]), e["basis"], e["source"]
        )
        for id, e in yaml.safe_load(text).items()
    }


def engine(name: str) -> Engine:
    """Look an engine up by name; an unknown one is refused with the allowed names."""
    found = engines().get(name.strip().lower())
    if found is None:
        raise unknown("engine", name, engines())
    return found
