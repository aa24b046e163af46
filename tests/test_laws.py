"""Laws that must hold whatever the calibration: counts, divisions, bubbles, monotony, and freedom from overflow."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from builders import cluster, faster, gpt, llama, random_layouts, serving, training
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.catalogue.models import load_model
from planner.catalogue.schema import Attention, Model, Moe
from planner.cost.inference import inference_pass
from planner.cost.layouts import Layouts, layouts
from planner.cost.schedules import SCHEDULES, Pipeline, StageTimes
from planner.cost.training import Step, training_step
from planner.demand.cache import cache_values
from planner.demand.costs import local_weights, op_costs, saved_bytes
from planner.demand.memory import sharded, state_bytes_per_parameter
from planner.demand.ops import Op, OpTable
from planner.demand.optimizer import optimizer
from planner.demand.transformer import demand
from planner.demand.workload import Precision, work

power = st.sampled_from([1, 2, 4, 8, 16])
small = settings(max_examples=40, deadline=None)


def layer_table(model: Model) -> OpTable:
    return next(s.table for s in demand(model).sections if s.role == "layer")


def held(table: OpTable, *, tp: int = 1, ep: int = 1, etp: int = 1) -> np.ndarray:
    """Parameters of each operator on one device."""
    sizes = {"tp": tp, "ep": ep, "etp": etp}
    return local_weights(table, **{k: np.array([float(v)]) for k, v in sizes.items()})[0]


# Counts


@given(m=st.integers(1, 10**6), n=st.integers(1, 10**5), k=st.integers(1, 10**5))
def test_a_matmul_is_2mnk_flops_and_moves_each_operand_once(m: int, n: int, k: int) -> None:
    table = OpTable((Op("matmul", "mlp", "matmul", "column", k=k, n=n),))
    c = op_costs(table, work(batch=1, q_len=m), Precision())
    assert c.flops[0, 0] == pytest.approx(2.0 * m * n * k)
    assert c.bytes_moved[0, 0] == pytest.approx(2.0 * (m * k + k * n + m * n))


@given(m=st.integers(1, 4096), weight=st.sampled_from(["bf16", "fp8", "int4"]))
def test_narrow_weights_shrink_weight_bytes_only(m: int, weight: str) -> None:
    table = OpTable((Op("matmul", "mlp", "matmul", "column", k=512, n=256),))
    wide = op_costs(table, work(batch=1, q_len=m), Precision())
    narrow = op_costs(table, work(batch=1, q_len=m), Precision(weight=weight))
    ratio = Precision(weight=weight).bytes_of("weight") / 2.0
    assert narrow.weight_bytes[0, 0] == pytest.approx(wide.weight_bytes[0, 0] * ratio)
    assert narrow.flops[0, 0] == wide.flops[0, 0]
    assert narrow.input_bytes[0, 0] == wide.input_bytes[0, 0]


@given(s=st.sampled_from([512, 1024, 2048, 8192]), b=st.integers(1, 8), t=st.sampled_from([2, 4, 8, 16]))
def test_activation_memory_of_a_gpt_layer(s: int, b: int, t: int) -> None:
    """Korthikanti et al. 2022, equations 1 to 4, https://arxiv.org/abs/2205.05198."""
    h, a = 6144, 64
    table = layer_table(gpt(hidden=h, heads=a, layers=1))

    def saved(tp: int, sequence_parallel: int, *, core: bool = False) -> float:
        w = work(batch=b, q_len=s, tp=tp, sequence_parallel=sequence_parallel)
        return float(saved_bytes(table, w, width=2.0, attention="eager", recompute_core=core).sum())

    assert saved(1, 0) == pytest.approx(s * b * h * (34 + 5 * a * s / h))
    assert saved(t, 0) == pytest.approx(s * b * h * (10 + 24 / t + 5 * a * s / (h * t)))
    assert saved(t, 1) == pytest.approx(s * b * h * (34 + 5 * a * s / h) / t)
    assert saved(t, 1, core=True) == pytest.approx(s * b * h * 34 / t)


