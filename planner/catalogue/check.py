"""Checks of every hardware file at once: the faults of reading, and what the figures say of each other.

A check that a chip truly breaks is waived in its file, with the reason, under ``checks: {waive: [...]}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.catalogue import build, loader
from planner.catalogue.class_files import CLASS_FIELDS
from planner.catalogue.engines import engines
from planner.catalogue.fields import ACCELERATOR_FIELDS, SYSTEM_FIELDS
from planner.catalogue.models import load_model, model_ids
from planner.catalogue.reader import Document, Figure, read_document
from planner.errors import BadInputError, CatalogueError, PlannerError
from planner.files import is_folder

Values = Mapping[str, Any]
TOLERANCE = 0.03  # printed figures are rounded, and Ada sheets round 362 and 733

# dtype, the dtype it follows, their usual ratios on hardware that has both; CDNA1 runs bf16 at half the rate of fp16
RATIOS = (
    ("fp16", "bf16", (1.0, 2.0, 0.5)),
    ("tf32", "bf16", (0.5,)),
    ("fp8", "bf16", (2.0,)),
    ("mxfp8", "fp8", (1.0,)),
    ("int8", "bf16", (2.0,)),
    ("nvfp4", "fp8", (2.0,)),
    ("mxfp4", "fp8", (2.0,)),
    ("int4", "int8", (2.0,)),
)
# The least part of the printed capacity that a program can allocate; of memory that the host shares, and keeps half of
# on some chips, less than a quarter is taken for a slip (assumption).
LEAST_USABLE, LEAST_SHARED = 0.9, 0.25


@dataclass(frozen=True)
class Checked:
    """How many files were read, and every fault of them."""

    accelerators: int
    systems: int
    models: int
    faults: tuple[str, ...]


def check_catalogue(folders: Sequence[str] = ()) -> Checked:
    """Every hardware file of the folders; without folders the built-in catalogue, and its models too.

    Raises
    ------
    BadInputError
        A folder that does not exist, or holds no profile.
    """
    for folder in folders:
        if not is_folder(folder):
            raise BadInputError(f"check: folder {folder!r} does not exist")
        if not any(Path(folder).rglob("*.yaml")):
            raise BadInputError(f"check: folder {folder!r} holds no .yaml profile")
    dirs = list(folders) or None
    models = [] if folders else model_ids()
    faults = [*check_hardware(dirs), *_model_faults(models), *([] if folders else _engine_faults())]
    accelerators, systems = (len([*_own(loader.entries(k, dirs), dirs)]) for k in ("accelerators", "systems"))
    return Checked(accelerators, systems, len(models), tuple(faults))


def _model_faults(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        try:
            load_model(name)
        except PlannerError as error:
            yield str(error)


def _engine_faults() -> Iterator[str]:
    try:
        engines()
    except CatalogueError as error:
        yield from error.faults


def check_hardware(dirs: loader.Dirs = None) -> list[str]:
    """Every fault of every accelerator and system file, as ``file:line: message``, sorted."""
    faults: list[str] = list(loader.alias_clashes(dirs))
    accelerators, systems = loader.entries("accelerators", dirs), loader.entries("systems", dirs)
    for entry in _own(accelerators, dirs):
        values, document = read_document(entry.path, ACCELERATOR_FIELDS)
        faults += document.faults or [*_accelerator(values, document, systems)]
    for entry in _own(systems, dirs):
        values, document = read_document(entry.path, SYSTEM_FIELDS)
        faults += document.faults or [*_system(values, document, accelerators)]
    for entry in _own(loader.entries("classes", dirs), dirs):
        values, document = read_document(entry.path, CLASS_FIELDS)
        faults += document.faults or [*_class(values, document)]
    return sorted([*faults, *_unknown_files(dirs)])


def _own(entries: Mapping[str, loader.Entry], dirs: loader.Dirs) -> Iterator[loader.Entry]:
    """The files to check: those of the folders, whose neighbours in the built-in catalogue are not read again."""
    ours = loader.built_in()
    whole = not dirs or any(Path(folder).resolve() == ours for folder in dirs)
    return (e for e in entries.values() if whole or not e.path.is_relative_to(ours))


def _class(values: Values, document: Document) -> Iterator[str]:
    """A class is found by its file's name."""
    if values["id"] != document.path.stem:
        yield f"{document.path}:1: id {values['id']!r} is not the file name {document.path.stem!r}"
    yield from _uncited(document)


def _unknown_files(dirs: loader.Dirs) -> Iterator[str]:
    """Files of a flat folder that nobody would read: what they describe cannot be told from their keys."""
    marks = ", ".join(f"{mark} ({kind})" for kind, mark in loader.MARKS.items())
    for folder in dirs or ():
        for path in sorted(Path(folder).glob("*.yaml")):
            if loader.kind_of(path) is None:
                _, document = read_document(path, ())
                fault = next((f for f in document.faults if "unknown key" not in f), None)
                yield fault or f"{path}:1: none of the keys that say what a file describes: {marks}"


