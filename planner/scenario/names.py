"""Names to facts: the hardware, the cluster and the model that a scenario names, each read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from planner.catalogue.class_files import load_class
from planner.catalogue.hardware import Accelerator, System
from planner.catalogue.loader import resolve_hardware, variants
from planner.catalogue.models import known_as, load_model
from planner.catalogue.schema import Model
from planner.demand.compression import compress
from planner.scenario.keys import Value
from planner.scenario.stored import model_name
from planner.supply.cluster import Cluster
from planner.supply.overrides import Overrides, overridden

HardwareDirs = tuple[str, ...]
AS_LISTED = Overrides()


@lru_cache(maxsize=256)
def hardware(name: str, dirs: HardwareDirs = ()) -> tuple[Accelerator, System]:
    """Accelerator and system of a hardware name, cached."""
    return resolve_hardware(name, dirs or None)


@lru_cache(maxsize=256)
def cluster_of(name: str, devices: int, dirs: HardwareDirs = (), given: Overrides = AS_LISTED) -> Cluster:
    """Devices of a hardware name as a cluster, with the efficiency defaults of its class and the figures ``given``."""
    chip, system = hardware(name, dirs)
    one = Cluster(chip, system, 1, load_class(chip.efficiency_class, dirs or None))
    return replace(overridden(one, given), devices=devices)


@lru_cache(maxsize=256)
def variant_notes(name: str, chip: str, dirs: HardwareDirs = ()) -> tuple[str, ...]:
    """Words on a name that several variants of a chip go by, where an alias decided."""
    others = variants(name, dirs or None)
    return (f"hardware = {chip} ({name!r} could also be {', '.join(others)})",) if others else ()


@lru_cache(maxsize=512)
def model_of(name: str, folder: str | None, compression: str = "none") -> Model:
    """A model by id or path, compressed as asked, cached."""
    if compression.startswith("student:"):
        name, compression = compression.removeprefix("student:"), "none"
    return compress(load_model(name, relative_to=Path(folder) if folder else None), compression)


def names_of(given: Mapping[str, Value], folder: str | None) -> dict[str, Value]:
    """The model and what is done to it, in names that find both from anywhere."""
    compression = str(given.get("compression", "none"))
    if compression.startswith("student:"):
        compression = f"student:{known_as(compression.removeprefix('student:'), folder)}"
    return {"model": known_as(model_name(given), folder), "compression": compression}
