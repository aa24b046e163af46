"""One model on several kinds of hardware: the best plan of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from planner.errors import BadInputError, PlannerError, internal
from planner.planning.plan import Plan, make_plan
from planner.planning.search import Progress
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
    progress: Progress | None = None,
) -> list[Compared]:
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
    return [_one({**given, "hardware": n}, n, own.get(n, {}), dirs, folder, today, progress) for n in each]


def _one(
    given: Mapping[str, object], name: str, held: Mapping[str, int] | PlannerError, dirs: HardwareDirs,
    folder: str | None, today: date, progress: Progress | None,
) -> Compared:  # fmt: skip
    if isinstance(held, PlannerError):
        return Compared(name, None, held)
    try:
        return Compared(
            name, make_plan({**given, **held}, top=1, dirs=dirs, folder=folder, today=today, progress=progress)
        )
    except Exception as error:
        return Compared(name, None, internal(error))


def alike(compared: Sequence[Compared]) -> dict[str, tuple[str, ...]]:
    """Kinds of hardware by name, with those whose 90 % intervals of the step time overlap theirs."""
    spans = {c.hardware: _span(c.plan) for c in compared if c.plan is not None and c.plan.best is not None}
    return {name: tuple(n for n, (a, b) in spans.items() if n != name and a <= high and low <= b)
            for name, (low, high) in spans.items()}  # fmt: skip


def _span(plan: Plan) -> tuple[float, float]:
    assert plan.best is not None
    results = plan.best.results
    return float(str(results["step_time_low_s"])), float(str(results["step_time_high_s"]))


def told_apart(compared: Sequence[Compared], unequal: Collection[str] = ()) -> str:
    """Which kinds of hardware cannot be told apart by their step time, in a sentence; empty where there is but one.

    Those on ``unequal`` terms are left out: a difference from them says nothing.
    """
    overlapping = alike([c for c in compared if c.hardware not in unequal])
    pairs = list(dict.fromkeys(tuple(sorted((a, b))) for a, others in overlapping.items() for b in others))
    if len(overlapping) < 2:
        return ""
    if not pairs and unequal:
        return "Those on equal terms can be told apart: no two 90 % intervals overlap."
    if not pairs:
        return "All can be told apart: no two 90 % intervals overlap."
    if len(pairs) == len(overlapping) * (len(overlapping) - 1) // 2:
        which = f"{' and '.join(overlapping)} cannot" if unequal else "None can"
        return f"{which} be told apart: their 90 % intervals overlap."
    return f"Cannot be told apart, as their 90 % intervals overlap: {'; '.join(f'{a} and {b}' for a, b in pairs)}."
