"""Serving engines by name, from ``engines.yaml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from planner.catalogue.reader import Field, read_table
from planner.errors import unknown

FILE = Path(__file__).with_name("engines.yaml")


def _size(name: str, text: str, *, required: bool = False) -> Field:
    """A part of a device's memory, which may be nothing."""
    return Field(name, "quantity", text, unit="byte", required=required, default=0.0, least=0, most=1e15)


def _time(name: str, text: str) -> Field:
    return Field(name, "quantity", text, unit="s", default=0.0)


TIER_FIELDS = (
    _size("at_least", "memory of the device"),
    Field("but_not", "text", "beginning of the ids of devices that it is not for", default=""),
    Field("token_budget", "integer", "most tokens a step", required=True),
    Field("max_num_seqs", "integer", "most sequences a step", required=True),
)
RESERVE_FIELDS = tuple(
    _size(name, "left out of the share", required=True) for name in ("base", "token", "sequence", "rank")
)
MEMORY_FIELDS = (
    Field("share_of", "choice", "what the fraction is taken of", keys=("device", "free", "rest"), required=True),
    Field("fraction", "number", "default share", default=1.0, least=0.01, most=1),
    Field("reserve", "section", "what the memory is reduced by instead", fields=RESERVE_FIELDS),
    Field("tiers", "sections", "defaults by device", fields=TIER_FIELDS, default=()),
    Field("logit_bytes", "number", "held a logit", default=0.0, least=0),
    Field("logits_of", "choice", "rows of logits", keys=("sequences", "tokens", "slots"), default="sequences"),
    _size("workspace", "of libraries"),
    _size("graphs", "captured graphs"),
    Field("allocates", "choice", "how much cache", keys=("pool", "context", "need"), required=True),
    Field("whole_prompts", "integer", "longest max_model_len at which a prompt is read in one step", default=0,
          least=0, most=100_000_000),
    Field("unties", "flag", "a head that is tied to the token table is a tensor of its own", default=False),
    Field("charges_context", "flag", "the share pays for the driver's context", default=False),
    Field("window_tokens", "integer", "read at once beside a window", default=0, least=0),
    Field("source", "text", "where the facts were read", required=True),
)  # fmt: skip
STEP_FIELDS = (
    Field("mixes", "flag", "prompts are read within decode steps", required=True),
    Field("slowdown", "number", "time of prompts beside decoding over that of prompts alone", default=1.0, least=1,
          most=100),
    _time("request_overhead", "of a request outside of the steps"),
    _time("operator", "of an operator beyond its kernel alone"),
    _time("launch", "of the host for an operator without a graph"),
    Field("captures", "choice", "steps that are replayed as graphs", keys=("decode", "none"), default="decode"),
    Field("one_shot", "flag", "small all-reduces run in one exchange", default=True),
    Field("unbounded", "flag", "as many requests run as the cache holds", default=False),
    Field("reserves", "choice", "room that a request is let in with", keys=("whole", "grows"), default="whole"),
    Field("source", "text", "where the facts were read", required=True),
)  # fmt: skip
ENGINE = Field(
    "", "section",
    fields=(
        Field("name", "text", "for people", required=True),
        Field("step_overhead", "quantity", "beyond the kernels of a step", unit="s", required=True),
        Field("basis", "choice", "kind of the overhead", keys=("definition", "documented", "reported", "assumed"),
              required=True),
        Field("source", "text", "where the overhead was read", required=True),
        Field("last_release", "release", "of this generation of the engine", default=""),
        Field("memory", "section", "how a device's memory is divided", fields=MEMORY_FIELDS, required=True),
        Field("steps", "section", "how it makes its steps", fields=STEP_FIELDS, required=True),
    ),
)  # fmt: skip


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
    return read_engines(FILE)


def read_engines(path: Path) -> Mapping[str, Engine]:
    """Engines of a file by id.

    Raises
    ------
    CatalogueError
        Every fault of the file, as ``file:line: message``.
    """
    return {
        id: Engine(id, e["name"], e["step_overhead"], e["basis"], e["source"], _memory(e["memory"]),
                   EngineSteps(**e["steps"]), _release(e["last_release"]))
        for id, e in read_table(path, ENGINE).items()
    }  # fmt: skip


def _memory(m: Mapping[str, Any]) -> EngineMemory:
    tiers = tuple(Tier(**t) for t in m["tiers"])
    return EngineMemory(**{**m, "tiers": tiers, "reserve": Reserve(**m["reserve"]) if m["reserve"] else None})


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
