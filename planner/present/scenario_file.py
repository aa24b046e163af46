"""A file of scenarios in: CSV, YAML or JSON, each row as it stands there, and what is wrong with one in that row."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from planner.catalogue.documents import csv_rows, json_values, yaml_values
from planner.errors import BadInputError
from planner.files import LARGEST, LARGEST_TABLE, as_text, is_missing, read_text
from planner.scenario.keys import KEYS, UNREADABLE

Row = dict[str, Any]


def read_scenarios(path: str) -> list[Row]:
    """Rows of a CSV, or the list (or ``scenarios:``) of a YAML or JSON file; ``-`` is standard input, YAML or JSON
    where it begins like them.

    A row that cannot be understood as one, with more or fewer cells than the header, has ``UNREADABLE`` and why.

    Raises
    ------
    BadInputError
        A file that cannot be read, or whose rows cannot be told apart; with the line.
    """
    if path == "-":
        return _from_stdin()
    if is_missing(path):
        raise BadInputError(f"--scenarios: file {path!r} does not exist")
    suffix = Path(path).suffix.lower()
    where = f"--scenarios {path}"
    if suffix == ".json":
        return _listed(json_values(read_text(path, where=where), path), path)
    if suffix in (".yaml", ".yml"):
        return _listed(yaml_values(read_text(path, most=LARGEST, where=where), path)[0], path)
    return _from_csv(read_text(path, most=LARGEST_TABLE, where=where), path)


def read_tree(path: str) -> Any:
    """What a YAML or JSON file holds."""
    text = read_text(path)
    return json_values(text, path) if Path(path).suffix.lower() == ".json" else yaml_values(text, path)[0]


def read_rows(path: str, known: Collection[str]) -> list[dict[str, str]]:
    """Rows of a CSV by its header, some of whose names are ``known``; one of another length is refused."""
    header, rows = csv_rows(read_text(path, most=LARGEST_TABLE), path, known)
    for line, cells in rows:
        if len(cells) != len(header):
            raise BadInputError(f"{path}:{line}: {len(cells)} cells, but the header has {len(header)}")
    return [dict(zip(header, cells, strict=True)) for _, cells in rows]


def _from_stdin() -> list[Row]:
    if sys.stdin is None:
        raise BadInputError("--scenarios -: standard input is closed")
    text = as_text(sys.stdin.buffer.read(LARGEST_TABLE + 1), most=LARGEST_TABLE, where="--scenarios -")
    start = text.lstrip()
    if start.startswith(("[", "{")):
        with suppress(BadInputError):  # what is no JSON may be YAML
            return _listed(json_values(text, "-"), "-")
    if start.startswith(("[", "{", "- ", "scenarios:")):
        return _listed(yaml_values(text, "-")[0], "-")
    return _from_csv(text, "-")


def _from_csv(text: str, path: str) -> list[Row]:
    header, rows = csv_rows(text, path, KEYS)
    if not header:
        raise BadInputError(f"{path}:1: empty; a header of scenario keys is due, as in model,hardware,devices")
    if not set(header) & set(KEYS):
        raise BadInputError(f"{path}:1: no scenario key in the header {','.join(header)[:60]!r}; cells are divided by "
                            f"commas, semicolons or tabs; a few keys: {', '.join(list(KEYS)[:12])}")  # fmt: skip
    found: list[Row] = []
    for line, cells in rows:
        row: Row = dict(zip(header, cells, strict=False))
        if len(cells) != len(header):
            row[UNREADABLE] = f"{path}:{line}: {len(cells)} cells, but the header has {len(header)}"
        found.append(row)
    return found


def _listed(loaded: Any, path: str) -> list[Row]:
    rows = loaded
    if isinstance(loaded, Mapping):
        beside = [str(k) for k in loaded if str(k) in KEYS]
        if beside:
            raise BadInputError(f"{path}:1: {', '.join(beside)} beside the scenarios; each scenario says its own keys")
        rows = loaded.get("scenarios")
    if not isinstance(rows, list):
        raise BadInputError(f"{path}:1: a list of scenarios is due, each a mapping of keys")
    return [_named(row, i, path) for i, row in enumerate(rows, start=1)]


def _named(row: Any, number: int, path: str) -> Row:
    """A scenario with its keys as text, and figures that are no numbers as the words that they were written as."""
    if not isinstance(row, Mapping):
        return {UNREADABLE: f"{path}: scenario {number} is no mapping of keys"}
    return {str(k): str(v) if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
