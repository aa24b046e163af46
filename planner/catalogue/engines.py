"""Serving engines by name, from ``engines.yaml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

from planner.errors import unknown
from planner.units import parse_quantity


@dataclass(frozen=True)
class Tier:
    """Defaults on devices of at least so much memory [byte], but for those whose id starts with ``but_not``."""

    at_least: float
    but_not: str
    token_budget: int
    max_num_seqs: int


@dataclass(frozen=True)
class Reserve:
    """What an engine leaves out of its share by default [byte]: in all, a token of a step, a sequence, a rank."""

    base: float
    token: float
    sequence: float
    rank: float


@dataclass(frozen=True)
class EngineMemory:
    """How an engine divides a device's memory.

    Attributes
    ----------
    share_of : what the fraction is taken of: ``device``, ``free`` (before loading) or ``rest`` (after all else)
    fraction, reserve : the default share, or what the device's memory is reduced by to give it
    tiers : defaults by device
    logit_bytes : [byte] that logits, their copies and the sampler hold a logit at their peak
    logits_of : ``sequences`` or ``tokens`` of a step, or ``slots`` for sequences, which are held throughout
    workspace : [byte] that libraries allocate beyond the framework's allocator, communicators apart
    graphs : [byte] of captured graphs that are charged before the cache is sized
    allocates : ``pool`` (all that is left), ``context`` (the cache of max_model_len tokens) or ``need``
    whole_prompts : longest max_model_len [tokens] at which a prompt is read in one step
    unties : a head that is tied to the token table is a tensor of its own
    charges_context : the share pays for the driver's context
    window_tokens : read at once beside a sliding window where no token budget says it
    """

    share_of: str
    fraction: float
    reserve: Reserve | None
    tiers: tuple[Tier, ...]
    logit_bytes: float
    logits_of: str
    workspace: float
    graphs: float
    allocates: str
    whole_prompts: int
    unties: bool
    charges_context: bool
    window_tokens: int
    source: str

    def tier(self, chip: str, capacity: float) -> Tier | None:
        """Defaults on a device; None where an engine has none."""
        fits = (t for t in self.tiers if capacity >= t.at_least and not (t.but_not and chip.startswith(t.but_not)))
        return next(fits, None)

    def default_fraction(self, capacity: float, *, tokens: int, sequences: int, ranks: int) -> float:
        """Share of the memory: as documented, or the memory less what is reserved for a step of so many tokens."""
        r = self.reserve
        if r is None:
            return self.fraction
        reserved = r.base + r.token * tokens + r.sequence * sequences + r.rank * ranks
        return round(max(1.0 - reserved / capacity, 0.1), 3)


@dataclass(frozen=True)
class EngineSteps:
    """How an engine makes its steps.

    Attributes
    ----------
    mixes : prompts are read within decode steps, not in steps of their own
    slowdown : time of prompts read beside decoding over that of prompts alone
    request_overhead : [s] of a request outside of the steps: tokenising, transport, scheduling
    operator : [s] that an operator takes in a step beyond its kernel alone: gaps between kernels, lesser kernels
    launch : [s] that the host spends on an operator where a step is not replayed as a graph
    captures : ``decode`` where decode steps are replayed as graphs, ``none`` where nothing is
    one_shot : small all-reduces run in kernels of its own, in one exchange; else the library's ring
    unbounded : as many requests run as the cache holds, unless ``max_num_seqs`` is given
    reserves : ``whole`` where a request is let in with room for all its tokens, ``grows`` where for those it has
    """

    mixes: bool
    slowdown: float
    request_overhead: float
    operator: float
    launch: float
    captures: str
    one_shot: bool
    unbounded: bool
    reserves: str
    source: str


@dataclass(frozen=True)
class Engine:
    """Overhead of a serving engine per step [s], how it steps and divides memory, and where all that comes from."""

    id: str
    name: str
    step_overhead: float
    basis: str
    source: str
    memory: EngineMemory
    steps: EngineSteps
    last_release: tuple[int, ...] = ()  # of this generation of the engine; none yet where empty


@lru_cache(maxsize=1)
def engines() -> Mapping[str, Engine]:
    """All engines by id."""
    text = (resources.files("planner.catalogue") / "engines.yaml").read_text(encoding="utf-8")
    return {
        id: Engine(id, e["name"], parse_quantity(e["step_overhead"], "s"), e["basis"], e["source"],
                   _memory(e["memory"]), _steps(e["steps"]), _release(e.get("last_release", "")))
        for id, e in yaml.safe_load(text).items()
    }  # fmt: skip


def _memory(m: Mapping[str, Any]) -> EngineMemory:
    reserve = m.get("reserve")
    return EngineMemory(
        share_of=m["share_of"], fraction=float(m.get("fraction", 1.0)),
        reserve=Reserve(**{k: _bytes(v) for k, v in reserve.items()}) if reserve else None,
        tiers=tuple(Tier(_bytes(t.get("at_least", "0 GiB")), t.get("but_not", ""), t["token_budget"],
                         t["max_num_seqs"]) for t in m.get("tiers", ())),
        logit_bytes=float(m.get("logit_bytes", 0.0)), logits_of=m.get("logits_of", "sequences"),
        workspace=_bytes(m.get("workspace", "0 GiB")), graphs=_bytes(m.get("graphs", "0 GiB")),
        allocates=m["allocates"],
        whole_prompts=int(m.get("whole_prompts", 0)), unties=bool(m.get("unties", False)),
        charges_context=bool(m.get("charges_context", False)),
        window_tokens=int(m.get("window_tokens", 0)), source=m["source"],
    )  # fmt: skip


def _steps(m: Mapping[str, Any]) -> EngineSteps:
    return EngineSteps(
        mixes=bool(m["mixes"]), slowdown=float(m.get("slowdown", 1.0)),
        request_overhead=parse_quantity(m.get("request_overhead", "0 ms"), "s"),
        operator=parse_quantity(m.get("operator", "0 us"), "s"),
        launch=parse_quantity(m.get("launch", "0 us"), "s"), captures=m.get("captures", "decode"),
        one_shot=bool(m.get("one_shot", True)), unbounded=bool(m.get("unbounded", False)),
        reserves=m.get("reserves", "whole"), source=m["source"],
    )  # fmt: skip


def _bytes(text: str) -> float:
    return parse_quantity(text, "byte")


def _release(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part)


def engine(name: str) -> Engine:
    """Look an engine up by name, or by name and release (``vllm-0.15.1``); an unknown one is refused with the allowed
    names."""
    name = name.strip().lower()
    found = engines().get(name) or _generation(name)
    if found is None:
        raise unknown("engine", name, engines())
    return found


def _generation(name: str) -> Engine | None:
    """The generation of an engine that a release belongs to: the first whose last release is no older."""
    said = re.fullmatch(r"(.+?)-(\d+(?:\.\d+)*)", name)
    if said is None or said[1] not in engines():
        return None
    release = _release(said[2])
    kin = [e for id, e in engines().items() if id.rpartition("-")[0] == said[1] and e.last_release]
    # 0.16.1 is a release of 0.16: as many parts are compared as the last release has.
    past = [e for e in kin if release[: len(e.last_release)] <= e.last_release]
    return min(past, key=lambda e: e.last_release, default=engines()[said[1]])
