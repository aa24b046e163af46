"""``planner plan``: the search over layouts, and with ``--compress`` over what is done to the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.present.console import (
    Dirs,
    Format,
    HardwareArgument,
    ModelArgument,
    Output,
    SafeCsv,
    assumed_lines,
    looks,
    named,
    put,
    scenario_flags,
)

if TYPE_CHECKING:
    from planner.planning.plan import Plan

MOST_CHOICES = 40  # compression choices a table shows


@scenario_flags
def plan(
    model: ModelArgument,
    hardware: HardwareArgument,
    compress: Annotated[bool, typer.Option("--compress", help="search precision, sparsity and pruning too")] = False,
    top: Annotated[int, typer.Option("--top", min=1, max=1000, help="rows to show")] = 10,
    output: Output = None,
    fmt: Format = "table",
    safe_csv: SafeCsv = False,
    hardware_dir: Dirs = None,
    scenario: dict[str, Any] | None = None,
) -> None:
    """Search all layouts (and with --compress all compression choices) for the best that fits."""
    from datetime import date

    from planner.errors import InfeasibleError
    from planner.planning.plan import make_plan
    from planner.present.plans import infeasible

    with searching() as report:
        found = make_plan(named(model, hardware, scenario), compress=compress, top=top,
                          dirs=tuple(hardware_dir or ()), today=date.today(), progress=report)  # fmt: skip
    text = _text(found, fmt, safe_csv)
    if text:
        put(text, output)
    if found.best is None:
        raise InfeasibleError(infeasible(found))


def _text(found: Plan, fmt: str, safe: bool) -> str:
    from planner.present import plans
    from planner.present.tables import render, to_csv, to_json

    if fmt == "json":
        return to_json(plans.plan_json(found))
    if fmt == "csv":
        return to_csv(plans.plan_rows(found.rows), safe=safe) if found.rows else ""
    others = plans.alternative_rows(found)
    parts = _best(found, fmt)
    if others:
        parts += [render(others, fmt, **looks(fmt, "Best of every other tp, and what makes it slower")), ""]
    if found.choices:
        rows = plans.choice_rows(found.choices)[:MOST_CHOICES]
        parts += [render(rows, fmt, **looks(fmt, "Compression choices: leanest layout against capacity")), ""]
    if found.refused and found.best is not None:
        parts += [render(plans.refusal_rows(found.refused), fmt, **looks(fmt, "Refused")), ""]
    return "\n".join([*parts, *assumed_lines(found.assumed)])


def _best(found: Plan, fmt: str) -> list[str]:
    """The winner in a sentence, the layouts next to it, and where its time and memory go."""
    from planner.present import plans
    from planner.present.tables import render

    if found.best is None:
        return []
    tally = f"Best {len(found.rows)} of {found.fitting:,} that fit, {found.considered:,} considered"
    return [
        f"Best: {plans.answer(found.best)}", "",
        render(plans.shown_rows(found.rows), fmt, plans.plan_columns(found.rows), **looks(fmt, tally)), "",
        render(plans.time_rows(found.best), fmt, **looks(fmt, "Time of the best")), "",
        render(plans.memory_rows(found.best), fmt, **looks(fmt, "Memory of its fullest device")), "",
    ]  # fmt: skip


class searching:
    """A counter of layouts on stderr while a search runs, where that is a terminal."""

    def __enter__(self) -> Callable[[int, int], None] | None:
        import sys

        self.status: Any = None
        if not sys.stderr.isatty():
            return None
        from rich.console import Console

        self.status = Console(stderr=True).status("searching")
        self.status.start()

        def report(considered: int, fitting: int) -> None:
            self.status.update(f"searching: {considered:,} layouts, {fitting:,} fit")

        return report

    def __exit__(self, *_: object) -> None:
        if self.status is not None:
            self.status.stop()
