"""What can be fine-tuned on what there is: full, LoRA and QLoRA side by side, the largest batch and longest sequence.

Every cell is a plan: of the layouts that train one micro-batch a device in a step, the one that ``plan`` prefers,
whether it replicates the model, shards it (FSDP) or divides it; a layout that is given is held.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from planner.errors import BadInputError
from planner.planning.estimate import Estimate
from planner.planning.plan import full_estimate
from planner.planning.search import Found, search
from planner.planning.work import refuse_inference
from planner.scenario.keys import LONGEST, Value, parse_scenario
from planner.scenario.names import HardwareDirs
from planner.scenario.resolve import Resolved, resolve_run

RANK = 8  # of adapters where none is given: the default of PEFT's LoraConfig, https://huggingface.co/docs/peft
# NF4 with its scales quantised again: Dettmers et al. 2023, QLoRA, https://arxiv.org/abs/2305.14314
QLORA = "nf4-dq"
LENGTHS = tuple(2**k for k in range(9, 21))  # 512 … 1M tokens, up to what the model has positions for
USUAL = 2048  # tokens of the length at which speeds are told, where it fits
GRAIN = 256  # tokens that the longest sequence is told to
SMALL = (1, 2, 4, 8)  # micro-batches that may be faster than the largest: less is recomputed or divided
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
    longest : of a micro-batch of one sequence [token], 0 where the shortest does not fit
    fastest : the micro-batch and layout of most tokens a second, of sequences of :data:`USUAL` tokens where they fit
    miss : where none fits, the estimate of one sequence of the shortest length in the leanest layout
    notes : what was assumed beside what the estimates say
    held : whether the length was given
    """

    method: Method
    batches: Mapping[int, Estimate]
    longest: int
    fastest: Estimate | None
    miss: Estimate | None
    notes: tuple[str, ...] = ()
    held: bool = False

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
    scenario.setdefault("devices", 1)
    if scenario["devices"] != 1:
        notes.append("a step has one micro-batch a device; the layouts are those that plan prefers for it")
    rooms = (_room({**scenario, **m.keys}, m, dirs, folder, today) for m in methods(rank))
    return tuple(replace(r, notes=tuple(notes)) for r in rooms)


def _room(
    scenario: Mapping[str, Value], method: Method, dirs: HardwareDirs, folder: str | None, today: date
) -> Room:  # fmt: skip
    tries = _Tries(scenario, dirs, folder)
    lengths = _lengths(scenario, dirs, folder)
    sizes: dict[int, int] = {}
    most = len(MICRO_BATCHES)
    for length in lengths:
        most = tries.largest(length, most)
        if not most:
            break
        sizes[length] = MICRO_BATCHES[most - 1]
    if not sizes:
        resolved, found = tries.at(lengths[0], 1)
        if found.refusal or found.miss is None:
            raise BadInputError(found.refusal or f"devices: {scenario['devices']} given; no layout is lawful")
        return Room(method, {}, 0, None, full_estimate(resolved, found.miss[1], today), held="seq_len" in scenario)
    batches = {n: tries.estimate(n, m, today) for n, m in sizes.items()}
    usual = max(n for n in sizes if n <= max(USUAL, min(sizes)))
    fastest = tries.estimate(usual, tries.fastest(usual, sizes[usual]), today)
    return Room(method, batches, _longest(tries, lengths, max(sizes)), fastest, None, held="seq_len" in scenario)


def _lengths(scenario: Mapping[str, Value], dirs: HardwareDirs, folder: str | None) -> Sequence[int]:
    """Lengths to try: the one that is given, or doubling up to the model's positions."""
    if "seq_len" in scenario:
        return (int(scenario["seq_len"]),)
    most = resolve_run(scenario, dirs=dirs, folder=folder).model.max_positions or LONGEST
    return [n for n in LENGTHS if n <= most] or [most]


@dataclass(frozen=True)
class _Tries:
    """Searches of one method, by length and micro-batch; a step has one micro-batch a device."""

    scenario: Mapping[str, Value]
    dirs: HardwareDirs
    folder: str | None
    known: dict[tuple[int, int], tuple[Resolved, Found]] = field(default_factory=dict)

    def at(self, length: int, micro_batch: int) -> tuple[Resolved, Found]:
        if (length, micro_batch) not in self.known:
            given = {**self.scenario, **setting(length, micro_batch, int(self.scenario["devices"]))}
            resolved = resolve_run(given, dirs=self.dirs, folder=self.folder)
            self.known[length, micro_batch] = resolved, search(resolved, given, keep=1)
        return self.known[length, micro_batch]

    def fits(self, length: int, micro_batch: int) -> bool:
        """Whether any layout fits, of those that take least memory: everything recomputed, whole stages."""
        given = {**self.scenario, **setting(length, micro_batch, int(self.scenario["devices"]))}
        lean: dict[str, Value] = {"recompute": "full"} if "schedule" in given else {"recompute": "full", "vpp": 1}
        resolved = resolve_run(given, dirs=self.dirs, folder=self.folder)
        return bool(search(resolved, {**lean, **given}, keep=1).best)

    def largest(self, length: int, most: int) -> int:
        """How many of the first ``most`` of :data:`MICRO_BATCHES` fit: no larger one does where one does not."""
        return bisect_left(range(most), True, key=lambda i: not self.fits(length, MICRO_BATCHES[i]))

    def fastest(self, length: int, most: int) -> int:
        """The micro-batch of most tokens a second, of the largest that fits and :data:`SMALL` ones."""
        sizes = [*(m for m in SMALL if m < most), most]
        return min(sizes, key=lambda m: self.at(length, m)[1].best[0][0] / m)

    def estimate(self, length: int, micro_batch: int, today: date) -> Estimate:
        resolved, found = self.at(length, micro_batch)
        return full_estimate(resolved, found.best[0][2], today)


def setting(length: int, micro_batch: int, devices: int) -> dict[str, Value]:
    """Keys of a cell beside the method's: what ``plan`` is asked to say the same."""
    return {"seq_len": length, "micro_batch": micro_batch, "global_batch": micro_batch * devices}


def _longest(tries: _Tries, lengths: Sequence[int], low: int) -> int:
    """The longest sequence of a micro-batch of one, to :data:`GRAIN` tokens, between the lengths that were tried."""
    following = [n for n in lengths if n > low]
    if not following:
        return low
    high = following[0]
    while high - low > GRAIN:
        middle = (low + high) // 2 // GRAIN * GRAIN
        low, high = (middle, high) if tries.fits(middle, 1) else (low, middle)
    return low
