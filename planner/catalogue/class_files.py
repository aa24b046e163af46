"""``hardware/classes/*.yaml`` to :class:`planner.catalogue.classes.EfficiencyClass`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from planner.catalogue import build
from planner.catalogue.classes import EfficiencyClass, Execution, MatmulEnergy
from planner.catalogue.fields import CLASSES, HIGHEST_FRACTION, ID, KERNELS, NAME, SHARPNESS, SOURCES
from planner.catalogue.hardware import CollectiveEfficiency, Provenance
from planner.catalogue.loader import Dirs, entries, find
from planner.catalogue.reader import BASES, Field, read_file
from planner.files import Stamp, stamp

FABRIC_KINDS = ("scale_up", "scale_out", "pcie")
OPERATIONS = (
    "all_reduce",
    "all_reduce_in_network",
    "all_reduce_low_latency",
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "send_recv",
    "broadcast",
    "default",
)
_CITED = (
    Field("source", "source", "a key under `sources`", required=True),
    Field("basis", "choice", "measured or assumed", keys=BASES, required=True),
    Field("note", "text", "", default=""),
)
COLLECTIVE = Field(
    "",
    "section",
    fields=(
        Field("bandwidth", "number", "fraction of the one-way link", required=True, most=HIGHEST_FRACTION),
        Field("latency", "quantity", "fixed part", unit="s", required=True),
        Field("latency_per_rank", "quantity", "added a rank", unit="s", required=True),
        SHARPNESS,
        Field(
            "own_share",
            "number",
            "cost of what stays on a rank, over that of sending it",
            default=0.0,
            least=0,
            most=10,
        ),
        *_CITED,
    ),
)
CLASS_FIELDS = (
    ID,
    NAME,
    KERNELS,
    Field(
        "collectives",
        "table",
        "fabric kind, then operation",
        keys=FABRIC_KINDS,
        item=Field("", "table", keys=OPERATIONS, item=COLLECTIVE),
        default={},
    ),
    Field(
        "matmul_energy",
        "section",
        "what a matmul FLOP with 16-bit operands costs in a long run, the board included",
        fields=(
            Field("picojoules_per_flop", "number", "", required=True),
            Field(
                "narrow_exponent",
                "number",
                "power of the operand width that the energy grows with",
                default=1.15,
                most=4,
            ),
            *_CITED,
        ),
    ),
    Field(
        "execution",
        "section",
        "how chips of the class run programs; the first value of each is what is not said",
        fields=(
            Field("compiled", "flag", "programs are compiled as a whole", default=False),
            Field("steady_clock", "flag", "equal devices run alike in speed", default=False),
            Field("link_engines", "flag", "traffic takes nothing from compute", default=False),
            Field("systolic", "flag", "matmuls and exponentials have engines of their own", default=False),
            Field("flops_per_exponential", "number", "vector FLOP/s over exponentials a second", default=16.0),
            Field("pipelined_exchange", "flag", "tensor-parallel exchange runs beside its matmuls", default=False),
            Field("names_modules", "flag", "selective recomputation repeats named modules", default=False),
            Field(
                "ampere_kernels",
                "number",
                "reach of Ampere's attention over that on Ampere",
                default=1.0,
                most=HIGHEST_FRACTION,
            ),
            Field("flash_2_forward", "number", "most of the peak that FlashAttention-2 reaches", default=1.0, most=1),
            Field("flash_2_backward", "number", "the same, backward", default=1.0, most=1),
            Field("source", "source", "a key under `sources`", required=True),
            Field("note", "text", "", default=""),
        ),
    ),
    SOURCES,
)


def class_ids(dirs: Dirs = None) -> tuple[str, ...]:
    """Ids of all efficiency classes that have a file, sorted."""
    return tuple(sorted(entries("classes", dirs)))


def load_class(name: str, dirs: Dirs = None) -> EfficiencyClass:
    """The defaults of an efficiency class; one of the known classes without a file has none."""
    known = entries("classes", dirs)
    if name in CLASSES and name not in known:
        return EfficiencyClass(name)
    path = find(name, known, what="efficiency class").path
    return _load(path, stamp(path))


@lru_cache(maxsize=64)
def _load(path: Path, _changed: Stamp) -> EfficiencyClass:
    values = read_file(path, CLASS_FIELDS)
    energy = values["matmul_energy"]
    return EfficiencyClass(
        id=values["id"],
        kernels=build.kernels(values["kernels"]),
        collectives={
            kind: {op: _collective(entry) for op, entry in table.items()}
            for kind, table in values["collectives"].items()
        },
        energy=energy
        and MatmulEnergy(energy["picojoules_per_flop"] * 1e-12, _provenance(energy), energy["narrow_exponent"]),
        execution=_execution(values["execution"]),
    )


def _execution(entry: Mapping[str, Any] | None) -> Execution:
    said = {k: v for k, v in (entry or {}).items() if k not in ("source", "note")}
    return Execution(**said)


def _collective(entry: Mapping[str, Any]) -> CollectiveEfficiency:
    return CollectiveEfficiency(
        entry["bandwidth"],
        entry["latency"],
        entry["latency_per_rank"],
        entry["sharpness"],
        _provenance(entry),
        entry["own_share"],
    )


def _provenance(entry: Mapping[str, Any]) -> Provenance:
    return Provenance(entry["source"], entry["basis"], entry["note"])
