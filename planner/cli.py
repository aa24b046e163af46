"""The command line: ``planner VERB MODEL HARDWARE --flags``. Data to stdout, talk to stderr; it computes nothing.

The verbs are the files of :mod:`planner.present.commands`.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Annotated, Any

import typer

from planner.errors import LONGEST, PlannerError, internal, legible, nearest
from planner.present import commands
from planner.present.console import say

app = typer.Typer(
    name="planner",
    help="What will this Transformer cost on that hardware, and how should it be laid out?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _verb in sorted(m.name for m in pkgutil.iter_modules(commands.__path__)):
    app.command(_verb)(getattr(import_module(f"{commands.__name__}.{_verb}"), _verb))


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    """What will this Transformer cost on that hardware, and how should it be laid out?"""
    if version:
        from planner import __version__

        typer.echo(__version__)
        raise typer.Exit


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code: 0 ok, 1 infeasible, 2 bad input, 3 a fault of the planner itself."""
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
        return 141
    except OSError as error:
        say(f"planner: {error.filename or 'output'}: {error.strerror}")
        return 2
    except Exception as error:
        # A usage error comes from click or from typer's own copy of it, by version; both can word themselves.
        if hasattr(error, "format_message"):
            say(f"planner: {_usage(error, arguments)}")
            return 2
        fault = internal(error)
        say(f"planner: {fault}")
        return fault.exit_code


def _usage(error: Any, arguments: list[str]) -> str:
    """A usage error in one line, with the nearest flags or verbs."""
    text = legible(" ".join(str(error.format_message()).split()).rstrip("."), most=LONGEST)
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
