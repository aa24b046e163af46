"""``planner plan``: the search over layouts, and with ``--compress`` over what is done to the model."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from planner.present.console import Counter, assumed_lines, looks, prose, put
from planner.present.flags import Parser, answer_flags, count, names, scenario_flags, scenario_of

if TYPE_CHECKING:
    from planner.planning.plan import Plan

MOST_CHOICES = 40  # compression choices a table shows
SWEPT = ("layout", "step_time_s", "interval_s", "tokens_per_s", "mfu", "memory_peak_bytes", "usd_per_million_tokens",
         "usd_per_hour", "error")  # fmt: skip
EXAMPLES = (
    "planner plan llama-3.1-70b dgx-h100 --devices 64 --global-batch 256",
    "planner plan llama-3.1-70b dgx-h100 --devices 64 --global-batch 256 --tp 4,8 --micro-batch 1",
    "planner plan llama-3.1-8b dgx-h100 --devices 8..64 --global-batch 256",
    "planner plan llama-3.1-70b l40s-48gb --devices 2 --task decode --compress",
)


def flags(parser: Parser) -> None:
    """What the verb takes."""
    names(parser)
    answer_flags(parser)
    parser.add_argument("--compress", action="store_true", help="search precision, sparsity and pruning too")
    parser.add_argument("--top", type=count(1, 1000), default=10, metavar="N", help="rows to show (default: 10)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where any of several searches has no answer")
    scenario_flags(parser, searched=True)


def plan(args: Namespace) -> int:
    """Search all layouts (and with --compress all compression choices) for the best that fits.

    A flag that is given is held. Several values (1,4,16 is a list, 64..1024 doubles, 8..64+8 adds 8) hold what is
    searched to them; of anything else (--devices 64..1024) each has a search of its own, its best a row.
    Exit code 1: nothing fits.
    """
    from planner.planning.sweep import combinations
    from planner.present.output import format_of
    from planner.scenario.keys import KEYS

    fmt = format_of(args.fmt, args.output)
    several = combinations(scenario_of(args), but=[k.name for k in KEYS.values() if k.searched])
    return _one(args, several[0], fmt) if len(several) == 1 else _several(args, several, fmt)


def _search(args: Namespace, given: Mapping[str, Any]) -> Plan:
    from datetime import date

    from planner.planning.plan import make_plan

    with Counter() as counter:
        return make_plan(given, compress=args.compress, top=args.top, dirs=tuple(args.hardware_dir),
                         today=date.today(), progress=counter.searching)  # fmt: skip


def _one(args: Namespace, given: Mapping[str, Any], fmt: str) -> int:
    from planner.errors import InfeasibleError
    from planner.planning.columns import FIXED
    from planner.present.output import put_rows
    from planner.present.plans import infeasible, plan_json
    from planner.present.tables import to_json

    found = _search(args, given)
    if fmt == "json":
        put(to_json(plan_json(found)), args.output)
    elif fmt in ("csv", "parquet"):
        if found.rows:
            put_rows(found.answers(), fmt, args.output, columns=FIXED, safe=args.safe_csv)
    elif text := _text(found, fmt):
        put(text, args.output)
    if found.best is None:
        raise InfeasibleError(infeasible(found))
    return 0


def _several(args: Namespace, scenarios: Sequence[Mapping[str, Any]], fmt: str) -> int:
    """A search for every combination of the values that were given, the best of each a row."""
    from planner.errors import internal
    from planner.planning.columns import FIXED
    from planner.planning.sweep import moving
    from planner.present.output import exit_code, put_rows
    from planner.present.plans import best_row, with_interval
    from planner.present.tables import render

    done: list[dict[str, Any]] = []
    for given in scenarios:
        try:
            done.append(best_row(_search(args, given), given))
        except Exception as error:
            done.append({**dict.fromkeys(FIXED), **given, "error": str(internal(error))})
    if fmt in ("table", "markdown"):
        put(render(with_interval(done), fmt, [*moving(scenarios), *SWEPT], **looks(fmt)), args.output)
    else:
        put_rows(done, fmt, args.output, columns=["layout", *FIXED], ids=True, safe=args.safe_csv)
    return exit_code(done, strict=args.strict)


def _text(found: Plan, fmt: str) -> str:
    from planner.present import plans
    from planner.present.tables import render

    others = plans.alternative_rows(found)
    parts = _best(found, fmt)
    if others:
        parts += [render(others, fmt, **looks(fmt, "Fastest of every other tp, and where its time differs")), ""]
    if found.choices:
        rows = plans.choice_rows(found.choices)[:MOST_CHOICES]
        parts += [render(rows, fmt, **looks(fmt, "Compression choices: leanest layout against capacity")), ""]
    if found.refused and found.best is not None:
        parts += [render(plans.refusal_rows(found.refused), fmt, **looks(fmt, "Refused")), ""]
    return "\n".join([*parts, *assumed_lines(found.assumed)])


def _best(found: Plan, fmt: str) -> list[str]:
    """The winner in a sentence, the layouts next to it, and where its time and memory go."""
    from planner.present import plans
    from planner.present.tables import render

    if found.best is None:
        return []
    tally = f"Best {len(found.rows)} of {found.fitting:,} that fit, {found.considered:,} considered"
    rows = plans.with_interval([e.row for e in found.rows])
    return [
        prose(f"Best: {plans.answer(found.best)}"), "",
        render(rows, fmt, plans.plan_columns(found.rows), **looks(fmt, tally)), "",
        render(plans.time_rows(found.best), fmt, **looks(fmt, "Time of the best")), "",
        render(plans.memory_rows(found.best), fmt, **looks(fmt, "Memory of its fullest device")), "",
    ]  # fmt: skip
