"""A Hugging Face ``config.json`` as a typed model, or a refusal that names the field.

The count is that of the class which ``model_type`` and ``architectures`` build in Hugging Face transformers 5.23.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from planner.catalogue.families import registry
from planner.catalogue.families.config import Config
from planner.catalogue.quantization import read_quantization
from planner.catalogue.schema import Model
from planner.errors import BadInputError, unknown

Adapter = Callable[[Config], Model]


def model_from_config(config: Mapping[str, Any], *, id: str, where: str) -> Model:
    """Build a model from a configuration mapping.

    Parameters
    ----------
    config : mapping        as read from ``config.json``
    id : str                name the model is known by
    where : str             file or name shown in errors

    Raises
    ------
    BadInputError
        Naming the field and the type, where something is missing, impossible or not understood.
    """
    if not isinstance(config, Mapping):
        raise BadInputError(f"{where}: a configuration is a mapping of keys, not {type(config).__name__}")
    config, model_type, assumed = registry.resolve(config, where)
    adapter = registry.ADAPTERS.get(model_type)
    if adapter is None:
        reason = registry.REFUSED.get(model_type)
        if reason:
            raise BadInputError(f"{where}: model_type {model_type!r} is refused: {reason}")
        raise unknown("model_type", model_type, registry.ADAPTERS, where=where)
    c = Config(config, where=where, model_type=model_type, assumed=assumed)
    c.ignore("model_type", "architectures", "auto_map")
    try:
        model = adapter(c)
    except RecursionError as error:
        raise BadInputError(f"{where}: the configuration is nested too deeply") from error
    c.refuse_unread()
    stored = read_quantization(config, where=where, wide=model.weight_dtype)
    return replace(model, id=id, name=model.name or id, assumed=tuple(c.assumed), notes=(*model.notes,),
                   quantization=stored, weight_dtype=stored.dtype if stored else model.weight_dtype)  # fmt: skip


def supported_types() -> tuple[str, ...]:
    """Every ``model_type`` that is understood."""
    return tuple(sorted(registry.ADAPTERS))
