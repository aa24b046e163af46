"""The command line: ``planner VERB MODEL HARDWARE --flags``. Data to stdout, talk to stderr; it computes nothing.

The verbs are the files of :mod:`planner.present.commands`.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from planner.errors import PlannerError, internal, unknown
from planner.present.console import put, say
from planner.present.verbs import overview, parser_of, verbs


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code: 0 ok, 1 infeasible, 2 bad input, 3 a fault of the planner itself."""
    try:
        return _run(arguments)
    except PlannerError as error:
        say(f"planner: {error}")
        return error.exit_code
    except SystemExit as error:  # argparse, after it printed its help
        return int(error.code or 0)
    except KeyboardInterrupt:
        say("planner: interrupted")
        return 130
    except BrokenPipeError:
        with suppress(OSError, ValueError):  # so that what is left of the output is not tried again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        say(f"planner: {error.filename or 'output'}: {error.strerror}")
        return 2
    except Exception as error:
        fault = internal(error)
        say(f"planner: {fault}")
        return fault.exit_code


def _run(arguments: list[str]) -> int:
    verb, *rest = arguments or ["--help"]
    if verb in ("--help", "-h", "help") and not rest:
        put(overview())
        return 0
    if verb == "--version":
        from planner import __version__

        put(__version__)
        return 0
    if verb == "help":
        verb, rest = rest[0], ["--help"]
    if verb not in verbs():
        raise unknown("flag" if verb.startswith("-") else "verb", verb, [*verbs(), "--help", "--version"])
    module, parser = parser_of(verb)
    code = getattr(module, verb)(parser.parse_intermixed_args(rest))
    return int(code or 0)