def test_forward_flops_of_a_gpt_are_24_b_s_h_squared_a_layer() -> None:
    """24·B·s·h²·(1 + s/(6h)) a layer, Narayanan et al. 2021, equation 2, https://arxiv.org/abs/2104.04473."""
    s, b, h = 2048, 4, 6144
    c = op_costs(layer_table(gpt(hidden=h, heads=64)), work(batch=b, q_len=s), Precision(), attention="eager")
    assert c.flops.sum() == pytest.approx(24 * b * s * h**2 * (1 + s / (6 * h)))


# Resident state


@pytest.mark.parametrize(("grad", "total"), [("bf16", 16.0), ("fp32", 18.0)])
def test_adam_in_mixed_precision_is_16_or_18_bytes_a_parameter(grad: str, total: float) -> None:
    per = state_bytes_per_parameter(Precision(grad=grad), optimizer("adam"))
    assert per.weight + per.grad + per.optimizer == total
    assert per.optimizer == 12.0


@given(n=st.sampled_from([1, 2, 8, 64, 1024]), stage=st.integers(0, 3))
def test_zero_divides_what_its_stage_says(n: int, stage: int) -> None:
    """Rajbhandari et al. 2019, figure 1: (2+2+12)Ψ, 4Ψ+12Ψ/N, 2Ψ+14Ψ/N, 16Ψ/N."""
    per = state_bytes_per_parameter(Precision(grad="bf16"), optimizer("adam"))
    parts = sharded(np.array([1e9]), per, zero_stage=stage, ranks=np.array([float(n)]))
    due = {0: 16.0, 1: 4.0 + 12.0 / n, 2: 2.0 + 14.0 / n, 3: 16.0 / n}[stage]
    assert sum(float(v[0]) for v in parts.values()) == pytest.approx(due * 1e9)


@given(tp=power)
def test_shards_sum_to_the_whole(tp: int) -> None:
    """What is divided comes back together; what is replicated (norms, row biases) is held by each."""
    table = layer_table(llama(kv_heads=16))
    whole, part = held(table), held(table, tp=tp)
    divided = np.array([o.shard in ("column", "row", "vocab") for o in table.ops])
    assert part[divided] * tp == pytest.approx(whole[divided])
    assert part[~divided] == pytest.approx(whole[~divided])
    assert whole.sum() == table.parameters.sum()


@given(ep=power, etp=power, tp=power)
def test_experts_divide_over_the_ranks_that_share_them_and_not_over_tp(ep: int, etp: int, tp: int) -> None:
    table = layer_table(llama(moe=Moe(16, 2, 1408)))
    experts = np.array([o.kernel == "grouped_matmul" for o in table.ops])
    part = held(table, tp=tp, ep=ep, etp=etp)
    assert part[experts] * ep * etp == pytest.approx(table.parameters[experts])
    assert part[~experts] == pytest.approx(held(table, tp=tp)[~experts])


@given(tp=power, cp=st.sampled_from([1, 2, 4]), b=st.integers(1, 8))
def test_flops_of_all_ranks_sum_to_the_whole(tp: int, cp: int, b: int) -> None:
    table = layer_table(llama(kv_heads=16))
    whole = op_costs(table, work(batch=b, q_len=4096), Precision())
    part = op_costs(table, work(batch=b, q_len=4096, tp=tp, cp=cp, sequence_parallel=1), Precision())
    assert part.flops.sum() * tp * cp == pytest.approx(whole.flops.sum())


@given(tp=st.sampled_from([1, 2, 4, 8, 16]))
def test_key_value_heads_are_replicated_beyond_their_number(tp: int) -> None:
    table, kv = layer_table(llama(kv_heads=4)), 4
    cached = cache_values(table, tp=np.array([float(tp)]), kv_len=np.array([1000.0])).sum()
    assert cached == pytest.approx(2 * kv * 64 * 1000 / min(tp, kv))
    qkv = table.names.index("attn.qkv")
    assert held(table, tp=tp)[qkv] == pytest.approx(1024 * (1024 / tp + 2 * kv * 64 / min(tp, kv)))


