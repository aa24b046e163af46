"""``planner compare``: the best plan of one model on several kinds of hardware, side by side, on equal terms."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from planner.present.console import Dirs, Format, ModelArgument, Output, looks, put, scenario_flags

SHOWN = ("id", "devices", "layout", "step_time_s", "90 %", "tokens_per_s", "same_as_fastest", "mfu",
         "memory_peak_bytes", "usd_per_hour", "usd_per_million_tokens", "bound", "error")  # fmt: skip


@scenario_flags
def compare(
    model: ModelArgument,
    hardware: Annotated[list[str], typer.Argument(help="two or more system or accelerator ids")],
    equal: Annotated[
        str, typer.Option("--equal", help="devices, usd or power (what --devices of the first take), or deadline")
    ] = "devices",
    tokens: Annotated[str | None, typer.Option("--tokens", help="with --equal deadline: tokens to train on")] = None,
    deadline: Annotated[
        str | None, typer.Option("--deadline", help="with --equal deadline: wall clock, as 30d")
    ] = None,
    output: Output = None,
    fmt: Format = "table",
    hardware_dir: Dirs = None,
    scenario: dict[str, Any] | None = None,
) -> None:
    """Best plan of one model on several kinds of hardware, side by side."""
    from datetime import date

    from planner.errors import InfeasibleError
    from planner.planning.asked import asked
    from planner.planning.compare import compare_hardware
    from planner.planning.equal import equal_terms
    from planner.present.plans import comparison_rows
    from planner.present.tables import render

    given, dirs, today = {**(scenario or {}), "model": model}, tuple(hardware_dir or ()), date.today()
    held = None
    if equal != "devices":
        question = asked({"tokens": tokens, "deadline": deadline}) if tokens and deadline else None
        held = equal_terms(given, hardware, equal, question=question, dirs=dirs, today=today)
        given.pop("devices", None)
    found = compare_hardware(given, hardware, held=held, dirs=dirs, today=today)
    faults = [c.fault for c in found if c.fault is not None]
    if len(faults) == len(found):
        raise faults[0]
    rows = comparison_rows(found)
    if all(r["error"] for r in rows):
        raise InfeasibleError("; ".join(f"{r['id']}: {r['error']}" for r in rows))
    useless = {"same_as_fastest"} if equal == "deadline" else set()
    useless |= set() if any(r["error"] for r in rows) else {"error"}
    shown = [c for c in SHOWN if c not in useless]
    put(render(rows, fmt, shown, **looks(fmt)), output)
