"""``planner estimate``: one layout, or a file of scenarios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.errors import BadInputError, InfeasibleError
from planner.present.console import (
    HARDWARE_HELP,
    MODEL_HELP,
    Dirs,
    Format,
    Output,
    assumed_lines,
    looks,
    named,
    put,
    say,
    scenario_flags,
)

if TYPE_CHECKING:
    from planner.planning.estimate import Estimate


@scenario_flags
def estimate(
    model: Annotated[str | None, typer.Argument(help=MODEL_HELP)] = None,
    hardware: Annotated[str | None, typer.Argument(help=HARDWARE_HELP)] = None,
    scenarios: Annotated[str | None, typer.Option("--scenarios", help="CSV or YAML of scenarios, a row each")] = None,
    output: Output = None,
    figure: Annotated[str | None, typer.Option("--figure", help="draw memory or waterfall figure to this file")] = None,
    fmt: Format = "table",
    hardware_dir: Dirs = None,
    scenario: dict[str, Any] | None = None,
) -> None:
    """Estimate one layout, or a file of scenarios."""
    dirs = tuple(hardware_dir or ())
    if scenarios is None:
        text, fault = _one(named(model, hardware, scenario), figure, fmt, dirs)
        put(text, output)
        if fault:
            raise InfeasibleError(fault)
        return
    if model is not None or scenario:
        raise BadInputError("--scenarios: takes its keys from the file; leave MODEL, HARDWARE and the flags out")
    put(_file(scenarios, output, fmt, dirs))


def _one(given: Mapping[str, Any], figure: str | None, fmt: str, dirs: tuple[str, ...]) -> tuple[str, str]:
    """The answer, and why the engine does not start where it does not."""
    from datetime import date

    from planner.planning.estimate import estimate_scenario
    from planner.present.plans import answer, estimate_json, memory_rows, no_start, service_rows, time_rows
    from planner.present.tables import render, to_csv, to_json

    e = estimate_scenario(given, dirs=dirs, today=date.today())
    fault = no_start(e)
    if figure is not None:
        say(f"figure: {_draw(e, figure)}")
    if fmt == "json":
        return to_json([{"id": e.inputs["model"], **estimate_json(e)}]), fault
    if fmt == "csv":
        return to_csv([e.row | {"error": ""}]), fault
    return "\n".join([
        answer(e), "", *([render(service_rows(e), fmt, **looks(fmt, "Service")), ""] if service_rows(e) else []),
        render(time_rows(e), fmt, **looks(fmt, "Time")), "",
        render(memory_rows(e), fmt, **looks(fmt, "Memory of the fullest device")), "", *assumed_lines(e.assumed),
    ]), fault  # fmt: skip


def _draw(e: Estimate, path: str) -> str:
    """Memory stack or waterfall, by what the file is called: ``memory`` in its name, else the waterfall."""
    from pathlib import Path

    from planner.present.figures.ledgers import memory_figure, waterfall_figure
    from planner.present.figures.style import save
    from planner.present.plans import layout_text, titles

    if "memory" not in Path(path).stem:
        return str(save(waterfall_figure(e), path))
    return str(save(memory_figure({layout_text(e): e.memory}, capacity=e.capacity, **titles(e)), path))


def _file(path: str, output: str | None, fmt: str, dirs: tuple[str, ...]) -> str:
    """A file of scenarios in, a row each out, in order; bad rows carry their error."""
    from datetime import date
    from pathlib import Path

    from planner.planning.estimate import estimate_rows
    from planner.present.export import check_writable, progress, read_scenarios

    rows = read_scenarios(path)
    if output is not None:
        check_writable(output)
    results = estimate_rows(rows, dirs=dirs, folder=str(Path(path).resolve().parent), today=date.today())
    done = list(progress(results, len(rows), "estimating"))
    failed = sum(bool(r["error"]) for r in done)
    say(f"{len(done) - failed} of {len(done)} scenarios estimated" + (f", {failed} with an error" if failed else ""))
    return _answered(done, _columns([*rows, *done]), output, fmt)


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Scenario keys in their order, then the file's own columns, then the results."""
    from planner.planning.estimate import COLUMNS
    from planner.scenario.keys import KEYS

    inputs = [k for k in dict.fromkeys(k for r in rows for k in r) if k not in COLUMNS]
    return [*[k for k in KEYS if k in inputs], *[k for k in inputs if k not in KEYS], *COLUMNS]


def _answered(done: Sequence[Mapping[str, Any]], columns: Sequence[str], output: str | None, fmt: str) -> str:
    """The rows as text, or a line that says where they were written."""
    from planner.present.export import write_csv, write_text
    from planner.present.tables import render, to_csv, to_json

    if output is not None and fmt in ("csv", "table"):
        write_csv(output, done, columns)
        return f"{output}: {len(done)} rows"
    if fmt == "json":
        text = to_json([{"id": i, **r} for i, r in enumerate(done)])
    else:
        text = to_csv(done, columns).rstrip("\n") if fmt in ("csv", "table") else render(done, fmt, columns)
    if output is None:
        return text
    write_text(output, text)
    return f"{output}: {len(done)} rows"
