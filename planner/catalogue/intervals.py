"""The table of residuals that intervals are read from, ``planner/validation/intervals.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources

import yaml


@lru_cache(maxsize=1)
def interval_table() -> Mapping[str, Mapping[str, float]]:
    """Regime -> low and high factor, median and number of runs."""
    text = (resources.files("planner.validation") / "intervals.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Mapping[str, float]] = yaml.safe_load(text)["regimes"]
    return loaded
