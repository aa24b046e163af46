"""``planner calibrate``: measured kernels in, the efficiency block of a hardware profile out."""

from __future__ import annotations

from argparse import Namespace

from planner.present.console import put
from planner.present.flags import DIR_HELP, Parser

EXAMPLES = ("planner calibrate kernels.csv -o efficiency.yaml",)


def flags(parser: Parser) -> None:
    """What the verb takes."""
    parser.add_argument("kernels", metavar="FILE", help="CSV of measured matmuls: gpu, dtype, m, n, k, time_us")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the block here instead of stdout")
    parser.add_argument("--hardware-dir", action="append", default=[], metavar="FOLDER", help=DIR_HELP)


def calibrate(args: Namespace) -> None:
    """Fit efficiencies to your own measurements, as a block for a hardware profile."""
    from planner.measure.profile import calibrated_profile

    put(calibrated_profile(args.kernels, dirs=args.hardware_dir), args.output)
