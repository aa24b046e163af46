"""Models whose code ships with the checkpoint, and old names: translated to a type of the Llama or GLM line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from planner.catalogue.families import gpt, hybrid, latent, llama
from planner.catalogue.families.blocks import attention, decoder, layer, layer_count
from planner.catalogue.families.config import Config
from planner.catalogue.families.experts import deepseek_experts
from planner.catalogue.families.heads import attention_parameters
from planner.catalogue.schema import Attention, Layer, Mlp, Model


def translated(c: Config, model_type: str, names: Mapping[str, str] | None = None, **values: Any) -> Config:
    """The same configuration under another type: keys renamed, values added."""
    renamed = {(names or {}).get(k, k): v for k, v in c.values.items()}
    c.read.update(c.values)
    out = Config({**renamed, **values}, where=c.where, model_type=model_type, assumed=c.assumed)
    out.ignore("model_type", "architectures", "auto_map", "tokenizer_class")
    return out


def finish(model: Model, c: Config, family: str) -> Model:
    """Check that nothing was left unread, and keep the family's own name."""
    c.refuse_unread()
    return replace(model, family=family)


def chatglm(c: Config) -> Model:
    """ChatGLM2, ChatGLM3, GLM-4-9B: grouped heads, biases on q, k and v only."""
    if not c.flag("rmsnorm", True) or (not c.has("multi_query_group_num") and not c.has("kv_channels")):
        raise c.error("model_type", "'chatglm' of the first generation (no RMS norm) is not supported")
    hidden, n = c.integer("hidden_size"), layer_count(c)
    heads = c.integer("num_attention_heads", high=10**6)
    kv = c.integer("multi_query_group_num", high=10**6) if c.flag("multi_query_attention") else heads
    if heads % kv:
        raise c.error("multi_query_group_num", f"is {kv}, which does not divide the {heads} attention heads")
    linear, qkv = c.flag("add_bias_linear"), c.flag("add_qkv_bias")
    mixer = Attention(heads, kv, c.integer("kv_channels", 128), q_bias=linear or qkv, k_bias=linear or qkv,
                      v_bias=linear or qkv, out_bias=linear)  # fmt: skip
    mlp = Mlp(c.integer("ffn_hidden_size"), True, bias=linear)
    c.ignore("post_layer_norm", "original_rope", "rope_ratio", "attention_softmax_in_fp32", "bias_dropout_fusion")
    final = "rms" if c.flag("post_layer_norm", True) else "none"
    layers = [layer(mixer, mlp, "rms", hidden)] * n
    return decoder(c, layers, norm="rms" if final == "rms" else "none", tie=c.flag("tie_word_embeddings"))


