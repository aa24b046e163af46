"""An image encoder before a text decoder of another type that attends to it (TrOCR and the like).

Structure as built by the classes of Hugging Face transformers 5.24.0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.catalogue.families import encoders, older, vision
from planner.catalogue.families.config import Config
from planner.catalogue.families.image_queries import read
from planner.catalogue.families.image_text import part
from planner.catalogue.schema import Attention, Layer, Model


def _crossed(model: Model) -> tuple[Layer, ...]:
    """BERT's layers as a decoder's: causal, with cross-attention and its norm."""
    kinds = []
    for kind in model.text.kinds:
        assert isinstance(kind.mixer, Attention)
        a = replace(kind.mixer, causal=True)
        kinds.append(
            replace(kind, mixer=a, cross=replace(a, cross=True, causal=False), norms=(*kind.norms, kind.norms[0]))
        )
    return tuple(kinds)


def vision_encoder_decoder(c: Config) -> Model:
    """ViT or DeiT before a BERT or TrOCR decoder that attends to it."""
    e, d = part(c, "encoder", "vit", allowed=("vit", "deit")), part(c, "decoder", "bert", allowed=("bert", "trocr"))
    first = vision.vit(e)
    hidden = first.hidden
    pooled = e.optional("pooler_output_size") or hidden
    pooler = hidden * pooled + pooled
    e.refuse_unread()
    body = read(replace(first.text, output_parameters=first.text.output_parameters))
    if not first.text.output_parameters:
        body = replace(body, output_parameters=pooler)
    if d.model_type == "bert" and not d.flag("add_cross_attention"):
        raise d.error(
            "add_cross_attention", "is false; the decoder then does not see the image, which is not supported"
        )
    d.ignore("is_decoder", "tie_word_embeddings", "use_cache", "cross_attention_hidden_size")
    values: dict[str, Any] = {"is_decoder": False, "add_cross_attention": False}
    second = encoders.bert(d.with_values(**values)) if d.model_type == "bert" else older.trocr(d)
    d.refuse_unread()
    if second.hidden != hidden:
        raise c.error("decoder", f"is {second.hidden} wide and the encoder {hidden}; not supported")
    kinds = _crossed(second) if d.model_type == "bert" else tuple(_uncrossed(k, hidden) for k in second.text.kinds)
    text = replace(second.text, name="decoder", role="decoder", kinds=kinds)
    return replace(second, family=c.model_type, stacks=(body, text))


def _uncrossed(kind: Layer, hidden: int) -> Layer:
    """TrOCR's layer with the cross-attention that it holds put to work."""
    assert isinstance(kind.mixer, Attention)
    return replace(kind, cross=replace(kind.mixer, cross=True, causal=False), extra_parameters=0)
