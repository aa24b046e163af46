"""Write ``defaults.json``: what the configuration classes of transformers assume where a config states nothing.

Run by hand after a new release: ``python tests/reference/class_defaults.py``. Needs torch and transformers. Types that
have an adapter keep their line; ``--all`` writes them anew. A nested configuration that a class builds for itself is kept
as what sets it apart from the defaults of its own class.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedConfig
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

FILE = Path(__file__).parents[2] / "planner" / "catalogue" / "families" / "defaults.json"
MAPPINGS = ("CAUSAL_LM", "MASKED_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT")
BASE = {f.name for f in dataclasses.fields(PreTrainedConfig)}
HARMLESS = re.compile(
    r"token_id|token_index|^initializer|_eps$|epsilon|attention_dropout|attention_probs|use_cache|^rope_|_theta$|scaling|"
    r"output_router|softcap|_coef(ficient)?$|^init_|_init$|embd_pdrop|emb_pdrop|attn_pdrop|layerdrop|_std$|mask_time|"
    r"mask_feature|^apply_spec|summary_|gradient_check|^time_step_(min|max|limit|floor|scale)|multiplier|router_jitter"
)


def stated(kind: type[PreTrainedConfig]) -> dict[str, Any]:
    """Defaults as the class declares them, before it fills in what follows from others."""
    found = {}
    for field in dataclasses.fields(kind):
        if field.name in BASE or HARMLESS.search(field.name):
            continue
        value = field.default
        if field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        found[field.name] = None if value is dataclasses.MISSING else value
    return found


def nested(config: PreTrainedConfig) -> dict[str, PreTrainedConfig]:
    """The configurations that a configuration holds, by key."""
    return {k: v for k, v in vars(config).items() if isinstance(v, PreTrainedConfig)}


def entry(config: PreTrainedConfig) -> dict[str, Any]:
    """Class name and defaults of one type."""
    defaults = stated(type(config))
    for key, inner in nested(config).items():
        defaults[key] = apart(inner)
    return {"class": type(config).__name__, "defaults": plain(defaults)}


def apart(config: PreTrainedConfig) -> dict[str, Any]:
    """What sets a nested configuration apart from a bare one of its class, and its type."""
    try:
        bare: dict[str, Any] = vars(type(config)())
    except Exception:
        bare = {}
    own = set(stated(type(config)))
    found = {k: v for k, v in vars(config).items() if k in own and k in bare and bare[k] != v}
    found |= {k: apart(v) for k, v in nested(config).items()}
    return {"model_type": config.model_type, **{k: v for k, v in found.items() if k in own}}


def plain(value: Any) -> Any:
    """The value as JSON has it."""
    if isinstance(value, PreTrainedConfig):
        return apart(value)
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def configs() -> Iterator[PreTrainedConfig]:
    """A bare configuration of each type that the mappings name, and of those it holds."""
    waiting = []
    for mapping in MAPPINGS:
        for model_type in getattr(modeling_auto, f"MODEL_FOR_{mapping}_MAPPING_NAMES"):
            try:
                waiting.append(CONFIG_MAPPING[model_type]())
            except Exception as error:
                print(f"{model_type}: {error}"[:160], file=sys.stderr)
    while waiting:
        config = waiting.pop()
        yield config
        waiting += nested(config).values()
        for kind in getattr(type(config), "sub_configs", {}).values():
            try:
                waiting.append(kind())
            except Exception:
                continue


def main() -> None:
    found = json.loads(FILE.read_text(encoding="utf-8"))
    types = dict(found["types"])
    keep = set() if "--all" in sys.argv else set(types)
    done = set()
    for config in configs():
        if config.model_type and config.model_type not in keep | done:
            types[config.model_type] = entry(config)
            done.add(config.model_type)
    lines = [f"{json.dumps(t)}: {json.dumps(types[t])}" for t in sorted(types)]
    source = re.sub(r"5\.\d+\.\d+", transformers.__version__, found["_source"])
    FILE.write_text(f'{{"_source": {json.dumps(source)}, "types": {{\n' + ",\n".join(lines) + "\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
