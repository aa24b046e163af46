"""Which adapter builds which ``model_type``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from planner.catalogue.families import (
    encoders,
    gemma,
    gpt,
    hybrid,
    latent,
    llama,
    llama_vision,
    mamba_kin,
    merged_towers,
    more_types,
    multimodal,
    remote,
    seq2seq,
    sparse,
    vision,
)
from planner.catalogue.families.config import Config
from planner.catalogue.families.facts import all_types
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
    "deepseek_v2": latent.build,
    "deepseek_v3": latent.build,
    "deepseek_v32": latent.build,
    "glm_moe_dsa": latent.build,
    "glm4_moe_lite": latent.build,
    "minicpm3": latent.build,
    "mistral4": latent.build,
    "youtu": latent.build,
    "qwen3_next": hybrid.qwen3_next,
    "qwen3_5_text": hybrid.qwen3_next,
    "qwen3_5_moe_text": hybrid.qwen3_next,
    "kimi_linear": hybrid.kimi_linear,
    "minimax": hybrid.minimax,
    "nemotron_h": mamba_kin.nemotron_h,
    "mamba": mamba_kin.mamba,
    "mamba2": mamba_kin.mamba,
    "falcon_mamba": mamba_kin.mamba,
    "jamba": mamba_kin.jamba,
    "bamba": mamba_kin.bamba,
    "falcon_h1": mamba_kin.falcon_h1,
    "granitemoehybrid": mamba_kin.granite_hybrid,
    "lfm2": hybrid.lfm2,
    "lfm2_moe": hybrid.lfm2,
    "recurrent_gemma": hybrid.recurrent_gemma,
    "gemma4": gemma.gemma4,
    "gemma4_text": gemma.gemma4_text,
    "gemma3n_text": gemma.gemma3n_text,
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "ernie", "mpnet", "electra"), encoders.bert),
    "distilbert": encoders.distilbert,
    "albert": encoders.albert,
    "deberta": encoders.deberta,
    "deberta-v2": encoders.deberta,
    "modernbert": encoders.modernbert,
    "modernbert-decoder": encoders.modernbert,
    "nomic_bert": encoders.nomic_bert,
    **dict.fromkeys(("t5", "mt5", "umt5"), seq2seq.t5),
    **dict.fromkeys(("bart", "mbart", "plbart", "pegasus", "marian", "m2m_100", "blenderbot"), seq2seq.bart),
    "whisper": seq2seq.whisper,
    **dict.fromkeys(("vit", "deit", "dinov2", "dinov2_with_registers", "vit_mae"), vision.vit),
    "clip": vision.clip,
    "clip_text_model": vision.clip_text,
    "clip_vision_model": vision.clip_vision,
    "siglip": vision.siglip,
    "siglip_vision_model": vision.clip_vision,
    **dict.fromkeys(("gemma3", "paligemma"), multimodal.gemma3),
    **dict.fromkeys(
        ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"), merged_towers.qwen_vl
    ),
    "llama4": llama_vision.llama4,
    "llama4_text": llama_vision.llama4_text,
    "mllama": llama_vision.mllama,
    "mllama_text_model": llama_vision.mllama_text,
    "kimi_k25": merged_towers.kimi_k25,
    **dict.fromkeys(("llava", "llava_next", "llava_onevision"), multimodal.llava),
    "mistral3": multimodal.mistral3,
    **dict.fromkeys(("idefics3", "smolvlm"), multimodal.idefics3),
    "internvl": multimodal.internvl,
    **dict.fromkeys(("glm4v", "glm4v_moe"), merged_towers.glm4v),
    "mimo_v2_flash": sparse.mimo_v2,
    "deepseek_v4": sparse.deepseek_v4,
    "step3p7": merged_towers.step3p7,
    "chatglm": remote.chatglm,
    "qwen": remote.qwen,
    "kimi_k2": remote.kimi_k2,
    "deepseek": remote.deepseek,
    **dict.fromkeys(
        ("internlm", "internlm2", "baichuan", "Yi", "yi", "minicpm", "aquila", "xverse", "exaone"),
        remote.llama_like,
    ),
    **dict.fromkeys(("minimax_text_01", "MiniMaxText01", "minimax_m1"), remote.minimax_text_01),
    "grok-1": remote.grok,
    "mimo": remote.mimo,
    "nemotron-nas": remote.nemotron_nas,
    "phi-msft": remote.phi_msft,
}

ADAPTERS |= more_types.ADAPTERS
REFUSED = more_types.REFUSED


def resolve(config: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], str, list[str]]:
    """The configuration, its ``model_type`` (guessed from the architecture where absent) and what was assumed."""
    model_type = config.get("model_type")
    if isinstance(model_type, str) and model_type:
        return config, model_type, []
    if model_type not in (None, ""):
        raise BadInputError(f"{where}: model_type is {model_type!r:.40}; a name is due")
    guess = _from_architecture(config.get("architectures")) or _from_signature(config)
    if guess is None:
        raise BadInputError(f"{where}: model_type is missing, and architectures name no known class")
    return config, guess, [f"model_type {guess!r} is guessed: the config states none"]


def _from_architecture(names: Any) -> str | None:
    """The type whose class names begin like the first architecture, the longest such."""
    if not isinstance(names, list | tuple) or not names or not isinstance(names[0], str):
        return None
    prefixes = _class_prefixes()
    fit = [p for p in prefixes if names[0].startswith(p) and names[0][len(p) :].startswith(_ENDINGS)]
    return prefixes[max(fit, key=len)] if fit else None


_ENDINGS = ("For", "LMHead", "Model")


@lru_cache(maxsize=1)
def _class_prefixes() -> Mapping[str, str]:
    """How class names of a type begin: Llama of LlamaConfig."""
    return {str(entry["class"]).removesuffix("Config"): kind for kind, entry in all_types().items()}


def _from_signature(config: Mapping[str, Any]) -> str | None:
    """RoBERTa's tables: 512 positions behind an offset of 2, a single segment."""
    if config.get("max_position_embeddings") == 514 and config.get("type_vocab_size") == 1:
        return "roberta"
    return None
