"""The inputs of an estimate as resolved, driven by :data:`KEYS`: put in again, they give the same answer.

A run holds what was resolved under the names of the keys; a key that is new is echoed without a word here, unless its
run calls it otherwise. A key that was left to the hardware or says nothing of the model is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from planner.cost.frameworks import repeats_modules
from planner.cost.layouts import Layouts
from planner.cost.runs import InferenceRun, TrainingRun
from planner.demand.workload import Precision
from planner.scenario.keys import KEYS, Value
from planner.scenario.overrides import OVERRIDES
from planner.supply.cluster import Cluster

Said = dict[str, Value | None]
LAYOUT = tuple(f.name for f in fields(Layouts))


def resolved_keys(
    task: str, given: Mapping[str, Value], names: Mapping[str, Value], cluster: Cluster, precision: Precision,
    run: TrainingRun | InferenceRun,
) -> Said:  # fmt: skip
    """Every key of the task but those of the layout; ``names`` are the model's and its compression's."""
    found: Mapping[str, object] = {
        **{f.name: getattr(run, f.name) for f in fields(run)},
        **{f"{f.name}_dtype": getattr(precision, f.name) for f in fields(precision)},
        **_called_otherwise(run),
        **{k: given.get(k) for k in OVERRIDES},
        **names,
        "task": task, "hardware": hardware_name(cluster), "devices": cluster.devices, "sparsity": precision.sparsity,
        "encoder_len": run.encoder_len or None,
    }  # fmt: skip
    return {k: found[k] for k in _keys_of(task) if k not in LAYOUT}  # type: ignore[misc]


def _called_otherwise(run: TrainingRun | InferenceRun) -> dict[str, object]:
    """Keys whose value is a name of something, or a field of another name."""
    if isinstance(run, TrainingRun):
        modules = ",".join(run.recompute_modules) if repeats_modules(run) else ""
        return {"optimizer": run.optimizer.name, "schedule": run.schedule.name, "framework": run.framework.id,
                "dispatcher": run.dispatcher.id, "recompute_modules": modules, "master_weights": run.optimizer.master,
                "first_stage_layers": run.first_stage_layers or None,
                "last_stage_layers": run.last_stage_layers or None}  # fmt: skip
    return {"engine": run.engine.id, "seq_len": run.input_len,
            "token_budget": run.token_budget or None, "max_num_seqs": run.max_num_seqs or None,
            "max_model_len": run.max_model_len or None, "rate": run.rate or None,
            "concurrency": None if run.rate else run.batch, "requests": run.requests or None}  # fmt: skip


def hardware_name(cluster: Cluster) -> str:
    """A name that can be given again: a system made by rule has none of its own."""
    made_by_rule = cluster.system.id.startswith("generic-")
    return cluster.accelerator.id if made_by_rule else cluster.system.id


def inputs(task: str, keys: Said, layout: Mapping[str, Value], accelerator: str) -> Said:
    """The inputs of an answer in the order of the keys: those resolved, the layout, and the accelerator by name."""
    said = {k: layout[k] if k in LAYOUT else keys[k] for k in _keys_of(task)}
    first = list(said)[: list(said).index("hardware") + 1]
    return {**{k: said[k] for k in first}, "accelerator": accelerator, **said}


def _keys_of(task: str) -> list[str]:
    return [name for name, key in KEYS.items() if task in key.tasks]
