"""Rows as pandas DataFrames: the one place that imports pandas, when the first is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

    Frame = DataFrame


def frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> Frame:
    """Rows as a DataFrame, its columns in order; what one row lacks is missing."""
    from pandas import DataFrame

    return DataFrame(list(rows), columns=list(columns) if columns is not None else None)
