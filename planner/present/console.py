"""Where data and talk go, how wide they are, and how far a long job has come."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from planner.errors import legible


def say(text: str) -> None:
    """Talk, to stderr; what a user's names hold that no terminal should obey is escaped."""
    sys.stderr.write("\n".join(legible(line) for line in text.rstrip("\n").split("\n")) + "\n")


def put(text: str, output: str | None = None) -> None:
    """Data, to stdout or a file."""
    if output in (None, "-"):
        sys.stdout.write(text.rstrip("\n") + "\n")
        return
    from planner.present.export import write_text

    write_text(str(output), text)


def page_width() -> int:
    """Columns that text may take: of the terminal, or as ``$COLUMNS`` says; 0 where nothing says it."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal():
        return max(shutil.get_terminal_size((80, 24)).columns, 40)
    return 0


def looks(fmt: str, title: str = "") -> dict[str, Any]:
    """How :func:`planner.present.tables.render` draws here: title, width and colour, for tables alone."""
    if fmt != "table":
        return {}
    return {"title": title, "width": page_width(), "color": sys.stdout.isatty() and "NO_COLOR" not in os.environ}


def prose(text: str) -> str:
    """A sentence folded to the page; as it is where nothing says how wide that is."""
    width = page_width()
    return "\n".join(textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)) if width else text


def assumed_lines(notes: Sequence[str]) -> list[str]:
    """What was assumed, a line each, under a heading."""
    return listed("Assumed:", notes)


def listed(heading: str, notes: Sequence[str]) -> list[str]:
    """Sentences under a heading, folded to the page."""
    width = page_width() or 10**6
    folded = [line for n in map(legible, notes) for line in textwrap.wrap(
        n, width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)]  # fmt: skip
    return [heading, *folded] if notes else []


class Counter:
    """A line on stderr that counts, where that is a terminal; it is gone when the job is done."""

    def __init__(self) -> None:
        self.shown = sys.stderr.isatty()

    def __enter__(self) -> Counter:
        return self

    def __exit__(self, *_: object) -> None:
        self.tell("")

    def tell(self, text: str) -> None:
        if self.shown:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    @property
    def searching(self) -> Callable[[int, int], None] | None:
        """What a search tells how many layouts it has seen, and how many fit."""
        return (lambda n, fit: self.tell(f"searching: {n:,} layouts, {fit:,} fit")) if self.shown else None

    def rows(self, rows: Iterable[Any], total: int) -> Iterator[Any]:
        """Pass rows on and count them."""
        for i, row in enumerate(rows, start=1):
            self.tell(f"{i:,} of {total:,}")
            yield row