@given(tp=power)
def test_the_latent_cache_is_replicated_over_tp(tp: int) -> None:
    from planner.catalogue.schema import LatentAttention, Layer, Mlp, Stack

    mixer = LatentAttention(16, 512, 512, 128, 64, 128)
    layer = Layer("latent", mixer, Mlp(2816, gated=True), (("rms", 1024), ("rms", 1024)))
    model = replace(llama(), stacks=(Stack("decoder", "decoder", 1024, (layer,), (0,)),))
    cached = cache_values(layer_table(model), tp=np.array([float(tp)]), kv_len=np.array([1000.0])).sum()
    assert cached == pytest.approx((512 + 64) * 1000)


@given(length=st.integers(1, 10**6))
def test_a_sliding_window_caps_the_cache(length: int) -> None:
    table = layer_table(llama(window=4096))
    cached = cache_values(table, tp=np.array([1.0]), kv_len=np.array([float(length)])).sum()
    assert cached == pytest.approx(2 * 4 * 64 * min(length, 4096))


# Pipelines


@given(p=st.integers(1, 64), rounds=st.integers(1, 32), v=st.integers(1, 12), f=st.floats(1e-6, 10.0))
def test_bubbles_of_the_schedules(p: int, rounds: int, v: int, f: float) -> None:
    """(p-1)/m of the ideal m(F+B), and over v when interleaved, where m is a multiple of p. Narayanan et al. 2021,
    section 2.2."""
    m = p * rounds

    def share(schedule: str, chunks: int) -> float:
        one = np.array([f])
        pipeline = Pipeline(pp=np.array([p]), vpp=np.array([chunks]), micro_batches=np.array([m]))
        got = SCHEDULES[schedule].bubble(StageTimes(forward=one, backward=2 * one, weight_gradient=one), pipeline)
        return float(got[0]) / (m * 3 * f)

    assert share("1f1b", 1) == pytest.approx((p - 1) / m)
    assert share("interleaved", v) == pytest.approx((p - 1) / (v * m))
    assert share("zb-h1", 1) <= share("1f1b", 1) + 1e-15


IDEAL = ("forward", "backward", "recompute", "host", "comm.tp", "comm.cp", "comm.ep", "comm.etp")


def ideal(step: Step) -> np.ndarray:
    """Time of the micro-batches alone: no bubble, sends, data-parallel exchange or optimizer."""
    return np.sum([v for k, v in step.time.items() if k.startswith(IDEAL)], axis=0)


@pytest.mark.parametrize(
    ("p", "v", "m"), [(2, 1, 8), (4, 1, 4), (4, 1, 64), (8, 1, 16), (4, 2, 16), (2, 4, 8), (8, 2, 8)]
)
def test_bubble_of_a_step_with_equal_stages(p: int, v: int, m: int) -> None:
    x = layouts(pp=p, vpp=v, global_batch=m)
    step = training_step(demand(gpt(layers=16, bare=True)), cluster(p), x, training())
    assert step.time["pipeline.bubble"] / ideal(step) == pytest.approx((p - 1) / (v * m))


# One and many


def same(one: Step, many: Step, row: int) -> None:
    for pick in ("time", "memory"):
        whole, single = getattr(many, pick), getattr(one, pick)
        for name in whole:
            due = single[name][0] if name in single else 0.0
            assert whole[name][row] == pytest.approx(due, rel=1e-12, abs=1e-15), name


@pytest.mark.parametrize("model", [gpt(), llama(moe=Moe(8, 2, 704))], ids=["dense", "experts"])
def test_row_i_of_many_training_layouts_equals_it_alone(model: Model) -> None:
    x, d, c, run = random_layouts(60, seed=1), demand(model), cluster(512), training()
    many = training_step(d, c, x, run)
    for i in range(len(x)):
        same(training_step(d, c, x.take([i]), run), many, i)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_row_i_of_many_inference_layouts_equals_it_alone(phase: str) -> None:
    x, d, c, run = random_layouts(60, seed=2), demand(llama()), cluster(512), serving()
    many = inference_pass(d, c, x, run, phase=phase)
    for i in range(len(x)):
        one = inference_pass(d, c, x.take([i]), run, phase=phase)
        assert many.total_time[i] == pytest.approx(one.total_time[0], rel=1e-12)
        assert many.peak_memory[i] == pytest.approx(one.peak_memory[0], rel=1e-12)


