"""What the catalogue says of a model: a sequence of typed layers, as frozen dataclasses.

A model is a few *stacks* (vision tower, encoder, decoder). A stack is an ordered sequence of layers; equal layers share
one *layer kind*. A layer is a token mixer (attention, latent attention, linear attention, state space), an optional
cross-attention, a feed-forward block (dense or mixture of experts) and norms. Nothing here knows hardware, dtype of
execution or layout; ``planner.demand`` turns it into operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from planner.catalogue.formats import Quantization

NormKind = Literal["rms", "layer", "layer_nobias", "none"]
NORM_PARAMETERS: Mapping[str, int] = {"rms": 1, "layer": 2, "layer_nobias": 1, "none": 0}


@dataclass(frozen=True)
class Attention:
    """Multi-head attention with grouped key/value heads (MHA, MQA and GQA are ``kv_heads`` = heads, 1, in between).

    ``window`` caps the keys a query sees (sliding window or chunk). ``qk_norm_parameters`` are those of q and k norms
    together. ``cross`` attends to the encoder's output. ``kv_shared`` layers reuse another layer's keys and values:
    they hold neither k/v projections nor a cache. ``gate`` is the width of an output gate projected from the input
    (heads·head_dim where q_proj is doubled, heads where one scalar a head). ``extra_parameters`` holds what is
    neither projection nor bias nor norm: sinks, relative-position buckets.
    """

    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int = 0  # 0 means head_dim
    q_bias: bool = False
    k_bias: bool = False
    v_bias: bool = False
    out_bias: bool = False
    qk_norm_parameters: int = 0
    causal: bool = True
    window: int | None = None
    cross: bool = False
    kv_shared: bool = False
    gate: int = 0
    extra_parameters: int = 0
    rotary: bool = True
    value_is_key: bool = False  # one projection serves as key and value; both are cached
    tied_matmuls: tuple[tuple[str, int, int, float], ...] = ()  # (name, k, n, rows a token): weights counted elsewhere
    pass_matmuls: tuple[tuple[str, int, int, int], ...] = ()  # likewise, with the rows of a whole pass
    projections: tuple[tuple[str, int, int], ...] = ()  # (name, k, n) in place of q, k, v and, last, output
    cached: int = 0  # values a token keeps, where they are not its keys and values as the scores see them
    idle_experts: int = 0  # q and output projections of kv_heads·head_dim that a token is not routed to (JetMoE)
    position_dim: int = 0  # width of scores against positions, beside those against keys, a head (XLNet)

    @property
    def value_dim(self) -> int:
        return self.v_head_dim or self.head_dim


@dataclass(frozen=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, https://arxiv.org/abs/2405.04434).

    Queries pass through rank ``q_rank`` (0: projected directly), keys and values through ``kv_rank``; ``rope_dim`` is
    the part of a key shared by all heads. The cache holds ``kv_rank + rope_dim`` values a token. ``indexer_*``
    describe the sparse-attention indexer of DeepSeek-V3.2 (``indexer_top_k`` caps the keys attended).
    """

    heads: int
    q_rank: int
    kv_rank: int
    nope_dim: int
    rope_dim: int
    v_head_dim: int
    bias: bool = False
    out_bias: bool = False
    causal: bool = True
    indexer_heads: int = 0
    indexer_dim: int = 0
    indexer_top_k: int = 0
    extra_parameters: int = 0


@dataclass(frozen=True)
class CompressedAttention:
    """Attention of DeepSeek-V4: one key/value head for all, a window, and keys compressed ``rate`` to one beyond it.

    Queries pass through rank ``q_rank``; the output through ``out_groups`` blocks of ``out_rank``. ``rate`` 0: window
    only. ``overlap`` compresses over two windows (twice the width). An indexer, where there is one, picks
    ``indexer_top_k`` of the compressed keys.
    """

    heads: int
    head_dim: int
    q_rank: int
    out_groups: int
    out_rank: int
    window: int
    rate: int = 0
    overlap: bool = False
    indexer_heads: int = 0
    indexer_dim: int = 0
    indexer_top_k: int = 0


@dataclass(frozen=True)
class LinearAttention:
    """A mixer whose cost is linear in the sequence: gated delta net, lightning attention, Mamba-2, RG-LRU.

    ``projections`` are (name, k, n) matmuls a token passes; ``state`` is the number of recurrent state values kept a
    sequence, ``scan_flops`` the FLOPs a token spends outside projections, ``extra_parameters`` everything that is not
    a projection (convolution, decay, gate norm). ``tensor_parallel_heads`` must be divisible by tp. The scan takes
    ``chunk`` tokens at a time and fills the last chunk up, but where ``chunk_flops`` says which part of
    ``scan_flops`` pairs the tokens of a chunk: there a short last chunk does less. ``pass_flops`` are those of taking
    the state of one chunk to one other.
    """

    flavour: str
    projections: tuple[tuple[str, int, int], ...]
    width: int
    state: int
    scan_flops: float
    extra_parameters: int
    tensor_parallel_heads: int
    norm_parameters: int = 0
    conv_flops: float = 0.0  # of the causal convolution, a token; in addition to scan_flops
    score_flops: float = 0.0  # the part of scan_flops that is attention-like batched matmuls inside a chunk
    chunk: int = 1
    chunk_flops: float = 0.0
    pass_flops: float = 0.0
    group: str = "attention"  # the group its parameters are counted in


