"""Count the FLOPs of small real models with torch's counter and hold the planner's to them.

``python tests/reference/flops.py FOLDER [TYPE ...]`` takes the third form that ``collect.py`` wrote of a type, builds
the class with weights, and runs one pass of :data:`TOKENS` tokens with eager attention.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from compare import rows
from torch.utils.flop_counter import FlopCounterMode
from transformers import CONFIG_MAPPING, PretrainedConfig

from planner.catalogue.huggingface import model_from_config, supported_types
from planner.demand.counts import forward_flops

TOKENS = (128, 512)


def counted(values: dict[str, Any], class_name: str, tokens: int) -> int:
    """FLOPs of one pass of a real model."""
    copied = PretrainedConfig._decode_special_floats(json.loads(json.dumps(values)))
    config = CONFIG_MAPPING[values["model_type"]].from_dict(copied)
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    model = getattr(transformers, class_name)(config).eval().requires_grad_(False)
    ids = torch.randint(10, 1000, (1, tokens))
    more = {"decoder_input_ids": ids} if config.is_encoder_decoder else {}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=ids, **more)
    return int(counter.get_total_flops())


def main() -> None:
    """Print each type, the counter's FLOPs, the planner's, and how far apart they are."""
    folder, wanted = Path(sys.argv[1]), sys.argv[2:]
    for model_type in wanted or supported_types():
        path = folder / f"{model_type}.jsonl.gz"
        chosen = (
            next((r for r in rows(path) if r["form"] == "varied-1" and r.get("main")), None) if path.exists() else None
        )
        for tokens in TOKENS if chosen is not None else ():
            try:
                ours = forward_flops(model_from_config(chosen["config"], id="x", where="x"), seq_len=tokens)["total"]
                theirs = counted(chosen["config"], chosen["class"], tokens)
            except Exception as error:  # one line a type, whatever stops it
                print(f"{model_type:28} {type(error).__name__}: {str(error)[:90]!r}", flush=True)
                break
            off = ours / theirs - 1
            print(
                f"{model_type:28} {tokens:5} {theirs:16} {ours:16.0f} {off:+.2%}{'  <--' if abs(off) > 1e-3 else ''}",
                flush=True,
            )


if __name__ == "__main__":
    main()
