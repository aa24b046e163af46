"""Rows of a batch that were done when a run was cut short: kept beside its output, and taken from there by the next."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from planner import __version__
from planner.catalogue.loader import snapshot
from planner.catalogue.models import model_files
from planner.errors import BadInputError
from planner.files import LARGEST_TABLE, reason
from planner.present.tables import plain

Row = dict[str, Any]
Estimator = Callable[[Iterable[Mapping[str, object]]], Iterable[Mapping[str, object]]]


def resumed(
    rows: Sequence[Mapping[str, object]], output: str, estimate: Estimator, *, dirs: Sequence[str], folder: str
) -> Iterator[Row]:
    """The answer of each row, in order; one that an earlier run left beside ``output`` is not worked out again.

    Parameters
    ----------
    rows : scenarios
    output : file that the answers go to; done rows are kept in ``<output>.partial`` until it is written
    estimate : rows in, answers out
    dirs, folder : of the user's hardware profiles, and that relative model paths start from: a row is known by what it
        says and by the files that it was worked out from
    """
    partial = _partial(output)
    known = _kept(partial)
    hardware = snapshot(dirs or None)
    try:
        with partial.open("a", encoding="utf-8") as file:
            for row in rows:
                key = _key(row, hardware, folder)
                if key not in known:
                    answer = json.dumps(plain(dict(next(iter(estimate([row]))))), default=str)
                    known[key] = json.loads(answer)
                    if not known[key]["error"]:
                        file.write(f'{{"key": "{key}", "row": {answer}}}\n')
                        file.flush()
                yield known[key]
    except OSError as error:
        raise BadInputError(f"-o {partial}: cannot be written: {reason(error)}") from error


def finished(output: str) -> None:
    """The output is written: what was kept for the case that it would not be is removed."""
    with suppress(OSError):
        _partial(output).unlink()


def _partial(output: str) -> Path:
    target = Path(output)
    return target.with_name(f"{target.name}.partial")


def _kept(partial: Path) -> dict[str, Row]:
    """Rows of an earlier run by key; a line that a full disk or a kill cut short is none."""
    found: dict[str, Row] = {}
    with suppress(OSError), partial.open(encoding="utf-8", errors="replace") as file:
        if partial.stat().st_size <= 8 * LARGEST_TABLE:
            for line in file:
                with suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    found[str(entry["key"])] = dict(entry["row"])
    return found


def _key(row: Mapping[str, object], hardware: Hashable, folder: str) -> str:
    model = str(row.get("model", ""))
    told = [__version__, sorted((k, repr(v)) for k, v in row.items()), repr(hardware), folder,
            repr(model_files(model, folder))]  # fmt: skip
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
