"""What each architecture class puts on the layers: one table of heads for all families.

A builder builds the model of a type's usual task. The class that ``architectures`` names keeps that head, puts another
on the same layers, or takes a part of the model alone. A class is a line of words, read from left to right:

- ``lm`` the builder's head; ``head`` its transforms without the logits
- ``pool`` a dense layer on the first token, in the body
- ``a>b`` a matmul, ``a>b+`` with a bias; ``n`` a norm of what came before. Widths: h hidden, e token
  table, l labels, v tokens,
  p ``classifier_proj_size``, j ``projection_dim``, or a number; ``+?`` a bias where ``classifier_bias`` says so
- ``encoder``, ``decoder``, ``vision`` that part of the model alone, ``tower`` the encoder without token table

As built by the classes of Hugging Face transformers, the version of ``defaults.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _each(names: tuple[str, ...], row: Mapping[str, str]) -> dict[str, Mapping[str, str]]:
    return dict.fromkeys(names, row)


_LM = {"ForCausalLM": "lm", "LMHeadModel": "lm", "ForConditionalGeneration": "lm", "ForMaskedLM": "lm"}
_TOKENS = {"ForTokenClassification": "h>l+", "ForQuestionAnswering": "h>l+"}
_DENSE = {"ForSequenceClassification": "h>h+ h>l+", "ForMultipleChoice": "h>h+ h>1+"}
_BERT = {
    **_LM, **_TOKENS, "Model": "pool", "ForSequenceClassification": "pool h>l+", "ForMultipleChoice": "pool h>1+",
    "ForPreTraining": "pool lm h>2+", "ForNextSentencePrediction": "pool h>2+",
}  # fmt: skip
_ROBERTA = {**_LM, **_TOKENS, **_DENSE, "Model": "pool", "ForMultipleChoice": "pool h>1+"}
_POOLED = {
    **dict.fromkeys(_LM, "pool lm"),
    "Model": "pool",
    "ForSequenceClassification": "pool h>l+",
    "ForTokenClassification": "pool h>l+",
    "ForQuestionAnswering": "pool h>2+",
}  # a pooler that the language model keeps
_CLASSIFIED = {**_LM, **_TOKENS, **_DENSE, "Model": ""}
_BART = {**_LM, "Model": "", "ForCausalLM": "decoder lm", "ForSequenceClassification": "h>h+ h>l+",
         "ForQuestionAnswering": "h>2+"}  # fmt: skip
_IMAGE = {"Model": "", "ForImageClassification": "h>l+"}
DECODER = {
    **_LM, "Model": "", "ForSequenceClassification": "h>l", "ForTokenClassification": "h>l+",
    "ForQuestionAnswering": "h>2+",
}  # fmt: skip
TYPES: Mapping[str, Mapping[str, str]] = {
    **_each(("bert", "ernie"), _BERT),
    "albert": {**_BERT, "ForPreTraining": "pool lm h>l+"},
    **_each(("roberta", "xlm-roberta", "camembert", "mpnet"), _ROBERTA),
    **_each(("deberta", "deberta-v2"), _CLASSIFIED),
    "distilbert": {**_CLASSIFIED, "ForQuestionAnswering": "h>2+"},
    "electra": {**_CLASSIFIED, "ForPreTraining": "h>h+ h>1+"},
    "nomic_bert": {**_BERT, "Model": ""},
    "modernbert": {**_LM, "Model": "", "ForSequenceClassification": "head h>l+", "ForMultipleChoice": "head h>1+",
                   "ForTokenClassification": "head h>l+", "ForQuestionAnswering": "head h>l+"},
    "modernbert-decoder": {**_LM, "Model": "", "ForSequenceClassification": "head h>l+?"},
    **_each(("data2vec-text", "ibert", "roberta-prelayernorm", "xlm-roberta-xl", "xmod", "longformer",
                     "jina_embeddings_v3"), _ROBERTA),
    **_each(("megatron-bert", "rembert", "mobilebert"), _BERT),
    "roc_bert": {k: v for k, v in _BERT.items() if k != "ForPreTraining"},
    **_each(("nystromformer", "mra", "yoso"), {**_BERT, "Model": ""}),
    "roformer": {**_BERT, "Model": "", "ForMultipleChoice": "h>1+"},
    **_each(("convbert", "esmc", "eurobert"), {**_LM, **_TOKENS, "Model": "", "ForSequenceClassification":
                                                       "h>h+ h>l+"}),
    "xlnet": {**_LM, "Model": "", "ForSequenceClassification": "h>h+ h>l+", "ForTokenClassification": "h>l+"},
    "gte": {**_LM, **_TOKENS, "Model": "", "ForSequenceClassification": "pool h>l+"},
    "tapas": {**_LM, "Model": "pool", "ForSequenceClassification": "pool h>l+"},
    **_each(("t5gemma", "ultrabert"), {**DECODER, "ForSequenceClassification": "h>l+"}),
    **_each(("udop",), _LM),
    "qwen3_asr": {**_LM, "Model": ""},
    **_each(("layoutlm", "fnet", "squeezebert"), _POOLED),
    "big_bird": {k: v for k, v in {**_POOLED, "ForSequenceClassification": "pool h>h+ h>l+"}.items()
                 if k != "ForQuestionAnswering"},
    "luke": {**_POOLED, "ForTokenClassification": "h>l+", "ForQuestionAnswering": "h>2+"},
    **_each(("blenderbot-small", "led", "mvp", "pegasus_x", "nllb-moe"), _BART),
    "fsmt": {**_LM, "MTModel": "lm"},
    "bigbird_pegasus": {**_BART, "ForCausalLM": "decoder h>v"},
    **_each(("seamless_m4t", "seamless_m4t_v2"), {"ForTextToText": "lm"}),
    **_each(("encoder-decoder", "vision-encoder-decoder"), {"Model": "lm"}),
    "idefics": {"ForVisionText2Text": "lm"},
    "nemotron_h_omni": {"V3": "lm"},
    **_each(("blip", "blip-2", "instructblip", "instructblipvideo"), {"ForConditionalGeneration": "lm"}),
    "moshi": {"ForCausalLM": "lm", "Model": ""},
    "bert-generation": {"Decoder": "lm"},
    **_each(("xlm", "flaubert"), {**_LM, "Model": "", "ForTokenClassification": "h>l+",
                                          "ForSequenceClassification": "h>l+", "ForQuestionAnsweringSimple": "h>l+"}),
    "opt": {**_LM, "Model": "head", "ForSequenceClassification": "head e>l", "ForQuestionAnswering": "head e>2+"},
    "gpt2": {**DECODER, "DoubleHeadsModel": "lm h>1+"},
    **_each(("bart", "mbart", "plbart", "blenderbot", "pegasus", "m2m_100"), _BART),
    "marian": {**_BART, "MTModel": "lm"},
    **_each(("t5", "mt5", "umt5", "longt5", "switch_transformers"), {
        **_LM, "Model": "", "EncoderModel": "encoder", "ForTokenClassification": "encoder h>l+",
        "ForSequenceClassification": "h>h+ h>l+", "ForQuestionAnswering": "h>l+"}),
    "whisper": {**_LM, "Model": "", "ForCausalLM": "decoder lm", "ForAudioClassification": "tower h>p+ p>l+"},
    **_each(("vit", "deit"), {
        **_IMAGE, "Model": "pool", "ForImageClassificationWithTeacher": "h>l+ h>l+"}),
    "vit_mae": {"Model": ""},
    **_each(("dinov2", "dinov2_with_registers"), {"Model": "", "ForImageClassification": "2h>l+"}),
    **_each(("clip", "siglip"), {"Model": "lm", "ForImageClassification": "vision h>l+"}),
    "clip_text_model": {"Model": "", "ModelWithProjection": "lm"},
    "clip_vision_model": {"Model": "", "ModelWithProjection": "h>j"},
}  # fmt: skip

REMOTE = {**_LM, "Model": ""}  # code that ships with a checkpoint
TYPES_REMOTE = {"chatglm": {**_LM, "Model": "lm"}}
FIELDS = {"p": "classifier_proj_size", "j": "projection_dim"}
# Fields that change a head in a way that is not described here, and the value they must have for it.
NEEDS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("deberta", "ForSequenceClassification"): {"pooler_hidden_size": "hidden_size"},
    ("deberta-v2", "ForSequenceClassification"): {"pooler_hidden_size": "hidden_size"},
    ("deberta-v2", "ForMultipleChoice"): {"pooler_hidden_size": "hidden_size"},
    ("electra", "ForMultipleChoice"): {"summary_use_proj": True},
    ("xlm", "ForSequenceClassification"): {"summary_use_proj": True, "summary_proj_to_labels": True},
    ("flaubert", "ForSequenceClassification"): {"summary_use_proj": True, "summary_proj_to_labels": True},
    ("xlnet", "ForSequenceClassification"): {"summary_use_proj": True},
    ("gpt2", "DoubleHeadsModel"): {"summary_use_proj": True, "summary_proj_to_labels": True},
    ("whisper", "ForAudioClassification"): {"use_weighted_layer_sum": False},
}
