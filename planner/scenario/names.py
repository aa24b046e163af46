"""Names to facts: the hardware, the cluster and the model that a scenario names, each read once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from planner.catalogue.class_files import load_class
from planner.catalogue.loader import load_accelerator, resolve_hardware, snapshot, variants
from planner.catalogue.models import known_as, load_model, model_files
from planner.catalogue.schema import Model
from planner.demand.compression import compress
from planner.errors import BadInputError
from planner.scenario.keys import Value, is_missing
from planner.scenario.stored import model_name
from planner.supply.cluster import Cluster
from planner.supply.overrides import Overrides, overridden

HardwareDirs = tuple[str, ...]
AS_LISTED = Overrides()


def cluster_of(name: str, devices: int, dirs: HardwareDirs = (), given: Overrides = AS_LISTED) -> Cluster:
    """Devices of a hardware name as a cluster, with the efficiency defaults of its class and the figures ``given``."""
    return _cluster(name, devices, dirs, given, snapshot(dirs or None))


@lru_cache(maxsize=256)
def _cluster(name: str, devices: int, dirs: HardwareDirs, given: Overrides, _files: Hashable) -> Cluster:
    """As above; the files that it is read from are part of what is remembered."""
    chip, system = resolve_hardware(name, dirs or None)
    one = Cluster(chip, system, 1, load_class(chip.efficiency_class, dirs or None))
    return replace(overridden(one, given), devices=devices)


def alias_notes(name: str, known: str, model: Model) -> list[str]:
    """Words on a name that stands for a catalogue model of the same shape, ``known``; a copy's are with the model."""
    told = any("is read as" in note for note in model.assumed)
    if told or known != model.id or _letters(known) in _letters(name.rpartition("/")[2]):
        return []
    return [f"model {name} is read as {known}, which has its shape"]


def _letters(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def variant_notes(name: str, chip: str, dirs: HardwareDirs = ()) -> tuple[str, ...]:
    """Words on a name that several variants of a chip go by, where an alias decided."""
    return _variant_notes(name, chip, dirs, snapshot(dirs or None))


@lru_cache(maxsize=256)
def _variant_notes(name: str, chip: str, dirs: HardwareDirs, _files: Hashable) -> tuple[str, ...]:
    others = variants(name, dirs or None)
    return (f"hardware = {chip} ({name!r} could also be {', '.join(others)})",) if others else ()


def model_of(name: str, folder: str | None, compression: str = "none") -> Model:
    """A model by id or path, compressed as asked."""
    if compression.startswith("student:"):
        name, compression = compression.removeprefix("student:"), "none"
    return _model(name, folder, compression, model_files(name, folder))


@lru_cache(maxsize=512)
def _model(name: str, folder: str | None, compression: str, _files: Hashable) -> Model:
    return compress(load_model(name, relative_to=Path(folder) if folder else None), compression)


def names_of(given: Mapping[str, Value], folder: str | None) -> dict[str, Value]:
    """The model and what is done to it, in names that find both from anywhere."""
    compression = str(given.get("compression", "none"))
    if compression.startswith("student:"):
        compression = f"student:{known_as(compression.removeprefix('student:'), folder)}"
    return {"model": known_as(model_name(given), folder), "compression": compression}


def refuse_other_chip(given: Mapping[str, object], chip: str, dirs: HardwareDirs) -> None:
    """Refuse an ``accelerator`` beside the hardware that is another chip than the hardware's ``chip``; one that is the
    name of none is a label.

    Raises
    ------
    BadInputError
        Two names of the hardware that mean different chips.
    """
    said = given.get("accelerator")
    if is_missing(said) or str(said).strip().lower() == chip:
        return
    try:
        other = load_accelerator(str(said), dirs or None).id
    except BadInputError:
        return
    if other != chip:
        raise BadInputError(f"accelerator: {other} given beside hardware {given['hardware']}, which is of {chip}")
