"""The command line: ``planner VERB MODEL HARDWARE --flags``. Data to stdout, talk to stderr; it computes nothing."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from planner.errors import BadInputError, InfeasibleError, PlannerError, nearest

app = typer.Typer(
    name="planner",
    help="What will this Transformer cost on that hardware, and how should it be laid out?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Format = Annotated[str, typer.Option("--format", help="table, csv, json or markdown")]
Dirs = Annotated[list[str] | None, typer.Option("--hardware-dir", help="folder of your own hardware profiles")]
Output = Annotated[str | None, typer.Option("-o", "--output", help="write here instead of stdout")]
MODEL_HELP, HARDWARE_HELP = "model id, config.json or YAML", "system or accelerator id"
ModelArgument = Annotated[str, typer.Argument(help=MODEL_HELP)]
HardwareArgument = Annotated[str, typer.Argument(help=HARDWARE_HELP)]


def scenario_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a flag for every scenario key; it receives them as ``scenario``, those given only."""
    from planner.plan.scenario import KEYS

    hints = get_type_hints(command, include_extras=True)
    own = [p.replace(annotation=hints[p.name]) for p in inspect.signature(command).parameters.values()
           if p.name != "scenario"]  # fmt: skip
    flags = [
        inspect.Parameter(
            k.name, inspect.Parameter.KEYWORD_ONLY, default=None,
            annotation=Annotated[
                str | None, typer.Option(f"--{k.name.replace('_', '-')}", help=_flag_help(k.help, k.choices))
            ],
        )
        for k in KEYS.values() if k.name not in ("model", "hardware")
    ]  # fmt: skip

    @functools.wraps(command)
    def wrapper(**given: Any) -> None:
        scenario = {f.name: given.pop(f.name) for f in flags}
        command(**given, scenario={k: v for k, v in scenario.items() if v is not None})

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + flags
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapper


def _flag_help(text: str, choices: tuple[str, ...]) -> str:
    return f"{text} ({' | '.join(choices)})" if choices else text


def say(text: str) -> None:
    """Talk, to stderr."""
    typer.echo(text, err=True)


def put(text: str, output: str | None = None) -> None:
    """Data, to stdout or a file."""
    if output is None:
        typer.echo(text)
        return
    from planner.present.export import write_text

    write_text(output, text)


def _style() -> dict[str, Any]:
    """Width and colour of tables: colour only on a terminal that wants it."""
    import shutil

    terminal = sys.stdout.isatty()
    return {"width": max(shutil.get_terminal_size((160, 40)).columns, 80) if terminal else 0,
            "color": terminal and "NO_COLOR" not in os.environ}  # fmt: skip


@app.command()
def hardware(
    id: Annotated[str | None, typer.Argument(help=HARDWARE_HELP)] = None,
    systems: Annotated[bool, typer.Option("--systems", help="list systems instead of accelerators")] = False,
    fmt: Format = "table",
    hardware_dir: Dirs = None,
) -> None:
    """List accelerators or systems, or show every figure of one with its source."""
    from planner.present.commands import show_hardware

    put(show_hardware(id, systems=systems, fmt=fmt, dirs=hardware_dir or [], style=_style()))


@app.command()
def models(
    id: Annotated[str | None, typer.Argument(help="model id")] = None,
    supported: Annotated[bool, typer.Option("--supported", help="list model types and their classes instead")] = False,
    fmt: Format = "table",
) -> None:
    """List the models, or show one with its published size beside the count."""
    from planner.present.commands import show_models, show_supported

    if supported:
        put(show_supported(fmt=fmt, style=_style()))
        return
    put(show_models(id, fmt=fmt, style=_style()))


@app.command()
def summary(
    model: ModelArgument,
    batch: Annotated[int, typer.Option("--batch", min=1, max=10**6)] = 1,
    seq_len: Annotated[int | None, typer.Option("--seq-len", min=1, max=10**8)] = None,
    class_name: Annotated[str | None, typer.Option("--class", help="architecture class to count")] = None,
    fmt: Format = "table",
) -> None:
    """Layer table of a model: parameters, FLOPs, bytes and activation memory. No hardware in it."""
    from planner.present.commands import show_summary

    put(show_summary(model, batch=batch, seq_len=seq_len, fmt=fmt, style=_style(), class_name=class_name))


