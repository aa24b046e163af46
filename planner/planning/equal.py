"""Equal terms: as many devices of each kind of hardware as cost as much, draw as much, or meet the same deadline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from planner.errors import BadInputError, PlannerError, unknown
from planner.planning.counts import comes_in, possible
from planner.planning.size import Question, size_training
from planner.scenario.keys import Value, parse_scenario
from planner.scenario.names import HardwareDirs, cluster_of
from planner.scenario.overrides import overrides
from planner.supply.cluster import Cluster
from planner.supply.cost import LISTED, Tariff, cluster_price
from planner.supply.power import mean_draw

TERMS = ("devices", "usd", "power", "deadline")
EQUAL = 0.01  # the share that may be left unspent by a kind of hardware that is still called equal
Held = dict[str, dict[str, int] | PlannerError]


@dataclass(frozen=True)
class Unspent:
    """What a kind of hardware leaves of the rent or the power of the first: its ``share`` (0 … 1), and why."""

    share: float
    why: str

    @property
    def equal(self) -> bool:
        return self.share < EQUAL


def equal_terms(
    given: Mapping[str, object], names: Sequence[str], terms: str, *, tariff: Tariff = LISTED,
    question: Question | None = None, dirs: HardwareDirs = (), folder: str | None = None, today: date,
) -> Held:  # fmt: skip
    """Keys that each kind of hardware is held to on equal terms, its devices above all; what has no price, no rated
    power or no answer keeps its fault.

    Parameters
    ----------
    given : mapping of scenario keys      ``devices`` are those of the first kind of hardware
    names : system or accelerator ids
    terms : devices, usd (the rent of an hour), power (of the nodes at work) or deadline
    question : what is trained by when    for ``deadline``, which takes the fewest devices that meet it

    Raises
    ------
    BadInputError
        Terms that are unknown, or lack what they need.
    """
    if terms not in TERMS:
        raise unknown("terms", terms, TERMS, where="equal")
    if terms == "deadline":
        return _by_deadline(given, names, question, dirs, folder, today)
    scenario = parse_scenario({k: v for k, v in given.items() if k != "hardware"})
    if "devices" not in scenario:
        raise BadInputError(f"equal: {terms} needs devices, which are those of the first kind of hardware")
    devices = int(scenario["devices"])
    if terms == "devices":
        return {name: {"devices": devices} for name in names}
    each = _each(scenario, terms, tariff, dirs, today)
    amount = devices * each(names[0])
    others = {name: _most(name, amount, each, scenario, dirs) for name in names[1:]}
    return {names[0]: {"devices": devices}, **others}


def unspent(
    given: Mapping[str, object], held: Held, terms: str, *, tariff: Tariff = LISTED, dirs: HardwareDirs = (),
    today: date,
) -> dict[str, Unspent]:  # fmt: skip
    """What each kind of hardware that :func:`equal_terms` gave devices leaves of the rent or the power of the first;
    empty for other terms, and without those that have a fault."""
    if terms not in ("usd", "power"):
        return {}
    scenario = parse_scenario({k: v for k, v in given.items() if k != "hardware"})
    each = _each(scenario, terms, tariff, dirs, today)
    counts = {name: keys["devices"] for name, keys in held.items() if not isinstance(keys, PlannerError)}
    first = next(iter(counts))
    amount = counts[first] * each(first)
    out = {}
    for name, n in counts.items():
        system = _one(name, scenario, dirs).system
        out[name] = Unspent(max(1.0 - n * each(name) / amount, 0.0), comes_in(system))
    return out


def _each(
    scenario: Mapping[str, Value], terms: str, tariff: Tariff, dirs: HardwareDirs, today: date
) -> Callable[[str], float]:  # fmt: skip
    """What one device of a kind costs an hour [USD], or draws at work [W]."""
    regime = "train" if scenario.get("task", "train") == "train" else "infer"

    def each(name: str) -> float:
        cluster = _one(name, scenario, dirs)
        return _rent(cluster, tariff, today) if terms == "usd" else _draw(cluster, regime)

    return each


def _one(name: str, scenario: Mapping[str, Value], dirs: HardwareDirs) -> Cluster:
    return cluster_of(name, 1, dirs, overrides(scenario))


def _rent(cluster: Cluster, tariff: Tariff, today: date) -> float:
    price = cluster_price(cluster, today=today, tariff=tariff)
    if price is None:
        raise BadInputError(f"{cluster.system.id}: no {tariff.words} price is known; give price, or compare by devices")
    return price.observation.usd_per_hour


def _draw(cluster: Cluster, regime: str) -> float:
    draw = mean_draw(cluster, regime)
    if draw is None:
        raise BadInputError(f"{cluster.system.id}: no source gives the rated power of {cluster.accelerator.id}")
    return draw.watts


def _most(
    name: str, amount: float, each: Callable[[str], float], scenario: Mapping[str, Value], dirs: HardwareDirs
) -> dict[str, int] | PlannerError:  # fmt: skip
    """The most devices within an amount that the system comes in, with the network that is given."""
    try:
        most = int(amount / each(name) * (1 + 1e-9))
        system = _one(name, scenario, dirs).system
        found = next((n for n in range(most, 0, -1) if possible(system, n)), None)
        if found is None:
            raise BadInputError(f"{name}: one device is beyond what the first kind of hardware takes")
        return {"devices": found}
    except PlannerError as error:
        return error


def _by_deadline(
    given: Mapping[str, object], names: Sequence[str], question: Question | None, dirs: HardwareDirs,
    folder: str | None, today: date,
) -> Held:  # fmt: skip
    if question is None or question.limits.deadline is None:
        raise BadInputError("equal: deadline needs tokens (or steps, or compute_optimal) and deadline")
    free = {k: v for k, v in given.items() if k not in ("hardware", "devices")}
    plain = replace(question, limits=replace(question.limits, budget=None))
    found: Held = {}
    for s in size_training(free, names, plain, dirs=dirs, folder=folder, today=today).sized:
        if s.fewest is None:
            found[s.hardware] = s.fault or BadInputError(f"{s.hardware}: no count of devices meets the deadline")
            continue
        batch = int(s.fewest.estimate.layout.global_batch[0])
        found[s.hardware] = {"devices": s.fewest.devices, "global_batch": batch}
    return found
