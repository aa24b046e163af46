"""Folders of a sweep: shards written whole or not at all, a manifest, and what is missing worked out again."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from planner.catalogue.documents import json_values
from planner.errors import BadInputError
from planner.files import discard_unfinished, is_file, read_text, replacing
from planner.planning.grids import SHARD, Sweep, catalogue_hash, parse_sweep, shards, sweep_hash, sweep_rows
from planner.present.scenario_file import read_tree
from planner.present.tables import csv_cell, plain

MANIFEST, PART = "manifest.json", ".part"
LARGEST_MANIFEST = 2**30  # bytes
BLOCK = 20_000  # rows of a shard that are in memory at a time
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Task:
    """One shard to be worked out, with all that a process of its own needs."""

    swept: Sweep
    name: str
    first: int
    last: int
    output: str
    kind: str
    dirs: tuple[str, ...]
    folder: str | None
    today: date
    safe: bool


def read_sweep_file(path: str) -> Sweep:
    """A sweep from a YAML or JSON file."""
    return parse_sweep(read_tree(path), where=path)


def run_sweep(
    swept: Sweep, output: str, *, folder: str | None = None, dirs: tuple[str, ...] = (), rows: int = SHARD,
    jobs: int = 1, kind: str | None = None, safe: bool = False, today: date, progress: Report | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Work out what a folder lacks of a sweep.

    Parameters
    ----------
    output : folder of the shards and their manifest
    rows : of a shard
    jobs : processes that work side by side
    kind : parquet (with pyarrow) or csv.gz; the first where it can be
    safe : in CSV, an apostrophe before text that a spreadsheet would run

    Returns
    -------
    dict                            the manifest: version, catalogue, rows, shards, errors; ``crashed``: errors of the
                                    planner's own

    Raises
    ------
    BadInputError
        The folder holds another sweep, or this one by another version or catalogue.
    """
    target = Path(output)
    manifest = _manifest(swept, target, dirs, rows, kind, safe)
    todo = [Task(swept, name, first, last, output, manifest["kind"], dirs, folder, today, safe)
            for name, first, last in shards(swept, whole=manifest["sweep"], rows=manifest["shard_rows"])
            if not (target / f"{name}.{manifest['kind']}").exists()]  # fmt: skip
    for left in target.glob(f"*{PART}"):
        left.unlink()
    done = swept.rows - sum(t.last - t.first for t in todo)
    for finished in _worked(todo, jobs):
        done += finished
        if progress is not None:
            progress(done, swept.rows)
    counts = [_told(target / f"{n}.json", "errors", "crashed") for n in manifest["shards"]]
    whole = {**manifest, **{k: sum(c[k] for c in counts) for k in ("errors", "crashed")}, "whole": True}
    _write(target / MANIFEST, json.dumps(whole, indent=2).encode() + b"\n")
    return whole


def _manifest(
    swept: Sweep, target: Path, dirs: tuple[str, ...], rows: int, kind: str | None, safe: bool
) -> dict[str, Any]:  # fmt: skip
    """The folder's manifest, written where there is none; another sweep's is refused, with what differs."""
    from planner import __version__

    catalogue = catalogue_hash(dirs)
    whole = sweep_hash(swept, version=__version__, catalogue=catalogue, rows=rows)
    parquet = find_spec("pyarrow") is not None
    if kind == "parquet" and not parquet:
        raise BadInputError("--shards parquet: pyarrow is not installed; pip install 'roofline-planner[parquet]'")
    own = {"version": __version__, "catalogue": catalogue, "answer": swept.answer, "rows": swept.rows,
           "shard_rows": rows, "safe_csv": safe, "kind": kind or ("parquet" if parquet else "csv.gz"), "sweep": whole,
           "columns": swept.columns, "shards": [n for n, _, _ in shards(swept, whole=whole, rows=rows)]}  # fmt: skip
    path = target / MANIFEST
    if path.exists():
        there = _told(path)
        if kind is None:
            own["kind"] = there.get("kind", own["kind"])
        differ = [k for k in own if there.get(k) != own[k]]
        if differ:
            raise BadInputError(f"-o {target}: holds another sweep ({', '.join(differ)} differ); give another folder")
        return own
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"-o {target}: {error.strerror}") from error
    if any(target.iterdir()):
        raise BadInputError(f"-o {target}: is not empty and has no {MANIFEST}; give another folder")
    _write(path, json.dumps(own, indent=2).encode() + b"\n")
    return own


