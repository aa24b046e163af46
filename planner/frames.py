"""Rows as pandas DataFrames: the one place that imports pandas, when the first is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

    Frame = DataFrame


def frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> Frame:
    """Rows as a DataFrame, its columns in order; what one row lacks is missing."""
    from pandas import DataFrame

    return DataFrame(list(rows), columns=list(columns) if columns is not None else None)


def of_one_type(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], types: Mapping[str, str]) -> Frame:
    """Rows as a DataFrame whose columns hold one type each, as typed files need.

    ``types`` says ``number``, ``flag`` or ``text`` by name, so that every file of answers has the same; what a bad row
    has instead is missing. Of other columns, those of mixed types become text.
    """
    from pandas import to_numeric
    from pandas.api.types import infer_dtype

    table = frame(rows, columns)
    for name in table.columns:
        kind = types.get(name) or ("text" if infer_dtype(table[name], skipna=True).startswith("mixed") else "")
        if kind == "number":
            table[name] = to_numeric(table[name], errors="coerce").astype("float64")
        elif kind == "flag":
            table[name] = table[name].map(lambda v: v if isinstance(v, bool) else None).astype("boolean")
        elif kind == "text":
            table[name] = table[name].map(lambda v: None if v is None else str(v)).astype("string")
    return table


def read_shard(path: Path) -> Frame:
    """A shard of a sweep, Parquet or compressed CSV."""
    from pandas import read_csv, read_parquet

    return read_parquet(path) if path.suffix == ".parquet" else read_csv(path)
