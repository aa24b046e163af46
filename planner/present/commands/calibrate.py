"""``planner calibrate``: measured kernels in, the efficiency block of a hardware profile out."""

from __future__ import annotations

from argparse import Namespace

from planner.present.console import looks, put, say
from planner.present.flags import DIR_HELP, Parser

COLUMNS = ("gpu, dtype, time_us and m, n, k; with a column kernel also attention_prefill, _backward, _decode (batch, "
           "q_len, kv_len, heads, kv_heads, head_dim) and collectives (all_reduce …: bytes, ranks)")  # fmt: skip
REPORTED = ("chip", "kernel", "dtype", "rows", "median_error", "p90_error")
EXAMPLES = ("planner calibrate kernels.csv -o efficiency.yaml",)


def flags(parser: Parser) -> None:
    """What the verb takes."""
    parser.add_argument("kernels", metavar="FILE", help=f"CSV of measured kernels: {COLUMNS}")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the block here instead of stdout")
    parser.add_argument("--hardware-dir", action="append", default=[], metavar="FOLDER", help=DIR_HELP)


def calibrate(args: Namespace) -> None:
    """Fit efficiencies to your own measured kernels and collectives, as blocks for a hardware profile."""
    from pathlib import Path

    from planner.measure.profile import blocks, calibration, report
    from planner.present.tables import render

    found = calibration(args.kernels, dirs=args.hardware_dir)
    put(blocks(found, source=Path(args.kernels).name), args.output)
    say(render(report(found), "table", REPORTED, **looks("table")))
    for line in found.skipped:
        say(f"skipped: {line}")
