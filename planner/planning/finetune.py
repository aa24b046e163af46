"""What can be fine-tuned on what there is: full, LoRA and QLoRA side by side, the largest batch and longest sequence.

The devices share the model by data parallelism with everything sharded (FSDP), as adapters are commonly trained, unless
the layout is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
from numpy.typing import ArrayLike

from planner.cost.layouts import layouts
from planner.cost.rules import lawful, refuse_unlawful
from planner.demand.ops import Array
from planner.errors import BadInputError
from planner.planning.estimate import Estimate
from planner.planning.plan import full_estimate
from planner.planning.search import chances, evaluate
from planner.planning.work import refuse_inference
from planner.scenario.complete import axis_sizes, layout_columns
from planner.scenario.keys import LONGEST, Value, parse_scenario
from planner.scenario.names import HardwareDirs
from planner.scenario.resolve import Resolved, resolve_run

RANK = 8  # of adapters where none is given: the default of PEFT's LoraConfig, https://huggingface.co/docs/peft
# NF4 with its scales quantised again: Dettmers et al. 2023, QLoRA, https://arxiv.org/abs/2305.14314
QLORA = "nf4-dq"
LENGTHS = tuple(2**k for k in range(9, 21))  # 512 … 1M tokens, up to what the model has positions for
GRAIN = 256  # tokens that the longest sequence is told to
MICRO_BATCHES = (*range(1, 33), *range(40, 129, 8), 160, 192, 256, 384, 512, 1024)


@dataclass(frozen=True)
class Method:
    """A way of fine-tuning: its name, and the scenario keys that it sets."""

    name: str
    keys: Mapping[str, Value]


@dataclass(frozen=True)
class Room:
    """What one method has room for.

    Attributes
    ----------
    method : Method
    batches : length [tokens] -> the estimate of the largest micro-batch that fits; lengths that do not fit are left out
    longest : of one sequence a device [token], 0 where the shortest does not fit
    miss : where none fits, the estimate of one sequence of the shortest length in the leanest layout
    notes : what was assumed beside what the estimates say
    """

    method: Method
    batches: Mapping[int, Estimate]
    longest: int
    miss: Estimate | None
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return bool(self.batches)


def methods(rank: int) -> tuple[Method, ...]:
    """Full fine-tuning, adapters of a rank, and adapters beside 4-bit weights."""
    return (Method("full", {"lora_rank": 0}), Method("LoRA", {"lora_rank": rank}),
            Method("QLoRA", {"lora_rank": rank, "quantization": QLORA}))  # fmt: skip


def fine_tuning(
    given: Mapping[str, object], *, dirs: HardwareDirs = (), folder: str | None = None, today: date
) -> tuple[Room, ...]:
    """What each method has room for on the devices there are.

    Parameters
    ----------
    given : mapping of scenario keys      with model, hardware and devices; ``seq_len`` holds the length
    """
    scenario = parse_scenario({**given, "task": given.get("task", "train")})
    refuse_inference(scenario, str(scenario.get("hardware", "HARDWARE")))
    for key in ("quantization", "micro_batch", "global_batch"):
        if key in scenario:
            raise BadInputError(f"{key}: given, but it is what is compared here; leave it out")
    notes = []
    rank = int(scenario.pop("lora_rank", 0))
    if not rank:
        rank = RANK
        notes.append(f"lora_rank = {RANK} (the default of PEFT, https://huggingface.co/docs/peft)")
    if int(scenario.setdefault("devices", 1)) > 1 and "zero_stage" not in scenario:
        scenario["zero_stage"] = 3
        notes.append("zero_stage = 3 (FSDP)")
    rooms = (_room({**scenario, **m.keys}, m, dirs, folder, today) for m in methods(rank))
    return tuple(replace(r, notes=tuple(notes)) for r in rooms)


def _room(
    scenario: Mapping[str, Value], method: Method, dirs: HardwareDirs, folder: str | None, today: date
) -> Room:  # fmt: skip
    def resolved(length: int) -> Resolved:
        return resolve_run({**scenario, "seq_len": length}, dirs=dirs, folder=folder)

    lengths = _lengths(scenario, dirs, folder)
    batches: dict[int, Estimate] = {}
    for length in lengths:
        found = _largest(resolved(length), scenario, today)
        if found is None:
            break
        batches[length] = found
    miss = None if batches else _leanest(resolved(lengths[0]), scenario, today)
    return Room(method, batches, _longest(resolved, scenario, lengths, batches), miss)


def _lengths(scenario: Mapping[str, Value], dirs: HardwareDirs, folder: str | None) -> Sequence[int]:
    """Lengths to try: the one that is given, or doubling up to the model's positions."""
    if "seq_len" in scenario:
        return (int(scenario["seq_len"]),)
    most = resolve_run(scenario, dirs=dirs, folder=folder).model.max_positions or LONGEST
    return [n for n in LENGTHS if n <= most] or [most]


@dataclass(frozen=True)
class _Tried:
    """Lawful layouts of every micro-batch and recompute mode: their seconds, peak bytes and chance to fit, (n,)."""

    rows: list[dict[str, int]]
    seconds: Array
    memory: Array
    chance: Array


def _tried(resolved: Resolved, scenario: Mapping[str, Value], sizes: Sequence[int]) -> _Tried:
    held = {**scenario, "micro_batch": 1}
    columns = layout_columns(held, axis_sizes(held), "train", experts=resolved.case.sizes.experts)
    modes = [columns["recompute"]] if "recompute" in scenario else [0, 1, 2]
    pairs = np.array([(m, r) for m in sizes for r in modes])
    free: dict[str, ArrayLike] = {
        **columns, "micro_batch": pairs[:, 0], "recompute": pairs[:, 1], "global_batch": pairs[:, 0] * columns["dp"]
    }  # fmt: skip
    tried = layouts(**free)
    x = lawful(tried, resolved.case)
    if not len(x):
        refuse_unlawful(tried, resolved.case)
    seconds, memory = evaluate(resolved, x)
    rows = [{k: int(v[i]) for k, v in vars(x).items()} for i in range(len(x))]
    return _Tried(rows, seconds, memory, chances(resolved, x, memory))


def _largest(resolved: Resolved, scenario: Mapping[str, Value], today: date) -> Estimate | None:
    """The largest micro-batch that fits, in the recompute mode in which it is fastest."""
    t = _tried(resolved, scenario, MICRO_BATCHES)
    fits = np.flatnonzero(t.chance >= resolved.run.headroom)
    if not len(fits):
        return None
    best = max(fits.tolist(), key=lambda i: (t.rows[i]["micro_batch"], -float(t.seconds[i])))
    return full_estimate(resolved, t.rows[best], today)


def _leanest(resolved: Resolved, scenario: Mapping[str, Value], today: date) -> Estimate:
    t = _tried(resolved, scenario, (1,))
    return full_estimate(resolved, t.rows[int(np.argmin(t.memory))], today)


def _longest(
    resolved: Callable[[int], Resolved], scenario: Mapping[str, Value], lengths: Sequence[int],
    batches: Mapping[int, Estimate],
) -> int:  # fmt: skip
    """The longest sequence of a micro-batch of one, to :data:`GRAIN` tokens, between the lengths that were tried."""
    if not batches:
        return 0
    low = max(batches)
    following = [n for n in lengths if n > low]
    if not following:
        return low
    high = following[0]
    while high - low > GRAIN:
        middle = (low + high) // 2 // GRAIN * GRAIN
        one = resolved(middle)
        fits = float(_tried(one, scenario, (1,)).chance.max()) >= one.run.headroom
        low, high = (middle, high) if fits else (low, middle)
    return low
