"""Image-text models whose text attends to images or reads queries made of them: BLIP, GIT, Kosmos, Pix2Struct, Idefics.

Structure as built by the classes of Hugging Face transformers 5.24.0.
"""

from __future__ import annotations

from dataclasses import replace

from planner.catalogue.families import encoders, older
from planner.catalogue.families.blocks import attention, decoder, layer, layer_count, stack
from planner.catalogue.families.config import MAX_LAYERS, Config
from planner.catalogue.families.image_text import LIKE, TEXT, behind, dense, language, part, text_size
from planner.catalogue.families.stored import weight_dtype
from planner.catalogue.families.vision import Tower, basic, clip_tower, patches, tower
from planner.catalogue.schema import Attention, Embedding, Head, Mlp, Model, Stack


def _blip_tower(v: Config) -> Stack:
    """BLIP's image encoder: a class token, positions, a norm behind."""
    patch, count = patches(v)
    bias = v.flag("qkv_bias", True)
    t = basic(v, bias=bias)
    return tower(v, t, name="vision", patch=patch, count=count, tokens=count + 1, more=(count + 2) * t.hidden)


def read(body: Stack) -> Stack:
    """An image encoder that a decoder attends to: it runs."""
    return replace(body, role="encoder", optional=False, name="encoder")


def blip(c: Config) -> Model:
    """BLIP captioning: BERT without segments attends to the image."""
    v, text = part(c), part(c, "text_config", "blip_text_model")
    body = read(_blip_tower(v))
    v.refuse_unread()
    if body.hidden != text.integer("hidden_size"):
        raise text.error("hidden_size", f"differs from the {body.hidden} of the image tower; not supported")
    if not text.flag("is_decoder", True):
        raise text.error("is_decoder", "is false; the text then does not see the image, which is not supported")
    text.ignore("encoder_hidden_size", "bos_token_id", "sep_token_id", "use_cache", "label_smoothing")
    hidden, n = text.integer("hidden_size"), layer_count(text)
    a = replace(encoders.self_attention(text, hidden), causal=True)
    mlp = Mlp(text.integer("intermediate_size"), False, bias=True, activation="gelu")
    one = layer(a, mlp, "layer", hidden, norms=3, cross=replace(a, cross=True, causal=False))
    vocab, positions = text.integer("vocab_size"), text.integer("max_position_embeddings")
    tie = text.flag("tie_word_embeddings", True) or c.flag("tie_word_embeddings", True)
    text.refuse_unread()
    c.ignore("projection_dim", "image_text_hidden_size", "text_config", "vision_config")
    head = Head(vocab, tie, extra_matmuls=(("head.transform", hidden, hidden),), norm_parameters=2 * hidden,
                extra_parameters=hidden + vocab * (1 if tie else 2))  # fmt: skip
    return Model(
        id="", name="", family=c.model_type, hidden=hidden, head=head,
        embedding=Embedding(vocab, hidden, positions, norm_parameters=2 * hidden),
        stacks=(body, stack("decoder", "decoder", hidden, [one] * n, final_norm="none")),
        max_positions=positions, weight_dtype=weight_dtype(text, c),
    )  # fmt: skip


