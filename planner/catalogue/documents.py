"""YAML, JSON and CSV of anybody's making, read strictly: a key given twice is refused with its line, rows stay apart,
and no small text makes a large value."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from planner.errors import BadInputError, CatalogueError, legible

LARGEST = 200_000  # values of a document, aliases counted as often as they stand
LONG = 2**18  # characters beyond which a document is counted before it is built
DELIMITERS = (",", ";", "\t")
CSV_FAULTS = {
    "unexpected end of data": "a quote is opened and never closed",
    "expected after": "text follows a closing quote; a quote inside a quoted cell is written twice",
    "new-line character": "a carriage return stands outside quotes in a file whose lines end otherwise",
    "larger than field limit": f"a cell is longer than {csv.field_size_limit():,} characters",
}
LONGEST_WORD = 60  # characters of a key in an error


def yaml_node(text: str, where: Path | str, faults: list[str]) -> yaml.Node | None:
    """A YAML document as nodes, which know their lines; None where it is empty.

    Keys given twice are added to ``faults``.

    Raises
    ------
    CatalogueError
        No YAML, or an alias that stands inside itself or multiplies without bound.
    """
    with _refusing(where):
        loader = _loader()(text)
        try:
            return _composed(loader, text, where, faults)
        finally:
            loader.dispose()


def yaml_values(text: str, where: Path | str) -> tuple[Any, dict[str, int]]:
    """A YAML document as plain values, and the line of each of its outermost keys."""
    twice: list[str] = []
    with _refusing(where):
        loader = _loader()(text)
        try:
            node = _composed(loader, text, where, twice)
            if twice:
                raise CatalogueError(twice)
            lines = {}
            if isinstance(node, yaml.MappingNode):
                lines = {str(k.value): k.start_mark.line + 1 for k, _ in node.value}
            return loader.construct_document(node) if node is not None else None, lines
        finally:
            loader.dispose()


def json_values(text: str, where: Path | str) -> Any:
    """A JSON document as plain values."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except _Twice as error:
        raise CatalogueError([f"{where}:{_line_of(text, error)}: duplicate key {_word(error.key)}"]) from None
    except json.JSONDecodeError as error:
        raise CatalogueError([f"{where}:{error.lineno}: not JSON: {error}"]) from error
    except RecursionError as error:
        raise CatalogueError([f"{where}:1: not JSON: nested too deeply"]) from error
    except ValueError as error:
        raise CatalogueError([f"{where}:1: not JSON: {_without_advice(error)}"]) from error


