"""Layers beyond a plain decoder's, operator by operator on a plain chip: latent attention, windows, encoders with
cross-attention, linear attention and shared experts, each from the paper or configuration that describes it."""

from __future__ import annotations

import math

import pytest
from scalar import GIB, WIDE, Kernel, estimate, experts, matmul, vector
from scalar import MIXTRAL as SHAPE  # its experts' operators, with other sizes


def forward(kernels: list[Kernel], group: str) -> float:
    return sum(k.forward for k in kernels if k.group == group)


def backward(kernels: list[Kernel], group: str) -> float:
    return sum(k.backward for k in kernels if k.group == group)


def padded(keys: float, values: float) -> float:
    """Time of attention on a systolic array of 128 lanes over that at heads of 128: widths are padded to the array,
    and narrow heads compute as many exponentials for fewer FLOPs."""
    widest = 128 * math.ceil(max(keys, values) / 128)
    return max(256 / (keys + values), 2 * widest / (keys + values))


def core(*, tokens: float, batch: float, seen: float, read: float, heads: float, kv: float, qk: float, v: float,
         values: bool = True, slower: float = 0.0) -> Kernel:  # fmt: skip
    """Attention of ``tokens`` to ``seen`` keys each, ``read`` keys of a sequence read once; FLOPs times what the shape
    of the heads costs."""
    flops = 2 * tokens * seen * heads * (qk + v) * (slower or padded(qk, v))
    cache = batch * read * kv * (qk + (v if values else 0)) * WIDE
    return Kernel("attention", "core", flops, 0.0, tokens * heads * qk * WIDE, tokens * heads * v * WIDE, cache)


# Multi-head latent attention. DeepSeek-V3, https://arxiv.org/abs/2412.19437, section 4.2: hidden 7,168, 128 heads of
# 128 + 64 (rotary) and 128 values, ranks 1,536 and 512; 3 dense layers of 18,432, then 58 with 256 experts of 2,048, 8
# a token, and a shared one.
H, HEADS, Q_RANK, KV_RANK, NOPE, ROPE, VALUE = 7168, 128, 1536, 512, 128, 64, 128
QK = NOPE + ROPE


def latent(*, tokens: float, batch: float, seq: float, tp: int, sp: bool, decode: bool) -> list[Kernel]:
    """A layer's attention: down-projections and norms on every rank (split under sequence parallelism), the rest by
    heads; a decode step attends to the latent itself, one head of keys for all (DeepSeek-V2, section 2.1.2,
    https://arxiv.org/abs/2405.04434)."""
    split, heads = tokens / tp if sp else tokens, HEADS / tp
    rotated = tokens * heads * 2 * QK
    absorbed = core(tokens=tokens, batch=batch, seen=seq, read=seq, heads=heads, kv=1, qk=KV_RANK + ROPE, v=KV_RANK,
                    values=False, slower=padded(QK, VALUE))  # fmt: skip
    expanded = core(tokens=tokens, batch=batch, seen=seq / 2, read=seq, heads=heads, kv=heads, qk=QK, v=VALUE)
    return [
        matmul("attention", split, H, Q_RANK), vector("norm", split * Q_RANK, split * Q_RANK),
        matmul("attention", tokens, Q_RANK, heads * QK), matmul("attention", split, H, KV_RANK + ROPE),
        vector("norm", split * KV_RANK, split * KV_RANK), matmul("attention", tokens, KV_RANK, heads * (NOPE + VALUE)),
        vector("attention", rotated, rotated), absorbed if decode else expanded,
        matmul("attention", tokens, heads * VALUE, H),
    ]  # fmt: skip


@pytest.mark.parametrize("tp", [1, 8])
def test_a_decode_step_of_latent_attention_reads_one_latent(tp: int) -> None:
    found = estimate(model="deepseek-v3", task="decode", devices=tp, tp=tp, batch=6, input_len=1000, output_len=200,
                     weight_dtype="bf16", compute_dtype="bf16")  # fmt: skip
    due = latent(tokens=6, batch=6, seq=1100, tp=tp, sp=False, decode=True)
    assert found.time["forward.attention"] == pytest.approx(61 * forward(due, "attention"))
    layer_norms, final = vector("norm", 6 * H, 6 * H).forward, vector("norm", 6 * H, 6 * H).forward
    assert found.time["forward.norm"] == pytest.approx(61 * (forward(due, "norm") + 2 * layer_norms) + final)
    assert found.memory["kv_cache"] == pytest.approx(6 * 1200 * 61 * (KV_RANK + ROPE) * WIDE)  # on every rank


