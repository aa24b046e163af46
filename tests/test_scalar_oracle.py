"""Whole ledgers against the scalar implementation of ``scalar_training.py``, term by term."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scalar import GPT, LLAMA, MIXTRAL, PEAK, Dense, estimate
from scalar_inference import Served, flops, pass_memory, pass_time, served_alone
from scalar_training import Row, step_memory, step_time


def same(ours: dict[str, float], due: dict[str, float]) -> None:
    """Equal terms; one of zero may be left out."""
    for name in {**ours, **due}:
        assert ours.get(name, 0.0) == pytest.approx(due.get(name, 0.0), rel=1e-9, abs=1e-15), name


ROWS = [
    Row(micro_batches=3),
    Row(micro_batch=2, recompute="full"),
    Row(recompute="selective"),
    Row(devices=4, tp=4, micro_batch=2),
    Row(devices=4, tp=4, sequence_parallel=True, recompute="full"),
    Row(devices=16, tp=16, seq_len=4096),  # more ranks than key and value heads, over two domains
    Row(devices=4, tp=4, sequence_parallel=True, overlap_tp="backward"),
    Row(devices=4, tp=4, overlap_tp="backward", micro_batches=2),
    Row(devices=8, tp=8, sequence_parallel=True, overlap_tp="all", recompute="full"),
    Row(devices=4, cp=4, seq_len=512),
    Row(devices=16, cp=16, seq_len=512, recompute="full", micro_batch=2),
    Row(devices=16, tp=2, cp=8, seq_len=8192, recompute="full"),
    Row(devices=4, tp=2, cp=2, context_exchange="all_gather", recompute="full"),
    Row(devices=8, tp=2, cp=4, context_exchange="all_to_all", sequence_parallel=True),
    Row(devices=16, cp=16, context_exchange="all_to_all", recompute="full"),  # more ranks than key and value heads
    Row(devices=16, tp=8, cp=2, context_exchange="all_to_all"),
    Row(devices=16, cp=16, seq_len=512, recompute="selective", micro_batch=2),
    Row(devices=4, tp=2, cp=2, context_exchange="all_gather", recompute="selective"),
    Row(devices=8, cp=8, context_exchange="all_to_all", recompute="selective"),
    *(Row(devices=32, zero_stage=z, micro_batches=3, overlap_dp=o) for z in range(4) for o in (False, True)),
    *(Row(devices=8, tp=2, cp=2, zero_stage=z, micro_batches=2, seq_len=512, overlap_dp=True) for z in range(4)),
    Row(devices=4, pp=4, micro_batches=8),
    Row(devices=4, pp=4, micro_batches=2, recompute="full"),
    Row(devices=3, pp=3, micro_batches=6, recompute="selective"),
    Row(devices=64, pp=4, tp=2, cp=2, micro_batches=8, zero_stage=2, seq_len=4096, sequence_parallel=True),
    Row(devices=64, pp=4, tp=2, cp=2, micro_batches=8, zero_stage=3, recompute="full"),
    Row(devices=4, pp=4, vpp=2, micro_batches=8),
    Row(devices=3, pp=3, vpp=2, micro_batches=6),  # 32 layers in chunks of five and six
    Row(devices=64, pp=4, vpp=4, micro_batches=8, zero_stage=1, overlap_dp=True),
    Row(devices=128, pp=2, vpp=2, micro_batches=2, zero_stage=1, overlap_dp=True, seq_len=256),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("model", [LLAMA, GPT], ids=["llama", "gpt"])
def test_every_term_of_a_training_step(model: Dense, row: Row) -> None:
    if not model.llama and (row.pp > 1 or row.seq_len > model.positions):
        return  # a head of its own, and positions without end, are the Llama's
    found = estimate(model=model.id, **row.keys)
    same(found.time, step_time(model, row))
    same(found.memory, step_memory(model, row))


FRAMEWORKS = [
    *(
        Row(devices=16, zero_stage=z, micro_batches=2, overlap_dp=z == 3, recompute="full", framework=f)
        for z in (1, 3)
        for f in ("torch", "jax", "megatron-deepspeed")
    ),
    *(
        Row(devices=16, tp=4, sequence_parallel=sp, pp=2, micro_batches=4, recompute="full", zero_stage=z, framework=f)
        for f in ("torch", "jax", "megatron-deepspeed")
        for sp, z in ((True, 1), (False, 3))
    ),
]


@pytest.mark.parametrize("row", FRAMEWORKS, ids=str)
def test_every_term_of_a_framework(row: Row) -> None:
    found = estimate(model=LLAMA.id, **row.keys)
    same(found.time, step_time(LLAMA, row))
    same(found.memory, step_memory(LLAMA, row))


EXPERTS = [
    Row(seq_len=512),
    Row(devices=8, ep=8, micro_batches=2, recompute="full"),
    Row(devices=16, ep=2, tp=2, sequence_parallel=True, zero_stage=1),
    Row(devices=16, ep=8, tp=4, zero_stage=1, overlap_dp=True, recompute="full"),
    Row(devices=32, ep=8, pp=4, micro_batches=8, zero_stage=1),
    Row(devices=32, ep=4, zero_stage=3, framework="torch", recompute="full"),
    Row(devices=32, ep=4, zero_stage=3, framework="jax", recompute="full"),
    Row(devices=8, ep=8, micro_batches=4, overlap_ep=True, seq_len=512),
    Row(devices=8, ep=8, micro_batches=4, overlap_ep=True, recompute="full"),
    Row(devices=32, ep=8, pp=4, micro_batches=8, overlap_ep=True, recompute="full", zero_stage=1, framework="torch"),
    Row(devices=8, ep=4, cp=2, zero_stage=2, overlap_dp=True, micro_batches=2, framework="megatron-deepspeed"),
]


@pytest.mark.parametrize("row", EXPERTS, ids=str)
def test_every_term_of_a_mixture_of_experts(row: Row) -> None:
    found = estimate(model=MIXTRAL.id, **row.keys)
    same(found.time, step_time(MIXTRAL, row))
    same(found.memory, step_memory(MIXTRAL, row))


SERVED = [
    Served(),
    Served(batch=7, input_len=300, engine="vllm"),
    Served(devices=4, tp=4, batch=64),
    Served(devices=16, tp=16, batch=3),
    Served(devices=8, tp=2, pp=2, batch=5, output_len=100, engine="vllm"),
    Served(devices=16, pp=4, batch=64, input_len=4000),
    Served(devices=2, batch=16, kv_dtype="fp8"),
    Served(devices=4, batch=10, weight_dtype="int8"),
    Served(devices=2, tp=2, batch=4, attention="eager"),
    Served(devices=64, tp=2, pp=2, batch=1000, input_len=100, output_len=1000),
]


def asked(model: Dense, row: Served, task: str) -> dict[str, object]:
    """The scenario of an inference run."""
    keys = {k: v for k, v in vars(row).items() if task != "prefill" or k != "output_len"}
    batch = keys.pop("batch")
    return {"model": model.id, "task": task, **keys, "concurrency" if task == "serve" else "batch": batch}


@pytest.mark.parametrize(
    "row",
    [*SERVED, Served(devices=4, tp=2, cp=2), Served(devices=16, cp=16), Served(devices=16, cp=8, pp=2, batch=3)],
    ids=str,
)
@pytest.mark.parametrize("model", [LLAMA, GPT], ids=["llama", "gpt"])
def test_every_term_of_a_prefill(model: Dense, row: Served) -> None:
    if not model.llama and (row.pp > 1 or row.input_len > model.positions or row.tp < 4):
        return
    row = replace(row, output_len=1)
    found = estimate(**asked(model, row, "prefill"))
    due = pass_time(model, row, decode=False)
    same(found.time, due)
    seconds = sum(due.values())
    assert found.row["ttft_s"] == pytest.approx(seconds)
    assert found.row["mfu"] == pytest.approx(flops(model, row, decode=False) / (seconds * row.devices * PEAK))
    if row.engine == "ideal":  # what engines hold besides is held to what they log, in test_serving_memory
        ledger, room = pass_memory(model, row, decode=False)
        same(found.memory, ledger)
        assert (found.row["kv_cache_tokens"] or 0.0) == pytest.approx(room)


@pytest.mark.parametrize("row", SERVED, ids=str)
@pytest.mark.parametrize("model", [LLAMA, GPT], ids=["llama", "gpt"])
def test_every_term_of_a_decode_step(model: Dense, row: Served) -> None:
    if not model.llama and (row.pp > 1 or row.input_len > model.positions):
        return
    found = estimate(**asked(model, row, "decode"))
    due = pass_time(model, row if row.attention == "flash" else replace(row, attention="flash"), decode=True)
    same(found.time, due)
    seconds = sum(due.values())
    assert found.row["tpot_s"] == pytest.approx(seconds)
    assert found.row["output_tokens_per_s"] == pytest.approx(row.batch / seconds)
    assert found.row["mfu"] == pytest.approx(flops(model, row, decode=True) / (seconds * row.devices * PEAK))
    if row.engine == "ideal":  # what engines hold besides is held to what they log, in test_serving_memory
        ledger, room = pass_memory(model, row, decode=True)
        same(found.memory, ledger)
        assert (found.row["kv_cache_tokens"] or 0.0) == pytest.approx(room)


@pytest.mark.parametrize("row", SERVED, ids=str)
def test_a_request_alone_is_served_in_its_own_passes(row: Served) -> None:
    found = estimate(**asked(LLAMA, replace(row, batch=row.dp), "serve"))
    overhead = 50e-3 if row.engine == "vllm" else 0.0
    ttft, tpot = served_alone(LLAMA, row)
    assert found.row["ttft_s"] == pytest.approx(ttft + overhead)
    assert found.row["tpot_s"] == pytest.approx(tpot) == pytest.approx(sum(found.time.values()))
    tokens = row.dp * row.output_len / (ttft + overhead + (row.output_len - 1) * tpot)
    assert found.row["tokens_per_s"] == pytest.approx(tokens)
