"""``planner roofline``: operators against the roofs, as a table and as a figure."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from planner.present.console import say
from planner.present.flags import Parser, answer_flags, names, scenario_flags, scenario_of

SHOWN = ("phase", "name", "count", "time_s", "share", "bound", "intensity", "achieved_flops", "flops", "bytes",
         "kernel", "dtype")  # fmt: skip
FIGURES = (".svg", ".pdf", ".png")
EXAMPLES = ("planner roofline llama-3.1-8b h100-sxm5-80gb --task decode --batch 1",
            "planner roofline llama-3.1-8b h100-sxm5-80gb --task prefill -o prefill.svg")  # fmt: skip


def flags(parser: Parser) -> None:
    """What the verb takes."""
    names(parser)
    answer_flags(parser)
    scenario_flags(parser)


def roofline(args: Namespace) -> None:
    """Operators against the roofs: a table, and with -o a figure (.svg, .pdf, .png) or a table in a file."""
    from datetime import date

    from planner.cost.points import points, violations
    from planner.cost.roofs import roofs
    from planner.planning.estimate import estimate_scenario
    from planner.present.output import put_list

    drawn = args.output is not None and args.output != "-" and _is_figure(args.output)
    e = estimate_scenario(scenario_of(args), dirs=tuple(args.hardware_dir), today=date.today())
    found, lines = points(e.job), roofs(e.job)
    for p in violations(found, lines):
        say(f"warning: {p.name} lies above its roof; please report this")
    if drawn:
        from planner.present.figures.roofline import roofline_figure
        from planner.present.figures.style import save
        from planner.present.plans import titles

        say(f"figure: {save(roofline_figure(found, lines, **titles(e)), args.output)}")
    rows = [{"id": f"{p.phase}.{p.name}", **vars(p), "time_s": p.time} for p in sorted(found, key=lambda p: -p.share)]
    rows = [{k: v for k, v in r.items() if k != "time"} for r in rows]
    put_list(rows, args.fmt, None if drawn else args.output, SHOWN, safe=args.safe_csv)


def _is_figure(path: str) -> bool:
    """Whether a path ends like a figure; one that ends like nothing known is left to the figures to refuse."""
    from planner.present.output import ENDS

    return Path(path).suffix.lower() not in (set(ENDS) | {".parquet"})