@pytest.mark.parametrize(("tp", "sp"), [(1, False), (8, False), (8, True)])
def test_training_expands_the_latent_to_heads(tp: int, sp: bool) -> None:
    found = estimate(model="deepseek-v3", devices=tp, tp=tp, etp=1, sequence_parallel=sp, micro_batch=2, global_batch=2,
                     seq_len=1024, overlap_tp="none", recompute="none", framework="megatron")  # fmt: skip
    tokens, whole = 2048.0, tp if sp else 1
    due = latent(tokens=tokens, batch=2, seq=1024, tp=tp, sp=sp, decode=False)
    assert found.time["forward.attention"] == pytest.approx(61 * forward(due, "attention"))
    assert found.time["backward.attention"] == pytest.approx(61 * backward(due, "attention"))
    attention = H + 2 * Q_RANK + 2 * KV_RANK  # inputs of the projections and norms, whole
    by_heads = HEADS * (2 * QK + VALUE) + HEADS * VALUE
    dense, shared = H + (3 * 18432) * whole / tp, H + 3 * 2048 * whole / tp
    routed = H + 2 * 256 + 8 * (H + 2048) * whole / tp + 8 * 2 * 2048
    layers = 61 * (2 * H + attention + by_heads * whole / tp) + 3 * dense + 58 * (routed + shared)
    head = 2 * H
    assert found.memory["activations"] == pytest.approx(tokens * WIDE / whole * (layers + head))


def test_experts_of_deepseek_count_routed_and_shared_ones() -> None:
    """The shared expert runs for every token beside the eight routed, and is divided over tp as an MLP is."""
    tp, tokens = 2, 512.0
    found = estimate(model="deepseek-v3", task="prefill", devices=tp, tp=tp, etp=1, batch=1, input_len=512,
                     weight_dtype="bf16", compute_dtype="bf16")  # fmt: skip
    shape = SHAPE.__class__("", H, 61, HEADS, HEADS, 2048, 129280, llama=True, experts=256, top_k=8)
    routed = experts(shape, tokens=tokens, tp=tp, sp=False, ep=1, sorts=2.0)

    def mlp(width: int) -> list[Kernel]:
        return [matmul("mlp", tokens, H, 2 * width / tp), vector("mlp", tokens * 2 * width / tp, tokens * width / tp),
                matmul("mlp", tokens, width / tp, H)]  # fmt: skip

    assert found.time["forward.experts"] == pytest.approx(58 * forward(routed, "experts"))
    due = 58 * (forward(routed, "mlp") + forward(mlp(2048), "mlp")) + 3 * forward(mlp(18432), "mlp")
    assert found.time["forward.mlp"] == pytest.approx(due)


# Sliding windows. Mistral 7B, https://arxiv.org/abs/2310.06825, section 2: 32 heads of 128, 8 of keys, a window of
# 4,096 tokens
WINDOW = 4096


def windowed(*, tokens: float, batch: float, seen: float, read: float) -> list[Kernel]:
    return [
        matmul("attention", tokens, 4096, 6144), vector("attention", tokens * 5120, tokens * 5120),
        core(tokens=tokens, batch=batch, seen=seen, read=read, heads=32, kv=8, qk=128, v=128),
        matmul("attention", tokens, 4096, 4096),
    ]  # fmt: skip


@pytest.mark.parametrize("length", [1000, 4096, 20000])
def test_a_window_bounds_what_a_prompt_and_a_token_attend_to(length: int) -> None:
    """A query in a prompt of S sees W·(1 − W/(2S)) keys on average: fewer at first, W once the window is full."""
    common = {"model": "mistral-7b-v0.1", "devices": 1, "batch": 3, "input_len": length}
    prefill = estimate(**common, task="prefill")
    w = min(WINDOW, length)
    due = windowed(tokens=3.0 * length, batch=3, seen=w * (1 - w / (2 * length)), read=length)
    assert prefill.time["forward.attention"] == pytest.approx(32 * forward(due, "attention"))
    decode = estimate(**common, task="decode", output_len=100)
    w = min(WINDOW, length + 50)
    due = windowed(tokens=3, batch=3, seen=w, read=w)
    assert decode.time["forward.attention"] == pytest.approx(32 * forward(due, "attention"))
    kept = min(WINDOW + 512, length + 100)  # the window, and beside it what is read at once
    assert decode.memory["kv_cache"] == pytest.approx(3 * kept * 32 * 2048 * WIDE)


