"""Mutated configs: a clear error that names the field, or a count that obeys the laws; never a traceback."""

from __future__ import annotations

import copy
import os
import random
import re
import time
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.catalogue.huggingface import model_from_config, supported_types
from planner.catalogue.models import describe, model_ids
from planner.demand.counts import forward_flops, parameter_counts
from planner.errors import BadInputError


@cache
def bases() -> list[dict[str, Any]]:
    """Configurations of the catalogue, and each type's defaults."""
    known = [d["config"] for d in (describe(i) for i in model_ids()) if "config" in d]
    return known + [{"model_type": t} for t in supported_types()]


@cache
def fields() -> list[str]:
    return sorted({k for b in bases() for k in b} | {"head_dim", "layer_types", "num_experts", "sliding_window"})


ABSURD: list[Any] = [
    None, 0, 1, -1, 2, 3, 7, 10**12, 1.5, -0.0, float("nan"), float("inf"), True, False, "", "64", "many", [], [1, 2],
    {}, {"a": 1}, [None], [[1]], 10**400, "full_attention", [0, 1, 0, 1], ["full_attention"], b"x",
]  # fmt: skip
# A head for entities: weights that no token of a text multiplies with.
IDLE_WEIGHTS = {"luke"}


def _paths(value: Any, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [prefix] if prefix else []
    if isinstance(value, dict):
        for k, v in value.items():
            found += _paths(v, (*prefix, k))
    return found


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    config = copy.deepcopy(draw(st.sampled_from(bases())))
    for _ in range(draw(st.integers(1, 3))):
        action = draw(st.sampled_from(["replace", "replace", "drop", "add", "scale"]))
        paths = _paths(config)
        if action == "add" or not paths:
            config[draw(st.sampled_from(fields()))] = copy.deepcopy(draw(st.sampled_from(ABSURD)))
            continue
        path = draw(st.sampled_from(paths))
        parent = config
        for key in path[:-1]:
            parent = parent[key]
        if action == "drop":
            parent.pop(path[-1])
        elif action == "replace":
            parent[path[-1]] = copy.deepcopy(draw(st.sampled_from(ABSURD)))
        elif isinstance(parent[path[-1]], int):
            parent[path[-1]] = parent[path[-1]] * draw(st.sampled_from([2, 3, -1])) + draw(st.integers(-2, 2))
    return config


@settings(
    max_examples=int(os.environ.get("PLANNER_FUZZ_EXAMPLES", "150")), deadline=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(mutated())
def test_a_mutated_config_is_refused_by_name_or_counted_lawfully(config: Any) -> None:
    check(config)


def check(config: Any) -> None:
    """A refusal that names a field, or a count that obeys the laws; any other exception fails the test."""
    try:
        model = model_from_config(config, id="fuzz", where="fuzz.json")
    except BadInputError as error:
        message = str(error)
        assert message.startswith("fuzz.json: ") and len(message) < 1000
        assert re.search(r"[a-zA-Z_]{2,}", message.removeprefix("fuzz.json: "))
        return
    counts = parameter_counts(model)
    groups = ("embedding", "head", "attention", "mlp", "norm", "other")
    assert all(counts[g] >= 0 for g in counts)
    assert sum(counts[g] for g in groups) == counts["total"] >= counts["active"] >= 0
    flops = forward_flops(model, batch=1, seq_len=16)
    assert 0 <= flops["causal_total"] <= flops["total"]
    always = not any(kind.optional for kind in model.text.kinds) and model.family not in IDLE_WEIGHTS
    if (
        always
        and len(model.stacks) == 1
        and model.head is not None
        and not model.head.once
        and not model.stacks[0].tokens
    ):
        matmuls = counts["active"] - counts["embedding"] - counts["norm"] - counts["other"]
        assert flops["total"] >= 2 * 16 * 0.98 * (matmuls - _small(counts))


@pytest.mark.parametrize("examples", [600, pytest.param(20_000, marks=pytest.mark.exhaustive)])
def test_thousands_of_mutated_configs_are_refused_or_counted_in_time(examples: int) -> None:
    draw = random.Random(examples)
    slowest = (0.0, {})
    for _ in range(examples):
        config = copy.deepcopy(draw.choice(bases()))
        for _ in range(draw.randint(1, 3)):
            mutate(config, draw)
        start = time.perf_counter()
        check(config)
        slowest = max(slowest, (time.perf_counter() - start, config), key=lambda pair: pair[0])
    assert slowest[0] < 5.0, slowest


def mutate(config: dict[str, Any], draw: random.Random) -> None:
    """Replace, drop, add or scale one field, nested ones too."""
    paths = _paths(config)
    *above, key = draw.choice(paths) if paths else (draw.choice(fields()),)
    parent = config
    for step in above:
        parent = parent[step]
    action = draw.choice(["replace", "replace", "drop", "add", "scale"])
    if action == "add":
        parent[draw.choice(fields())] = copy.deepcopy(draw.choice(ABSURD))
    elif action == "drop":
        parent.pop(key, None)
    elif action == "replace":
        parent[key] = copy.deepcopy(draw.choice(ABSURD))
    elif isinstance(parent.get(key), int):
        parent[key] = parent[key] * draw.choice([2, 3, -1]) + draw.randint(-2, 2)


def _small(counts: dict[str, int]) -> float:
    """Room for biases, sinks, convolutions and relative tables: parameters that are not matmul weights."""
    return 0.05 * counts["active"] + 1e5
