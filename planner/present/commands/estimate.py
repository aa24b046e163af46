"""``planner estimate``: one layout, or a file of scenarios."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.errors import BadInputError, InfeasibleError, InternalError
from planner.present.console import (
    HARDWARE_HELP,
    MODEL_HELP,
    Dirs,
    Format,
    Output,
    SafeCsv,
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
    safe_csv: SafeCsv = False,
    hardware_dir: Dirs = None,
    scenario: dict[str, Any] | None = None,
) -> None:
    """Estimate one layout, or a file of scenarios."""
    dirs = tuple(hardware_dir or ())
    if scenarios is None:
        text, fault = _one(named(model, hardware, scenario), figure, fmt, dirs, safe_csv)
        put(text, output)
        if fault:
            raise InfeasibleError(fault)
        return
    if model is not None or scenario:
        raise BadInputError("--scenarios: takes its keys from the file; leave MODEL, HARDWARE and the flags out")
    text, fault = _file(scenarios, output, fmt, dirs, safe_csv)
    put(text)
    if fault:
        raise InternalError(fault)


def _one(given: Mapping[str, Any], figure: str | None, fmt: str, dirs: tuple[str, ...], safe: bool) -> tuple[str, str]:
    """The answer, and why the engine does not start where it does not."""
    from datetime import date

    from planner.planning.estimate import estimate_scenario
    from planner.present.plans import answer, estimate_json, memory_rows, no_start, time_rows
    from planner.present.tables import render, to_csv, to_json

    e = estimate_scenario(given, dirs=dirs, today=date.today())
    fault = no_start(e)
    if figure is not None:
        say(f"figure: {_draw(e, figure)}")
    if fmt == "json":
        return to_json([{"id": e.inputs["model"], **estimate_json(e)}]), fault
    if fmt == "csv":
        return to_csv([e.row | {"error": ""}], safe=safe), fault
    return "\n".join([
        answer(e), "", render(time_rows(e), fmt, **looks(fmt, "Time")), "",
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


def _file(path: str, output: str | None, fmt: str, dirs: tuple[str, ...], safe: bool) -> tuple[str, str]:
    """A file of scenarios in, a row each out, in order; bad rows carry their error. Beside the text, how many rows the
    planner itself failed at."""
    from pathlib import Path

    from planner.present.export import check_writable, progress
    from planner.present.scenario_file import read_scenarios

    rows = read_scenarios(path)
    if output is not None:
        check_writable(output)
    done = list(progress(_estimated(rows, output, dirs, str(Path(path).resolve().parent)), len(rows), "estimating"))
    failed = sum(bool(r["error"]) for r in done)
    say(f"{len(done) - failed} of {len(done)} scenarios estimated" + (f", {failed} with an error" if failed else ""))
    crashed = sum(str(r["error"]).startswith("internal error") for r in done)
    return _answered(done, _columns([*rows, *done]), output, fmt, safe), f"in {crashed} rows" if crashed else ""


def _estimated(
    rows: Sequence[Mapping[str, Any]], output: str | None, dirs: tuple[str, ...], folder: str
) -> Iterable[Mapping[str, Any]]:
    """Answers as they come; where they go to a file, those of a run that was cut short are taken up."""
    from datetime import date

    from planner.files import is_replaced
    from planner.planning.estimate import estimate_rows
    from planner.present.resume import resumed

    def estimated(some: Iterable[Mapping[str, object]]) -> Iterable[Mapping[str, object]]:
        return estimate_rows(some, dirs=dirs, folder=folder, today=date.today())

    if output is None or not is_replaced(output):
        return estimated(rows)
    return resumed(rows, output, estimated, dirs=dirs, folder=folder)


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Scenario keys in their order, then the file's own columns, then the results."""
    from planner.planning.estimate import COLUMNS
    from planner.scenario.keys import KEYS

    inputs = [k for k in dict.fromkeys(k for r in rows for k in r) if k not in COLUMNS]
    return [*[k for k in KEYS if k in inputs], *[k for k in inputs if k not in KEYS], *COLUMNS]


def _answered(
    done: Sequence[Mapping[str, Any]], columns: Sequence[str], output: str | None, fmt: str, safe: bool
) -> str:
    """The rows as text, or a line that says where they were written."""
    from planner.present.export import write_text
    from planner.present.resume import finished
    from planner.present.tables import render, to_csv, to_json

    if fmt == "json":
        text = to_json([{"id": i, **r} for i, r in enumerate(done)])
    else:
        text = to_csv(done, columns, safe=safe).rstrip("\n") if fmt in ("csv", "table") else render(done, fmt, columns)
    if output is None:
        return text
    write_text(output, text)
    finished(output)
    return f"{output}: {len(done)} rows"
