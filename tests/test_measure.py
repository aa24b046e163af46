"""Calibration of a user's own machine: a table of measured matmuls in, the block of a profile out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import Cli

from planner.catalogue.loader import load_accelerator
from planner.errors import BadInputError
from planner.measure.fit import matmul_work
from planner.measure.profile import calibrated_profile, read_kernels, work
from planner.supply.accelerator import peak_flops
from planner.supply.roofline import kernel_time, soft_maximum
from planner.units import parse_quantity

CHIP = "a100-sxm4-80gb"
MADE_WITH = {"compute": 0.71, "memory": 0.66, "overhead": 7e-6, "sharpness": 1.5}


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """Times that a chip of known efficiencies would show, as a CSV with a column too many and in another order."""
    chip = load_accelerator(CHIP)
    sizes = np.array([(m, n, k) for m in (1, 64, 1024, 8192) for n in (1024, 8192) for k in (512, 4096, 16384)])
    flops, moved = matmul_work(*sizes.T, dtype="bf16")
    seconds = kernel_time(
        flops, moved, peak_flops=peak_flops(chip, "bf16"), bandwidth=chip.bandwidth,
        compute_efficiency=MADE_WITH["compute"], memory_efficiency=MADE_WITH["memory"],
        overhead=MADE_WITH["overhead"], sharpness=MADE_WITH["sharpness"],
    )  # fmt: skip
    lines = ["dtype,gpu,note,m,n,k,time_us"]
    lines += [f"bf16,{CHIP},x,{m},{n},{k},{t * 1e6!r}" for (m, n, k), t in zip(sizes, seconds.tolist(), strict=True)]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


def test_the_efficiencies_that_made_the_times_come_back(cli: Cli, measured: Path) -> None:
    ran = cli("calibrate", measured)
    assert ran.code == 0 and "p90 error" in ran.err and "24" in ran.err.split()
    block = yaml.safe_load(ran.out)["efficiency"]["kernels"]["matmul"]["bf16"]
    found = {k: parse_quantity(block[k], "s") if k == "overhead" else block[k] for k in MADE_WITH}
    assert found == pytest.approx(MADE_WITH, rel=0.1)  # a weak prior pulls each towards what other chips show
    assert (found["compute"], found["memory"]) == pytest.approx((MADE_WITH["compute"], MADE_WITH["memory"]), rel=0.02)
    assert block["basis"] == "measured" and 'own: "mine.csv"' in ran.out


def test_the_block_is_one_that_a_profile_reads(measured: Path, tmp_path: Path) -> None:
    own = tmp_path / "own" / "accelerators"
    own.mkdir(parents=True)
    block = calibrated_profile(str(measured))
    (own / "mine-80gb.yaml").write_text(
        "id: mine-80gb\nname: Mine\nefficiency_class: nvidia-ampere\nvendor: NVIDIA\nyear: 2024\ndevice_is: package\n"
        "peak_flops: {bf16: {value: 312 TFLOP/s, source: own}}\n"
        "memory: [{name: HBM, kind: device, marketed: {value: 80 GB, source: own}, "
        "capacity: {value: 79 GiB, source: own}, bandwidth: {value: 2 TB/s, source: own}}]\n"
        f'sources: {{own: "mine.csv"}}\n{block}\n', encoding="utf-8",
    )  # fmt: skip
    chip = load_accelerator("mine-80gb", [str(tmp_path / "own")])
    assert chip.kernels["matmul"]["bf16"].compute == pytest.approx(MADE_WITH["compute"], rel=0.03)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", ["mine.csv:1", "no column gpu", "dtype, time_us, m, n, k"]),
        ("gpu,dtype,m,n,k,time_us\n", ["no rows"]),
        ("gpu,dtype,m,n,k,time_us\nx,bf16,1,two,3,4\n", ["mine.csv:2", "n 'two'", "positive"]),
        ("gpu,dtype,m,n,k,time_us\nx,bf16,1,2,3,-4\n", ["mine.csv:2", "time_us '-4'"]),
        ("gpu,dtype,m,n,k,time_us\nx,bf16,1,2,3\n", ["mine.csv:2", "5 cells", "6"]),
        ("gpu,dtype,m,n,k,time_us\nh101-sxm5-80gb,bf16,1,2,3,4\n", ["h101-sxm5-80gb", "nearest", "h100-sxm5-80gb"]),
        (f"gpu,dtype,m,n,k,time_us\n{CHIP},bf16,1,2,3,4\n", ["1 rows", "at least 10"]),
    ],
)
def test_a_table_that_cannot_be_is_refused_by_line(cli: Cli, tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    ran = cli("calibrate", path)
    assert ran.code == 2 and not ran.out
    assert all(w in ran.err for w in words), ran.err


def test_a_table_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInputError, match="UTF-8"):
        read_kernels(str(path))
    with pytest.raises(BadInputError, match="does not exist"):
        read_kernels(str(tmp_path / "none.csv"))


HEADER = "gpu,dtype,kernel,m,n,k,batch,q_len,kv_len,heads,kv_heads,head_dim,bytes,ranks,time_us"


def table(rows: list[str]) -> str:
    return "\n".join([HEADER, *rows]) + "\n"


def matmuls(count: int = 12, *, gpu: str = CHIP, dtype: str = "bf16", slower: float = 1.0) -> list[str]:
    """Square matmuls at 0.7 of the peak and 5 us."""
    sizes = [1024 * (i + 1) for i in range(count)]
    times = [slower * (2.0 * s**3 / (0.7 * 312e12) + 5e-6) * 1e6 for s in sizes]
    return [f"{gpu},{dtype},,{s},{s},{s},,,,,,,,,{t}" for s, t in zip(sizes, times, strict=True)]


def test_a_rate_above_the_peak_is_refused_by_its_line(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    rows = matmuls()
    path.write_text(table([*rows[:3], f"{CHIP},bf16,matmul,8192,8192,8192,,,,,,,,,1000", *rows[3:]]))
    ran = cli("calibrate", path)
    assert ran.code == 2 and not ran.out
    assert "mine.csv:5: 1.1 PFLOP/s is above a100-sxm4-80gb's bf16 peak of 312 TFLOP/s" in ran.err


def test_what_cannot_be_placed_is_skipped_and_said(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    strange = [*matmuls(3, gpu="nobodys-chip"), *matmuls(11, dtype="fp8"), f"{CHIP},bf16,convolution,,,,,,,,,,,,4"]
    path.write_text(table([*matmuls(), *strange]))
    ran = cli("calibrate", path, "-o", tmp_path / "block.yaml")
    assert ran.code == 0 and not ran.out
    assert set(yaml.safe_load((tmp_path / "block.yaml").read_text())["efficiency"]["kernels"]["matmul"]) == {"bf16"}
    skipped = [line for line in ran.err.splitlines() if line.startswith("skipped: ")]
    assert len(skipped) == 3
    for words in ("3 rows of nobodys-chip matmul bf16", "11 rows of a100-sxm4-80gb matmul fp8", "convolution"):
        assert any(words in line for line in skipped), words


def test_attention_and_collectives_are_fitted_too(cli: Cli, tmp_path: Path) -> None:
    chip = load_accelerator(CHIP)
    rows = []
    for batch in (1, 4, 16):
        for length in (512, 1024, 2048, 8192):
            sizes = np.array([[v] for v in (batch, length, length, 32.0, 8.0, 128.0)])
            flops, moved = work("attention_prefill", sizes, "bf16")
            seconds = kernel_time(flops, moved, peak_flops=chip.peak_flops["bf16"], bandwidth=chip.bandwidth,
                                  compute_efficiency=0.55, memory_efficiency=0.6, overhead=9e-6,
                                  sharpness=1.5)  # fmt: skip
            rows.append(
                f"{CHIP},bf16,attention_prefill,,,,{batch},{length},{length},32,8,128,,,{float(seconds[0]) * 1e6!r}"
            )
    assert chip.scale_up is not None
    for ranks in (2, 4, 8):
        for size in (2**12, 2**16, 2**20, 2**24, 2**28):
            sent = (ranks - 1) / ranks * size / (0.8 * chip.scale_up.bandwidth)
            seconds = float(soft_maximum(8e-6 + 1e-6 * (ranks - 1), sent, 0.7))
            rows.append(f"{CHIP},,all_gather,,,,,,,,,,{size},{ranks},{seconds * 1e6!r}")
    path = tmp_path / "mine.csv"
    path.write_text(table(rows))
    ran = cli("calibrate", path)
    assert ran.code == 0, ran.err
    block = yaml.safe_load(ran.out)
    assert block["efficiency"]["kernels"]["attention_prefill"]["bf16"]["compute"] == pytest.approx(0.55, rel=0.05)
    assert block["collectives"]["scale_up"]["all_gather"]["bandwidth"] == pytest.approx(0.8, rel=0.05)
    assert "# classes/nvidia-ampere.yaml" in ran.out and "all_gather" in ran.err


def test_attention_is_counted_as_the_cost_model_does() -> None:
    sizes = np.array([[2.0], [1024.0], [1024.0], [32.0], [8.0], [128.0]])
    flops, moved = work("attention_prefill", sizes, "bf16")
    assert flops[0] == 4 * 2 * 1024 * 512 * 32 * 128
    assert moved[0] == 2 * 2 * (1024 * 32 * 128 + 1024 * 8 * 128) * 2
    backward, twice = work("attention_backward", sizes, "bf16")
    assert (backward[0], twice[0]) == (2.5 * flops[0], 2 * moved[0])
