"""What the comparison with published runs comes to: errors by source, chip and regime, intervals, regret, memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from planner.catalogue.loader import resolve_hardware
from planner.cost.runs import TrainingRun
from planner.demand.ops import Array
from planner.errors import PlannerError
from planner.planning.uncertainty import regime
from planner.validation.published import Case, Compared, LayoutGroup

Rows = list[dict[str, Any]]
Residual = tuple[str, str, float]
MIN_RUNS = 12  # fewer residuals than this say nothing of a 90 % interval; the regime's parent answers


def error_rows(compared: Sequence[Compared], by: Callable[[Compared], str], label: str) -> Rows:
    """Median and p90 absolute error and bias, a row a group; runs that train adapters are a group's own."""
    groups: dict[str, list[float]] = {}
    for c in compared:
        if np.isfinite(c.log_ratio):
            groups.setdefault(by(c), []).append(c.log_ratio)
    rows = [_errors(label, name, values) for name, values in sorted(groups.items())]
    return [*rows, _errors(label, "all", [v for values in groups.values() for v in values])]


def _errors(label: str, name: str, values: Sequence[float]) -> dict[str, Any]:
    return {label: name, **error_row(values)}


def error_row(values: Sequence[float]) -> dict[str, Any]:
    """Runs, median and p90 absolute error and bias of ln(predicted / measured)."""
    ratio = np.exp(np.asarray(values))
    off = np.abs(ratio - 1.0)
    return {"runs": len(values), "median_error": float(np.median(off)),
            "p90_error": float(np.quantile(off, 0.9)), "bias": float(np.median(ratio) - 1.0)}  # fmt: skip


def chip(c: Compared) -> str:
    """Accelerator id of a comparison."""
    return str(c.estimate.inputs["accelerator"]) if c.estimate else "refused"


def regime_of(c: Compared) -> str:
    """Regime of a comparison."""
    return regime(c.estimate.resolved, c.estimate.layout) if c.estimate else "refused"


def chips_by_phase(cases: Sequence[Case], served: Iterable[str]) -> dict[str, list[str]]:
    """Accelerators that published runs are of, by what was timed: train, prefill, decode, serve."""
    found: dict[str, set[str]] = {"train": set(), "prefill": set(), "decode": set(), "serve": set(served)}
    for case in cases:
        with contextlib.suppress(PlannerError):  # hardware that has no profile, which is refused
            found[case.scenario.get("task", "train")].add(resolve_hardware(case.scenario["hardware"])[0].id)
    return {phase: sorted(ids) for phase, ids in found.items()}


def residuals(compared: Sequence[Compared]) -> list[Residual]:
    """(regime, source, ln(measured / predicted)) of every comparison that has both.

    A regime never borrows from another task: what is left of its name in the end is the task.
    """
    return [(regime_of(c), c.case.source, -c.log_ratio) for c in compared if np.isfinite(c.log_ratio)]


def _spread(values: Sequence[float], target: float) -> tuple[float, float, float]:
    """Median, and the distances down and up to the quantiles that hold ``target`` of the values."""
    tail = (1.0 - target) / 2.0
    low, middle, high = np.quantile(np.asarray(values), [tail, 0.5, 1.0 - tail])
    return float(middle), float(middle - low), float(high - middle)


def regime_values(found: Sequence[Residual], name: str) -> list[float]:
    """Residuals of a regime, or of the nearest regime above it that has enough runs."""
    parts = name.split(".")
    while parts:
        prefix = ".".join(parts)
        values = [r for g, _, r in found if g == prefix or g.startswith(prefix + ".")]
        if len(values) >= MIN_RUNS:
            return values
        parts.pop()
    task = name.split(".")[0]
    return [r for g, _, r in found if g.split(".")[0] == task]


def unseen_spreads(found: Sequence[Residual], target: float) -> list[tuple[float, float, float]]:
    """For every run, the spread of its regime made from the other sources alone."""
    cache: dict[tuple[str, str], tuple[float, float, float]] = {}
    for name, source, _ in found:
        if (name, source) not in cache:
            others = [f for f in found if f[1] != source]
            cache[name, source] = _spread(regime_values(others, name), target)
    return [cache[name, source] for name, source, _ in found]


