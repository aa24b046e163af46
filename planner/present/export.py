"""Reading and writing files of scenarios and results; every fault of a path is one clear error."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from planner.errors import BadInputError
from planner.present.tables import plain
from planner.scenario.keys import KEYS, UNREADABLE


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


def read_scenarios(path: str) -> list[dict[str, Any]]:
    """Rows of a CSV, or the list (or ``scenarios:``) of a YAML or JSON file."""
    source = Path(path)
    if not source.is_file():
        raise BadInputError(f"--scenarios: file {path!r} does not exist")
    try:
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"--scenarios {path}: not readable as UTF-8 text: {error}") from error
    if source.suffix.lower() in (".yaml", ".yml", ".json"):
        return _from_yaml(path, text)
    return _from_csv(path, text)


def _from_csv(path: str, text: str) -> list[dict[str, Any]]:
    reader = csv.DictReader(text.splitlines())
    names = [n.strip() for n in reader.fieldnames or []]
    if not set(names) & set(KEYS):
        raise BadInputError(f"{path}:1: no scenario key in the header; a few: {', '.join(list(KEYS)[:12])}")
    reader.fieldnames = names
    rows = []
    for row in reader:
        extra = row.pop(None, None)
        rows.append({**row, UNREADABLE: "more cells than the header has"} if extra else row)
    return rows


def _from_yaml(path: str, text: str) -> list[dict[str, Any]]:
    import yaml

    try:
        loaded = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInputError(f"{path}: {' '.join(str(error).split())}") from error
    rows = loaded.get("scenarios") if isinstance(loaded, dict) else loaded
    if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
        raise BadInputError(f"{path}: a list of scenarios is due, each a mapping of keys")
    return rows


def read_rows(path: str) -> list[dict[str, str]]:
    """Rows of a CSV with a header."""
    try:
        return list(csv.DictReader(Path(path).read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path}: not readable as a CSV: {error}") from error


def read_yaml(path: str) -> Any:
    """What a YAML or JSON file holds."""
    import yaml

    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInputError(f"{path}: {' '.join(str(error).split())}") from error


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
