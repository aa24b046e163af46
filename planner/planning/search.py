"""The search: every layout that divides and fits, compared at once, and why the others were refused."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from planner.cost.constants import RECOMPUTE
from planner.cost.deployments import deployment
from planner.cost.doubt import SURE, fit_chance
from planner.cost.inference import inference_pass
from planner.cost.layouts import Layouts, joined, layouts
from planner.cost.memory import device_capacity
from planner.cost.rules import ONE_TOKEN, RULES, Bools, Case, chunks_allowed, divisors_of, first_broken, unavoidable
from planner.cost.runs import TrainingRun
from planner.cost.training import training_step
from planner.demand.ops import Array
from planner.planning.sanity import refuse_impossible
from planner.scenario.complete import runs, told
from planner.scenario.defaults import default_framework
from planner.scenario.keys import Value
from planner.scenario.resolve import Resolved

CHUNK, BATCH = 65536, 32768  # layouts that are made at a time, and evaluated
# What candidates that a search leaves out are called when they are counted.
REASONS = {rule.name: rule.tally for rule in RULES} | {
    "same_as_another": "the same layout said differently",
    "memory": "more memory than a device has with the headroom",
    "saturated": "more requests a second than they serve",
}
# How far off the predicted ratio of two layouts on one machine is in the median, where it is within 10 %: 2.7 % for the
# 175B and 5.0 % for the 3.6B multi-node studies of planner/validation/layouts.csv. Times nearer than this are the same.
RANK_ERROR = 0.03
Progress = Callable[[int, int], None]
Held = Mapping[str, Value | tuple[Value, ...]]  # a scenario whose searched keys may hold several values
Kind = tuple[int, int]
Lean = dict[Kind, tuple[float, float, dict[str, int]]]


@dataclass
class Found:
    """What a search of one model and precision came to.

    ``best`` layouts that fit, fastest first, with ``seconds`` and ``memory``; ``refused`` counts by reason;
    ``instead`` the fastest where a leaner one is preferred; ``miss`` the layout that came nearest to fitting, with its
    memory; ``by_tp`` the fastest of every tp; ``laws`` that every candidate breaks, with what they say of the first.
    """

    best: list[tuple[float, float, dict[str, int]]] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    considered: int = 0
    fitting: int = 0
    miss: tuple[float, dict[str, int]] | None = None
    by_tp: dict[int, tuple[float, float, dict[str, int]]] = field(default_factory=dict)
    laws: dict[int, str] | None = None
    instead: tuple[float, float, dict[str, int]] | None = None

    def count(self, reason: str, rows: int) -> None:
        """Add rows that are left out to the tally."""
        if rows:
            self.refused[reason] = self.refused.get(reason, 0) + rows

    def common(self, laws: Mapping[int, str]) -> None:
        """Of the laws that every candidate broke so far, keep those that all of some more break too."""
        self.laws = {k: v for k, v in (laws if self.laws is None else self.laws).items() if k in laws}

    @property
    def refusal(self) -> str:
        """Where one law refuses every candidate, what it says of the first; else empty."""
        return next(iter(self.laws.values()), "") if self.laws else ""


def _choices(given: Held, key: str, values: list[int]) -> list[int]:
    if key not in given:
        return values
    held = given[key]
    several = held if isinstance(held, tuple) else (held,)
    return [RECOMPUTE.index(str(v)) if key == "recompute" else int(v) for v in several]


def candidates(resolved: Resolved, given: Held) -> Iterator[Layouts]:
    """All combinations of the searched keys for a number of devices, in chunks; what is given is held, to one value or
    to a tuple of them.

    Every divisor of the devices is tried for tp, pp and cp, dp is what remains, ep every divisor of the experts, etp
    every divisor of tp, vpp every divisor of the layers of a stage, micro_batch every divisor of the batch of a rank.
    """
    task = resolved.task
    given = told(given, task)
    train = task == "train"
    batch = _choices(given, "global_batch", [1])[0] if train else 0
    grids: dict[str, list[int]] = {
        "zero_stage": _choices(given, "zero_stage", [0, 1, 2, 3] if train else [0]),
        "sequence_parallel": _choices(given, "sequence_parallel", [0, 1] if train else [0]),
        "recompute": _choices(given, "recompute", [0, 1, 2] if train else [0]),
        "ep": _choices(given, "ep", divisors_of(max(resolved.case.sizes.experts, 1))),
    }  # fmt: skip
    chunk: list[dict[str, int]] = []
    inner = int(np.prod([len(v) for v in grids.values()]))
    for outer in _outer(resolved.case, given, batch):
        chunk.append(outer)
        if len(chunk) * inner >= CHUNK:
            yield _product(chunk, grids, batch)
            chunk = []
    if chunk:
        yield _product(chunk, grids, batch)


def _outer(case: Case, given: Held, batch: int) -> Iterator[dict[str, int]]:
    """Combinations of the keys whose choices depend on one another; ``batch`` is the step's in training, else 0."""
    n = case.devices  # stages outermost: rows that share a pipeline are priced together
    stages = {pp for tp in _choices(given, "tp", [1]) for pp in divisors_of(max(n // tp, 1))}
    for pp in _choices(given, "pp", sorted(stages)):
        for vpp in _choices(given, "vpp", _chunks(case, pp) if batch else [1]):
            for tp in _choices(given, "tp", divisors_of(max(n // pp, 1))):
                shares = _choices(given, "etp", divisors_of(tp) if case.sizes.experts else [1])
                for cp in _choices(given, "cp", _context_sizes(case, max(n // (tp * pp), 1))):
                    for dp, etp in product(_choices(given, "dp", [max(n // (tp * pp * cp), 1)]), shares):
                        whole = batch // dp if batch % dp == 0 else 1  # else no micro-batch divides it, as a law says
                        for size in _choices(given, "micro_batch", divisors_of(max(whole, 1))):
                            yield {"tp": tp, "pp": pp, "cp": cp, "dp": dp, "etp": etp, "vpp": vpp, "micro_batch": size}


def _context_sizes(case: Case, ranks: int) -> list[int]:
    """Divisors of the ranks that cut a sequence into equal parts, two a rank; 1 where a step reads one token."""
    if case.task in ONE_TOKEN:
        return [1]
    return [c for c in divisors_of(ranks) if c == 1 or case.tokens % (2 * c) == 0]


def _chunks(case: Case, pp: int) -> list[int]:
    """Model chunks a stage that deal the layers evenly and that the schedule allows."""
    layers = case.sizes.layers
    per_stage = layers // pp if pp > 1 and layers % pp == 0 else 1
    tried = np.array(divisors_of(max(per_stage, 1)))
    fewest = 1 if case.schedule is None else case.schedule.chunks[0]
    return [int(v) for v in tried[chunks_allowed(case.schedule, tried)]] or [fewest]


def _product(outer: list[dict[str, int]], grids: Mapping[str, list[int]], batch: int) -> Layouts:
    """Outer rows times the grid of the inner keys."""
    mesh = np.meshgrid(*grids.values(), indexing="ij")
    inner = {k: m.ravel() for k, m in zip(grids, mesh, strict=True)}
    size = len(next(iter(inner.values())))
    columns = {k: np.repeat(np.array([o[k] for o in outer], dtype=np.int64), size) for k in outer[0]}
    columns |= {k: np.tile(v, len(outer)) for k, v in inner.items()}
    columns["global_batch"] = np.full_like(columns["dp"], batch) if batch else columns["dp"] * columns["micro_batch"]
    return layouts(**columns)


def admissible(x: Layouts, resolved: Resolved, found: Found, given: Held) -> Layouts:
    """Drop the rows that break a law, counting each under the first law it breaks, and those that say another again."""
    case = resolved.case
    law = first_broken(x, case)
    for i, count in zip(*np.unique(law[law < len(RULES)], return_counts=True), strict=True):
        found.count(RULES[i].name, int(count))
    alive = law == len(RULES)
    found.common({} if alive.any() else unavoidable(x, case))
    again = alive & _said_before(x, resolved, given)
    found.count("same_as_another", int(again.sum()))
    return x.take(np.flatnonzero(alive & ~again))


def _said_before(x: Layouts, resolved: Resolved, given: Held) -> Bools:
    """Rows that are the same as a plainer one but for a key that was not ``given``; a ZeRO stage that another framework
    runs is not."""
    same = np.zeros(len(x), dtype=bool)
    if "sequence_parallel" not in given:
        same |= (x.sequence_parallel > 0) & (x.tp == 1)
    if "zero_stage" not in given and resolved.task == "train":
        execution = resolved.cluster.efficiency.execution
        plain = default_framework(execution, 0)
        alike = np.array(["framework" in given or default_framework(execution, z) == plain for z in range(4)])
        undivided = (x.dp * x.cp == 1) & ((resolved.case.sizes.experts == 0) | (x.expert_dp <= 1))
        same |= (x.zero_stage > 0) & undivided & alike[x.zero_stage]
        same |= (x.zero_stage == 2) & (x.pp > 1)
    return same


def evaluate(resolved: Resolved, x: Layouts) -> tuple[Array, Array]:
    """Seconds and peak bytes of every layout, each of shape (n,); one that cannot be stops the search."""
    seconds, memory = _evaluated(resolved, x)
    refuse_impossible({"seconds": seconds, "memory": memory}, resolved.keys)
    return seconds, memory


def _evaluated(resolved: Resolved, x: Layouts) -> tuple[Array, Array]:
    if isinstance(resolved.run, TrainingRun):
        seconds, memory = np.zeros(len(x)), np.zeros(len(x))
        for rows, run in runs(resolved.run, resolved.cluster.efficiency.execution, resolved.named, x):
            step = training_step(resolved.demand, resolved.cluster, x.take(rows), run)
            seconds[rows], memory[rows] = step.step_time, step.peak_memory
        return seconds, memory
    if resolved.task == "serve":
        found = deployment(resolved.demand, resolved.cluster, x, resolved.run)
        return found.served.tpot, found.needed
    phase = "decode" if resolved.task == "decode" else "prefill"
    one = inference_pass(resolved.demand, resolved.cluster, x, resolved.run, phase=phase)
    return one.total_time, one.peak_memory


def chances(resolved: Resolved, x: Layouts, memory: Array) -> Array:
    """Chance that each layout fits, shape (n,), by the framework that runs it; ``memory`` (n,) [byte]."""
    capacity = device_capacity(resolved.cluster, resolved.run)
    if not isinstance(resolved.run, TrainingRun):
        return fit_chance(resolved.run, memory, capacity)
    out = np.zeros(len(x))
    for rows, run in runs(resolved.run, resolved.cluster.efficiency.execution, resolved.named, x):
        out[rows] = fit_chance(run, memory[rows], capacity)
    return out


def _batches(resolved: Resolved, given: Held, found: Found) -> Iterator[Layouts]:
    """The candidates that no law refuses, some thousands at a time: most are refused, and small arrays cost more in
    calls than in arithmetic."""
    held: list[Layouts] = []
    for x in candidates(resolved, given):
        found.considered += len(x)
        held.append(admissible(x, resolved, found, given))
        if sum(len(h) for h in held) >= BATCH:
            yield joined(held)
            held = []
    if held:
        yield joined(held)


def search(resolved: Resolved, given: Held, *, keep: int = 10, progress: Progress | None = None) -> Found:
    """Compare all layouts of one model and precision; the fastest ``keep`` that fit, and a tally of the rest."""
    found = Found()
    capacity = device_capacity(resolved.cluster, resolved.run)
    heap: list[tuple[float, float, int, dict[str, int]]] = []
    lean: Lean = {}
    serial = 0
    for ok in _batches(resolved, given, found):
        if len(ok):
            seconds, memory = evaluate(resolved, ok)
            chance = chances(resolved, ok, memory)
            held, served = chance >= resolved.run.headroom, np.isfinite(seconds)
            fits = held & served
            if served.any():
                _note_miss(found, ok, memory)
            found.fitting += int(fits.sum())
            found.count("memory", int((~held).sum()))
            found.count("saturated", int((held & ~served).sum()))
            rows = np.flatnonzero(fits)
            _note_best_by_tp(found, ok, rows, seconds, memory)
            if isinstance(resolved.run, TrainingRun):  # what serving leaves free is cache
                _note_leanest(lean, ok, rows, seconds, memory / capacity, chance >= SURE)
            for i in rows[np.lexsort((memory[rows], seconds[rows]))][:keep]:
                serial += 1
                heapq.heappush(heap, (-float(seconds[i]), -float(memory[i]), -serial, _columns(ok, int(i))))
                if len(heap) > keep:
                    heapq.heappop(heap)
        if progress is not None:
            progress(found.considered, found.fitting)
    found.best = [(-s, -m, columns) for s, m, _, columns in sorted(heap, key=lambda h: (-h[0], -h[1], -h[2]))]
    _prefer_leaner(found, lean, capacity, keep)
    return found


def _columns(x: Layouts, i: int) -> dict[str, int]:
    return {k: int(v[i]) for k, v in vars(x).items()}


def _note_best_by_tp(found: Found, x: Layouts, rows: Array, seconds: Array, memory: Array) -> None:
    for tp in np.unique(x.tp[rows]).tolist():
        same = rows[x.tp[rows] == tp]
        i = int(same[np.argmin(seconds[same])])
        if tp not in found.by_tp or float(seconds[i]) < found.by_tp[tp][0]:
            found.by_tp[tp] = float(seconds[i]), float(memory[i]), _columns(x, i)


def _note_leanest(lean: Lean, x: Layouts, rows: Array, seconds: Array, share: Array, sure: Bools) -> None:
    """The fastest layout of every tenth of memory filled and number of axes that divide something; those that are sure
    to fit are one tenth."""
    axes = sum((getattr(x, k) > 1).astype(np.int64) for k in ("tp", "pp", "cp", "ep", "vpp"))
    tenths = np.where(sure, 0, np.ceil(10.0 * share)).astype(np.int64)
    order = rows[np.argsort(seconds[rows], kind="stable")]
    _, first = np.unique(np.stack([tenths[order], axes[order]]), axis=1, return_index=True)
    for i in order[first]:
        kind = int(tenths[i]), int(axes[i])
        if kind not in lean or float(seconds[i]) < lean[kind][0]:
            lean[kind] = float(seconds[i]), float(share[i]), _columns(x, int(i))


def _prefer_leaner(found: Found, lean: Lean, capacity: float, keep: int) -> None:
    """Put first the layout that is sure to fit, or fills fewest tenths of memory, then that divides fewest axes, among
    those that are as fast as the fastest within the error of their order."""
    if not found.best or not lean:
        return
    fastest = found.best[0]
    _, (seconds, share, columns) = min(
        ((kind, one) for kind, one in lean.items() if one[0] <= fastest[0] * (1.0 + RANK_ERROR)),
        key=lambda both: both[0],
    )
    if columns != fastest[2]:
        others = [b for b in found.best if b[2] != columns]
        found.best, found.instead = [(seconds, share * capacity, columns), *others][:keep], fastest


def _note_miss(found: Found, x: Layouts, memory: Array) -> None:
    i = int(np.argmin(memory))
    if found.miss is None or float(memory[i]) < found.miss[0]:
        found.miss = float(memory[i]), _columns(x, i)
