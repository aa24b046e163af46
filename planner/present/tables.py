"""Rows to text: a table that fits its page, CSV, JSON or Markdown. It formats; it computes nothing."""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from planner.errors import unknown
from planner.present.formatting import column_text

FORMATS = ("table", "csv", "json", "markdown")
WIDE = 200  # columns of a table that goes to a file or a pipe
NARROWEST = 18  # columns that running text is folded to, before a column is left out
GAP = "  "
Row = Mapping[str, Any]


class Text(NamedTuple):
    """A column as text; numbers, which stand to the right, are never folded."""

    heading: str
    cells: list[str]
    numeric: bool


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
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, tuple):
        return tuple(plain(v) for v in value)
    return value


def to_json(data: Any) -> str:
    """Indented JSON."""
    return json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False)


def columns_of(rows: Sequence[Row]) -> list[str]:
    """All keys of the rows, in order of first appearance."""
    return list(dict.fromkeys(k for r in rows for k in r))


def to_csv(rows: Sequence[Row], columns: Sequence[str] | None = None, *, safe: bool = False) -> str:
    """Rows as CSV in base units, missing cells empty; ``safe`` puts an apostrophe before text that a spreadsheet would
    run."""
    names = list(columns or columns_of(rows))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, extrasaction="ignore", lineterminator="\n")
    writer.writerow({k: csv_cell(k, safe) for k in names})
    for r in rows:
        writer.writerow({k: csv_cell(plain(r.get(k)), safe) for k in names})
    return out.getvalue()


def csv_cell(value: Any, safe: bool) -> Any:
    """A cell of a CSV. Spreadsheets take text that begins so for a formula
    (https://owasp.org/www-community/attacks/CSV_Injection)."""
    if safe and isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return f"'{value}"
    return "" if value is None else value


def _texts(rows: Sequence[Row], names: Sequence[str]) -> list[Text]:
    """Heading and cells of every column."""
    return [Text(*column_text(n, [plain(r.get(n)) for r in rows]), _is_numeric(n, rows)) for n in names]


def to_markdown(rows: Sequence[Row], columns: Sequence[str] | None = None) -> str:
    """Rows as a Markdown table of display text."""
    texts = _texts(rows, list(columns or columns_of(rows)))
    body = zip(*(t.cells for t in texts), strict=True)
    lines = [[t.heading for t in texts], ["---"] * len(texts), *body]
    return "\n".join(f"| {' | '.join(c.replace('|', chr(92) + '|') for c in line)} |" for line in lines)


def to_table(rows: Sequence[Row], columns: Sequence[str] | None = None, *, title: str = "", width: int = 0,
             color: bool = False) -> str:  # fmt: skip
    """Rows as a table no wider than ``width``, numbers to the right.

    Running text is folded first; then columns are left out from the right, which a line says; where not even the first
    two have room, a row becomes a block of lines. No cell is cut.
    """
    room = width or WIDE
    names = list(columns or columns_of(rows))
    texts = [t for i, t in enumerate(_texts(rows, names)) if i == 0 or any(t.cells)]
    kept = len(texts)
    while kept > 2 and _widths(texts[:kept], room) is None:
        kept -= 1
    widths = _widths(texts[:kept], room)
    head = [f"\x1b[1m{title}\x1b[0m" if color else title, ""] if title else []
    if widths is None:
        return "\n".join([*head, *_blocks(texts, room)])
    lines = [*head, *_lines(texts[:kept], widths)]
    if kept < len(texts):
        left_out = ", ".join(t.heading.partition(" [")[0] for t in texts[kept:])
        lines += textwrap.wrap(f"… and {left_out} in a wider window, or with --format csv", room)
    return "\n".join(lines)


def _is_numeric(name: str, rows: Sequence[Row]) -> bool:
    values = [plain(r.get(name)) for r in rows]
    return any(isinstance(v, int | float | tuple) and not isinstance(v, bool) for v in values)


def _widths(texts: Sequence[Text], room: int) -> list[int] | None:
    """A width for every column so that all have room, running text folded as little as can be; None where none do."""
    widths = [_natural(t) for t in texts]
    least = [_least(t) for t in texts]
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - room
    while excess > 0:
        slack = [w - m for w, m in zip(widths, least, strict=True)]
        if max(slack) <= 0:
            return None
        i = max((i for i, s in enumerate(slack) if s > 0), key=lambda i: widths[i])
        widths[i] -= 1
        excess -= 1
    return widths


def _natural(text: Text) -> int:
    return max(map(len, (*text.cells, *_folded_heading(text.heading))))


def _least(text: Text) -> int:
    """The narrowest a column may be: running text is folded between words, a number or a name never."""
    natural = _natural(text)
    running = any(" " in c and len(c) > NARROWEST for c in text.cells)
    if text.numeric or not running or natural <= NARROWEST:
        return natural
    words = max((len(w) for c in text.cells for w in c.split()), default=0)
    return min(natural, max(NARROWEST, min(words, 2 * NARROWEST)))


def _folded_heading(heading: str) -> list[str]:
    """A heading in two lines or three: its words, and its unit."""
    words, bracket, unit = heading.partition(" [")
    lines = textwrap.wrap(words, max(9, *(len(w) for w in words.split() or [""])))
    return [*lines, bracket.strip() + unit] if unit and unit != "%]" else [*lines[:-1], f"{lines[-1]}{bracket}{unit}"]


def _lines(texts: Sequence[Text], widths: Sequence[int]) -> list[str]:
    """Heading, rule and rows as lines of text."""

    def row(cells: Sequence[Sequence[str]], *, foot: bool = False) -> list[str]:
        high = max(map(len, cells))
        padded = [[""] * (high - len(c)) + list(c) if foot else [*c, *[""] * (high - len(c))] for c in cells]
        columns = list(zip(padded, widths, texts, strict=True))
        return [
            GAP.join(c[i].rjust(w) if t.numeric else c[i].ljust(w) for c, w, t in columns).rstrip() for i in range(high)
        ]

    rule = "─" * (sum(widths) + len(GAP) * (len(widths) - 1))
    out = [*row([_folded_heading(t.heading) for t in texts], foot=True), rule]
    for cells in zip(*(t.cells for t in texts), strict=True):
        out += row([textwrap.wrap(c, w, break_on_hyphens=False) or [""] for c, w in zip(cells, widths, strict=True)])
    return out


def _blocks(texts: Sequence[Text], room: int) -> list[str]:
    """A block of ``heading  value`` lines a row."""
    lines: list[str] = []
    for i in range(len(texts[0].cells)):
        for t in texts:
            if t.cells[i]:
                lines += textwrap.wrap(
                    f"{t.heading}: {t.cells[i]}", room, subsequent_indent="  ", break_on_hyphens=False
                )
        lines.append("")
    return lines[:-1]


def render(rows: Sequence[Row], fmt: str, columns: Sequence[str] | None = None, *, title: str = "", width: int = 0,
           color: bool = False, safe: bool = False) -> str:  # fmt: skip
    """Rows in one of :data:`FORMATS`; CSV, ``safe`` for spreadsheets, and JSON carry every column in base units."""
    if fmt == "json":
        return to_json([dict(r) for r in rows])
    if fmt == "csv":
        return to_csv(rows, safe=safe).rstrip("\n")
    if fmt == "markdown":
        return to_markdown(rows, columns)
    return to_table(rows, columns, title=title, width=width, color=color)
