"""How many devices: the fewest, the cheapest and the fastest that meet a deadline or a budget, on each hardware.

Each count is a plan of its own: its row is what ``plan`` says of so many devices. Counts an octave apart come first,
then those between the picks and their neighbours that may be better; a short range is tried whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from math import ceil, exp, inf, log

from planner.catalogue.hardware import System
from planner.cost.runs import TrainingRun
from planner.demand.counts import forward_flops
from planner.errors import BadInputError, PlannerError
from planner.planning.counts import Asked, around, batch_for, comes_in, counts_between, octave_steps
from planner.planning.estimate import TRAIN_FACTOR, matmul_peak
from planner.planning.outlook import DAY, Outlook, Terms, outlook
from planner.planning.plan import best_plan
from planner.planning.search import RANK_ERROR
from planner.planning.size_limits import Limits, best_of, cheapest_of, stops_paying
from planner.planning.work import DEFAULT_BATCH_TOKENS, Amount, refuse_inference, tokens_of
from planner.scenario.keys import Value, parse_scenario
from planner.scenario.names import HardwareDirs, cluster_of
from planner.scenario.overrides import overrides
from planner.scenario.resolve import Resolved, resolve_run

MOST_DEVICES = (
    32768  # the largest count tried unasked: twice the 16,384 of Llama 3 405B, https://arxiv.org/abs/2407.21783
)
TRIED_WHOLE = 12  # counts of a range that are all tried
DOUBT = 0.1  # how much better than between its neighbours a count is taken to be at most, before it is tried
Report = Callable[[str, int], None]


@dataclass(frozen=True)
class Question:
    """How much is trained, within what, on which counts of devices; ``a_device`` sequences a device scale the batch
    with the devices (weak scaling), else it is the largest up to ``max_global_batch`` (strong scaling)."""

    amount: Amount
    limits: Limits = field(default_factory=Limits)
    counts: Asked = field(default_factory=Asked)
    max_global_batch: int | None = None
    a_device: int | None = None
    terms: Terms = field(default_factory=Terms)


@dataclass(frozen=True)
class Sized:
    """One kind of hardware: every count that was tried, and those picked, None where none will do.

    ``refused`` says of a count why it has no plan; ``fault`` why there is none at all.
    """

    hardware: str
    system: System | None = None
    curve: tuple[Outlook, ...] = ()
    refused: Mapping[int, str] = field(default_factory=dict)
    fewest: Outlook | None = None
    cheapest: Outlook | None = None
    fastest: Outlook | None = None
    fault: PlannerError | None = None

    @property
    def pays_to(self) -> int | None:
        """The count past which more devices stop paying; None where they pay as far as was tried."""
        return stops_paying(self.curve)


@dataclass(frozen=True)
class Sizing:
    """The answer on every kind of hardware; ``best`` is the cheapest that keeps the limits (:func:`best_of`)."""

    question: Question
    sized: tuple[Sized, ...]
    tokens: float
    notes: tuple[str, ...]

    @property
    def best(self) -> Outlook | None:
        return best_of([o for s in self.sized for o in s.curve], self.question.limits)


def size_training(
    given: Mapping[str, object], names: Sequence[str], question: Question, *, dirs: HardwareDirs = (),
    folder: str | None = None, today: date, progress: Report | None = None,
) -> Sizing:  # fmt: skip
    """Size a training run on each kind of hardware; one that cannot keeps its fault, the others are unharmed.

    Parameters
    ----------
    given : mapping of scenario keys      without ``hardware`` and ``devices``
    names : system or accelerator ids
    question : what is asked
    today : date                          only to say how old prices are

    Raises
    ------
    BadInputError
        Limits that contradict each other, or what no kind of hardware can take.
    """
    scenario = parse_scenario({**given, "task": given.get("task", "train")})
    _refuse(scenario, question, names)
    tokens, batch, notes = _workload(scenario, names, question, dirs, folder)
    tries = [_Tries(scenario, n, question, tokens, batch, dirs, folder, today, progress) for n in names]
    sized = tuple(t.answer() for t in tries)
    faults = [s.fault for s in sized if s.fault is not None]
    if len(faults) == len(sized):
        raise faults[0]
    return Sizing(question, sized, tokens, tuple(notes))


def _refuse(scenario: Mapping[str, Value], question: Question, names: Sequence[str]) -> None:
    """Limits that contradict each other, both named."""
    if not names:
        raise BadInputError("hardware: no system or accelerator is given; one or more ids are due")
    refuse_inference(scenario, names[0])
    held, most, each = scenario.get("global_batch"), question.max_global_batch, question.a_device
    if held is not None and most is not None and int(held) > most:
        raise BadInputError(f"global_batch: {held} given with max_global_batch {most}; the first is beyond the second")
    if each is not None and (held is not None or most is not None):
        other = "global_batch" if held is not None else "max_global_batch"
        raise BadInputError(f"sequences_per_device: {each} given with {other}; one of them says what the batch is")
    if each is not None and question.amount.steps is not None:
        raise BadInputError("steps: given with sequences_per_device; every count has another batch, so give tokens")
    if "dp" in scenario and len(question.counts.listed) != 1:
        raise BadInputError(f"dp: {scenario['dp']} given with more than one count of devices; leave dp to follow")
    if "price" in scenario and question.terms.tariff.owned is not None:
        raise BadInputError(f"price: {scenario['price']} given with capex; one of them says what a device costs")


def _workload(
    scenario: Mapping[str, Value], names: Sequence[str], question: Question, dirs: HardwareDirs, folder: str | None
) -> tuple[float, int, list[str]]:
    """Tokens to train on, the largest batch [sequences], and what of the two had to be assumed."""
    fault: PlannerError | None = None
    for name in names:
        try:
            resolved = resolve_run({**scenario, "hardware": name, "devices": 1}, dirs=dirs, folder=folder)
            break
        except PlannerError as error:
            fault = fault or error
    else:
        assert fault is not None
        raise fault
    seq_len = int(str(resolved.keys["seq_len"]))
    most = question.max_global_batch or scenario.get("global_batch")
    notes = []
    if most is None and question.a_device is None:
        most = max(DEFAULT_BATCH_TOKENS // seq_len, 1)
        notes.append(f"max_global_batch = {most} (4M tokens a step, as Llama 2, https://arxiv.org/abs/2307.09288)")
    batch = int(most or question.a_device or 1)
    tokens, why = tokens_of(question.amount, parameters=resolved.demand.active_parameters, batch=batch, seq_len=seq_len)
    if why:
        notes.append(f"tokens = {tokens:.4g} ({why})")
    return tokens, batch, notes


@dataclass
class _Tries:
    """The counts of one kind of hardware that have been tried."""

    scenario: Mapping[str, Value]
    name: str
    question: Question
    tokens: float
    batch: int
    dirs: HardwareDirs
    folder: str | None
    today: date
    progress: Report | None
    known: dict[int, Outlook] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)

    def answer(self) -> Sized:
        """Try the counts that decide, and pick."""
        try:
            system = cluster_of(self.name, 1, self.dirs, overrides(self.scenario)).system
            counts = self._counts(system)
            for n in self._first(counts):
                self._try(n)
            self._refine(counts)
        except PlannerError as error:
            return Sized(self.name, fault=error)
        curve = tuple(self.known[n] for n in sorted(self.known))
        fewest, cheapest, fastest = self._picks()
        return Sized(self.name, system, curve, dict(sorted(self.refused.items())), fewest, cheapest, fastest)

    def _counts(self, system: System) -> list[int]:
        """Counts to choose from; those that were listed are taken as they are."""
        asked = self.question.counts
        if asked.listed:
            return list(asked.listed)
        low, high = (asked.low, asked.high) if not asked.open else (self._least(), MOST_DEVICES)
        counts = counts_between(system, low, high)
        if not counts:
            raise BadInputError(f"devices: {system.id} has no count within {low} … {high}; {comes_in(system)}")
        return counts

    def _least(self) -> int:
        """The count from which it is worth looking unasked: fewer miss the deadline at peak FLOP/s, or have no room for
        the weights."""
        one = self._resolve(1)
        assert isinstance(one.run, TrainingRun)
        share = TRAIN_FACTOR - (1.0 if one.run.lora_rank else 0.0)
        flops = share * forward_flops(one.demand.model, seq_len=one.run.seq_len)["model"] / one.run.seq_len
        deadline = self.question.limits.deadline
        fast = flops * self.tokens / matmul_peak(one) / deadline if deadline else 1.0
        weights = 0.0 if one.run.lora_rank else one.demand.total_parameters * one.precision.bytes_of("weight")
        room = weights / one.cluster.accelerator.capacity
        return ceil(max(fast, room, 1.0))

    def _resolve(self, devices: int) -> Resolved:
        free = {k: v for k, v in self.scenario.items() if k != "global_batch"}
        return resolve_run({**free, "hardware": self.name, "devices": devices}, dirs=self.dirs, folder=self.folder)

    def _first(self, counts: list[int]) -> Iterator[int]:
        """Counts to try first: those of a list or a short range all, of a longer one an octave apart. Where none was
        asked for, as long as more devices pay, two octaves apart once the deadline is met."""
        asked = self.question.counts
        if not asked.open:
            yield from counts if asked.listed or len(counts) <= TRIED_WHOLE else octave_steps(counts)
            return
        last = 0
        for n in octave_steps(counts, ends=False):
            met = any(self.question.limits.on_time(o) for o in self.known.values())
            if met and n < 4 * last:
                continue
            yield n
            last = n
            if self._enough():
                return

    def _enough(self) -> bool:
        """Whether more devices have stopped paying, and would not bring what the limits still lack."""
        curve = [self.known[n] for n in sorted(self.known)]
        if len(curve) < 2:
            return False
        slower = curve[-1].seconds >= curve[-2].seconds
        met = any(self.question.limits.on_time(o) for o in curve)
        return slower or (met and stops_paying(curve) is not None)

    def _refine(self, counts: list[int]) -> None:
        """Try what lies between the picks and their neighbours and may be better, until no pick moves."""
        done: set[int] = set()
        tried = [n for n in counts if n <= max((*self.known, *self.refused), default=0)]
        while todo := {o.devices for o in self._picks() if o is not None} - done:
            for picked in sorted(todo):
                done.add(picked)
                between = around(tried, (*self.known, *self.refused), picked)
                for n in sorted(between, key=lambda n: self._order(n, picked)):
                    if self._promises(n):
                        self._try(n)

    def _promises(self, devices: int) -> bool:
        """Whether a count may be a better pick than those there are, by what lies between its neighbours.

        Device-seconds are taken as straight in the logarithm of the count, below the least that was tried as no fewer;
        of a count that would be a better answer by being smaller, or is beyond the budget, as off by :data:`DOUBT`, of
        others as they are, because a better one within the error of the order of layouts is no better.
        """
        limits, busy = self.question.limits, self._busy(devices)
        if busy is None:
            return True
        fewest, cheapest, fastest = self._picks()
        late = limits.deadline is not None and busy * (1.0 - DOUBT) / devices > limits.deadline
        fewer = fewest is not None and devices < fewest.devices and not late
        cheaper = cheapest is not None and not late and busy < cheapest.devices * cheapest.seconds * (1.0 - RANK_ERROR)
        sooner = fastest is not None and busy / devices < fastest.seconds * (1.0 - RANK_ERROR)
        return fewer or cheaper or (sooner and not self._dear(busy * (1.0 - DOUBT)))

    def _busy(self, devices: int) -> float | None:
        """Device-seconds that a count is expected to take by its neighbours; None where they say nothing."""
        below = [o for n, o in sorted(self.known.items()) if n < devices]
        above = [o for n, o in sorted(self.known.items()) if n > devices]
        if not above or (not below and self.question.limits.deadline is None):
            return None
        b = above[0]
        if not below:
            return b.devices * b.seconds
        a = below[-1]
        part = log(devices / a.devices) / log(b.devices / a.devices)
        return exp((1 - part) * log(a.devices * a.seconds) + part * log(b.devices * b.seconds))

    def _dear(self, busy: float) -> bool:
        """Whether so many device-seconds cost more than the budget, at the price of those that are known."""
        budget, one = self.question.limits.budget, next(iter(self.known.values()))
        if budget is None or one.usd is None or one.seconds == float("inf"):
            return False
        return busy * one.usd / (one.devices * one.seconds) > budget

    def _order(self, devices: int, picked: int) -> tuple[int, int]:
        """First what makes others not worth a try: of those below the picked the fewest that may be in time, then the
        most that may not; those above as they come."""
        busy, deadline = self._busy(devices), self.question.limits.deadline
        if devices > picked:
            return (2, devices)
        late = deadline is not None and busy is not None and busy / devices > deadline
        return (1, -devices) if late else (0, devices)

    def _picks(self) -> tuple[Outlook | None, Outlook | None, Outlook | None]:
        """The fewest and the cheapest that meet the deadline, the fastest within the budget, where there is one."""
        limits, curve = self.question.limits, [self.known[n] for n in sorted(self.known)]
        timely = [o for o in curve if limits.on_time(o)]
        fewest = min(timely, key=lambda o: o.devices, default=None) if limits.deadline is not None else None
        paid = [o for o in curve if limits.affordable(o)] if limits.budget is not None else []
        return fewest, cheapest_of(timely), min(paid, key=lambda o: o.seconds, default=None)

    def _try(self, devices: int) -> None:
        if devices in self.known or devices in self.refused:
            return
        if self.progress is not None:
            self.progress(self.name, devices)
        scenario = {**self.scenario, "hardware": self.name, "devices": devices, "global_batch": self._batch(devices)}
        try:
            best, found = best_plan(scenario, dirs=self.dirs, folder=self.folder, today=self.today)
        except BadInputError as error:
            if self.question.counts.listed and len(self.question.counts.listed) == 1:
                raise
            self.refused[devices] = str(error)
            return
        if best is None:
            self.refused[devices] = "nothing fits the memory" if found.miss is not None else "no layout is lawful"
            return
        found_out = outlook(best, self.tokens, self.question.terms, today=self.today)
        if not 0 < found_out.days < inf or found_out.tokens_per_s <= 0:
            self.refused[devices] = "it fails faster than it recovers"
            return
        self.known[devices] = found_out

    def _batch(self, devices: int) -> int:
        """Sequences of a step on so many devices."""
        if "global_batch" in self.scenario:
            return int(self.scenario["global_batch"])
        if self.question.a_device is not None:
            return self.question.a_device * devices
        return batch_for(devices, self.batch)


def nearest_miss(sizing: Sizing) -> tuple[Outlook | None, str]:
    """Where nothing keeps the limits, what comes nearest and which limit it misses by how much."""
    limits, curve = sizing.question.limits, [o for s in sizing.sized for o in s.curve]
    if not curve:
        return None, "memory"

    def over(o: Outlook) -> tuple[float, float]:
        late = o.seconds / limits.deadline if limits.deadline else 0.0
        dear = (o.usd / limits.budget if o.usd is not None else float("inf")) if limits.budget else 0.0
        return max(late, dear), late

    near = min(curve, key=over)
    both, late = over(near)
    if limits.deadline and limits.sure and late <= 1.0 and not limits.on_time(near):
        return near, f"the deadline: made with a chance of {near.chance(limits.deadline):.0%} of {limits.sure:.0%}"
    if limits.deadline and late >= both:
        return near, f"the deadline: {near.days:.1f} days of {limits.deadline / DAY:.1f}"
    if near.usd is None:
        return near, "the budget: no price is known"
    return near, f"the budget: {near.usd:,.0f} USD of {limits.budget:,.0f}"
