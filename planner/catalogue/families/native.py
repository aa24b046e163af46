"""The planner's own model keys, for models that have no Hugging Face config: papers, shapes, what-ifs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from planner.catalogue.families.blocks import layer, stack
from planner.catalogue.families.config import MAX_LAYERS, Config
from planner.catalogue.schema import Attention, Embedding, Head, Layer, Mlp, Model, Moe, NormKind, Stack
from planner.errors import BadInputError, nearest

ARCHITECTURES = ("decoder", "encoder", "encoder-decoder", "vit")
# key -> (default, meaning)
NATIVE_KEYS: Mapping[str, tuple[Any, str]] = {
    "architecture": ("decoder", "decoder, encoder, encoder-decoder or vit"),
    "layers": (None, "layers (of the decoder, and of the encoder unless encoder_layers is given)"),
    "encoder_layers": (None, "layers of the encoder"),
    "hidden": (None, "width of the residual stream"),
    "heads": (None, "query heads"),
    "kv_heads": (None, "key/value heads; heads"),
    "head_dim": (None, "width of a head; hidden / heads"),
    "ffn_hidden": (None, "inner width of the feed-forward block; 4 x hidden"),
    "gated_mlp": (False, "gate and up projections (SwiGLU)"),
    "vocab": (None, "rows of the token table; 0 for vit"),
    "experts": (0, "routed experts, 0: dense"),
    "experts_top_k": (None, "routed experts a token visits"),
    "expert_ffn_hidden": (None, "inner width of an expert; ffn_hidden"),
    "shared_experts": (0, "experts every token visits"),
    "first_dense_layers": (0, "layers before the first with experts"),
    "norm": ("layer", "rms, layer, layer_nobias or none"),
    "norm_position": ("pre", "pre (with a final norm) or post"),
    "positions": ("rotary", "rotary, relative, sinusoidal, none, or the number of learned positions"),
    "relative_buckets": (32, "buckets of relative positions, first layer of each stack"),
    "tied": (True, "head and token table are one"),
    "qkv_bias": (True, "biases of q, k, v and output projections"),
    "mlp_bias": (True, "biases of the feed-forward block"),
    "dropout": (False, "dropout in training (keeps masks)"),
    "window": (None, "keys a query sees; all"),
    "parallel": (False, "attention and MLP read the same input, one norm"),
    "type_vocab": (0, "rows of the segment table (encoders)"),
    "image_size": (224, "pixels a side (vit)"),
    "patch_size": (16, "pixels a side of a patch (vit)"),
    "classes": (0, "outputs of a classification head (vit)"),
    "max_positions": (None, "longest sequence; the learned positions, else unstated"),
    "weight_dtype": ("bf16", "dtype weights are stored in"),
}


def model_from_native(values: Mapping[str, Any], *, id: str, where: str) -> Model:
    """Build a model from native keys; unknown keys are refused with the nearest."""
    if not isinstance(values, Mapping):
        raise BadInputError(f"{where}: a mapping of model keys is due")
    for key in values:
        if key not in NATIVE_KEYS:
            close = nearest(str(key), NATIVE_KEYS) or sorted(NATIVE_KEYS)
            raise BadInputError(f"{where}: unknown key {key!r}; nearest: {', '.join(close)}")
    c = Config({k: v for k, v in values.items() if v is not None}, where=where, model_type="native")
    kind = c.text("architecture", "decoder")
    if kind not in ARCHITECTURES:
        raise BadInputError(f"{where}: architecture is {kind!r}; allowed: {', '.join(ARCHITECTURES)}")
    hidden = c.integer("hidden")
    table, positions = _embedding(c, hidden, kind)
    stacks = _stacks(c, hidden, kind, positions)
    outputs = c.integer("classes", 0, low=0) if kind == "vit" else table.vocab if table else 0
    head = Head(outputs, kind != "vit" and c.flag("tied", True), bias=kind == "vit") if outputs else None
    count = positions if isinstance(positions, int) else 0
    return Model(
        id=id, name=id, family="native", hidden=hidden, embedding=table, head=head, stacks=stacks,
        dropout=c.flag("dropout"), max_positions=c.optional("max_positions") or count,
        weight_dtype=c.text("weight_dtype", "bf16"),
    )  # fmt: skip


def _embedding(c: Config, hidden: int, kind: str) -> tuple[Embedding | None, int | str]:
    positions = c.get("positions", "rotary")
    if isinstance(positions, str):
        if positions not in ("rotary", "relative", "sinusoidal", "none"):
            raise c.error("positions", f"is {positions!r}; rotary, relative, sinusoidal, none or a number is due")
    else:
        positions = c.integer("positions")
    if kind == "vit":
        return None, positions
    learned = positions if isinstance(positions, int) else 0
    return Embedding(c.integer("vocab"), hidden, learned, types=c.integer("type_vocab", 0, low=0)), positions


def _norm(c: Config) -> NormKind:
    name = c.text("norm", "layer")
    kinds: dict[str, NormKind] = {
        "rms": "rms",
        "layer": "layer",
        "layer_nobias": "layer_nobias",
        "none": "none",
    }
    if name not in kinds:
        raise c.error("norm", f"is {name!r}; allowed: {', '.join(kinds)}")
    return kinds[name]


def _attention(c: Config, hidden: int, *, causal: bool, rotary: bool) -> Attention:
    heads = c.integer("heads", high=10**6)
    kv = c.integer("kv_heads", heads, high=10**6)
    if heads % kv:
        raise c.error("kv_heads", f"is {kv}, which does not divide the {heads} heads")
    if not c.has("head_dim") and hidden % heads:
        raise c.error("heads", f"is {heads}, which does not divide hidden {hidden}, and head_dim is not given")
    bias = c.flag("qkv_bias", True)
    return Attention(
        heads, kv, c.integer("head_dim", hidden // heads), q_bias=bias, k_bias=bias, v_bias=bias, out_bias=bias,
        causal=causal, window=c.optional("window"), rotary=rotary,
    )  # fmt: skip


def _ffn(c: Config, hidden: int) -> tuple[Mlp, Moe | None, int]:
    width = c.integer("ffn_hidden", 4 * hidden)
    gated, bias = c.flag("gated_mlp"), c.flag("mlp_bias", True)
    dense = Mlp(width, gated, bias=bias, activation="silu" if gated else "gelu")
    experts = c.integer("experts", 0, low=0, high=10**6)
    first = c.integer("first_dense_layers", 0, low=0, high=MAX_LAYERS)
    if not experts:
        return dense, None, first
    top_k = c.integer("experts_top_k", high=10**6)
    if top_k > experts:
        raise c.error("experts_top_k", f"is {top_k}, more than the {experts} experts")
    inner = c.integer("expert_ffn_hidden", width)
    shared = c.integer("shared_experts", 0, low=0, high=10**4)
    block = Mlp(shared * inner, gated, bias=bias) if shared else None
    return dense, Moe(experts, top_k, inner, gated=gated, bias=bias, shared=block), first


def _stacks(c: Config, hidden: int, kind: str, positions: int | str) -> tuple[Stack, ...]:
    n = c.integer("layers", high=MAX_LAYERS)
    norm, post = _norm(c), c.text("norm_position", "pre") == "post"
    last: NormKind = "none" if post else norm
    if kind == "vit":
        return (_vit(c, hidden, n, norm, last),)
    stacks = []
    if kind == "encoder-decoder":
        depth = c.integer("encoder_layers", n, high=MAX_LAYERS)
        layers = _layers(c, hidden, depth, norm, causal=False, cross=False, positions=positions)
        stacks.append(stack("encoder", "encoder", hidden, layers, final_norm=last))
    causal = kind != "encoder"
    layers = _layers(c, hidden, n, norm, causal=causal, cross=kind == "encoder-decoder", positions=positions)
    role = "encoder" if kind == "encoder" else "decoder"
    return (*stacks, stack(role, role, hidden, layers, final_norm=last))


def _layers(
    c: Config, hidden: int, n: int, norm: NormKind, *, causal: bool, cross: bool, positions: int | str
) -> list[Layer]:
    mixer = _attention(c, hidden, causal=causal, rotary=positions == "rotary")
    dense, sparse, first = _ffn(c, hidden)
    parallel = c.flag("parallel")
    second = replace(mixer, cross=True, causal=False, window=None, rotary=False) if cross else None
    norms = 3 if cross else 1 if parallel else 2
    layers = [
        layer(mixer, dense if sparse is None or i < first else sparse, norm, hidden, norms=norms, cross=second,
              parallel=parallel)
        for i in range(n)
    ]  # fmt: skip
    if positions == "relative":
        buckets = c.integer("relative_buckets", 32) * mixer.heads
        layers[0] = replace(layers[0], mixer=replace(mixer, extra_parameters=buckets))
    return layers


def _vit(c: Config, hidden: int, n: int, norm: NormKind, last: NormKind) -> Stack:
    image, patch = c.integer("image_size", 224, high=10**5), c.integer("patch_size", 16, high=10**5)
    patches = (image // patch) ** 2
    if not patches:
        raise c.error("patch_size", f"is {patch}, larger than the image of {image} pixels")
    tokens = patches + 1
    k = 3 * patch * patch
    layers = _layers(c, hidden, n, norm, causal=False, cross=False, positions="none")
    return stack("encoder", "tower", hidden, layers, final_norm=last, tokens=tokens,
                 input_parameters=hidden + hidden + tokens * hidden,
                 input_matmuls=(("patches", k, hidden, patches / tokens),))  # fmt: skip
