"""Sparse and compressed attention, state spaces and experts in a latent space, by the rows of the layer table, and
blocks that run side by side."""

from __future__ import annotations

import pytest
from scalar import WIDE, Kernel, collective, estimate, vector
from test_scalar_models import HEADS, KV_RANK, Q_RANK, QK, ROPE, VALUE, H, core, forward, latent, padded

import planner
from planner.demand.ops import Op


def table(model: str, seq: int) -> dict[str, dict[str, float]]:
    return {r["name"]: r for r in planner.summary(model, batch=1, seq_len=seq)["layers"]}


# DeepSeek-V3.2, https://github.com/deepseek-ai/DeepSeek-V3.2-Exp (config): V3, and an indexer of 64 heads of 128 with
# one head of keys, which picks 2,048 of them for each query
TOP, INDEX_HEADS, INDEX = 2048, 64, 128


def indexed(*, tokens: float, batch: float, seen: float, length: float, cached: float) -> list[Kernel]:
    """The indexer on every rank: projections of queries, keys and weights, and a score of every key."""

    def matmul(k: float, n: float) -> Kernel:
        return Kernel("attention", "matmul", 2 * tokens * k * n, k * n * WIDE, tokens * k * WIDE, tokens * n * WIDE)

    score = core(tokens=tokens, batch=batch, seen=seen, read=length, heads=INDEX_HEADS, kv=1, qk=INDEX, v=1)
    return [matmul(Q_RANK, INDEX_HEADS * INDEX), matmul(H, INDEX), matmul(H, INDEX_HEADS), score]


@pytest.mark.parametrize("tp", [1, 4])
@pytest.mark.parametrize("length", [1500, 6000])
def test_sparse_attention_sees_what_its_indexer_picks(tp: int, length: int) -> None:
    common = {"model": "deepseek-v3.2", "devices": tp, "tp": tp, "batch": 2, "input_len": length,
              "weight_dtype": "bf16", "compute_dtype": "bf16"}  # fmt: skip
    tokens, picked = 2.0 * length, min(TOP, length)
    prefill = estimate(**common, task="prefill")
    plain = latent(tokens=tokens, batch=2, seq=length, tp=tp, sp=False, decode=False)
    sparse = core(tokens=tokens, batch=2, seen=picked * (1 - picked / (2 * length)), read=length, heads=HEADS / tp,
                  kv=HEADS / tp, qk=QK, v=VALUE)  # fmt: skip
    due = [sparse if k.kind == "core" else k for k in plain]
    due += indexed(tokens=tokens, batch=2, seen=length / 2, length=length, cached=0)
    assert prefill.time["forward.attention"] == pytest.approx(61 * forward(due, "attention"))
    decode = estimate(**common, task="decode", output_len=200)
    context = length + 100
    picked = min(TOP, context)
    plain = latent(tokens=2, batch=2, seq=context, tp=tp, sp=False, decode=True)
    sparse = core(tokens=2, batch=2, seen=picked, read=picked, heads=HEADS / tp, kv=1, qk=KV_RANK + ROPE, v=KV_RANK,
                  values=False, slower=padded(QK, VALUE))  # fmt: skip
    due = [sparse if k.kind == "core" else k for k in plain]
    due += indexed(tokens=2, batch=2, seen=context, length=context, cached=1)
    assert decode.time["forward.attention"] == pytest.approx(61 * forward(due, "attention"))
    assert decode.memory["kv_cache"] == pytest.approx(2 * (length + 200) * 61 * (KV_RANK + ROPE + INDEX) * WIDE)


# DeepSeek-V4 Pro (config.json of deepseek-ai/DeepSeek-V4-Pro): 128 heads of 512 with one of keys, a window of 128,
# keys pooled by 4 (with an indexer of 64 heads of 128) or by 128, outputs in 16 groups of rank 1,024, four residual
# streams; 384 experts of 3,072, 6 a token, and a shared one


@pytest.mark.parametrize(("name", "rate", "wide", "indexer"), [
    ("compressed sparse attention + experts", 4, 1024, True), ("compressed attention + experts", 128, 512, False),
])  # fmt: skip
def test_compressed_attention(name: str, rate: int, wide: int, indexer: bool) -> None:
    s = 1000
    row = table("deepseek-v4-pro", s)[name]
    width = 128 * 512
    matrices = H * 1536 + 1536 * width + H * 512 + H * 2 * wide + width // 16 * 16384 + 16384 * H + 2 * 4 * H * 24
    matrices += 2 * 4 * 4 * H  # each block's four streams from the four before it
    matrices += H * 384 + 6 * 3 * H * 3072 + 3 * H * 3072
    scores = 128 * 1024 + 128 / rate * 1024
    cached = 512 + 512 / rate
    if indexer:
        matrices += H * 4 * 128 + 1536 * 64 * 128 + H * 64
        scores += 64 / rate * 128
        cached += 128 / rate
    assert row["forward_flops"] / row["count"] == pytest.approx(2 * s * matrices + 2 * s * s * scores)
    assert row["kv_cache_bytes_per_token"] / row["count"] == pytest.approx(cached * WIDE)
    found = estimate(model="deepseek-v4-pro", task="prefill", devices=1, batch=1, input_len=s, weight_dtype="bf16",
                     compute_dtype="bf16").time["forward.norm"]  # fmt: skip
    counts = {r: table("deepseek-v4-pro", s)[n]["count"] for n, r in
              (("compressed sparse attention + experts", 4), ("compressed attention + experts", 128))}  # fmt: skip
    norms = [(2 * H, 61), (2 * H, 61), (2 * 1536, 61), (2 * 512, 61), (2 * 1024 + 512 / 4, counts[4]),
             (2 * 512 + 512 / 128, counts[128]), (2 * 128 + 128 / 4, counts[4])]  # fmt: skip
    due = sum(n * vector("norm", s * moved, 0.0).forward for moved, n in norms) + vector("norm", H, H).forward
    assert found == pytest.approx(due)
    attention = 2 * H + H + 1536 + 1536 + 512 + width + 512 + width + 16384
    experts = H + 2 * 384 + 6 * (H + 2 * 3072 + 3072) + H + 3 * 3072
    assert row["saved_activation_bytes"] / row["count"] == pytest.approx(s * WIDE * (attention + experts))


