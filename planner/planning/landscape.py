"""The landscape of layouts: the fastest one for each combination of a few keys, whether or not it fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from planner.cost.layouts import Layouts, rules
from planner.cost.runs import TrainingRun
from planner.planning.search import candidates, evaluate
from planner.scenario.keys import Value
from planner.scenario.resolve import Resolved

Row = dict[str, object]


def landscape(resolved: Resolved, given: Mapping[str, Value], *, by: Sequence[str] = ("tp", "pp")) -> list[Row]:
    """Best layout of each combination of the keys ``by``, over everything else that a search tries.

    Parameters
    ----------
    resolved : Resolved             model, cluster and workload (``planner.scenario.resolve.resolve_run``)
    given : mapping                 the scenario; the layout keys it has are held
    by : sequence of str            layout keys: ``tp pp cp dp ep vpp micro_batch zero_stage recompute …``

    Returns
    -------
    list of rows                    the layout's keys, ``step_time_s``, ``memory_peak_bytes``, ``fits``; the
                                    fastest layout that fits, or where none does the one of least memory
    """
    capacity = resolved.cluster.accelerator.capacity
    best: dict[tuple[int, ...], tuple[tuple[float, float], Row]] = {}
    for chunk in candidates(resolved, given):
        x = _lawful(resolved, chunk)
        if not len(x):
            continue
        seconds, memory = evaluate(resolved, x)
        fits = memory <= capacity
        keys = np.stack([getattr(x, k) for k in by], axis=1)
        order = np.lexsort((np.where(fits, seconds, memory), ~fits))
        _, first = np.unique(keys[order], axis=0, return_index=True)
        for i in order[first]:
            rank = (float(not fits[i]), float(seconds[i] if fits[i] else memory[i]))
            key = tuple(int(v) for v in keys[i])
            if key not in best or rank < best[key][0]:
                row: Row = {**x.row(int(i)), "step_time_s": float(seconds[i])}
                row |= {"memory_peak_bytes": float(memory[i]), "fits": bool(fits[i])}
                best[key] = rank, row
    return [row for _, row in (best[k] for k in sorted(best))]


def _lawful(resolved: Resolved, x: Layouts) -> Layouts:
    """The layouts that break no law of division."""
    run = resolved.run
    seq = run.seq_len if isinstance(run, TrainingRun) else run.input_len
    broken = np.zeros(len(x), dtype=bool)
    for rule in rules(x, resolved.model, devices=resolved.cluster.devices, seq_len=seq,
                      schedule=resolved.schedule):  # fmt: skip
        if resolved.task == "train" or rule.name not in ("sp_tokens", "micro_batch"):
            broken |= rule.broken
    return x.take(np.flatnonzero(~broken))