def qwen(c: Config) -> Model:
    """Qwen 1: ``intermediate_size`` counts gate and up together."""
    width = c.integer("intermediate_size")
    if width % 2:
        raise c.error("intermediate_size", f"is {width}; Qwen 1 halves it, so it must be even")
    if not c.flag("no_bias", True):
        raise c.error("no_bias", "is false; not supported")
    c.ignore("seq_length")
    values = {k: v for k, v in c.values.items() if k not in ("seq_length", "kv_channels")}
    out = translated(Config(values, where=c.where, model_type="qwen", assumed=c.assumed), "qwen2",
                     intermediate_size=width // 2, tie_word_embeddings=c.flag("tie_word_embeddings"))  # fmt: skip
    c.read.update(c.values)
    heads = c.integer("num_attention_heads", high=10**6)
    out.values = {**out.values, "num_key_value_heads": heads}
    out.ignore("no_bias", "bf16", "fp16", "fp32")
    return finish(llama.build(out), out, "qwen")


def kimi_k2(c: Config) -> Model:
    """Kimi K2: DeepSeek-V3 with other sizes."""
    out = translated(c, "deepseek_v3")
    return finish(latent.build(out), out, "kimi_k2")


def deepseek(c: Config) -> Model:
    """DeepSeekMoE: Llama attention, fine-grained and shared experts, a dense first layer."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    mixer = attention(c, hidden, bias=c.flag("attention_bias"))
    c.ignore("intermediate_size")
    moe, routed = (None, [False] * n)
    if c.values.get("n_routed_experts") is not None:
        moe, routed = deepseek_experts(c, n)
    dense = None if all(routed) else Mlp(c.integer("intermediate_size"), True)
    return decoder(c, [layer(mixer, moe if r else dense, "rms", hidden) for r in routed])


def llama_like(c: Config) -> Model:
    """InternLM, Baichuan, Yi, MiniCPM, Aquila, XVerse, EXAONE 3: Llama under another name."""
    family = c.model_type
    biased = family == "internlm" or family == "internlm2"
    bias = c.flag("bias", family == "internlm") if biased else False
    names = {"embed_dropout": "embed_dropout"}
    c.ignore("bias")
    values = {k: v for k, v in c.values.items() if k != "bias"}
    values = {**{k: v for k, v in c.defaults.items() if v is not None}, **values}
    inner = Config(values, where=c.where, model_type=family, assumed=c.assumed)
    out = translated(inner, "llama", names, attention_bias=bias or c.flag("attention_bias"))
    c.read.update(c.values)
    for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"):
        if not out.has(key):
            raise out.error(key, f"is missing; {family} has no class defaults here")
    out.ignore("z_loss_weight", "model_max_length", "max_window_layers", "scale_emb", "scale_depth", "dim_model_base",
               "layer_norm_epsilon")  # fmt: skip
    model = llama.build(out)
    if family == "baichuan" and layer_count(out) == 40:
        text = model.stacks[-1]
        kinds = tuple(replace(k, mixer=replace(k.mixer, rotary=False)) if isinstance(k.mixer, Attention) else k
                      for k in text.kinds)  # fmt: skip
        model = replace(model, stacks=(*model.stacks[:-1], replace(text, kinds=kinds)))
    return finish(model, out, family)


def minimax_text_01(c: Config) -> Model:
    """MiniMax-Text-01 and M1: ``attn_type_list`` marks softmax attention with 1."""
    out = translated(c, "minimax")
    return finish(hybrid.minimax(out), out, c.model_type)


def grok(c: Config) -> Model:
    """Grok-1: Mixtral's matrices with four norms a layer."""
    recipe = replace(llama.RECIPES["mixtral"], norms=4)
    hidden, n = c.integer("hidden_size"), layer_count(c)
    c.ignore("attn_output_multiplier", "embedding_multiplier_scale", "max_attn_value", "output_multiplier_scale")
    return decoder(c, llama.layers_of(c, recipe, hidden, n))


def phi_msft(c: Config) -> Model:
    """Phi-1.5 and Phi-2 under the name they were first published with."""
    if c.values.get("n_head_kv") not in (None, c.values.get("n_head")):
        raise c.error("n_head_kv", "differs from n_head; not supported")
    hidden = c.integer("hidden_size")
    inner = c.optional("intermediate_size") or 4 * hidden
    c.read.update(c.values)
    values = {k: v for k, v in c.values.items() if k not in ("n_inner", "n_head_kv", "model_type")}
    out = Config({**values, "intermediate_size": inner}, where=c.where, model_type="phi", assumed=c.assumed)
    out.ignore("architectures", "auto_map", "img_processor")
    return finish(gpt.phi(out), out, "phi")


def mimo(c: Config) -> Model:
    """MiMo: Qwen2, and layers that predict further tokens: held by the class, passed over by generation.

    https://github.com/XiaomiMiMo/MiMo registry/register_mimo_in_vllm.py, and modeling_mimo.py of XiaomiMiMo/MiMo-7B-RL.
    """
    out = translated(c, "qwen2")
    model = llama.build(out)
    hidden, one = model.hidden, model.text.kinds[0]
    assert isinstance(one.mixer, Attention) and isinstance(one.ffn, Mlp)
    blocks = attention_parameters(one.mixer, hidden) + 3 * hidden * one.ffn.width
    ahead = model.mtp_layers * (blocks + 2 * hidden * hidden + 5 * hidden)
    return finish(replace(model, other_parameters=model.other_parameters + ahead), out, "mimo")


_IDLE = ("sparsify", "num_sink_tokens", "unshifted_sink", "use_prefill_window_in_sink_attention", "window_length")


def nemotron_nas(c: Config) -> Model:
    """Nemotron Super and Ultra found by search: Llama's layers of unlike sizes, some a matrix or nothing.

    https://github.com/NVIDIA/TensorRT-LLM tensorrt_llm/_torch/models/modeling_nemotron_nas.py
    """
    hidden, n = c.integer("hidden_size"), layer_count(c)
    blocks = c.items("block_configs", length=n)
    if blocks is None:
        raise c.error("block_configs", "is missing: it states the size of each layer")
    c.ignore("num_key_value_heads", "intermediate_size", "pretraining_tp")
    return decoder(c, [_nas_layer(c, hidden, f"block_configs.{i}", b) for i, b in enumerate(blocks)])


def _nas_layer(c: Config, hidden: int, where: str, block: Any) -> Layer:
    a, f = (_nas_half(c, where, block, name) for name in ("attention", "ffn"))
    heads = c.integer("num_attention_heads", high=10**6)
    mixer, ffn, beside = None, None, []
    if a.get("replace_with_linear"):
        beside.append(("attn.linear", hidden, hidden))
    elif not a.get("no_op"):
        group = c._bounded(f"{where}.attention.n_heads_in_group", a.get("n_heads_in_group"), 1, heads)
        if heads % group or hidden % heads:
            raise c.error(f"{where}.attention.n_heads_in_group", f"is {group}; it must divide the {heads} heads")
        bias = c.flag("attention_bias")
        mixer = Attention(heads, heads // group, hidden // heads, q_bias=bias, k_bias=bias, v_bias=bias, out_bias=bias)
    if f.get("replace_with_linear"):
        beside.append(("mlp.linear", hidden, hidden))
    elif not f.get("no_op"):
        factor = f.get("ffn_mult")
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < 1e4:
            raise c.error(f"{where}.ffn.ffn_mult", f"is {factor!r:.40}; a number above 0 is due")
        ffn = Mlp(-(-int(2 * factor * hidden / 3) // 256) * 256 or 256, True, bias=c.flag("mlp_bias"))
    norms = sum(bool(half.get("replace_with_linear")) or not half.get("no_op") for half in (a, f))
    return layer(mixer, ffn, "rms", hidden, norms=norms, projections=tuple(beside))


def _nas_half(c: Config, where: str, block: Any, name: str) -> Mapping[str, Any]:
    half = block.get(name) if isinstance(block, Mapping) else None
    if not isinstance(half, Mapping):
        raise c.error(f"{where}.{name}", f"is {half!r:.40}; a mapping is due")
    known = ("no_op", "replace_with_linear", "n_heads_in_group" if name == "attention" else "ffn_mult")
    for key, value in half.items():
        wrong = key in known[:2] and not isinstance(value, bool | None)
        if wrong or (key not in known and (key not in _IDLE or value)):
            raise c.error(f"{where}.{name}.{key}", f"is {value!r:.40}; not supported")
    return half
