"""How far off served deployments are whose model, or whose engine's version, no constant was fitted on.

    python tests/benchmarks/cross_validate_serving.py            prints tables, in two minutes

Every row of ``planner/validation/serving.csv`` is priced twice, so that its replica is linear in what an operator takes
in an engine's step; then ``operator``, ``request_overhead`` and ``slowdown`` of ``engines.yaml`` are chosen by least
absolute error of the logs of tpot and, at a quarter of the weight and where it is known how many requests were sent,
ttft, without each model and each engine's version
in turn, and what was left out is predicted. A group of rows (engine, model, chip, format) weighs as the root of its
rows.

What it does not leave out: the fp8 kernels of ``hardware/``, whose overhead was fitted on the same rows, and the choice
of the laws, made with all of these rows in view. Rows in doubt are predicted and not fitted on.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT)]

from planner.cost.deployments import deployment  # noqa: E402
from planner.cost.runs import InferenceRun  # noqa: E402
from planner.cost.serving import Replica, Served, closed_loop  # noqa: E402
from planner.demand.ops import Array  # noqa: E402
from planner.planning.uncertainty import clients_bucket  # noqa: E402
from planner.scenario.keys import KEYS, parse_scenario  # noqa: E402
from planner.scenario.resolve import resolve  # noqa: E402
from planner.validation.study import error_row  # noqa: E402

UNIT = 1e-6  # [s] an operator, of the second pricing
STEPS = {"operator": 0.3e-6, "request_overhead": 10e-3, "slowdown": 0.1}  # that the descent begins with
TTFT_WEIGHT, SWEEPS = 0.25, 8
Constants = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Table:
    """All rows as one replica a row, arrays of shape (n,): without operators' overhead, and what a unit of it adds."""

    rows: list[dict[str, str]]
    bare: Replica
    each: Replica
    clients: Array
    rounds: Array
    ttft: Array
    tpot: Array

    def column(self, name: str) -> Array:
        return np.array([r[name] for r in self.rows])


def priced(row: dict[str, str]) -> tuple[Replica, Replica, float, float]:
    """Replica of a row at no and at a unit of operators' overhead, clients of a replica, rounds."""
    scenario = {k: v for k, v in row.items() if k in KEYS and v}
    resolved, x = resolve(parse_scenario({"task": "serve", **scenario}))
    assert isinstance(resolved.run, InferenceRun)
    out = []
    for operator in (0.0, UNIT):
        engine = resolved.run.engine
        run = replace(resolved.run, engine=replace(engine, steps=replace(engine.steps, operator=operator)))
        out.append(deployment(resolved.demand, resolved.cluster, x, run).replica)
    run = resolved.run
    return out[0], out[1], max(run.batch / float(x.dp[0]), 1.0), run.requests / run.batch or np.inf


def table() -> Table:
    """Every row that has clients."""
    with (ROOT / "planner" / "validation" / "serving.csv").open(encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["concurrency"]]
    found = [priced(r) for r in rows]
    bare, unit = (_stacked([f[i] for f in found]) for i in (0, 1))
    each = Replica(**{f.name: getattr(unit, f.name) - getattr(bare, f.name) for f in fields(Replica)})
    clients, rounds = (np.array([f[i] for f in found]) for i in (2, 3))
    ttft, tpot = (np.array([float(r[f"measured_{k}_s"]) for r in rows]) for k in ("ttft", "tpot"))
    return Table(rows, bare, each, clients, rounds, ttft, tpot)


def _stacked(replicas: list[Replica]) -> Replica:
    return Replica(**{f.name: np.concatenate([getattr(r, f.name) for r in replicas]) for f in fields(Replica)})


def predicted(t: Table, constants: Constants) -> Served:
    """Every row served with the constants of its engine."""
    engines = t.column("engine")
    of = {k: np.array([constants[e][k] for e in engines]) for k in STEPS}
    units = of["operator"] / UNIT

    def at(name: str) -> Array:
        bare, each = getattr(t.bare, name), getattr(t.each, name)
        return np.asarray(bare + each * (units[:, None] if bare.ndim == 2 else units))

    r = replace(
        t.bare, overhead=of["request_overhead"], slowdown=of["slowdown"],
        **{k: at(k) for k in ("decode", "prefill_one", "prefill_most", "beside_one", "beside_most")},
    )  # fmt: skip
    return closed_loop(r, t.clients, rounds=t.rounds)


