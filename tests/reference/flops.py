"""Count the FLOPs of small real models with torch's counter, hold the planner's to them, and write truth rows.

``python tests/reference/flops.py FOLDER [--write] [TYPE ...]`` takes the third form that ``collect.py`` wrote of a type
with the changes of :data:`CHANGES`, builds the class with weights, and runs a pass of each of :data:`TOKENS` with eager
attention. ``--write`` keeps what was counted in ``tests/data/reference_flops.jsonl.gz``, beside what it holds of other
types.
"""

from __future__ import annotations

import copy
import gzip
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from compare import rows
from forms import merged
from torch.utils.flop_counter import FlopCounterMode
from transformers import CONFIG_MAPPING, PretrainedConfig

from planner.catalogue.huggingface import model_from_config, supported_types
from planner.demand.counts import forward_flops

TARGET = Path(__file__).parents[1] / "data" / "reference_flops.jsonl.gz"
TOKENS = (128, 500)
ROOM = 1024  # positions that every table is given
_POSITIONS = re.compile(r"^(max_(en|de)?coder_position_embeddings|max_position_embeddings|max_target_positions|"
                        r"n_positions|max_(en|de)coder_position_embeddings)$")  # fmt: skip

# Types of which the classes do other work than the algorithm asks for, and which.
DIFFERS: Mapping[str, str] = {
    "bigbird_pegasus": "attention is counted in full; beyond 700 tokens the class computes blocks",
    "big_bird": "attention is counted in full; beyond 700 tokens the class computes blocks",
    "cpmant": "tokens before the text are counted in the head, where the class has them in the layers alone",
    "led": "attention is counted in full; the class fills up to its window and computes overlapping blocks",
    "llama4": "the class runs every token through every expert and multiplies by zero",
    "llama4_text": "the class runs every token through every expert and multiplies by zero",
    "longformer": "attention is counted in full; the class fills up to its window and computes overlapping blocks",
    "longt5": "attention is counted in full; the class computes blocks of three",
    "mra": "attention is counted in full; the class approximates it by blocks",
    "nllb-moe": "the class takes a mask of experts for their numbers and runs every pair of token and expert",
    "nystromformer": "attention is counted in full; the class approximates it by landmarks",
    "pegasus_x": "attention is counted in full; the class computes blocks",
    "xlstm": "chunks are counted as chunks; the class takes a rest of less than one step by step",
    "yoso": "attention is counted in full; the class approximates it by hashing",
}
# Tokens that a class puts before the text: they run through the layers.
BEFORE = {"cpmant": 32}
_MROPE = {"text_config": {"rope_parameters": {"mrope_section": [4, 6, 6]}}}
# What the varied forms need to run, beyond being built.
CHANGES: Mapping[str, Mapping[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "beam": {"index_topk": 16, "n_group": 1, "topk_group": 1},
    "codegen": {"rotary_dim": 32},
    "deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": 96},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 48,
                   "share_att_key": True, "norm_rel_ebd": "layer_norm"},
    "esm": {"vocab_size": 1088, "pad_token_id": 1, "mask_token_id": 32},
    "gptj": {"rotary_dim": 32},
    **dict.fromkeys(("glm46v", "glm4v", "glm_ocr", "glmga", "paddleocr_vl", "qwen2_5_vl", "qwen2_vl"), _MROPE),
    "deepseek_v4": {"num_key_value_heads": 1, "head_dim": 64, "o_groups": 2, "rope_parameters": {
        "compress": {"partial_rotary_factor": 0.5}, "main": {"partial_rotary_factor": 0.5}}, "qk_rope_head_dim": 32},
    "glm4v_moe": {"text_config": {"rope_parameters": {"mrope_section": [2, 3, 3]}}},
    "longcat_flash": {"zero_expert_num": 0, "moe_topk": 3},
    "bailing_hybrid": {"num_expert_group": 1},
    "esmc": {"head_dim": 64},
    "zamba": {"attention_hidden_size": 384, "attention_head_dim": 64, "pad_token_id": 0},
    "zamba2": {"attention_hidden_size": 384, "attention_head_dim": 64, "pad_token_id": 0, "mamba_headdim": 48},
    "mobilebert": {"num_attention_heads": 4},
    "qwen2_5_omni_thinker": _MROPE,
    "nemotron_h": {"n_groups": 2},
    "step3p7": {"text_config": {"sliding_window": 64}},
    "unlimited_ocr": {"text_config": {"num_key_value_heads": 6}},
    "qwen3_next": {"num_experts_per_tok": 2},
    "recurrent_gemma": {"lru_width": 192},
    "rwkv": {"attention_hidden_size": 192},
    "switch_transformers": {"expert_capacity": 10**6},
    "xlstm": {"embedding_dim": 192, "num_blocks": 5},
}  # fmt: skip


