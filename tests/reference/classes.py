"""The reference: every architecture class of a type, built on the meta device from the JSON that the planner reads."""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import sys
import warnings
from fractions import Fraction
from functools import lru_cache
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, PretrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import model_type_to_module_name

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
sys.setrecursionlimit(10_000)

VERSIONS = {"transformers": transformers.__version__, "torch": torch.__version__}
KINDS = {
    "causal": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "masked": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "seq2seq": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "image-text": "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
}
TOP_K = ("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "moe_top_k", "num_selected_experts",
         "top_k_experts", "experts_per_token", "topk", "top_k")  # fmt: skip


@lru_cache(maxsize=1)
def mappings() -> dict[str, dict[str, tuple[str, ...]]]:
    """Auto mappings that build models: mapping name to ``{model_type: class names}``."""
    found = {}
    for name in dir(modeling_auto):
        if name.startswith("MODEL_") and name.endswith("MAPPING_NAMES"):
            entries = getattr(modeling_auto, name).items()
            found[name] = {k: tuple(v) if isinstance(v, list | tuple) else (v,) for k, v in entries}
    return found


def main_class(model_type: str) -> str | None:
    """The class of a type's usual task: the first kind of :data:`KINDS` that has it, else its base model."""
    for name in (*reversed(KINDS.values()), "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES", "MODEL_MAPPING_NAMES"):
        if model_type in mappings()[name]:
            return mappings()[name][model_type][0]
    own = classes(model_type)
    return next((n for n in own if n.endswith("ForCausalLM")), own[0] if own else None)


@lru_cache(maxsize=1024)
def classes(model_type: str) -> tuple[str, ...]:
    """Names of all architecture classes of a type: of the auto mappings, and of the module that defines them."""
    own = CONFIG_MAPPING[model_type]
    names = {n for table in mappings().values() for n in table.get(model_type, ())}
    for module in {own.__module__.replace(".configuration_", ".modeling_"), *_modules(model_type)}:
        if not _exists(module):
            continue
        found = importlib.import_module(module)
        for name, value in vars(found).items():
            if (
                inspect.isclass(value)
                and issubclass(value, PreTrainedModel)
                and value.__module__ == found.__name__
                and value.config_class is own
                and "PreTrained" not in name
                and "Pretrained" not in name
                and name in getattr(found, "__all__", [name])
            ):
                names.add(name)
    return tuple(sorted(n for n in names if hasattr(transformers, n)))


def _modules(model_type: str) -> list[str]:
    folder = model_type_to_module_name(model_type)
    name = f"transformers.models.{folder}.modeling_{folder}"
    return [name]


def _exists(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def build(values: dict[str, Any], class_name: str) -> PreTrainedModel:
    """The model of a class from configuration values, on the meta device, tied as the class ties."""
    cls = getattr(transformers, class_name)
    copied = PretrainedConfig._decode_special_floats(json.loads(json.dumps(values)))
    config = CONFIG_MAPPING[values["model_type"]].from_dict(copied)
    if not isinstance(config, cls.config_class):
        text = config.get_text_config()
        config = text if isinstance(text, cls.config_class) else config
    with torch.device("meta"):
        return cls(config)


def counts(model: PreTrainedModel) -> tuple[int, int]:
    """Parameters, shared ones once, and those that one token visits."""
    seen: set[int] = set()
    total = 0
    routed = {n: _visited(m, model.config) for n, m in model.named_modules() if _is_experts(n, m)}
    idle = dict.fromkeys(routed, Fraction())
    for name, parameter in model.named_parameters():
        if id(parameter) in seen:
            continue
        seen.add(id(parameter))
        total += parameter.numel()
        prefix = next((p for p in routed if name.startswith(p + ".")), None)
        if prefix is not None:
            visited, held = routed[prefix]
            # Experts as one tensor have a row each, LongCat's of two lengths; experts as modules are alike.
            rows = parameter.shape[0] if model.config.model_type in SOME_DO_NOTHING else held
            idle[prefix] += parameter.numel() * (1 - Fraction(visited, rows))
    return total, total - sum(round(i) for i in idle.values())


def _is_experts(name: str, module: torch.nn.Module) -> bool:
    if type(module).__name__.endswith("ParallelExperts"):
        return True
    # JetMoE's experts of attention stand beside their router in a module of that name.
    inside = any(type(m).__name__.endswith("ParallelExperts") for m in module.modules())
    return name.rsplit(".", 1)[-1] == "experts" and not inside


FIXED_TOP_K = {"nllb-moe": 2, "switch_transformers": 1}  # types whose router takes so many whatever the configuration
SOME_DO_NOTHING = {"longcat_flash"}  # routers that choose among experts of which some pass on what they get


def _visited(module: torch.nn.Module, config: Any) -> tuple[int, int]:
    """Experts that a token visits, and those there are: of those that compute, were all equally likely."""
    count = getattr(module, "num_experts", None)
    if count is None and isinstance(module, torch.nn.ModuleList | torch.nn.ModuleDict):
        count = len(module)
    if count is None:
        count = next(iter(module.parameters())).shape[0]
    if config.model_type in SOME_DO_NOTHING:
        real, all_of_them = module.num_routed_experts, module.total_experts
        return max(round(config.moe_topk * real / all_of_them), 1), all_of_them
    if config.model_type in FIXED_TOP_K:
        return min(FIXED_TOP_K[config.model_type], count), count
    for source in (
        getattr(module, "config", None),
        config.get_text_config(),
        config,
        getattr(config, "ffn_config", None),
    ):
        for key in TOP_K:
            value = getattr(source, key, None) if source is not None else None
            if isinstance(value, int) and value > 0:
                return min(value, count), count
    return count, count
