"""Where tables of answers go, and as what: the end of a path says the format, ``-`` is stdin and stdout."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from planner.errors import BadInputError, InternalError, unknown
from planner.present.console import looks, put, say
from planner.present.tables import FORMATS, columns_of, plain, render, to_csv, to_json

ENDS = {".csv": "csv", ".json": "json", ".md": "markdown", ".markdown": "markdown", ".parquet": "parquet",
        ".txt": "table"}  # fmt: skip
Rows = Sequence[Mapping[str, Any]]


def format_of(fmt: str | None, output: str | None) -> str:
    """The format of an answer: as told, else as the end of the path says, else a table; a strange end is refused."""
    end = Path(output).suffix.lower() if output not in (None, "-") else ""
    if end == ".parquet":
        if fmt is not None:
            raise BadInputError(f"--format {fmt}: {output} is Parquet; leave --format out, or end the path otherwise")
        return "parquet"
    if fmt is not None:
        return fmt
    if end and end not in ENDS:
        raise unknown("end of a file", end, ENDS, where=f"-o {output}")
    return ENDS.get(end, "table")


def text_format(fmt: str | None, output: str | None) -> str:
    """The format of an answer that is no table of rows alone, which Parquet cannot hold."""
    found = format_of(fmt, output)
    if found == "parquet":
        raise BadInputError(f"-o {output}: Parquet holds a table of rows; .json, .csv and .md hold this answer")
    return found


def put_list(rows: Rows, fmt: str | None, output: str | None, shown: Sequence[str], *, safe: bool = False) -> None:
    """Rows as asked: files have every column in base units, tables the columns ``shown``; ``safe`` as for CSV."""
    found = format_of(fmt, output)
    if found == "parquet":
        put_parquet(rows, columns_of(rows), str(output))
    else:
        put(render(rows, found, shown, safe=safe, **looks(found)), output)


def put_rows(
    rows: Rows, fmt: str, output: str | None, *, columns: Sequence[str], ids: bool = False, safe: bool = False
) -> None:
    """Rows of fixed columns in base units, to stdout or a file; what is neither JSON, Markdown nor Parquet is CSV,
    ``safe`` for spreadsheets if asked."""
    if fmt == "parquet":
        put_parquet(rows, columns, str(output))
    elif fmt == "json":
        numbered = [{**({"id": i} if ids and "id" not in r else {}), **{c: r.get(c) for c in columns}}
                    for i, r in enumerate(rows)]  # fmt: skip
        put(to_json(numbered), output)
    elif fmt == "markdown":
        put(render(rows, fmt, columns), output)
    else:
        put(to_csv(rows, columns, safe=safe), output)
    if output not in (None, "-"):
        say(f"{output}: {len(rows)} rows")


def put_parquet(rows: Rows, columns: Sequence[str], output: str) -> None:
    """Rows as a Parquet file, which takes pandas with pyarrow; fixed columns have fixed types."""
    from planner.frames import of_one_type
    from planner.planning.columns import FIXED, column_types
    from planner.present.export import write_bytes

    types = column_types() if set(FIXED) <= set(columns) else {}
    data = io.BytesIO()
    try:
        table = of_one_type([{c: plain(r.get(c)) for c in columns} for r in rows], columns, types)
        table.to_parquet(data, index=False)
    except ImportError:
        raise BadInputError(f"-o {output}: Parquet takes pyarrow: pip install 'roofline-planner[parquet]'") from None
    write_bytes(output, data.getvalue())


def exit_code(rows: Rows, *, strict: bool) -> int:
    """1 where no row has an answer; when strict, where any has none or does not fit.

    Raises
    ------
    InternalError
        Where the planner itself failed at a row.
    """
    crashed = sum(str(r["error"]).startswith("internal error") for r in rows)
    if crashed:
        raise InternalError(f"in {crashed} rows")
    bad = [bool(r["error"]) or (strict and r["fits"] in (False, "no")) for r in rows]
    return int(any(bad) if strict else all(bad))


__all__ = ["FORMATS", "exit_code", "format_of", "put_list", "put_parquet", "put_rows", "text_format"]
