"""Models by name or by path: the catalogue's own files, a Hugging Face ``config.json``, or a planner model file.

A catalogue file is ``models/<id>.yaml``. Its keys: ``id``, ``name``, ``aliases``, ``source``, ``published_parameters``
with ``published_source``, ``notes``, and either ``config`` (Hugging Face keys) or the native keys of
:mod:`planner.catalogue.families.native`. Loading one model parses one file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from planner.catalogue.copies import Copy, read_copy
from planner.catalogue.families.native import NATIVE_KEYS, model_from_native
from planner.catalogue.formats import requantized
from planner.catalogue.huggingface import model_from_config
from planner.catalogue.quantization import SECTIONS
from planner.catalogue.schema import Model
from planner.errors import BadInputError, CatalogueError, nearest, unknown

FOLDER = Path(__file__).parent / "models"
HEADER_KEYS = (
    "id",
    "name",
    "aliases",
    "source",
    "published_parameters",
    "published_source",
    "notes",
    "config",
)
_ALIASES = re.compile(r"^aliases:\s*\[(.*?)\]", re.MULTILINE | re.DOTALL)
# Files that AutoGPTQ, AutoAWQ and ModelOpt write beside config.json.
QUANTISERS_FILES = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
_PATH_SUFFIXES = (".json", ".yaml", ".yml")


def model_ids() -> tuple[str, ...]:
    """Ids of the catalogue, sorted."""
    return tuple(sorted(p.stem for p in FOLDER.glob("*.yaml")))


@lru_cache(maxsize=1)
def model_aliases() -> Mapping[str, str]:
    """Alias (lower case) to id."""
    found: dict[str, str] = {}
    for path in FOLDER.glob("*.yaml"):
        match = _ALIASES.search(path.read_text(encoding="utf-8"))
        for alias in match.group(1).split(",") if match else []:
            found[alias.strip().strip("'\"").lower()] = path.stem
    return found


def resolve_id(name: str) -> str:
    """The catalogue id of a name, alias or copy, in any case, blanks and underscores as hyphens; an unknown one is
    refused with the nearest."""
    return _resolve(name)[0]


def _resolve(name: str) -> tuple[str, Copy | None]:
    """The catalogue id of a name, and the copy it means if it is no model's own."""
    found = _known(name)
    if found is not None:
        return found, None
    copy = read_copy(name, _known)
    if copy is None:
        raise unknown("model", name, {*model_ids(), *model_aliases()})
    return copy.id, copy


def _known(name: str) -> str | None:
    """The catalogue id of a name or alias, its organisation left out where no alias has it."""
    given = name.strip().lower()
    for form in (given, given.rpartition("/")[2]):
        key = form if form in model_aliases() else re.sub(r"[\s_]+", "-", form)
        if re.fullmatch(r"[a-z0-9][a-z0-9._-]*", key) and (FOLDER / f"{key}.yaml").is_file():
            return key
        if key in model_aliases():
            return model_aliases()[key]
    return next((id for alias, id in model_aliases().items() if alias.rpartition("/")[2] == given), None)


def load_model(
    name_or_path: str | Path, relative_to: str | Path | None = None, *, class_name: str | None = None
) -> Model:
    """A model by catalogue id or alias, or from a path.

    Parameters
    ----------
    name_or_path : id, alias, or path of a ``config.json``, of its folder, or of a planner model YAML or JSON
    relative_to : folder that a relative path starts from; the working directory if None
    class_name : architecture class of Hugging Face transformers to count; what the configuration names if None
    """
    path = _path_of(name_or_path, relative_to)
    if path is not None:
        return _from_path(path, class_name)
    id, copy = _resolve(str(name_or_path))
    return _catalogued(id, class_name) if copy is None else _copied(_catalogued(id, class_name), copy)


def _copied(model: Model, copy: Copy) -> Model:
    """The model a copy's name means, its weights as the name says."""
    stored = copy.quantization
    if stored is not None:
        stored = requantized(stored, model.quantization, model.weight_dtype)
        model = replace(model, quantization=stored, weight_dtype=stored.dtype)
    return replace(model, assumed=(copy.note, *model.assumed))


def known_as(name_or_path: str, relative_to: str | Path | None = None) -> str:
    """What finds the same model from anywhere: its catalogue id, or its path made absolute."""
    path = _path_of(name_or_path, relative_to)
    return resolve_id(name_or_path) if path is None else str(path.absolute())


def _path_of(name_or_path: str | Path, relative_to: str | Path | None) -> Path | None:
    """The path that is meant; None for a name of the catalogue, which a folder of the same name does not shadow."""
    text = str(name_or_path)
    path = Path(text).expanduser()
    if relative_to is not None and not path.is_absolute():
        path = Path(relative_to) / path
    looks_like_path = (
        isinstance(name_or_path, Path) or text.endswith(_PATH_SUFFIXES) or text.startswith((".", "/", "~"))
    )
    folder = _known(text) is None and (path / "config.json").is_file()
    return path if looks_like_path or folder or ("/" in text and path.exists()) else None


