"""``planner size``: how many devices, of which kind, for how much."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from planner.present.console import assumed_lines, listed, looks, prose, put, say
from planner.present.flags import HARDWARE_HELP, MODEL_HELP, Parser, answer_flags, count, scenario_flags, scenario_of

if TYPE_CHECKING:
    from planner.planning.size import Sizing

EXAMPLES = (
    "planner size llama-2-13b dgx-h100 mi300x-platform --tokens 2T --deadline 30d --budget 1.5M",
    "planner size llama-3.1-8b rtx-4090-24gb --devices 2 --lora-rank 16",
)
PRICE_COLUMNS = ("hardware", "usd", "date", "provider", "kind", "region")
WORDS = {  # what is asked beside the scenario, and its help
    "tokens": "tokens to train on, as in 15T",
    "steps": "steps of the largest batch instead, as in 500k",
    "compute_optimal": "tokens by a scaling law: chinchilla-refit or chinchilla-20",
    "deadline": "wall clock that the run may take, as in 60d",
    "budget": "what it may cost, as in 5M [USD]",
    "sure": "chance of the deadline that is asked for, as in 0.9",
    "provider": "whose price",
    "region": "price of which region",
    "prices": f"CSV of your own prices: {', '.join(PRICE_COLUMNS)}",
    "capex": "what a device costs to own with its share of node and network, as in 40k",
    "years": "over which capex is written off (default: 5)",
    "power_price": "of owned devices, as in '0.08 USD/kWh'",
    "pue": "energy into the building over that into its nodes",
    "grid": "country whose electricity is used (USA, FRA …), for tCO2e",
    "spares": "part of the devices that is paid for as spares, as in 0.05",
    "mtbf": "mean time between failures of a device, as in '50000 h'",
    "recovery": "from a failure to the restart, as in '10 min'",
    "storage": "bandwidth of a device into storage, as in '0.15 GB/s'",
}
COUNTS = {"max_global_batch": "most sequences a step; 4M tokens if not given",
          "sequences_per_device": "a batch that grows with the devices instead"}  # fmt: skip


def flags(parser: Parser) -> None:
    """What the verb takes."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("hardware", nargs="+", metavar="HARDWARE", help=f"one or more: {HARDWARE_HELP}s")
    parser.usage = "%(prog)s MODEL HARDWARE ... --tokens N [--KEY VALUE ...]"
    answer_flags(parser)
    parser.add_argument("--figure", metavar="FILE", help="draw devices against days and USD to this file")
    group = parser.add_argument_group("sizing")
    for name, text in WORDS.items():
        group.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar="VALUE", help=text)
    for name, text in COUNTS.items():
        group.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar="N", type=count(1, 10**7), help=text)
    scenario_flags(parser)
    _of_training(parser)


def _of_training(parser: Parser) -> None:
    """Leave flags of other tasks out of the help; they are read still, so that the error says what answers them."""
    from argparse import SUPPRESS

    from planner.scenario.keys import KEYS

    for action in parser._actions:
        key = KEYS.get(action.dest)
        if key is not None and "train" not in key.tasks:
            action.help = SUPPRESS
        elif action.dest == "task":
            action.help = "train: size is for training, plan for the rest (default: train)"


def size(args: Namespace) -> int:
    """How many devices train a model within a deadline and a budget, on each kind of hardware.

    Without any of --tokens, --steps, --compute-optimal, --deadline and --budget: what can be fine-tuned on so many
    devices, in full, with adapters, and with adapters beside 4-bit weights.
    """
    from datetime import date

    from planner.errors import InfeasibleError
    from planner.planning.asked import asked
    from planner.planning.size import size_training
    from planner.present import sizing
    from planner.present.output import text_format
    from planner.present.scenario_file import read_rows

    given = {k: v for k, v in scenario_of(args).items() if k != "hardware"} | {"model": args.model}
    fmt, dirs = text_format(args.fmt, args.output), tuple(args.hardware_dir)
    words = {k: getattr(args, k) for k in (*WORDS, *COUNTS)}
    if not any(words[k] for k in ("tokens", "steps", "compute_optimal", "deadline", "budget")):
        return _fine_tune(args, given, fmt, dirs)
    words["devices"] = given.pop("devices", None)
    words["prices"] = None if args.prices is None else read_rows(args.prices, PRICE_COLUMNS)
    question = asked(words)
    today = date.today()
    with trying() as report:
        found = size_training(given, args.hardware, question, dirs=dirs, today=today, progress=report)
    if args.figure is not None:
        say(f"figure: {_draw(found, args.figure)}")
    put(_text(found, fmt, today, args.safe_csv), args.output)
    if found.best is None:
        raise InfeasibleError(sizing.miss(found))
    return 0


class trying:
    """The count that is being tried on stderr, where that is a terminal."""

    def __enter__(self) -> Callable[[str, int], None] | None:
        from planner.present.console import Counter

        self.counter = Counter()
        if not self.counter.shown:
            return None
        return lambda name, devices: self.counter.tell(f"sizing: {devices:,} devices of {name}")

    def __exit__(self, *_: object) -> None:
        self.counter.tell("")


def _fine_tune(args: Namespace, given: dict[str, Any], fmt: str, dirs: tuple[str, ...]) -> int:
    """What fits on the devices there are, on each kind of hardware."""
    from datetime import date

    from planner.errors import InfeasibleError
    from planner.planning.finetune import fine_tuning
    from planner.present import tuning
    from planner.present.tables import render

    parts, rows = [], []
    for name in args.hardware:
        rooms = fine_tuning({**given, "hardware": name}, dirs=dirs, today=date.today())
        rows += tuning.room_rows(name, rooms)
        parts += [prose(tuning.answer(rooms)), "", render(tuning.shown_rows(rooms), fmt, **looks(fmt, name)), "",
                  *assumed_lines(tuning.assumed(rooms)), ""]  # fmt: skip
    text = render(rows, fmt, safe=args.safe_csv) if fmt in ("csv", "json") else "\n".join(parts).rstrip()
    put(text, args.output)
    if not any(r["micro_batch"] for r in rows):
        raise InfeasibleError("; ".join(f"{r['id']}: {r['error']}" for r in rows))
    return 0


def _text(found: Sizing, fmt: str, today: Any, safe: bool) -> str:
    from planner.present import sizing
    from planner.present.tables import render, to_csv, to_json

    if fmt == "json":
        return to_json(sizing.sizing_json(found, today))
    if fmt == "csv":
        return to_csv(sizing.pick_rows(found), safe=safe).rstrip("\n")
    parts = [prose(sizing.lead(found)), ""] if found.best is not None else []
    parts += [render(sizing.shown_rows(found), fmt, **looks(fmt, "Picks")), ""]
    first = sizing.lead_sized(found)
    if first is not None:
        scaling = "weak" if found.question.a_device else "strong"
        title = f"{first.hardware}: {scaling} scaling"
        parts += [render(sizing.curve_rows(first), fmt, **looks(fmt, title)), ""]
    for heading, lines in (("Binds:", sizing.binding(found)), ("Would change it:", sizing.changes(found, today))):
        parts += [*listed(heading, lines), ""] if lines else []
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
