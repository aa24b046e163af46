"""The search: every layout that divides and fits, compared at once, and why the others were refused."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from planner.cost.inference import inference_pass, serving
from planner.cost.layouts import Layouts, divisors, layouts, rules
from planner.cost.runs import TrainingRun
from planner.cost.schedules import Schedule
from planner.cost.training import training_step
from planner.demand.ops import Array
from planner.scenario.keys import RECOMPUTE, Value
from planner.scenario.resolve import Resolved, runs_of_layouts

CHUNK = 8192
Progress = Callable[[int, int], None]


@dataclass
class Found:
    """What a search of one model and precision came to.

    ``best`` layouts that fit, fastest first, with ``seconds`` and ``memory``; ``refused`` counts by reason;
    ``miss`` the layout that came nearest to fitting, with its memory; ``by_tp`` the fastest of every tp.
    """

    best: list[tuple[float, float, dict[str, int]]] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    considered: int = 0
    fitting: int = 0
    miss: tuple[float, dict[str, int]] | None = None
    by_tp: dict[int, tuple[float, float, dict[str, int]]] = field(default_factory=dict)


def _divisors(n: int) -> list[int]:
    small = [i for i in range(1, int(n**0.5) + 1) if n % i == 0]
    return sorted({*small, *(n // i for i in small)})


def _choices(given: Mapping[str, Value], key: str, values: list[int]) -> list[int]:
    return [int(given[key])] if key in given else values


def candidates(resolved: Resolved, given: Mapping[str, Value]) -> Iterator[Layouts]:
    """All combinations of the searched keys for a number of devices, in chunks; what is given is held.

    Every divisor of the devices is tried for tp, pp and cp, dp is what remains, ep every divisor of the experts, vpp
    every divisor of the layers of a stage, micro_batch every power of two that divides the batch of a rank.
    """
    n, task = resolved.cluster.devices, resolved.task
    d = divisors(resolved.model)
    train = task == "train"
    batch = int(given.get("global_batch", 1)) if train else 1
    seq = resolved.run.seq_len if isinstance(resolved.run, TrainingRun) else resolved.run.input_len
    longest_cp = max(1, min(n, seq // 2048)) if train or task in ("prefill", "forward") else 1
    grids: dict[str, list[int]] = {
        "zero_stage": _choices(given, "zero_stage", [0, 1, 2, 3] if train else [0]),
        "sequence_parallel": _choices(given, "sequence_parallel", [0, 1] if train else [0]),
        "recompute": [RECOMPUTE.index(str(given["recompute"]))] if "recompute" in given else
                     ([0, 1, 2] if train else [0]),
        "micro_batch": _choices(given, "micro_batch", [m for m in (1, 2, 4, 8, 16, 32) if m <= batch] or [1]),
        "ep": _choices(given, "ep", [e for e in _divisors(max(d.experts, 1)) if e <= n]),
    }  # fmt: skip
    chunk: list[dict[str, object]] = []
    rows = 0
    inner = int(np.prod([len(v) for v in grids.values()]))
    for tp in _choices(given, "tp", _divisors(n)):
        for pp in _choices(given, "pp", _divisors(max(n // tp, 1))):
            for cp in _choices(given, "cp", [c for c in _divisors(max(n // (tp * pp), 1)) if c <= longest_cp]):
                dp = int(given.get("dp", n // (tp * pp * cp)))
                for vpp in _choices(given, "vpp", _chunks(d.layers, pp, resolved.schedule)):
                    chunk.append({"tp": tp, "pp": pp, "cp": cp, "dp": dp, "vpp": vpp})
                    rows += inner
                    if rows >= CHUNK:
                        yield _product(chunk, grids, batch if train else None)
                        chunk, rows = [], 0
    if chunk:
        yield _product(chunk, grids, batch if train else None)


def _chunks(layers: int, pp: int, schedule: Schedule | None) -> list[int]:
    """Chunks a stage to try: those that divide its layers and that the schedule runs, or the fewest that it does."""
    if schedule is None:
        return [1]
    per_stage = layers // pp if pp > 1 and layers % pp == 0 else 1
    least, most = schedule.chunks
    return [v for v in _divisors(max(per_stage, 1)) if least <= v <= min(most, 16)] or [least]


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


def _admissible(x: Layouts, resolved: Resolved, refused: dict[str, int], given: Mapping[str, Value]) -> Layouts:
    """Drop the rows that break a law, counting each under the first law it breaks.

    Of layouts that are the same but for a key that was not ``given``, the first stays.
    """
    seq = resolved.run.seq_len if isinstance(resolved.run, TrainingRun) else resolved.run.input_len
    alive = np.ones(len(x), dtype=bool)
    for rule in rules(x, resolved.model, devices=resolved.cluster.devices, seq_len=seq,
                      schedule=resolved.schedule):  # fmt: skip
        if resolved.task != "train" and rule.name in ("sp_tokens", "micro_batch"):
            continue
        hit = alive & rule.broken
        if hit.any():
            refused[rule.name] = refused.get(rule.name, 0) + int(hit.sum())
            alive &= ~rule.broken
    redundant = np.zeros(len(x), dtype=bool)
    if "sequence_parallel" not in given:
        redundant |= (x.sequence_parallel > 0) & (x.tp == 1)
    if "zero_stage" not in given:
        redundant |= ((x.zero_stage > 0) & (x.dp * x.cp == 1)) | ((x.zero_stage == 2) & (x.pp > 1))
    redundant &= alive
    if redundant.any():
        refused["same_as_another"] = refused.get("same_as_another", 0) + int(redundant.sum())
        alive &= ~redundant
    return x.take(np.flatnonzero(alive))


def evaluate(resolved: Resolved, x: Layouts) -> tuple[Array, Array]:
    """Seconds and peak bytes of every layout, each of shape (n,)."""
    if isinstance(resolved.run, TrainingRun):
        seconds, memory = np.zeros(len(x)), np.zeros(len(x))
        for rows, run in runs_of_layouts(resolved, x):
            step = training_step(resolved.demand, resolved.cluster, x.take(rows), run)
            seconds[rows], memory[rows] = step.step_time, step.peak_memory
        return seconds, memory
    if resolved.task == "serve":
        steady = serving(resolved.demand, resolved.cluster, x, resolved.run)
        return steady.tpot, steady.decode.peak_memory
    phase = "decode" if resolved.task == "decode" else "prefill"
    one = inference_pass(resolved.demand, resolved.cluster, x, resolved.run, phase=phase)
    return one.total_time, one.peak_memory


def search(
    resolved: Resolved, given: Mapping[str, Value], *, keep: int = 10, progress: Progress | None = None
) -> Found:
    """Compare all layouts of one model and precision; the fastest ``keep`` that fit, and a tally of the rest."""
    found = Found()
    capacity = resolved.cluster.accelerator.capacity
    heap: list[tuple[float, float, int, dict[str, int]]] = []
    serial = 0
    for x in candidates(resolved, given):
        found.considered += len(x)
        ok = _admissible(x, resolved, found.refused, given)
        if len(ok):
            seconds, memory = evaluate(resolved, ok)
            fits = memory <= capacity
            _note_miss(found, ok, memory)
            found.fitting += int(fits.sum())
            if not fits.all():
                found.refused["memory"] = found.refused.get("memory", 0) + int((~fits).sum())
            rows = np.flatnonzero(fits)
            _note_best_by_tp(found, ok, rows, seconds, memory)
            for i in rows[np.lexsort((memory[rows], seconds[rows]))][:keep]:
                serial += 1
                heapq.heappush(heap, (-float(seconds[i]), -float(memory[i]), -serial, _columns(ok, int(i))))
                if len(heap) > keep:
                    heapq.heappop(heap)
        if progress is not None:
            progress(found.considered, found.fitting)
    found.best = [(-s, -m, columns) for s, m, _, columns in sorted(heap, key=lambda h: (-h[0], -h[1], -h[2]))]
    return found


def _columns(x: Layouts, i: int) -> dict[str, int]:
    return {k: int(v[i]) for k, v in vars(x).items()}


def _note_best_by_tp(found: Found, x: Layouts, rows: Array, seconds: Array, memory: Array) -> None:
    for tp in np.unique(x.tp[rows]).tolist():
        same = rows[x.tp[rows] == tp]
        i = int(same[np.argmin(seconds[same])])
        if tp not in found.by_tp or float(seconds[i]) < found.by_tp[tp][0]:
            found.by_tp[tp] = float(seconds[i]), float(memory[i]), _columns(x, i)


def _note_miss(found: Found, x: Layouts, memory: Array) -> None:
    i = int(np.argmin(memory))
    if found.miss is None or float(memory[i]) < found.miss[0]:
        found.miss = float(memory[i]), _columns(x, i)
