"""Folders of a sweep: shards written whole or not at all, a manifest, and what is missing worked out again."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from planner.errors import BadInputError
from planner.planning.grids import SHARD, Sweep, catalogue_hash, parse_sweep, shards, sweep_hash, sweep_rows
from planner.present.export import read_yaml
from planner.present.tables import plain

MANIFEST, PART = "manifest.json", ".part"
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


def read_sweep_file(path: str) -> Sweep:
    """A sweep from a YAML or JSON file."""
    return parse_sweep(read_yaml(path), where=path)


def run_sweep(
    swept: Sweep, output: str, *, folder: str | None = None, dirs: tuple[str, ...] = (), rows: int = SHARD,
    jobs: int = 1, kind: str | None = None, today: date, progress: Report | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Work out what a folder lacks of a sweep.

    Parameters
    ----------
    output : folder of the shards and their manifest
    rows : of a shard
    jobs : processes that work side by side
    kind : parquet (with pyarrow) or csv.gz; the first where it can be

    Returns
    -------
    dict                            the manifest: version, catalogue, rows, errors, shards

    Raises
    ------
    BadInputError
        The folder holds another sweep, or this one by another version or catalogue.
    """
    target = Path(output)
    manifest = _manifest(swept, target, dirs, rows, kind)
    todo = [Task(swept, name, first, last, output, manifest["kind"], dirs, folder, today)
            for name, first, last in shards(swept, whole=manifest["sweep"], rows=manifest["shard_rows"])
            if not (target / f"{name}.{manifest['kind']}").exists()]  # fmt: skip
    for left in target.glob(f"*{PART}"):
        left.unlink()
    done = swept.rows - sum(t.last - t.first for t in todo)
    for finished in _worked(todo, jobs):
        done += finished
        if progress is not None:
            progress(done, swept.rows)
    counts = [json.loads((target / f"{n}.json").read_text(encoding="utf-8")) for n in manifest["shards"]]
    whole = {**manifest, "errors": sum(c["errors"] for c in counts), "whole": True}
    _write(target / MANIFEST, json.dumps(whole, indent=2).encode() + b"\n")
    return whole


def _manifest(swept: Sweep, target: Path, dirs: tuple[str, ...], rows: int, kind: str | None) -> dict[str, Any]:
    """The folder's manifest, written where there is none; another sweep's is refused, with what differs."""
    from planner import __version__

    catalogue = catalogue_hash(dirs)
    whole = sweep_hash(swept, version=__version__, catalogue=catalogue, rows=rows)
    parquet = find_spec("pyarrow") is not None
    if kind == "parquet" and not parquet:
        raise BadInputError("--shards parquet: pyarrow is not installed; pip install 'roofline-planner[parquet]'")
    own = {"version": __version__, "catalogue": catalogue, "answer": swept.answer, "rows": swept.rows,
           "shard_rows": rows, "kind": kind or ("parquet" if parquet else "csv.gz"), "sweep": whole,
           "columns": swept.columns, "shards": [n for n, _, _ in shards(swept, whole=whole, rows=rows)]}  # fmt: skip
    path = target / MANIFEST
    if path.exists():
        there = json.loads(path.read_text(encoding="utf-8"))
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
    with ProcessPoolExecutor(min(jobs, len(todo)), mp_context=get_context("spawn")) as pool:
        for finished in as_completed([pool.submit(work, t) for t in todo]):
            yield finished.result()


def work(task: Task) -> int:
    """Work one shard out and write it; returns its rows."""
    target = Path(task.output)
    encode = _parquet if task.kind == "parquet" else _csv_gz
    data, errors = encode(_blocks(task), task.swept)
    counts = {"rows": task.last - task.first, "errors": errors}
    _write(target / f"{task.name}.json", json.dumps(counts).encode())
    _write(target / f"{task.name}.{task.kind}", data)
    return task.last - task.first


def _blocks(task: Task) -> Iterator[list[dict[str, Any]]]:
    """Rows of a shard, so many at a time as memory is spent on."""
    for first in range(task.first, task.last, BLOCK):
        last = min(first + BLOCK, task.last)
        yield list(sweep_rows(task.swept, first, last, dirs=task.dirs, folder=task.folder, today=task.today))


def _failed(rows: Iterable[Mapping[str, Any]]) -> int:
    return sum(bool(r["error"]) for r in rows)


def _csv_gz(blocks: Iterable[Sequence[Mapping[str, Any]]], swept: Sweep) -> tuple[bytes, int]:
    """Rows as a compressed CSV, and how many carry an error."""
    text, errors = io.StringIO(), 0
    writer = csv.DictWriter(text, swept.columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for rows in blocks:
        errors += _failed(rows)
        for row in rows:
            writer.writerow({k: "" if (v := plain(row.get(k))) is None else v for k in swept.columns})
    return gzip.compress(text.getvalue().encode(), mtime=0), errors


def _parquet(blocks: Iterable[Sequence[Mapping[str, Any]]], swept: Sweep) -> tuple[bytes, int]:
    """Rows as Parquet, a group a block, and how many carry an error."""
    pa: Any = import_module("pyarrow")
    pq: Any = import_module("pyarrow.parquet")
    kinds = {c: (pa.float64(), float) if c in swept.numbers else (pa.string(), str) for c in swept.columns}
    out, errors = io.BytesIO(), 0
    schema = pa.schema([(c, kind) for c, (kind, _) in kinds.items()])
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for rows in blocks:
            errors += _failed(rows)
            table = {c: [None if (v := r.get(c)) is None else read(v) for r in rows] for c, (_, read) in kinds.items()}
            writer.write_table(pa.table(table, schema=schema))
    return out.getvalue(), errors


def _write(path: Path, data: bytes) -> None:
    """Write beside and rename: a file is whole or absent."""
    part = path.with_name(path.name + PART)
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise BadInputError(f"{path}: {error.strerror}") from error


def shard_paths(folder: str) -> list[Path]:
    """Shards of a folder in order; those that are missing are left out."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise BadInputError(f"{folder}: has no {MANIFEST}; it is no folder of a sweep")
    there = json.loads(path.read_text(encoding="utf-8"))
    found = (Path(folder) / f"{n}.{there['kind']}" for n in there["shards"])
    return [p for p in found if p.exists()]
