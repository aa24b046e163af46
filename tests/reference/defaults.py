"""Write what the configuration classes of the reference say: ``planner/catalogue/families/defaults.json``.

``python tests/reference/defaults.py PATH TYPE ...``; sections of a type are described too, and other types of the file
stay. An entry holds

- ``class`` the configuration class, ``builds`` the architecture classes of the type, ``main`` that of its usual task
- ``defaults`` the default of each field; ``kinds`` what it may hold where that is more than the type of its default (i,
  f, b, s, l, d, n: integer, number, flag, text, list, mapping, null; * anything); ``names`` other names of fields
- ``sections`` the nested configurations: the ``type`` of each, whether that is ``fixed``, the ``values`` it starts from
- ``of_section`` classes that are built from a nested configuration, and which
- ``ties`` whose ``tie_word_embeddings`` decides where it is not the root's: either, section, never
- ``labels`` outputs of a classifier where the class does not say 2
"""

from __future__ import annotations

import dataclasses
import json
import sys
import types
import typing
from pathlib import Path
from typing import Any

import numpy
import torch
import transformers
from classes import VERSIONS, build, classes, counts, main_class
from transformers import CONFIG_MAPPING, PretrainedConfig

BASE = {"transformers_version", "architectures", "id2label", "label2id", "problem_type", "dtype",
        "output_hidden_states", "return_dict"}  # fmt: skip
CODES = {int: "i", float: "f", bool: "b", str: "s", list: "l", tuple: "l", dict: "d", type(None): "n"}


def entry(model_type: str) -> dict[str, Any]:
    """What the configuration class of a type says."""
    cls = CONFIG_MAPPING[model_type]
    hints = typing.get_type_hints(cls, localns={"torch": torch, "np": numpy})
    fields = [f for f in dataclasses.fields(cls) if f.name not in BASE and not f.name.startswith("_")]
    defaults = {f.name: _default(f) for f in fields}
    found: dict[str, Any] = {
        "class": cls.__name__,
        "defaults": {k: v for k, v in defaults.items() if v is not dataclasses.MISSING},
    }
    kinds = {f.name: "".join(sorted(_codes(hints.get(f.name, Any)))) for f in fields}
    found["kinds"] = {k: v for k, v in kinds.items() if v != CODES.get(type(defaults[k]), "")}
    if cls.attribute_map:
        found["names"] = dict(cls.attribute_map)
    if cls.sub_configs_defaults:
        found["sections"] = {k: _section(s) for k, s in cls.sub_configs_defaults.items()}
    found["builds"] = list(classes(model_type))
    found["main"] = main_class(model_type)
    text = {n: k for n in found["builds"] if (k := _own_section(cls, n))}
    if text:
        found["of_section"] = text
    ties = _ties(model_type, found["main"], list(cls.sub_configs_defaults or {}))
    if ties != "root":
        found["ties"] = ties
    labels = _labels(cls)
    if labels != 2:
        found["labels"] = labels
    return found


def _default(field: dataclasses.Field[Any]) -> Any:
    value = field.default
    if value is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if isinstance(value, PretrainedConfig):
        return None
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return dataclasses.MISSING
    return value


def _codes(hint: Any) -> set[str]:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return set().union(*(_codes(a) for a in typing.get_args(hint)))
    if origin is typing.Literal:
        return {CODES.get(type(v), "*") for v in typing.get_args(hint)}
    if origin is typing.Annotated:
        return _codes(typing.get_args(hint)[0])
    base = origin or hint
    if base in CODES:
        return {CODES[base]}
    if isinstance(base, type) and (issubclass(base, dict | PretrainedConfig)):
        return {"d"}
    if isinstance(base, type) and issubclass(base, list | tuple):
        return {"l"}
    return {"*"}


def _section(spec: Any) -> dict[str, Any]:
    fixed = issubclass(spec.config_class, PretrainedConfig)
    out: dict[str, Any] = {"type": spec.config_class.model_type if fixed else spec.model_type, "fixed": fixed}
    if spec.init_kwargs:
        out["values"] = json.loads(json.dumps(spec.init_kwargs, default=str))
    if spec.optional:
        out["optional"] = True
    return out


def _own_section(cls: Any, class_name: str) -> str:
    """The section that a class is built from, where it is not built from the whole configuration."""
    built_from = getattr(transformers, class_name).config_class
    sections = cls.sub_configs_defaults or {}
    return next((k for k, s in sections.items() if built_from is not cls and s.config_class is built_from), "")


def _ties(model_type: str, main: str | None, sections: list[str]) -> str:
    """Whose ``tie_word_embeddings`` ties the main class: that of the root, a section, either, or nobody's."""
    section = next((s for s in ("text_config", "llm_config", "thinker_config", "decoder") if s in sections), None)

    def size(root: bool, inner: bool) -> int:
        values: dict[str, Any] = {"model_type": model_type, "tie_word_embeddings": root}
        if section:
            values[section] = {"tie_word_embeddings": inner}
        return counts(build(values, str(main)))[0]

    try:
        neither = size(False, False)
        root, inner = size(True, False) < neither, bool(section) and size(False, True) < neither
    except Exception:
        return "root"
    return {(True, True): "either", (False, True): "section", (False, False): "never"}.get((root, inner), "root")


def _labels(cls: Any) -> int:
    try:
        return int(cls().num_labels or 2)
    except Exception:
        return 2


def main() -> None:
    """Describe the types named, and those of their sections."""
    path, todo = Path(sys.argv[1]), list(sys.argv[2:])
    found: dict[str, Any] = json.loads(path.read_text())["types"] if path.exists() else {}
    done: set[str] = set()
    while todo:
        name = todo.pop()
        if name in done or name not in CONFIG_MAPPING:
            continue
        done.add(name)
        found[name] = entry(name)
        todo += [s["type"] for s in found[name].get("sections", {}).values() if s["type"]]
    version = VERSIONS["transformers"]
    source = f"Configuration classes of Hugging Face transformers {version} (https://pypi.org/project/transformers/{version}/)"
    lines = ",\n".join(f'"{k}": {json.dumps(found[k])}' for k in sorted(found))
    path.write_text(f'{{"_source": {json.dumps(source)}, "_version": "{version}", "types": {{\n{lines}\n}}}}\n')
    print(len(found), "types")


if __name__ == "__main__":
    main()
