"""``planner estimate``: one layout, lists of values, or a file of scenarios."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from planner.errors import BadInputError, InfeasibleError
from planner.present.console import Counter, assumed_lines, looks, prose, put, say
from planner.present.flags import Parser, answer_flags, names, scenario_flags, scenario_of

if TYPE_CHECKING:
    from planner.planning.estimate import Estimate

SWEPT = ("step_time_s", "interval_s", "tokens_per_s", "fits", "memory_peak_bytes", "mfu", "usd_per_million_tokens",
         "bound", "error")  # fmt: skip
SERVED = ("ttft_s", "tpot_s", "output_tokens_per_s", "requests_per_s", "in_flight", "utilisation", "fits",
          "memory_peak_bytes", "usd_per_million_tokens", "bound", "error")  # fmt: skip
EXAMPLES = (
    "planner estimate llama-3.1-8b h100-sxm5-80gb --task decode --batch 32",
    "planner estimate llama-3.1-70b dgx-h100 --devices 64 --tp 8 --pp 2 --global-batch 128 --figure memory.svg",
    "planner estimate llama-3.1-8b h100-sxm5-80gb --task decode --batch 1,4,16,64",
)


def flags(parser: Parser) -> None:
    """What the verb takes."""
    names(parser, optional=True)
    answer_flags(parser)
    parser.add_argument("--scenarios", metavar="FILE", help="CSV, YAML or JSON of scenarios, a row each; - is stdin")
    strict = "exit with 1 where any row has no answer or does not fit; refuse columns that are no keys"
    parser.add_argument("--strict", action="store_true", help=strict)
    parser.add_argument("--figure", metavar="FILE", help="draw memory or waterfall figure to this file")
    scenario_flags(parser)


def estimate(args: Namespace) -> int:
    """Estimate one layout, a few, or a file of scenarios.

    A flag may have several values: 1,4,16 is a list, 64..1024 doubles, 8..64+8 adds 8; every combination is a row.
    Exit code 1: it does not fit, or no row has an answer.
    """
    from planner.planning.sweep import combinations
    from planner.present.output import format_of

    fmt = format_of(args.fmt, args.output)
    given = scenario_of(args)
    if args.scenarios is not None:
        if given:
            raise BadInputError("--scenarios: takes its keys from the file; leave MODEL, HARDWARE and the flags out")
        return _file(args, fmt)
    several = combinations(given)
    if len(several) > 1:
        return _several(args, several, fmt)
    return _one(args, several[0], fmt)


def _one(args: Namespace, given: Mapping[str, Any], fmt: str) -> int:
    """One estimate; 1 where it does not fit, and an error where its engine does not start."""
    from datetime import date

    from planner.planning.columns import FIXED
    from planner.planning.estimate import estimate_scenario
    from planner.present.output import put_rows
    from planner.present.plans import estimate_json, no_start
    from planner.present.tables import to_json

    e = estimate_scenario(given, dirs=tuple(args.hardware_dir), today=date.today())
    if args.figure is not None:
        say(f"figure: {_draw(e, args.figure)}")
    if fmt == "json":
        put(to_json([{"id": e.inputs["model"], **estimate_json(e, given)}]), args.output)
    elif fmt in ("csv", "parquet"):
        put_rows([e.answer(given)], fmt, args.output, columns=FIXED, safe=args.safe_csv)
    else:
        put(_text(e, fmt), args.output)
    fault = no_start(e)
    if fault:
        raise InfeasibleError(fault)
    return 0 if e.fits else 1


def _text(e: Estimate, fmt: str) -> str:
    from planner.present.plans import answer, memory_rows, service_rows, time_rows
    from planner.present.tables import render

    served = service_rows(e)
    return "\n".join([
        prose(answer(e)), "", *([render(served, fmt, **looks(fmt, "Service")), ""] if served else []),
        render(time_rows(e), fmt, **looks(fmt, "Time")), "",
        render(memory_rows(e), fmt, **looks(fmt, "Memory of the fullest device")), "", *assumed_lines(e.assumed),
    ])  # fmt: skip


def _draw(e: Estimate, path: str) -> str:
    """Memory stack or waterfall, by what the file is called: ``memory`` in its name, else the waterfall."""
    from pathlib import Path

    from planner.present.figures.ledgers import memory_figure, waterfall_figure
    from planner.present.figures.style import save
    from planner.present.plans import titles

    if "memory" not in Path(path).stem:
        return str(save(waterfall_figure(e), path))
    return str(save(memory_figure({"peak": e.memory}, capacity=e.capacity, **titles(e)), path))


def _file(args: Namespace, fmt: str) -> int:
    """A file of scenarios in, a row each out, in order; bad rows carry their error.

    For people, who ask for a table or sit at a terminal, the columns that tell the rows apart and the main results;
    into a pipe CSV with every column.
    """
    from pathlib import Path

    from planner.planning.columns import FIXED
    from planner.planning.estimate import own_columns, unknown_columns
    from planner.planning.sweep import moving
    from planner.present.output import put_rows
    from planner.present.scenario_file import read_scenarios
    from planner.scenario.keys import KEYS

    rows = read_scenarios(args.scenarios)
    strange = unknown_columns(rows)
    if strange:
        text = f"{args.scenarios}: {'; '.join(strange)}"
        if args.strict:
            raise BadInputError(text)
        say(f"warning: {text}; passed through untouched")
    done = _answers(args, rows, folder=str(Path("." if args.scenarios == "-" else args.scenarios).resolve().parent))
    own = list(dict.fromkeys(k for r in rows for k in own_columns(r)))
    keys = [{k: r.get(k) for k in KEYS} for r in rows]
    if fmt == "table" and (args.fmt or args.output not in (None, "-") or sys.stdout.isatty()):
        put(_table(done, [*own, *moving(keys)], fmt), args.output)
    else:
        put_rows(done, fmt, args.output, columns=[*own, *FIXED], ids=True, safe=args.safe_csv)
    return _ended(args, done)


def _several(args: Namespace, scenarios: Sequence[Mapping[str, Any]], fmt: str) -> int:
    """Every combination of the values that were given, a row each."""
    from planner.planning.columns import FIXED
    from planner.planning.sweep import moving
    from planner.present.output import put_rows

    done = _answers(args, scenarios, folder=None)
    if fmt in ("table", "markdown"):
        put(_table(done, moving(scenarios), fmt), args.output)
    else:
        put_rows(done, fmt, args.output, columns=FIXED, ids=True, safe=args.safe_csv)
    return _ended(args, done)


def _table(done: Sequence[Mapping[str, Any]], moving: Sequence[str], fmt: str) -> str:
    """Answers as a table for people: what tells the rows apart, then what their task is asked for."""
    from planner.present.plans import served_rows, with_interval
    from planner.present.tables import render

    tasks = {r["task"] for r in done if not r["error"]}
    shown = SERVED if tasks == {"serve"} else (*SERVED[:-2], *SWEPT) if "serve" in tasks else SWEPT
    failed = ["error"] if any(r["error"] for r in done) else []  # on the left, where no narrow page leaves it out
    names = dict.fromkeys([*moving, *failed, *shown])
    return render(served_rows(with_interval(done)), fmt, list(names), **looks(fmt))


def _answers(args: Namespace, rows: Sequence[Mapping[str, Any]], *, folder: str | None) -> list[dict[str, Any]]:
    """The answer of every row; where they go to a file, those of a run that was cut short are taken up."""
    from datetime import date

    from planner.files import is_replaced
    from planner.planning.estimate import estimate_rows
    from planner.present.export import check_writable
    from planner.present.resume import resumed

    def estimated(some: Iterable[Mapping[str, object]]) -> Iterable[dict[str, object]]:
        return estimate_rows(some, dirs=tuple(args.hardware_dir), folder=folder, today=date.today())

    found = estimated(rows)
    if args.output not in (None, "-") and is_replaced(check_writable(args.output)):
        found = resumed(rows, args.output, estimated, dirs=args.hardware_dir, folder=folder or "")
    with Counter() as counter:
        done = list(counter.rows(found, len(rows)))
    failed = sum(bool(r["error"]) for r in done)
    say(f"{len(done) - failed} of {len(done)} scenarios estimated" + (f", {failed} with an error" if failed else ""))
    return done


def _ended(args: Namespace, done: Sequence[Mapping[str, Any]]) -> int:
    """The exit code of answers that are written, so that nothing of them need be kept apart."""
    from planner.present.output import exit_code
    from planner.present.resume import finished

    if args.output not in (None, "-"):
        finished(args.output)
    return exit_code(done, strict=args.strict)
