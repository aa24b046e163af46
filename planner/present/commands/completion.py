"""``planner completion``: a script that completes verbs, flags, values and names in a shell."""

from __future__ import annotations

from argparse import Namespace

from planner.present.console import put
from planner.present.flags import Parser

SHELLS = ("bash", "zsh", "fish")
EXAMPLES = ('eval "$(planner completion bash)"', "planner completion fish > ~/.config/fish/completions/planner.fish")


def flags(parser: Parser) -> None:
    """What the verb takes."""
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def completion(args: Namespace) -> None:
    """Print a script that completes verbs, flags and names in bash, zsh or fish."""
    from planner.present.completion import script

    put(script(args.shell))
