"""How far off the planner is on runs it was not fitted on: every source, lab and chip left out in turn, and the newest
quarter, the constants chosen anew.

    python tests/benchmarks/cross_validate.py            prints a table, in a few minutes

The constants of ``planner/cost/constants.py`` marked *fitted*, the two of FlashAttention-1 and the matmul energies of
``hardware/classes`` are chosen by least absolute error, a source weighing as the root of its runs. To keep fifty folds
affordable the log of each prediction is taken to be a sum of parabolas, one a constant, through three exact
evaluations; the runs left out are then predicted exactly with what the others chose.

What it does not leave out: each constant moves within a ``reach`` of what ships; matmul rates of TPUs and Trainium,
which published steps gave; and the choice of the laws themselves, made with all of these runs in view.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT)]

from planner.catalogue.class_files import load_class  # noqa: E402
from planner.cost import constants, kernels  # noqa: E402
from planner.validation import groups  # noqa: E402
from planner.validation.published import Compared, cases, compare, layout_groups  # noqa: E402
from planner.validation.study import chip, regime_of  # noqa: E402

SWEEPS = 6  # over the parabolas; the choice stands still after three or four
LAYOUTS = "layout study"


@dataclass(frozen=True)
class Knob:
    """A fitted constant: where it lives, and the part of itself that it may move either way."""

    name: str
    get: Callable[[], float]
    put: Callable[[float], None]
    reach: float = 0.25


def knobs() -> list[Knob]:
    """Everything that published steps have chosen."""

    def constant(name: str) -> Knob:
        return Knob(name, lambda: float(getattr(constants, name)), lambda v: setattr(constants, name, v))

    def flash(way: str) -> Knob:
        return Knob(f"FLASH_1_REACH {way}", lambda: kernels.FLASH_1_REACH[way],
                    lambda v: kernels.FLASH_1_REACH.__setitem__(way, v))  # fmt: skip

    def energy(name: str, field: str) -> Knob:
        one = load_class(name, None).energy
        assert one is not None
        return Knob(f"{name} {field}", lambda: float(getattr(one, field)),
                    lambda v: object.__setattr__(one, field, v), reach=0.15)  # fmt: skip

    return [
        *(constant(n) for n in ("LAUNCH_TIME", "OVERLAPPED_TP", "CONTENTION")),
        flash("forward"), flash("backward"),
        *(energy(f"nvidia-{g}", "joules_per_flop") for g in ("hopper", "blackwell")),
        *(energy(f"nvidia-{g}", "narrow_exponent") for g in ("hopper", "blackwell")),
    ]  # fmt: skip


def log_ratios() -> np.ndarray:
    """ln(predicted / measured) of every run and of every layout of the study, NaN where a run is refused."""
    single = [compare(c).log_ratio for c in cases()]
    studied = [np.log(g.predicted / g.measured) for g in layout_groups()]
    return np.concatenate([single, *studied])


def parabolas(every: list[Knob], base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and second coefficients of each run's parabola in each knob, arrays of shape (knob, run)."""
    first, second = np.zeros((len(every), len(base))), np.zeros((len(every), len(base)))
    for i, k in enumerate(every):
        at = k.get()
        sides = []
        for way in (-1.0, 1.0):
            k.put(at * (1.0 + way * k.reach))
            sides.append(log_ratios() - base)
        k.put(at)
        first[i], second[i] = (sides[1] - sides[0]) / 2.0, (sides[1] + sides[0]) / 2.0
        print(f"  {k.name} at {at:g}", file=sys.stderr)
    return first, second


