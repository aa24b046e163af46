"""``planner roofline``: operators against the roofs, as a table and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from planner.present.console import (
    Dirs,
    Format,
    HardwareArgument,
    ModelArgument,
    Output,
    looks,
    named,
    put,
    say,
    scenario_flags,
)

if TYPE_CHECKING:
    from planner.cost.points import Point

SHOWN = ("phase", "name", "kernel", "dtype", "intensity", "flops", "bytes", "time_s", "share", "achieved", "bound",
         "count")  # fmt: skip


@scenario_flags
def roofline(
    model: ModelArgument,
    hardware: HardwareArgument,
    output: Output = None,
    fmt: Format = "table",
    hardware_dir: Dirs = None,
    scenario: dict[str, Any] | None = None,
) -> None:
    """Operators against the roofs: a table, and with -o a figure (.svg, .pdf, .png)."""
    from datetime import date

    from planner.cost.points import points, violations
    from planner.cost.roofs import roofs
    from planner.planning.estimate import estimate_scenario

    e = estimate_scenario(named(model, hardware, scenario), dirs=tuple(hardware_dir or ()), today=date.today())
    found, lines = points(e.job), roofs(e.job)
    for p in violations(found, lines):
        say(f"warning: {p.name} lies above its roof; please report this")
    if output is not None:
        from planner.present.figures.roofline import roofline_figure
        from planner.present.figures.style import save
        from planner.present.plans import titles

        say(f"figure: {save(roofline_figure(found, lines, **titles(e)), output)}")
    put(_table(found, fmt))


def _table(found: Sequence[Point], fmt: str) -> str:
    from planner.present.tables import render
    from planner.units import format_quantity as q

    rows = [{"id": f"{p.phase}.{p.name}", **vars(p)} for p in sorted(found, key=lambda p: -p.share)]
    if fmt in ("json", "csv"):
        return render(rows, fmt)
    rows = [{**r, "time_s": r["time"], "achieved": q(r["achieved_flops"], "FLOP/s")} for r in rows]
    return render(rows, fmt, SHOWN, **looks(fmt))
