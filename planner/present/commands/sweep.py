"""``planner sweep``: a grid or a list of scenarios into a folder of shards that is resumed where it stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from planner.present.console import Dirs, say


def sweep(
    file: Annotated[str, typer.Argument(help="YAML or JSON with grid or scenarios, base and answer")],
    output: Annotated[str, typer.Option("-o", "--output", help="folder of the shards")],
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=256, help="processes that work side by side")] = 1,
    shard_rows: Annotated[int, typer.Option("--shard-rows", min=1, max=10**7, help="rows of a shard")] = 100_000,
    shards: Annotated[str | None, typer.Option("--shards", help="parquet (needs pyarrow) or csv.gz")] = None,
    hardware_dir: Dirs = None,
) -> None:
    """Estimates, plans or sizes of a grid of scenarios, into a folder; run again, it works out what is missing."""
    import time
    from datetime import date
    from pathlib import Path

    from planner.errors import unknown
    from planner.present.console import put
    from planner.present.sweeps import read_sweep_file, run_sweep

    if shards not in (None, "parquet", "csv.gz"):
        raise unknown("shards", str(shards), ("parquet", "csv.gz"), where="--shards")
    swept = read_sweep_file(file)
    began = time.monotonic()

    def report(done: int, total: int) -> None:
        rate = done / max(time.monotonic() - began, 1e-9)
        say(f"{done:,} of {total:,} rows, {rate:,.0f} a second, {(total - done) / rate:,.0f} s left")

    found = run_sweep(swept, output, folder=str(Path(file).resolve().parent), dirs=tuple(hardware_dir or ()),
                      rows=shard_rows, jobs=jobs, kind=shards, today=date.today(), progress=report)  # fmt: skip
    put(f"{output}: {found['rows']:,} rows in {len(found['shards']):,} shards, {found['errors']:,} with an error")
