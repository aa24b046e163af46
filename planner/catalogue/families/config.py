"""Reading a configuration safely: alternative key names, class defaults, types, bounds, and what nobody read.

Every value is checked where it is read and a fault names its key. A key that is absent takes the default of the
class that the config's ``model_type`` builds, and the default taken is recorded. A key that looks structural, that
no adapter read and that is not at its default is refused: it could change the count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Any

from planner.errors import BadInputError

MAX_WIDTH = 10**9
MAX_LAYERS = 10**5

# Names that mean the same; the first is canonical. From the attribute maps of the configuration classes of
# Hugging Face transformers 5.23.0 and from configs of models whose code ships with the checkpoint.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd", "d_model", "dim", "model_dim"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers", "depth"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads", "attention_heads"),
    "num_key_value_heads": ("num_kv_heads", "n_head_kv", "num_attention_groups", "multi_query_group_num"),
    "intermediate_size": ("ffn_dim", "n_inner", "ffn_hidden_size", "d_ff", "hidden_dim"),
    "max_position_embeddings": (
        "n_positions",
        "max_seq_len",
        "seq_length",
        "max_sequence_length",
        "model_max_length",
    ),
    "vocab_size": ("padded_vocab_size",),
    "head_dim": ("kv_channels", "attention_head_dim", "d_kv"),
    "num_experts": ("num_local_experts", "n_routed_experts", "moe_num_experts"),
    "num_experts_per_tok": (
        "num_experts_per_token",
        "moe_k",
        "moe_topk",
        "moe_top_k",
        "num_selected_experts",
        "experts_per_token",
        "top_k_experts",
    ),
    "moe_intermediate_size": ("expert_ffn_hidden_size",),
    "n_shared_experts": ("num_shared_experts", "moe_num_shared_experts", "num_shared_expert"),
    "num_nextn_predict_layers": ("mtp_num_hidden_layers", "num_mtp_modules", "num_mtp_layers"),
    "hidden_act": (
        "hidden_activation",
        "activation_function",
        "activation",
        "mlp_hidden_act",
        "dense_act_fn",
    ),
    "hidden_dropout": ("hidden_dropout_prob", "resid_pdrop", "dropout", "dropout_rate", "residual_dropout"),
}

_STRUCTURAL = re.compile(
    r"expert|layers?(_|$)|heads?(_|$)|(^|_)dim(_|$|s$)|size|(^|_)rank|window|moe|mlp|ffn|bias|conv|(^|_)kv_|lora|"
    r"latent|compress|attn|attention|(^|_)norm(_|$)|expand|pattern|gate|n_groups?$|share"
)
# Structural by name, harmless by meaning: these change neither parameters nor FLOPs as counted here.
_HARMLESS = re.compile(
    r"dropout|pdrop|drop_|_eps(ilon)?$|epsilon|softcap|_implementation$|_softmax|softmax_|_scale$|^scale_|_scaling|"
    r"scaling_|scaling$|multiplier|logit|token|rope|rotary|init|pretraining_tp|^ep_size$|aux_loss|z_loss|jitter|"
    r"chunk_size_feed_forward|prefill_chunk_size|chunk_size$|block_size$|max_window_layers|topk_group|topk_method|n_group$|"
    r"num_expert_group|use_grouped_topk|norm_topk_prob|scoring_func|router_activation|renormalize|layerdrop|"
    r"use_cache|output_|return_|cross_attention_hidden_size|add_cross_attention|is_decoder|tie_|problem_type|"
    r"max_batch_size|pruned_heads|num_beam|diversity|gradient_checkpoint|checkpoint|summary_|fp32|bf16|fp16|use_flash|"
    r"flash_attn|kernels?$|parallel_(size|enabled|output)|sequence_parallel|mesh|cache_implementation|image_|video_|audio_|"
    r"vision_|mm_tokens|context_window|dim_model_base|query_pre_attn|residual_in|prefill|deterministic|attn_res_|classif|"
    r"pooling|sparse_pred|cutoff|window_context|num_logits_to_keep|rescale|time_step|ssm_dtype|ssm_cache|"
    r"attention_bias_in|bidirectional|uses_sequence_id|use_mamba|swiglu|clip_qkv|attn_impl|attn_type|alibi_bias_max|"
    r"prefix_lm|zero_expert|bias_dropout|original_|position_embedding_type|seq_aux|router_|mscale|mla_scale|qk_norm_type|"
    r"attention_window_size|attention_sink_size|sliding_window|max_distance|moe_overlap|expert_overlap|hc_eps|"
    r"apply_query_key_layer|apply_residual|pre_seq_len|prefix_projection|residual_connection|max_relative|"
    r"block_types|moe_group|moe_capacity|expert_capacity|correction|norm_position|mapping|onnx|float|"
    r"local_files|layer_norm_elementwise|hidden_act$|activation$|quant|per_layer_config|"
    r"reorder_and_upcast|^fused_|use_parallel|embedding_sharing|use_gated_activation|layer_switch|pad_vocab|aux_free|"
    r"compression_ratio|enable_mtp|disable_|anyres_|class_num|ssm_cfg|group_norm|post_norm$|is_llama|resampler|perceiver|"
    r"neftune|pixel_shuffle|max_image|pad_key_length|pre_allocate|mup_|log_|output_gate_type|loss|test_|embed_scale|scale_embedding|use_logn|dynamic_ntk|"
    r"expert_dtype|mamba_hidden_act|intermediate_layers|full_attn_mod|interpolate|partial_|moe_router_scaling"
)
_UNSET = object()


@lru_cache(maxsize=1)
def class_defaults() -> Mapping[str, Mapping[str, Any]]:
    """``model_type`` to its configuration class (``class``) and that class's defaults (``defaults``)."""
    text = resources.files("planner.catalogue.families").joinpath("defaults.json").read_text(encoding="utf-8")
    found: Mapping[str, Mapping[str, Any]] = json.loads(text)["types"]
    return found


