"""Configurations to try: four forms of a type, and each field of one of them changed in turn."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from transformers import CONFIG_MAPPING

Values = dict[str, Any]
Path = tuple[str | int, ...]

# Fields of the base class that describe files, labels and tokenizers.
BASE = {
    "model_type", "architectures", "transformers_version", "_name_or_path", "name_or_path", "dtype", "torch_dtype",
    "id2label", "label2id", "problem_type", "output_hidden_states", "output_attentions", "return_dict",
    "rope_parameters", "rope_scaling", "_commit_hash", "_attn_implementation", "_attn_implementation_internal",
}  # fmt: skip
_LAYERS = re.compile(r"^(num_hidden_layers|n_layers?|num_layers|depth|(en|de)coder_layers|num_decoder_layers|"
                     r"num_global_layers|num_blocks|encoder_num_hidden_layers|num_encoder_layers)$")  # fmt: skip
_LISTS = re.compile(r"layer_types|layers_block_type|block_types|indexer_types|per_layer_config|mlp_layer_types|"
                    r"attention_layers|no_rope_layers|moe_layers$")  # fmt: skip
# name -> value in the third and in the fourth form
SIZES: tuple[tuple[str, int, int], ...] = (
    (r"^(hidden_size|n_embd|d_model|embed(ding)?_dim|hidden_dim|(emb_)?dim|out_hidden_size|projection_dim)$", 192, 384),
    (r"(num_attention_heads|n_heads?|num_heads|attention_heads)$", 6, 8),
    (r"(num_key_value_heads|num_kv_heads|kv_n_heads|n_head_kv|num_query_groups)$", 2, 4),
    (r"^(head_dim|d_kv|attention_head_dim)$", 32, 40),
    (r"intermediate_size|ffn_dim|d_ff|n_inner|ffn_hidden_size|share_expert_dim", 320, 448),
    (r"vocab_size$|vocab_size_per_layer_input", 1088, 1536),
    (r"max_position_embeddings|n_positions", 160, 300),
    (r"num_experts$|num_local_experts|n_routed_experts|moe_num_experts", 8, 16),
    (r"type_vocab_size", 3, 1),
)


# What the varied forms start from where the defaults of a class cannot be built.
START: Mapping[str, Values] = {
    "hunyuan_v1_dense": {"head_dim": 32, "num_key_value_heads": 2},
    "hunyuan_v1_moe": {"head_dim": 32, "num_key_value_heads": 2, "num_experts": 8, "moe_topk": 3},
    "ministral": {"head_dim": 32},
    "nemotron": {"head_dim": 32, "num_key_value_heads": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "conv", "full_attention"], "num_hidden_layers": 5},
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 3, "n_shared_experts": 1},
    "deepseek_v2": {"num_experts_per_tok": 3},
    "chameleon": {"vocabulary_map": {"<image>": 1, "IMGIMGAZ": 2, "IMGIMGBZ": 3}},
}

# What makes the third form one that the planner counts, where sizes depend on each other; its fields are then tried.
FITTING: Mapping[str, Values] = {
    "glmasr": {"audio_config": {"num_key_value_heads": 6}},
    "mimo_v2_flash": {"num_key_value_heads": 3},
    "mllama_text_model": {"cross_attention_layers": [3]},
    "molmo2": {"vision_config": {"num_key_value_heads": 6}},
    "muse_glimmer": {"out_hidden_size": 768},
    "nemotron_h_omni": {"vision_hidden_size": 192},
    "recurrent_gemma": {"lru_width": 192},
    "zamba": {"attention_hidden_size": 384, "attention_head_dim": 64, "num_hidden_layers": 4,
              "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"]},
    "zamba2": {"attention_hidden_size": 384, "attention_head_dim": 64, "mamba_headdim": 48, "num_hidden_layers": 4,
               "hybrid_layer_ids": [1, 3],
               "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"]},
}  # fmt: skip


def forms(model_type: str, builds: Callable[[Values], bool]) -> dict[str, Values]:
    """The class defaults; what ``save_pretrained`` writes of them; two others that the class builds."""
    config = CONFIG_MAPPING[model_type]()
    saved = json.loads(config.to_json_string())
    full = json.loads(config.to_json_string(use_diff=False))
    found = {"default": {"model_type": model_type}, "saved": saved}
    for index, name in ((1, "varied-1"), (2, "varied-2")):
        start = START.get(model_type, {})
        base = {**cut(copy.deepcopy(full if index == 1 else saved), 5 if index == 1 else 6), **start}
        if not builds(base):
            base = {**cut(copy.deepcopy(full if index == 1 else saved), None), **start}
        found[name] = varied(base, index, builds)
    fitted = merged(copy.deepcopy(found["varied-1"]), FITTING.get(model_type, {}))
    found["varied-1"] = _spelled_out(fitted if builds(fitted) else found["varied-1"], builds)
    return found


def merged(values: Values, changes: Mapping[str, Any]) -> Values:
    """Values with changes put in, sections by field."""
    for key, new in changes.items():
        if isinstance(new, Mapping) and isinstance(values.get(key), dict):
            merged(values[key], new)
        else:
            values[key] = copy.deepcopy(new)
    return values


def _spelled_out(values: Values, builds: Callable[[Values], bool]) -> Values:
    """The same configuration as its class writes it in full, with a word for each layer."""
    try:
        config = CONFIG_MAPPING[values["model_type"]].from_dict(copy.deepcopy(values))
        out: Values = json.loads(config.to_json_string(use_diff=False))
    except Exception:  # a configuration that its class cannot read
        return values
    return out if builds(out) else values


def cut(values: Values, layers: int | None) -> Values:
    """Fewer layers, and no lists that say something of each of them; token ids below any vocabulary."""
    out: Values = {}
    for key, value in values.items():
        if isinstance(value, dict) and key not in BASE and "per_layer" not in key:
            out[key] = cut(value, layers)
        elif layers is not None and _LAYERS.match(key) and type(value) is int and value > layers:
            out[key] = layers
        elif layers is not None and _LISTS.search(key):
            continue
        elif re.search(r"_token_(id|index)$", key) and type(value) is int:
            out[key] = 7
        else:
            out[key] = value
    return out


def varied(values: Values, index: int, builds: Callable[[Values], bool]) -> Values:
    """Sizes of :data:`SIZES`, and in the second form each flag turned, as far as the class builds the result."""
    wanted = {p: new for p, old in leaves(values) if (new := _other(p, old, index)) is not None and new != old}
    whole = copy.deepcopy(values)
    for path, new in wanted.items():
        put(whole, path, new)
    if builds(whole):
        return whole
    out = values
    for path, new in wanted.items():
        trial = copy.deepcopy(out)
        put(trial, path, new)
        if builds(trial):
            out = trial
    return out


def _other(path: Path, value: Any, index: int) -> Any:
    key = str(path[-1])
    if isinstance(value, bool):
        turn = index == 2 and not key.startswith(("is_", "use_cache", "add_cross", "output", "_"))
        return not value if turn else None
    if not isinstance(value, int):
        return None
    for pattern, *sizes in SIZES:
        if re.search(pattern, key):
            return sizes[index - 1]
    return None


def leaves(values: Any, prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every field that holds no mapping, with its path; nested ones too."""
    for key, value in values.items():
        if key in BASE:
            continue
        if isinstance(value, Mapping) and value and not key.startswith("_"):
            yield from leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def put(values: Values, path: Path, value: Any) -> None:
    """Set one field."""
    for key in path[:-1]:
        values = values[key]
    values[path[-1]] = value


