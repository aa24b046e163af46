"""``planner check``: every catalogue file, all faults at once."""

from __future__ import annotations

from argparse import Namespace

from planner.present.console import put
from planner.present.flags import Parser

EXAMPLES = ("planner check",)


def flags(parser: Parser) -> None:
    """What the verb takes."""
    parser.add_argument("folder", nargs="*", metavar="FOLDER", help="of hardware profiles; the built-in if none")


def check(args: Namespace) -> None:
    """Validate every catalogue file; all faults at once, with file:line."""
    from planner.catalogue.check import check_catalogue
    from planner.errors import CatalogueError

    found = check_catalogue(args.folder)
    if found.faults:
        raise CatalogueError([*found.faults, f"{len(found.faults)} faults"])
    models = "" if args.folder else f", {found.models} models"
    put(f"ok: {found.accelerators} accelerators, {found.systems} systems{models}")