def describe(name: str) -> dict[str, Any]:
    """What a catalogue file says of a model, its configuration included."""
    return dict(_read(FOLDER / f"{resolve_id(name)}.yaml")[0])


@lru_cache(maxsize=256)
def _catalogued(model_id: str, class_name: str | None) -> Model:
    return _from_planner_file(FOLDER / f"{model_id}.yaml", class_name)


def _from_path(path: Path, class_name: str | None) -> Model:
    if path.is_dir():
        path = path / "config.json"
    if not path.is_file():
        raise BadInputError(f"{path}: no such model file; a config.json, its folder, or a planner model YAML is due")
    if path.suffix == ".json":
        values = _with_quantization(path, _read(path)[0])
        if "architecture" not in values and "config" not in values:
            name = path.parent.resolve().name if path.name == "config.json" else path.stem
            model = model_from_config(values, id=name, where=str(path), class_name=class_name)
            return replace(model, source=str(path))
    return _from_planner_file(path, class_name)


def _with_quantization(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """A configuration with the quantiser's own file beside it, where the configuration says nothing itself."""
    if any(key in values for key in SECTIONS):
        return values
    for name in QUANTISERS_FILES:
        beside = path.with_name(name)
        if path.name == "config.json" and beside.is_file():
            found = _read(beside)[0]
            method = "gptq" if name == "quantize_config.json" else "awq" if name == "quant_config.json" else None
            return values | {"quantization_config": ({"quant_method": method} if method else {}) | found}
    return values


def _read(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """A mapping and the line of each of its keys."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path}: cannot be read: {error}") from error
    if path.suffix == ".json":
        try:
            values = json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, path))
        except (ValueError, RecursionError) as error:
            line = getattr(error, "lineno", 1)
            raise CatalogueError([f"{path}:{line}: not JSON: {error}"]) from error
        lines: dict[str, int] = {}
    else:
        values, lines = _read_yaml(path, text)
    if not isinstance(values, dict):
        raise CatalogueError([f"{path}:1: a mapping of keys is due"])
    return values, lines


def _once(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    """A JSON object; a key that is given twice in it is refused."""
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(k for k, _ in pairs if sum(k == other for other, _ in pairs) > 1)
        raise CatalogueError([f"{path}:1: the key {twice!r} is given twice"])
    return found


def _refuse_twice(node: yaml.Node, path: Path) -> None:
    """Refuse a YAML mapping, at any depth, that gives a key twice."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if str(key.value) in seen:
                raise CatalogueError([f"{path}:{key.start_mark.line + 1}: the key {key.value!r} is given twice"])
            seen.add(str(key.value))
            _refuse_twice(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_twice(value, path)


def _read_yaml(path: Path, text: str) -> tuple[Any, dict[str, int]]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
        lines = {}
        if isinstance(node, yaml.MappingNode):
            lines = {str(k.value): k.start_mark.line + 1 for k, _ in node.value}
            _refuse_twice(node, path)
        return (loader.construct_document(node) if node is not None else None), lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise CatalogueError([f"{path}:{line}: not YAML: {error.problem}"]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CatalogueError([f"{path}:1: not YAML: {error}"]) from error
    finally:
        loader.dispose()


def _from_planner_file(path: Path, class_name: str | None) -> Model:
    values, lines = _read(path)
    allowed = HEADER_KEYS if "config" in values else (*HEADER_KEYS[:-1], *NATIVE_KEYS)
    faults = []
    for key in values:
        if key not in allowed:
            close = nearest(str(key), allowed) or list(allowed)
            faults.append(f"{path}:{lines.get(str(key), 1)}: unknown key {key!r}; nearest: {', '.join(close)}")
    faults += _header_faults(path, values, lines)
    if faults:
        raise CatalogueError(faults)
    model_id = str(values.get("id") or path.stem)
    header = {k: values.pop(k) for k in HEADER_KEYS if k in values}
    if "config" in header:
        model = model_from_config(header["config"], id=model_id, where=str(path), class_name=class_name)
    elif class_name is not None:
        raise BadInputError(f"{path}: a model in the planner's own keys has no architecture classes to choose from")
    else:
        model = model_from_native(values, id=model_id, where=str(path))
    published = header.get("published_parameters")
    return replace(
        model, name=str(header.get("name") or model_id), aliases=tuple(map(str, header.get("aliases") or ())),
        source=str(header.get("source") or ""), published_parameters=None if published is None else float(published),
        notes=(*model.notes, *map(str, header.get("notes") or ())),
    )  # fmt: skip


def _header_faults(path: Path, values: Mapping[str, Any], lines: Mapping[str, int]) -> list[str]:
    faults = []
    for key in ("aliases", "notes"):
        if values.get(key) is not None and not isinstance(values[key], list):
            faults.append(f"{path}:{lines.get(key, 1)}: {key} must be a list")
    published = values.get("published_parameters")
    if published is not None and (isinstance(published, bool) or not isinstance(published, int | float)):
        faults.append(
            f"{path}:{lines.get('published_parameters', 1)}: published_parameters is {published!r}; a number is due"
        )
    return faults