@small
@given(seed=st.integers(0, 2**31))
def test_permuting_layouts_permutes_answers(seed: int) -> None:
    x, d, c, run = random_layouts(40, seed=seed), demand(gpt()), cluster(512), training()
    order = np.random.default_rng(seed).permutation(len(x))
    straight, shuffled = training_step(d, c, x, run), training_step(d, c, x.take(order), run)
    assert shuffled.step_time == pytest.approx(straight.step_time[order], rel=1e-12)
    assert shuffled.peak_memory == pytest.approx(straight.peak_memory[order], rel=1e-12)


# Monotony and roofs


def slowed(x: Layouts, *, factor: float, which: str) -> np.ndarray:
    """Layouts that train slower on faster hardware."""
    d, c, run = demand(gpt()), cluster(512), training()
    before = training_step(d, c, x, run).step_time
    after = training_step(d, faster(c, **{which: factor}), x, run).step_time
    return np.flatnonzero(after > before * (1 + 1e-12))


@small
@given(seed=st.integers(0, 2**31), factor=st.floats(1.0, 8.0), which=st.sampled_from(["bandwidth", "peak", "links"]))
def test_faster_hardware_never_trains_slower(seed: int, factor: float, which: str) -> None:
    assert slowed(random_layouts(30, seed=seed), factor=factor, which=which).size == 0


@small
@given(seed=st.integers(0, 2**31), factor=st.floats(1.0, 8.0), which=st.sampled_from(["bandwidth", "peak", "links"]))
def test_faster_hardware_never_infers_slower(seed: int, factor: float, which: str) -> None:
    x, d, c, run = random_layouts(30, seed=seed), demand(llama()), cluster(512), serving()
    for phase in ("prefill", "decode"):
        before = inference_pass(d, c, x, run, phase=phase).total_time
        after = inference_pass(d, faster(c, **{which: factor}), x, run, phase=phase).total_time
        assert (after <= before * (1 + 1e-12)).all()


def test_a_step_is_never_above_the_compute_roof() -> None:
    model, c, x = gpt(), cluster(512), random_layouts(200, seed=3)
    step = training_step(demand(model), c, x, training())
    flops = 6.0 * sum(s.table.parameters.sum() * s.count for s in demand(model).sections if s.role == "layer")
    least = flops * x.global_batch * 2048 / (x.devices * c.accelerator.peak_flops["bf16"])
    assert (step.step_time >= least).all()


def test_a_decode_step_is_never_above_the_memory_roof() -> None:
    c, d = cluster(8), demand(llama())
    for tp in (1, 2, 4, 8):
        one = inference_pass(d, c, layouts(tp=tp), serving(batch=1), phase="decode")
        layers = [s for s in d.sections if s.role == "layer"]
        weights = sum(held(s.table, tp=tp).sum() * s.count for s in layers)
        assert one.total_time[0] >= 2.0 * weights / c.accelerator.bandwidth


@small
@given(seed=st.integers(0, 2**31), key=st.sampled_from(["batch", "input_len"]))
def test_more_work_is_never_faster(seed: int, key: str) -> None:
    x, d, c = random_layouts(30, seed=seed), demand(llama()), cluster(512)
    for phase in ("prefill", "decode"):
        passes = [inference_pass(d, c, x, serving(**{key: n}), phase=phase) for n in (512, 1024, 8192)]
        for less, more in pairwise(passes):
            assert (less.total_time <= more.total_time * (1 + 1e-12)).all()
            assert (less.peak_memory <= more.peak_memory * (1 + 1e-12)).all()


@small
@given(seed=st.integers(0, 2**31))
def test_a_longer_sequence_trains_slower_and_holds_more(seed: int) -> None:
    x, d, c = random_layouts(30, seed=seed), demand(gpt()), cluster(512)
    steps = [training_step(d, c, x, training(seq_len=s)) for s in (512, 2048, 8192)]
    for less, more in pairwise(steps):
        assert (less.step_time <= more.step_time * (1 + 1e-12)).all()
        assert (less.peak_memory <= more.peak_memory * (1 + 1e-12)).all()