@dataclass(frozen=True)
class Mlp:
    """Feed-forward block: ``down(act(gate(x)) * up(x))`` when ``gated``, else ``down(act(up(x)))``."""

    width: int
    gated: bool
    bias: bool = False
    down_bias: bool = False
    activation: str = "silu"
    extra_parameters: int = 0


@dataclass(frozen=True)
class Moe:
    """Mixture of experts: ``top_k`` of ``experts`` routed, plus a ``shared`` dense block every token passes.

    ``router_parameters`` beyond the hidden x experts matrix (bias, correction) are counted; ``shared_gate`` adds
    hidden parameters. ``latent_dim`` > 0: routed experts act on a down-projected token of that width.
    """

    experts: int
    top_k: int
    width: int
    gated: bool = True
    bias: bool = False
    shared: Mlp | None = None
    shared_gate: bool = False
    router_parameters: int = 0
    latent_dim: int = 0
    activation: str = "silu"
    router: tuple[tuple[str, int, int], ...] = ()  # (name, k, n) matmuls where it is not one hidden x experts matrix
    groups: int = 1  # groups of experts, of which a token visits ``chosen_groups``
    chosen_groups: int = 1
    idle: int = 0  # experts that compute nothing and hold an up projection all the same (LongCat)


Mixer = Attention | LatentAttention | CompressedAttention | LinearAttention


@dataclass(frozen=True)
class Layer:
    """One layer kind. ``norms`` are (kind, width) pairs; ``parallel`` feeds attention and MLP the same input."""

    name: str
    mixer: Mixer | None
    ffn: Mlp | Moe | None
    norms: tuple[tuple[NormKind, int], ...]
    cross: Attention | None = None
    parallel: bool = False
    extra_parameters: int = 0  # counted as "other"
    projections: tuple[tuple[str, int, int], ...] = ()  # (name, k, n) matmuls beside the blocks, counted as "other"
    hyper: int = 0  # residual streams joined by learned hyper-connections before each block (0: a plain residual)
    shared_weights: bool = False  # runs with the weights of an earlier layer and holds none
    second_mixer: Mixer | None = None  # beside the first, on the same normed input
    optional: bool = False  # runs only where an image or audio is given: in the parameters, not on the text path


@dataclass(frozen=True)
class Stack:
    """An ordered run of layers over one token stream.

    ``order[i]`` is the index into ``kinds`` of layer i. ``tokens`` is the fixed length of the stream (patches of an
    image, audio frames), 0 where it is the workload's. ``input_parameters`` are patch or frame embeddings and
    positions (counted in ``input_group``), ``output_parameters`` projectors and poolers (``output_group``). An
    ``optional`` stack is the tower of a language model: it runs only where an image or audio is given.
    """

    name: str
    role: Literal["decoder", "encoder", "tower"]
    hidden: int
    kinds: tuple[Layer, ...]
    order: tuple[int, ...]
    final_norm: NormKind = "rms"
    tokens: int = 0
    input_parameters: int = 0
    input_group: str = "embedding"
    input_matmuls: tuple[tuple[str, int, int, float], ...] = ()  # (name, k, n, rows per token)
    output_parameters: int = 0
    output_matmuls: tuple[tuple[str, int, int, float], ...] = ()
    extra_norm_parameters: int = 0
    output_group: str = "other"
    optional: bool = False

    @property
    def layers(self) -> int:
        return len(self.order)


@dataclass(frozen=True)
class Embedding:
    """Token, position and type tables of the text stream; ``width`` differs from hidden where it is factored."""

    vocab: int
    width: int
    positions: int = 0
    types: int = 0
    norm_parameters: int = 0
    projection_parameters: int = 0
    extra_parameters: int = 0


@dataclass(frozen=True)
class Head:
    """Output head. ``tied`` shares the token table; ``parameters_extra`` are transforms and biases of the head."""

    outputs: int
    tied: bool
    bias: bool = False
    extra_matmuls: tuple[tuple[str, int, int], ...] = ()
    extra_parameters: int = 0
    norm_parameters: int = 0
    width: int = 0  # inner width; 0: the table's if tied, else hidden
    once: bool = False  # applied once a sequence, not to every token: its FLOPs are not counted


@dataclass(frozen=True)
class Model:
    """A whole model. ``mtp_layers`` are multi-token-prediction layers: described, not counted in the totals.

    ``weight_dtype`` is the dtype weights are stored in, or what the matmuls of the ``quantization`` run in.
    ``class_name`` is the architecture class of Hugging Face transformers that is counted, where there is one.
    """

    id: str
    name: str
    family: str
    hidden: int
    embedding: Embedding | None
    head: Head | None
    stacks: tuple[Stack, ...]
    dropout: bool = False
    max_positions: int = 0
    weight_dtype: str = "bf16"
    quantization: Quantization | None = None
    mtp_layers: int = 0
    other_parameters: int = 0
    published_parameters: float | None = None
    aliases: tuple[str, ...] = ()
    source: str = ""
    class_name: str = ""
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> Stack:
        """The stack that consumes and produces tokens: the decoder, else the only encoder or tower."""
        return self.stacks[-1]

    @property
    def layers(self) -> int:
        """Layers of the text stack."""
        return self.text.layers