def coverage(found: Sequence[Residual], spreads: Sequence[tuple[float, float, float]], widening: float) -> float:
    """Share of runs inside their interval, each side widened by a factor."""
    inside = [
        m - widening * down <= v <= m + widening * up for (_, _, v), (m, down, up) in zip(found, spreads, strict=True)
    ]
    return float(np.mean(inside))


def widening(found: Sequence[Residual], target: float) -> tuple[float, float]:
    """Factor on the spread of other sources that makes it cover ``target`` of unseen runs, and the share covered.

    A source differs from the others by more than its own scatter, so the plain quantiles cover too little.
    """
    spreads = unseen_spreads(found, target)
    factors = np.linspace(0.5, 4.0, 141)
    covered = np.array([coverage(found, spreads, float(f)) for f in factors])
    best = int(np.argmin(np.abs(covered - target)))
    return float(factors[best]), float(covered[best])


def memory_regime(c: Compared) -> str:
    """Regime of a peak: the framework that held it."""
    run = c.estimate.resolved.run if c.estimate else None
    return f"train.{run.framework.id}" if isinstance(run, TrainingRun) else "infer"


def memory_residuals(compared: Sequence[Compared]) -> list[Residual]:
    """(regime, source, ln(measured / predicted)) of every peak."""
    return [(memory_regime(c), c.case.source, -memory_log_ratio(c))
            for c in compared if c.estimate is not None and np.isfinite(c.case.memory_gib)]  # fmt: skip


def memory_interval_rows(compared: Sequence[Compared], served: Sequence[Residual] = ()) -> Rows:
    """Quantiles of measured over predicted memory by regime, widened as intervals of time are; ``served`` are the
    residuals of engines."""
    found = [*memory_residuals(compared), *served]
    factors = {target: widening(found, target)[0] for target in (0.5, 0.9)}
    rows: Rows = []
    for name in sorted({".".join(g.split(".")[:i]) for g, _, _ in found for i in (1, 2)}):
        values = regime_values(found, name)
        row: dict[str, Any] = {"regime": name, "runs": len(values)}
        for target, suffix in ((0.9, ""), (0.5, "50")):
            middle, down, up = _spread(values, target)
            row[f"low{suffix}"] = float(np.exp(middle - factors[target] * down))
            row[f"high{suffix}"] = float(np.exp(middle + factors[target] * up))
            row["middle"] = float(np.exp(middle))
        rows.append(row)
    return rows


def interval_rows(found: Sequence[Residual]) -> Rows:
    """50 % and 90 % intervals by regime, as factors on the predicted time."""
    if not found:
        return []
    factors = {target: widening(found, target)[0] for target in (0.5, 0.9)}
    names = sorted({g for g, _, _ in found})
    names = sorted({".".join(g.split(".")[:i]) for g in names for i in range(1, len(g.split(".")) + 1)})
    rows: Rows = []
    for name in names:
        values = regime_values(found, name)
        row: dict[str, Any] = {"regime": name, "runs": len(values)}
        for target, suffix in ((0.9, ""), (0.5, "50")):
            middle, down, up = _spread(values, target)
            row[f"low{suffix}"] = float(np.exp(min(middle - factors[target] * down, 0.0)))
            row[f"high{suffix}"] = float(np.exp(max(middle + factors[target] * up, 0.0)))
        rows.append(row)
    return rows


def coverage_rows(found: Sequence[Residual]) -> Rows:
    """Coverage of both intervals when every source is predicted from the others."""
    rows: Rows = []
    for target in (0.5, 0.9):
        factor, covered = widening(found, target)
        rows.append({"interval": f"{target:.0%}", "widening": factor, "covered": covered, "runs": len(found)})
    return rows


