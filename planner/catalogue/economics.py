"""Facts of running a cluster: failures, power, grids and scaling laws, from YAML files that cite every figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

from planner.errors import unknown
from planner.units import parse_quantity


@dataclass(frozen=True)
class FailureRate:
    """Unplanned interruptions of a cluster, a thousand node-days of 8 devices; ``general`` ones are averaged over."""

    cluster: str
    devices: int
    per_1000_node_days: float
    general: bool
    source: str
    note: str = ""


@dataclass(frozen=True)
class Reliability:
    """Failure rates, ``recovery`` of a failure [s], ``storage`` a device [byte/s], ``spares`` as parts of the nodes."""

    rates: tuple[FailureRate, ...]
    recovery: float
    recovery_source: str
    storage: float
    storage_source: str
    spares: tuple[float, float]
    spares_source: str


@dataclass(frozen=True)
class PowerDraw:
    """Measured power of a node [W] at some work, and the ``rated`` power of all its accelerators [W]; ``tokens_per_s``
    where that was told; ``capped`` where it was held to less than its rated power."""

    regime: str
    accelerator: str
    rated: float
    work: str
    watts: float
    source: str
    tokens_per_s: float | None = None
    capped: bool = False
    note: str = ""


@dataclass(frozen=True)
class Power:
    """Measured draws, ``pue``, and emissions of electricity by country [kgCO2e/kWh]."""

    measured: tuple[PowerDraw, ...]
    pue: float
    pue_source: str
    grid: Mapping[str, float]
    grid_source: str


@dataclass(frozen=True)
class ScalingLaw:
    """How many tokens are compute-optimal: a rule of thumb, or the constants of a loss in parameters and tokens."""

    name: str
    source: str
    tokens_per_parameter: float = 0.0
    A: float = 0.0
    B: float = 0.0
    alpha: float = 0.0
    beta: float = 0.0


def _read(name: str) -> dict[str, Any]:
    text = (resources.files("planner.catalogue") / name).read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


@lru_cache(maxsize=1)
def reliability() -> Reliability:
    """What is published on failures of clusters."""
    data = _read("reliability.yaml")
    named, recovery, storage, spares = data["sources"], data["recovery"], data["storage"], data["spares"]
    return Reliability(
        rates=tuple(FailureRate(**{**r, "source": named[r["source"]]}) for r in data["rates"]),
        recovery=parse_quantity(recovery["value"], "s"), recovery_source=named[recovery["source"]],
        storage=parse_quantity(storage["value"], "byte/s"), storage_source=named[storage["source"]],
        spares=(spares["low"], spares["high"]), spares_source=named[spares["source"]],
    )  # fmt: skip


@lru_cache(maxsize=1)
def power() -> Power:
    """What is published on the power of nodes and of the electricity they take."""
    data = _read("power.yaml")
    named = data["sources"]
    return Power(
        measured=tuple(PowerDraw(**{**m, "source": named[m["source"]]}) for m in data["measured"]),
        pue=data["pue"]["value"], pue_source=named[data["pue"]["source"]],
        grid=data["grid"]["intensity"], grid_source=named[data["grid"]["source"]],
    )  # fmt: skip


@lru_cache(maxsize=1)
def scaling_laws() -> Mapping[str, ScalingLaw]:
    """Scaling laws by name."""
    return {name: ScalingLaw(name, **law) for name, law in _read("scaling_laws.yaml")["laws"].items()}


def scaling_law(name: str) -> ScalingLaw:
    """A scaling law by name; an unknown one is refused with those there are."""
    if name not in scaling_laws():
        raise unknown("scaling law", name, scaling_laws(), where="compute_optimal")
    return scaling_laws()[name]


def grid_intensity(country: str) -> float:
    """Emissions of a country's electricity [kgCO2e/kWh]; an unknown one is refused with those there are."""
    grid = power().grid
    if country.upper() not in grid:
        raise unknown("grid", country, grid, where="grid", many=20)
    return grid[country.upper()]