def _worked(todo: Sequence[Task], jobs: int) -> Iterator[int]:
    """Rows of each shard as it is done, one after another or in processes side by side."""
    if jobs <= 1 or len(todo) <= 1:
        yield from map(work, todo)
        return
    with ProcessPoolExecutor(min(jobs, len(todo)), mp_context=get_context("spawn"), initializer=_follow) as pool:
        held = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,)) if hasattr(signal, "pthread_sigmask") else ()
        tasks = [pool.submit(work, t) for t in todo]  # which starts the processes: interrupts stay blocked in them
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        for finished in as_completed(tasks):
            yield finished.result()


def _follow() -> None:
    """Have a worker end when the process that started it is gone, without what it was writing."""

    def wait() -> None:
        started_by = parent_process()
        if started_by is not None:
            started_by.join()
        discard_unfinished()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def work(task: Task) -> int:
    """Work one shard out and write it; returns its rows."""
    target = Path(task.output)
    encode = _parquet if task.kind == "parquet" else _csv_gz
    failed: list[str] = []
    data = encode(_blocks(task, failed), task)
    counts = {"rows": task.last - task.first, "errors": len(failed),
              "crashed": sum(e.startswith("internal error") for e in failed)}  # fmt: skip
    _write(target / f"{task.name}.json", json.dumps(counts).encode())
    _write(target / f"{task.name}.{task.kind}", data)
    return task.last - task.first


def _blocks(task: Task, failed: list[str]) -> Iterator[list[dict[str, Any]]]:
    """Rows of a shard, so many at a time as memory is spent on; their errors are added to ``failed``."""
    for first in range(task.first, task.last, BLOCK):
        last = min(first + BLOCK, task.last)
        rows = list(sweep_rows(task.swept, first, last, dirs=task.dirs, folder=task.folder, today=task.today))
        failed += [str(r["error"]) for r in rows if r["error"]]
        yield rows


def _csv_gz(blocks: Iterable[Sequence[Mapping[str, Any]]], task: Task) -> bytes:
    """Rows as a compressed CSV."""
    text, columns = io.StringIO(), task.swept.columns
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for rows in blocks:
        for row in rows:
            writer.writerow({k: csv_cell(plain(row.get(k)), task.safe) for k in columns})
    return gzip.compress(text.getvalue().encode("utf-8", errors="backslashreplace"), mtime=0)


def _parquet(blocks: Iterable[Sequence[Mapping[str, Any]]], task: Task) -> bytes:
    """Rows as Parquet, a group a block."""
    pa: Any = import_module("pyarrow")
    pq: Any = import_module("pyarrow.parquet")
    kinds = {c: (pa.float64(), float) if c in task.swept.numbers else (pa.string(), str) for c in task.swept.columns}
    out = io.BytesIO()
    schema = pa.schema([(c, kind) for c, (kind, _) in kinds.items()])
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for rows in blocks:
            table = {c: [None if (v := r.get(c)) is None else read(v) for r in rows] for c, (_, read) in kinds.items()}
            writer.write_table(pa.table(table, schema=schema))
    return out.getvalue()


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as file:
        file.write(data)


def _told(path: Path, *due: str) -> dict[str, Any]:
    """A manifest or the counts of a shard, with the counts that are due."""
    said = json_values(read_text(path, most=LARGEST_MANIFEST), path)
    if not isinstance(said, dict) or not all(isinstance(said.get(k), int) for k in due):
        raise BadInputError(f"{path}: is not as a sweep writes it; give another folder")
    return said


def shard_paths(folder: str) -> list[Path]:
    """Shards of a folder in order; those that are missing are left out."""
    path = Path(folder) / MANIFEST
    if not is_file(path):
        raise BadInputError(f"{folder}: has no {MANIFEST}; it is no folder of a sweep")
    there = _told(path)
    if not isinstance(there.get("shards"), list):
        raise BadInputError(f"{path}: lists no shards")
    found = (Path(folder) / f"{n}.{there.get('kind')}" for n in there["shards"])
    return [p for p in found if p.exists()]
