"""Reading and writing files of scenarios and results; every fault of a path is one clear error."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from planner.errors import BadInputError
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


def write_bytes(path: str, data: bytes) -> None:
    """Write bytes to a file."""
    target = check_writable(path)
    try:
        target.write_bytes(data)
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
        return from_yaml(path, text)
    return from_csv(path, text)


def from_csv(path: str, text: str) -> list[dict[str, Any]]:
    """Rows of CSV text; ``path`` names it in errors."""
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


def from_yaml(path: str, text: str) -> list[dict[str, Any]]:
    """Rows of YAML or JSON text; ``path`` names it in errors."""
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
