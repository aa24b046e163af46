"""``planner validate``: the published runs that ship with the planner, predicted again."""

from __future__ import annotations

from argparse import Namespace

from planner.present.console import looks, put, say
from planner.present.flags import Parser, answer_flags


def flags(parser: Parser) -> None:
    """What the verb takes."""
    answer_flags(parser, dirs=False)
    parser.add_argument("--task", choices=("train", "serve"), default="train",
                        help="train (with static batches and memory), or serve; by default train")  # fmt: skip
    parser.add_argument("--figure", metavar="FILE", help="draw predicted against measured to this .svg, .pdf or .png")


def validate(args: Namespace) -> None:
    """Re-predict the published runs that ship with the planner: error by source, chip and regime."""
    from planner.present import validation
    from planner.present.output import text_format
    from planner.validation.published import cases, compare_all, compare_inference, compare_memory

    fmt = text_format(args.fmt, args.output)
    if args.task == "serve":
        say("predicting the published deployments: about a minute")
        put(validation.served_text(fmt=fmt, looks=looks, safe=args.safe_csv), args.output)
        return
    say(f"predicting {len(cases()):,} published training runs, static batches and peaks of memory: about a minute")
    compared = compare_all()
    if args.figure is not None:
        say(f"figure: {validation.draw(compared, args.figure)}")
    answer = validation.text(compared, compare_inference(), compare_memory(), fmt=fmt, looks=looks, safe=args.safe_csv)
    put(answer, args.output)
    for c in compared:
        if c.error:
            say(f"refused: {c.case.id} {c.case.name}: {c.error}")
