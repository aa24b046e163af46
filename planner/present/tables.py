"""Rows to text: a terminal table, CSV, JSON or Markdown. It formats; it computes nothing."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from planner.errors import unknown
from planner.units import format_gib, format_quantity

FORMATS = ("table", "csv", "json", "markdown")
LONGEST_WHOLE = 44  # characters a cell keeps on one line
WIDE = 200  # columns of a table that goes to a file or a pipe
Row = Mapping[str, Any]


def check_format(name: str) -> str:
    """A format by name; an unknown one is refused with the allowed names."""
    if name not in FORMATS:
        raise unknown("format", name, FORMATS, where="--format")
    return name


def plain(value: Any) -> Any:
    """A value that JSON can say: NaN and infinity become null, numpy scalars become Python's."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def to_json(data: Any) -> str:
    """Indented JSON."""
    return json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False)


def columns_of(rows: Sequence[Row]) -> list[str]:
    """All keys of the rows, in order of first appearance."""
    return list(dict.fromkeys(k for r in rows for k in r))


def to_csv(rows: Sequence[Row], columns: Sequence[str] | None = None) -> str:
    """Rows as CSV, missing cells empty."""
    names = list(columns or columns_of(rows))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for r in rows:
        writer.writerow({k: "" if plain(r.get(k)) is None else plain(r[k]) for k in names})
    return out.getvalue()


def to_markdown(rows: Sequence[Row], columns: Sequence[str] | None = None) -> str:
    """Rows as a Markdown table of display text."""
    names = list(columns or columns_of(rows))
    body = [[display(n, r.get(n)) for n in names] for r in rows]
    lines = [
        "| " + " | ".join(heading(n) for n in names) + " |",
        "|" + "|".join(" --- " for _ in names) + "|",
    ]
    return "\n".join([*lines, *("| " + " | ".join(cell.replace("|", "\\|") for cell in b) + " |" for b in body)])


_UNITS: dict[str, Callable[[float], str]] = {
    "bytes": format_gib,
    "s": lambda v: format_quantity(v, "s"),
    "flops": lambda v: f"{format_quantity(v, 'FLOP')}",
}
_PLAIN_NUMBERS = (
    "tokens_per_s", "tokens_per_s_per_device", "output_tokens_per_s", "output_tokens_per_s_low",
    "output_tokens_per_s_high", "tokens_per_s_per_user", "requests_per_s", "requests_per_s_most", "in_flight",
    "kv_cache_tokens",
)  # fmt: skip


def display(column: str, value: Any) -> str:
    """A cell for people: the unit comes from the column's name."""
    value = plain(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if column in ("mfu", "hfu", "share", "utilisation", "kv_use"):
            return f"{value:.1%}"
        if column in _PLAIN_NUMBERS:
            return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        if column.startswith("usd"):
            return f"{value:,.2f}"
        if "bytes_per" in column:
            return format_quantity(value, "byte")
        if column.startswith("joules"):
            return format_quantity(value, "J")
        if column == "watts":
            return format_quantity(value, "W")
        if "flops" in column:
            return format_quantity(value, "FLOP")
        for suffix, show in _UNITS.items():
            if column.endswith(f"_{suffix}") or column == suffix:
                return show(value)
        if isinstance(value, int):
            return f"{value:,}" if abs(value) >= 10_000 else str(value)
        return f"{value:,.4g}"
    return str(value)


def heading(column: str) -> str:
    """A column name for people: the unit suffix goes, the cells carry it."""
    for suffix in ("_bytes", "_s"):
        if column.endswith(suffix) and column not in _PLAIN_NUMBERS:
            column = column.removesuffix(suffix)
    return column.replace("_", " ")


def to_table(rows: Sequence[Row], columns: Sequence[str] | None = None, *, title: str = "", width: int = 0,
             color: bool = False) -> str:  # fmt: skip
    """Rows as a table for a terminal, numbers to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    names = list(columns or columns_of(rows))
    cells = [[display(n, r.get(n)) for n in names] for r in rows]
    table = Table(title=title or None, box=SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=(0, 1))
    for i, n in enumerate(names):
        numeric = any(isinstance(plain(r.get(n)), int | float) and not isinstance(r.get(n), bool) for r in rows)
        widest = max((len(c[i]) for c in cells), default=0)
        table.add_column(heading(n), justify="right" if numeric else "left", no_wrap=widest <= LONGEST_WHOLE,
                         overflow="fold")  # fmt: skip
    for c in cells:
        table.add_row(*c)
    out = io.StringIO()
    wide = width or WIDE
    Console(file=out, width=wide, no_color=not color, highlight=False, force_terminal=color).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip("\n").split("\n"))


def render(rows: Sequence[Row], fmt: str, columns: Sequence[str] | None = None, *, title: str = "", width: int = 0,
           color: bool = False) -> str:  # fmt: skip
    """Rows in one of :data:`FORMATS`; CSV and JSON carry every column in base units."""
    if fmt == "json":
        return to_json([dict(r) for r in rows])
    if fmt == "csv":
        return to_csv(rows).rstrip("\n")
    if fmt == "markdown":
        return to_markdown(rows, columns)
    return to_table(rows, columns, title=title, width=width, color=color)
