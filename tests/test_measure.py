"""Calibration of a user's own machine: a table of measured matmuls in, the block of a profile out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import Cli

from planner.catalogue.loader import load_accelerator
from planner.errors import BadInputError
from planner.measure.fit import COLUMNS, matmul_work
from planner.measure.profile import calibrated_profile, read_kernels
from planner.supply.accelerator import peak_flops
from planner.supply.roofline import kernel_time
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
    assert ran.code == 0 and not ran.err
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
        ("a,b\n1,2\n", ["mine.csv:1", "no column gpu", *COLUMNS]),
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