def runnable(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with room for positions, no cache, and sizes that fit each other where a pass needs it."""
    return merged(_room(copy.deepcopy(values)), changes)


def _room(values: dict[str, Any]) -> dict[str, Any]:
    for key, value in values.items():
        if isinstance(value, dict):
            _room(value)
        elif _POSITIONS.match(key) and isinstance(value, int):
            values[key] = ROOM
        elif key == "use_cache":
            values[key] = False
    if values.get("kv_lora_rank") and values.get("qk_rope_head_dim"):  # latent attention has no groups
        values["num_key_value_heads"] = values.get("num_attention_heads")
        if "head_dim" in values:
            rope = values.get("rope_parameters") or {}
            values["head_dim"] = int(values["qk_rope_head_dim"] / rope.get("partial_rotary_factor", 1.0))
    if values.get("topk_group"):  # groups of experts, of which the varied forms have too few
        values["n_group"] = values["topk_group"] = 1
    return values


def counted(values: dict[str, Any], class_name: str, tokens: int) -> int:
    """FLOPs of one pass of a real model."""
    copied = PretrainedConfig._decode_special_floats(json.loads(json.dumps(values)))
    config = CONFIG_MAPPING[values["model_type"]].from_dict(copied)
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    model = getattr(transformers, class_name)(config).eval().requires_grad_(False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**_inputs(model, config, tokens))
    return int(counter.get_total_flops())


def _inputs(model: Any, config: Any, tokens: int) -> dict[str, Any]:
    text = config.get_text_config()
    ids = torch.randint(10, 1000, (1, tokens))
    if model.main_input_name == "pixel_values" and not hasattr(text, "vocab_size"):
        return {"pixel_values": torch.rand(1, config.num_channels, config.image_size, config.image_size)}
    more: dict[str, Any] = {"decoder_input_ids": ids} if config.is_encoder_decoder else {}
    return {"input_ids": ids, **more}


def row_of(folder: Path, model_type: str) -> dict[str, Any] | None:
    """The class of a type's usual task, and the configuration that is run."""
    path = folder / f"{model_type}.jsonl.gz"
    found = next((r for r in rows(path) if r["form"] == "varied-1" and r.get("main")), None) if path.exists() else None
    if found is None:
        return None
    return {"class": found["class"], "config": runnable(found["config"], CHANGES.get(model_type, {})), "flops": {}}


def held(row: dict[str, Any], model_type: str) -> float:
    """Run a row at each length, print both counts, and return the largest relative difference."""
    worst = 0.0
    for tokens in TOKENS:
        model = model_from_config(row["config"], id="x", where="x")
        ours = forward_flops(model, seq_len=tokens + BEFORE.get(model_type, 0))["total"]
        theirs = counted(row["config"], row["class"], tokens)
        row["flops"][tokens + BEFORE.get(model_type, 0)] = theirs
        off = ours / theirs - 1
        worst = max(worst, abs(off))
        print(
            f"{model_type:28} {tokens:5} {theirs:16} {ours:16.0f} {off:+.2%}{'  <--' * (abs(off) > 1e-3)}", flush=True
        )
    return worst


def main() -> None:
    """Print each type, the counter's FLOPs, the planner's, and how far apart they are; write what was counted."""
    folder, *wanted = sys.argv[1:]
    write = "--write" in wanted
    kept = written()
    for model_type in [w for w in wanted if w != "--write"] or supported_types():
        row = row_of(Path(folder), model_type)
        try:
            off = held(row, model_type) if row else 0.0
        except Exception as error:  # one line a type, whatever stops it
            print(f"{model_type:28} {type(error).__name__}: {str(error)[:90]!r}", flush=True)
            continue
        if row and (model_type not in DIFFERS or off <= 1e-3):
            kept[model_type] = row
        if write and row:
            version = {"_version": transformers.__version__, "_differs": DIFFERS}
            lines = "\n".join(json.dumps(r) for r in (version, *(kept[t] for t in sorted(kept))))
            TARGET.write_bytes(gzip.compress(lines.encode(), 9, mtime=0))
    print(len(kept), "types kept")


def written() -> dict[str, dict[str, Any]]:
    """What was counted before, by type; nothing where another version of transformers was asked."""
    if not TARGET.exists():
        return {}
    version, *found = map(json.loads, gzip.decompress(TARGET.read_bytes()).decode().splitlines())
    return {r["config"]["model_type"]: r for r in found} if version["_version"] == transformers.__version__ else {}


if __name__ == "__main__":
    main()
