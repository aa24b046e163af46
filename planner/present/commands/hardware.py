"""``planner hardware``: accelerators and systems, and every figure of one with its source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from planner.present.console import HARDWARE_HELP, Dirs, Format, looks, put


def hardware(
    id: Annotated[str | None, typer.Argument(help=HARDWARE_HELP)] = None,
    systems: Annotated[bool, typer.Option("--systems", help="list systems instead of accelerators")] = False,
    fmt: Format = "table",
    hardware_dir: Dirs = None,
) -> None:
    """List accelerators or systems, or show every figure of one with its source."""
    dirs = hardware_dir or []
    put(_listed(systems, fmt, dirs) if id is None else _shown(id, fmt, dirs))


def _listed(systems: bool, fmt: str, dirs: Sequence[str]) -> str:
    from planner.present import catalogue
    from planner.present.tables import render

    rows = catalogue.system_rows(dirs) if systems else catalogue.accelerator_rows(dirs)
    return render([_with_units(r) if fmt in ("table", "markdown") else r for r in rows], fmt, **looks(fmt))


def _with_units(row: Mapping[str, Any]) -> dict[str, Any]:
    from planner.units import format_quantity as q

    out = dict(row)
    for k, v in row.items():
        if v is not None and (k.endswith("bandwidth") or k == "link"):
            out[k] = q(float(v), "byte/s")
        elif v is not None and k.endswith("_flops"):
            out[k] = q(float(v), "FLOP/s", digits=4)
        elif v is not None and k == "power":
            out[k] = q(float(v), "W")
    return {k: "" if v is None else v for k, v in out.items()}


def _shown(id: str, fmt: str, dirs: Sequence[str]) -> str:
    from planner.catalogue.loader import load_accelerator, resolve_hardware
    from planner.present import catalogue
    from planner.present.tables import render, to_csv, to_json

    chip, system = resolve_hardware(id, dirs or None)
    figures = catalogue.figure_rows(load_accelerator(chip.id, dirs or None))
    joined = catalogue.system_figure_rows(system)
    if fmt == "json":
        return to_json([{"id": chip.id, "name": chip.name, "aliases": chip.aliases, "device_is": chip.device_is,
                         "figures": figures, "conflicts": chip.conflicts,
                         "system": {"id": system.id, "name": system.name, "figures": joined}}])  # fmt: skip
    if fmt == "csv":
        return to_csv([{"of": chip.id, **r} for r in figures] + [{"of": system.id, **r} for r in joined])
    columns = ["figure", "value", "basis", "source"]
    parts = [f"{chip.name} ({chip.id}): a device is a {chip.device_is}; system {system.id} ({system.name}).",
             render(figures, fmt, columns, **looks(fmt)),
             render(joined, fmt, columns, **looks(fmt, system.id)) if joined else ""]  # fmt: skip
    if chip.conflicts:
        parts.append("Other values seen:\n" + "\n".join(f"  {c}" for c in chip.conflicts))
    return "\n\n".join(p for p in parts if p)
