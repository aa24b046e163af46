"""The verbs there are, the parser of each, and the page that lists them; only what is asked for is imported."""

from __future__ import annotations

import pkgutil
import textwrap
from importlib import import_module
from types import ModuleType

from planner.present import commands
from planner.present.console import page_width
from planner.present.flags import Parser

PURPOSE = "What will this Transformer cost on that hardware, and how should it be laid out?"


def verbs() -> list[str]:
    """All verbs: a file each."""
    return sorted(m.name for m in pkgutil.iter_modules(commands.__path__))


def parser_of(verb: str) -> tuple[ModuleType, Parser]:
    """A verb's file, and the parser of its flags."""
    module = import_module(f"{commands.__name__}.{verb}")
    parser = Parser(verb, getattr(module, verb).__doc__, getattr(module, "EXAMPLES", ()))
    module.flags(parser)
    return module, parser


def overview() -> str:
    """What the planner answers, its verbs, and how to go on."""
    lines = []
    for verb in verbs():
        text = getattr(import_module(f"{commands.__name__}.{verb}"), verb).__doc__ or ""
        lines += textwrap.wrap(text.strip().splitlines()[0], page_width() or 100, initial_indent=f"  {verb:<12}",
                               subsequent_indent=" " * 14)  # fmt: skip
    return "\n".join([
        PURPOSE, "", "usage: planner VERB MODEL HARDWARE [--KEY VALUE ...]", "", *lines, "",
        "  planner VERB --help   its flags, with examples", "  planner --version", "", "for example:",
        "  planner plan llama-3.1-70b dgx-h100 --devices 64 --global-batch 256",
        "  planner estimate llama-3.1-8b h100-sxm5-80gb --task decode --batch 32",
    ])  # fmt: skip
