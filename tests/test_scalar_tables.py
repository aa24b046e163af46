"""The layer table, the roofs and the points of a plain chip, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import gpt
from scalar import BANDWIDTH, GPT, LLAMA, MIXTRAL, PEAK, PLAIN, WIDE, Dense, Kernel, kernel, layer, saved

import planner
from planner.catalogue.models import load_model
from planner.demand.counts import parameter_counts, summary
from planner.demand.workload import Precision

L = LLAMA


def rows(model: Dense, **shape: int) -> dict[str, dict[str, float]]:
    found = planner.summary(model.id, **shape)
    return {r["kind"]: r for r in found["layers"]}


@pytest.mark.parametrize("model", [LLAMA, GPT, MIXTRAL], ids=["llama", "gpt", "mixtral"])
def test_a_row_of_the_layer_table_stands_for_all_its_layers(model: Dense) -> None:
    batch, seq = 3, 512
    tokens = float(batch * seq)
    found = rows(model, batch=batch, seq_len=seq)["layer"]
    one = layer(model, tokens=tokens, batch=batch, seq=seq, tp=1, sp=False, sorts=2.0)
    moved = sum(k.inputs + k.outputs + k.cache for k in one)
    flops = sum(k.flops * (2 if k.kind == "core" else 1) for k in one)  # the full rectangle of scores
    parameters = found["parameters_per_layer"]
    assert found["count"] == model.layers and found["parameters"] == model.layers * parameters
    assert found["forward_flops"] == pytest.approx(model.layers * flops)
    assert found["weight_bytes"] == pytest.approx(model.layers * parameters * WIDE)
    assert found["activation_bytes"] == pytest.approx(model.layers * moved)
    kept = saved(model, tokens=tokens, seq=seq, tp=1, sp=False)
    assert found["saved_activation_bytes"] == pytest.approx(model.layers * kept)
    assert found["kv_cache_bytes_per_token"] == pytest.approx(model.layers * model.key_value * WIDE)
    assert found["arithmetic_intensity"] == pytest.approx(flops / (parameters * WIDE + moved))


def test_the_embedding_and_the_head_are_rows_of_their_own() -> None:
    found = rows(LLAMA, batch=1, seq_len=100)
    table = L.vocab * L.hidden
    assert found["embedding"]["parameters"] == table and found["embedding"]["forward_flops"] == 0.0
    assert found["embedding"]["activation_bytes"] == pytest.approx(100 * 2 * L.hidden * WIDE)
    assert found["head"]["parameters"] == table + L.hidden
    assert found["head"]["forward_flops"] == pytest.approx(2 * 100 * table)
    assert found["head"]["saved_activation_bytes"] == pytest.approx(100 * 2 * L.hidden * WIDE)
    assert found["head"]["kv_cache_bytes_per_token"] == 0.0
    moved = 2 * L.hidden + L.hidden + L.vocab + (3 + 1.67) * L.vocab  # norm, logits, loss
    assert found["head"]["activation_bytes"] == pytest.approx(100 * moved * WIDE)


def test_flops_of_the_whole_model_and_of_its_scores() -> None:
    found = planner.summary(LLAMA.id, batch=2, seq_len=256)["forward_flops"]
    scores = 2 * 4 * 256 * 256 * L.query * L.layers
    matrices = L.hidden * (2 * L.query + L.key_value + L.up + L.width) * L.layers + L.vocab * L.hidden
    assert found["attention_scores"] == pytest.approx(scores)
    assert found["total"] == pytest.approx(2 * 512 * matrices + scores)
    assert found["causal_total"] == pytest.approx(2 * 512 * matrices + scores / 2)


# Roofs and points


def roofline(**keys: object):  # type: ignore[no-untyped-def]
    return planner.roofline(hardware="plain-even", hardware_dirs=(PLAIN,), **keys)


@pytest.mark.parametrize(("devices", "linked", "networked"), [(1, False, False), (8, True, False), (16, True, True)])
def test_roofs_of_a_plain_chip(devices: int, linked: bool, networked: bool) -> None:
    _, found = roofline(model=L.id, devices=devices, global_batch=16, seq_len=512, framework="megatron")
    values = {r.name: (r.kind, r.value, r.achievable, r.main) for r in found}
    assert values == {
        "fp8": ("compute", 2 * PEAK, 2 * PEAK, False), "bf16": ("compute", PEAK, PEAK, True),
        "vector units": ("compute", PEAK / 10, None, False), "HBM": ("memory", BANDWIDTH, BANDWIDTH, True),
        "plain link": ("link", 100e9, 100e9, linked), "plain network": ("link", 10e9, 10e9, networked),
    }  # fmt: skip
    assert [r.value for r in found if r.kind == "compute"] == [2 * PEAK, PEAK, PEAK / 10]


def test_a_cache_is_a_roof_where_its_bandwidth_is_known() -> None:
    _, found = planner.roofline(hardware="plain-ampere", hardware_dirs=(PLAIN,), model=L.id, task="decode")
    assert {r.name: r.value for r in found if r.kind in ("memory", "cache")} == {"HBM": 1e12, "L2": 5e12}


def test_the_table_can_be_of_another_precision() -> None:
    wide, narrow = (
        summary(load_model(L.id), batch=1, seq_len=64, precision=p)["layers"][1]
        for p in (None, Precision(weight="int8", kv="fp8"))
    )
    assert narrow["weight_bytes"] * 2 == wide["weight_bytes"]
    assert narrow["kv_cache_bytes_per_token"] * 2 == wide["kv_cache_bytes_per_token"]
    assert narrow["activation_bytes"] == wide["activation_bytes"]


def test_sparse_weights_and_narrow_matmuls_have_roofs_of_their_own() -> None:
    _, sparse = roofline(model=L.id, task="decode", sparsity="2:4", compute_dtype="bf16", weight_dtype="bf16")
    values = {r.name: (r.value, r.achievable, r.main, r.dtype) for r in sparse if r.kind == "compute"}
    assert values["bf16 2:4"] == (2 * PEAK, 2 * PEAK, True, "bf16 2:4")
    assert values["bf16"] == (PEAK, PEAK, True, "bf16")  # attention has no sparse weights
    _, narrow = roofline(model=L.id, compute_dtype="fp8", seq_len=512, framework="megatron")
    assert {r.name for r in narrow if r.kind == "compute" and r.main} == {"fp8", "bf16"}


NAMES = {"attn.qkv": 1, "attn.rope": 2, "attn.core": 3, "attn.out": 4, "mlp.up": 7, "mlp.act": 8, "mlp.down": 9}


def test_every_operator_is_a_point_with_its_flops_bytes_and_time() -> None:
    found, _ = roofline(model=L.id, devices=1, micro_batch=1, global_batch=3, seq_len=1024, recompute="full",
                        framework="megatron")  # fmt: skip
    points = {(p.name, p.phase): p for p in found}
    one = layer(L, tokens=1024.0, batch=1, seq=1024, tp=1, sp=False)
    for name, at in NAMES.items():
        k, (ahead, again, back) = one[at], (points[name, w] for w in ("forward", "recompute", "backward"))
        assert (ahead.flops, ahead.bytes, ahead.time) == pytest.approx((k.flops, k.moved, k.forward))
        assert (again.flops, again.bytes, again.time) == pytest.approx((k.flops, k.moved, k.forward))
        assert ahead.count == again.count == back.count == 3 * L.layers
        assert back.time == pytest.approx(k.backward)
        assert back.flops == pytest.approx(k.flops * (2.5 if k.kind == "core" else 2.0))
        assert back.bytes == pytest.approx(_moved_back(k))
        assert ahead.achieved_flops == pytest.approx(k.flops / k.forward)
        assert ahead.intensity == pytest.approx(k.flops / k.moved)
        assert ahead.bound == _bound(k.flops, k.moved)
        assert ahead.dtype == ("vector" if k.kind == "vector" else "bf16")
    assert sum(p.share for p in found) == pytest.approx(1.0)
    total = sum(p.time * p.count for p in found)
    assert points["mlp.up", "forward"].share == pytest.approx(3 * L.layers * one[7].forward / total)


def _moved_back(k: Kernel) -> float:
    if k.kind != "matmul":
        return 2 * k.moved
    return k.moved + k.inputs + k.outputs + k.weights / WIDE * 2 * 4


def _bound(flops: float, moved: float) -> str:
    times = {"compute": flops / PEAK, "memory": moved / BANDWIDTH, "overhead": 1e-6}
    return max(times, key=lambda t: times[t])


def test_the_optimizer_is_a_point_of_what_a_rank_owns() -> None:
    n = 8_030_261_248
    for optimizer, flops in (("adamw", 10 * n / 8), ("sgd", 2 * n / 8)):
        found, _ = roofline(model=L.id, devices=8, global_batch=8, seq_len=512, zero_stage=1, optimizer=optimizer,
                            framework="megatron")  # fmt: skip
        point = next(p for p in found if p.phase == "optimizer")
        per = 46.0 if optimizer == "adamw" else 30.0
        assert point.flops == pytest.approx(flops) and point.bytes == pytest.approx(per * n / 8)
        assert point.time == pytest.approx(per * n / 8 / BANDWIDTH) and point.bound == "memory"


def test_points_of_a_decode_step_leave_out_what_engines_fuse() -> None:
    found, _ = roofline(model=L.id, task="decode", batch=4, input_len=100, output_len=100, weight_dtype="bf16")
    points = {p.name: p for p in found}
    assert "residual" not in points
    one = layer(L, tokens=4.0, batch=4, seq=150, tp=1, sp=False, decode=True)
    for name, at in NAMES.items():
        k, p = one[at], points[name]
        assert (p.flops, p.bytes, p.time, p.count) == pytest.approx((k.flops, k.moved, k.forward, L.layers))
    logits = kernel(2 * 4 * L.hidden * L.vocab, WIDE * (4 * L.hidden + L.hidden * L.vocab + 4 * L.vocab))
    assert points["head.logits"].time == pytest.approx(logits) and points["head.logits"].count == 1


# Tables that are wider or narrower than the model


def test_an_embedding_of_another_width_is_projected() -> None:
    """OPT-350m embeds 512 values and projects them to 1,024 (https://arxiv.org/abs/2205.01068)."""

    model = gpt(hidden=1024, layers=2)
    assert model.embedding is not None
    narrow = replace(model, embedding=replace(model.embedding, width=512, projection_parameters=512 * 1024 + 1024))
    counts = parameter_counts(narrow), parameter_counts(model)
    assert counts[0]["embedding"] - counts[1]["embedding"] == 512 * 1024 + 1024 - 512 * 51200
    flops = [summary(m, batch=1, seq_len=64)["forward_flops"]["total"] for m in (narrow, model)]
    assert flops[0] - flops[1] == pytest.approx(2 * 64 * 512 * 1024)


def test_a_head_may_have_a_bias() -> None:
    """Phi-2's has (https://huggingface.co/microsoft/phi-2, config.json)."""
    model = gpt(hidden=1024, layers=2, vocab=500)
    assert model.head is not None
    counts = [parameter_counts(replace(model, head=replace(model.head, bias=b)))["head"] for b in (False, True)]
    assert counts[1] - counts[0] == 500
    pooled = replace(model, head=replace(model.head, once=True, tied=False, bias=True))  # of a sequence, not a token
    assert parameter_counts(pooled)["head"] == 1024 * 500 + 500
    assert parameter_counts(replace(pooled, head=replace(model.head, once=True, tied=True)))["head"] == 0


def frames() -> tuple[float, float]:
    """Time before the layers of Whisper tiny and its decoder, and of the two convolutions of width 3 over 80 mel bands
    (https://arxiv.org/abs/2212.04356, section 2.2): over 3,000 frames, and with stride 2 to 1,500."""
    assert load_model("whisper-tiny").stacks[0].tokens == 1500
    found = planner.estimate(model="whisper-tiny", task="prefill", hardware="plain-even", hardware_dirs=(PLAIN,),
                             batch=1, input_len=4, compute_dtype="bf16", weight_dtype="bf16")  # fmt: skip
    shapes = ((3000, 240, 384), (1500, 1152, 384))
    convolutions = sum(kernel(2 * m * k * n, WIDE * (m * k + k * n + m * n)) for m, k, n in shapes)
    return found.time["forward.embedding"], convolutions


def test_frames_of_an_encoder_are_convolved_before_its_layers() -> None:
    found, convolutions = frames()
    assert convolutions + kernel(0, 4 * 2 * 384 * WIDE) <= found < 1.2 * convolutions


def test_frames_are_no_tokens() -> None:
    found, convolutions = frames()
    assert found == pytest.approx(convolutions + kernel(0, 4 * 2 * 384 * WIDE))