@pytest.mark.parametrize(("model", "heads", "layers"), [("deepseek-v3", 128, 61), ("deepseek-v4-pro", 0, 0)])
def test_unfused_latent_and_compressed_attention_keep_a_softmax_of_all_their_heads(
    model: str, heads: float, layers: int
) -> None:
    if model == "deepseek-v4-pro":  # 30 layers pool by 4, 31 by 128
        rows = table(model, 64)
        by = {
            4: rows["compressed sparse attention + experts"]["count"],
            128: rows["compressed attention + experts"]["count"],
        }
        heads, layers = sum(n * (128 + 128 / rate) for rate, n in by.items()), 1
    kept = [
        estimate(model=model, devices=1, seq_len=512, global_batch=1, micro_batch=1, recompute="none", attention=a,
                 framework="megatron").memory["activations"] for a in ("eager", "flash")
    ]  # fmt: skip
    assert kept[0] - kept[1] == pytest.approx(layers * heads * 512 * 512 * WIDE)


# Nemotron 3 Ultra (config.json of nvidia/NVIDIA-Nemotron-3-Ultra): hidden 8,192; state spaces of 256 heads of 64 and
# state 128; 512 experts of 5,120 in a latent space of 2,048, 22 a token, a shared one of 10,240


def test_experts_in_a_latent_space() -> None:
    s, h, low, width, shared = 300, 8192, 2048, 5120, 10240
    row = table("nemotron-3-ultra-550b-a55b", s)["experts"]
    matrices = h * 512 + 2 * h * low + 22 * 2 * low * width + 2 * h * shared
    assert row["forward_flops"] / row["count"] == pytest.approx(2 * s * matrices)
    kept = h + (h + 2 * 512) + h + 22 * (low + width + width) + low + (h + 2 * shared)
    assert row["saved_activation_bytes"] / row["count"] == pytest.approx(s * WIDE * kept)
    moved = 2 * h + (h + 512) + (h + low) + 2 * 2 * low * 22 + 22 * (low + width) + 2 * width * 22
    moved += (
        22 * (width + low) + (2 * low * 22 + 2 * low) + (low + h) + (h + shared) + 2 * shared + (shared + h) + 3 * h
    )
    assert row["activation_bytes"] / row["count"] == pytest.approx(s * WIDE * moved)


def test_a_state_space_scans_what_its_projection_puts_out() -> None:
    s, h, inner, width = 300, 8192, 35072, 16384
    row = table("nemotron-3-ultra-550b-a55b", s)["Mamba-2"]
    scan = row["forward_flops"] / row["count"] / s - 2 * (h * inner + width * h)
    # Three chunks of 128 hold the 300 tokens; the start and each of them hands its state to every one of the four.
    in_chunks = 256 * (2 * 128 * (128 + 64) + 4 * 128 * 64) * 3 * 128 / s
    assert scan == pytest.approx(in_chunks + 2 * 256 * 64 * 128 * 4**2 / s + 147456)
    assert row["saved_activation_bytes"] / row["count"] == pytest.approx(s * WIDE * (2 * h + inner + width + width))
    moved = 2 * h + (h + inner) + (inner + width) + 2 * width + (width + h) + 3 * h
    assert row["activation_bytes"] / row["count"] == pytest.approx(s * WIDE * moved)
    assert row["kv_cache_bytes_per_token"] == 0.0


# Attention and MLP side by side. Falcon 40B, https://arxiv.org/abs/2311.16867, section 3.2: one all-reduce a layer


def test_blocks_side_by_side_share_a_reduction_and_a_residual() -> None:
    found = estimate(model="falcon-40b", devices=8, tp=8, seq_len=512, global_batch=1, micro_batch=1, recompute="none",
                     framework="megatron", overlap_tp="none", sequence_parallel=False)  # fmt: skip
    one = collective("all_reduce", 512 * 8192 * WIDE, 8, 1)
    assert found.time["comm.tp"] == pytest.approx(2 * (60 + 2) * one)
    assert found.time["forward.other"] == pytest.approx(60 * vector("other", 2 * 512 * 8192, 512 * 8192).forward)


def test_an_operator_does_nothing_that_it_does_not_say() -> None:
    bare = vars(Op("bare", "other", "vector"))
    once = {"rows", "experts", "kv_heads", "launches", "chunk"}
    numbers = {k: v for k, v in bare.items() if isinstance(v, int | float)}
    assert {k: v for k, v in numbers.items() if v} == dict.fromkeys(once, 1.0) | {"window": float("inf")}
