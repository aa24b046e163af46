"""``planner size``: how many devices, of which kind, for how much."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.present.console import (
    Dirs,
    Format,
    ModelArgument,
    Output,
    assumed_lines,
    looks,
    put,
    say,
    scenario_flags,
)

if TYPE_CHECKING:
    from planner.planning.size import Sizing

Text = str | None


@scenario_flags
def size(
    model: ModelArgument,
    hardware: Annotated[list[str], typer.Argument(help="one or more system or accelerator ids")],
    tokens: Annotated[Text, typer.Option("--tokens", help="tokens to train on, as in 15T")] = None,
    steps: Annotated[Text, typer.Option("--steps", help="steps of the largest batch instead, as in 500k")] = None,
    compute_optimal: Annotated[
        Text, typer.Option("--compute-optimal", help="tokens by a scaling law: chinchilla-refit or chinchilla-20")
    ] = None,
    deadline: Annotated[Text, typer.Option("--deadline", help="wall clock that the run may take, as in 60d")] = None,
    budget: Annotated[Text, typer.Option("--budget", help="what it may cost, as in 5M [USD]")] = None,
    sure: Annotated[
        float | None, typer.Option("--sure", min=0.01, max=0.999, help="chance of the deadline that is asked for")
    ] = None,
    max_global_batch: Annotated[
        int | None, typer.Option("--max-global-batch", min=1, help="most sequences a step; 4M tokens if not given")
    ] = None,
    sequences_per_device: Annotated[
        int | None, typer.Option("--sequences-per-device", min=1, help="a batch that grows with the devices instead")
    ] = None,
    price_kind: Annotated[
        str, typer.Option("--price-kind", help="kind of observed price: on-demand, spot, reserved, marketplace")
    ] = "on-demand",
    provider: Annotated[str, typer.Option("--provider", help="whose price")] = "",
    region: Annotated[str, typer.Option("--region", help="price of which region")] = "",
    prices: Annotated[
        Text, typer.Option("--prices", help="CSV of your own prices: hardware, usd, date, provider, kind, region")
    ] = None,
    capex: Annotated[
        Text, typer.Option("--capex", help="what a device costs to own with its share of node and network, as in 40k")
    ] = None,
    years: Annotated[float, typer.Option("--years", min=0.1, help="over which capex is written off")] = 5.0,
    power_price: Annotated[Text, typer.Option("--power-price", help="of owned devices, as in '0.08 USD/kWh'")] = None,
    pue: Annotated[
        float | None, typer.Option("--pue", min=1.0, help="energy into the building over its nodes'")
    ] = None,
    grid: Annotated[str, typer.Option("--grid", help="country whose electricity is used (USA, FRA …), for tCO2e")] = "",
    spares: Annotated[float, typer.Option("--spares", min=0, max=1, help="part of devices paid for as spares")] = 0.0,
    mtbf: Annotated[
        Text, typer.Option("--mtbf", help="mean time between failures of a device, as in '50000 h'")
    ] = None,
    recovery: Annotated[Text, typer.Option("--recovery", help="from a failure to the restart, as in '10 min'")] = None,
    storage: Annotated[
        Text, typer.Option("--storage", help="bandwidth of a device into storage, as in '0.15 GB/s'")
    ] = None,
    figure: Annotated[Text, typer.Option("--figure", help="draw devices against days and USD to this file")] = None,
    output: Output = None,
    fmt: Format = "table",
    hardware_dir: Dirs = None,
    scenario: dict[str, Any] | None = None,
) -> None:
    """How many devices train a model within a deadline and a budget, on each kind of hardware.

    Without any of --tokens, --steps, --compute-optimal, --deadline and --budget: what can be fine-tuned on so many
    devices, in full, with adapters, and with adapters beside 4-bit weights.
    """
    from datetime import date

    from planner.errors import InfeasibleError
    from planner.planning.asked import asked
    from planner.planning.size import size_training
    from planner.present import sizing
    from planner.present.export import read_rows

    given = {**(scenario or {}), "model": model}
    if not any((tokens, steps, compute_optimal, deadline, budget)):
        _fine_tune(given, hardware, output, fmt, tuple(hardware_dir or ()))
        return
    devices = given.pop("devices", None)
    question = asked({
        "tokens": tokens, "steps": steps, "compute_optimal": compute_optimal, "deadline": deadline, "budget": budget,
        "sure": sure, "devices": devices, "max_global_batch": max_global_batch,
        "sequences_per_device": sequences_per_device, "price_kind": price_kind, "provider": provider, "region": region,
        "capex": capex, "years": years, "power_price": power_price, "pue": pue, "grid": grid, "spares": spares,
        "prices": None if prices is None else read_rows(prices), "mtbf": mtbf, "recovery": recovery, "storage": storage,
    })  # fmt: skip
    today = date.today()
    with trying() as report:
        found = size_training(given, hardware, question, dirs=tuple(hardware_dir or ()), today=today, progress=report)
    if figure is not None:
        say(f"figure: {_draw(found, figure)}")
    put(_text(found, fmt, today), output)
    if found.best is None:
        raise InfeasibleError(sizing.miss(found))


class trying:
    """The count that is being tried on stderr, where that is a terminal."""

    def __enter__(self) -> Callable[[str, int], None] | None:
        import sys

        self.status: Any = None
        if not sys.stderr.isatty():
            return None
        from rich.console import Console

        self.status = Console(stderr=True).status("sizing")
        self.status.start()
        return lambda name, devices: self.status.update(f"sizing: {devices:,} devices of {name}")

    def __exit__(self, *_: object) -> None:
        if self.status is not None:
            self.status.stop()


def _fine_tune(given: dict[str, Any], hardware: list[str], output: str | None, fmt: str, dirs: tuple[str, ...]) -> None:
    """What fits on the devices there are, on each kind of hardware."""
    from datetime import date

    from planner.errors import InfeasibleError
    from planner.planning.finetune import fine_tuning
    from planner.present import tuning
    from planner.present.tables import render

    parts, rows = [], []
    for name in hardware:
        rooms = fine_tuning({**given, "hardware": name}, dirs=dirs, today=date.today())
        rows += tuning.room_rows(name, rooms)
        parts += [tuning.answer(rooms), "", render(tuning.shown_rows(rooms), fmt, **looks(fmt, name)), "",
                  *assumed_lines(tuning.assumed(rooms)), ""]  # fmt: skip
    put(render(rows, fmt) if fmt in ("csv", "json") else "\n".join(parts).rstrip(), output)
    if not any(r["micro_batch"] for r in rows):
        raise InfeasibleError("; ".join(f"{r['id']}: {r['error']}" for r in rows))


def _text(found: Sizing, fmt: str, today: Any) -> str:
    from planner.present import sizing
    from planner.present.tables import render, to_csv, to_json

    if fmt == "json":
        return to_json(sizing.sizing_json(found, today))
    if fmt == "csv":
        return to_csv(sizing.pick_rows(found)).rstrip("\n")
    parts = [sizing.lead(found), ""] if found.best is not None else []
    parts += [render(sizing.shown_rows(found), fmt, **looks(fmt, "Picks")), ""]
    first = sizing.lead_sized(found)
    if first is not None:
        scaling = "weak" if found.question.a_device else "strong"
        title = f"{first.hardware}: {scaling} scaling"
        parts += [render(sizing.curve_rows(first), fmt, **looks(fmt, title)), ""]
    for heading, lines in (("Binds:", sizing.binding(found)), ("Would change it:", sizing.changes(found, today))):
        parts += [heading, *(f"  {line}" for line in lines), ""] if lines else []
    return "\n".join([*parts, *assumed_lines(sizing.assumed(found))])


def _draw(found: Sizing, path: str) -> str:
    from planner.planning.outlook import DAY
    from planner.present.figures.sizing import size_figure
    from planner.present.figures.style import save
    from planner.present.sizing import days_text, named_picks, outlook_row, tokens_text

    limits = found.question.limits
    curves = {s.hardware: [outlook_row(o, limits) for o in s.curve] for s in found.sized if s.curve}
    picked = {s.hardware: picks[0][1].devices for s in found.sized if (picks := named_picks(s, limits))}
    first = next(o for s in found.sized for o in s.curve)
    deadline = None if limits.deadline is None else limits.deadline / DAY
    wanted = [f"within {days_text(deadline)}"] if deadline else []
    wanted += [f"{limits.budget:,.0f} USD"] if limits.budget else []
    within = " and ".join(wanted) + ("; " if wanted else "")
    drawn = size_figure(
        curves, picked=picked, deadline=deadline, budget=limits.budget,
        title=f"{first.estimate.resolved.model.name} on {tokens_text(found.tokens)}",
        subtitle=f"{within}the best layout of every count, 90 % of runs shaded",
    )  # fmt: skip
    return str(save(drawn, path))
