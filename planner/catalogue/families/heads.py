"""What each architecture class puts on the layers, by the table of :mod:`planner.catalogue.families.head_table`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from planner.catalogue.families.config import Config
from planner.catalogue.families.head_table import DECODER, FIELDS, NEEDS, REMOTE, TYPES, TYPES_REMOTE
from planner.catalogue.schema import Attention, Head, Layer, Model, Stack
from planner.errors import nearest

_ENDING = re.compile(r"(Decoder$|V3$|For[A-Z]\w*|(?:DoubleHeads|LMHead|Encoder|MT)?Model(?:WithProjection)?)$")


def ending(class_name: str) -> str:
    """What a class name says of its head: what follows the family, such as ForCausalLM or Model."""
    found = _ENDING.search(class_name)
    return found.group(1) if found else ""


def known(c: Config) -> Mapping[str, str]:
    """Endings of class names to their lines, for a type."""
    if not c.facts.builds:
        return TYPES_REMOTE.get(c.model_type, REMOTE)
    return TYPES.get(c.model_type, DECODER)


def class_of(c: Config) -> tuple[str, str]:
    """The class that ``architectures`` names (else that of the type's usual task), and its line of words."""
    stated = c.values.get("architectures")
    if stated is not None and (not isinstance(stated, list) or not all(isinstance(n, str) for n in stated)):
        raise c.error("architectures", f"is {stated!r:.40}; a list of class names is due")
    if not stated:
        if c.facts.main:
            c.assume(f"architectures are not stated: counted as {c.facts.main}")
        return c.facts.main, known(c).get(ending(c.facts.main), "lm")
    name = stated[0]
    words = known(c).get(ending(name))
    listed = [n for n in c.facts.builds if n.lower() == name.lower()]
    if words is None or not (listed or not c.facts.builds or words == "lm"):
        can = [n for n in c.facts.builds if ending(n) in known(c)]
        close = nearest(name, can) or can
        raise c.error("architectures", f"names {name!r:.60}, which is not supported; of this type: {', '.join(close)}")
    if not listed and c.facts.builds:
        c.assume(f"{name} is counted as {c.facts.main}")
        return c.facts.main, words
    return name, words


def with_head(c: Config, model: Model, words: str) -> Model:
    """The model with the parts and the head that a line of words says."""
    _refuse_other_heads(c)
    parts = [w for w in words.split() if w in ("encoder", "decoder", "vision", "tower")]
    if parts:
        model = _part(model, parts[0])
    if words == "lm" or words == f"{' '.join(parts)} lm":
        return model
    if "pool" in words.split():
        text = model.stacks[-1]
        width = (c.optional("pooler_output_size") if c.facts.knows("pooler_output_size") else None) or model.hidden
        pooler = model.hidden * width + width
        model = replace(model, stacks=(*model.stacks[:-1], replace(
            text, output_parameters=text.output_parameters + pooler)))  # fmt: skip
    return replace(model, head=_head(c, model, words.split()))


def _refuse_other_heads(c: Config) -> None:
    for key, due in NEEDS.get((c.model_type, ending(class_of(c)[0])), {}).items():
        value = c.get(key)
        wanted = c.integer("hidden_size") if due == "hidden_size" else due
        if value is not None and value != wanted:
            raise c.error(key, f"is {value!r:.40}; the head of this class is supported with {wanted!r} only")


def _head(c: Config, model: Model, words: list[str]) -> Head | None:
    kept = model.head if {"lm", "head"} & set(words) else None
    if kept is not None and "head" in words:
        kept = replace(kept, outputs=0, tied=False, bias=False)
    for word in (w for w in words if ">" in w):
        k, n = (_width(c, model, side) for side in word.rstrip("+?").split(">"))
        bias = c.flag("classifier_bias") if word.endswith("?") else word.endswith("+")
        if kept is None:
            kept = Head(n, False, bias=bias, width=k)
        elif kept.outputs and not kept.tied and "lm" not in words:
            kept = replace(  # what was last becomes a transform before it
                kept, outputs=n, bias=bias, width=k,
                extra_matmuls=(*kept.extra_matmuls, ("head.dense", kept.width, kept.outputs)),
                extra_parameters=kept.extra_parameters + kept.bias * kept.outputs,
            )  # fmt: skip
        elif kept.outputs:
            kept = replace(kept, extra_matmuls=(*kept.extra_matmuls, ("head.second", k, n)),
                           extra_parameters=kept.extra_parameters + bias * n)  # fmt: skip
        else:
            kept = replace(kept, outputs=n, bias=bias, width=k)
    return kept


def _width(c: Config, model: Model, symbol: str) -> int:
    if symbol.isdigit():
        return int(symbol)
    factor, name = (int(symbol[:-1]), symbol[-1]) if len(symbol) > 1 else (1, symbol)
    if name == "l":
        return labels(c)
    if name in FIELDS:
        return c.integer(FIELDS[name])
    if name in "ev" and model.embedding is not None:
        return model.embedding.width if name == "e" else model.embedding.vocab
    return factor * model.stacks[-1].hidden


def labels(c: Config) -> int:
    """Outputs of a classifier: ``num_labels`` or the entries of ``id2label``, else what the class says."""
    stated, given = c.values.get("id2label"), c.values.get("num_labels")
    count = None if given is None else c._bounded("num_labels", given, 1, 10**7)
    if stated is None:
        return c.facts.labels if count is None else count
    if not isinstance(stated, Mapping) or not stated:
        raise c.error("id2label", f"is {stated!r:.40}; a mapping of labels is due")
    if count not in (None, len(stated)):
        raise c.error("num_labels", f"is {count} beside an id2label of {len(stated)} entries; say one of them")
    return len(stated)


def _part(model: Model, part: str) -> Model:
    """One part of a model alone: its stack and, but for images, the token table."""
    if part == "vision":
        body = next(s for s in model.stacks if s.role == "tower")
        pooled = tuple(m for m in body.output_matmuls if m[0].startswith("pool."))
        bare = replace(body, optional=False, output_matmuls=pooled, output_group="other")
        return replace(model, hidden=body.hidden, stacks=(bare,), embedding=None, head=None, other_parameters=0)
    stack = next(s for s in model.stacks if s.role == ("encoder" if part == "tower" else part))
    if part == "decoder":
        stack = _without_encoder(stack)
    table = None if part == "tower" else model.embedding
    if (
        table is not None
    ):  # untied, encoder and decoder hold a table each beside the shared one, an encoder alone its own
        table = replace(table, extra_parameters=table.extra_parameters // 2 if part == "encoder" else 0)
    return replace(model, stacks=(stack,), embedding=table)


def _without_encoder(stack: Stack) -> Stack:
    """A decoder that holds its cross-attention and has nothing to attend to: weights that do not run."""
    kinds = tuple(_idle_cross(kind, stack.hidden) for kind in stack.kinds)
    return replace(stack, kinds=kinds)


def _idle_cross(kind: Layer, hidden: int) -> Layer:
    a = kind.cross
    if a is None:
        return kind
    return replace(kind, cross=None, extra_parameters=kind.extra_parameters + attention_parameters(a, hidden))


def attention_parameters(a: Attention, hidden: int) -> int:
    """Parameters of an attention block without a gate."""
    q, k, v = a.heads * a.head_dim, a.kv_heads * a.head_dim, a.kv_heads * a.value_dim
    biases = a.q_bias * q + a.k_bias * k + a.v_bias * v + a.out_bias * hidden
    out = a.heads * a.value_dim * hidden
    return hidden * (q + k + v) + out + biases + a.qk_norm_parameters + a.extra_parameters
