"""The landscape of layouts: the fastest one for each combination of a few keys, whether or not it fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from planner.cost.doubt import verdict
from planner.cost.rules import lawful
from planner.planning.search import candidates, chances, evaluate
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
                                    ``memory_peak_bytes``, ``fits``, ``fits_chance``; the fastest layout that
                                    fits with the headroom, or where none does the one of least memory
    """
    best: dict[tuple[int, ...], tuple[tuple[bool, float], Row]] = {}
    for chunk in candidates(resolved, given):
        x = lawful(chunk, resolved.case)
        if not len(x):
            continue
        seconds, memory = evaluate(resolved, x)
        chance = chances(resolved, x, memory)
        fits = chance >= resolved.run.headroom
        keys = np.stack([getattr(x, k) for k in by], axis=1)
        order = np.lexsort((np.where(fits, seconds, memory), ~fits))
        _, first = np.unique(keys[order], axis=0, return_index=True)
        for i in order[first]:
            rank = not fits[i], float(seconds[i] if fits[i] else memory[i])
            key = tuple(int(v) for v in keys[i])
            if key not in best or rank < best[key][0]:
                found = {"step_time_s": float(seconds[i]), "memory_peak_bytes": float(memory[i]),
                         "fits": verdict(float(chance[i])), "fits_chance": float(chance[i])}  # fmt: skip
                best[key] = rank, {**settle(resolved, x.take([int(i)])).keys, **x.row(int(i)), **found}
    return [best[k][1] for k in sorted(best)]