# Encoder and decoder. Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, table 3 (big): 6 + 6 layers, hidden 1,024,
# 16 heads of 64, feed-forward 4,096, a vocabulary of 37,000 shared by both tables and the head
MODEL, FFN, VOCAB = 1024, 4096, 37000


def block(*, tokens: float, batch: float, seen: float, read: float) -> list[Kernel]:
    """Self-attention of a stream, one matmul for queries, keys and values."""
    return [
        matmul("attention", tokens, MODEL, 3 * MODEL),
        core(tokens=tokens, batch=batch, seen=seen, read=read, heads=16, kv=16, qk=64, v=64),
        matmul("attention", tokens, MODEL, MODEL),
    ]  # fmt: skip


def cross(*, tokens: float, batch: float, encoded: float, cached: bool) -> list[Kernel]:
    """Attention to the encoder's stream, whose keys and values are made once."""
    keys = [] if cached else [matmul("attention", batch * encoded, MODEL, 2 * MODEL)]
    return [
        matmul("attention", tokens, MODEL, MODEL), *keys,
        core(tokens=tokens, batch=batch, seen=encoded, read=encoded, heads=16, kv=16, qk=64, v=64),
        matmul("attention", tokens, MODEL, MODEL),
    ]  # fmt: skip


def test_training_an_encoder_and_a_decoder_runs_both_streams() -> None:
    found = estimate(model="transformer-big", devices=1, micro_batch=2, global_batch=2, seq_len=200, encoder_len=300,
                     recompute="none", framework="megatron", compute_dtype="bf16")  # fmt: skip
    source, target = 600.0, 400.0
    due = [*block(tokens=source, batch=2, seen=300, read=300), *block(tokens=target, batch=2, seen=100, read=200),
           *cross(tokens=target, batch=2, encoded=300, cached=False)] * 6  # fmt: skip
    assert found.time["forward.attention"] == pytest.approx(forward(due, "attention"))
    assert found.time["backward.attention"] == pytest.approx(backward(due, "attention"))
    mlps = [matmul("mlp", n, MODEL, FFN) for n in (source, target)]
    mlps += [vector("mlp", n * FFN, n * FFN) for n in (source, target)]
    mlps += [matmul("mlp", n, FFN, MODEL) for n in (source, target)]
    assert found.time["forward.mlp"] == pytest.approx(6 * forward(mlps, "mlp"))
    lookups = [vector("embedding", n * MODEL, n * MODEL) for n in (source, target)]
    assert found.time["forward.embedding"] == pytest.approx(forward(lookups, "embedding"))
    logits = [matmul("head", target, MODEL, VOCAB), vector("head", 3 * target * VOCAB, 1.67 * target * VOCAB)]
    assert found.time["forward.head"] == pytest.approx(forward(logits, "head"))


def test_a_decoder_generates_from_an_encoded_prompt() -> None:
    common = {"model": "transformer-big", "devices": 1, "batch": 4, "input_len": 100, "encoder_len": 300,
              "compute_dtype": "bf16", "weight_dtype": "bf16"}  # fmt: skip
    decode = estimate(**common, task="decode", output_len=50)
    due = [*block(tokens=4, batch=4, seen=125, read=125), *cross(tokens=4, batch=4, encoded=300, cached=True)] * 6
    assert decode.time["forward.attention"] == pytest.approx(forward(due, "attention"))
    layers = 6 * (4 + 8) * MODEL * MODEL + 6 * (8 + 8) * MODEL * MODEL  # self-attention and MLP, and cross-attention
    vectors = 6 * (FFN + MODEL) * 2 + 6 * 2 * 2 * MODEL + 6 * 3 * 2 * MODEL  # biases of MLPs, layer norms
    assert decode.memory["weights"] == pytest.approx((layers + vectors + VOCAB * MODEL) * WIDE, rel=1e-12)
    prefill = estimate(**common, task="prefill")
    due = [*block(tokens=1200, batch=4, seen=300, read=300), *block(tokens=400, batch=4, seen=50, read=100),
           *cross(tokens=400, batch=4, encoded=300, cached=False)] * 6  # fmt: skip
    assert prefill.time["forward.attention"] == pytest.approx(forward(due, "attention"))


