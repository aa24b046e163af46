"""``planner compare``: the best plan of one model on several kinds of hardware, side by side."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING

from planner.present.console import Counter, assumed_lines, listed, looks, prose, put
from planner.present.flags import HARDWARE_HELP, MODEL_HELP, Parser, answer_flags, scenario_flags, scenario_of

if TYPE_CHECKING:
    from planner.planning.equal import Unspent

SHOWN = ("id", "devices", "step_time_s", "interval_s", "layout", "usd_per_million_tokens", "ttft_s", "tokens_per_s",
         "usd_per_hour", "unspent_share", "memory_peak_bytes", "bound", "mfu", "error")  # fmt: skip
EXAMPLES = ("planner compare llama-3.1-8b dgx-h100 mi300x-platform --devices 8 --task decode --batch 64",)


def flags(parser: Parser) -> None:
    """What the verb takes."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("hardware", nargs="+", metavar="HARDWARE", help=f"two or more: {HARDWARE_HELP}s")
    parser.usage = "%(prog)s MODEL HARDWARE HARDWARE ... [--KEY VALUE ...]"
    answer_flags(parser)
    parser.add_argument("--equal", default="devices", metavar="TERMS",
                        help="devices, usd or power (what --devices of the first take), or deadline")  # fmt: skip
    parser.add_argument("--tokens", metavar="N", help="with --equal deadline: tokens to train on, as in 2T")
    parser.add_argument("--deadline", metavar="TIME", help="with --equal deadline: wall clock, as in 30d")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where any of them has no answer")
    scenario_flags(parser, searched=True)


def compare(args: Namespace) -> int:
    """Best plan of one model on several kinds of hardware, side by side."""
    from datetime import date

    from planner.errors import InfeasibleError
    from planner.planning.asked import asked
    from planner.planning.columns import FIXED
    from planner.planning.compare import compare_hardware, told_apart
    from planner.planning.equal import equal_terms, unspent
    from planner.present import plans
    from planner.present.output import format_of, put_rows
    from planner.present.tables import render

    fmt = format_of(args.fmt, args.output)
    given = {k: v for k, v in scenario_of(args).items() if k != "hardware"}
    dirs, today, held = tuple(args.hardware_dir), date.today(), None
    left: dict[str, Unspent] = {}
    if args.equal != "devices":
        question = asked({"tokens": args.tokens, "deadline": args.deadline}) if args.tokens and args.deadline else None
        held = equal_terms(given, args.hardware, args.equal, question=question, dirs=dirs, today=today)
        left = unspent(given, held, args.equal, dirs=dirs, today=today)
        given.pop("devices", None)
    with Counter() as counter:
        found = compare_hardware(given, args.hardware, held=held, dirs=dirs, today=today, progress=counter.searching)
    faults = [c.fault for c in found if c.fault is not None]
    if len(faults) == len(found):
        raise faults[0]
    shares = {n: u.share for n, u in left.items()}
    rows = [{**r, **({"unspent_share": shares.get(r["id"])} if left else {})} for r in plans.comparison_rows(found)]
    if all(r["error"] for r in rows):
        raise InfeasibleError("; ".join(f"{r['id']}: {r['error']}" for r in rows))
    if fmt in ("table", "markdown"):
        shared, own = plans.compared_notes(found)
        parts = [
            "\n".join(listed("Unequal terms, so that a difference is no verdict:", _unequal(left, args.equal))),
            prose(told_apart(found, [n for n, u in left.items() if not u.equal])),
            "\n".join(listed("Price:", plans.price_notes(found))),
            "\n".join(assumed_lines(shared)),
            *("\n".join(listed(f"Assumed for {n}:", a)) for n, a in own),
        ]
        put("\n\n".join(p for p in [render(rows, fmt, SHOWN, **looks(fmt)), *parts] if p), args.output)
    else:
        put_rows(
            rows,
            fmt,
            args.output,
            columns=("id", "layout", "alike", *(["unspent_share"] if left else ()), *FIXED),
            safe=args.safe_csv,
        )
    return 1 if args.strict and any(r["error"] for r in rows) else 0


def _unequal(left: Mapping[str, Unspent], terms: str) -> list[str]:
    """Kinds of hardware that leave a part of what the first takes, a line each."""
    first = next(iter(left), "")
    what = {"usd": "rent", "power": "power"}.get(terms, "")
    return [
        f"{name}: {u.share:.0%} of the {what} of {first} is unspent; {u.why}" for name, u in left.items() if not u.equal
    ]