@app.command()
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
    from planner.present import commands

    dirs = hardware_dir or []
    if scenarios is not None:
        if model is not None or scenario:
            raise BadInputError("--scenarios: takes its keys from the file; leave MODEL, HARDWARE and the flags out")
        put(commands.run_scenarios(scenarios, output=output, fmt=fmt, dirs=dirs, say=say), None)
        return
    given = commands.named(model, hardware, scenario or {})
    put(commands.show_estimate(given, fmt=fmt, dirs=dirs, figure=figure, style=_style(), say=say), output)


@app.command()
@scenario_flags
def plan(
    model: ModelArgument,
    hardware: HardwareArgument,
    compress: Annotated[bool, typer.Option("--compress", help="search precision, sparsity and pruning too")] = False,
    top: Annotated[int, typer.Option("--top", min=1, max=1000, help="rows to show")] = 10,
    output: Output = None,
    fmt: Format = "table",
    hardware_dir: Dirs = None,
    scenario: dict[str, Any] | None = None,
) -> None:
    """Search all layouts (and with --compress all compression choices) for the best that fits."""
    from planner.present import commands

    given = commands.named(model, hardware, scenario or {})
    text, failure = commands.show_plan(given, compress=compress, top=top, fmt=fmt, dirs=hardware_dir or [],
                                       style=_style(), say=say)  # fmt: skip
    if text:
        put(text, output)
    if failure:
        raise InfeasibleError(failure)


@app.command()
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
    from planner.present import commands

    put(commands.show_compare(model, hardware, scenario or {}, fmt=fmt, dirs=hardware_dir or [], style=_style(),
                              say=say), output)  # fmt: skip


@app.command()
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
    from planner.present import commands

    given = commands.named(model, hardware, scenario or {})
    put(commands.show_roofline(given, output=output, fmt=fmt, dirs=hardware_dir or [], style=_style(), say=say))


@app.command()
def validate(
    fmt: Format = "table",
    figure: Annotated[str | None, typer.Option("--figure", help="draw predicted against measured to this file")] = None,
    write: Annotated[
        str | None, typer.Option("--write", help="checkout to write intervals and the README into")
    ] = None,
) -> None:
    """Re-predict the published runs that ship with the planner: error by source, chip and regime."""
    from planner.present import validation

    if write is not None:
        from pathlib import Path

        put("\n".join(str(p) for p in validation.write_generated(Path(write))))
        return
    put(validation.show_validation(fmt=fmt, figure=figure, style=_style(), say=say))


@app.command()
def calibrate(
    kernels: Annotated[str, typer.Argument(help="CSV of measured matmuls: gpu, dtype, m, n, k, time_us")],
    hardware_dir: Dirs = None,
) -> None:
    """Fit efficiencies to your own measured matmuls, as a block for a hardware profile."""
    from planner.present.commands import run_calibrate

    put(run_calibrate(kernels, dirs=hardware_dir or []))


@app.command()
def check(
    folder: Annotated[
        list[str] | None, typer.Argument(help="folders of hardware profiles; the built-in if none")
    ] = None,
) -> None:
    """Validate every catalogue file; all faults at once, with file:line."""
    from planner.present.commands import run_check

    put(run_check(folder or []))


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    """What will this Transformer cost on that hardware, and how should it be laid out?"""
    if version:
        from planner import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; every error a user can cause is one clear line on stderr and an exit code."""
    raise SystemExit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code: 0 ok, 1 infeasible, 2 bad input."""
    command = typer.main.get_command(app)
    try:
        result = command.main(args=arguments, prog_name="planner", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except PlannerError as error:
        say(f"planner: {error}")
        return error.exit_code
    except typer.Abort:
        say("planner: interrupted")
        return 130
    except typer.Exit as error:
        return int(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        # A usage error comes from click or from typer's own copy of it, by version; both can word themselves.
        if not hasattr(error, "format_message"):
            raise
        say(f"planner: {_usage(error, arguments)}")
        return 2


def _usage(error: Any, arguments: list[str]) -> str:
    """A usage error in one line, with the nearest flags or verbs."""
    text = " ".join(str(error.format_message()).split()).rstrip(".")
    context = getattr(error, "ctx", None)
    if context is not None:
        flags = [o for p in context.command.params for o in getattr(p, "opts", []) if o.startswith("--")]
        verbs = list(getattr(context.command, "commands", {}))
        wrong = getattr(error, "option_name", None) or next((a for a in arguments if a not in verbs), "")
        known = flags if str(wrong).startswith("-") else verbs
        close = nearest(str(wrong), known)
        if close and "Did you mean" not in text and "possible" not in text.lower():
            text += f"; nearest: {', '.join(close)}"
        text += f"; see: planner {context.info_name if context.parent else ''} --help".replace("  ", " ")
    return text
