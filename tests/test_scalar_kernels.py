"""How kernels, precision, frameworks and recomputation change the times of a layer, worked out on a plain chip."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from statistics import NormalDist

import pytest
from scalar import (
    BANDWIDTH,
    GPT,
    GRAD,
    LAUNCH,
    LLAMA,
    MIXTRAL,
    PEAK,
    WIDE,
    Dense,
    Kernel,
    collective,
    embedding,
    estimate,
    expert_exchange,
    head,
    kernel,
    layer,
)  # fmt: skip

ONE = {"framework": "megatron", "overlap_tp": "none", "overlap_dp": False, "recompute": "none"}
L, S = LLAMA, 1024.0


def one_layer(d: Dense = LLAMA, tokens: float = S, **shape: int) -> list[Kernel]:
    return layer(d, tokens=tokens, batch=tokens / S, seq=S, tp=1, sp=False, **shape)  # type: ignore[arg-type]


def trained(model: Dense = LLAMA, **keys: object):  # type: ignore[no-untyped-def]
    return estimate(
        **{"model": model.id, "devices": 1, "seq_len": int(S), "micro_batch": 1, "global_batch": 1, **ONE, **keys}
    )


def group(kernels: list[Kernel], name: str, time: Callable[[Kernel], float]) -> float:
    return sum(time(k) for k in kernels if k.group == name)


# Devices that are not alike


def slowest(n: int) -> float:
    """Blom 1958: the largest of n normal draws lies Φ⁻¹((n − 3/8)/(n + 1/4)) out; GPUs spread by 9 % at 64."""
    return 1 + 0.09 / 2.34 * NormalDist().inv_cdf((n - 0.375) / (n + 0.25))


def test_matmuls_run_at_the_pace_of_the_slowest_of_all_devices() -> None:
    found = trained(hardware="plain-uneven", devices=64, global_batch=64)
    slow = slowest(64)
    assert slow == pytest.approx(1.09, abs=0.002)

    def back(k: Kernel) -> float:
        if k.kind == "core":
            return kernel(2.5 * k.flops * slow, 2 * k.moved)
        if k.kind == "vector":
            return k.backward
        accumulator = k.weights / WIDE * 2 * GRAD
        return kernel(k.flops * slow, k.moved) + kernel(k.flops * slow, k.inputs + k.outputs + accumulator)

    for name in ("attention", "mlp", "norm"):
        ahead = 32 * group(one_layer(), name, lambda k: kernel(k.flops * slow, k.moved))
        ahead += kernel(0, 2 * S * L.hidden * WIDE) if name == "norm" else 0.0
        assert found.time[f"forward.{name}"] == pytest.approx(ahead)
        if name != "norm":
            assert found.time[f"backward.{name}"] == pytest.approx(32 * group(one_layer(), name, back))


def test_a_stage_waits_for_the_slowest_of_its_own_devices() -> None:
    """Four stages of 16 devices; the two in the middle are alike, so that 32 devices set their pace."""
    found = trained(hardware="plain-uneven", devices=64, pp=4, global_batch=16 * 8, zero_stage=0)
    slow = slowest(64)

    def passes(kernels: list[Kernel]) -> float:
        total = 0.0
        for k in kernels:
            flops, factor = k.flops * slow, 2.5 if k.kind == "core" else 1.0
            total += kernel(flops, k.moved)
            total += kernel(factor * flops, (1 if k.kind == "matmul" else 2) * k.moved)
            total += kernel(flops, k.inputs + k.outputs + k.weights / WIDE * 2 * GRAD) if k.kind == "matmul" else 0.0
        return total

    middle = passes(one_layer() * 8)
    first = middle + passes(embedding(L, tokens=S, tp=1, sp=False))
    last = middle + passes(head(L, tokens=S, tp=1, sp=False))
    mean = ((first + last) * slowest(16) + 2 * middle * slowest(32)) / slow / 4
    assert found.time["pipeline.bubble"] == pytest.approx(3 * mean)


@pytest.mark.parametrize(("hardware", "inside"), [("plain-even", 0.0), ("plain-uneven", 0.65)])
def test_hidden_traffic_inside_a_domain_takes_from_gpus_alone(hardware: str, inside: float) -> None:
    found = trained(hardware=hardware, devices=8, global_batch=8, overlap_dp=True, zero_stage=1, seq_len=4096)
    for key, op, width in (("gradients", "reduce_scatter", 4.0), ("parameters", "all_gather", 2.0)):
        traffic = collective(op, 8_030_261_248 * width, 8, 1)
        assert found.time.get(f"comm.dp.{key}", 0.0) == pytest.approx(inside * traffic)


@pytest.mark.parametrize(("hardware", "ahead", "back"), [
    ("plain-even", 2.0, 2.0),  # a systolic array half empty
    ("plain-uneven", (1 + 2 * 0.3125) / 1.3125, (1 + 2 * 0.125) / 1.125),  # 10/16 T exponentials/s beside 100 TFLOP/s
])  # fmt: skip
def test_heads_of_64_cost_exponentials_or_lanes(hardware: str, ahead: float, back: float) -> None:
    d = Dense("gpt2", 768, 12, 12, 12, 3072, 50257, llama=False, positions=1024, head_dim=64)
    found = trained(d, hardware=hardware, compiled=False)
    kernels = [k for k in one_layer(d) if k.group == "attention"]
    forward = sum(kernel(k.flops * (ahead if k.kind == "core" else 1), k.moved) for k in kernels)
    assert found.time["forward.attention"] == pytest.approx(12 * forward)
    backward = sum(
        kernel(2.5 * k.flops * back, 2 * k.moved) if k.kind == "core" else k.backward for k in kernels
    )  # fmt: skip
    assert found.time["backward.attention"] == pytest.approx(12 * backward)


# Attention kernels


@pytest.mark.parametrize("model", [LLAMA, GPT], ids=["llama", "gpt"])
def test_unfused_attention_moves_its_scores_and_computes_the_masked_half(model: Dense) -> None:
    """Four passes over the scores forward, two more for dropout; backward twice the FLOPs, not two and a half times,
    and twice the traffic. Scores are kept: a softmax, and with dropout its mask and output, 5·a·s²·b bytes
    (Korthikanti et al. 2022, equation 1)."""
    found = trained(model, attention="eager")
    kernels = one_layer(model)
    core = next(k for k in kernels if k.kind == "core")
    scores = S * S * model.heads
    moved = core.moved + (4 if model.llama else 6) * scores * WIDE
    rest = [k for k in kernels if k.group == "attention" and k.kind != "core"]
    ahead = kernel(2 * core.flops, moved) + sum(k.forward for k in rest)
    back = kernel(4 * core.flops, 2 * moved) + sum(k.backward for k in rest)
    assert found.time["forward.attention"] == pytest.approx(model.layers * ahead)
    assert found.time["backward.attention"] == pytest.approx(model.layers * back)
    flash = trained(model).memory["activations"]
    kept = scores * (2 if model.llama else 5) * model.layers
    assert found.memory["activations"] == pytest.approx(flash + kept)
    selective = trained(model, attention="eager", recompute="selective")
    assert selective.memory["activations"] == pytest.approx(flash)
    assert selective.time["recompute"] == pytest.approx(model.layers * kernel(2 * core.flops, moved))


def test_the_first_flash_attention_reaches_less() -> None:
    found = trained(attention="flash-1")
    core = next(k for k in one_layer() if k.kind == "core")
    rest = [k for k in one_layer() if k.group == "attention" and k.kind != "core"]
    ahead = kernel(core.flops / 0.40, core.moved) + sum(k.forward for k in rest)
    back = kernel(2.5 * core.flops / 0.30, 2 * core.moved) + sum(k.backward for k in rest)
    # an array that attention uses to 0.4 pads for free: heads of 128 fill it either way
    assert found.time["forward.attention"] == pytest.approx(32 * ahead)
    assert found.time["backward.attention"] == pytest.approx(32 * back)


# Narrow formats


def test_training_in_fp8_casts_what_it_multiplies_in_kernels_of_their_own() -> None:
    """A cast reads 16 bits and writes 8, and the transpose for the weight gradient; weights stay in 16 bits. The head
    stays wide. Transformer Engine keeps the narrow inputs."""
    found = trained(compute_dtype="fp8", grad_dtype="fp32")

    def cast(values: float) -> float:
        return values * (2 + 1 + 1) / BANDWIDTH

    def ahead(k: Kernel) -> float:
        return kernel(k.flops / 2, k.weights + k.inputs / 2 + k.outputs) + cast(k.inputs / WIDE)

    def back(k: Kernel) -> float:
        again = kernel(k.flops / 2, k.weights + k.inputs / 2 + k.outputs) + cast(k.outputs / WIDE)
        return again + kernel(k.flops / 2, k.inputs / 2 + k.outputs + k.weights / WIDE * 2 * GRAD)

    for name in ("mlp", "attention"):
        kernels = one_layer()
        forward = group(kernels, name, lambda k: ahead(k) if k.kind == "matmul" else k.forward)
        backward = group(kernels, name, lambda k: back(k) if k.kind == "matmul" else k.backward)
        assert found.time[f"forward.{name}"] == pytest.approx(32 * forward)
        assert found.time[f"backward.{name}"] == pytest.approx(32 * backward)
    top = head(L, tokens=S, tp=1, sp=False)
    assert found.time["forward.head"] == pytest.approx(group(top, "head", lambda k: k.forward))
    narrow = (L.hidden + L.query + L.hidden + L.width) * 1.0 + (2 * L.hidden + L.query + L.key_value + L.up) * WIDE
    assert found.memory["activations"] == pytest.approx(S * (32 * narrow + 2 * L.hidden * WIDE))


@pytest.mark.parametrize(("keys", "faster", "weight", "read"), [
    ({"weight_dtype": "fp8"}, 2.0, 1.0, 1.0),
    ({"weight_dtype": "int8", "compute_dtype": "bf16"}, 1.0, 1.0, 2.0),
    ({"weight_dtype": "int4", "compute_dtype": "bf16"}, 1.0, None, 2.0),
    ({"sparsity": "2:4", "compute_dtype": "bf16", "weight_dtype": "bf16"}, 2.0, 0.5 * 2.25, 2.0),
])  # fmt: skip
def test_inference_in_narrow_formats(keys: dict[str, object], faster: float, weight: float | None, read: float) -> None:
    """A fused kernel adds the cast to its own traffic; weight-only formats multiply in 16 bits."""
    found = estimate(model=L.id, task="prefill", devices=1, batch=1, input_len=int(S), **keys)
    if weight is None:
        weight = found.memory["weights"] - L.vocab * L.hidden * WIDE
        weight /= 8_030_261_248 - L.vocab * L.hidden
        assert 0.5 <= weight < 0.6  # four bits, and scales

    def ahead(k: Kernel) -> float:
        if k.kind != "matmul":
            return k.forward
        values = k.inputs / WIDE
        return kernel(k.flops / faster, k.weights / WIDE * weight + values * read + k.outputs + (read < 2) * 3 * values)

    for name in ("mlp", "attention"):
        assert found.time[f"forward.{name}"] == pytest.approx(32 * group(one_layer(), name, ahead))


# Launches


TINY = Dense("gpt2", 768, 12, 12, 12, 3072, 50257, llama=False, positions=1024, head_dim=64)


@pytest.mark.parametrize(("keys", "more", "share"), [
    ({}, 0, 1.0), ({"attention": "eager"}, 6 * 12, 1.0), ({"compute_dtype": "fp8"}, 4 * 12, 1.0),
    ({"compiled": True}, 0, 0.25), ({"recompute": "full"}, 0, 1.0), ({"framework": "jax"}, 0, 0.0),
])  # fmt: skip
def test_a_small_model_waits_for_its_launches(keys: dict[str, object], more: int, share: float) -> None:
    """Ten operators a layer, two before, eight after with the loss's six; two passes back for one forward, and a third
    where all is repeated; 55 µs each (``planner/cost/constants.py``)."""
    found = trained(TINY, seq_len=16, **keys)
    host = share * 55e-6 * (12 * 10 + 2 + 8 + more)
    times = {way: sum(v for k, v in found.time.items() if k.startswith(way)) for way in ("forward", "backward")}
    again = found.time.get("recompute", 0.0)
    passes = 3 if keys.get("recompute") == "full" else 2
    due = max(host - times["forward"], 0.0) + max(passes * host - times["backward"] - again, 0.0)
    assert found.time.get("host.launch", 0.0) == pytest.approx(due)


def test_eager_pytorch_runs_norms_gates_and_rotary_embeddings_step_by_step() -> None:
    """36 bytes a value of an RMS norm, 20 of a rotary embedding, 10 of a gate, by the kernels of LlamaRMSNorm and
    apply_rotary_pos_emb (https://github.com/huggingface/transformers, modeling_llama.py); the gate is kept too."""
    found = trained(framework="torch", compiled=False)
    norm = 65 * kernel(0, 36 * S * L.hidden)
    assert found.time["forward.norm"] == pytest.approx(norm)
    rotary = kernel(0, 20 * S * (L.query + L.key_value / 2))
    attention = [k for k in one_layer() if k.group == "attention" and k.kind != "vector"]
    assert found.time["forward.attention"] == pytest.approx(32 * (rotary + sum(k.forward for k in attention)))
    gate = kernel(0, 10 * S * L.width)
    mlp = [k for k in one_layer() if k.group == "mlp" and k.kind != "vector"]
    assert found.time["forward.mlp"] == pytest.approx(32 * (gate + sum(k.forward for k in mlp)))
    fused = trained(framework="torch", compiled=True).memory["activations"]
    assert found.memory["activations"] == pytest.approx(fused + 32 * S * L.width * WIDE)


# Selective recomputation


def test_the_policy_of_torchtitan_saves_every_second_matmul() -> None:
    """And attention, and the layer's input; all else runs again (https://github.com/pytorch/torchtitan)."""
    found = trained(framework="torch", recompute="selective")
    again = sum(k.forward * {"matmul": 0.5, "vector": 1.0, "core": 0.0}[k.kind] for k in one_layer())
    assert found.time["recompute"] == pytest.approx(32 * again)
    outputs = 0.5 * (L.query + L.key_value + L.hidden + L.up + L.hidden) + L.query + L.hidden
    assert found.memory["activations"] == pytest.approx(S * WIDE * (32 * outputs + 2 * L.hidden))


def test_a_policy_saves_every_second_matmul_of_each_expert_a_token_visits() -> None:
    d = MIXTRAL
    found = trained(d, framework="torch", recompute="selective")
    experts = d.top_k * (d.up + d.hidden)
    outputs = 0.5 * (d.query + d.key_value + d.hidden + d.experts + experts) + d.query + d.hidden
    assert found.memory["activations"] == pytest.approx(S * WIDE * (32 * outputs + 2 * d.hidden))


def test_the_policy_of_maxtext_saves_attention_and_repeats_the_mlp() -> None:
    """But its last matmul, whose output no gradient reads."""
    found = trained(framework="jax", recompute="selective")
    up = next(k for k in one_layer() if k.group == "mlp")
    again = up.forward + sum(k.forward for k in one_layer() if k.kind == "vector")
    assert found.time["recompute"] == pytest.approx(32 * again)


def test_what_the_policy_of_maxtext_keeps() -> None:
    found = trained(framework="jax", recompute="selective")
    outputs = L.query + L.key_value + L.hidden + L.query + L.hidden
    assert found.memory["activations"] == pytest.approx(S * WIDE * (32 * outputs + 2 * L.hidden))


def test_the_input_of_a_layer_that_a_policy_saves_is_divided_under_sequence_parallelism_alone() -> None:
    whole, part = (
        trained(framework="torch", recompute="selective", devices=2, tp=2, sequence_parallel=sp).memory["activations"]
        for sp in (False, True)
    )
    assert whole - part == pytest.approx(S * WIDE * (32 + 2) * L.hidden / 2)


@pytest.mark.parametrize(("modules", "again", "dropped"), [
    ("core_attn", ("core",), 0), ("layernorm", ("norm",), 2 * L.hidden), ("mlp", ("up", "act"), 3 * L.width),
    ("layernorm,mlp", ("norm", "up", "act"), 2 * L.hidden + 3 * L.width),
])  # fmt: skip
def test_a_module_runs_again_and_gives_up_what_it_hands_on(
    modules: str, again: tuple[str, ...], dropped: float
) -> None:
    """--recompute-modules of Megatron-LM: the inputs of what follows are not kept, those of the module are."""
    found, plain = trained(recompute="selective", recompute_modules=modules), trained()
    kernels = one_layer()
    mlp = [k for k in kernels if k.group == "mlp"]
    parts = {"core": [k for k in kernels if k.kind == "core"], "norm": [k for k in kernels if k.group == "norm"],
             "up": mlp[:1], "act": mlp[1:2]}  # fmt: skip
    assert found.time["recompute"] == pytest.approx(32 * sum(k.forward for a in again for k in parts[a]))
    less = plain.memory["activations"] - found.memory["activations"]
    assert less == pytest.approx(32 * S * WIDE * dropped)


@pytest.mark.parametrize("modules", ["moe_act", "moe"])
def test_experts_run_again_with_or_without_their_exchange(modules: str) -> None:
    d = MIXTRAL
    found = trained(d, devices=4, ep=4, global_batch=4, recompute="selective", recompute_modules=modules)
    plain = trained(d, devices=4, ep=4, global_batch=4)
    block = one_layer(d, ep=4)[-7:-1]
    again = block if modules == "moe" else [block[3]]
    exchange = 2 * expert_exchange(d, tokens=S, ep=4) if modules == "moe" else 0.0
    assert found.time["recompute"] == pytest.approx(32 * (sum(k.forward for k in again) + exchange))
    dropped = d.top_k * (d.width + (d.hidden + d.up) * (modules == "moe"))
    assert plain.memory["activations"] - found.memory["activations"] == pytest.approx(32 * S * WIDE * dropped)


def test_the_busiest_expert_rank_sets_the_pace() -> None:
    """Where the experts are, all it is sent: their kernels, the rows they keep and the exchange of them."""
    d = MIXTRAL
    found, even = (trained(d, devices=4, ep=4, global_batch=4, imbalance=i) for i in (1.5, 1.0))
    grouped = [k for k in one_layer(d, ep=4) if k.group == "experts"]
    more = [replace(k, flops=1.5 * k.flops, inputs=1.5 * k.inputs, outputs=1.5 * k.outputs) for k in grouped]
    assert found.time["forward.experts"] == pytest.approx(32 * sum(k.forward for k in more))
    assert even.time["forward.experts"] == pytest.approx(32 * sum(k.forward for k in grouped))
    act = one_layer(d, ep=4)[-7:-1][3]
    busy = replace(act, inputs=1.5 * act.inputs, outputs=1.5 * act.outputs)
    assert found.time["forward.mlp"] - even.time["forward.mlp"] == pytest.approx(32 * (busy.forward - act.forward))
    assert found.time["comm.ep"] == pytest.approx(32 * 4 * expert_exchange(d, tokens=1.5 * S, ep=4))
    rows = d.top_k * (d.hidden + d.up + d.width)  # of up, of the activation and of down
    kept = found.memory["activations"] - even.memory["activations"]
    assert kept == pytest.approx(32 * 0.5 * S * WIDE * rows)


@pytest.mark.parametrize(("loss", "framework", "per_token"), [
    ("eager", "megatron", 6.0 * L.vocab), ("eager", "torch", 12.0 * L.vocab), ("eager", "jax", 4.0 * L.vocab),
    ("fused", "megatron", 4.0 * L.vocab), ("chunked", "torch", 6.0 * L.hidden),
])  # fmt: skip
def test_what_a_loss_keeps_of_logits(loss: str, framework: str, per_token: float) -> None:
    assert trained(loss=loss, framework=framework).memory["logits"] == pytest.approx(S * per_token)


def test_an_overhead_is_paid_by_every_kernel() -> None:
    """A token at a time, a layer is its weights and nine launches."""
    found = estimate(model=L.id, task="decode", devices=1, batch=1, input_len=1, output_len=2, weight_dtype="bf16")
    launches = (32 * 9 + 1 + 3) * LAUNCH  # two residual adds are fused away
    read = (8_030_261_248 - L.vocab * L.hidden) * WIDE / BANDWIDTH
    flops = 2 * (8_030_261_248 - L.vocab * L.hidden) / PEAK
    assert sum(found.time.values()) == pytest.approx(launches + read + flops, rel=2e-3)
    assert math.isclose(found.row["tpot_s"], sum(found.time.values()))