class Config:
    """A mapping of configuration values with the defaults of its class behind it.

    ``where`` is the file or name shown in errors, ``path`` the section (``text_config.``).
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        *,
        where: str,
        model_type: str,
        path: str = "",
        assumed: list[str] | None = None,
    ) -> None:
        entry = class_defaults().get(model_type, {})
        self.values = values
        self.where = where
        self.path = path
        self.model_type = model_type
        self.class_name = str(entry.get("class", ""))
        self.defaults: Mapping[str, Any] = entry.get("defaults", {})
        self.assumed: list[str] = [] if assumed is None else assumed
        self.read: set[str] = set()

    def error(self, key: str, message: str) -> BadInputError:
        """An error that names the file and the field."""
        return BadInputError(f"{self.where}: {self.path}{key} {message} (model_type {self.model_type!r})")

    def _names(self, key: str) -> tuple[str, ...]:
        return (key, *ALIASES.get(key, ()))

    def find(self, key: str) -> tuple[str, Any]:
        """The name under which a key is given, and its value; the canonical name and :data:`_UNSET` if it is not."""
        given = [n for n in self._names(key) if n in self.values]
        self.read.update(given)
        stated = [n for n in given if self.values[n] is not None]
        if len({repr(self.values[n]) for n in stated}) > 1:
            pairs = ", ".join(f"{n} = {self.values[n]!r}" for n in stated)
            own = [n for n in stated if n in self.defaults]
            if len(own) != 1:
                raise self.error(key, f"is given twice with different values: {pairs}")
            return own[0], self.values[own[0]]
        name = (stated or given or [key])[0]
        return name, self.values.get(name, _UNSET)

    def get(self, key: str, fallback: Any = None) -> Any:
        """The value as given, else the class default (recorded), else ``fallback``."""
        _, value = self.find(key)
        if value is not _UNSET:
            return value
        for n in self._names(key):
            if n in self.defaults:
                if self.defaults[n] is not None:
                    self._assume(n, self.defaults[n], f"the class default of {self.class_name}")
                return self.defaults[n]
        return fallback

    def _assume(self, key: str, value: Any, why: str) -> None:
        self.assume(f"{self.path}{key} {value!r} is {why}")

    def assume(self, note: str) -> None:
        """Record something that the config does not state, once."""
        if note not in self.assumed:
            self.assumed.append(note)

    def has(self, key: str) -> bool:
        """Whether the config itself states the key (not null)."""
        return any(self.values.get(n) is not None for n in self._names(key))

    def integer(self, key: str, fallback: Any = _UNSET, *, low: int = 1, high: int = MAX_WIDTH) -> int:
        """A bounded integer; missing without a default, null, or of another type is refused."""
        name, given = self.find(key)
        if given is None and fallback is _UNSET:
            raise self.error(name, f"is null; an integer from {low} to {high} is due")
        value = self.get(key) if given is not None else None
        if value is None:
            if fallback is _UNSET:
                raise self.error(key, "is missing and its class has no default")
            value = fallback
        return self._bounded(name, value, low, high)

    def _bounded(self, name: str, value: Any, low: int, high: int) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(name, f"is {value!r:.60}; an integer is due")
        if not low <= value <= high:
            raise self.error(name, f"is {value!r:.60}; it must lie from {low} to {high}")
        return value

    def optional(self, key: str, *, low: int = 1, high: int = MAX_WIDTH) -> int | None:
        """As :meth:`integer`, but null or absent (without a default) is None."""
        value = self.get(key)
        return None if value is None else self._bounded(self.find(key)[0], value, low, high)

    def flag(self, key: str, fallback: bool = False) -> bool:
        """A boolean (0 and 1 pass); null is the fallback."""
        value = self.get(key, fallback)
        if value is None:
            return fallback
        if not isinstance(value, bool | int) or value not in (0, 1):
            raise self.error(key, f"is {value!r:.60}; true or false is due")
        return bool(value)

    def number(self, key: str, fallback: float | None = None) -> float:
        """A finite number."""
        value = self.get(key, fallback)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e18:
            raise self.error(key, f"is {value!r:.60}; a finite number is due")
        return float(value)

    def text(self, key: str, fallback: str = "") -> str:
        """A string; null is the fallback."""
        value = self.get(key, fallback)
        if value is None:
            return fallback
        if not isinstance(value, str):
            raise self.error(key, f"is {value!r:.60}; text is due")
        return value

    def items(self, key: str, *, length: int | None = None) -> list[Any] | None:
        """A list or None; of ``length`` entries where the layers say so."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, list | tuple):
            raise self.error(key, f"is {value!r:.60}; a list is due")
        if length is not None and len(value) != length:
            raise self.error(key, f"has {len(value)} entries for {length} layers")
        return list(value)

    def indices(self, key: str, *, high: int) -> list[int]:
        """A list of layer indices below ``high`` (empty when absent)."""
        return [self._bounded(key, v, 0, high) for v in self.items(key) or []]

    def section(
        self, key: str, model_type: str, *, required: bool = True, allowed: tuple[str, ...] = ()
    ) -> Config | None:
        """A nested mapping as a config of its own: of the type it names if that is allowed, else of the given one."""
        value = self.get(key)
        if value is None and not required:
            return None
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise self.error(key, f"is {value!r:.60}; a mapping is due")
        named = value.get("model_type")
        own = named if isinstance(named, str) and named in allowed else model_type
        return Config(value, where=self.where, model_type=own, path=f"{self.path}{key}.", assumed=self.assumed)

    def with_values(self, **values: Any) -> Config:
        """The same configuration with some values replaced; what is read of it counts as read here."""
        other = Config({**self.values, **values}, where=self.where, model_type=self.model_type, path=self.path,
                       assumed=self.assumed)  # fmt: skip
        other.read = self.read
        return other

    def ignore(self, *keys: str) -> None:
        """Mark keys as understood and without effect on the counts."""
        self.read.update(keys)

    def refuse_unread(self) -> None:
        """Refuse the keys nobody read that look as if they could change a count."""
        bad = [k for k, v in self.values.items() if isinstance(k, str) and self._suspicious(k, v)]
        if bad:
            known = "; ".join(f"{k} = {self.values[k]!r:.40}" for k in bad)
            raise self.error(bad[0], f"is not understood for this type and could change the count ({known}); refused")

    def _suspicious(self, key: str, value: Any) -> bool:
        if (
            key in self.read
            or key.startswith("_")
            or isinstance(value, str)
            or value in (None, False, 0, "", [], {}, 0.0)
        ):
            return False
        if key in self.defaults and self.defaults[key] == value:
            return False
        return bool(_STRUCTURAL.search(key)) and not _HARMLESS.search(key)
