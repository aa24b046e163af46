"""Towers: ViT and its kin, CLIP and SigLIP, and the encoders that vision-language models put before their text."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.catalogue.families.blocks import layer, layer_count, stack
from planner.catalogue.families.config import Config
from planner.catalogue.families.stored import weight_dtype
from planner.catalogue.schema import Attention, Embedding, Head, Layer, Mlp, Model, NormKind, Stack


@dataclass(frozen=True)
class Tower:
    """A stack of equal bidirectional layers over patches, before its input and output are described.

    ``k_bias`` False with ``bias`` True is BEiT; ``scale`` counts learned factors a layer (in ``scale_group`` other).
    """

    hidden: int
    layers: int
    heads: int
    ffn: int
    bias: bool = True
    k_bias: bool = True
    out_bias: bool = True
    mlp_bias: bool = True
    gated: bool = False
    norm: NormKind = "layer"
    scale: int = 0
    head_dim: int = 0
    qk_norm: int = 0
    final_norm: NormKind = "layer"

    def layer(self, c: Config) -> Layer:
        if not self.head_dim and self.hidden % self.heads:
            name = c.find("num_attention_heads")[0]
            raise c.error(name, f"is {self.heads}, which does not divide hidden_size {self.hidden}")
        mixer = Attention(
            self.heads, self.heads, self.head_dim or self.hidden // self.heads, q_bias=self.bias,
            k_bias=self.bias and self.k_bias, v_bias=self.bias, out_bias=self.out_bias, causal=False, rotary=False,
            qk_norm_parameters=self.qk_norm,
        )  # fmt: skip
        mlp = Mlp(self.ffn, self.gated, bias=self.mlp_bias, activation="gelu")
        return layer(mixer, mlp, self.norm, self.hidden, extra_parameters=self.scale)


def patches(c: Config, *, default: int = 0) -> tuple[int, int]:
    """Pixels a side of a patch, and patches of the image."""
    image, patch = square(c, "image_size", default), square(c, "patch_size")
    if patch > image:
        raise c.error("patch_size", f"is {patch}, larger than the image of {image}")
    return patch, (image // patch) ** 2


def square(c: Config, key: str, default: int = 0) -> int:
    """A length, also given as a pair of equal lengths."""
    value = c.get(key, default or None)
    if isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
        return c._bounded(key, value[0], 1, 10**5)
    if value is None:
        raise c.error(key, "is missing")
    return c._bounded(c.find(key)[0], value, 1, 10**5)


def tower(c: Config, t: Tower, *, name: str, patch: int, count: int, tokens: int, more: int, bias: bool = True,
          frames: int = 1, extra_norms: int = 0, output: int = 0, group: str = "other", optional: bool = True,
          blocks: list[Layer] | None = None) -> Stack:  # fmt: skip
    """The stack: patch embedding, ``more`` parameters of positions and tokens, layers, output."""
    channels = c.integer("num_channels", 3, high=1000) if c.has("num_channels") else c.integer("in_channels", 3)
    k = channels * patch * patch * frames
    return stack(
        name, "tower", t.hidden, blocks or [t.layer(c)] * t.layers, final_norm=t.final_norm, tokens=tokens,
        input_parameters=more + bias * t.hidden, input_matmuls=((f"{name}.patches", k, t.hidden, count / tokens),),
        extra_norm_parameters=extra_norms, output_parameters=output, output_group=group, optional=optional,
    )  # fmt: skip


def basic(c: Config, **more: object) -> Tower:
    """A tower from the usual keys."""
    hidden = c.integer("hidden_size")
    return Tower(hidden, layer_count(c), c.integer("num_attention_heads", high=10**6), c.integer("intermediate_size"),
                 **more)  # type: ignore[arg-type]  # fmt: skip


def vit(c: Config) -> Model:
    """ViT, DeiT, BEiT, DINOv2, ViT-MAE encoder: class token, learned positions, pooler or classifier."""
    hidden = c.integer("hidden_size")
    patch, count = patches(c, default=224)
    name = c.model_type
    c.ignore("encoder_stride", "pooler_output_size", "pooler_act", "interpolate_pos_encoding", "apply_layernorm",
             "reshape_hidden_states", "out_features", "out_indices", "stage_names", "decoder_hidden_size",
             "decoder_intermediate_size", "decoder_num_attention_heads", "decoder_num_hidden_layers", "norm_pix_loss",
             "mlp_ratio", "layerscale_value")  # fmt: skip
    dino = name.startswith("dinov2")
    if dino:
        if c.flag("use_swiglu_ffn"):
            raise c.error("use_swiglu_ffn", "is true; not supported")
        ratio = c.integer("mlp_ratio", 4, high=1000)
        t = Tower(hidden, layer_count(c), c.integer("num_attention_heads", high=10**6), ratio * hidden,
                  bias=c.flag("qkv_bias", True), scale=2 * hidden)  # fmt: skip
    else:
        t = basic(c, bias=c.flag("qkv_bias", True))
    registers = c.integer("num_register_tokens", 4, low=0) if name == "dinov2_with_registers" else 0
    special = 2 if name == "deit" else 1
    more = (special + count + special + registers) * hidden + (hidden if dino else 0)
    tokens = count + special + registers
    body = tower(
        c,
        t,
        name="encoder",
        patch=patch,
        count=count,
        tokens=tokens,
        more=more,
        optional=False,
    )
    return Model(id="", name="", family=name, hidden=hidden, embedding=None, head=None, stacks=(body,),
                 weight_dtype=weight_dtype(c, c))  # fmt: skip


def clip_tower(c: Config, *, optional: bool = True, name: str = "vision") -> Stack:
    """CLIP's image encoder: class token, positions, a norm before and after."""
    patch, count = patches(c)
    t = basic(c)
    c.ignore("projection_dim")
    return tower(c, t, name=name, patch=patch, count=count, tokens=count + 1, more=(count + 2) * t.hidden, bias=False,
                 extra_norms=2 * t.hidden, optional=optional)  # fmt: skip


