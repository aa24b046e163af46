"""Names of fields: which mean the same, and which look as if they could change a count."""

from __future__ import annotations

import re
from collections.abc import Mapping

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

# Fields whose foreign names a class ignores without effect on a count: only a length that is shown comes from them.
UNCOUNTED = frozenset({"num_nextn_predict_layers"})  # described, not counted: any name will do
IGNORED_ALIASES = frozenset({"max_position_embeddings"})

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
    r"local_files|layer_norm_elementwise|hidden_act$|activation$|quant|"
    r"reorder_and_upcast|^fused_|use_parallel|embedding_sharing|use_gated_activation|layer_switch|pad_vocab|aux_free|"
    r"compression_ratio|enable_mtp|disable_|anyres_|class_num|ssm_cfg|group_norm|post_norm$|is_llama|resampler|perceiver|"
    r"neftune|pixel_shuffle|max_image|pad_key_length|pre_allocate|mup_|log_|output_gate_type|loss|test_|embed_scale|scale_embedding|use_logn|dynamic_ntk|"
    r"expert_dtype|mamba_hidden_act|intermediate_layers|full_attn_mod|interpolate|partial_|moe_router_scaling"
)

# Fields of every configuration: files, labels (read where a class has a head for them), how results are returned.
GENERIC = frozenset(
    {"model_type", "architectures", "auto_map", "transformers_version", "dtype", "torch_dtype", "id2label", "label2id",
     "num_labels", "problem_type", "output_hidden_states", "output_attentions", "return_dict", "rope_parameters",
     "rope_scaling", "rope_theta", "tokenizer_class", "name_or_path", "quantization_config"}
)  # fmt: skip

# What some of them may hold, in the codes of facts.WORDS; no class is asked, for any configuration may state them.
GENERIC_KINDS: Mapping[str, str] = {
    "rope_parameters": "dn", "rope_scaling": "dn", "rope_theta": "fn", "dtype": "sdn", "torch_dtype": "sdn",
    "num_labels": "in", "id2label": "dn", "label2id": "dn", "architectures": "ln", "quantization_config": "dn",
    "transformers_version": "sn", "problem_type": "sn",
}  # fmt: skip


def looks_structural(key: str) -> bool:
    """Whether a field that no class knows could change a count, by its name."""
    return bool(_STRUCTURAL.search(key)) and not _HARMLESS.search(key)
