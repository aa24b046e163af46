"""What a scenario left open, filled in: the layout's sizes, the settings that follow it, and the fastest that fits.

:func:`runs` is the one place where a training run's settings follow a layout, for one layout as for a million.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from planner.catalogue.classes import Execution
from planner.cost.constants import RECOMPUTE
from planner.cost.doubt import fitting
from planner.cost.layouts import Ints, Layouts, layouts
from planner.cost.runs import TrainingRun
from planner.cost.schedules import SCHEDULES
from planner.cost.training import training_step
from planner.demand.transformer import Demand
from planner.scenario.defaults import (
    default_expert_tensor,
    default_framework,
    default_gradients,
    settings_of_layout,
)
from planner.scenario.keys import KEYS, Value
from planner.supply.cluster import Cluster

V = TypeVar("V")


def told(given: Mapping[str, V], task: str) -> dict[str, V]:
    """The keys that say something to a task."""
    return {k: v for k, v in given.items() if k not in KEYS or task in KEYS[k].tasks}


def axis_sizes(given: Mapping[str, Value]) -> dict[str, Value]:
    """Sizes of the parallel axes; dp follows from devices, or devices from dp. Whether they agree is a law's to say."""
    given = told(given, str(given.get("task", "train")))
    chunks = SCHEDULES[str(given["schedule"])].chunks[0] if "schedule" in given else 1
    sizes = {k: int(given.get(k, 1)) for k in ("tp", "pp", "cp", "ep")} | {"vpp": int(given.get("vpp", chunks))}
    inner = sizes["tp"] * sizes["pp"] * sizes["cp"]
    dp = int(given.get("dp", max(int(given.get("devices", 1)) // inner, 1)))
    return {**sizes, "dp": dp, "devices": int(given.get("devices", dp * inner))}


def layout_columns(
    given: Mapping[str, Value], sizes: Mapping[str, Value], task: str, *, experts: int
) -> dict[str, int]:
    """The layout of one scenario as integers, of a model with so many experts; what is not given takes the common
    choice."""
    given = told(given, task)
    dp, tp, pp = int(sizes["dp"]), int(sizes["tp"]), int(sizes["pp"])
    etp = int(given.get("etp", default_expert_tensor(experts=experts, tp=tp, ep=int(sizes["ep"]))))
    micro = int(given.get("micro_batch", 1))
    batch = int(given.get("global_batch", dp * micro * (4 * pp if pp > 1 and task == "train" else 1)))
    return {
        **{k: int(sizes[k]) for k in ("dp", "tp", "pp", "cp", "ep", "vpp")},
        "etp": etp,
        "micro_batch": micro,
        "global_batch": batch,
        "zero_stage": int(given.get("zero_stage", 1 if task == "train" and dp > 1 else 0)),
        "sequence_parallel": int(bool(given.get("sequence_parallel", tp > 1 and task == "train"))),
        "recompute": RECOMPUTE.index(str(given.get("recompute", "none"))),
    }


def layout_choices(given: Mapping[str, Value], columns: Mapping[str, int], task: str) -> Layouts:
    """Layouts that a scenario leaves to choose from, the plainest first: every micro-batch that divides the batch of a
    rank by powers of two, and every recompute mode, where they were not given.

    Without a batch to divide, the micro-batch stays as it is. What is no training has one layout.
    """
    if task != "train":
        return layouts(**columns)
    modes = [columns["recompute"]] if "recompute" in given else list(range(len(RECOMPUTE)))
    sizes = [columns["micro_batch"]]
    share, rest = divmod(columns["global_batch"], columns["dp"])
    if "micro_batch" not in given and "global_batch" in given and rest == 0:
        sizes = [m for m in (2**i for i in range(share.bit_length())) if share % m == 0]
    pairs = np.array([(m, r) for m in sizes for r in modes])
    free: dict[str, ArrayLike] = {**columns, "micro_batch": pairs[:, 0], "recompute": pairs[:, 1]}
    return layouts(**free)


def fastest_that_fits(d: Demand, cluster: Cluster, x: Layouts, run: TrainingRun) -> Layouts:
    """The fastest of lawful layouts that fits the memory, else the one that needs least."""
    if len(x) == 1:
        return x
    step = training_step(d, cluster, x, run)
    fits = fitting(cluster, run, step.peak_memory)
    best = np.argmin(np.where(fits, step.step_time, np.inf)) if fits.any() else np.argmin(step.peak_memory)
    return x.take([int(best)])


def runs(run: TrainingRun, execution: Execution, named: Set[str], x: Layouts) -> Iterator[tuple[Ints, TrainingRun]]:
    """Rows of ``x`` that share a run's settings, and that run.

    Parameters
    ----------
    run : TrainingRun               with the settings that were given
    named : set of str              keys that were given: a setting among them stays as ``run`` has it, others follow
                                    the layout's ZeRO stage, sequence parallelism and model chunks
    """
    code = x.zero_stage * 4 + (x.sequence_parallel > 0) * 2 + (x.vpp > 1)
    codes, which = np.unique(code, return_inverse=True)
    own = [_followed(run, execution, named, int(k) // 4, bool(k & 2), bool(k & 1)) for k in codes]
    for settled in dict.fromkeys(own):
        yield np.flatnonzero(np.array([o == settled for o in own])[which]), settled


def _followed(
    run: TrainingRun, execution: Execution, named: Set[str], zero_stage: int, sequence_parallel: bool, chunks: bool
) -> TrainingRun:
    """A run with the settings that were not named as a layout has them."""
    used = run.framework if "framework" in named else default_framework(execution, zero_stage)
    settings = settings_of_layout(execution, used, run.precision.compute, sequence_parallel)
    grad = run.precision.grad
    if "grad_dtype" not in named:
        grad = default_gradients(used, run.precision, masters=run.optimizer.master)
    looped = SCHEDULES["interleaved" if chunks else "1f1b"]
    free = {k: v for k, v in (settings | {"schedule": looped}).items() if k not in named}
    return replace(run, precision=replace(run.precision, grad=grad), **free)  # type: ignore[arg-type]


def settings_notes(run: TrainingRun, named: Set[str], *, tp: int) -> list[str]:
    """Words on the settings that follow a layout, where they were not named."""
    notes = [] if "framework" in named else [f"framework = {run.framework.id} ({run.framework.why})"]
    if "grad_dtype" not in named and run.precision.activation == "bf16":
        other = "fp32" if run.precision.grad == "bf16" else "bf16"
        whose = "Megatron-LM alone keeps" if other == "fp32" else "NeMo and Megatron-Bridge benchmark with"
        notes.append(f"grad_dtype = {run.precision.grad} ({whose} {other})")
    if run.framework.compiled and "compiled" not in named:
        notes.append("compiled = True (torch.compile or fused kernels; eager PyTorch is slower)")
    if tp > 1 and "overlap_tp" not in named:
        notes.append(f"overlap_tp = {run.overlap_tp} (all: Megatron-LM's sequence parallelism on Hopper and newer)")
    return notes


def expert_notes(given: Mapping[str, Value], x: Layouts, experts: int) -> list[str]:
    """Words on how experts are divided, where that was not given and ranks share the rest of a layer."""
    if "etp" in given or not experts or x.tp[0] == 1:
        return []
    why = "without ep, engines and frameworks split experts over tp" if x.ep[0] == 1 else (
        "experts divided over ep are whole; Megatron-LM splits them over tp too unless told")  # fmt: skip
    return [f"etp = {int(x.etp[0])} ({why})"]


def routing_notes(given: Mapping[str, Value], run: TrainingRun, x: Layouts, experts: int) -> list[str]:
    """Words on how tokens reach experts, where that was not given, and on a load that says nothing."""
    if not experts:
        return []
    notes = []
    if "dispatcher" not in given and x.ep[0] > 1:
        notes.append(f"dispatcher = {run.dispatcher.id} (what recipes for {run.framework.name} take)")
    if "moe_kernels" not in given:
        notes.append("moe_kernels = permute (fused: experts as one kernel, on Blackwell from 2026 on)")
    if run.capacity_factor and run.imbalance > 1:
        notes.append("imbalance says nothing beside capacity_factor: every expert computes its capacity")
    return notes
