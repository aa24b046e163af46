"""Dispatchers of tokens to experts by name, from ``dispatchers.yaml``: facts that the cost model asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import yaml

from planner.errors import unknown


@dataclass(frozen=True)
class Dispatcher:
    """How tokens reach experts; ``dispatchers.yaml`` cites each fact.

    Attributes
    ----------
    copies : a row a token and expert crosses; else a token once a rank, and once a domain
    permutes : passes over the routed tokens beside the exchange, each way
    one_hot : tokens are moved by matmuls with one-hot masks, quadratic in the sequence
    """

    id: str
    name: str
    copies: bool = False
    permutes: float = 1.0
    one_hot: bool = False


@lru_cache(maxsize=1)
def dispatchers() -> Mapping[str, Dispatcher]:
    """All dispatchers by id."""
    text = (resources.files("planner.catalogue") / "dispatchers.yaml").read_text(encoding="utf-8")
    return {id: Dispatcher(id, **entry) for id, entry in yaml.safe_load(text).items()}


def dispatcher(name: str) -> Dispatcher:
    """Look a dispatcher up by name; an unknown one is refused with the allowed names."""
    found = dispatchers().get(name.strip().lower())
    if found is None:
        raise unknown("dispatcher", name, dispatchers())
    return found
