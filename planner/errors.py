"""The errors a user can meet: each says what was given, where, what is allowed, and the nearest names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

LONGEST = 1000  # characters of an error; what was given may be longer
LONGEST_NAME = 100  # characters of a name that are compared with those that are known
MOST_FAULTS = 40  # of a file that are told together


def legible(text: str, *, most: int = 0) -> str:
    """Text as one can show it: what is no printable character is escaped, and the middle of a long one left out.

    Escape sequences, line ends, marks of direction and halves of surrogates come from names of files and from fields of
    profiles and configurations; a terminal and an SVG would obey or refuse them.
    """
    if most and len(text) > most:
        text = f"{text[: most * 7 // 10]} … {text[-most // 5 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class PlannerError(Exception):
    """Base of every error a user can cause or meet; ``exit_code`` is what the command line returns."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(legible(message, most=LONGEST))


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
        self.faults = tuple(legible(f, most=LONGEST) for f in faults)
        shown = self.faults[:MOST_FAULTS]
        more = len(self.faults) - len(shown)
        Exception.__init__(self, "\n".join([*shown, *([f"and {more} more faults"] if more else [])]))


class InfeasibleError(PlannerError):
    """A search in which nothing fits; the message carries the tally and the nearest miss."""

    exit_code = 1


class InternalError(PlannerError):
    """A fault of the planner itself, with the inputs that made it; no result is printed in its place."""

    exit_code = 3

    def __init__(self, message: str) -> None:
        super().__init__(f"internal error: {message}; please report this")


def internal(error: Exception) -> PlannerError:
    """An exception that nobody meant, as the planner's own: what it says and where in the planner it was raised."""
    if isinstance(error, PlannerError):
        return error
    import traceback  # seldom needed

    own = [f for f in traceback.extract_tb(error.__traceback__) if "planner" in f.filename]
    place = f" at {own[-1].filename.rpartition('planner/')[2]}:{own[-1].lineno}" if own else ""
    return InternalError(f"{type(error).__name__}{place}: {error}")


def nearest(name: str, known: Iterable[str], *, count: int = 3) -> list[str]:
    """The ``count`` known names most like ``name``, best first; names that contain it come first."""
    names = sorted(set(known))
    key = name.lower()[:LONGEST_NAME]
    by_fold = {n.lower(): n for n in names}
    close = [by_fold[n] for n in difflib.get_close_matches(key, by_fold, n=count, cutoff=0.5)]
    inside = [n for n in names if key and key in n.lower() and n not in close]
    return (close + inside)[:count]


def unknown(what: str, given: str, known: Iterable[str], *, where: str = "", many: int = 12) -> BadInputError:
    """One-line error for a name that is not in ``known``: the nearest names or a few, or the allowed ones if few."""
    names = sorted(set(known))
    place = f"{where}: " if where else ""
    close = nearest(given, names)
    hint = f"; nearest: {', '.join(close)}" if close else ""
    if not close and len(names) > many:
        hint = f"; a few: {', '.join(sorted(names, key=len)[:6])}"  # short names are the plain ones
    allowed = f"; allowed: {', '.join(names)}" if len(names) <= many else f" ({len(names)} are known)"
    text = f"{place}unknown {what} {given!r}{hint}{allowed}"
    return BadInputError(text, key=what, given=given, allowed=names)
