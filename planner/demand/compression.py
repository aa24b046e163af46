"""Compression as a pure change of a model: structured pruning of width, heads, experts and depth.

Precision (quantisation) and 2:4 sparsity are a change of :class:`~planner.demand.workload.Precision` instead. Nothing
here says what a change does to quality.
"""

from __future__ import annotations

from dataclasses import replace

from planner.catalogue.schema import Attention, LatentAttention, Layer, Mixer, Mlp, Model, Moe, Stack
from planner.errors import BadInputError, unknown

PRUNINGS = ("width", "heads", "depth", "experts")
ALIGNMENT = 64  # pruned MLP widths stay multiples of this, so that tp still divides them


def compress(model: Model, how: str) -> Model:
    """Apply ``how``: ``none``, or prunings joined by ``+`` such as ``width:0.75+depth:0.5`` (the part that is kept).

    Raises
    ------
    BadInputError
        An unknown pruning, or a share that is not in (0, 1].
    """
    if how in ("", "none"):
        return model
    pruned = model
    for part in how.split("+"):
        name, _, share = part.partition(":")
        if name not in PRUNINGS:
            raise unknown("compression", name, (*PRUNINGS, "student", "none"), where="compression")
        pruned = _prune(pruned, name, _share(part, share))
    return replace(pruned, id=f"{model.id}+{how}", name=f"{model.name} ({how})", published_parameters=None)


def _share(part: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise BadInputError(f"compression: {part!r} needs the share that is kept, as in width:0.75") from None
    if not 0 < value <= 1:
        raise BadInputError(f"compression: {part!r}: the share that is kept must lie in (0, 1]")
    return value


def _prune(model: Model, name: str, share: float) -> Model:
    stacks = tuple(s if s.optional else _prune_stack(s, name, share)
                   for s in model.stacks)  # fmt: skip
    return replace(model, stacks=stacks)


def _prune_stack(stack: Stack, name: str, share: float) -> Stack:
    if name == "depth":
        keep = max(1, round(stack.layers * share))
        order = tuple(stack.order[i * stack.layers // keep] for i in range(keep))
        return replace(stack, order=order)
    return replace(stack, kinds=tuple(_prune_layer(k, name, share) for k in stack.kinds))


def _prune_layer(layer: Layer, name: str, share: float) -> Layer:
    if name == "heads":
        mixer = _prune_heads(layer.mixer, share)
        cross = _prune_heads(layer.cross, share)
        return replace(layer, mixer=mixer, cross=cross if isinstance(cross, Attention) else None)
    ffn = layer.ffn
    if name == "width" and isinstance(ffn, Mlp):
        ffn = replace(ffn, width=_aligned(ffn.width * share))
    elif name == "width" and isinstance(ffn, Moe):
        shared = replace(ffn.shared, width=_aligned(ffn.shared.width * share)) if ffn.shared else None
        ffn = replace(ffn, width=_aligned(ffn.width * share), shared=shared)
    elif name == "experts" and isinstance(ffn, Moe):
        ffn = replace(ffn, experts=max(ffn.top_k, round(ffn.experts * share)))
    return replace(layer, ffn=ffn)


def _prune_heads(mixer: Mixer | None, share: float) -> Mixer | None:
    """Whole key/value groups go, so that grouped queries keep their ratio."""
    if isinstance(mixer, Attention):
        kv = max(1, round(mixer.kv_heads * share))
        ratio = mixer.heads // mixer.kv_heads
        heads = kv * ratio if mixer.kv_heads > 1 else max(1, round(mixer.heads * share))
        return replace(mixer, heads=heads, kv_heads=kv)
    if isinstance(mixer, LatentAttention):
        return replace(mixer, heads=max(1, round(mixer.heads * share)))
    return mixer


def _aligned(width: float) -> int:
    return max(ALIGNMENT, round(width / ALIGNMENT) * ALIGNMENT)
