"""The plan: the search over layouts, and with ``compress`` over what is done to the model too.

Without compression the fastest layout that fits with the headroom wins, or a leaner one that is as fast within the
error of their order. With it, the least changed model that fits wins and speed
decides among equals, because nothing here knows yet what a change costs in quality; each choice says how far it is
from fitting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from planner.catalogue.models import load_model, model_ids
from planner.cost.constants import RECOMPUTE
from planner.cost.doubt import verdict
from planner.cost.layouts import layouts
from planner.cost.memory import device_capacity
from planner.demand.optimizer import OPTIMIZERS
from planner.demand.transformer import demand
from planner.errors import BadInputError, PlannerError
from planner.frames import frame
from planner.planning.columns import FIXED
from planner.planning.estimate import Estimate, estimate_resolved
from planner.planning.search import RANK_ERROR, Found, Held, Progress, chances, search
from planner.planning.shown import html_table
from planner.planning.sweep import held_values
from planner.precision import DTYPES
from planner.scenario.keys import Value, parse_scenario
from planner.scenario.names import HardwareDirs
from planner.scenario.resolve import Resolved, layout_notes, resolve_run, settle, with_notes
from planner.units import format_gib

if TYPE_CHECKING:
    from planner.frames import Frame

LEFT_OUT = "search: every layout but vpp that deals layers unevenly, and etp that does not divide tp"
NO_EVIDENCE = "quality: no evidence yet on what compression costs; choices are ranked by how little they change"


@dataclass(frozen=True)
class Choice:
    """One compression choice: what it changes, what it keeps, and how near it comes to fitting.

    ``values`` the part of the weight values kept (pruned, sparse and student weights are gone), ``kept`` the part of
    the weight bits, ``cache_bytes`` of a cached value; ``memory`` [byte] of its leanest layout; ``seconds`` of its
    fastest layout that fits, NaN if none does.
    """

    overrides: dict[str, Value]
    resolved: Resolved
    values: float
    kept: float
    cache_bytes: float
    memory: float
    capacity: float
    seconds: float
    found: Found

    @property
    def fits(self) -> bool:
        return bool(self.found.best)

    @property
    def verdict(self) -> str:
        """Whether its leanest layout fits: yes, tight or no."""
        if self.found.miss is None:
            return "no"
        x = layouts(**self.found.miss[1])
        return verdict(float(chances(self.resolved, x, np.array([self.memory]))[0]))

    @property
    def departure(self) -> tuple[float, float, float, bool, float]:
        """Sorts the least changed first: weight values lost, their bits, the cache's, another optimizer or training
        precision, then time.

        Bits count in whole halvings: fp8 and mxfp8 are one choice, decided by speed.
        """
        bits = self.kept / max(self.values, 1e-9)
        training = "optimizer" in self.overrides or set(self.overrides) == {"compute_dtype"}
        return (-round(self.values, 2), -round(bits * 4), -round(self.cache_bytes), training, self.seconds)

    @property
    def label(self) -> str:
        return ", ".join(f"{k.removesuffix('_dtype')} {v}" for k, v in self.overrides.items()) or "as it is"


@dataclass(frozen=True, repr=False)
class Plan:
    """A search's answer. ``rows`` are the best layouts, ``choices`` the compression choices, ``remedies`` what would
    make a plan that does not fit fit."""

    best: Estimate | None
    rows: list[Estimate]
    refused: dict[str, int]
    considered: int
    fitting: int
    assumed: tuple[str, ...]
    choices: list[Choice]
    alternatives: list[Estimate]
    miss: Estimate | None
    remedies: list[str] = field(default_factory=list)
    given: Mapping[str, object] = field(default_factory=dict)

    def to_frame(self) -> Frame:
        """The best layouts as a pandas DataFrame, a row each, in the columns of every answer."""
        return frame(self.answers(), FIXED)

    def answers(self) -> list[dict[str, object]]:
        """The rows as answers of fixed columns, with names as they were given; a student's name is its own."""
        return [e.answer(() if self.choices else self.given) for e in self.rows]

    def __repr__(self) -> str:
        first = f"best of {self.fitting:,} that fit: {self.best!r}" if self.best else "nothing fits"
        return f"<Plan {first}; {self.considered:,} considered>"

    def _repr_html_(self) -> str:
        shown = ("dp", "tp", "pp", "cp", "ep", "vpp", "micro_batch", "zero_stage", "recompute", "step_time_s",
                 "step_time_low_s", "step_time_high_s", "tokens_per_s", "mfu", "memory_peak_bytes")  # fmt: skip
        columns = [c for c in shown if any(e.row.get(c) is not None for e in self.rows)]
        return html_table([e.row for e in self.rows], columns, caption=repr(self)[1:-1])