def siglip_tower(c: Config, *, optional: bool = True, head: bool | None = None, name: str = "vision") -> Stack:
    """SigLIP's image encoder, with its attention-pooling head unless ``vision_use_head`` is false."""
    patch, count = patches(c)
    t = basic(c)
    h = t.hidden
    pooled = c.flag("vision_use_head", True) if head is None else head
    # The pooling head: one learned query attends to all patches, an MLP follows; its biases and the query.
    output = (h + 4 * h + t.ffn + h) if pooled else 0
    once = 1.0 / count
    matmuls = (
        ("pool.kv", h, 2 * h, 1.0),
        ("pool.q", h, h, once),
        ("pool.out", h, h, once),
        ("pool.up", h, t.ffn, once),
        ("pool.down", t.ffn, h, once),
    )
    c.ignore("projection_dim", "vision_use_head", "num_positions", "tile_size", "resize_method")
    body = tower(c, t, name=name, patch=patch, count=count, tokens=count, more=count * h, optional=optional,
                 extra_norms=2 * h if pooled else 0, output=output)  # fmt: skip
    return replace(body, output_matmuls=matmuls) if pooled else body


def text_stack(c: Config, *, causal: bool) -> tuple[Embedding, Stack]:
    """CLIP's or SigLIP's text encoder."""
    hidden = c.integer("hidden_size")
    t = basic(c)
    one = t.layer(c)
    assert isinstance(one.mixer, Attention)
    one = replace(one, mixer=replace(one.mixer, causal=causal))
    c.ignore("projection_dim", "projection_size", "extend_vocab")
    table = Embedding(c.integer("vocab_size"), hidden, c.integer("max_position_embeddings"))
    return table, stack("text", "encoder", hidden, [one] * t.layers, final_norm="layer")


def clip(c: Config) -> Model:
    """CLIP: an image and a text encoder, projections, a temperature."""
    text, vision = (
        c.section("text_config", "clip_text_model"),
        c.section("vision_config", "clip_vision_model"),
    )
    assert text is not None and vision is not None
    c.ignore("text_config_dict", "vision_config_dict")
    image = clip_tower(vision, optional=False)
    table, body = text_stack(text, causal=True)
    width = c.integer("projection_dim", 512)
    image = replace(image, output_matmuls=(("visual_projection", image.hidden, width, 1.0 / image.tokens),),
                    output_group="head")  # fmt: skip
    head = Head(width, False, once=True)
    return Model(
        id="", name="", family="clip", hidden=body.hidden, embedding=table, head=head, stacks=(image, body),
        other_parameters=1, max_positions=table.positions, weight_dtype=weight_dtype(c, c),
    )  # fmt: skip


def clip_text(c: Config) -> Model:
    """CLIP's text encoder alone."""
    table, body = text_stack(c, causal=True)
    head = Head(c.integer("projection_dim", 512), False, once=True)
    return Model(id="", name="", family=c.model_type, hidden=body.hidden, embedding=table, head=head, stacks=(body,),
                 max_positions=table.positions, weight_dtype=weight_dtype(c, c))  # fmt: skip


def clip_vision(c: Config) -> Model:
    """CLIP's or SigLIP's image encoder alone."""
    body = clip_tower(c, optional=False) if c.model_type.startswith("clip") else siglip_tower(c, optional=False)
    return Model(id="", name="", family=c.model_type, hidden=body.hidden, embedding=None, head=None, stacks=(body,),
                 weight_dtype=weight_dtype(c, c))  # fmt: skip


def siglip(c: Config) -> Model:
    """SigLIP: an image encoder with attention pooling, a text encoder with a dense head, two scalars."""
    text, vision = (
        c.section("text_config", "siglip_text_model"),
        c.section("vision_config", "siglip_vision_model"),
    )
    assert text is not None and vision is not None
    image = siglip_tower(vision, optional=False)
    table, body = text_stack(text, causal=False)
    head = Head(text.optional("projection_size") or body.hidden, False, bias=True, once=True)
    return Model(
        id="", name="", family="siglip", hidden=body.hidden, embedding=table, head=head, stacks=(image, body),
        other_parameters=2, max_positions=table.positions, weight_dtype=weight_dtype(c, c),
    )  # fmt: skip