@pytest.mark.parametrize("offload", ["optimizer", "activations"])
def test_offload_holds_less_and_takes_no_less_time(offload: str) -> None:
    x, d, c = random_layouts(60, seed=5), demand(gpt()), cluster(512)
    here, there = training_step(d, c, x, training()), training_step(d, c, x, training(offload=offload))
    assert (there.peak_memory <= here.peak_memory * (1 + 1e-12)).all()
    assert (there.step_time >= here.step_time * (1 - 1e-12)).all()


@small
@given(seed=st.integers(0, 2**31))
def test_more_replicas_at_a_fixed_batch_need_no_more_memory(seed: int) -> None:
    """Communicators aside, which a lone replica does not have."""
    x = random_layouts(30, seed=seed, dp=False)
    x = replace(x, global_batch=x.micro_batch * 64)
    d, run = demand(gpt()), training()
    last: np.ndarray | None = None
    for dp in (1, 2, 4, 8, 16, 32, 64):
        wider = replace(x, dp=np.full(len(x), dp))
        memory = training_step(d, cluster(8 * 8 * 2 * 64), wider, run).memory
        used = np.sum([v for k, v in memory.items() if k != "context"], axis=0)
        assert last is None or (used <= last * (1 + 1e-12)).all()
        last = used


@small
@given(seed=st.integers(0, 2**31))
def test_recomputing_more_keeps_less_and_takes_longer(seed: int) -> None:
    x, d, c, run = random_layouts(30, seed=seed), demand(gpt()), cluster(512), training(attention="eager")
    steps = [training_step(d, c, replace(x, recompute=np.full(len(x), mode)), run) for mode in (0, 1, 2)]
    kept = [s.memory["activations"] for s in steps]
    again = [s.time["recompute"] for s in steps]
    assert (kept[0] >= kept[1]).all() and (kept[1] >= kept[2]).all()
    assert (again[0] == 0).all() and (again[0] <= again[1]).all() and (again[1] <= again[2]).all()


# Ledgers and extremes


def test_ledgers_sum_to_their_totals_and_hold_no_negative_term() -> None:
    x = random_layouts(200, seed=4)
    step = training_step(demand(gpt()), cluster(512), x, training(), detail=True)
    for ledger, total in ((step.time, step.step_time), (step.memory, step.peak_memory)):
        assert np.sum(list(ledger.values()), axis=0) == pytest.approx(total)
        assert all((v >= 0).all() for v in ledger.values())
    coarse = training_step(demand(gpt()), cluster(512), x, training(), detail=False)
    assert coarse.step_time == pytest.approx(step.step_time, rel=1e-12)


def huge_layouts() -> Layouts:
    return layouts(
        tp=[1, 8, 8, 64], pp=[1, 16, 125, 1], dp=[10**6, 7812, 1000, 15625], global_batch=10**6,
        zero_stage=[3, 1, 0, 3], sequence_parallel=[0, 1, 1, 1], recompute=[0, 1, 2, 2],
    )  # fmt: skip


def test_a_million_devices_and_ten_trillion_parameters_do_not_overflow() -> None:
    model = gpt(hidden=131072, heads=1024, layers=50)
    assert demand(model).total_parameters > 1e13
    big = cluster(10**6)
    with np.errstate(all="raise", under="ignore"):
        step = training_step(demand(model), big, huge_layouts(), training(seq_len=131072))
        served = inference_pass(demand(model), big, huge_layouts(), serving(batch=10**7), phase="decode")
    for value in (step.step_time, step.peak_memory, served.total_time, served.peak_memory):
        assert np.isfinite(value).all() and (value > 0).all()


@pytest.mark.parametrize("name", ["llama-3.1-8b", "mixtral-8x7b", "gpt3-175b", "transformer-base"])
def test_catalogue_models_give_finite_positive_steps(name: str) -> None:
    step = training_step(
        demand(load_model(name)), cluster(8), layouts(tp=[1, 8], dp=[8, 1], global_batch=8), training()
    )
    assert np.isfinite(step.step_time).all() and (step.step_time > 0).all()


def test_a_window_as_long_as_the_sequence_changes_nothing() -> None:
    w = work(batch=2, q_len=4096)
    full = op_costs(layer_table(llama()), w, Precision()).flops
    assert op_costs(layer_table(llama(window=4096)), w, Precision()).flops == pytest.approx(full)
    assert isinstance(llama().stacks[0].kinds[0].mixer, Attention)
