"""``planner sweep``: a grid or a list of scenarios into a folder of shards that is resumed where it stopped."""

from __future__ import annotations

from argparse import Namespace

from planner.present.console import put, say
from planner.present.flags import Parser, answer_flags, count


def flags(parser: Parser) -> None:
    """What the verb takes."""
    parser.add_argument("file", metavar="FILE", help="YAML or JSON with grid or scenarios, base and answer")
    parser.add_argument("-o", "--output", metavar="FOLDER", required=True, help="folder of the shards")
    parser.add_argument("--jobs", type=count(1, 256), default=1, metavar="N", help="processes that work side by side")
    parser.add_argument("--shard-rows", type=count(1, 10**7), default=100_000, metavar="N", help="rows of a shard")
    parser.add_argument("--shards", metavar="KIND", help="parquet (needs pyarrow) or csv.gz")
    answer_flags(parser, output=False)


def sweep(args: Namespace) -> int:
    """Estimates, plans or sizes of a grid of scenarios, into a folder; run again, it works out what is missing."""
    import time
    from datetime import date
    from pathlib import Path

    from planner.errors import InternalError, unknown
    from planner.present.sweeps import read_sweep_file, run_sweep
    from planner.units import counted

    if args.shards not in (None, "parquet", "csv.gz"):
        raise unknown("shards", str(args.shards), ("parquet", "csv.gz"), where="--shards")
    swept = read_sweep_file(args.file)
    began = time.monotonic()

    def report(done: int, total: int) -> None:
        rate = done / max(time.monotonic() - began, 1e-9)
        say(f"{done:,} of {total:,} rows, {rate:,.0f} a second, {(total - done) / rate:,.0f} s left")

    folder = str(Path(args.file).resolve().parent)
    found = run_sweep(swept, args.output, folder=folder, dirs=tuple(args.hardware_dir), rows=args.shard_rows,
                      jobs=args.jobs, kind=args.shards, safe=args.safe_csv,
                      today=date.today(), progress=report)  # fmt: skip
    put(f"{args.output}: {counted(found['rows'], 'row')} in {counted(len(found['shards']), 'shard')}, "
        f"{found['errors']:,} with an error")  # fmt: skip
    if found["crashed"]:
        raise InternalError(f"in {found['crashed']:,} rows")
    return 0
