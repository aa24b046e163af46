"""What a class of chips changes: attention kernels of another generation, exponentials, switches that sum."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from scalar import LINK, LLAMA, MIXTRAL, PLAIN, WIDE, Dense, Kernel, collective, estimate, head, kernel, layer

import planner
from planner.catalogue.classes import EfficiencyClass, MatmulEnergy
from planner.catalogue.hardware import KernelEfficiency, Provenance
from planner.catalogue.models import load_model
from planner.cost.kernels import rates
from planner.demand.costs import local_weights
from planner.demand.transformer import demand
from planner.demand.workload import Precision
from planner.supply.cluster import Cluster
from planner.supply.efficiency import kernel_efficiency, sustained_fraction

L, S = LLAMA, 4096.0


def attention(model: Dense = LLAMA) -> tuple[Kernel, float, float]:
    """The core of a layer, and the time of its other attention operators, forward and backward."""
    kernels = layer(model, tokens=S, batch=1, seq=S, tp=1, sp=False)
    core = next(k for k in kernels if k.kind == "core")
    rest = [k for k in kernels if k.group == "attention" and k.kind != "core"]
    return core, sum(k.forward for k in rest), sum(k.backward for k in rest)


@pytest.mark.parametrize(("hardware", "framework", "kind", "ahead", "back"), [
    ("plain-hopper", "torch", "flash", 0.35, 0.35 * 63 / 73),  # FlashAttention-2: 35 % of an H100 (arXiv 2407.08608)
    ("plain-hopper", "megatron", "flash", 1.0, 1.0),
    ("plain-ampere", "torch", "flash", 1.0, 1.0),
    ("plain-hopper", "megatron", "flash-1", 0.40 * 0.35 / 0.62, 0.30 * 0.35 / 0.62),
    ("plain-ampere", "megatron", "flash-1", 0.40, 0.30),
])  # fmt: skip
def test_attention_kernels_of_a_generation(hardware: str, framework: str, kind: str, ahead: float, back: float) -> None:
    found = estimate(model=L.id, hardware=hardware, devices=1, seq_len=int(S), global_batch=1, micro_batch=1,
                     framework=framework, attention=kind, recompute="none", compiled=True)  # fmt: skip
    core, forward, backward = attention()
    assert found.time["forward.attention"] == pytest.approx(32 * (forward + kernel(core.flops / ahead, core.moved)))
    due = backward + kernel(2.5 * core.flops / back, 2 * core.moved)
    assert found.time["backward.attention"] == pytest.approx(32 * due)


@pytest.mark.parametrize(("hardware", "rate"), [("plain-ampere", 8.0), ("plain-hopper", 16.0)])
def test_exponentials_a_second_by_generation(hardware: str, rate: float) -> None:
    """64 or 128 multiply-adds of a vector unit to 16 special functions; one exponential a score, which two matmuls of
    2·128 FLOPs share forward."""
    model = "gpt2"
    found = estimate(model=model, hardware=hardware, task="prefill", batch=1, input_len=1024)
    x = (100e12 / (2 * 2 * 128)) / (10e12 / rate)
    slower = (1 + 2 * x) / (1 + x)  # heads of 64
    d = Dense(model, 768, 12, 12, 12, 3072, 50257, llama=False, positions=1024, head_dim=64)
    kernels = layer(d, tokens=1024.0, batch=1, seq=1024, tp=1, sp=False)
    due = sum(kernel(k.flops * (slower if k.kind == "core" else 1), k.moved) for k in kernels if k.group == "attention")
    assert found.time["forward.attention"] == pytest.approx(12 * due)


@pytest.mark.parametrize("tokens", [16, 2048])
def test_a_switch_that_sums_halves_what_a_rank_sends(tokens: int) -> None:
    """(n + 1)/n of the message, not 2·(n − 1)/n, for 40 µs; engines have their one-shot kernels too."""
    found = planner.estimate(model=L.id, hardware="plain-hopper", hardware_dirs=(PLAIN,), task="prefill", devices=8,
                             tp=8, batch=1, input_len=tokens)  # fmt: skip

    def fastest(size: float) -> float:
        ring = collective("all_reduce", size, 8, 1)
        return min(ring, 40e-6 + 9 / 8 * size / LINK, 2e-6 + 7 * 0.5e-6 + 7 * size / LINK)

    due = 65 * fastest(tokens * L.hidden * WIDE) + fastest(L.hidden * WIDE)
    assert found.time["comm.tp"] == pytest.approx(due)


@pytest.mark.parametrize(("hardware", "overlap"), [("plain-hopper", "all"), ("plain-ampere", "backward")])
def test_a_group_across_domains_is_not_pipelined_with_its_matmuls(hardware: str, overlap: str) -> None:
    """Transformer Engine maps its peers' buffers, inside a domain; what hides behind a weight gradient across domains
    takes 0.65 of its time from it."""
    found = estimate(model=L.id, hardware=hardware, devices=16, tp=16, seq_len=int(S), global_batch=1, micro_batch=1,
                     framework="megatron", overlap_tp=overlap, recompute="none", sequence_parallel=False)  # fmt: skip
    one = collective("all_reduce", S * L.hidden * WIDE, 16, 1)
    if hardware == "plain-hopper":  # the switch sums inside a domain
        far = 20e-6 + 3e-6 + max(2 * 1 / 2 * (S * L.hidden * WIDE / 8) / 10e9, 9 / 8 * S * L.hidden * WIDE / LINK)
        one = min(one, 40e-6 + far)
    slow = 1 + 0.09 / 2.34 * NormalDist().inv_cdf((16 - 0.375) / 16.25)

    def late(kernels: list[Kernel], blocks: int) -> float:
        window = sum(
            kernel(slow * k.flops, k.inputs + k.outputs + k.weights / WIDE * 8) for k in kernels if k.kind == "matmul"
        )
        traffic = blocks * one
        return max(traffic - window, 0.0) + 0.65 * min(traffic, window)

    shape = {"tokens": S, "tp": 16, "sp": False}
    back = 32 * late(layer(L, batch=1, seq=S, **shape), 2) + one + late(head(L, **shape), 1)  # type: ignore[arg-type]
    assert found.time["comm.tp"] == pytest.approx(66 * one + back)


@pytest.mark.parametrize("tp", [1, 2])
def test_latent_attention_exchanges_heads_of_keys_and_values_under_context_parallelism(tp: int) -> None:
    """Ranks of cp pass on expanded keys of 192 and values of 128 a head (DeepSeek-V3, section 4.2): a ring behind
    attention, a gather before it, or four exchanges of heads."""
    heads, qk, v, layers = 128 // tp, 192, 128, 61
    held = 512 / 4 * WIDE * heads

    def found(kind: str) -> float:
        shape = {"devices": 4 * tp, "tp": tp, "cp": 4, "seq_len": 512, "global_batch": 1, "micro_batch": 1}
        e = estimate(model="deepseek-v3", **shape, overlap_tp="none", recompute="none", framework="megatron",
                     context_exchange=kind)  # fmt: skip
        return float(e.time["comm.cp"])

    gather, scatter = (collective(op, held * 4 * (qk + v), 4, tp) for op in ("all_gather", "reduce_scatter"))
    assert found("all_gather") == pytest.approx(layers * (2 * gather + scatter))
    once = sum(collective("all_to_all", held * width, 4, tp) for width in (qk, qk, v, v))
    assert found("all_to_all") == pytest.approx(layers * 2 * once)
    slower, tokens = 512 / 320, 128.0  # heads of 192 padded to 256 lanes
    flops = 2 * tokens * 256 * heads * (qk + v) * slower
    core = kernel(flops, WIDE * heads * (tokens * (qk + v) + 512 * (qk + v)))
    hop = collective("send_recv", held * (qk + v), 4, tp)
    ring = 3 * (max(hop - core / 4, 0.0) + max(2 * hop - 2.5 * core / 4, 0.0))
    assert found("ring") == pytest.approx(layers * ring)


def test_frozen_weights_are_divided_under_zero_3() -> None:
    for zero, ranks in ((1, 1), (3, 4)):
        found = estimate(model=L.id, devices=4, seq_len=512, global_batch=4, lora_rank=16, zero_stage=zero,
                         framework="megatron", recompute="none")  # fmt: skip
        adapters = 16 * 32 * ((4096 + 6144) + 2 * 4096 + (4096 + 28672) + (14336 + 4096))
        assert found.memory["weights"] == pytest.approx(2 * (8_030_261_248 + adapters) / ranks)


# Power, and fits above the roof


def hot(power: float | None, picojoules: float | None) -> Cluster:
    """A plain chip with a power limit, of a class whose FLOPs cost energy."""
    base: Cluster = estimate(model="gpt2", devices=1, seq_len=16, global_batch=1).resolved.cluster
    energy = None if picojoules is None else MatmulEnergy(picojoules * 1e-12, Provenance("plain"), 1.15)
    chip = replace(base.accelerator, power=power)
    return replace(base, accelerator=chip, efficiency=replace(base.efficiency, energy=energy))


@pytest.mark.parametrize(("power", "picojoules", "wide", "narrow"), [
    (50.0, 1.0, 0.5, 0.25 / 0.5**1.15), (200.0, 1.0, 1.0, 1.0),
    (None, 1.0, 1.0, 1.0), (50.0, None, 1.0, 1.0),
])  # fmt: skip
def test_a_power_limit_holds_matmuls_of_a_long_run(
    power: float | None, picojoules: float | None, wide: float, narrow: float
) -> None:
    """TDP over the energy of a FLOP, which falls with the width of an operand, times the peak."""
    c = hot(power, picojoules)
    for dtype, due in (("bf16", wide), ("fp8", narrow)):
        assert sustained_fraction(c.accelerator, dtype, defaults=c.efficiency) == pytest.approx(due)
        long, burst = (
            rates(c, Precision(compute=dtype), direction="forward", sustained=s).compute.tolist() for s in (True, False)
        )
        assert long[:2] == pytest.approx([due, due]) and long[2:6] == [1.0] * 4  # attention and vectors are not held
        assert burst == [1.0] * 8
    assert sustained_fraction(c.accelerator, "int4", defaults=c.efficiency) == 1.0  # not a rate of the chip


def test_a_fit_above_the_bandwidth_is_a_cache_and_gives_no_more_than_the_memory() -> None:
    c = hot(None, None)
    base = c.efficiency.kernels["matmul"]["default"]
    tables = {**c.efficiency.kernels, "matmul": {"default": replace(base, memory=1.3)}}
    found = rates(replace(c, efficiency=replace(c.efficiency, kernels=tables)), Precision(), direction="forward",
                  sustained=False)  # fmt: skip
    assert found.memory.tolist() == [1.0] * 8
    assert found.assumed["matmul"].startswith("matmul reaches 100% of peak FLOP/s, 130% of bandwidth (assumed: ")


def test_efficiencies_of_a_kernel_are_looked_up_from_near_to_far() -> None:
    """The very dtype, its twin of equal rate, the default; then the kernel most like it; then an assumption."""
    c = hot(None, None)

    def one(compute: float) -> KernelEfficiency:
        return KernelEfficiency(compute, 1.0, 0.0, 1.0, Provenance("plain"))

    tables = {"matmul": {"fp16": one(0.5), "default": one(0.4)}, "vector": {"default": one(0.3)}}
    defaults = EfficiencyClass("x", kernels={**tables, "attention_prefill": {"fp8": one(0.2)}})
    bare = replace(c.accelerator, kernels={})
    due = {("matmul", "fp16"): 0.5, ("matmul", "bf16"): 0.5, ("matmul", "fp8"): 0.4, ("grouped_matmul", "bf16"): 0.5,
           ("optimizer", "fp32"): 0.3, ("attention_backward", "mxfp8"): 0.2,
           ("attention_decode", "bf16"): 0.77}  # fmt: skip
    for (kind, dtype), compute in due.items():
        assert kernel_efficiency(bare, kind, dtype, defaults=defaults).compute == compute, kind
    own = replace(c.accelerator, kernels={"matmul": {"bf16": one(0.9)}})
    assert kernel_efficiency(own, "matmul", "bf16", defaults=defaults).compute == 0.9
    assert kernel_efficiency(own, "matmul", "fp8", defaults=defaults).compute == 0.4


# Each kind of kernel by its own figures: compute, memory and launch [µs] of ``tests/data/plain/classes``
OWN = {"matmul": (0.9, 0.8, 2), "experts": (0.7, 0.6, 3), "prefill": (0.5, 0.4, 4), "backward": (0.45, 0.35, 5),
       "decode": (0.3, 0.25, 6), "vector": (1.0, 0.55, 7)}  # fmt: skip


def own(kind: str, flops: float, moved: float) -> float:
    compute, memory, launch = OWN[kind]
    return flops / (compute * 100e12) + moved / (memory * 1e12) + launch * 1e-6


def own_time(k: Kernel, *, core: str) -> float:
    name = {"core": core, "vector": "vector"}.get(k.kind, "experts" if k.group == "experts" else "matmul")
    return own(name, k.flops, k.moved)


def own_backward(k: Kernel, *, eager: bool) -> float:
    if k.kind == "core":
        return own("matmul" if eager else "backward", (2 if eager else 2.5) * k.flops, 2 * k.moved)
    if k.kind == "vector":
        return own("vector", 0.0, 2 * k.moved)
    kind = "experts" if k.group == "experts" else "matmul"
    return own(kind, k.flops, k.moved) + own(kind, k.flops, k.inputs + k.outputs + k.weights / WIDE * 8)


@pytest.mark.parametrize("attention_kind", ["flash", "eager"])
def test_each_kind_of_kernel_has_figures_of_its_own(attention_kind: str) -> None:
    eager = attention_kind == "eager"
    kernels = layer(MIXTRAL, tokens=1024.0, batch=1, seq=1024, tp=1, sp=False)
    if eager:  # two batched matmuls over all scores, which pass four times
        core = next(i for i, k in enumerate(kernels) if k.kind == "core")
        scores = 4 * 1024 * 1024 * MIXTRAL.heads * WIDE
        kernels[core] = replace(kernels[core], flops=2 * kernels[core].flops, outputs=kernels[core].outputs + scores)
    common = {"model": MIXTRAL.id, "hardware": "plain-turing", "devices": 1, "attention": attention_kind}
    found = estimate(**common, seq_len=1024, micro_batch=1, global_batch=1, recompute="none", framework="megatron")
    for group in ("attention", "experts", "mlp", "other"):
        here = [k for k in kernels if k.group == group]
        ahead = sum(own_time(k, core="matmul" if eager else "prefill") for k in here)
        assert found.time[f"forward.{group}"] == pytest.approx(32 * ahead), group
        back = sum(own_backward(k, eager=eager) for k in here)
        assert found.time[f"backward.{group}"] == pytest.approx(32 * back), group
    parameters = found.resolved.demand.total_parameters
    assert found.time["optimizer"] == pytest.approx(46 * parameters / (0.65 * 1e12))
    prefill = estimate(**common, task="prefill", batch=1, input_len=1024)
    here = [k for k in kernels if k.group == "attention"]
    due = sum(own_time(k, core="matmul" if eager else "prefill") for k in here)
    assert prefill.time["forward.attention"] == pytest.approx(32 * due)
    decode = estimate(**common, task="decode", batch=4, input_len=1000, output_len=48)
    step = layer(MIXTRAL, tokens=4.0, batch=4, seq=1024, tp=1, sp=False, decode=True)
    for group in ("attention", "experts"):
        due = sum(own_time(k, core="decode") for k in step if k.group == group)
        assert decode.time[f"forward.{group}"] == pytest.approx(32 * due), group


@pytest.mark.parametrize(("tp", "ep"), [(1, 1), (2, 1), (1, 8), (2, 8)])
def test_biases_go_with_what_they_are_added_to(tp: int, ep: int) -> None:
    """gpt-oss-20b: biases of 64 query and 8 key heads over tp, of the output whole, of 32 experts over ep."""
    table = demand(load_model("gpt-oss-20b")).sections[1].table
    held = dict(
        zip(
            table.names,
            local_weights(table, tp=np.array([float(tp)]), ep=np.array([float(ep)]), etp=np.ones(1))[0],
            strict=True,
        )
    )
    h, heads, kv, e = 2880, 64 * 64, 2 * 8 * 64, 32
    assert held["attn.qkv"] == pytest.approx((h + 1) * (heads + kv) / tp)
    assert held["attn.out"] == pytest.approx(heads / tp * h + h)
    assert held["moe.up"] == pytest.approx(e / ep * (h + 1) * 2 * h)
    assert held["moe.down"] == pytest.approx(e / ep * (h + 1) * h)