def drop(values: Values, path: Path) -> None:
    """Take one field out."""
    for key in path[:-1]:
        values = values[key]
    del values[path[-1]]


MISSING = "<missing>"
WORDS: dict[str, tuple[str, ...]] = {
    "feed_forward_proj": ("gated-gelu", "relu", "gated-silu"),
    "attn_type": ("multiquery_attention",),
    "norm_type": ("rms_norm", "layer_norm"),
    "hybrid_override_pattern": ("M*-", "ME"),
    "pos_att_type": ("p2c|c2p", "c2p"),
    "norm_rel_ebd": ("layer_norm", "none"),
    "position_embedding_type": ("relative_key", "relative_key_query"),
}
KINDS_OF_LAYER = ("full_attention", "sliding_attention", "linear_attention", "chunked_attention", "mamba", "attention",
                  "conv", "recurrent", "dense", "sparse", "moe", "mlp", "hybrid")  # fmt: skip


def mutations(values: Values) -> Iterator[tuple[Path, Any]]:
    """One field changed at a time: other sizes, null, absent, turned flags, other words, other lists, other types."""
    for path, old in leaves(values):
        for new in _changes(str(path[-1]), old):
            if new is MISSING or json.dumps(new) != json.dumps(old):
                yield path, new


def _changes(key: str, old: Any) -> list[Any]:
    if isinstance(old, bool):
        return [not old, None, MISSING, "yes"]
    if isinstance(old, int):
        return [old + 1, 2 * old, 3 * old, 0, None, MISSING, str(old), [old]]
    if isinstance(old, float):
        return [2 * old, 0.0, None, MISSING, "many"]
    if isinstance(old, str):
        words = WORDS.get(key, ("relu", "gelu", "silu") if "act" in key else ())
        return [*words, None, MISSING, 3]
    if isinstance(old, list):
        return [*_other_lists(old), [], None, MISSING, 5, {"a": 1}]
    if isinstance(old, Mapping):
        return [None, MISSING, [1]]
    return [1, 3, 48, True, "auto", ["full_attention"], {}]


def _other_lists(old: list[Any]) -> list[Any]:
    found: list[Any] = [old[::-1], old[:-1], old + old[-1:]]
    if old and all(isinstance(v, str) for v in old):
        found += [[kind, *old[1:]] for kind in KINDS_OF_LAYER]
        found += [[kind] * len(old) for kind in KINDS_OF_LAYER]
    if old and all(isinstance(v, int) for v in old):
        found += [[v + 1 for v in old], [0] * len(old), [str(old[0]), *old[1:]]]
    return found
