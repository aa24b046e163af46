"""The errors a user can meet: each says what was given, where, what is allowed, and the nearest names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class PlannerError(Exception):
    """Base of every error a user can cause or meet; ``exit_code`` is what the command line returns."""

    exit_code = 2


class BadInputError(PlannerError):
    """Input that cannot be understood or cannot be: unknown name, impossible layout, unsupported dtype.

    Attributes
    ----------
    key : str                   the scenario key or field that is wrong, the name that leads the message; else empty
    given : object              what was given for it
    allowed : tuple of str      what may be given, where that is a list
    """

    def __init__(self, text: str = "", *, key: str = "", given: object = None, allowed: Iterable[str] = ()) -> None:
        super().__init__(text)
        leading = re.match(r"([a-z_]+): ", text)
        key = key or (leading[1] if leading else "")
        self.key, self.given, self.allowed = key, given, tuple(allowed)


class CatalogueError(BadInputError):
    """Faults of catalogue files, told together; each fault is one line starting with ``file:line``."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class InfeasibleError(PlannerError):
    """A search in which nothing fits; the message carries the tally and the nearest miss."""

    exit_code = 1


def nearest(name: str, known: Iterable[str], *, count: int = 3) -> list[str]:
    """The ``count`` known names most like ``name``, best first; names that contain it come first."""
    names = sorted(set(known))
    key = name.lower()
    by_fold = {n.lower(): n for n in names}
    close = [by_fold[n] for n in difflib.get_close_matches(key, by_fold, n=count, cutoff=0.5)]
    inside = [n for n in names if key and key in n.lower() and n not in close]
    return (close + inside)[:count]


def unknown(what: str, given: str, known: Iterable[str], *, where: str = "", many: int = 12) -> BadInputError:
    """One-line error for a name that is not in ``known``: the nearest names, or the allowed ones if few."""
    names = sorted(set(known))
    place = f"{where}: " if where else ""
    close = nearest(given, names)
    hint = f"; nearest: {', '.join(close)}" if close else ""
    allowed = f"; allowed: {', '.join(names)}" if len(names) <= many else f" ({len(names)} are known)"
    text = f"{place}unknown {what} {given!r}{hint}{allowed}"
    return BadInputError(text, key=what, given=given, allowed=names)
