"""A round chip and a dense model in plain numbers, one operator at a time, for the oracles beside this file.

Written from the papers, for the round chips of ``tests/data/plain``, on which a kernel takes F/P + B/W + t_0 and a
collective its latency and its bytes over the link, so that every FLOP and byte shows in a time.

References: tensor parallelism, https://arxiv.org/abs/1909.08053 section 3; sequence parallelism and saved activations,
https://arxiv.org/abs/2205.05198 sections 4 and 5; pipelines, https://arxiv.org/abs/2104.04473 section 2.2; ZeRO,
https://arxiv.org/abs/1910.02054 section 5; ring attention, https://arxiv.org/abs/2310.01889; Ulysses,
https://arxiv.org/abs/2309.14509 section 3.2; FlashAttention-2's backward, https://arxiv.org/abs/2307.08691 section 3.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import planner

PLAIN = Path(__file__).parent / "data" / "plain"
PEAK, BANDWIDTH, LAUNCH = 100e12, 1000e9, 1e-6  # FLOP/s, byte/s, s
LINK, NETWORK, DOMAIN = 100e9, 10e9, 8  # byte/s within and between domains of so many
GIB = 2**30
ACROSS = 0.65  # of hidden traffic between domains that shows, ``planner.cost.constants``
WIDE, GRAD = 2.0, 4.0  # bytes of a bf16 value and of an fp32 gradient


def estimate(**keys: object) -> Any:
    """The planner's estimate on a plain chip."""
    return planner.estimate(**{"hardware": "plain-even", "hardware_dirs": (PLAIN,), **keys})  # type: ignore[arg-type]


# The chip


def kernel(flops: float, moved: float) -> float:
    """F/P + B/W + t_0."""
    return flops / PEAK + moved / BANDWIDTH + LAUNCH if flops or moved else 0.0


