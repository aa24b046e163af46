"""``planner models``: the catalogue of models, and one with its published size beside the count."""

from __future__ import annotations

from typing import Annotated

import typer

from planner.present.console import Format, looks, put

SHOWN = ("id", "family", "layers", "hidden", "parameters", "active", "published", "weight_dtype")


def models(
    id: Annotated[str | None, typer.Argument(help="model id")] = None,
    supported: Annotated[bool, typer.Option("--supported", help="list model types and their classes instead")] = False,
    fmt: Format = "table",
) -> None:
    """List the models, or show one with its published size beside the count."""
    if supported:
        from planner.catalogue.families.checked import supported_rows
        from planner.present.tables import render

        put(render(supported_rows(), fmt, ["id", "exact", "refused", "reference", "checked"], **looks(fmt)))
        return
    if id is not None:
        put(_shown(id, fmt))
        return
    from planner.present.catalogue import model_rows
    from planner.present.tables import render

    put(render(model_rows(), fmt, SHOWN, **looks(fmt)))


def _shown(id: str, fmt: str) -> str:
    from planner.catalogue.models import load_model
    from planner.present.catalogue import model_row
    from planner.present.tables import render

    m = load_model(id)
    row = model_row(m)
    if fmt in ("json", "csv"):
        return render([row | {"assumed": list(m.assumed), "notes": list(m.notes)}], fmt)
    ours, published = row["parameters"], row["published"]
    lines = [f"{m.name}: {ours:,} parameters, {row['active']:,} active a token."]
    if published:
        lines.append(f"Published: {published:,.0f} ({(ours - published) / published:+.2%}).")
    lines += [f"Source: {m.source}"] + [f"Assumed: {a}" for a in m.assumed] + [f"Note: {n}" for n in m.notes]
    return "\n".join(lines)
