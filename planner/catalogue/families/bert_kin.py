"""Encoders built like BERT but for a table, a norm or a head; encoders of 2024 to 2026 built like Llama.

Structure as built by the classes of Hugging Face transformers 5.24.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from planner.catalogue.families.blocks import (
    FULL,
    SLIDING,
    layer,
    layer_count,
    layer_types,
    stack,
    window_of,
)
from planner.catalogue.families.config import Config
from planner.catalogue.families.encoders import Parts, assemble, self_attention
from planner.catalogue.families.llama import RECIPES, mixer
from planner.catalogue.families.stored import weight_dtype
from planner.catalogue.schema import Embedding, Head, Layer, Mlp, Model, NormKind


@dataclass(frozen=True)
class Kin:
    """What sets a type apart from BERT.

    ``offset`` rows beyond ``max_position_embeddings`` (None: no table of positions); a norm after the tables or not,
    one after the last layer or not; ``bias`` names the flag of the biases of q, k and v; ``approximate``
    attention is counted as the full scores that it stands for.
    """

    offset: int | None = 0
    table_norm: bool = True
    final_norm: bool = False
    bias: str = ""
    rotary: bool = False
    approximate: bool = False
    ignored: tuple[str, ...] = ()


KIN: dict[str, Kin] = {
    "data2vec-text": Kin(),
    "ibert": Kin(ignored=("quant_mode",)),
    "roberta-prelayernorm": Kin(final_norm=True),
    "xlm-roberta-xl": Kin(table_norm=False, final_norm=True),
    "megatron-bert": Kin(table_norm=False, final_norm=True),
    "big_bird": Kin(bias="use_bias", ignored=("num_random_blocks",)),
    "layoutlm": Kin(),
    "longformer": Kin(approximate=True, ignored=("attention_window",)),
    "roformer": Kin(offset=None, rotary=True),
    "roc_bert": Kin(),
    "mra": Kin(offset=2, approximate=True, ignored=("block_per_row", "initial_prior_first_n_blocks",
                                                    "initial_prior_diagonal_n_blocks")),
    "nystromformer": Kin(offset=2, approximate=True, ignored=("segment_means_seq_len", "num_landmarks")),
    "yoso": Kin(offset=2, approximate=True, ignored=("num_hash", "hash_code_len")),
    "tapas": Kin(),
    "luke": Kin(),
    "xmod": Kin(),
    "jina_embeddings_v3": Kin(offset=None, rotary=True),
    "gte": Kin(offset=None, rotary=True),
}  # fmt: skip


def kin(c: Config) -> Model:
    """A model of any ``model_type`` of :data:`KIN`."""
    k, hidden, n = KIN[c.model_type], c.integer("hidden_size"), layer_count(c)
    width = (c.optional("embedding_size") or hidden) if c.model_type == "roformer" else hidden
    positions = 0 if k.offset is None else c.integer("max_position_embeddings") + k.offset
    table = Embedding(c.integer("vocab_size"), width, positions, _types(c), norm_parameters=2 * width * k.table_norm,
                      projection_parameters=width * hidden + hidden if width != hidden else 0,
                      extra_parameters=_tables(c, hidden))  # fmt: skip
    bias = c.flag(k.bias) if k.bias else True
    a = replace(self_attention(c, hidden, rotary=k.rotary), q_bias=bias, k_bias=bias, v_bias=bias)
    a = replace(a, extra_parameters=_beside(c, hidden, a.heads))
    gated = c.model_type == "gte"
    mlp = Mlp(c.integer("intermediate_size"), gated, bias=not gated, down_bias=True, activation="gelu")
    c.ignore(*k.ignored, "embedding_size", "position_embedding_type")
    if k.approximate:
        c.assume("attention scores are counted in full, where the class computes a part or approximates them")
    if c.flag("is_decoder") and c.flag("add_cross_attention"):
        raise c.error("add_cross_attention", "is true; a cross-attending encoder is not supported")
    layers = [_adapted(c, layer(a, mlp, "layer", hidden), hidden)] * n
    final: NormKind = "layer" if k.final_norm else "none"
    model = assemble(c, hidden, Parts(table, layers, final), head_width_=width)
    if c.model_type == "roc_bert" and c.flag("concat_input", True):
        joined = hidden + sum(
            c.integer(f"{x}_embed_dim") * c.flag(f"enable_{x}", True) for x in ("pronunciation", "shape")
        )
        text = replace(model.stacks[0], input_matmuls=(("embedding.joined", joined, hidden, 1.0),))
        model = replace(model, stacks=(text, *model.stacks[1:]))
    return _headed(c, model, hidden)


def _types(c: Config) -> int:
    if c.model_type == "tapas":
        listed = c.items("type_vocab_sizes") or []
        return sum(c._bounded("type_vocab_sizes", v, 1, 10**6) for v in listed)
    return c.integer("type_vocab_size", 0, low=0)


def _tables(c: Config, hidden: int) -> int:
    """Parameters of tables that BERT lacks."""
    if c.model_type == "layoutlm":
        return 4 * c.integer("max_2d_position_embeddings", 1024) * hidden
    if c.model_type == "roformer":
        return c.integer("max_position_embeddings") * (hidden // c.integer("num_attention_heads", high=10**6))
    if c.model_type == "luke":
        rows, width = c.integer("entity_vocab_size", 500000), c.integer("entity_emb_size", 256)
        kinds = c.integer("max_position_embeddings") + c.integer("type_vocab_size", 0, low=0)
        return rows * width + (width * hidden if width != hidden else 0) + kinds * hidden + 2 * hidden
    if c.model_type != "roc_bert":
        return 0
    more = sum(c.integer(f"{x}_vocab_size") * c.integer(f"{x}_embed_dim") for x in ("pronunciation", "shape"))
    return more + hidden * c.flag("concat_input", True)


def _beside(c: Config, hidden: int, heads: int) -> int:
    """Parameters of the attention block that only some tokens or lengths use, or a convolution beside it."""
    square = hidden * hidden + hidden
    if c.model_type == "longformer" or (c.model_type == "luke" and c.flag("use_entity_aware_attention", True)):
        return 3 * square
    if c.model_type in ("nystromformer", "yoso"):
        return heads * (c.optional("conv_kernel_size" if c.model_type == "nystromformer" else "conv_window") or 0)
    return 0


def _adapted(c: Config, one: Layer, hidden: int) -> Layer:
    """X-MOD's layer: a bottleneck of each language, of which a token passes one."""
    if c.model_type != "xmod":
        return one
    inner = hidden // c.integer("adapter_reduction_factor", 2)
    listed = c.items("languages")
    languages = len({str(x) for x in listed}) if listed is not None else 1
    if not languages:
        raise c.error("languages", "is empty; not supported")
    count = 2 * hidden * inner + inner + hidden
    norms = one.norms + (("layer", hidden),) * c.flag("adapter_layer_norm")
    return replace(one, norms=norms, extra_parameters=(languages - 1) * count + inner + hidden,
                   projections=(("adapter.down", hidden, inner), ("adapter.up", inner, hidden)))  # fmt: skip


