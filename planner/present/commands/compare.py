"""``planner compare``: the best plan of one model on several kinds of hardware, side by side."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from planner.present.console import Dirs, Format, ModelArgument, Output, looks, put, scenario_flags

SHOWN = ("id", "layout", "step_time_s", "tokens_per_s", "mfu", "memory_peak_bytes", "usd_per_hour",
         "usd_per_million_tokens", "bound", "error")  # fmt: skip


@scenario_flags
def compare(
    model: ModelArgument,
    hardware: Annotated[list[str], typer.Argument(help="two or more system or accelerator ids")],
    output: Output = None,
    fmt: Format = "table",
    hardware_dir: Dirs = None,
    scenario: dict[str, Any] | None = None,
) -> None:
    """Best plan of one model on several kinds of hardware, side by side."""
    from datetime import date

    from planner.errors import InfeasibleError
    from planner.planning.compare import compare_hardware
    from planner.present.plans import comparison_rows
    from planner.present.tables import render

    found = compare_hardware({**(scenario or {}), "model": model}, hardware, dirs=tuple(hardware_dir or ()),
                             today=date.today())  # fmt: skip
    faults = [c.fault for c in found if c.fault is not None]
    if len(faults) == len(found):
        raise faults[0]
    rows = comparison_rows(found)
    if all(r["error"] for r in rows):
        raise InfeasibleError("; ".join(f"{r['id']}: {r['error']}" for r in rows))
    shown = [c for c in SHOWN if c != "error" or any(r["error"] for r in rows)]
    put(render(rows, fmt, shown, **looks(fmt)), output)