def test_an_encoder_alone_reads_its_own_text() -> None:
    """BERT base (https://arxiv.org/abs/1810.04805, section 3): 12 layers of 768 and 3,072, every token seen by all."""
    found = estimate(model="bert-base-uncased", task="forward", devices=1, batch=4, seq_len=128, weight_dtype="bf16",
                     compute_dtype="bf16")  # fmt: skip
    n, h, f = 512.0, 768, 3072
    mlp = [matmul("mlp", n, h, f), vector("mlp", n * f, n * f), matmul("mlp", n, f, h)]
    assert found.time["forward.mlp"] == pytest.approx(12 * forward(mlp, "mlp"))
    attention = [matmul("attention", n, h, 3 * h), matmul("attention", n, h, h),
                 core(tokens=n, batch=4, seen=128, read=128, heads=12, kv=12, qk=64, v=64)]  # fmt: skip
    assert found.time["forward.attention"] == pytest.approx(12 * forward(attention, "attention"))


def test_a_decoder_caches_its_own_keys_and_those_of_the_encoders_tokens() -> None:
    found = estimate(model="transformer-big", task="decode", devices=1, batch=4, input_len=100, output_len=50,
                     encoder_len=400, compute_dtype="bf16", weight_dtype="bf16")  # fmt: skip
    assert found.memory["kv_cache"] == pytest.approx(4 * 6 * 2 * MODEL * (150 + 400) * WIDE)


# Linear attention beside full. Qwen3-Next, https://huggingface.co/Qwen/Qwen3-Next-80B-A3B-Instruct (config.json): 48
# layers, each fourth with full attention of 16 heads of 256, 2 of keys, a gate on the output and norms on queries and
# keys; the others gated delta nets of 16 key and 32 value heads of 128.


def test_a_gated_delta_net_holds_a_state_and_no_keys() -> None:
    """128 x 128 values a value head, and the last 3 inputs of a convolution over 8,192 channels (Yang et al. 2024,
    https://arxiv.org/abs/2412.06464)."""
    found = estimate(model="qwen3-next-80b-a3b", task="decode", devices=2, tp=2, batch=8, input_len=500, output_len=100)
    state = 32 * 128 * 128 + 4 * 8192
    cached = 12 * 600 * 2 * 2 * 256 / 2 * WIDE
    assert found.memory["kv_cache"] == pytest.approx(8 * (36 * state / 2 * 4 + cached))  # states are fp32
    assert found.memory["context"] + found.memory["communicators"] == pytest.approx(1.0 * GIB)


def test_full_attention_of_qwen3_next_is_gated() -> None:
    found = estimate(model="qwen3-next-80b-a3b", task="prefill", devices=1, batch=1, input_len=1024)
    n, h = 1024.0, 2048
    full = [
        matmul("attention", n, h, 2 * 4096 + 1024), vector("attention", n * 4608, n * 4608),
        core(tokens=n, batch=1, seen=512, read=1024, heads=16, kv=2, qk=256, v=256),
        vector("attention", n * 2 * 4096, n * 4096), matmul("attention", n, 4096, h),
    ]  # fmt: skip
    scan = Kernel("attention", "vector", n * (4718592 + 65536), 0.0, n * (12288 + 64) * WIDE, n * 4096 * WIDE)
    flops = scan.flops / 10e12 + scan.moved / 1000e9 + 1e-6  # on the vector units
    linear = [matmul("attention", n, h, 12288), matmul("attention", n, h, 64), matmul("attention", n, 4096, h)]
    assert found.time["forward.attention"] == pytest.approx(
        12 * forward(full, "attention") + 36 * (forward(linear, "attention") + flops)
    )
    # qk norms of the full layers, output norms of the linear ones, two norms a layer, a last one on one token
    norms = [vector("norm", n * 4608, n * 4608)] * 12 + [vector("norm", n * 4096, n * 4096)] * 36
    norms += [vector("norm", n * h, n * h)] * 96 + [vector("norm", h, h)]
    assert found.time["forward.norm"] == pytest.approx(forward(norms, "norm"))
