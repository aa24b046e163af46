"""What the verbs share: their common flags, a flag for every scenario key, and where data and talk go."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, get_type_hints

import typer

from planner.errors import legible

MODEL_HELP, HARDWARE_HELP = "model id, config.json or YAML", "system or accelerator id"


def _known_format(name: str) -> str:
    from planner.present.tables import check_format

    return check_format(name)


Format = Annotated[str, typer.Option("--format", help="table, csv, json or markdown", callback=_known_format)]
SafeCsv = Annotated[bool, typer.Option("--safe-csv", help="in CSV, an apostrophe before what looks like a formula")]
Dirs = Annotated[list[str] | None, typer.Option("--hardware-dir", help="folder of your own hardware profiles")]
Output = Annotated[str | None, typer.Option("-o", "--output", help="write here instead of stdout")]
ModelArgument = Annotated[str, typer.Argument(help=MODEL_HELP)]
HardwareArgument = Annotated[str, typer.Argument(help=HARDWARE_HELP)]


@functools.cache
def _scenario_flags() -> tuple[inspect.Parameter, ...]:
    """A flag for every scenario key but the two that stand as arguments; made once, for all verbs."""
    from planner.scenario.keys import KEYS

    return tuple(
        inspect.Parameter(
            k.name, inspect.Parameter.KEYWORD_ONLY, default=None,
            annotation=Annotated[
                str | None, typer.Option(f"--{k.name.replace('_', '-')}", help=_flag_help(k.help, k.choices))
            ],
        )
        for k in KEYS.values() if k.name not in ("model", "hardware")
    )  # fmt: skip


def scenario_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a flag for every scenario key; it receives them as ``scenario``, those given only."""
    hints = get_type_hints(command, include_extras=True)
    own = [p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY)
           for p in inspect.signature(command).parameters.values() if p.name != "scenario"]  # fmt: skip
    flags = _scenario_flags()

    @functools.wraps(command)
    def wrapper(**given: Any) -> None:
        scenario = {f.name: given.pop(f.name) for f in flags}
        command(**given, scenario={k: v for k, v in scenario.items() if v is not None})

    wrapper.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in (*own, *flags)}
    return wrapper


def _flag_help(text: str, choices: tuple[str, ...]) -> str:
    return f"{text} ({' | '.join(choices)})" if choices else text


def named(model: str | None, hardware: str | None, scenario: Mapping[str, Any] | None) -> dict[str, Any]:
    """Positional names and flags as one scenario."""
    out = dict(scenario or {})
    return out | {k: v for k, v in (("model", model), ("hardware", hardware)) if v is not None}


def say(text: str) -> None:
    """Talk, to stderr; what a user's names hold that no terminal should obey is escaped."""
    typer.echo("\n".join(legible(line) for line in text.split("\n")), err=True)


def put(text: str, output: str | None = None) -> None:
    """Data, to stdout or a file."""
    if output is None:
        typer.echo(text)
        return
    from planner.present.export import write_text

    write_text(output, text)


def looks(fmt: str, title: str = "") -> dict[str, Any]:
    """How :func:`planner.present.tables.render` draws here: title, width and colour, for tables of a terminal only."""
    if fmt != "table":
        return {}
    import shutil

    terminal = sys.stdout.isatty()
    return {"title": title, "width": max(shutil.get_terminal_size((160, 40)).columns, 80) if terminal else 0,
            "color": terminal and "NO_COLOR" not in os.environ}  # fmt: skip


def assumed_lines(notes: Sequence[str]) -> list[str]:
    """What was assumed, a line each, under a heading."""
    return ["Assumed:", *(f"  {legible(n)}" for n in notes)] if notes else []