def loss(t: Table, constants: Constants, weight: Array) -> float:
    """Weighted mean absolute error of the logs."""
    s = predicted(t, constants)
    first = np.minimum(np.abs(np.log(s.ttft / t.ttft)), 1.0) * np.isfinite(t.rounds)
    off = np.abs(np.log(s.tpot / t.tpot)) + TTFT_WEIGHT * first
    return float((weight * off).sum() / weight.sum())


def fitted(t: Table, start: Constants, weight: Array) -> Constants:
    """Constants by coordinate descent from ``start``; each stays at or above nothing, a slowdown at or above 1."""
    best, steps = {e: dict(c) for e, c in start.items()}, {(e, k): v for e in start for k, v in STEPS.items()}
    least = loss(t, best, weight)
    for _ in range(SWEEPS):
        for (engine, name), step in steps.items():
            before, moved = best[engine][name], False
            for way in (step, -step):
                best[engine][name] = max(before + way, 1.0 if name == "slowdown" else 0.0)
                found = loss(t, best, weight)
                if found < least - 1e-7:
                    least, moved = found, True
                    break
                best[engine][name] = before
            steps[engine, name] = step * (1.3 if moved else 0.5)
    return best


def weights(t: Table) -> Array:
    """Of each row: a group weighs as the root of its rows, rows in doubt nothing."""
    groups = ["|".join(r[k] for k in ("engine", "model", "hardware", "quantization")) for r in t.rows]
    sizes = {g: groups.count(g) for g in set(groups)}
    doubt = np.array([r["doubt"].startswith("all") for r in t.rows])
    return np.array([sizes[g] ** -0.5 for g in groups]) * ~doubt


def left_out(t: Table, folds: Array) -> tuple[Array, Array]:
    """ttft and tpot of every row, predicted with constants that its fold had no part in, (n,) [s]."""
    whole = weights(t)
    start = {
        e: {"operator": 0.5e-6, "request_overhead": 50e-3, "slowdown": 1.0} for e in sorted(set(t.column("engine")))
    }
    start = fitted(t, start, whole)
    ttft, tpot = np.zeros(len(t.rows)), np.zeros(len(t.rows))
    for fold in sorted(set(folds)):
        here = folds == fold
        s = predicted(t, fitted(t, start, whole * ~here))
        ttft[here], tpot[here] = s.ttft[here], s.tpot[here]
    return ttft, tpot


def lines(t: Table, ttft: Array, tpot: Array) -> Iterator[str]:
    """Errors by source and engine, and by clients."""
    n = np.array([float(r["output_len"]) for r in t.rows]) - 1.0
    logs = {"ttft": np.log(ttft / t.ttft), "tpot": np.log(tpot / t.tpot),
            "tokens/s": np.log((t.ttft + n * t.tpot) / (ttft + n * tpot))}  # fmt: skip
    groups = [f"{r['source']}: {r['engine']}" for r in t.rows]
    sizes = [clients_bucket(int(r["concurrency"])) for r in t.rows]
    sure = np.where([r["doubt"] == "" for r in t.rows], "without doubt", "in doubt")
    for by in (groups, sizes, sure.tolist(), ["all"] * len(t.rows)):
        for name in sorted(set(by)):
            here = np.array([b == name for b in by])
            cells = [error_row(v[here].tolist()) for v in logs.values()]
            shown = "  ".join(f"{k} {c['median_error']:6.1%} p90 {c['p90_error']:6.1%} bias {c['bias']:+6.1%}"
                              for k, c in zip(logs, cells, strict=True))  # fmt: skip
            yield f"{name:42} {here.sum():5}  {shown}"


def main() -> None:
    t = table()
    versions = np.array([f"{r['engine']} {r['version']}" for r in t.rows])
    for title, folds in (("each model left out", t.column("model")), ("each engine's version left out", versions)):
        sys.stdout.write(f"\n{title}\n")
        sys.stdout.writelines(f"{line}\n" for line in lines(t, *left_out(t, folds)))


if __name__ == "__main__":
    main()
