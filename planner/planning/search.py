"""The search: every layout that divides and fits, compared at once, and why the others were refused."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from planner.cost.constants import RECOMPUTE
from planner.cost.doubt import fit_chance
from planner.cost.inference import inference_pass, serving
from planner.cost.layouts import Layouts, layouts
from planner.cost.memory import device_capacity
from planner.cost.rules import RULES, Bools, Case, chunks_allowed, divisors_of, first_broken, refusal
from planner.cost.runs import TrainingRun
from planner.cost.training import training_step
from planner.demand.ops import Array
from planner.scenario.complete import runs, told
from planner.scenario.keys import Value
from planner.scenario.resolve import Resolved

CHUNK = 32768
# What candidates that a search leaves out are called when they are counted.
REASONS = {rule.name: rule.tally for rule in RULES} | {
    "same_as_another": "the same layout said differently",
    "memory": "more memory than a device has with the headroom",
}
# How far off the predicted ratio of two layouts on one machine is in the median, where it is within 10 %: 2.7 % for the
# 175B and 5.0 % for the 3.6B multi-node studies of planner/validation/layouts.csv. Times nearer than this are the same.
RANK_ERROR = 0.03
Progress = Callable[[int, int], None]
Lean = dict[tuple[int, int], tuple[float, float, dict[str, int]]]


@dataclass
class Found:
    """What a search of one model and precision came to.

    ``best`` layouts that fit, fastest first, with ``seconds`` and ``memory``; ``refused`` counts by reason;
    ``instead`` the fastest where a leaner one is preferred; ``miss`` the layout that came nearest to fitting, with its
    memory; ``by_tp`` the fastest of every tp; ``law`` what a law said of the first candidate of a chunk of which it
    left none.
    """

    best: list[tuple[float, float, dict[str, int]]] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    considered: int = 0
    fitting: int = 0
    miss: tuple[float, dict[str, int]] | None = None
    by_tp: dict[int, tuple[float, float, dict[str, int]]] = field(default_factory=dict)
    law: str = ""
    instead: tuple[float, float, dict[str, int]] | None = None

    def count(self, reason: str, rows: int) -> None:
        """Add rows that are left out to the tally."""
        if rows:
            self.refused[reason] = self.refused.get(reason, 0) + rows

    @property
    def refusal(self) -> str:
        """Where one law alone refuses every candidate, what it says of the first; else empty."""
        return self.law if len(self.refused) == 1 and self.miss is None else ""


def _choices(given: Mapping[str, Value], key: str, values: list[int]) -> list[int]:
    return [int(given[key])] if key in given else values


def candidates(resolved: Resolved, given: Mapping[str, Value]) -> Iterator[Layouts]:
    """All combinations of the searched keys for a number of devices, in chunks; what is given is held.

    Every divisor of the devices is tried for tp, pp and cp, dp is what remains, ep every divisor of the experts, etp
    every divisor of tp, vpp every divisor of the layers of a stage, micro_batch every power of two that divides the
    batch of a rank.
    """
    n, task, case = resolved.cluster.devices, resolved.task, resolved.case
    given = told(given, task)
    train = task == "train"
    batch = int(given.get("global_batch", 1)) if train else 1
    longest_cp = max(1, min(n, case.tokens // 2048)) if train or task in ("prefill", "forward") else 1
    grids: dict[str, list[int]] = {
        "zero_stage": _choices(given, "zero_stage", [0, 1, 2, 3] if train else [0]),
        "sequence_parallel": _choices(given, "sequence_parallel", [0, 1] if train else [0]),
        "recompute": [RECOMPUTE.index(str(given["recompute"]))] if "recompute" in given else
                     ([0, 1, 2] if train else [0]),
        "micro_batch": _choices(given, "micro_batch", [m for m in (1, 2, 4, 8, 16, 32) if m <= batch] or [1]),
        "ep": _choices(given, "ep", [e for e in divisors_of(max(case.sizes.experts, 1)) if e <= n]),
    }  # fmt: skip
    chunk: list[dict[str, object]] = []
    rows = 0
    inner = int(np.prod([len(v) for v in grids.values()]))
    for tp in _choices(given, "tp", divisors_of(n)):
        for pp in _choices(given, "pp", divisors_of(max(n // tp, 1))):
            for cp in _choices(given, "cp", [c for c in divisors_of(max(n // (tp * pp), 1)) if c <= longest_cp]):
                dp = int(given.get("dp", max(n // (tp * pp * cp), 1)))
                shares = _choices(given, "etp", divisors_of(tp) if case.sizes.experts else [1])
                for etp, vpp in product(shares, _choices(given, "vpp", _chunks(case, pp) if train else [1])):
                    chunk.append({"tp": tp, "pp": pp, "cp": cp, "dp": dp, "etp": etp, "vpp": vpp})
                    rows += inner
                    if rows >= CHUNK:
                        yield _product(chunk, grids, batch if train else None)
                        chunk, rows = [], 0
    if chunk:
        yield _product(chunk, grids, batch if train else None)


def _chunks(case: Case, pp: int) -> list[int]:
    """Model chunks a stage that deal the layers evenly and that the schedule allows."""
    layers = case.sizes.layers
    per_stage = layers // pp if pp > 1 and layers % pp == 0 else 1
    tried = np.array([v for v in divisors_of(max(per_stage, 1)) if v <= 16])
    fewest = 1 if case.schedule is None else case.schedule.chunks[0]
    return [int(v) for v in tried[chunks_allowed(case.schedule, tried)]] or [fewest]


def _product(outer: list[dict[str, object]], grids: Mapping[str, list[int]], batch: int | None) -> Layouts:
    """Outer rows times the grid of the inner keys."""
    mesh = np.meshgrid(*grids.values(), indexing="ij")
    inner = {k: m.ravel() for k, m in zip(grids, mesh, strict=True)}
    size = len(next(iter(inner.values())))
    columns = {k: np.repeat(np.array([o[k] for o in outer], dtype=np.int64), size) for k in outer[0]}
    columns |= {k: np.tile(v, len(outer)) for k, v in inner.items()}
    columns["global_batch"] = columns["dp"] * columns["micro_batch"] if batch is None else np.full_like(
        columns["dp"], batch)  # fmt: skip
    return layouts(**columns)


def admissible(x: Layouts, case: Case, found: Found, given: Mapping[str, Value]) -> Layouts:
    """Drop the rows that break a law, counting each under the first law it breaks, and those that say another again."""
    law = first_broken(x, case)
    for i, count in zip(*np.unique(law[law < len(RULES)], return_counts=True), strict=True):
        found.count(RULES[i].name, int(count))
    alive = law == len(RULES)
    if not alive.any():
        found.law = found.law or refusal(x, case)
    again = alive & _said_before(x, case, given)
    found.count("same_as_another", int(again.sum()))
    return x.take(np.flatnonzero(alive & ~again))


def _said_before(x: Layouts, case: Case, given: Mapping[str, Value]) -> Bools:
    """Rows that are the same as a plainer one but for a key that was not ``given``."""
    same = np.zeros(len(x), dtype=bool)
    if "sequence_parallel" not in given:
        same |= (x.sequence_parallel > 0) & (x.tp == 1)
    if "zero_stage" not in given:
        undivided = (x.dp * x.cp == 1) & ((case.sizes.experts == 0) | (x.expert_dp <= 1))
        same |= ((x.zero_stage > 0) & undivided) | ((x.zero_stage == 2) & (x.pp > 1))
    return same


def evaluate(resolved: Resolved, x: Layouts) -> tuple[Array, Array]:
    """Seconds and peak bytes of every layout, each of shape (n,)."""
    if isinstance(resolved.run, TrainingRun):
        seconds, memory = np.zeros(len(x)), np.zeros(len(x))
        for rows, run in runs(resolved.run, resolved.cluster.efficiency.execution, resolved.named, x):
            step = training_step(resolved.demand, resolved.cluster, x.take(rows), run)
            seconds[rows], memory[rows] = step.step_time, step.peak_memory
        return seconds, memory
    if resolved.task == "serve":
        steady = serving(resolved.demand, resolved.cluster, x, resolved.run)
        return steady.tpot, steady.decode.peak_memory
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


def search(
    resolved: Resolved, given: Mapping[str, Value], *, keep: int = 10, progress: Progress | None = None
) -> Found:
    """Compare all layouts of one model and precision; the fastest ``keep`` that fit, and a tally of the rest."""
    found = Found()
    capacity, case = device_capacity(resolved.cluster, resolved.run), resolved.case
    heap: list[tuple[float, float, int, dict[str, int]]] = []
    lean: Lean = {}
    serial = 0
    for x in candidates(resolved, given):
        found.considered += len(x)
        ok = admissible(x, case, found, given)
        if len(ok):
            seconds, memory = evaluate(resolved, ok)
            fits = chances(resolved, ok, memory) >= resolved.run.headroom
            _note_miss(found, ok, memory)
            found.fitting += int(fits.sum())
            found.count("memory", int((~fits).sum()))
            rows = np.flatnonzero(fits)
            _note_best_by_tp(found, ok, rows, seconds, memory)
            _note_leanest(lean, ok, rows, seconds, memory / capacity)
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


def _note_leanest(lean: Lean, x: Layouts, rows: Array, seconds: Array, share: Array) -> None:
    """The fastest layout of every tenth of memory filled and number of axes that divide something."""
    axes = sum((getattr(x, k) > 1).astype(np.int64) for k in ("tp", "pp", "cp", "ep", "vpp"))
    tenths = np.ceil(10.0 * share).astype(np.int64)
    order = rows[np.argsort(seconds[rows], kind="stable")]
    _, first = np.unique(np.stack([tenths[order], axes[order]]), axis=1, return_index=True)
    for i in order[first]:
        kind = int(tenths[i]), int(axes[i])
        if kind not in lean or float(seconds[i]) < lean[kind][0]:
            lean[kind] = float(seconds[i]), float(share[i]), _columns(x, int(i))


def _prefer_leaner(found: Found, lean: Lean, capacity: float, keep: int) -> None:
    """Put first the layout that fills fewest tenths of memory, then that divides fewest axes, among those that are as
    fast as the fastest within the error of their order."""
    if not found.best:
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
