"""How an answer shows itself where Python or a notebook displays it: short, and in HTML as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from planner.units import format_quantity, significant

MOST_ROWS = 100


def cell(name: str, value: object) -> str:
    """A value as text; what ends in ``_s`` and ``_bytes`` with its unit."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    if name.endswith("_bytes"):
        return f"{significant(value / 2**30)} GiB"
    if name.endswith("_s") and "per_s" not in name:
        return format_quantity(value, "s")
    return f"{value:,}" if isinstance(value, int) else significant(value)


def html_table(rows: Sequence[Mapping[str, object]], columns: Iterable[str], *, caption: str) -> str:
    """Rows as an HTML table under a caption, the first :data:`MOST_ROWS` of them."""
    names = list(columns)
    head = "".join(f"<th>{escape(n)}</th>" for n in names)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell(n, r.get(n)))}</td>' for n in names)}</tr>"
                   for r in rows[:MOST_ROWS])  # fmt: skip
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>"