def _accelerator(values: Values, document: Document, systems: Mapping[str, Any]) -> Iterator[str]:
    """What the fields of an accelerator say of each other."""
    path = document.path
    grave = build.accelerator_faults(values, path)
    yield from (f"{path}:1: {fault}" for fault in grave)
    if grave:
        return
    if path.parent.parent.name == "accelerators" and values["vendor"] != path.parent.name:
        yield f"{path}:1: vendor {values['vendor']!r} is not the folder {path.parent.name!r}"
    wanted = values["default_system"]
    if wanted is not None and wanted not in systems:
        yield f"{path}:1: default_system {wanted!r} has no file under systems/"
    yield from _uncited(document)
    broken = {name: fault for check in (_ratios, _vector, _links, _capacity) for name, fault in check(values)}
    waived = {w["check"] for w in (values["checks"] or {}).get("waive", ())}
    for name, (line, message) in broken.items():
        if name not in waived:
            yield f"{path}:{line}: {message} (check {name})"
    for name in sorted(waived - broken.keys()):
        yield f"{path}:1: waived check {name!r} is not broken; drop the waiver"


Broken = Iterator[tuple[str, tuple[int, str]]]


def _ratios(values: Values) -> Broken:
    """Peaks of related dtypes: fp8 twice bf16, and so on."""
    peaks: Mapping[str, Figure] = values["peak_flops"]
    for dtype, base, due in RATIOS:
        if dtype in peaks and base in peaks:
            ratio = peaks[dtype].value / peaks[base].value
            if all(abs(ratio / usual - 1) > TOLERANCE for usual in due):
                message = f"peak_flops.{dtype} is {ratio:.3g} times {base}, {due[0]:g} is usual"
                yield f"{dtype}/{base}", (peaks[dtype].line, message)


def _vector(values: Values) -> Broken:
    """The vector peak against clock x lanes x FLOPs a lane."""
    unit, peak = values["vector_unit"], values["vector_flops"]
    if unit is None or peak is None:
        return
    due = unit["lanes"] * unit["clock"].value * unit["flops_per_lane"]
    if abs(peak.value / due - 1) > TOLERANCE:
        message = f"vector_flops {peak.value:.4g} is not lanes x clock x {unit['flops_per_lane']} = {due:.4g}"
        yield "vector", (peak.line, message)


def _links(values: Values) -> Broken:
    """Both ways is twice one way, and one peer is not reached faster than all of them."""
    for name, link in values["links"].items():
        if not link:
            continue
        one, both, peer = link["bandwidth"], link["bidirectional"], link["per_peer"]
        if both and abs(both.value / one.value - 2) > 2 * TOLERANCE:
            yield f"{name}/bidirectional", (both.line, f"links.{name}: both ways is not twice one way")
        if peer and peer.value > one.value:
            yield f"{name}/per_peer", (peer.line, f"links.{name}: per_peer exceeds the whole bandwidth")


def _capacity(values: Values) -> Broken:
    """No more can be allocated than is printed, GB read as GiB; not less than nine tenths but where the host shares."""
    memory = values["memory"][0]
    printed, usable = memory["marketed"], memory["capacity"]
    upper = printed.value * (2**30 / 1e9)
    lower = LEAST_SHARED if memory["shared"] else LEAST_USABLE
    if not lower * printed.value <= usable.value <= upper:
        message = f"memory[0].capacity {usable.value:.4g} B does not fit the {printed.value:.4g} B printed"
        yield "capacity", (usable.line, message)


def _uncited(document: Document) -> Iterator[str]:
    """Sources that no figure, price or efficiency cites."""
    for key in sorted(document.sources.keys() - document.used):
        yield f"{document.path}:1: source {key!r} is cited by nothing"


def _system(values: Values, document: Document, accelerators: Mapping[str, Any]) -> Iterator[str]:
    """What the fields of a system say of each other and of its accelerator."""
    path = document.path
    for fault in build.system_faults(values, path):
        yield f"{path}:1: {fault}"
    if values["accelerator"] not in accelerators:
        yield f"{path}:1: accelerator {values['accelerator']!r} has no file under accelerators/"
    yield from _uncited(document)
    up = values["scale_up"]
    if up is None:
        return
    line = up["bandwidth"].line
    if up["domain"] % values["devices_per_node"] and values["devices_per_node"] % up["domain"]:
        yield f"{path}:{line}: scale_up.domain {up['domain']} is no multiple and no part of devices_per_node"