def _qformer(q: Config, seen: int, *, tables: bool, reads_text: bool) -> tuple[int, int]:
    """Parameters of a querying transformer, norms apart."""
    hidden, n, inner = q.integer("hidden_size"), layer_count(q), q.integer("intermediate_size")
    step = q.integer("cross_attention_frequency", 2, high=MAX_LAYERS)
    q.ignore("encoder_hidden_size")  # the class sets it to the width of the image tower
    crossing = -(-n // step)
    each, cross = 4 * dense(hidden, hidden), 2 * dense(hidden, hidden) + 2 * dense(seen, hidden)
    block = dense(hidden, inner) + dense(inner, hidden)
    rows = q.integer("vocab_size") + q.integer("max_position_embeddings") if tables else 0
    q.ignore("num_attention_heads", "vocab_size", "max_position_embeddings", "use_qformer_text_input")
    blocks = 2 if reads_text else 1
    return (n * (each + blocks * block) + crossing * cross + rows * hidden,
            2 * hidden * (1 + n * (1 + blocks) + crossing))  # fmt: skip


def blip2(c: Config) -> Model:
    """BLIP-2 and InstructBLIP: queries that attend to the image and become tokens of OPT, T5 or any text model."""
    v, q = part(c), part(c, "qformer_config")
    body, instructed = _blip_tower(v), c.model_type != "blip-2"
    v.refuse_unread()
    reads = instructed or q.flag("use_qformer_text_input")
    count, norms = _qformer(q, body.hidden, tables=instructed, reads_text=reads)
    width = q.integer("hidden_size")
    q.refuse_unread()
    p = count + c.integer("num_query_tokens", 32) * width + dense(width, text_size(c, default="opt"))
    text = c.section("text_config", "opt", allowed=(*TEXT, *LIKE))
    assert text is not None
    c.ignore("image_text_hidden_size", "qformer_config", "use_decoder_only_language_model")
    tie = text.flag("tie_word_embeddings", True)
    return language(c, [behind(body, p, norm=norms)], default="opt", tie=tie)


def git(c: Config) -> Model:
    """GIT: BERT's layers over image and text tokens together, a head with a bias."""
    v = part(c, default="git_vision_model")
    body, hidden, vocab = clip_tower(v), c.integer("hidden_size"), c.integer("vocab_size")
    v.refuse_unread()
    frames = c.optional("num_image_with_embedding", low=0) or 0
    a = replace(older.plain(c, hidden), causal=True)
    mlp = Mlp(c.integer("intermediate_size"), False, bias=True, activation="gelu")
    body = behind(body, dense(body.hidden, hidden) + frames * body.hidden, norm=2 * hidden)
    table = Embedding(vocab, hidden, c.integer("max_position_embeddings"), norm_parameters=2 * hidden)
    return decoder(c, [layer(a, mlp, "layer", hidden)] * layer_count(c), norm="none", embedding=table, before=(body,),
                   head=Head(vocab, c.flag("tie_word_embeddings"), bias=True))  # fmt: skip


def kosmos(c: Config) -> Model:
    """Kosmos-2 (CLIP, norms inside blocks) and Kosmos-2.5 (Pix2Struct's encoder): queries before the text."""
    v, t = part(c), part(c, "text_config", "kosmos_2_text_model")
    second = c.model_type == "kosmos-2"
    body = clip_tower(v) if second else _patches_of_any_size(v)
    v.refuse_unread()
    hidden, ffn = t.integer("embed_dim"), t.integer("ffn_dim")
    a = replace(older.plain(t, hidden), rotary=False)
    mlp = Mlp(ffn, False, bias=True, activation="gelu")
    inner = [("layer", hidden)] if second else []
    one = layer(a, mlp, "layer", hidden, extra_norms=[*inner, ("layer", ffn)])
    vocab, rows = t.integer("vocab_size"), 0 if second else 2
    tie = t.flag("tie_word_embeddings", True) or (second and c.flag("tie_word_embeddings", True))
    if t.flag("add_cross_attention"):
        raise t.error("add_cross_attention", "is true; not supported")
    t.ignore("scale_embedding", "layerdrop", "max_position_embeddings",
             "is_decoder", "use_cache", "init_std")  # fmt: skip
    n = t.integer("layers", high=MAX_LAYERS)
    t.refuse_unread()
    p = dense(body.hidden, hidden) + c.integer("latent_query_num", 64) * hidden + 4 * dense(hidden, hidden)
    c.ignore("text_config", "tie_word_embeddings")
    model = decoder(c.with_values(vocab_size=vocab), [one] * n, norm="layer", hidden=hidden, before=(behind(body, p),),
                    embedding=Embedding(vocab, hidden, 0, rows), tie=tie)  # fmt: skip
    return replace(model, family=c.model_type)


def _patches_of_any_size(v: Config) -> Stack:
    """Pix2Struct's image encoder: rows and columns have tables, gated blocks, no biases."""
    hidden = v.integer("hidden_size")
    heads, width = v.integer("num_attention_heads", high=10**6), v.integer("head_dim")
    t = Tower(hidden, layer_count(v), heads, v.integer("intermediate_size"), bias=False, out_bias=False, mlp_bias=False,
              gated=True, norm="rms", head_dim=width, final_norm="rms")  # fmt: skip
    rows = v.integer("seq_len" if "seq_len" in v.defaults else "max_num_patches", 4096)
    seen = v.integer("patch_embed_hidden_size", hidden)
    v.ignore("dense_act_fn", "relative_attention_num_buckets", "relative_attention_max_distance")
    body = stack(
        "vision",
        "tower",
        hidden,
        [t.layer(v)] * t.layers,
        final_norm="rms",
        optional=True,
        input_parameters=2 * rows * hidden + hidden,
        input_matmuls=(("vision.patches", seen, hidden, 1.0),),
    )
    return replace(body, tokens=1)


def pix2struct(c: Config) -> Model:
    """Pix2Struct: an encoder of patches of any aspect, a T5 decoder with gated blocks and a head of its own."""
    v, t = part(c), part(c, "text_config", "pix2struct_text_model")
    body = replace(read(_patches_of_any_size(v)), tokens=0)
    v.refuse_unread()
    hidden, heads, n = (
        t.integer("hidden_size"),
        t.integer("num_heads", high=10**6),
        t.integer("num_layers", high=MAX_LAYERS),
    )
    if hidden != body.hidden:
        raise t.error("hidden_size", f"is {hidden} and the image encoder's {body.hidden}; not supported")
    if hidden % heads:
        raise t.error("num_heads", f"is {heads}, which does not divide hidden_size {hidden}")
    a = Attention(heads, heads, hidden // heads, rotary=False)  # the class does not read d_kv here
    mlp = Mlp(t.integer("d_ff"), True, activation="gelu")
    cross = replace(a, cross=True, causal=False)
    buckets = t.integer("relative_attention_num_buckets", 32) * heads
    first = layer(replace(a, extra_parameters=buckets), mlp, "rms", hidden, norms=3, cross=cross)
    rest = layer(a, mlp, "rms", hidden, norms=3, cross=cross)
    vocab = t.integer("vocab_size")
    t.ignore(
        "d_kv", "relative_attention_max_distance", "dense_act_fn", "is_decoder", "tie_word_embeddings", "use_cache"
    )
    t.refuse_unread()
    c.ignore("text_config", "vision_config", "is_vqa")
    return Model(
        id="", name="", family=c.model_type, hidden=hidden, embedding=Embedding(vocab, hidden),
        head=Head(vocab, c.flag("tie_word_embeddings")),
        stacks=(body, stack("decoder", "decoder", hidden, [first] + [rest] * (n - 1))), weight_dtype=weight_dtype(t, c),
    )  # fmt: skip


def idefics(c: Config) -> Model:
    """IDEFICS: Llama with gated cross-attention layers that run where an image is given (https://arxiv.org/abs/2306.16527)."""
    v = part(c, default="idefics_vision")
    patch, count = patches(v)
    h = v.integer("embed_dim")
    t = Tower(h, layer_count(v), v.integer("num_attention_heads", high=10**6), v.integer("intermediate_size"))
    body = tower(v, t, name="vision", patch=patch, count=count, tokens=count + 1, more=(count + 2) * h, bias=False,
                 extra_norms=2 * h)  # fmt: skip
    v.refuse_unread()
    if c.flag("use_resampler"):
        body = _resampled(c, body)
    if c.flag("qk_layer_norms"):
        raise c.error("qk_layer_norms", "is true; not supported")
    hidden, n, step = c.integer("hidden_size"), layer_count(c), c.integer("cross_layer_interval", 1, high=MAX_LAYERS)
    if n % step:
        raise c.error("cross_layer_interval", f"is {step}, which does not divide the {n} layers; not supported")
    a, mlp = attention(c, hidden), Mlp(c.integer("intermediate_size"), True)
    alpha = c.text("alpha_type", "float")
    if alpha not in ("float", "vector"):
        raise c.error("alpha_type", f"is {alpha!r:.40}; allowed: float, vector")
    gates = 2 * (hidden if alpha == "vector" else 1)
    seen = replace(a, cross=True, causal=False, rotary=False, projections=(
        ("q", hidden, hidden), ("kv", h, 2 * hidden), ("out", hidden, hidden)))  # fmt: skip
    gated = layer(None, mlp, "rms", hidden, cross=seen, optional=True, extra_parameters=gates)
    plain = layer(a, mlp, "rms", hidden)
    layers = [x for i in range(n) for x in ((gated, plain) if i % step == 0 else (plain,))]
    vocab, more = c.integer("vocab_size"), c.integer("additional_vocab_size", 0, low=0)
    tie = c.flag("tie_word_embeddings")
    c.ignore(
        "freeze_lm_head",
        "freeze_text_layers",
        "freeze_vision_layers",
        "freeze_text_module_exceptions",
        "freeze_vision_module_exceptions",
        "perceiver_config",
        "vision_config",
        "alphas_initializer_range",
    )
    return decoder(c, layers, before=(body,), embedding=Embedding(vocab, hidden, extra_parameters=more * hidden),
                   head=Head(vocab, tie, extra_parameters=more * hidden * (not tie)))  # fmt: skip


def _resampled(c: Config, body: Stack) -> Stack:
    p = c.section("perceiver_config", "idefics_perciever")
    assert p is not None
    h, depth = body.hidden, p.integer("resampler_depth", 6, high=1000)
    inner = p.integer("resampler_n_heads", 16) * p.integer("resampler_head_dim", 96)
    if p.flag("qk_layer_norms_perceiver"):
        raise p.error("qk_layer_norms_perceiver", "is true; not supported")
    p.ignore("model_type", "use_resampler")
    p.refuse_unread()
    return behind(body, p.integer("resampler_n_latents", 64) * h + depth * (4 * h * inner + 8 * h * h),
                  norm=2 * h + depth * 6 * h)  # fmt: skip
