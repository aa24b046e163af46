"""Which adapter builds which ``model_type``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from planner.catalogue.families import (
    audio_text,
    bert_kin,
    decoders,
    encoders,
    gemma,
    gpt,
    hybrid,
    image_generated,
    image_merged,
    image_other,
    image_projectors,
    image_queries,
    image_sam,
    latent,
    llama,
    llama_vision,
    multimodal,
    odd_encoders,
    older,
    recurrent,
    remote,
    routed,
    seq2seq,
    seq2seq_kin,
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
    "nemotron_h": hybrid.nemotron_h,
    "mamba": hybrid.mamba,
    "mamba2": hybrid.mamba,
    "falcon_mamba": hybrid.mamba,
    "jamba": hybrid.jamba,
    "bamba": hybrid.bamba,
    "falcon_h1": hybrid.falcon_h1,
    "granitemoehybrid": hybrid.granite_hybrid,
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
        ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"), multimodal.qwen_vl
    ),
    "llama4": llama_vision.llama4,
    "llama4_text": llama_vision.llama4_text,
    "mllama": llama_vision.mllama,
    "mllama_text_model": llama_vision.mllama_text,
    "kimi_k25": multimodal.kimi_k25,
    **dict.fromkeys(("llava", "llava_next", "llava_onevision"), multimodal.llava),
    "mistral3": multimodal.mistral3,
    **dict.fromkeys(("idefics3", "smolvlm"), multimodal.idefics3),
    "internvl": multimodal.internvl,
    **dict.fromkeys(("glm4v", "glm4v_moe"), multimodal.glm4v),
    "mimo_v2_flash": sparse.mimo_v2,
    "deepseek_v4": sparse.deepseek_v4,
    "step3p7": multimodal.step3p7,
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
    "phi-msft": remote.phi_msft,
}

ADAPTERS |= {
    "afmoe": decoders.afmoe,
    "apertus1p5_text": decoders.apertus,
    "aria_text": decoders.aria_text,
    "beam": decoders.beam,
    "cohere2_moe": decoders.cohere2_moe,
    "diffllama": decoders.diffllama,
    "doge": decoders.doge,
    "flint": decoders.flint,
    "granite_swa": decoders.granite_swa,
    "granitemoe_swa": decoders.granite_swa,
    "hyperclovax": decoders.hyperclovax,
    "kolibri1": decoders.kolibri,
    "laguna": decoders.laguna,
    "mellum": decoders.mellum,
    "minimax_m3_vl_text": decoders.minimax_m3,
    "moshi": decoders.moshi,
    "sarvam_mla": latent.build,
    "jetmoe": routed.jetmoe,
    "longcat_flash": routed.longcat_flash,
    "axk1": routed.axk1,
    "zaya": routed.zaya,
    "hrm_text": routed.hrm_text,
    "dory": routed.dory,
    "rwkv": recurrent.rwkv,
    "xlstm": recurrent.xlstm,
    "olmo_hybrid": recurrent.olmo_hybrid,
    "lara_mini": recurrent.lara_mini,
    "lfm3": recurrent.lfm3,
    "bailing_hybrid": recurrent.bailing_hybrid,
    "zamba": recurrent.zamba,
    "zamba2": recurrent.zamba2,
    **dict.fromkeys(bert_kin.KIN, bert_kin.kin),
    "rembert": bert_kin.rembert,
    **dict.fromkeys(("xlm", "flaubert"), bert_kin.xlm),
    **dict.fromkeys(("esmc", "eurobert", "ultrabert"), bert_kin.llama_encoder),
    "convbert": odd_encoders.convbert,
    "squeezebert": odd_encoders.squeezebert,
    "fnet": odd_encoders.fnet,
    "mobilebert": odd_encoders.mobilebert,
    "esm": odd_encoders.esm,
    "xlnet": odd_encoders.xlnet,
    "openai-gpt": older.openai_gpt,
    "ctrl": older.ctrl,
    "cpmant": older.cpmant,
    "gpt_neox_japanese": older.gpt_neox_japanese,
    "bert-generation": older.bert_generation,
    "trocr": older.trocr,
    "blenderbot-small": seq2seq.bart,
    **dict.fromkeys(seq2seq_kin.ROWS, seq2seq_kin.bart_like),
    "fsmt": seq2seq_kin.fsmt,
    **dict.fromkeys(("longt5", "switch_transformers"), seq2seq_kin.t5_like),
    "t5gemma": seq2seq_kin.t5gemma,
    "encoder-decoder": seq2seq_kin.encoder_decoder,
    **dict.fromkeys(("aya_vision", "cohere2_vision"), image_projectors.cohere_vision),
    "deepseek_vl": image_projectors.deepseek_vl,
    "lfm2_vl": image_projectors.lfm2_vl,
    "cosmos3_edge": image_projectors.cosmos_edge,
    "lighton_ocr": image_projectors.lighton_ocr,
    **dict.fromkeys(("llava_next_video", "vipllava", "video_llava"), image_projectors.llava_video),
    "video_llama_3": image_projectors.video_llama_3,
    "paddleocr_vl": image_projectors.paddleocr_vl,
    **dict.fromkeys(("minicpmv4_6", "minicpmv4_7", "minicpm_ocr"), image_projectors.minicpm),
    "idefics2": image_projectors.idefics2,
    "aria": image_projectors.aria,
    "ovis2": image_projectors.ovis2,
    "molmo2": image_projectors.molmo2,
    "qianfan_ocr": multimodal.internvl,
    "janus": image_generated.janus,
    "granite_docling": image_generated.granite_docling,
    "nemotron_h_omni": image_generated.nemotron_omni,
    "blip": image_queries.blip,
    **dict.fromkeys(("blip-2", "instructblip", "instructblipvideo"), image_queries.blip2),
    "git": image_queries.git,
    **dict.fromkeys(("kosmos-2", "kosmos-2.5"), image_queries.kosmos),
    "pix2struct": image_queries.pix2struct,
    "idefics": image_queries.idefics,
    "vision-encoder-decoder": image_queries.vision_encoder_decoder,
    "florence2": image_other.florence2,
    "udop": image_other.udop,
    "fuyu": image_other.fuyu,
    "lfm3_vl": image_other.lfm3_vl,
    "gemma4_unified": image_other.gemma4_unified,
    "gemma4_unified_text": gemma.gemma4_text,
    "muse_glimmer": image_other.muse_glimmer,
    "shieldgemma2": image_other.shieldgemma2,
    **dict.fromkeys(("got_ocr2", "pp_chart2table"), image_sam.got_ocr2),
    "deepseek_vl_hybrid": image_sam.deepseek_hybrid,
    "unlimited_ocr": image_sam.unlimited_ocr,
    **dict.fromkeys(("cosmos3_omni", "exaone4_5", "hyperclovax_vision_v2"), image_merged.merged),
    **dict.fromkeys(("qwen2_5_omni_thinker", "qwen3_omni_moe_thinker"), image_merged.omni),
    "glm_ocr": image_merged.glm_vision,
    "minimax_m3_vl": image_merged.minimax_vl,
    "ernie4_5_vl_moe": image_merged.ernie_vl,
    **dict.fromkeys(("glm46v", "glmga"), multimodal.glm4v),
    **dict.fromkeys(
        ("qwen2_audio", "audioflamingo3", "musicflamingo", "voxtral", "moss_transcribe_diarize"), audio_text.whispering
    ),
    "glmasr": audio_text.glmasr,
    "qwen3_asr": audio_text.qwen3_asr,
    "voxtral_realtime": audio_text.voxtral_realtime,
    "omniasr": audio_text.omniasr,
}

REFUSED: Mapping[str, str] = {
    "kimi_k3": "the structure of its attention residuals, latent experts and gated Kimi delta attention is not "
    "published in a form that could be checked",
    "minimax_m3": "its block-sparse attention index has no published reference to check against",
    "prophetnet": "its decoder runs n-gram streams beside the tokens, which are not modelled",
    "funnel": "its layers run on a sequence that shrinks from block to block, which is not modelled",
    "reformer": "its reversible layers and hashed attention are not modelled",
    "perceiver": "its latents attend to inputs of another length and width, which is not modelled",
    "gemma3n": "its MobileNet image tower and audio tower are not modelled; state its text_config alone (gemma3n_text)",
    "t5gemma2": "its decoder attends to both streams in one attention, which is not modelled",
    "pi0": "it predicts actions of a robot by diffusion, which is not modelled",
    "swin": "windows that shift and merge are not modelled",
}


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
