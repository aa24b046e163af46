"""Sweeps: a grid or a list of scenarios, cut into shards that can be worked out apart and are always the same.

A cell is an estimate, a plan or a size. Its number decides what it holds, a shard's number which cells, and the hash of
both with the version and the catalogue how the shard is called, so that what is there already is known by its name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from math import prod
from pathlib import Path

from planner.catalogue.loader import search_path
from planner.errors import BadInputError, internal, unknown
from planner.files import is_file
from planner.planning.asked import WORDS, asked
from planner.planning.columns import COLUMNS
from planner.planning.estimate import Estimate, estimate_scenario
from planner.planning.outlook import DAY, Outlook
from planner.planning.plan import best_plan
from planner.planning.size import size_training
from planner.scenario.echo import LAYOUT
from planner.scenario.keys import KEYS, parse_scenario
from planner.scenario.names import HardwareDirs

ANSWERS = ("estimate", "plan", "size")
PARTS = ("answer", "base", "grid", "scenarios")
SHARD = 100_000  # rows of a shard
MOST_ROWS = 10**9
MOST_NUMBER = 1e300  # of a column of numbers
ANSWERED = tuple(c for c in COLUMNS if c != "error")
SIZED = ("devices", "days", "days_low", "days_high", "healthy_days", "chance", "usd", "mwh", "tco2e", "goodput")
Row = dict[str, object]


@dataclass(frozen=True)
class Sweep:
    """What is swept: every combination of the values of ``grid``, then ``scenarios``, each over ``base``."""

    answer: str = "estimate"
    base: Mapping[str, object] = field(default_factory=dict)
    grid: Mapping[str, Sequence[object]] = field(default_factory=dict)
    scenarios: Sequence[Mapping[str, object]] = ()

    @property
    def rows(self) -> int:
        return self._combined + len(self.scenarios)

    @property
    def _combined(self) -> int:
        return prod(len(v) for v in self.grid.values()) if self.grid else 0

    @property
    def keys(self) -> list[str]:
        """Every key that is given somewhere, in order of appearance."""
        return list(dict.fromkeys([*self.base, *self.grid, *(k for s in self.scenarios for k in s)]))

    @property
    def columns(self) -> list[str]:
        """Columns of every shard: the number of the row, what was given, the layout that answers, the results."""
        own = [*LAYOUT, *(SIZED if self.answer == "size" else ()), *ANSWERED]
        return ["id", *self.keys, *(c for c in own if c not in self.keys), "error"]

    @property
    def numbers(self) -> frozenset[str]:
        """Columns that hold numbers in every shard: results and sizes that are no words, and keys given as numbers."""
        given = {k: [*self.grid.get(k, ()), *(d[k] for d in (self.base, *self.scenarios) if k in d)] for k in self.keys}
        words = {k for k, v in given.items() if not all(isinstance(x, int | float) and abs(x) < MOST_NUMBER for x in v)}
        return frozenset(self.columns) - words - {"fits", "bound", "recompute", "error"}

    def cells(self, first: int, last: int) -> Iterator[Row]:
        """Scenarios of rows ``first`` up to but not including ``last``."""
        sizes = [len(v) for v in self.grid.values()]
        for i in range(first, min(last, self.rows)):
            if i >= self._combined:
                yield {**self.base, **self.scenarios[i - self._combined]}
                continue
            at, rest = [], i
            for n in reversed(sizes):
                rest, place = divmod(rest, n)
                at.append(place)
            chosen = {k: v[p] for (k, v), p in zip(self.grid.items(), reversed(at), strict=True)}
            yield {**self.base, **chosen}


def parse_sweep(data: object, *, where: str) -> Sweep:
    """A sweep from a file's mapping.

    Raises
    ------
    BadInputError
        What is no sweep: unknown parts or keys, an axis without values. A value that cannot be is its row's error.
    """
    if not isinstance(data, Mapping) or not data:
        raise BadInputError(f"{where}: a mapping with grid or scenarios is due; parts: {', '.join(PARTS)}")
    for part in data:
        if part not in PARTS:
            raise unknown("part", str(part), PARTS, where=where)
    answer = str(data.get("answer", "estimate"))
    if answer not in ANSWERS:
        raise unknown("answer", answer, ANSWERS, where=where)
    base, grid, scenarios = data.get("base") or {}, data.get("grid") or {}, data.get("scenarios") or []
    if not isinstance(base, Mapping) or not isinstance(grid, Mapping) or not isinstance(scenarios, list):
        raise BadInputError(f"{where}: base and grid are mappings of keys, scenarios a list of them")
    axes = {str(k): list(v) if isinstance(v, list | tuple) else [v] for k, v in grid.items()}
    if not all(isinstance(s, Mapping) for s in scenarios):
        raise BadInputError(f"{where}: scenarios: each is a mapping of keys")
    swept = Sweep(answer, _named(base), axes, tuple(_named(s) for s in scenarios))
    _refuse(swept, where)
    return swept


def _named(keys: Mapping[object, object]) -> Row:
    return {str(k): v for k, v in keys.items()}


def _refuse(swept: Sweep, where: str) -> None:
    known = {*KEYS, *(WORDS if swept.answer == "size" else ())}
    for key in swept.keys:
        if key not in known:
            raise unknown("key", key, known, where=where)
    empty = [k for k, v in swept.grid.items() if not v]
    if empty:
        raise BadInputError(f"{where}: grid: {empty[0]} has no values")
    if not 0 < swept.rows <= MOST_ROWS:
        raise BadInputError(f"{where}: {swept.rows:,} rows; 1 to {MOST_ROWS:,} are swept")


def catalogue_hash(dirs: HardwareDirs = ()) -> str:
    """Hash of every file of facts: hardware, models, and what the package holds of engines, frameworks and clusters."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for folder in (*search_path(dirs or None), package / "catalogue", package / "validation"):
        for path in sorted(p for p in Path(folder).rglob("*") if p.suffix in (".yaml", ".json", ".csv") and is_file(p)):
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def sweep_hash(swept: Sweep, *, version: str, catalogue: str, rows: int) -> str:
    """Hash of what decides every row, and of how many make a shard."""
    said = [version, catalogue, rows, swept.answer, dict(swept.base), {k: list(v) for k, v in swept.grid.items()},
            [dict(s) for s in swept.scenarios]]  # fmt: skip
    return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()


