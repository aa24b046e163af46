"""Catalogue files in: YAML with line numbers, checked against a table of fields, all faults told together.

A file is composed, not constructed, so that every value keeps its line. A schema is data: a tuple of
:class:`Field`. Figures are written ``{value: 989.4 TFLOP/s, source: key}``; the key stands under
``sources`` of the same file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from planner.catalogue.documents import yaml_node
from planner.catalogue.hardware import Provenance
from planner.errors import MOST_FAULTS, BadInputError, CatalogueError, legible, nearest
from planner.files import read_text
from planner.units import format_quantity, parse_quantity

LONGEST_TEXT = 4000  # characters of a text of a profile
BASES = ("measured", "datasheet", "derived", "assumed")
_PATTERNS = {"date": re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"), "release": re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})*")}
_DUE = {
    "integer": "an integer",
    "number": "a number",
    "flag": "true or false",
    "date": "a date YYYY-MM-DD",
    "release": "a release: numbers with dots between them",
}
_TAG = "tag:yaml.org,2002:"


# What a figure may be, by its unit, and a bare number, by its kind: three powers of ten and more beyond what exists, so
# that a slip of a unit or of the keyboard is told and a chip of tomorrow is not refused (assumption).
PLAUSIBLE = {
    "FLOP/s": (1e9, 1e18),
    "byte/s": (1e6, 1e16),
    "byte": (1e3, 1e16),
    "s": (0.0, 1.0),
    "W": (0.1, 1e6),
    "USD/hour": (1e-4, 1e5),
    "Hz": (1e6, 1e11),
    "number": (1e-3, 1e3),
    "integer": (1, 1_048_576),
    "integers": (1, 1_048_576),
}


@dataclass(frozen=True)
class Field:
    """One row of a schema.

    Attributes
    ----------
    kind : str
        ``text``, ``texts`` (a list), ``source`` (a key, read as its citation), ``integer``, ``integers``,
        ``number``, ``flag``, ``date``, ``release``, ``choice``, ``quantity`` (text with a unit), ``figure`` (value,
        source, basis, note), ``section`` (a mapping of ``fields``), ``sections`` (a list of them) or
        ``table`` (a mapping whose values are each ``item``).
    unit : str
        Base unit of a quantity or figure; a plain ``number`` has none.
    keys : tuple of str
        What a table's keys, or a choice, may be; empty for any.
    least, most : float
        Range of a number in base units, where it is not that of its unit (:data:`PLAUSIBLE`).
    """

    name: str
    kind: str
    description: str = ""
    unit: str = ""
    required: bool = False
    keys: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    item: Field | None = None
    default: Any = None
    least: float | None = None
    most: float | None = None

    @property
    def range(self) -> tuple[float, float] | None:
        """Least and most of a number, in base units: its own, else those of its unit; None where it is no number."""
        low, high = PLAUSIBLE.get(self.unit or self.kind, (None, None))
        low, high = low if self.least is None else self.least, high if self.most is None else self.most
        return None if low is None or high is None else (low, high)


@dataclass(frozen=True)
class Figure:
    """A sourced value in base units, and the line it stands on."""

    value: float
    provenance: Provenance
    line: int


FIGURE_FIELDS = (
    Field("value", "text", "number and unit", required=True),
    Field("source", "source", "a key under `sources` of this file", required=True),
    Field("basis", "choice", "datasheet unless stated", keys=BASES, default="datasheet"),
    Field("note", "text", "how it was derived, or under which conditions it holds", default=""),
)


@dataclass
class Document:
    """A file being read: its path, its sources, and the faults found so far."""

    path: Path
    sources: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def fault(self, node: yaml.Node, message: str) -> None:
        """Note a fault at the line of ``node``."""
        self.faults.append(f"{self.path}:{node.start_mark.line + 1}: {message}")

    def source(self, key: str, node: yaml.Node) -> str:
        """The citation behind a source key; a missing key is a fault."""
        self.used.add(key)
        if key not in self.sources:
            close = nearest(key, self.sources) or sorted(self.sources)
            self.fault(node, f"source {key!r} is not under `sources`; nearest: {', '.join(close) or 'none'}")
        return self.sources.get(key, key)


def read_file(path: Path, fields: Iterable[Field]) -> dict[str, Any]:
    """Read one catalogue file; values are plain Python, figures are :class:`Figure`.

    Raises
    ------
    CatalogueError
        Every fault of the file, each as ``file:line: message``.
    """
    values, document = read_document(path, fields)
    if document.faults:
        raise CatalogueError(document.faults)
    return values


def read_table(path: Path, item: Field) -> dict[str, Any]:
    """Read a file that is one table, whose keys are free and whose values are each an ``item``.

    Raises
    ------
    CatalogueError
        Every fault of the file, each as ``file:line: message``.
    """
    root, document = _opened(path)
    values = {} if root is None else _table(root, Field("", "table", item=item), document, "")
    if document.faults:
        raise CatalogueError(document.faults)
    return values


def read_document(path: Path, fields: Iterable[Field]) -> tuple[dict[str, Any], Document]:
    """As :func:`read_file`, but the faults are returned with the document and not raised."""
    root, document = _opened(path)
    if root is None:
        return {}, document
    for key, value in root.value:
        if key.value == "sources" and isinstance(value, yaml.MappingNode):
            document.sources = {str(k.value): str(v.value) for k, v in value.value}
    return _section(root, tuple(fields), document, ""), document


def _opened(path: Path) -> tuple[yaml.MappingNode | None, Document]:
    """The mapping that a file is, None where it is none, and the document with the faults of that."""
    document = Document(path)
    try:
        root = yaml_node(read_text(path), path, document.faults)
    except BadInputError as error:
        document.faults += error.faults if isinstance(error, CatalogueError) else [_placed(str(error), path)]
        return None, document
    if isinstance(root, yaml.MappingNode):
        return root, document
    document.faults.append(f"{path}:1: a mapping of fields is due")
    return None, document


def _placed(message: str, path: Path) -> str:
    """A fault of the file as a whole, on its first line."""
    return f"{path}:1{message.removeprefix(str(path))}" if message.startswith(f"{path}: ") else message


def _pairs(node: yaml.MappingNode) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """Keys of a mapping with their nodes; one that is given twice was noted when the file was read."""
    found: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for key, value in node.value:
        found.setdefault(str(key.value), (key, value))
    return found


def _section(node: yaml.Node, fields: tuple[Field, ...], document: Document, where: str) -> dict[str, Any]:
    """Read a mapping against its fields; defaults fill what is absent."""
    values: dict[str, Any] = {f.name: f.default for f in fields}
    if not isinstance(node, yaml.MappingNode):
        document.fault(node, f"{where or 'file'}: a mapping is due")
        return values
    known = {f.name: f for f in fields}
    pairs = _pairs(node)
    for name, (key, value) in pairs.items():
        if name in known:
            values[name] = _read(value, known[name], document, f"{where}{name}")
        elif len(document.faults) <= MOST_FAULTS:
            close = nearest(name, known)
            hint = f"nearest: {', '.join(close)}" if close else f"allowed: {', '.join(known)}"
            document.fault(key, f"unknown key {where + name!r}; {hint}")
    missing = [f.name for f in fields if f.required and f.name not in pairs]
    if missing:
        document.fault(node, f"{where or 'file'}: missing {', '.join(missing)}")
    return values


def _read(node: yaml.Node, spec: Field, document: Document, where: str) -> Any:
    """Read one value of any kind."""
    if spec.kind == "figure":
        return _figure(node, spec, document, where)
    if spec.kind == "section":
        return _section(node, spec.fields, document, f"{where}.")
    if spec.kind == "sections":
        return [_section(n, spec.fields, document, f"{where}[{i}].") for i, n in _items(node, document, where)]
    if spec.kind == "table":
        return _table(node, spec, document, where)
    if spec.kind in ("texts", "integers"):
        one = replace(spec, kind=spec.kind[:-1])
        return tuple(_scalar(n, one, document, f"{where}[{i}]") for i, n in _items(node, document, where))
    return _scalar(node, spec, document, where)


def _items(node: yaml.Node, document: Document, where: str) -> list[tuple[int, yaml.Node]]:
    if isinstance(node, yaml.SequenceNode):
        return list(enumerate(node.value))
    document.fault(node, f"{where}: a list is due")
    return []


def _table(node: yaml.Node, spec: Field, document: Document, where: str) -> dict[str, Any]:
    """A mapping with free or listed keys, all values alike."""
    assert spec.item is not None
    if not isinstance(node, yaml.MappingNode):
        document.fault(node, f"{where}: a mapping is due")
        return {}
    values = {}
    for name, (key, value) in _pairs(node).items():
        if spec.keys and name not in spec.keys:
            close = nearest(name, spec.keys) or list(spec.keys)
            document.fault(key, f"unknown key {where}.{name}; nearest: {', '.join(close)}")
        else:
            values[name] = _read(value, spec.item, document, f"{where}.{name}")
    return values


def _figure(node: yaml.Node, spec: Field, document: Document, where: str) -> Figure | None:
    """A ``{value, source, basis, note}`` mapping as a :class:`Figure` in the base unit."""
    if not isinstance(node, yaml.MappingNode):
        document.fault(node, f"{where}: a figure is due: {{value: <number and unit>, source: <key>}}")
        return None
    due = replace(spec, name="value", kind="quantity", required=True, default=None)
    values = _section(node, (due, *FIGURE_FIELDS[1:]),
                      document, f"{where}.")  # fmt: skip
    if values["value"] is None or values["source"] is None:
        return None
    return Figure(
        values["value"],
        Provenance(values["source"], values["basis"], values["note"]),
        node.start_mark.line + 1,
    )


def _scalar(node: yaml.Node, spec: Field, document: Document, where: str) -> Any:
    """One plain value; a wrong type is a fault and reads as None."""
    if not isinstance(node, yaml.ScalarNode):
        document.fault(node, f"{where}: {_due(spec)} is due")
        return None
    tag, text = node.tag.removeprefix(_TAG), str(node.value)
    if spec.kind in ("quantity", "integer", "number"):
        return _number(node, tag, text, spec, document, where)
    if spec.kind in ("text", "source") and (len(text) > LONGEST_TEXT or not text.isprintable()):
        document.fault(node, f"{where}: {legible(text, most=60)!r} is longer than {LONGEST_TEXT:,} characters or holds "
                             "characters that cannot be printed")  # fmt: skip
        return None
    if spec.kind in ("text", "source") and tag in ("str", "int", "float"):
        return text if spec.kind == "text" else document.source(text, node)
    if spec.kind == "flag" and tag == "bool":
        return text.lower() in ("true", "yes", "on")
    if spec.kind in _PATTERNS and _PATTERNS[spec.kind].fullmatch(text):
        return text
    if spec.kind == "choice" and text in spec.keys:
        return text
    document.fault(node, f"{where}: {text!r} is not {_due(spec)}")
    return None


def _number(node: yaml.Node, tag: str, text: str, spec: Field, document: Document, where: str) -> Any:
    """A quantity, a number or an integer within the range of its field; anything else is a fault and reads as None."""
    try:
        if spec.kind == "quantity":
            value: float = parse_quantity(text if tag == "str" else float(text), spec.unit)
        elif tag == "int" or (tag == "float" and spec.kind == "number"):
            value = int(text) if spec.kind == "integer" else float(text)
        else:
            document.fault(node, f"{where}: {text!r} is not {_due(spec)}")
            return None
    except BadInputError as error:
        document.fault(node, f"{where}: {error}")
        return None
    except ValueError:
        document.fault(node, f"{where}: {text!r} is not {_due(spec)}")
        return None
    if spec.range is not None and not spec.range[0] <= value <= spec.range[1]:
        document.fault(node, f"{where}: {text} is outside {range_text(spec)}")
        return None
    return value


def range_text(spec: Field) -> str:
    """The range of a field for people, in its unit; empty where it has none."""
    if spec.range is None or spec.kind in ("section", "sections", "table", "text", "texts"):
        return ""
    if spec.unit:
        return " … ".join(format_quantity(v, spec.unit) for v in spec.range)
    return " … ".join(f"{v:,.0f}" if v >= 1000 else f"{v:g}" for v in spec.range)


def _due(spec: Field) -> str:
    if spec.kind == "choice":
        return f"one of {', '.join(spec.keys)}"
    return _DUE.get(spec.kind, "text")


def field_table(fields: Iterable[Field], prefix: str = "") -> list[Mapping[str, str]]:
    """The schema as rows (field, type, unit, range, required, description), nested fields with dotted names."""
    rows: list[Mapping[str, str]] = []
    for spec in fields:
        inner = spec.item if spec.kind == "table" and spec.item is not None else spec
        name = f"{prefix}{spec.name}" + ("[]" if spec.kind == "sections" else "")
        key = f".<{'dtype' if 'bf16' in spec.keys else 'name'}>" if spec.kind == "table" else ""
        kind = inner.kind if inner.kind != "choice" else f"one of: {', '.join(inner.keys)}"
        rows.append({
            "field": name + key,
            "type": kind,
            "unit": inner.unit,
            "range": range_text(inner),
            "required": "yes" if spec.required else "",
            "description": spec.description,
        })  # fmt: skip
        rows.extend(field_table(_nested(inner), f"{name}{key}."))
    return rows


def _nested(spec: Field) -> tuple[Field, ...]:
    if spec.kind == "table" and spec.item is not None:
        return (Field("<dtype>", spec.item.kind, unit=spec.item.unit, fields=spec.item.fields),)
    return spec.fields
