"""What a run has to keep, and which of several runs is best within it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from planner.planning.counts import octave_steps
from planner.planning.outlook import Outlook
from planner.planning.search import RANK_ERROR

PAYS = 0.5  # more devices stop paying where the last added bring less than this part of what the others do


@dataclass(frozen=True)
class Limits:
    """What a run has to keep: a ``deadline`` [s], with at least the chance ``sure`` if that is given, and a ``budget``
    [USD]; None where there is none."""

    deadline: float | None = None
    budget: float | None = None
    sure: float | None = None

    def on_time(self, o: Outlook) -> bool:
        """Whether a run meets the deadline, as expected or with the chance that is asked for."""
        if self.deadline is None:
            return True
        return o.seconds <= self.deadline if self.sure is None else o.chance(self.deadline) >= self.sure

    def affordable(self, o: Outlook) -> bool:
        """Whether a run is within the budget; one without a price is not known to be."""
        return self.budget is None or (o.usd is not None and o.usd <= self.budget)

    def kept(self, o: Outlook) -> bool:
        return self.on_time(o) and self.affordable(o)


def stops_paying(curve: Sequence[Outlook]) -> int | None:
    """The first count after which the devices added to reach the next bring less than half of what each before did.

    Counts are compared about an octave apart, so that a count that divides badly does not decide.
    """
    steps = octave_steps([o.devices for o in curve])
    at = {o.devices: o.tokens_per_s for o in curve}
    for here, there in pairwise(steps):
        added = (at[there] - at[here]) / (there - here)
        if added < PAYS * at[here] / here:
            return here
    return None


def best_of(curve: Sequence[Outlook], limits: Limits) -> Outlook | None:
    """Of those that keep the limits the cheapest, the one with fewest devices where none has a price; with a budget and
    no deadline the fastest."""
    kept = [o for o in curve if limits.kept(o)]
    if limits.deadline is None and limits.budget is not None:
        return min(kept, key=lambda o: o.seconds, default=None)
    return cheapest_of(kept)


def cheapest_of(curve: Sequence[Outlook]) -> Outlook | None:
    """The cheapest, or of those as cheap within the error of the order of layouts the one with fewest devices."""
    least = min(curve, key=_cost, default=None)
    if least is None:
        return None
    unknown, cost, _ = _cost(least)
    same = [o for o in curve if _cost(o)[0] == unknown and _cost(o)[1] <= cost * (1.0 + RANK_ERROR)]
    return min(same, key=lambda o: (o.devices, _cost(o)[1]))


def _cost(o: Outlook) -> tuple[bool, float, int]:
    return (o.usd is None, o.usd if o.usd is not None else o.devices * o.seconds, o.devices)