def _headed(c: Config, model: Model, hidden: int) -> Model:
    """What sets the head apart: LUKE's of words and entities, GTE's single bias."""
    if c.model_type == "xmod" and c.flag("pre_norm"):
        model = replace(model, stacks=(replace(model.text, final_norm="layer"),))
    if c.model_type == "luke" and model.head is not None:
        rows, width = c.integer("entity_vocab_size", 500000), c.integer("entity_emb_size", 256)
        untied = 0 if model.head.tied else rows * width
        entities = rows + hidden * width + 3 * width + untied
        biases = hidden + model.head.outputs * (2 if untied else 1)
        model = replace(model, head=replace(model.head, tied=False, extra_parameters=biases + entities))
    if c.model_type == "gte" and model.head is not None:  # one bias, tied or not
        head = replace(model.head, extra_parameters=hidden + model.head.outputs)
        model = replace(model, head=head)
    return model


def rembert(c: Config) -> Model:
    """RemBERT: a narrow table of tokens, a wide untied head (https://arxiv.org/abs/2010.12821)."""
    hidden, n = c.integer("hidden_size"), layer_count(c)
    narrow, wide = c.integer("input_embedding_size"), c.integer("output_embedding_size")
    vocab = c.integer("vocab_size")
    table = Embedding(vocab, narrow, c.integer("max_position_embeddings"), c.integer("type_vocab_size", 0, low=0),
                      norm_parameters=2 * narrow, projection_parameters=narrow * hidden + hidden)  # fmt: skip
    mlp = Mlp(c.integer("intermediate_size"), False, bias=True, activation="gelu")
    layers = [layer(self_attention(c, hidden), mlp, "layer", hidden)] * n
    if c.flag("tie_word_embeddings"):
        raise c.error("tie_word_embeddings", "is true; the tables of tokens and of the head differ in width")
    head = Head(vocab, False, bias=True, extra_matmuls=(("head.transform", hidden, wide),), extra_parameters=wide,
                norm_parameters=2 * wide, width=wide)  # fmt: skip
    return encoder(c, hidden, table, layers, head)


