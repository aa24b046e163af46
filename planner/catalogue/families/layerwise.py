"""Fields that ``per_layer_config`` states of single layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.catalogue.families.config import Config


def per_layer(c: Config, n: int, fields: tuple[str, ...]) -> list[Mapping[str, Any]] | None:
    """What ``per_layer_config`` states of each layer, of the ``fields`` a family can vary; None where absent."""
    stated = c.values.get("per_layer_config")
    c.read.add("per_layer_config")
    if stated is None:
        return None
    if not isinstance(stated, Mapping):
        raise c.error("per_layer_config", f"is {stated!r:.40}; a mapping of layer to fields is due")
    found: list[Mapping[str, Any]] = [{}] * n
    for key, fields_of in stated.items():
        index = int(key) if str(key).isdigit() else n
        if index >= n or not isinstance(fields_of, Mapping):
            raise c.error(f"per_layer_config.{key!s:.20}", f"must map a layer below {n} to its fields")
        for name in fields_of:
            if name not in fields:
                raise c.error(f"per_layer_config.{key}.{name!s:.40}", f"is not one of {', '.join(fields)}")
        found[index] = fields_of
    return found
