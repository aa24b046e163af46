"""Roofline, kernel efficiency, cost and the fit: laws, known answers, and fits of known parameters."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.catalogue.class_files import class_ids, load_class
from planner.catalogue.classes import EfficiencyClass
from planner.catalogue.hardware import KernelEfficiency, Price, Provenance
from planner.catalogue.loader import accelerator_ids, load_accelerator, load_system
from planner.errors import BadInputError
from planner.measure.fit import fit_collective, fit_soft_roofline, fit_work, matmul_work
from planner.supply.accelerator import peak_flops, vector_flops
from planner.supply.cluster import Cluster
from planner.supply.cost import (
    choose_price,
    cluster_price,
    rated_watts,
    usd_per_hour,
    usd_per_million_tokens,
)
from planner.supply.efficiency import (
    GLOBAL_DEFAULT,
    KERNELS,
    kernel_efficiency,
    quantisation_bytes,
    sustained_fraction,
)
from planner.supply.roofline import (
    BOUND_NAMES,
    attainable_flops,
    bound_by,
    kernel_time,
    ridge_point,
    soft_maximum,
)

work = st.floats(0.0, 1e30)
rate = st.floats(1e9, 1e16)
share = st.floats(0.01, 1.0)
sharp = st.one_of(st.floats(0.3, 20.0), st.just(math.inf))


def test_ridge_of_h100_in_bf16() -> None:
    h100 = load_accelerator("h100-sxm5-80gb")
    assert ridge_point(peak_flops(h100, "bf16"), h100.bandwidth) == pytest.approx(989.4e12 / 3.35e12)


@given(intensity=st.floats(0.0, 1e6), peak=rate, bandwidth=rate)
def test_attainable_is_the_lower_roof(intensity: float, peak: float, bandwidth: float) -> None:
    got = float(attainable_flops(intensity, peak, bandwidth))
    assert got == min(peak, intensity * bandwidth)
    assert attainable_flops(ridge_point(peak, bandwidth), peak, bandwidth) == pytest.approx(peak)


@given(flops=work, moved=work, peak=rate, bandwidth=rate, ec=share, em=share, r=sharp, t0=st.floats(0.0, 1e-3))
def test_kernel_time_is_above_each_roof_and_finite(
    flops: float, moved: float, peak: float, bandwidth: float, ec: float, em: float, r: float, t0: float
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        time = float(
            kernel_time(
                flops, moved, peak_flops=peak, bandwidth=bandwidth,
                compute_efficiency=ec, memory_efficiency=em, sharpness=r, overhead=t0,
            )
        )  # fmt: skip
    assert math.isfinite(time)
    assert time >= flops / (ec * peak) * (1 - 1e-12)
    assert time >= moved / (em * bandwidth) * (1 - 1e-12)
    if flops == moved == 0:
        assert time == 0


@given(flops=work, moved=work, peak=rate, bandwidth=rate, r=sharp, faster=st.floats(1.0, 100.0))
def test_a_faster_chip_is_never_slower(
    flops: float, moved: float, peak: float, bandwidth: float, r: float, faster: float
) -> None:
    slow = kernel_time(flops, moved, peak_flops=peak, bandwidth=bandwidth, sharpness=r)
    for p, w in ((peak * faster, bandwidth), (peak, bandwidth * faster)):
        assert kernel_time(flops, moved, peak_flops=p, bandwidth=w, sharpness=r) <= slow * (1 + 1e-9)


@given(rows=st.lists(st.tuples(work, work, sharp), min_size=1, max_size=20))
def test_a_row_among_many_is_the_row_alone(rows: list[tuple[float, float, float]]) -> None:
    flops, moved, r = (np.array(x) for x in zip(*rows, strict=True))
    many = kernel_time(flops, moved, peak_flops=1e15, bandwidth=3e12, sharpness=r, overhead=1e-6)
    each = [float(kernel_time(f, b, peak_flops=1e15, bandwidth=3e12, sharpness=s, overhead=1e-6)) for f, b, s in rows]
    assert many == pytest.approx(np.array(each), rel=1e-12)
    order = np.random.default_rng(1).permutation(len(rows))
    again = kernel_time(flops[order], moved[order], peak_flops=1e15, bandwidth=3e12, sharpness=r[order], overhead=1e-6)
    assert np.array_equal(again, many[order])


def test_soft_maximum_has_the_known_special_cases() -> None:
    assert soft_maximum(3.0, 4.0, 1.0) == pytest.approx(7.0)
    assert soft_maximum(3.0, 4.0, 2.0) == pytest.approx(5.0)
    assert soft_maximum(3.0, 4.0, np.inf) == 4.0
    assert soft_maximum([0.0, 1e300], [0.0, 1e300], [1.8, 1.0]).tolist() == [0.0, 2e300]


def test_what_bounds_a_kernel() -> None:
    codes = bound_by([2.0, 1.0, 1.0], [1.0, 2.0, 1.0], overhead=[0.5, 0.5, 3.0])
    assert [BOUND_NAMES[c] for c in codes] == ["compute", "memory", "overhead"]


def test_a_dtype_the_chip_lacks_is_refused_with_what_it_has() -> None:
    with pytest.raises(BadInputError, match=r"a100-sxm4-80gb has no fp8 matrix rate.*bf16"):
        peak_flops(load_accelerator("a100-sxm4-80gb"), "fp8")


def test_efficiency_is_looked_up_from_chip_to_class_to_assumption() -> None:
    h100, hopper = load_accelerator("h100-sxm5-80gb"), load_class("nvidia-hopper")
    own = kernel_efficiency(h100, "matmul", "bf16", defaults=hopper)
    assert own == h100.kernels["matmul"]["bf16"]
    assert own.provenance.basis == "measured"
    assert kernel_efficiency(h100, "matmul", "fp16", defaults=hopper) == own
    bare = replace(h100, kernels={})
    assert kernel_efficiency(bare, "matmul", "bf16", defaults=hopper) == hopper.kernels["matmul"]["bf16"]
    assert kernel_efficiency(bare, "matmul", "tf32", defaults=hopper) == hopper.kernels["matmul"]["default"]
    assert kernel_efficiency(bare, "matmul", "bf16") == GLOBAL_DEFAULT
    matmul_only = EfficiencyClass("x", kernels={"matmul": {"default": own}})
    assert kernel_efficiency(bare, "grouped_matmul", "bf16", defaults=matmul_only) == own
    with pytest.raises(BadInputError, match="matmul"):
        kernel_efficiency(h100, "matmull", "bf16")


@pytest.mark.parametrize("name", accelerator_ids())
def test_every_accelerator_answers_for_every_kernel(name: str) -> None:
    chip = load_accelerator(name)
    defaults = load_class(chip.efficiency_class)
    assert vector_flops(chip) > 0
    for dtype in chip.peak_flops:
        assert 0.2 < sustained_fraction(chip, dtype, defaults=defaults) <= 1
        for kernel in KERNELS:
            found = kernel_efficiency(chip, kernel, dtype, defaults=defaults)
            assert found is not GLOBAL_DEFAULT
            assert 0 < found.compute <= 1
            assert 0 < found.memory <= 1.3  # above 1 where a cache serves part of the traffic
            assert 0 < found.overhead < 1e-4
            assert 0.4 < found.sharpness < 20


# share of peak that long runs hold in matmuls; sources in hardware/classes/nvidia-*.yaml, matmul_energy
SUSTAINED = [
    ("a100-sxm4-80gb", "bf16", 0.85, 1.0),
    ("a100-pcie-80gb", "bf16", 0.72, 0.80),
    ("h100-sxm5-80gb", "bf16", 0.62, 0.70),
    ("h100-sxm5-96gb-hbm2e", "bf16", 0.43, 0.53),
    ("b200-sxm-180gb", "bf16", 0.46, 0.54),
    ("mi250x-64gb", "bf16", 0.45, 0.55),
    ("gb300-288gb", "fp8", 0.58, 1.0),  # what a Llama 3 70B step leaves is a lower bound: its exchange is in it
]


@pytest.mark.parametrize(("name", "dtype", "low", "high"), SUSTAINED)
def test_one_energy_a_flop_explains_the_sustained_rates(name: str, dtype: str, low: float, high: float) -> None:
    chip = load_accelerator(name)
    assert low <= sustained_fraction(chip, dtype, defaults=load_class(chip.efficiency_class)) <= high


def test_quantising_reads_sixteen_bits_and_writes_fewer() -> None:
    assert quantisation_bytes(10, 20, dtype="fp8") == 200 * 3.0
    assert quantisation_bytes(10, 20, dtype="nvfp4") == 200 * 2.5625
    assert quantisation_bytes(10, 20, dtype="bf16") == 0.0


def synthetic(true: tuple[float, float, float, float]) -> tuple[np.ndarray, ...]:
    m, n, k = (np.array(x) for x in zip(*[
        (m, n, k) for m in (1, 16, 128, 512, 4096, 32768) for n, k in ((4096, 4096), (8192, 1024), (1024,
        16384))
    ], strict=True))  # fmt: skip
    flops, moved = matmul_work(m, n, k, dtype="bf16")
    seconds = kernel_time(
        flops, moved, peak_flops=1e15, bandwidth=3e12,
        compute_efficiency=true[0], memory_efficiency=true[1], overhead=true[2], sharpness=true[3],
    )  # fmt: skip
    return m, n, k, flops, moved, seconds


@pytest.mark.parametrize("true", [(0.8, 0.85, 3e-6, 2.0), (0.5, 0.6, 1e-5, 1.2), (0.65, 0.9, 2e-6, 4.0)])
def test_the_fit_recovers_known_parameters(true: tuple[float, float, float, float]) -> None:
    *_, flops, moved, seconds = synthetic(true)
    fitted = fit_soft_roofline(flops, moved, seconds, peak_flops=1e15, bandwidth=3e12)
    assert fitted[:3] == pytest.approx(true[:3], rel=0.05)
    assert fitted[3] == pytest.approx(true[3], rel=0.45)  # only rows near the ridge tell it
    noise = np.random.default_rng(3).lognormal(0.0, 0.05, len(seconds))
    noise[4] = 4.0  # an outlier must not turn the fit
    again = fit_soft_roofline(flops, moved, seconds * noise, peak_flops=1e15, bandwidth=3e12)
    assert again[:3] == pytest.approx(true[:3], rel=0.15)


def test_the_fit_of_a_collective_recovers_known_parameters() -> None:
    size, ranks = (x.ravel() for x in np.meshgrid(2.0 ** np.arange(9, 34, 2), [2.0, 4.0, 8.0]))
    seconds = soft_maximum(8e-6 + 1.5e-6 * (ranks - 1), 2 * (ranks - 1) / ranks * size / (0.75 * 450e9), 0.6)
    fitted = fit_collective("all_reduce", size, ranks, seconds, bandwidth=450e9)
    assert fitted == pytest.approx([0.75, 8e-6, 1.5e-6, 0.6], rel=0.05)


def test_measured_gemms_are_fitted_with_errors_on_rows_held_out() -> None:
    h100 = load_accelerator("h100-sxm5-80gb")
    _, _, _, flops, moved, _ = synthetic((0.8, 0.85, 3e-6, 2.0))
    roofs = {"peak_flops": h100.peak_flops["bf16"], "bandwidth": h100.bandwidth}
    seconds = kernel_time(flops, moved, compute_efficiency=0.7, memory_efficiency=0.8, overhead=4e-6, sharpness=1.8,
                          **roofs)  # fmt: skip
    fit = fit_work(flops, moved, seconds, **roofs)
    assert (fit.compute, fit.memory) == pytest.approx((0.7, 0.8), rel=0.05)
    assert fit.rows == len(flops)
    assert fit.median_error < 0.02
    efficiency: KernelEfficiency = fit.efficiency("my machine")
    assert efficiency.provenance.basis == "measured"


def price(usd: float, day: str, kind: str = "on-demand") -> Price:
    return Price(usd, "p", kind, "r", day, "test")


def test_the_price_is_the_median_of_the_newest_observations() -> None:
    prices = [
        price(9.0, "2024-01-01"),
        *(price(u, "2026-05-24") for u in (4.0, 2.0, 3.0, 5.0)),
        price(0.5, "2026-09-01", "spot"),
    ]
    chosen = choose_price(prices, today=date(2026, 6, 3))
    assert chosen is not None
    assert (chosen.observation.usd_per_hour, chosen.considered, chosen.stale_days) == (3.0, 4, 10)
    spot = choose_price(prices, today=date(2026, 9, 2), kind="spot")
    assert spot is not None
    assert spot.observation.usd_per_hour == 0.5
    assert choose_price([], today=date(2026, 9, 2)) is None
    with pytest.raises(BadInputError, match="'soon' is not YYYY-MM-DD"):
        choose_price([price(1.0, "soon")], today=date(2026, 9, 2))


def test_cost_of_tokens_and_watts() -> None:
    system = load_system("dgx-h100")
    cluster = Cluster(load_accelerator(system.accelerator), system, 16)
    chosen = cluster_price(cluster, today=date(2026, 9, 10))
    assert chosen is not None
    assert usd_per_hour(chosen, [1, 16])[1] == pytest.approx(16 * chosen.observation.usd_per_hour)
    assert np.isnan(usd_per_hour(None, 8))
    assert usd_per_million_tokens(3.6, [1000.0, 0.0]).tolist() == [1.0, math.inf]
    assert rated_watts(cluster, 8) == pytest.approx(5600.0)


@settings(max_examples=30)
@given(devices=st.floats(1.0, 1e6), flops=st.floats(1e20, 6e13 * 1e13))
def test_no_overflow_at_a_million_devices_and_ten_trillion_parameters(devices: float, flops: float) -> None:
    time = kernel_time(flops / devices, flops / 1e3, peak_flops=1e15, bandwidth=8e12, sharpness=0.5)
    assert np.isfinite(time)


def test_every_class_says_where_its_figures_come_from() -> None:
    for name in class_ids():
        loaded = load_class(name)
        assert set(KERNELS) - {"grouped_matmul_training"} <= set(loaded.kernels) <= set(KERNELS)
        for table in loaded.kernels.values():
            assert "default" in table
            for entry in table.values():
                assert entry.provenance.source
                assert isinstance(entry.provenance, Provenance)