def encoder(c: Config, hidden: int, table: Embedding, layers: Sequence[Layer], head: Head | None, *,
            final_norm: NormKind = "none", other: int = 0) -> Model:  # fmt: skip
    """An encoder from its parts, where the head is not BERT's."""
    text = stack("encoder", "encoder", hidden, layers, final_norm=final_norm)
    return Model(
        id="", name="", family=c.model_type, hidden=hidden, embedding=table, head=head, stacks=(text,),
        other_parameters=other, max_positions=c.optional("max_position_embeddings") or 0,
        weight_dtype=weight_dtype(c, c),
    )  # fmt: skip


def xlm(c: Config) -> Model:
    """XLM and FlauBERT: learned positions, languages, a head that is the table and a bias."""
    hidden = c.integer("hidden_size", c.optional("emb_dim"))
    n, vocab = layer_count(c), c.integer("vocab_size")
    if c.flag("asm"):
        raise c.error("asm", "is true; adaptive softmax is not supported")
    languages = c.integer("n_langs", 1, high=10**5)
    rows = languages if languages > 1 and c.flag("use_lang_emb", True) else 0
    table = Embedding(vocab, hidden, c.integer("max_position_embeddings"), rows, norm_parameters=2 * hidden)
    mlp = Mlp(4 * hidden, False, bias=True, activation="gelu")
    c.ignore("start_n_top", "end_n_top", "pre_norm", "sinusoidal_embeddings", "causal", "emb_dim")
    tie = c.flag("tie_word_embeddings", True)
    layers = [layer(self_attention(c, hidden), mlp, "layer", hidden)] * n
    return encoder(c, hidden, table, layers, Head(vocab, tie, bias=True))


def llama_encoder(c: Config) -> Model:
    """EuroBERT, UltraBERT, ESM C: Llama layers that see both ways, and a head of their own."""
    hidden, n, vocab = c.integer("hidden_size"), layer_count(c), c.integer("vocab_size")
    esm = c.model_type == "esmc"
    bias, norm = c.flag("mlp_bias"), "layer" if esm else "rms"
    a = replace(mixer(c, RECIPES["llama"], hidden), causal=False)
    a = replace(a, qk_norm_parameters=2 * hidden) if esm else a
    kinds = [FULL] * n
    if c.model_type == "ultrabert":
        kinds = layer_types(c, n, [FULL if (i + 1) % 3 == 0 else SLIDING for i in range(n)])
    mlp = Mlp(c.integer("intermediate_size"), True, bias=bias)
    layers = [layer(replace(a, window=window_of(c, k)), mlp, norm, hidden) for k in kinds]  # type: ignore[arg-type]
    tie, head = c.flag("tie_word_embeddings"), None
    if esm:  # its head never shares the table
        head = Head(vocab, False, bias=True, extra_matmuls=(("head.transform", hidden, hidden),),
                    extra_parameters=hidden, norm_parameters=2 * hidden)  # fmt: skip
    elif c.model_type == "ultrabert":
        inner = c.integer("prediction_head_size", 768)
        head = Head(vocab, tie, extra_matmuls=(("head.1", hidden, inner), ("head.2", inner, hidden)))
    else:
        head = Head(vocab, tie, bias=bias)
    return encoder(c, hidden, Embedding(vocab, hidden), layers, head, final_norm="layer_nobias" if esm else "rms")