def csv_rows(text: str, where: Path | str, known: Collection[str]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header of a CSV, and its rows with the line that each begins on.

    Cells are divided by commas, semicolons or tabs: by what gives the header most of the ``known`` names. A blank line
    is no row, and blank cells at the end of a row that the header has no name for are none.

    Raises
    ------
    BadInputError
        Quotes that do not close, a header with a name twice or without one; each with its line.
    """
    found = [(len(set(_header(_first(text, d))) & set(known)), d) for d in DELIMITERS]
    delimiter = max(found, key=lambda pair: pair[0])[1]
    cut = _cut(text, where, delimiter)
    line, first = next(cut, (1, []))
    header = _header(first)
    seen: set[str] = set()
    for i, name in enumerate(header):
        if not name or name in seen:
            raise BadInputError(f"{where}:{line}: " + (f"column {_word(name)} stands twice" if name else
                                                       f"column {i + 1} has no name"))  # fmt: skip
        seen.add(name)
    return header, [(at, _without_blanks(cells, len(header))) for at, cells in cut]


class _Twice(Exception):
    def __init__(self, key: str) -> None:
        self.key = key


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        raise _Twice(next(k for k, _ in pairs if k in seen or seen.add(k)))  # type: ignore[func-returns-value]
    return found


def _line_of(text: str, error: _Twice) -> int:
    """The line of the key given twice, by reading the JSON as the YAML that it is; 1 where that cannot be."""
    try:
        root = yaml.compose(text, Loader=_loader())
        return next((key.start_mark.line + 1 for key, _ in _twice(root)), 1)
    except (yaml.YAMLError, ValueError, RecursionError):
        return 1


def _loader() -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _composed(loader: Any, text: str, where: Path | str, faults: list[str]) -> yaml.Node | None:
    _refuse_long(text, where)
    node: yaml.Node | None = loader.get_single_node()
    _refuse_large(node, where)
    faults += [_said_twice(where, *keys) for keys in _twice(node)]
    return node


@contextmanager
def _refusing(where: Path | str) -> Iterator[None]:
    """What PyYAML says of a document, as the planner says it."""
    try:
        yield
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise CatalogueError([f"{where}:{line}: not YAML: {error.problem}"]) from error
    except RecursionError as error:
        raise CatalogueError([f"{where}:1: not YAML: nested too deeply"]) from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        words = " ".join(_without_advice(error).split())
        raise CatalogueError([f"{where}:1: not YAML: {words}"]) from error


def _refuse_long(text: str, where: Path | str) -> None:
    """Count the values of a long document as they are parsed, which holds none of them."""
    if len(text) > LONG:
        for i, _ in enumerate(yaml.parse(text, Loader=_loader())):
            if i > LARGEST:
                raise CatalogueError([f"{where}:1: more than {LARGEST:,} values"])


def _refuse_large(root: yaml.Node | None, where: Path | str) -> None:
    """Refuse a document whose aliases, written out, would make more than :data:`LARGEST` values."""
    sizes: dict[int, int] = {}
    inside: set[int] = set()

    def size(node: yaml.Node) -> int:
        key = id(node)
        if key in inside:
            raise CatalogueError([f"{where}:{node.start_mark.line + 1}: an alias stands inside what it names"])
        if key not in sizes:
            inside.add(key)
            sizes[key] = 1 + sum(map(size, _parts(node)))
            inside.discard(key)
            if sizes[key] > LARGEST:
                line = node.start_mark.line + 1
                raise CatalogueError([f"{where}:{line}: aliases make more than {LARGEST:,} values of this"])
        return sizes[key]

    if root is not None:
        size(root)


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _twice(root: yaml.Node | None) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Keys that their mapping gives a second time, with the first; at any depth, each mapping looked at once."""
    waiting, met = [root] if root is not None else [], set()
    while waiting:
        node = waiting.pop()
        if id(node) in met or isinstance(node, yaml.ScalarNode):
            continue
        met.add(id(node))
        seen: dict[str, yaml.Node] = {}
        for key in (k for k, _ in node.value) if isinstance(node, yaml.MappingNode) else ():
            name = f"{key.tag} {key.value}"
            if name in seen:
                yield key, seen[name]
            seen.setdefault(name, key)
        waiting.extend(_parts(node))


def _lines(text: str) -> io.StringIO:
    """Lines that end as most do, and where none does so, by a carriage return."""
    return io.StringIO(text, newline="\n" if "\n" in text else "")


def _first(text: str, delimiter: str) -> list[str]:
    """The first line that is not blank, cut; nothing where it cannot be cut so."""
    try:
        return next((cells for cells in csv.reader(_lines(text), delimiter=delimiter) if cells), [])
    except csv.Error:
        return []


def _header(cells: Sequence[str]) -> list[str]:
    return [c.strip() for c in _without_blanks(cells, 0)]


def _without_blanks(cells: Sequence[str], least: int) -> list[str]:
    """The cells without blank ones at the end, but for the first ``least``."""
    kept = list(cells)
    while len(kept) > least and not kept[-1].strip():
        kept.pop()
    return kept


def _cut(text: str, where: Path | str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows and the line that each begins on."""
    reader = csv.reader(_lines(text), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        words = str(error)
        said = next((ours for theirs, ours in CSV_FAULTS.items() if theirs in words), words)
        raise BadInputError(f"{where}:{line}: {said}") from error


def _said_twice(where: Path | str, key: yaml.Node, first: yaml.Node) -> str:
    line, before = key.start_mark.line + 1, first.start_mark.line + 1
    return f"{where}:{line}: duplicate key {_word(key.value)}, first on line {before}"


def _word(key: Any) -> str:
    return repr(legible(str(key), most=LONGEST_WORD))


def _without_advice(error: Exception) -> str:
    """Python's words on a number of thousands of digits advise a setting that a user of the planner does not have."""
    return str(error).split(";")[0]
