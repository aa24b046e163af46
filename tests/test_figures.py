"""Figures, by their data and labels: scales, roofs and values, areas, sums, capacity, what is written."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from planner.cost.points import points, roofs
from planner.cost.roofs import device_roofs
from planner.errors import BadInputError
from planner.planning.estimate import Estimate, estimate_scenario
from planner.planning.sensitivity import Sensitivity
from planner.present.figures import (
    heatmap_figure,
    memory_figure,
    pareto_figure,
    roofline_figure,
    roofs_figure,
    save,
    scaling_figure,
    tornado_figure,
    waterfall_figure,
)
from planner.present.figures.pareto import layout_name, pareto_front
from planner.present.figures.placement import Board, Box, Segment, spread
from planner.present.figures.roofline import AREA, MARKER_SIZE
from planner.present.figures.style import percent, seconds

GIB = 2.0**30


@pytest.fixture(scope="module")
def decode() -> Estimate:
    given = {"task": "decode", "model": "llama-3.1-8b", "hardware": "h100-sxm5-80gb", "batch": 16}
    return estimate_scenario(given, today=date(2026, 11, 1))


@pytest.fixture(scope="module")
def train() -> Estimate:
    given = {"task": "train", "model": "llama-3.1-8b", "hardware": "h100-sxm5-80gb", "devices": 8, "tp": 2,
             "global_batch": 16, "seq_len": 4096}  # fmt: skip
    return estimate_scenario(given, today=date(2026, 11, 1))


def roofline(e: Estimate) -> Figure:
    return roofline_figure(points(e.job), roofs(e.job), title="t", subtitle="s")


def written(figure: Figure) -> list[str]:
    """Every text of a figure, notes and labels."""
    out = [t.get_text() for t in figure.texts]
    for axes in figure.axes:
        out += [t.get_text() for t in axes.texts] + [t.get_text() for t in axes.get_yticklabels()]
    for legend in figure.legends:
        out += [t.get_text() for t in legend.get_texts()]
    return out


def test_roofline_is_logarithmic_and_slopes_rise_at_45_degrees(decode):
    figure = roofline(decode)
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    figure.canvas.draw()
    a, b = axes.transData.transform([(10.0, 1e13), (100.0, 1e14)])
    assert (b - a)[0] == pytest.approx((b - a)[1], rel=1e-6)


def test_roofs_are_labelled_with_their_values(decode):
    texts = written(roofline(decode))
    assert "bf16, fp16: 989.4 TFLOP/s" in texts
    assert "HBM3: 3.35 TB/s" in texts
    assert any(t.startswith("NVLink4") and "450 GB/s one way" in t for t in texts)
    assert any(t.startswith("achievable") and t.endswith("TB/s") for t in texts)


def test_the_ridge_lies_at_peak_over_bandwidth(decode):
    chip = decode.resolved.cluster.accelerator
    axes = roofline(decode).axes[0]
    peak = chip.peak_flops["bf16"]
    ceiling = next(line for line in axes.lines if len(line.get_xdata()) == 2 and set(line.get_ydata()) == {peak})
    assert min(ceiling.get_xdata()) == pytest.approx(peak / chip.bandwidth)


def test_dot_areas_are_proportional_to_the_share_of_the_time(train):
    found = {f"_{p.name} {p.phase}": p for p in points(train.job)}
    drawn = roofline(train).axes[0].collections
    assert len(drawn) >= 8
    for dots in drawn:
        p = found[dots.get_label()]
        x, y = dots.get_offsets()[0]
        assert (x, y) == pytest.approx((p.intensity, p.achieved_flops))
        marker = {"compute": "o", "memory": "s", "overhead": "^", "communication": "D"}[p.bound]
        assert dots.get_sizes()[0] / MARKER_SIZE[marker] == pytest.approx(AREA * p.share)


def test_only_points_with_five_percent_are_named(train):
    texts = "\n".join(written(roofline(train)))
    for p in points(train.job):
        if p.flops > 0 and p.bytes > 0 and p.phase == "forward":
            assert (f"{p.name} {percent(p.share)}" in texts.splitlines()) == (p.share >= 0.05)


def test_what_is_not_drawn_is_told(train):
    light = sum(p.share for p in points(train.job) if p.flops == 0 and p.bound != "communication")
    assert any(t.startswith("Not drawn") and percent(light) in t for t in written(roofline(train)))


def test_a_point_above_its_roof_is_flagged_in_words(decode):
    found = points(decode.job)
    up = next(p for p in found if p.name == "mlp.up")
    wrong = [replace(p, achieved_flops=p.achieved_flops * 5) if p is up else p for p in found]
    ceilings = roofs(decode.job)
    texts = written(roofline_figure(wrong, ceilings, title="t"))
    assert any("Above its roof" in t and "mlp.up" in t for t in texts)
    assert not any("Above its roof" in t for t in written(roofline(decode)))


@pytest.mark.parametrize(
    "chip", ["v100-sxm2-32gb", "apple-m2-ultra-192gb", "b200-sxm-180gb", "tpu-v5e-16gb", "rtx-4090-24gb"]
)
@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b"])
def test_a_roofline_of_any_chip_is_drawn_with_its_labels_apart(chip, model):
    given = {"task": "decode", "model": model, "hardware": chip, "batch": 8}
    figure = roofline(estimate_scenario(given, today=date(2026, 11, 1)))
    figure.canvas.draw()
    names = [t for t in figure.axes[0].texts if t.get_text().endswith("%")]
    boxes = [t.get_window_extent() for t in names]
    clashes = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert clashes == []
    page = figure.bbox
    assert all(page.x0 <= t.get_window_extent().x0 and t.get_window_extent().x1 <= page.x1 for t in figure.texts)


def test_memory_bars_are_the_ledger_and_the_capacity_line_stands_at_the_capacity(train):
    capacity = train.resolved.cluster.accelerator.capacity
    figure = memory_figure({"one": train.memory, "two": train.memory}, capacity=capacity, title="t")
    axes = figure.axes[0]
    widths = {bar.get_label(): bar.patches[0].get_width() for bar in axes.containers}
    assert widths == {f"_{k}": pytest.approx(v / GIB) for k, v in train.memory.items()}
    ends = [max(b.patches[0].get_x() + b.patches[0].get_width() for b in axes.containers)]
    assert ends == [pytest.approx(sum(train.memory.values()) / GIB)]
    assert [line.get_xdata()[0] for line in axes.lines] == [pytest.approx(capacity / GIB)]
    assert f"capacity {capacity / GIB:.1f} GiB" in written(figure)


def test_a_long_title_shrinks_into_the_page(train):
    figure = memory_figure({"one": train.memory}, capacity=GIB, title="long title " * 20, subtitle="and more " * 40)
    figure.canvas.draw()
    assert all(t.get_window_extent().x1 <= figure.bbox.x1 for t in figure.texts)


def test_memory_that_does_not_fit_is_said_so(train):
    texts = written(memory_figure({"one": train.memory}, capacity=GIB, title="t"))
    assert any("× capacity" in t for t in texts)


def test_long_row_names_are_folded_and_totals_stand_clear_of_the_capacity(tmp_path):
    ledgers = {"a layout of many words " * 4: {"weights": 60 * GIB}, "short": {"weights": 20 * GIB}}
    figure = memory_figure(ledgers, capacity=61 * GIB, title="t")
    figure.canvas.draw()
    axes = figure.axes[0]
    assert all(name.get_window_extent().x0 >= 0 for name in axes.get_yticklabels())
    line = axes.transData.transform((61.0, 0.0))[0]
    totals = [t.get_window_extent() for t in axes.texts if t.get_text() in ("60.0 GiB", "20.0 GiB")]
    assert len(totals) == 2 and all(box.x1 < line or box.x0 > line for box in totals)


def test_a_waterfall_is_titled_with_names_and_the_engine_is_not_idle():
    given = {"task": "serve", "model": "llama-3.1-8b", "hardware": "h100-sxm5-80gb", "concurrency": 8, "engine": "vllm"}
    served = estimate_scenario(given, today=date(2026, 6, 1))
    figure = waterfall_figure(served)
    assert "Llama 3.1 8B: serve on 1 × NVIDIA H100 SXM5 80GB" in written(figure)
    names = [t.get_text() for t in figure.legends[0].get_texts()]
    assert "engine" in names and "idle" not in names


def test_waterfall_bars_follow_one_another_and_sum_to_the_total(train):
    axes = waterfall_figure(train).axes[0]
    bars = [c.patches[0] for c in axes.containers if hasattr(c, "patches")]
    *terms, total = bars
    scale = 1.0 if sum(train.time.values()) >= 1 else 1e3
    edge = 0.0
    for bar in terms:
        assert bar.get_x() == pytest.approx(edge, abs=1e-9)
        edge += bar.get_width()
    assert total.get_width() == pytest.approx(edge) == pytest.approx(sum(train.time.values()) * scale)


def test_waterfall_says_its_interval_and_merges_small_terms(train):
    texts = written(waterfall_figure(train))
    total = sum(train.time.values())
    assert any(seconds(total * train.interval.low) in t and seconds(total * train.interval.high) in t for t in texts)
    small = [v for v in train.time.values() if 0 < v < 0.01 * total]
    assert len(small) < 2 or f"other ({len(small)} terms)" in texts


ROWS = [
    {"tp": 1, "pp": 1, "dp": 4, "step_time_s": 4.0, "memory_peak_bytes": 60 * GIB, "fits": "yes"},
    {"tp": 2, "pp": 1, "dp": 2, "step_time_s": 5.0, "memory_peak_bytes": 40 * GIB, "fits": "yes"},
    {"tp": 2, "pp": 1, "dp": 2, "step_time_s": 5.5, "memory_peak_bytes": 45 * GIB, "fits": "yes"},
    {"tp": 2, "pp": 2, "dp": 1, "step_time_s": 9.0, "memory_peak_bytes": 20 * GIB, "fits": "yes"},
    {"tp": 1, "pp": 4, "dp": 1, "step_time_s": 3.0, "memory_peak_bytes": 95 * GIB, "fits": "no"},
]


def test_pareto_front_is_what_nothing_beats():
    front = pareto_front(ROWS[:4], "memory_peak_bytes", "step_time_s")
    assert [r["step_time_s"] for r in front] == [9.0, 5.0, 4.0]
    figure = pareto_figure(ROWS, title="t")
    line = next(line for line in figure.axes[0].lines if line.get_label() == "_front")
    assert list(line.get_xdata()) == pytest.approx([20, 40, 60])
    assert list(line.get_ydata()) == pytest.approx([9, 5, 4])
    assert "tp 2 pp 2" in written(figure)


def test_pareto_refuses_a_column_it_has_no_axis_for():
    with pytest.raises(BadInputError, match="step_time_s"):
        pareto_figure(ROWS, y="step_time", title="t")


def test_pareto_of_layouts_that_do_not_fit_has_no_front_and_of_none_is_refused():
    assert "does not fit" in written(pareto_figure(ROWS[4:], title="t"))
    with pytest.raises(BadInputError, match="at least one"):
        pareto_figure([], title="t")


def test_layout_names_leave_out_what_is_one():
    assert layout_name(ROWS[3]) == "tp 2 pp 2"
    assert layout_name({"tp": 1, "zero_stage": 0, "recompute": "none"}) == "one device"
    assert layout_name({"tp": 8, "zero_stage": 1, "recompute": "full"}) == "tp 8 zero 1 recompute full"


def test_heat_map_cells_hold_the_best_time_and_what_does_not_fit():
    texts = written(heatmap_figure(ROWS, title="t"))
    assert {"4.00 s", "5.00 s", "9.00 s", "best", "+25 %", "95.0 GiB"} <= set(texts)
    assert "5.50 s" not in texts and "3.00 s" not in texts


def test_heat_map_of_one_cell_and_of_none_that_fits():
    assert "best" in written(heatmap_figure(ROWS[:1], title="t"))
    assert "95.0 GiB" in written(heatmap_figure(ROWS[4:], title="t"))


def test_tornado_bars_are_the_changes_in_percent_strongest_first():
    given = [Sensitivity("weak", 1.01, 0.99, 1.0, 0.2), Sensitivity("strong", 1.2, 0.9, 1.0, 0.2)]
    figure = tornado_figure(given, title="t")
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["strong", "weak"]
    widths = [c.patches[0].get_width() for c in axes.containers]
    assert widths == pytest.approx([20.0, -10.0, 1.0, -1.0])
    assert {"+20.0 %", "−10.0 %", "20 % less", "20 % more"} <= set(written(figure))


def test_scaling_says_the_share_of_perfect_scaling():
    rows = [{"devices": 16, "tokens_per_s": 1.6e5}, {"devices": 8, "tokens_per_s": 1e5}]
    assert {"100 %", "80 %"} <= set(written(scaling_figure(rows, title="t")))


def test_roofs_of_several_devices_bend_at_their_ridges(decode):
    cluster, precision = decode.resolved.cluster, decode.resolved.precision
    figure = roofs_figure({"H100": device_roofs(cluster, precision)}, title="t")
    line = next(line for line in figure.axes[0].lines if line.get_label() == "_H100")
    chip = cluster.accelerator
    assert line.get_xdata()[1] == pytest.approx(chip.peak_flops["bf16"] / chip.bandwidth)
    assert any("H100" in t and "989.4 TFLOP/s" in t and "ridge 295" in t for t in written(figure))
    with pytest.raises(BadInputError, match="1 to 7"):
        roofs_figure({}, title="t")


@pytest.mark.parametrize("suffix", ["svg", "pdf", "png"])
def test_the_same_figure_is_the_same_bytes(decode, tmp_path, suffix):
    one, two = (save(roofline(decode), tmp_path / f"{n}.{suffix}") for n in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_text_of_an_svg_can_be_selected(decode, tmp_path):
    text = save(roofline(decode), tmp_path / "r.svg").read_text()
    assert "HBM3: 3.35 TB/s" in text and "<dc:date>" not in text


@pytest.mark.parametrize("name", ["r.jpg", "r"])
def test_another_suffix_is_refused_with_what_is_allowed(decode, tmp_path, name):
    with pytest.raises(BadInputError, match=r"\.svg, \.pdf, \.png"):
        save(roofline(decode), tmp_path / name)


def test_percentages_and_seconds_for_people():
    assert [percent(v) for v in (0.234, 0.0042, 0.00001)] == ["23 %", "0.4 %", "< 0.1 %"]
    assert [seconds(v) for v in (14.0, 0.0013, 2e-6, 120.0)] == ["14.0 s", "1.30 ms", "2.00 µs", "120 s"]


def test_crowded_labels_are_spread_by_the_least_moves():
    placed = spread([0.0, 1.0, 50.0], 10.0)
    assert placed == pytest.approx([-4.5, 5.5, 50.0])
    assert np.diff(sorted(spread([3.0, 3.0, 3.0, 4.0], 5.0))).min() == pytest.approx(5.0)


def test_a_label_goes_to_a_free_place_inside_the_frame():
    frame = Box(0, 0, 200, 100)
    board = Board(frame, boxes=[Box(100, 0, 200, 100)])
    box = board.place(95, 50, radius=3, width=50, height=9)
    assert box.overlap(Box(100, 0, 200, 100)) == 0 and box.outside(frame) == 0


def test_the_part_of_a_line_inside_a_box():
    assert Segment(-5, 5, 15, 5).inside(Box(0, 0, 10, 10)) == pytest.approx(10.0)
    assert Segment(0, 0, 10, 10).inside(Box(0, 0, 10, 10)) == pytest.approx(10 * math.sqrt(2))
    assert Segment(-5, 20, 15, 20).inside(Box(0, 0, 10, 10)) == 0.0


def test_a_gallery_script_runs(tmp_path):
    script = Path(__file__).parents[1] / "plots" / "plot_tornado.py"
    gallery = tmp_path / "plots" / "gallery"
    gallery.mkdir(parents=True)
    code = f"import sys, runpy, pathlib; sys.path.insert(0, {str(script.parent)!r}); import _gallery\n"
    code += f"_gallery.GALLERY = pathlib.Path({str(gallery)!r}); runpy.run_path({str(script)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in gallery.iterdir()) == ["tornado.png", "tornado.svg"]
