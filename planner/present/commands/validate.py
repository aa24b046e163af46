"""``planner validate``: the published runs that ship with the planner, predicted again."""

from __future__ import annotations

from typing import Annotated

import typer

from planner.present.console import Format, looks, put, say


def validate(
    fmt: Format = "table",
    task: Annotated[str, typer.Option("--task", help="train (with static batches), or serve")] = "train",
    figure: Annotated[str | None, typer.Option("--figure", help="draw predicted against measured to this file")] = None,
) -> None:
    """Re-predict the published runs that ship with the planner: error by source, chip and regime."""
    from planner.errors import unknown
    from planner.present import validation
    from planner.validation.published import compare_all, compare_inference, compare_memory

    if task not in ("train", "serve"):
        raise unknown("task", task, ("train", "serve"), where="--task")
    if task == "serve":
        put(validation.served_text(fmt=fmt, looks=looks))
        return
    compared = compare_all()
    for c in compared:
        if c.error:
            say(f"refused: {c.case.id} {c.case.name}: {c.error}")
    if figure is not None:
        say(f"figure: {validation.draw(compared, figure)}")
    put(validation.text(compared, compare_inference(), compare_memory(), fmt=fmt, looks=looks))
