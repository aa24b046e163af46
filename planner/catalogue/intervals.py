"""What published runs say of predictions, ``planner/validation``: intervals by regime, and the chips that ran."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources

import yaml

Table = Mapping[str, Mapping[str, float]]


@lru_cache(maxsize=1)
def measured_chips() -> Mapping[str, tuple[str, ...]]:
    """``train``, ``prefill`` and ``decode`` -> ids of the accelerators that published runs of it are of."""
    text = (resources.files("planner.validation") / "chips.yaml").read_text(encoding="utf-8")
    return {phase: tuple(ids) for phase, ids in yaml.safe_load(text).items()}


@lru_cache(maxsize=1)
def _tables() -> Mapping[str, Table]:
    text = (resources.files("planner.validation") / "intervals.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Table] = yaml.safe_load(text)
    return loaded


def interval_table() -> Table:
    """Regime -> low and high factor on a predicted time, and number of runs."""
    return _tables()["regimes"]


def memory_table() -> Table:
    """Regime -> quantiles of measured over predicted memory, and number of peaks."""
    return _tables()["memory"]


def read_again() -> None:
    """Forget the tables, which have been written anew."""
    _tables.cache_clear()
    measured_chips.cache_clear()
