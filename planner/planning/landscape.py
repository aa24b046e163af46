"""The landscape of layouts: the fastest one for each combination of a few keys, whether or not it fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from planner.cost.layouts import Layouts
from planner.cost.memory import device_capacity
from planner.cost.rules import lawful
from planner.planning.search import candidates, evaluate
from planner.scenario.keys import Value
from planner.scenario.resolve import Resolved, settle

Row = dict[str, object]


def landscape(resolved: Resolved, given: Mapping[str, Value], *, by: Sequence[str] = ("tp", "pp")) -> list[Row]:
    """Best layout of each combination of the keys ``by``, over everything else that a search tries.

    Parameters
    ----------
    resolved : Resolved             model, cluster and workload (``planner.scenario.resolve.resolve_run``)
    given : mapping                 the scenario; the layout keys it has are held
    by : sequence of str            layout keys: ``tp pp cp dp ep etp vpp micro_batch zero_stage recompute …``

    Returns
    -------
    list of rows                    the scenario's keys as the layout has them, ``step_time_s``,
                                    ``memory_peak_bytes``, ``fits``; the fastest layout that fits, or where none does
                                    the one of least memory
    """
    capacity = device_capacity(resolved.cluster, resolved.run)
    best: dict[tuple[int, ...], tuple[float, float, Layouts]] = {}
    for chunk in candidates(resolved, given):
        x = lawful(chunk, resolved.case)
        if not len(x):
            continue
        seconds, memory = evaluate(resolved, x)
        fits = memory <= capacity
        keys = np.stack([getattr(x, k) for k in by], axis=1)
        order = np.lexsort((np.where(fits, seconds, memory), ~fits))
        _, first = np.unique(keys[order], axis=0, return_index=True)
        for i in order[first]:
            rank = _rank(float(seconds[i]), float(memory[i]), capacity)
            key = tuple(int(v) for v in keys[i])
            if key not in best or rank < _rank(*best[key][:2], capacity):
                best[key] = float(seconds[i]), float(memory[i]), x.take([int(i)])
    return [_row(resolved, *best[k], capacity) for k in sorted(best)]


def _rank(seconds: float, memory: float, capacity: float) -> tuple[bool, float]:
    """Sorts what fits before what does not, by time, and the rest by memory."""
    return memory > capacity, seconds if memory <= capacity else memory


def _row(resolved: Resolved, seconds: float, memory: float, x: Layouts, capacity: float) -> Row:
    row: Row = {**settle(resolved, x).keys, **x.row(0), "step_time_s": seconds}
    return row | {"memory_peak_bytes": memory, "fits": memory <= capacity}