def make_plan(
    given: Mapping[str, object], *, compress: bool = False, top: int = 10, dirs: HardwareDirs = (),
    folder: str | None = None, today: date, progress: Progress | None = None,
) -> Plan:  # fmt: skip
    """Search the layouts of a scenario; the keys that are given are held.

    Parameters
    ----------
    given : mapping of scenario keys  those that are searched may hold several values: ``1,2,4``, a range, a tuple
    compress : bool                 search precision, sparsity, pruning, students and optimizers too
    top : int                       rows kept

    Returns
    -------
    Plan                            ``best`` is None where nothing fits
    """
    single, within = held_values(given)
    scenario = dict(parse_scenario(single))
    if top < 1:
        raise BadInputError(f"top: {top} given; at least 1 row is needed")
    if "devices" not in scenario:
        if "dp" not in scenario:
            raise BadInputError("devices: missing; a search needs the number of accelerators")
        scenario["devices"] = int(scenario["dp"]) * int(
            scenario.get("tp", 1)) * int(scenario.get("pp", 1)) * int(scenario.get("cp", 1))  # fmt: skip
    notes: list[str] = []
    if scenario.get("task", "train") == "train" and "global_batch" not in scenario:
        scenario["global_batch"] = max(int(scenario["devices"]), 1)
        notes.append(f"global_batch = {scenario['global_batch']} (one sequence a device)")
    variants = compressions(scenario, dirs=dirs, folder=folder) if compress else [{}]
    choices: list[Choice] = []
    original: Resolved | None = None
    for overrides in variants:
        try:
            resolved = resolve_run({**scenario, **overrides}, dirs=dirs, folder=folder)
        except PlannerError:
            if not overrides:
                raise
            continue
        original = original or resolved
        choices.append(_choice(resolved, original, {**scenario, **overrides, **within}, overrides, top, progress))
    assert original is not None
    if not compress and choices[0].found.refusal:
        raise BadInputError(choices[0].found.refusal)
    found = _conclude({**scenario, **within}, choices, top, notes, original, dirs, folder, today, compress)
    return replace(found, given=dict(given))


def _choice(
    resolved: Resolved, original: Resolved, scenario: Held, overrides: Mapping[str, Value], top: int,
    progress: Progress | None,
) -> Choice:  # fmt: skip
    found = search(resolved, scenario, keep=top, progress=progress)
    sparse = 0.5 if resolved.precision.sparsity == "2:4" else 1.0
    values = sparse * resolved.demand.total_parameters / original.demand.total_parameters
    bits = resolved.demand.total_parameters * resolved.precision.bytes_of("weight")
    base = original.demand.total_parameters * original.precision.bytes_of("weight")
    seconds = found.best[0][0] if found.best else float("nan")
    memory = found.miss[0] if found.miss else float("nan")
    capacity = device_capacity(resolved.cluster, resolved.run)
    return Choice(dict(overrides), resolved, values, bits / base, resolved.precision.bytes_of("kv"), memory, capacity,
                  seconds, found)  # fmt: skip


def compressions(
    scenario: Mapping[str, Value], *, dirs: HardwareDirs = (), folder: str | None = None
) -> list[dict[str, Value]]:
    """The compression choices to try, the uncompressed model first; keys that are given are held.

    Inference: weight and cache precisions multiply with 2:4 sparsity, prunings and students with weight precisions.
    Training: compute precisions, optimizers, prunings and students one at a time.
    """
    base = resolve_run(scenario, dirs=dirs, folder=folder)
    chip = base.cluster.accelerator
    changes: list[dict[str, Value]] = [{}]
    structures = [{}, *_structures(base)] if "compression" not in scenario and "model" in scenario else [{}]
    if base.task == "train":
        computes = [c for c in ("fp8", "mxfp8", "nvfp4") if c in chip.peak_flops and "compute_dtype" not in scenario]
        optimizers = [o for o in OPTIMIZERS if "optimizer" not in scenario and o != "adam"]
        for key, values in (("compute_dtype", computes), ("optimizer", optimizers)):
            changes += [{key: v} for v in values]
        shared: list[dict[str, Value]] = [{}]
    else:
        changes = _inference_precisions(base, scenario)
        shared = [c for c in changes if "kv_dtype" not in c and "sparsity" not in c]
    out = changes + [{**structure, **change} for structure in structures for change in shared]
    return list({tuple(sorted(o.items())): o for o in out}.values())