def choose(first: np.ndarray, second: np.ndarray, base: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Steps of the knobs, each from -1 to 1 reach, with the least weighted absolute error; shape (knob,)."""
    steps = np.zeros(len(first))
    grid = np.linspace(-1.0, 1.0, 41)
    for _ in range(SWEEPS):
        for i in range(len(steps)):
            others = np.delete(np.arange(len(steps)), i)
            rest = base + (first[others] * steps[others, None] + second[others] * steps[others, None] ** 2).sum(axis=0)
            curve = rest + grid[:, None] * first[i] + grid[:, None] ** 2 * second[i]
            steps[i] = grid[int(np.argmin((np.abs(curve) * weight).sum(axis=1)))]
    return steps


def errors(values: np.ndarray) -> str:
    off = np.abs(np.expm1(values))
    return f"{np.median(off):7.1%} {np.quantile(off, 0.9):7.1%} {np.expm1(np.median(values)):+7.1%}"


@dataclass(frozen=True)
class Fit:
    """What is known of the runs as the constants stand: residuals, parabolas, and the source of each run."""

    every: list[Knob]
    base: np.ndarray
    first: np.ndarray
    second: np.ndarray
    weight: np.ndarray

    def without(self, rows: np.ndarray) -> np.ndarray:
        """Steps of the knobs chosen on all runs but these."""
        return choose(self.first, self.second, np.nan_to_num(self.base), self.weight * ~rows)


def fit(source: np.ndarray) -> Fit:
    every, base = knobs(), log_ratios()
    runs = {s: int((source == s).sum()) for s in np.unique(source)}
    weight = np.where(np.isfinite(base), 1.0 / np.sqrt([runs[s] for s in source]), 0.0)
    return Fit(every, base, *(np.nan_to_num(v) for v in parabolas(every, base)), weight)


def hold_out(f: Fit, key: np.ndarray, *, only: tuple[str, ...] = ()) -> np.ndarray:
    """ln(predicted / measured) of each run with all of its ``key`` left out, of ``only`` some keys; NaN elsewhere."""
    at, held = [k.get() for k in f.every], np.full(len(f.base), np.nan)
    for name in only or np.unique(key):
        mine = key == name
        for k, start, step in zip(f.every, at, f.without(mine), strict=True):
            k.put(start * (1.0 + step * k.reach))
        held[mine] = [compare(c).log_ratio for c, m in zip(cases(), mine, strict=False) if m] if not (
            mine[len(cases()) :].any()) else log_ratios()[mine]  # fmt: skip
        for k, start in zip(f.every, at, strict=True):
            k.put(start)
    return held


def groups_of(source: np.ndarray) -> dict[str, np.ndarray]:
    """Rows to report together: by source, kind of model and chip; adapters apart, layouts by number of devices."""
    compared, studied = [compare(c) for c in cases()], layout_groups()
    whole = source != LAYOUTS
    names, chips = np.full(len(source), "", object), np.full(len(source), "", object)
    names[whole], chips[whole] = [regime_of(c) for c in compared], [chip(c) for c in compared]
    devices = np.zeros(len(source))
    devices[~whole] = [g.devices for g in studied for _ in g.measured]
    out = {s: source == s for s in np.unique(source) if s != LAYOUTS}
    out |= {f"{LAYOUTS}, several nodes": devices > 8, f"{LAYOUTS}, one node": (devices > 0) & (devices <= 8)}
    out["all runs"] = whole.copy()
    whole[whole] = [not c.case.scenario.get("lora_rank") for c in compared]
    out["all but adapters"] = whole
    out |= {k: whole & np.array([k in n for n in names]) for k in ("dense", "moe")}
    return out | {c: whole & (chips == c) for c in sorted(set(chips[whole])) if (whole & (chips == c)).sum() >= 10}


def keys_of(compared: list[Compared], layouts: int) -> dict[str, np.ndarray]:
    """What may be left out of the runs and of the layouts of the study: source, lab, chip, date."""

    def column(of: Callable[[Compared], str]) -> np.ndarray:
        return np.array([*map(of, compared), *[LAYOUTS] * layouts], dtype=object)

    return {"source": column(lambda c: c.case.source), "lab": column(lambda c: groups.lab(c.case)),
            "chip": column(chip), "date": column(lambda c: groups.quarter(c.case))}  # fmt: skip


def by_kind(compared: list[Compared], held: np.ndarray, base: np.ndarray) -> None:
    """A line a kind of run, and one for all, of what was left out."""
    kinds = np.array([groups.kind(c) for c in compared])
    held, base = held[: len(compared)], base[: len(compared)]
    for name in (*np.unique(kinds), "all"):
        good = np.isfinite(held) & ((kinds == name) | (name == "all"))
        if good.any():
            print(f"{name:52} {good.sum():5}   {errors(held[good])}   {errors(base[good])}")


def main() -> None:
    compared = [compare(c) for c in cases()]
    keys = keys_of(compared, sum(len(g.measured) for g in layout_groups()))
    f = fit(keys["source"])
    newest = max(q for q in set(keys["date"]) if q[:2] == "20")
    print(f"{'left out':52} {'runs':>5}   {'median':>7} {'p90':>7} {'bias':>7}   as fitted")
    for what, key in keys.items():
        held = hold_out(f, key, only=(newest,) if what == "date" else ())
        print(f"\nleft out by {what}" + (f": {newest}" if what == "date" else ""))
        by_kind(compared, held, f.base)
        if what == "source":
            for name, rows in groups_of(key).items():
                good = rows & np.isfinite(held)
                if good.any():
                    print(f"{name[:52]:52} {good.sum():5}   {errors(held[good])}   {errors(f.base[good])}")
    print("\nchosen with every source in, against what ships:")
    for k, step in zip(f.every, f.without(np.zeros(len(f.base), dtype=bool)), strict=True):
        print(f"  {k.name:36} {k.get() * (1.0 + step * k.reach):.4g}   {k.get():.4g}")


if __name__ == "__main__":
    main()