def shards(swept: Sweep, *, whole: str, rows: int) -> list[tuple[str, int, int]]:
    """Name, first row and last row of every shard; the name has its number and a hash of its inputs."""
    out = []
    for number, first in enumerate(range(0, swept.rows, rows)):
        last = min(first + rows, swept.rows)
        own = hashlib.sha256(f"{whole} {first} {last}".encode()).hexdigest()[:12]
        out.append((f"{number:05d}-{own}", first, last))
    return out


def sweep_rows(
    swept: Sweep, first: int, last: int, *, dirs: HardwareDirs = (), folder: str | None = None, today: date
) -> Iterator[Row]:  # fmt: skip
    """Answers of rows ``first`` up to ``last``; a bad row carries its ``error`` and harms no other."""
    cells = list(swept.cells(first, last))
    found = (_answer(swept.answer, cell, dirs, folder, today) for cell in cells)
    for i, (cell, row) in enumerate(zip(cells, found, strict=True), first):
        yield {**cell, "error": "", **row, "id": i}


def _answer(answer: str, cell: Mapping[str, object], dirs: HardwareDirs, folder: str | None, today: date) -> Row:
    """A row of what is asked, or its ``error`` alone."""
    try:
        if answer == "estimate":
            return _columns(estimate_scenario(cell, dirs=dirs, folder=folder, today=today))
        return (_plan if answer == "plan" else _size)(cell, dirs, folder, today)
    except Exception as error:
        return {"error": " ".join(str(internal(error)).split())}


def _plan(cell: Mapping[str, object], dirs: HardwareDirs, folder: str | None, today: date) -> Row:
    best, found = best_plan(parse_scenario(cell), dirs=dirs, folder=folder, today=today)
    if best is None:
        raise BadInputError("nothing fits" if found.miss is not None else "no layout is lawful")
    return _columns(best)


def _size(cell: Mapping[str, object], dirs: HardwareDirs, folder: str | None, today: date) -> Row:
    words = {k: v for k, v in cell.items() if k in WORDS}
    scenario = {k: v for k, v in cell.items() if k not in WORDS and k != "hardware"}
    sizing = size_training(scenario, [str(cell.get("hardware", ""))], asked(words), dirs=dirs, folder=folder,
                           today=today)  # fmt: skip
    if sizing.best is None:
        raise BadInputError("nothing keeps the limits")
    return {**_columns(sizing.best.estimate), **_outlook(sizing.best, sizing.question.limits.deadline)}


def _columns(e: Estimate) -> Row:
    """The layout and the results of an estimate."""
    return {**{k: e.inputs.get(k) for k in LAYOUT}, **e.results}


def _outlook(o: Outlook, deadline: float | None) -> Row:
    return {
        "devices": o.devices, "days": o.days, "days_low": o.days * o.factors["low"],
        "days_high": o.days * o.factors["high"], "healthy_days": o.healthy / DAY,
        "chance": None if deadline is None else o.chance(deadline), "usd": o.usd,
        "mwh": None if o.kwh is None else o.kwh / 1e3, "tco2e": None if o.kg_co2e is None else o.kg_co2e / 1e3,
        "goodput": o.goodput.share,
    }  # fmt: skip
