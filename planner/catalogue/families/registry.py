"""Which adapter builds which ``model_type``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from planner.catalogue.families import gpt, llama
from planner.catalogue.families.config import Config
from planner.catalogue.schema import Model
from planner.errors import BadInputError

Adapter = Callable[[Config], Model]

ADAPTERS: dict[str, Adapter] = {
    **dict.fromkeys(llama.RECIPES, llama.build),
    "gpt2": gpt.gpt2,
    "gpt_bigcode": gpt.gpt2,
    "gpt_neo": gpt.gpt_neo,
    "gptj": gpt.gptj,
    "codegen": gpt.gptj,
    "gpt_neox": gpt.gpt_neox,
    "opt": gpt.opt,
    "bloom": gpt.bloom,
    "mpt": gpt.mpt,
    "falcon": gpt.falcon,
    "phi": gpt.phi,
    "xglm": gpt.xglm,
    "biogpt": gpt.xglm,
    "dbrx": gpt.dbrx,
}

REFUSED: Mapping[str, str] = {}


def resolve(config: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], str, list[str]]:
    """The configuration, its ``model_type`` (guessed from the architecture where absent) and what was assumed."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise BadInputError(f"{where}: model_type is {model_type!r:.40}; a name is due")
    return config, model_type, []
