"""What an answer says of a scenario beside its figures: what was chosen for it, and what of its layout is not plain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from planner.catalogue.hardware import Accelerator
from planner.cost.frameworks import held_zero_stage, repeats_modules
from planner.cost.groups import AXES
from planner.cost.layouts import Layouts
from planner.cost.runs import InferenceRun, TrainingRun
from planner.cost.schedules import Schedule, rounds
from planner.scenario.keys import Value
from planner.supply.cluster import Cluster


@dataclass
class Assumed:
    """What was not given and had to be chosen, in the words the user reads."""

    notes: list[str] = field(default_factory=list)

    def default(self, given: Mapping[str, Value], key: str, value: Value, why: str = "") -> Value:
        """The given value of a key, or ``value``, noted."""
        if key in given:
            return given[key]
        self.notes.append(f"{key} = {value}" + (f" ({why})" if why else ""))
        return value


def choice_notes(given: Mapping[str, Value], x: Layouts, run: TrainingRun) -> list[str]:
    """Words on the layout's keys that were not given."""
    row, chosen = x.row(0), "fastest that fits"
    row["recompute"] = _said_recompute(str(row["recompute"]), run)
    whys = {"global_batch": "one micro-batch a rank, four a pipeline stage", "micro_batch": chosen, "zero_stage": "",
            "sequence_parallel": "where tp > 1", "recompute": chosen}  # fmt: skip
    return [f"{k} = {row[k]}" + (f" ({why})" if why else "") for k, why in whys.items() if k not in given]


def words_on_layout(
    x: Layouts, cluster: Cluster, run: TrainingRun | InferenceRun, schedule: Schedule | None
) -> list[str]:
    """Words on one layout: where its axes lie, and a ZeRO stage that does less than it says."""
    notes = placement(x, cluster)
    stage = int(x.zero_stage[0])
    if isinstance(run, TrainingRun) and int(held_zero_stage(x, run)[0]) != stage:
        kept = "weights and gradients" if stage == 3 else "gradients"
        notes.append(f"zero_stage {stage} under a pipeline keeps {kept} whole, as 1 does")
    pp, m = int(x.pp[0]), int(x.micro_batches[0])
    if schedule is not None and schedule.in_rounds and x.vpp[0] > 1 and m % pp:
        size = m // int(rounds(x.micro_batches, x.pp)[0])
        flag = "Megatron-LM: --microbatch-group-size-per-virtual-pipeline-stage" if m > pp else "Megatron-LM refuses it"
        notes.append(f"chunks take turns every {size} micro-batches ({flag})")
    return notes


def placement(x: Layouts, cluster: Cluster) -> list[str]:
    """Which parallel axes stay inside a scale-up domain and which cross the network, where there is more than one."""
    domain = cluster.domain
    if cluster.devices <= domain:
        return []
    groups = {axis: group(x) for axis, group in AXES.items()}
    several = {axis: g for axis, g in groups.items() if int(g.ranks[0]) > 1}
    inside = [f"{axis} {int(g.ranks[0])}" for axis, g in several.items() if int(g.span()[0]) <= domain]
    across = [f"{axis} {int(g.ranks[0])}" for axis, g in several.items() if int(g.span()[0]) > domain]
    parts = [f"{', '.join(inside)} inside a domain of {domain}"] if inside else []
    parts += [f"{', '.join(across)} across domains"] if across else []
    return [f"placement: {'; '.join(parts)}"]


def _said_recompute(mode: str, run: TrainingRun) -> str:
    modules = run.recompute_modules if repeats_modules(run) else ()
    return mode + (f" of {', '.join(modules)}" if modules and mode == "selective" else "")


def offload_notes(offload: str, chip: Accelerator) -> list[str]:
    """Words on what of an offload is not timed or checked."""
    notes = [] if offload == "none" else ["offload: what the host can hold is not checked"]
    if offload.endswith("activations") and chip.host is None:
        notes.append(f"offload hides behind compute: no link of {chip.id} to the host is listed")
    if offload.startswith("nvme"):
        notes.append("offload: the disks are not timed, the link to the host alone is")
    return notes