def _inference_precisions(base: Resolved, scenario: Mapping[str, Value]) -> list[dict[str, Value]]:
    """Weight, activation and cache dtypes the chip can run, with 2:4 sparsity where it has the roof for it."""
    chip = base.cluster.accelerator
    weights: list[dict[str, Value]] = [{}]
    wide = next((d for d in ("bf16", "fp16") if d in chip.peak_flops), None)
    for d in ("fp8", "mxfp8", "int8", "nvfp4", "mxfp4", "int4"):
        if d in chip.peak_flops and d not in ("int4",):
            weights.append({"weight_dtype": d, "compute_dtype": d})
        if wide is not None:
            weights.append({"weight_dtype": d, "compute_dtype": wide})
    weights = [w for w in weights if not any(k in scenario and scenario[k] != v for k, v in w.items())]
    if "quantization" in scenario:
        weights = [{}]
    caches: list[dict[str, Value]] = [{}] if "kv_dtype" in scenario else [{}, {"kv_dtype": "fp8"}, {"kv_dtype": "int8"}]
    sparse: list[dict[str, Value]] = [{}]
    if chip.sparse_factor and "sparsity" not in scenario:
        sparse.append({"sparsity": "2:4"})
    return [{**w, **c, **s} for s in sparse for w in weights for c in caches]


def _structures(base: Resolved) -> list[dict[str, Value]]:
    """Prunings, and smaller published models of the same family as students."""
    out: list[dict[str, Value]] = [
        {"compression": f"{what}:{share}"} for what in ("width", "heads", "depth") for share in ("0.75", "0.5")
    ]
    size = base.demand.total_parameters
    for name in model_ids():
        try:
            other = load_model(name)
        except PlannerError:
            continue
        if other.family == base.model.family and other.text.role == base.model.text.role:
            share = demand(other).total_parameters / size
            if 0.05 <= share < 0.9:
                out.append({"model": name})
    return out


def _conclude(
    scenario: Held, choices: list[Choice], top: int, notes: list[str], original: Resolved,
    dirs: HardwareDirs, folder: str | None, today: date, compress: bool,
) -> Plan:  # fmt: skip
    """Pick the winner, estimate the rows that are shown in full, and where nothing fits look for remedies."""
    fitting = sorted((c for c in choices if c.fits), key=lambda c: c.departure)
    rows: list[Estimate] = []
    if compress:
        for c in fitting[:top]:
            rows.append(full_estimate(c.resolved, c.found.best[0][2], today))
    elif fitting:
        rows = [full_estimate(fitting[0].resolved, b[2], today) for b in fitting[0].found.best[:top]]
    refused: dict[str, int] = {}
    for c in choices:
        for k, v in c.found.refused.items():
            refused[k] = refused.get(k, 0) + v
    missing = [c for c in choices if c.found.miss is not None]
    miss = None
    if not fitting and missing:
        near = min(missing, key=lambda c: c.memory)
        assert near.found.miss is not None
        miss = full_estimate(near.resolved, near.found.miss[1], today)
    if not compress and fitting:
        notes = [*notes, *_preference(fitting[0])]
    assumed = [*notes, *(rows[0].assumed if rows else original.assumed)]
    if compress:
        assumed.append(NO_EVIDENCE)
    if original.task == "train" and original.cluster.devices > 1:
        assumed.append(LEFT_OUT)
    searched = {"micro_batch", "zero_stage", "sequence_parallel", "recompute", "global_batch"}
    assumed = [a for a in dict.fromkeys(assumed) if a.split(" = ")[0] not in searched or a in notes]
    return Plan(
        best=rows[0] if rows else None, rows=rows, refused=refused,
        considered=sum(c.found.considered for c in choices), fitting=sum(c.found.fitting for c in choices),
        assumed=tuple(assumed), choices=choices if compress else [], miss=miss,
        alternatives=_alternatives(fitting, rows, today) if not compress else [],
        remedies=remedies(scenario, choices[0], original, dirs, folder) if not fitting else [],
    )  # fmt: skip


