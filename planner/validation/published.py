"""Published measurements as cases, and their prediction by the very code that answers users.

``training.csv`` and ``training_2026.csv`` hold training steps with their layout, ``layouts.csv`` many layouts of one
model on the same devices. Each row says where it was published; nothing in the cost model reads these files.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from planner.catalogue.families.native import model_from_native
from planner.catalogue.frameworks import framework
from planner.catalogue.models import load_model
from planner.catalogue.schema import Model
from planner.demand.ops import Array
from planner.errors import PlannerError
from planner.planning.estimate import Estimate, estimate_resolved
from planner.scenario.keys import KEYS, parse_scenario
from planner.scenario.resolve import resolve

TODAY = date(2026, 11, 1)  # only ages prices, which are not compared


@dataclass(frozen=True)
class Case:
    """One published run: scenario keys, the model's shape, what was measured and where it is printed.

    ``released`` is the date of its software, year first; ``group`` the runs that were measured beside it.
    """

    id: str
    source: str
    where: str
    quality: str
    name: str
    scenario: Mapping[str, str]
    shape: Mapping[str, str]
    measured_s: float
    memory_gib: float = float("nan")
    memory_kind: str = ""
    ran: bool = True
    released: str = ""
    group: str = ""

    def model(self) -> Model:
        """The model: a catalogue entry, cut to the layers that ran, or the shape that was printed."""
        if self.shape.get("catalogue"):
            whole = load_model(self.shape["catalogue"])
            return _cut(whole, int(self.shape.get("layers", whole.text.layers)))
        return model_from_native(native_shape(self.shape, seq_len=int(self.scenario["seq_len"])), id=self.name,
                                 where=self.id)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """A case beside its prediction; ``error`` where it was refused."""

    case: Case
    estimate: Estimate | None
    error: str = ""

    @property
    def log_ratio(self) -> float:
        """ln(predicted / measured)."""
        if self.estimate is None or not self.case.measured_s > 0:
            return float("nan")
        return float(np.log(float(self.estimate.results["step_time_s"]) / self.case.measured_s))  # type: ignore[arg-type]


def native_shape(shape: Mapping[str, str], *, seq_len: int) -> dict[str, Any]:
    """Printed sizes as native model keys. Gated MLPs mark Llama's line (RMS norm, rotary, untied, no biases), plain
    ones GPT's (layer norm, learned positions, tied, biases)."""
    out: dict[str, Any] = {k: int(float(v)) for k, v in shape.items() if v and k in _INTEGERS}
    gated = shape.get("gated_mlp") == "True"
    out["gated_mlp"] = gated
    if gated:
        return out | {
            "norm": "rms",
            "positions": "rotary",
            "tied": False,
            "qkv_bias": False,
            "mlp_bias": False,
        }
    return out | {"norm": "layer", "positions": max(seq_len, 2048), "tied": True, "qkv_bias": True, "mlp_bias": True,
                  "dropout": shape.get("dropout") == "True"}  # fmt: skip


_INTEGERS = (
    "layers", "hidden", "heads", "kv_heads", "head_dim", "ffn_hidden", "vocab", "experts", "experts_top_k",
    "expert_ffn_hidden", "shared_experts",
)  # fmt: skip
MEMORY_KINDS = ("allocated", "reserved", "device")
SHAPE_COLUMNS = ("catalogue", *_INTEGERS, "gated_mlp", "dropout")


def _cut(model: Model, layers: int) -> Model:
    """The model with fewer layers: the first, and the last of what follows, as published cut-down runs keep one dense
    layer before their expert layers."""
    text = model.text
    if layers >= text.layers:
        return model
    order = (text.order[0], *text.order[text.layers - layers + 1 :])
    return replace(model, stacks=(*model.stacks[:-1], replace(text, order=order)))


