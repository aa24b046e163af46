"""One model on several kinds of hardware: the best plan of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from planner.errors import BadInputError, PlannerError
from planner.planning.plan import Plan, make_plan
from planner.scenario.names import HardwareDirs


@dataclass(frozen=True)
class Compared:
    """One kind of hardware: its plan, whose ``best`` is None where nothing fits, or the fault that left none."""

    hardware: str
    plan: Plan | None
    fault: PlannerError | None = None


def compare_hardware(
    given: Mapping[str, object],
    names: Sequence[str],
    *,
    held: Mapping[str, Mapping[str, int] | PlannerError] | None = None,
    dirs: HardwareDirs = (),
    folder: str | None = None,
    today: date,
) -> list[Compared]:  # fmt: skip
    """The best plan of a scenario on each kind of hardware; one that cannot keeps its fault, the others are unharmed.

    Parameters
    ----------
    given : mapping of scenario keys      without ``hardware``
    names : system or accelerator ids     one by itself is a list of one
    held : keys of each of them           as :func:`planner.planning.equal.equal_terms` gives them, or their faults
    dirs, folder, today                   as for :func:`planner.planning.plan.make_plan`
    """
    each = [names] if isinstance(names, str) else list(names)
    if not each:
        raise BadInputError("hardware: no system or accelerator to compare is given; one or more ids are due")
    own = held or {}
    return [_one({**given, "hardware": name}, name, own.get(name, {}), dirs, folder, today) for name in each]


def _one(
    given: Mapping[str, object], name: str, held: Mapping[str, int] | PlannerError, dirs: HardwareDirs,
    folder: str | None, today: date,
) -> Compared:  # fmt: skip
    if isinstance(held, PlannerError):
        return Compared(name, None, held)
    try:
        return Compared(name, make_plan({**given, **held}, top=1, dirs=dirs, folder=folder, today=today))
    except PlannerError as error:
        return Compared(name, None, error)
