"""What a search promises: its best is the best of all that it says it tries, and typed back it is the same run."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from datetime import date
from itertools import product
from typing import Any

import numpy as np
import pytest

from planner.cost.constants import RECOMPUTE
from planner.cost.doubt import fit_chance
from planner.cost.layouts import layouts
from planner.cost.rules import lawful
from planner.errors import BadInputError
from planner.planning.estimate import Estimate, estimate_scenario
from planner.planning.plan import Plan, make_plan
from planner.planning.search import RANK_ERROR, chances, evaluate
from planner.present.plans import answer
from planner.scenario.keys import parse_scenario
from planner.scenario.resolve import resolve_run

TODAY = date(2026, 11, 1)
SMALL: dict[str, Any] = {"model": "gpt2", "hardware": "dgx-h100", "devices": 4, "global_batch": 12, "seq_len": 512}
EXPERTS: dict[str, Any] = {**SMALL, "model": "phi-mini-moe", "devices": 8, "global_batch": 8}
SERVED: dict[str, Any] = {"model": "llama-3.1-8b", "hardware": "dgx-h100", "devices": 8, "input_len": 1024}
CASES: list[dict[str, Any]] = [
    SMALL,
    {**SMALL, "devices": 1, "global_batch": 1024, "seq_len": 256},
    {**SMALL, "memory_capacity": "3 GiB"},
    {**SMALL, "devices": 6, "global_batch": 36, "memory_capacity": "2500 MiB"},
    {**SMALL, "attention": "eager"},
    {**SMALL, "model": "llama-3.1-8b", "devices": 8, "global_batch": 8, "seq_len": 4096},
    {**SMALL, "model": "llama-3.2-1b", "devices": 8, "hardware": "tpu-v5p-pod"},
    *({**SMALL, "global_batch": 16, "schedule": s} for s in (
        "1f1b", "interleaved", "zb-h1", "zb-v", "dualpipe", "dualpipev", "gpipe")),
    *({**SMALL, **held} for held in (
        {"tp": 2}, {"pp": 4}, {"cp": 2}, {"dp": 2}, {"vpp": 3}, {"micro_batch": 6}, {"zero_stage": 3},
        {"zero_stage": 2}, {"sequence_parallel": True}, {"recompute": "selective"}, {"framework": "torch"})),
    EXPERTS,
    {**EXPERTS, "ep": 4},
    {**EXPERTS, "etp": 2, "memory_capacity": "30 GiB"},
    *({**SERVED, "task": t, k: 6} for t, k in (("prefill", "batch"), ("decode", "batch"), ("serve", "concurrency"))),
    {"task": "forward", "model": "bert-base", "hardware": "dgx-h100", "devices": 4, "batch": 8, "seq_len": 256},
]  # fmt: skip


def every_layout(scenario: Mapping[str, Any], layers: int, experts: int) -> Any:
    """All whole numbers of every axis, but for what a search says that it leaves out: stages whose chunks are uneven
    and experts shared beyond tp."""
    n, train = int(scenario["devices"]), scenario.get("task", "train") == "train"
    batch = int(scenario.get("global_batch", 1))
    axes = [(tp, pp, cp, n // (tp * pp * cp)) for tp, pp, cp in product(range(1, n + 1), repeat=3)
            if n % (tp * pp * cp) == 0]  # fmt: skip
    rows = []
    for (tp, pp, cp, dp), ep in product(axes, range(1, min(n, experts or 1) + 1)):
        chunks = [v for v in range(1, layers + 1) if v == 1 or layers % (pp * v) == 0] if train else [1]
        shares = [e for e in range(1, tp + 1) if tp % e == 0] if experts else [1]
        sizes = [m for m in range(1, batch + 1) if batch % m == 0] if train else [1]
        rows += [(dp, tp, pp, cp, ep, *rest) for rest in product(shares, chunks, sizes)]
    names = ("dp", "tp", "pp", "cp", "ep", "etp", "vpp", "micro_batch")
    modes = list(product(range(4), range(2), range(3))) if train else [(0, 0, 0)]
    outer, inner = np.repeat(np.array(rows), len(modes), axis=0), np.tile(np.array(modes), (len(rows), 1))
    columns = {k: outer[:, i] for i, k in enumerate(names)}
    columns |= {k: inner[:, i] for i, k in enumerate(("zero_stage", "sequence_parallel", "recompute"))}
    return layouts(**columns, global_batch=batch if train else columns["dp"])


def fastest(plan: Plan) -> float:
    """Of the rows that a plan keeps: a leaner one may stand before it."""
    return min(float(e.results["step_time_s"]) for e in plan.rows)  # type: ignore[arg-type]


@pytest.mark.parametrize("scenario", CASES, ids=lambda c: "-".join(f"{v}" for v in c.values()))
def test_the_best_of_a_search_is_the_best_of_every_lawful_layout(scenario: dict[str, Any]) -> None:
    parsed = parse_scenario(scenario)
    resolved = resolve_run(parsed)
    x = every_layout(scenario, resolved.case.sizes.layers, resolved.case.sizes.experts)
    for key in vars(x):
        if key in parsed:
            value = RECOMPUTE.index(str(parsed[key])) if key == "recompute" else int(parsed[key])
            x = x.take(np.flatnonzero(getattr(x, key) == value))
    x = lawful(x, resolved.case)
    seconds, memory = evaluate(resolved, x)
    fits = chances(resolved, x, memory) >= resolved.run.headroom
    assert fits.any()
    i = int(np.argmin(np.where(fits, seconds, np.inf)))
    plan = make_plan(scenario, today=TODAY)
    assert plan.best is not None
    again = estimate_scenario({**plan.best.inputs, **x.row(i)}, today=TODAY)
    assert float(again.results["step_time_s"]) == pytest.approx(seconds[i], rel=1e-9)
    assert fastest(plan) == pytest.approx(seconds[i], rel=1e-9), x.row(i)
    assert float(plan.best.results["step_time_s"]) <= seconds[i] * (1.0 + RANK_ERROR)
    if "memory_capacity" in scenario:
        assert not fits.all()


def test_estimates_one_by_one_find_nothing_faster() -> None:
    """Every combination, each a scenario of its own, refused or priced as the command does it."""
    scenario = {**SMALL, "devices": 2, "global_batch": 2}
    best = np.inf
    for tp, pp, cp, m, vpp, zero, split, again in product(
        (1, 2), (1, 2), (1, 2), (1, 2), (1, 2, 3, 6), range(4), (False, True), RECOMPUTE
    ):
        keys = {"tp": tp, "pp": pp, "cp": cp, "micro_batch": m, "vpp": vpp, "zero_stage": zero,
                "sequence_parallel": split, "recompute": again}  # fmt: skip
        if again == "selective":
            keys["recompute_modules"] = "layernorm"
        try:
            e = estimate_scenario({**scenario, **keys}, today=TODAY)
        except BadInputError:
            continue
        if fit_chance(e.resolved.run, float(e.results["memory_peak_bytes"]), e.capacity) >= e.resolved.run.headroom:
            best = min(best, float(e.results["step_time_s"]))  # type: ignore[arg-type]
    plan = make_plan(scenario, today=TODAY)
    assert fastest(plan) == pytest.approx(best, rel=1e-9)


def typed_back(e: Estimate, sentence: str) -> dict[str, Any]:
    """The keys of a layout as its sentence prints them."""
    said = sentence.split(f"{e.resolved.cluster.accelerator.name}, ")[1].split(": ")[0]
    keys: dict[str, Any] = {k: int(v) for k, v in re.findall(r"\b(dp|tp|pp|cp|ep|etp|vpp) (\d+)", said)}
    if e.resolved.task != "train":
        return keys
    keys |= {k: int(found[1]) for k, p in (("micro_batch", r"micro-batch (\d+)"), ("zero_stage", r"ZeRO (\d)"))
             if (found := re.search(p, said))}  # fmt: skip
    if "sequence parallel" in said:
        keys["sequence_parallel"] = "not sequence parallel" not in said
    mode, modules = re.search(r"(no|selective|full) recompute(?: of ([\w,]+))?", said).groups()  # type: ignore[union-attr]
    keys["recompute"] = "none" if mode == "no" else mode
    return keys | ({"recompute_modules": modules} if modules else {})


def drawn(seed: int) -> dict[str, Any]:
    r = random.Random(seed)
    scenario = {**SMALL, "model": r.choice(["gpt2", "llama-3.1-8b", "phi-mini-moe", "deepseek-v2-lite"]),
                "devices": r.choice([1, 2, 8, 16]), "global_batch": r.choice([16, 48]), "seq_len": 1024,
                "hardware": r.choice(["dgx-h100", "dgx-a100-80gb", "tpu-v5p-pod"])}  # fmt: skip
    choices = {"attention": "eager", "sequence_parallel": False, "zero_stage": r.choice([0, 1, 2, 3]),
               "recompute": r.choice(RECOMPUTE), "memory_capacity": "50 GiB"}  # fmt: skip
    return scenario | {k: v for k, v in choices.items() if r.random() < 0.25}


@pytest.mark.parametrize("seed", range(24))
def test_a_layout_typed_back_as_it_is_printed_is_the_same_run(seed: int) -> None:
    scenario = drawn(seed)
    plan = make_plan(scenario, today=TODAY, top=3)
    for e in plan.rows:
        again = estimate_scenario({**scenario, **typed_back(e, answer(e))}, today=TODAY)
        for key in ("step_time_s", "memory_peak_bytes"):
            assert again.results[key] == pytest.approx(e.results[key], rel=1e-12), (key, answer(e))
