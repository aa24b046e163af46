"""What published runs say of predictions, ``planner/validation``: intervals by regime, and the chips that ran."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources

import yaml


@lru_cache(maxsize=1)
def measured_chips() -> Mapping[str, tuple[str, ...]]:
    """``train``, ``prefill`` and ``decode`` -> ids of the accelerators that published runs of it are of."""
    text = (resources.files("planner.validation") / "chips.yaml").read_text(encoding="utf-8")
    return {phase: tuple(ids) for phase, ids in yaml.safe_load(text).items()}


@lru_cache(maxsize=1)
def interval_table() -> Mapping[str, Mapping[str, float]]:
    """Regime -> low and high factor, median and number of runs."""
    text = (resources.files("planner.validation") / "intervals.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Mapping[str, float]] = yaml.safe_load(text)["regimes"]
    return loaded