@lru_cache(maxsize=1)
def cases() -> tuple[Case, ...]:
    """All published training steps that ship with the planner."""
    return tuple(_case(row) for name in ("training.csv", "training_2026.csv") for row in _rows(name))


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (resources.files("planner.validation") / name).open(encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _case(row: Mapping[str, str]) -> Case:
    scenario = {k: v for k, v in row.items() if k in KEYS and v}
    shape = {k: row[k] for k in SHAPE_COLUMNS if row.get(k)}
    return Case(row["id"], row["source"], row["where"], row["quality"], row["name"], scenario, shape,
                _number(row["measured_step_s"]), _number(row["measured_memory_gib"]), row["memory_kind"],
                released=row.get("released", ""), group=row.get("group", ""))  # fmt: skip


def _number(text: str) -> float:
    return float(text) if text else float("nan")


@lru_cache(maxsize=1)
def inference_cases() -> tuple[Case, ...]:
    """Published prefill and decode times of static batches that ship with the planner; the source is the engine."""
    return tuple(
        Case(row["id"], row["source"], row["where"], "A", row["model"],
             {k: v for k, v in row.items() if k in KEYS and v},
             {}, _number(row["measured_s"]))
        for row in _rows("inference.csv")
    )  # fmt: skip


@lru_cache(maxsize=1)
def memory_cases() -> tuple[Case, ...]:
    """All published peaks of training memory, one a kind of measurement, and runs of which only the verdict is known:
    those of the training steps too."""
    with_peak = [c for c in cases() if np.isfinite(c.memory_gib)]
    return (*with_peak, *(case for row in _rows("memory.csv") for case in _memory_cases(row)))


def _memory_cases(row: Mapping[str, str]) -> list[Case]:
    kinds = [k for k in MEMORY_KINDS if row[f"{k}_gib"]] or [""]
    whole = _case({**row, "measured_step_s": "", "measured_memory_gib": "", "memory_kind": ""})
    return [replace(whole, memory_gib=_number(row.get(f"{k}_gib", "")), memory_kind=k, ran=row["ran"] == "yes")
            for k in kinds]  # fmt: skip


def compare(case: Case) -> Compared:
    """Predict one case."""
    try:
        scenario = parse_scenario({"task": "train", "model": case.name, **case.scenario})
        model = case.model() if scenario["task"] == "train" else None
        resolved, x = resolve(scenario, model=model)
        return Compared(case, estimate_resolved(resolved, x, today=TODAY))
    except PlannerError as error:
        return Compared(case, None, str(error))


def compare_all() -> list[Compared]:
    """Predict every training case."""
    return [compare(c) for c in cases()]


def compare_memory() -> list[Compared]:
    """Predict every case of training memory."""
    return [compare(c) for c in memory_cases()]


def compare_inference() -> list[Compared]:
    """Predict every inference case."""
    return [compare(c) for c in inference_cases()]


@dataclass(frozen=True)
class LayoutGroup:
    """Layouts of one model on the same devices, measured side by side; arrays of shape (n,)."""

    model: str
    devices: int
    global_batch: Array
    predicted: Array
    measured: Array


def layout_groups() -> list[LayoutGroup]:
    """Predict every layout study: GPTs on A100s under Megatron-DeepSpeed, 1F1B and full recompute."""
    from planner.cost.layouts import layouts
    from planner.cost.runs import TrainingRun
    from planner.cost.training import training_step
    from planner.demand.optimizer import optimizer
    from planner.demand.transformer import demand
    from planner.demand.workload import Precision
    from planner.scenario.names import cluster_of

    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in _rows("layouts.csv"):
        groups.setdefault((row["model"], row["devices"]), []).append(row)
    out = []
    for (name, devices), rows in groups.items():
        shape = {"layers": rows[0]["layers"], "hidden": rows[0]["hidden"], "heads": rows[0]["heads"], "vocab": "51200",
                 "dropout": "True"}  # fmt: skip
        seq_len = int(rows[0]["seq_len"])
        model = model_from_native(native_shape(shape, seq_len=seq_len), id=name, where="layouts.csv")
        columns = {k: [int(r[k]) for r in rows] for k in ("tp", "dp", "pp", "micro_batch", "global_batch")}
        half = Precision("fp16", "fp16", "fp16", "fp16", "fp16")
        run = TrainingRun(
            seq_len, half, optimizer("adam"), framework("megatron"), attention="eager", overlap_tp="backward"
        )
        cluster = cluster_of(rows[0]["hardware"], int(devices))
        step = training_step(demand(model), cluster, layouts(recompute=2, **columns), run)
        out.append(LayoutGroup(name, int(devices), np.array(columns["global_batch"]), step.step_time,
                               np.array([float(r["measured_step_s"]) for r in rows])))  # fmt: skip
    return out