def collective(op: str, size: float, ranks: int, stride: int) -> float:
    """Latency, and the bytes a rank sends over its link; across domains each of a domain's ranks drives its own port,
    while the ranks inside work too."""
    if ranks == 1 or size == 0:
        return 0.0
    inside = min(max(DOMAIN // stride, 1), ranks)
    across = math.ceil(ranks / inside)
    if op == "send_recv":
        return 20e-6 + 3e-6 + size / NETWORK if across > 1 else 5e-6 + 1e-6 + size / LINK
    factor = 2.0 if op == "all_reduce" else 1.0
    near, far = (size, size / inside) if op != "all_to_all" else (size * inside / ranks, size)
    latency = transfer = 0.0
    if inside > 1:
        latency += 5e-6 + 1e-6 * (inside - 1)
        transfer = factor * (inside - 1) / inside * near / LINK
    if across > 1:
        latency += 20e-6 + 3e-6 * (math.log2(across) if op == "all_reduce" else across - 1)
        transfer = max(transfer, factor * (across - 1) / across * far / NETWORK)
    return latency + transfer


# The model


@dataclass(frozen=True)
class Dense:
    """A decoder of equal layers with full causal attention."""

    id: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    width: int
    vocab: int
    llama: bool  # RMS norms, rotary embedding, gated MLP, a head of its own; else layer norms, biases, positions, tied
    positions: int = 0
    head_dim: int = 128
    experts: int = 0  # gated ones in the place of the MLP, of which a token visits ``top_k``
    top_k: int = 0

    @property
    def query(self) -> int:
        return self.heads * self.head_dim

    @property
    def key_value(self) -> int:
        return 2 * self.kv_heads * self.head_dim

    @property
    def up(self) -> int:
        return self.width * (2 if self.llama else 1)


LLAMA = Dense("llama-3.1-8b", 4096, 32, 32, 8, 14336, 128256, llama=True)
GPT = Dense("gpt3-175b", 12288, 96, 96, 96, 4 * 12288, 51200, llama=False, positions=2048)
MIXTRAL = Dense("mixtral-8x7b", 4096, 32, 32, 8, 14336, 32000, llama=True, experts=8, top_k=2)


@dataclass(frozen=True)
class Kernel:
    """One operator on one device, forward: FLOPs, and bytes of weights, input, output and keys and values."""

    group: str
    kind: str  # matmul, core, vector
    flops: float = 0.0
    weights: float = 0.0
    inputs: float = 0.0
    outputs: float = 0.0
    cache: float = 0.0
    hidden: bool = False  # fused away by inference engines

    @property
    def moved(self) -> float:
        return self.weights + self.inputs + self.outputs + self.cache

    @property
    def forward(self) -> float:
        return kernel(self.flops, self.moved)

    @property
    def weight_gradient(self) -> float:
        """dW += Xᵀ·dY, the accumulator read and written."""
        accumulator = self.weights / WIDE * 2 * GRAD
        return kernel(self.flops, self.inputs + self.outputs + accumulator) if self.kind == "matmul" else 0.0

    @property
    def backward(self) -> float:
        """A matmul makes two, flash attention five for two, a vector operator moves twice as much."""
        if self.kind == "matmul":
            return self.forward + self.weight_gradient
        if self.kind == "core":
            return kernel(2.5 * self.flops, 2 * (self.inputs + self.outputs + self.cache))
        return kernel(0.0, 2 * (self.inputs + self.outputs))


def matmul(group: str, m: float, k: float, n: float, *, weight: float = WIDE) -> Kernel:
    return Kernel(group, "matmul", 2 * m * k * n, k * n * weight, m * k * WIDE, m * n * WIDE)


def vector(group: str, read: float, write: float, *, hidden: bool = False) -> Kernel:
    return Kernel(group, "vector", inputs=read * WIDE, outputs=write * WIDE, hidden=hidden)


def layer(
    d: Dense, *, tokens: float, batch: float, seq: float, tp: int, sp: bool, decode: bool = False, ep: int = 1,
    sorts: float = 1.0,
) -> list[Kernel]:  # fmt: skip
    """A layer on one tensor-parallel rank; ``tokens`` of a rank of cp, ``seq`` keys of a whole sequence, ``sorts``
    passes over routed tokens each way."""
    kv = d.key_value / min(tp, d.kv_heads)
    split = tokens / tp if sp else tokens  # rows of norms and residuals
    keys = seq if decode else seq / 2
    core = Kernel(
        "attention", "core", flops=2 * tokens * keys * 2 * d.query / tp, inputs=tokens * d.query / tp * WIDE,
        outputs=tokens * d.query / tp * WIDE, cache=batch * seq * kv * WIDE,
    )  # fmt: skip
    norm, residual = (
        vector("norm", split * d.hidden, split * d.hidden),
        vector("other", 2 * split * d.hidden, split * d.hidden, hidden=True),
    )
    rotated = tokens * (d.query + d.key_value / 2) / tp
    rotary = [vector("attention", rotated, rotated)] if d.llama else []
    dense = [
        matmul("mlp", tokens, d.hidden, d.up / tp),
        vector("mlp", tokens * d.up / tp, tokens * d.width / tp),
        matmul("mlp", tokens, d.width / tp, d.hidden),
    ]
    return [
        norm,
        matmul("attention", tokens, d.hidden, d.query / tp + kv),
        *rotary,
        core,
        matmul("attention", tokens, d.query / tp, d.hidden),
        residual,
        norm,
        *(experts(d, tokens=tokens, tp=tp, sp=sp, ep=ep, sorts=sorts) if d.experts else dense),
        residual,
    ]


def experts(d: Dense, *, tokens: float, tp: int, sp: bool, ep: int, sorts: float) -> list[Kernel]:
    """Router, passes over the routed tokens before and after, and the experts of a rank: a token makes ``top_k`` rows,
    rows are divided over tp and experts over ep (https://arxiv.org/abs/2504.14960)."""
    split = tokens / tp if sp else tokens
    routed, rows, held = split * d.top_k, tokens / tp * d.top_k, d.experts / ep

    def grouped(k: int, n: int) -> Kernel:
        touched = held * (1 - (1 - 1 / held) ** rows) if held > 1 else 1.0  # of so many draws, the distinct ones
        return Kernel("experts", "matmul", 2 * rows * k * n, touched * k * n * WIDE, rows * k * WIDE, rows * n * WIDE)

    return [
        matmul("mlp", split, d.hidden, d.experts),
        vector("mlp", sorts * routed * d.hidden, sorts * routed * d.hidden),
        grouped(d.hidden, d.up),
        vector("mlp", routed * d.up, routed * d.width),
        grouped(d.width, d.hidden),
        vector("mlp", sorts * routed * d.hidden, sorts * split * d.hidden),
    ]


def expert_parameters(d: Dense, ep: int) -> float:
    """Weights of the experts of a layer on a rank."""
    return d.experts / ep * 3 * d.hidden * d.width


def expert_exchange(d: Dense, *, tokens: float, ep: int, copies: bool = False) -> float:
    """Time to send the tokens of a rank to their experts, one way.

    As copies, a row for each expert goes to its rank. Else a token goes once to each rank, and over the network once to
    each domain, that has one of its experts: of D places k experts drawn at random lie in D·(1 − (1 − 1/D)^k). DeepEP,
    https://github.com/deepseek-ai/DeepEP
    """

    if copies:
        return collective("all_to_all", tokens * d.top_k * d.hidden * WIDE, ep, 1)

    def visited(places: int) -> float:
        return places * (1 - (1 - 1 / places) ** d.top_k)

    row, inside = tokens * d.hidden * WIDE, min(ep, DOMAIN)
    domains = math.ceil(ep / inside)
    near = collective("all_to_all", row * visited(ep), inside, 1)
    return max(near, collective("all_to_all", row * visited(domains), domains, inside))


def embedding(d: Dense, *, tokens: float, tp: int, sp: bool) -> list[Kernel]:
    split = tokens / tp if sp else tokens
    table = [vector("embedding", tokens * d.hidden, tokens * d.hidden)]
    return table + ([vector("embedding", 2 * split * d.hidden, split * d.hidden)] if d.positions else [])


def head(d: Dense, *, tokens: float, tp: int, sp: bool) -> list[Kernel]:
    """Final norm, logits, and the loss: logits read three times, written 1.67 times (some of it in 32 bits)."""
    split = tokens / tp if sp else tokens
    return [
        vector("norm", split * d.hidden, split * d.hidden),
        matmul("head", tokens, d.hidden, d.vocab / tp),
        vector("head", 3 * tokens * d.vocab / tp, 1.67 * tokens * d.vocab / tp),
    ]


def layer_parameters(d: Dense, tp: int) -> float:
    """Weights of a layer on a rank but its experts: what tp divides, and the norms and row biases that all hold."""
    matrices = d.hidden * (d.query / tp + d.key_value / min(tp, d.kv_heads)) + d.query / tp * d.hidden
    matrices += d.hidden * d.experts if d.experts else d.hidden * (d.up + d.width) / tp
    if d.llama:
        return matrices + 2 * d.hidden
    return matrices + 4 * d.hidden + (d.query + d.key_value + d.up) / tp + 2 * d.hidden


def saved(d: Dense, *, tokens: float, seq: float, tp: int, sp: bool) -> float:
    """Activation bytes a layer keeps for its backward pass under flash attention: 34·s·b·h for a GPT with dropout
    masks (Korthikanti et al. 2022, equation 1, without the scores)."""
    whole = tp if sp else 1
    mask = 0 if d.llama else 2 * d.hidden  # a byte a value after attention and after the MLP
    divided = d.query + d.key_value + d.query
    if d.experts:
        routed = d.top_k * (d.hidden + d.width) / tp + d.top_k * d.up / whole
        router = (d.hidden + 2 * d.experts) / whole
        return tokens * WIDE * (3 * d.hidden / whole + router + routed + divided / tp)
    divided += d.up + d.width
    return tokens * ((4 * d.hidden * WIDE + mask) / whole + divided * WIDE / tp)