def _preference(choice: Choice) -> list[str]:
    """Why the layout that comes first is not the fastest."""
    fastest = choice.found.instead
    if fastest is None:
        return []
    seconds, memory, columns = choice.found.best[0]
    words = {"recompute": RECOMPUTE, "sequence_parallel": ("off", "on")}
    named = ", ".join(f"{k} {words[k][v] if k in words else v}" for k, v in fastest[2].items() if v != columns[k])
    return [f"preferred: {format_gib(memory)} a device; the fastest ({named}) takes {format_gib(fastest[1])} and is "
            f"{1 - fastest[0] / seconds:.1%} faster, within the {RANK_ERROR:.0%} by which the order of layouts on one "
            "machine is off; headroom 0.5 fills devices to the brim"]  # fmt: skip


def _alternatives(fitting: Sequence[Choice], rows: Sequence[Estimate], today: date) -> list[Estimate]:
    """The best layout of every tensor-parallel size other than the winner's, fastest first."""
    if not rows:
        return []
    winner = int(rows[0].layout.tp[0])
    ranked = sorted((v for tp, v in fitting[0].found.by_tp.items() if tp != winner), key=lambda v: v[0])
    return [full_estimate(fitting[0].resolved, columns, today) for _, _, columns in ranked[:4]]


def full_estimate(resolved: Resolved, columns: Mapping[str, int], today: date) -> Estimate:
    """The whole estimate, ledgers included, of one layout that a search kept."""
    x = layouts(**columns)
    settled = settle(resolved, x)
    return estimate_resolved(with_notes(settled, layout_notes(settled, x)), x, today=today)


def best_plan(
    scenario: Mapping[str, Value], *, dirs: HardwareDirs = (), folder: str | None = None, today: date
) -> tuple[Estimate | None, Found]:
    """What :func:`make_plan` puts first of a parsed scenario, and what the search came to; nothing is said of others.

    Raises
    ------
    BadInputError
        What cannot be understood, or where one law refuses every layout.
    """
    resolved = resolve_run(scenario, dirs=dirs, folder=folder)
    found = search(resolved, scenario, keep=1)
    if found.refusal:
        raise BadInputError(found.refusal)
    return (full_estimate(resolved, found.best[0][2], today) if found.best else None), found


def remedies(scenario: Held, choice: Choice, original: Resolved, dirs: HardwareDirs, folder: str | None) -> list[str]:
    """What would make it fit: more devices, a smaller dtype, offload; each tried, not guessed."""
    out: list[str] = []
    devices = original.cluster.devices
    free = {k: v for k, v in scenario.items() if k != "dp"}
    for factor in (2, 4, 8, 16, 32):
        if _fits({**free, "devices": devices * factor}, dirs, folder):
            out.append(f"{devices * factor} devices")
            break
    held = {k: scenario[k] for k in ("recompute", "zero_stage") if k in scenario}
    for key, value in (("recompute", "full"), ("zero_stage", 3)):
        if key in held and held[key] != value and _fits({**scenario, key: value}, dirs, folder):
            out.append(f"{key} = {value}")
    if original.task == "train":
        tries: list[dict[str, Value]] = [
            {"expandable_segments": True},
            {"loss": "fused"},
            {"grad_dtype": "bf16"},
            {"optimizer": "adam8bit"},
            {"offload": "optimizer"},
            {"optimizer": "adafactor"},
        ]
    else:
        narrow = [d for d in ("fp8", "int8", "nvfp4", "mxfp4", "int4")
                  if d in original.cluster.accelerator.peak_flops or "bf16" in DTYPES[d].weight_only]  # fmt: skip
        tries = [{"weight_dtype": d} for d in narrow]
    for change in tries:
        if _fits({**scenario, **change}, dirs, folder):
            out.append(", ".join(f"{k} = {v}" for k, v in change.items()))
            break
    return out


def _fits(scenario: Held, dirs: HardwareDirs, folder: str | None) -> bool:
    """Whether a scenario has a layout that fits; one that cannot be has none."""
    try:
        single = {k: v for k, v in scenario.items() if not isinstance(v, tuple)}
        return bool(search(resolve_run(single, dirs=dirs, folder=folder), scenario, keep=1).best)
    except PlannerError:
        return False