def layout_rows(groups: Sequence[LayoutGroup]) -> Rows:
    """Error, rank correlation and the regret of choosing the layout predicted fastest, a row a study."""
    rows: Rows = []
    for g in groups:
        off = np.abs(g.predicted / g.measured - 1.0)
        regret = [
            g.measured[same][np.argmin(g.predicted[same])] / g.measured[same].min() - 1.0
            for same in (np.flatnonzero(g.global_batch == b) for b in np.unique(g.global_batch))
        ]
        rows.append({
            "model": g.model, "devices": g.devices, "layouts": len(off), "median_error": float(np.median(off)),
            "p90_error": float(np.quantile(off, 0.9)),
            "bias": float(np.median(g.predicted / g.measured) - 1.0),
            "rank_correlation": rank_correlation(g.predicted, g.measured), "regret": float(np.mean(regret)),
        })  # fmt: skip
    return rows


def rank_correlation(left: Array, right: Array) -> float:
    """Spearman's correlation of two arrays of shape (n,); equal values share the mean of their ranks."""
    if len(left) < 3 or len(np.unique(left)) < 2:
        return float("nan")
    return float(np.corrcoef(_ranks(left), _ranks(right))[0, 1])


def _ranks(values: Array) -> Array:
    _, which, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2.0)[which])


def memory_rows(
    compared: Sequence[Compared], by: Callable[[Compared], str] = lambda c: c.case.source, label: str = "source"
) -> Rows:
    """Peak memory against measured peaks, by what was measured: allocated, reserved or the whole device."""
    groups: dict[tuple[str, str], list[float]] = {}
    for c in compared:
        if c.estimate is not None and np.isfinite(c.case.memory_gib):
            groups.setdefault((c.case.memory_kind, by(c)), []).append(memory_log_ratio(c))
    rows = [{"measured": kind, **_errors(label, name, v)} for (kind, name), v in sorted(groups.items())]
    for kind in ("allocated", "reserved", "device"):
        every = [v for (k, _), values in groups.items() if k == kind for v in values]
        rows += [{"measured": kind, **_errors(label, "all", every)}] if every else []
    return rows


def trained_by(c: Compared) -> str:
    """Framework of a training run."""
    return memory_regime(c).removeprefix("train.")


def trained_kind(c: Compared) -> str:
    """Kind of a training run: whether it has experts, trains adapters, computes in 8 bits or fewer."""
    run = c.estimate.resolved.run if c.estimate else None
    if not isinstance(run, TrainingRun) or c.estimate is None:
        return "refused"
    name = "experts" if c.estimate.resolved.case.sizes.experts else "dense"
    narrow = run.precision.bytes_of("compute") < 2.0
    return name + (", adapters" if run.lora_rank else "") + (", 8 bits or fewer" if narrow else "")


def verdict_rows(compared: Sequence[Compared]) -> Rows:
    """Runs that ran and runs that ran out of memory, by what is said of them."""
    rows: Rows = []
    for ran, label in ((True, "ran"), (False, "out of memory")):
        said = {c.case.id: str(c.estimate.results["fits"]) for c in compared if c.estimate and c.case.ran == ran}
        counts = {verdict: sum(s == verdict for s in said.values()) for verdict in ("yes", "tight", "no")}
        right = counts["tight"] + counts["yes" if ran else "no"]
        rows.append({"run": label, "runs": len(said), **counts, "right_or_tight": right / max(len(said), 1)})
    return rows


def memory_log_ratio(c: Compared) -> float:
    """ln(predicted / measured) of a peak."""
    return float(np.log(predicted_memory(c) / 2**30 / c.case.memory_gib))


def said_to_fit(compared: Sequence[Compared]) -> int:
    """How many runs, all of which ran, are predicted to fit the memory of their devices."""
    return sum(c.estimate.results["fits"] != "no" for c in compared if c.estimate is not None)


def predicted_memory(c: Compared) -> float:
    """Predicted bytes of the kind that was measured: context is no tensor, fragmentation is not allocated."""
    assert c.estimate is not None
    left_out = {"allocated": ("context", "fragmentation"), "reserved": ("context",)}.get(c.case.memory_kind, ())
    return sum(v for k, v in c.estimate.memory.items() if k not in left_out)
