"""Models by name or by path: the catalogue's own files, a Hugging Face ``config.json``, or a planner model file.

A catalogue file is ``models/<id>.yaml``. Its keys: ``id``, ``name``, ``aliases``, ``source``, ``published_parameters``
with ``published_source``, ``notes``, and either ``config`` (Hugging Face keys) or the native keys of
:mod:`planner.catalogue.families.native`. Loading one model parses one file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from planner.catalogue.copies import Copy, read_copy
from planner.catalogue.documents import json_values, yaml_values
from planner.catalogue.families.native import NATIVE_KEYS, model_from_native
from planner.catalogue.formats import requantized
from planner.catalogue.huggingface import model_from_config
from planner.catalogue.quantization import SECTIONS
from planner.catalogue.schema import Model
from planner.errors import MOST_FAULTS, BadInputError, CatalogueError, legible, nearest, unknown
from planner.files import Stamp, is_file, is_folder, is_missing, read_text, stamp

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
LONGEST_TEXT = 500  # characters of a name or a note that are shown
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
        if re.fullmatch(r"[a-z0-9][a-z0-9._-]*", key) and is_file(FOLDER / f"{key}.yaml"):
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
    path = Path(text)
    with suppress(RuntimeError):  # the home of a user that does not exist
        path = path.expanduser()
    if relative_to is not None and not path.is_absolute():
        path = Path(relative_to) / path
    looks_like_path = (
        isinstance(name_or_path, Path) or text.endswith(_PATH_SUFFIXES) or text.startswith((".", "/", "~"))
    )
    folder = _known(text) is None and is_file(path / "config.json")
    return path if looks_like_path or folder or ("/" in text and (is_file(path) or is_folder(path))) else None


def model_files(name_or_path: str | Path, relative_to: str | Path | None = None) -> tuple[Stamp, ...]:
    """The files that a model is read from, as they are now; none for a name of the catalogue, which ships."""
    path = _path_of(name_or_path, relative_to)
    if path is None:
        return ()
    path = path / "config.json" if is_folder(path) else path
    return tuple(stamp(p) for p in (path, *(path.parent / beside for beside in QUANTISERS_FILES)))


def describe(name: str) -> dict[str, Any]:
    """What a catalogue file says of a model, its configuration included."""
    return dict(_read(FOLDER / f"{resolve_id(name)}.yaml")[0])


@lru_cache(maxsize=256)
def _catalogued(model_id: str, class_name: str | None) -> Model:
    return _from_planner_file(FOLDER / f"{model_id}.yaml", class_name)


def _from_path(path: Path, class_name: str | None) -> Model:
    """A model of a file of the user's, whose names can be shown whatever stands in them."""
    m = _read_path(path, class_name)
    return replace(m, id=_shown(m.id), name=_shown(m.name), source=_shown(m.source), notes=tuple(map(_shown, m.notes)),
                   assumed=tuple(map(_shown, m.assumed)))  # fmt: skip


def _shown(text: str) -> str:
    return legible(text, most=LONGEST_TEXT)


def _read_path(path: Path, class_name: str | None) -> Model:
    if is_folder(path):
        path = path / "config.json"
    if is_missing(path):
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
        if path.name == "config.json" and is_file(beside):
            found = _read(beside)[0]
            method = "gptq" if name == "quantize_config.json" else "awq" if name == "quant_config.json" else None
            return values | {"quantization_config": ({"quant_method": method} if method else {}) | found}
    return values


def _read(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """A mapping and the line of each of its keys."""
    text = read_text(path)
    lines: dict[str, int] = {}
    if path.suffix == ".json":
        values = json_values(text, path)
    else:
        values, lines = yaml_values(text, path)
    if not isinstance(values, dict):
        raise CatalogueError([f"{path}:1: a mapping of keys is due"])
    return values, lines


def _from_planner_file(path: Path, class_name: str | None) -> Model:
    values, lines = _read(path)
    allowed = HEADER_KEYS if "config" in values else (*HEADER_KEYS[:-1], *NATIVE_KEYS)
    faults: list[str] = []
    for key in values:
        if key not in allowed and len(faults) <= MOST_FAULTS:
            close = nearest(str(key), allowed) or allowed[:12]
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
