"""Mixers of linear cost: gated delta nets, Mamba, lightning attention, short convolutions.

FLOPs of a scan follow the chunked reference implementations of Hugging Face transformers 5.23.0, whose batched
matmuls inside a chunk look like attention scores and are reported with them.
"""

from __future__ import annotations

from planner.catalogue.families.config import Config
from planner.catalogue.schema import LinearAttention

DELTA_CHUNK = 64


def delta_scan_flops(heads: int, key: int, value: int, *, chunk: int = DELTA_CHUNK) -> float:
    """FLOPs a token of the chunked gated delta rule: two C x C products of keys, one of values, three with the state.

    Gated Delta Networks, https://arxiv.org/abs/2412.06464
    """
    return float(heads * (4 * chunk * key + 2 * chunk * value + 6 * key * value))


def gated_delta(c: Config) -> LinearAttention:
    """Gated delta net of Qwen3-Next and Qwen3.5: q, k, v, z, b, a projections, a causal convolution, a gated norm."""
    hidden = c.integer("hidden_size")
    hk, hv = c.integer("linear_num_key_heads", high=10**6), c.integer("linear_num_value_heads", high=10**6)
    dk, dv = c.integer("linear_key_head_dim"), c.integer("linear_value_head_dim")
    if hv % hk:
        raise c.error("linear_num_value_heads", f"is {hv}, not a multiple of the {hk} key heads")
    kernel = c.integer("linear_conv_kernel_dim", high=1024)
    channels = 2 * hk * dk + hv * dv
    scan = delta_scan_flops(hv, dk, dv)
    return LinearAttention(
        "gated delta net",
        (("qkvz", hidden, channels + hv * dv), ("ba", hidden, 2 * hv), ("out", hv * dv, hidden)),
        width=hv * dv,
        state=hv * dk * dv + channels * kernel,
        scan_flops=scan,
        score_flops=scan,
        chunk=DELTA_CHUNK,
        conv_flops=2.0 * channels * kernel,
        extra_parameters=channels * kernel + 2 * hv,
        tensor_parallel_heads=hk,
        norm_parameters=dv,
    )


def kimi_delta(c: Config) -> LinearAttention:
    """Kimi delta attention: per-channel decay through a low-rank gate (https://arxiv.org/abs/2510.26692)."""
    hidden = c.integer("hidden_size")
    heads, width = c.integer("linear_num_heads", high=10**6), c.integer("linear_head_dim")
    kernel = c.integer("linear_conv_kernel_dim", high=1024)
    inner = heads * width
    scan = delta_scan_flops(heads, width, width)
    return LinearAttention(
        "Kimi delta attention",
        (
            ("qkv", hidden, 3 * inner),
            ("beta", hidden, heads),
            ("decay_a", hidden, width),
            ("decay_b", width, inner),
            ("gate_a", hidden, width),
            ("gate_b", width, inner),
            ("out", inner, hidden),
        ),
        width=inner,
        state=inner * width + 3 * inner * kernel,
        scan_flops=scan,
        score_flops=scan,
        chunk=DELTA_CHUNK,
        conv_flops=6.0 * inner * kernel,
        extra_parameters=3 * inner * kernel + inner + heads,
        tensor_parallel_heads=heads,
        norm_parameters=width,
    )


def mamba2(
    hidden: int,
    *,
    heads: int,
    head_dim: int,
    groups: int,
    state: int,
    kernel: int,
    chunk: int,
    conv_bias: bool,
    bias: bool,
    norm: bool = True,
    out_bias: bool = True,
    group: str = "other",
) -> LinearAttention:
    """Mamba-2: one input projection to gate, x, B, C and dt; state space duality in chunks.

    https://arxiv.org/abs/2405.21060
    """
    inner = heads * head_dim
    channels = inner + 2 * groups * state
    scan = heads * (2.0 * chunk * (state + head_dim) + 4.0 * state * head_dim)
    up = inner + channels + heads
    return LinearAttention(
        "Mamba-2",
        (("in", hidden, up), ("out", inner, hidden)),
        width=inner,
        state=heads * head_dim * state + channels * kernel,
        scan_flops=scan,
        score_flops=scan,
        chunk=chunk,
        pass_flops=2.0 * heads * head_dim * state,
        conv_flops=2.0 * channels * kernel,
        extra_parameters=channels * kernel + conv_bias * channels + 3 * heads + bias * (up + out_bias * hidden),
        tensor_parallel_heads=heads,
        norm_parameters=inner if norm else 0,
        group=group,
    )


def mamba1(
    hidden: int,
    *,
    inner: int,
    state: int,
    rank: int,
    kernel: int,
    conv_bias: bool,
    bias: bool,
    norms: int = 0,
    group: str = "other",
) -> LinearAttention:
    """Mamba: selective scan with a low-rank step size (https://arxiv.org/abs/2312.00752)."""
    scan = 2.0 * inner * state
    extra = inner * kernel + conv_bias * inner + inner * state + inner + inner + bias * (2 * inner + hidden)
    return LinearAttention(
        "Mamba",
        (("in", hidden, 2 * inner), ("x", inner, rank + 2 * state), ("dt", rank, inner), ("out", inner, hidden)),
        width=inner,
        state=inner * state + inner * kernel,
        scan_flops=scan,
        score_flops=scan,
        conv_flops=2.0 * inner * kernel,
        extra_parameters=extra,
        tensor_parallel_heads=inner,
        norm_parameters=norms,
        group=group,
    )


def short_convolution(hidden: int, *, kernel: int, bias: bool) -> LinearAttention:
    """Gated short convolution of LFM2."""
    return LinearAttention(
        "short convolution", (("in", hidden, 3 * hidden), ("out", hidden, hidden)), width=hidden,
        state=hidden * kernel, scan_flops=0.0, conv_flops=2.0 * hidden * kernel,
        extra_parameters=hidden * kernel + bias * 5 * hidden, tensor_parallel_heads=hidden, group="other",
    )  # fmt: skip


def lightning(hidden: int, *, heads: int, width: int, block: int) -> LinearAttention:
    """Lightning attention of MiniMax-01: q, k, v, an output gate and a norm (https://arxiv.org/abs/2501.08313)."""
    inner = heads * width
    scan = heads * (4.0 * block * width + 4.0 * width * width)
    return LinearAttention(
        "lightning attention",
        (("qkv", hidden, 3 * inner), ("gate", hidden, inner), ("out", inner, hidden)),
        width=inner,
        state=heads * width * width,
        scan_flops=scan,
        score_flops=scan,
        chunk=block,
        chunk_flops=heads * 4.0 * block * width,
        extra_parameters=0,
        tensor_parallel_heads=heads,
        norm_parameters=inner,
    )
