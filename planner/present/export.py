"""Reading and writing files of scenarios and results; every fault of a path is one clear error."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from planner.errors import BadInputError
from planner.present.tables import plain


def check_writable(path: str) -> Path:
    """A path that a file can be written to; refused before any work is done."""
    target = Path(path)
    if not target.parent.is_dir():
        raise BadInputError(f"-o: folder {str(target.parent)!r} does not exist")
    if target.is_dir():
        raise BadInputError(f"-o {path}: Is a directory")
    return target


def write_text(path: str, text: str) -> None:
    """Write text to a file, a new line at its end."""
    target = check_writable(path)
    try:
        target.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"-o {path}: {error.strerror}") from error


def write_csv(path: str, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> int:
    """Write rows as they come; returns how many."""
    target = check_writable(path)
    count = 0
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: "" if plain(row.get(k)) is None else plain(row[k]) for k in columns})
            count += 1
    return count


def progress(rows: Iterable[Any], total: int, label: str) -> Iterator[Any]:
    """Pass rows on, with a bar on stderr where that is a terminal."""
    import sys

    if not sys.stderr.isatty():
        yield from rows
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(rows, total=total, description=label, console=Console(stderr=True), transient=True)
