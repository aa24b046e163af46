"""A Hugging Face ``config.json`` as a typed model, or a refusal that names the field.

The count is that of the class which ``model_type`` and ``architectures`` build in Hugging Face transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from planner.catalogue.families import heads, registry
from planner.catalogue.families.config import Config
from planner.catalogue.quantization import read_quantization
from planner.catalogue.schema import Model
from planner.errors import BadInputError, unknown

Adapter = Callable[[Config], Model]


def model_from_config(config: Mapping[str, Any], *, id: str, where: str, class_name: str | None = None) -> Model:
    """Build a model from a configuration mapping.

    Parameters
    ----------
    config : mapping        as read from ``config.json``
    id : str                name the model is known by
    where : str             file or name shown in errors
    class_name : str        the architecture class to count; the one that ``architectures`` names if None

    Raises
    ------
    BadInputError
        Naming the field and the type, where something is missing, impossible or not understood.
    """
    if not isinstance(config, Mapping):
        raise BadInputError(f"{where}: a configuration is a mapping of keys, not {type(config).__name__}")
    if class_name is not None:
        config = {**config, "architectures": [class_name]}
    config, model_type, assumed = registry.resolve(config, where)
    adapter = _adapter(model_type, where)
    c = Config(config, where=where, model_type=model_type, assumed=assumed)
    name, words = heads.class_of(c)
    section = c.facts.of_section.get(name)
    if section is not None:
        return _of_section(c, section, name, id=id)
    try:
        model = heads.with_head(c, adapter(c), words)
    except RecursionError as error:
        raise BadInputError(f"{where}: the configuration is nested too deeply") from error
    c.refuse_unread()
    stored = read_quantization(config, where=where, wide=model.weight_dtype)
    return replace(model, id=id, name=model.name or id, class_name=name, assumed=tuple(c.assumed),
                   quantization=stored, weight_dtype=stored.dtype if stored else model.weight_dtype)  # fmt: skip


def _adapter(model_type: str, where: str) -> Adapter:
    adapter = registry.ADAPTERS.get(model_type)
    if adapter is not None:
        return adapter
    reason = registry.REFUSED.get(model_type)
    if reason:
        raise BadInputError(f"{where}: model_type {model_type!r} is refused: {reason}")
    raise unknown("model_type", model_type, registry.ADAPTERS, where=where)


def _of_section(c: Config, key: str, class_name: str, *, id: str) -> Model:
    """The model of a class that is built from a nested configuration: the text part of an image-text model."""
    part = c.section(key, "")
    assert part is not None
    values = {**part.values, "model_type": part.model_type}
    return model_from_config(values, id=id, where=c.where, class_name=class_name)


def supported_types() -> tuple[str, ...]:
    """Every ``model_type`` that is understood."""
    return tuple(sorted(registry.ADAPTERS))
