"""``planner check``: every catalogue file, all faults at once."""

from __future__ import annotations

from typing import Annotated

import typer

from planner.present.console import put


def check(
    folder: Annotated[
        list[str] | None, typer.Argument(help="folders of hardware profiles; the built-in if none")
    ] = None,
) -> None:
    """Validate every catalogue file; all faults at once, with file:line."""
    from planner.catalogue.check import check_catalogue
    from planner.errors import CatalogueError

    found = check_catalogue(folder or [])
    if found.faults:
        raise CatalogueError([*found.faults, f"{len(found.faults)} faults"])
    models = "" if folder else f", {found.models} models"
    put(f"ok: {found.accelerators} accelerators, {found.systems} systems{models}")
