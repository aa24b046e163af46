"""Sweeps: rows are those of single estimates, shards are whole or absent, and a killed run resumed is the same."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from conftest import Cli

import planner
from planner.errors import BadInputError
from planner.planning.estimate import estimate_scenario
from planner.planning.grids import parse_sweep, sweep_rows
from planner.present.sweeps import MANIFEST, run_sweep, shard_paths

TODAY = date(2026, 11, 1)
GRID: dict[str, object] = {
    "base": {"task": "train", "seq_len": 2048, "global_batch": 64, "micro_batch": 1},
    "grid": {
        "model": ["llama-3.1-8b", "gpt2", "nobody"],
        "hardware": ["dgx-h100", "tpu-v6e-pod"],
        "devices": [8, 32],
        "tp": [1, 2, 3, 8],
        "pp": [1, 4],
        "zero_stage": [0, 1, 3],
        "recompute": ["none", "selective", "full"],
    },
    "scenarios": [
        {"model": "gpt2", "hardware": "t4-16gb", "devices": 1},
        {"model": "llama-3.1-8b", "hardware": "dgx-h100", "devices": 8, "task": "decode", "batch": 4},
        {"model": "llama-3.1-8b", "hardware": "dgx-h100", "devices": 8, "zero_stage": "many"},
    ],
}


def digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


# Rows


def test_rows_are_those_of_estimates() -> None:
    swept = parse_sweep(GRID, where="test")
    assert swept.rows == 3 * 2 * 2 * 4 * 2 * 3 * 3 + 3
    cells, lawful = list(swept.cells(0, swept.rows)), 0
    for first in range(0, swept.rows, 41):
        (row,) = sweep_rows(swept, first, first + 1, today=TODAY)
        try:
            e = estimate_scenario(cells[first], today=TODAY)
        except BadInputError as error:
            assert row["error"] == " ".join(str(error).split())
            continue
        lawful += 1
        assert row["error"] == "" and all(row[k] == v for k, v in e.results.items())
        assert row["dp"] == e.inputs["dp"]
    assert lawful > 4


def test_cells_are_every_combination_the_last_key_fastest() -> None:
    swept = parse_sweep({"grid": {"tp": [1, 2], "pp": [1, 2, 4]}, "scenarios": [{"tp": 8}]}, where="x")
    cells = [(c.get("tp"), c.get("pp")) for c in swept.cells(0, 99)]
    assert cells == [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 4), (8, None)]
    assert list(swept.cells(4, 6)) == [{"tp": 2, "pp": 2}, {"tp": 2, "pp": 4}]


@pytest.mark.parametrize(
    ("data", "said"),
    [(None, "mapping"), ({"grd": {}}, "grd"), ({"answer": "guess", "grid": {"tp": [1]}}, "guess"),
     ({"grid": {"tpp": [1]}}, "tpp"), ({"grid": {"tp": []}}, "no values"), ({"base": {"tp": 1}}, "0 rows"),
     ({"scenarios": [3]}, "scenarios"), ({"grid": [1]}, "mappings"), ({"grid": {"deadline": ["3d"]}}, "deadline")],
)  # fmt: skip
def test_what_is_no_sweep_is_refused(data: object, said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        parse_sweep(data, where="file")


def test_plans_and_sizes_are_cells_too(tmp_path: Path) -> None:
    held = {"model": "llama-3.1-8b", "vpp": 1, "cp": 1, "micro_batch": 1, "recompute": "selective", "zero_stage": 1}
    plans = parse_sweep({"answer": "plan", "base": {**held, "global_batch": 64},
                         "grid": {"hardware": ["dgx-h100", "t4-16gb"], "devices": [8]}}, where="x")  # fmt: skip
    sizes = parse_sweep({"answer": "size", "base": {**held, "tokens": "1T", "devices": "64,128"},
                         "grid": {"hardware": ["dgx-h100"], "deadline": ["15d", "1d"]}}, where="x")  # fmt: skip
    for name, swept, errors in (("plans", plans, 1), ("sizes", sizes, 1)):
        found = run_sweep(swept, str(tmp_path / name), kind="csv.gz", today=TODAY)
        assert (found["rows"], found["errors"]) == (2, errors)
    (path,) = shard_paths(str(tmp_path / "sizes"))
    text = gzip.decompress(path.read_bytes()).decode()
    assert ",128," in text and "nothing keeps the limits" in text


# Folders


def test_a_folder_is_resumed_and_another_sweep_refused(tmp_path: Path) -> None:
    swept = parse_sweep(GRID, where="x")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    manifest = run_sweep(swept, str(whole), rows=200, kind="csv.gz", today=TODAY)
    assert manifest["whole"] and manifest["rows"] == swept.rows and 0 < manifest["errors"] < swept.rows
    run_sweep(swept, str(parts), rows=200, kind="csv.gz", today=TODAY, jobs=2)
    assert digest(whole) == digest(parts)
    lost = shard_paths(str(parts))[2]
    lost.unlink()
    (parts / "00001-x.csv.gz.part").write_bytes(b"half")
    seen: list[int] = []
    run_sweep(swept, str(parts), rows=200, kind="csv.gz", today=TODAY, progress=lambda done, total: seen.append(done))
    assert len(seen) == 1 and digest(whole) == digest(parts)
    other = parse_sweep({**GRID, "scenarios": []}, where="x")
    with pytest.raises(BadInputError, match="another sweep"):
        run_sweep(other, str(parts), rows=200, kind="csv.gz", today=TODAY)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(BadInputError, match="not empty"):
        run_sweep(swept, str(tmp_path / "full"), rows=200, kind="csv.gz", today=TODAY)


@pytest.mark.published  # six processes: half a minute
def test_a_killed_run_resumed_is_the_same_bytes(tmp_path: Path) -> None:
    file = tmp_path / "sweep.json"
    file.write_text(json.dumps(GRID))
    command = [sys.executable, "-m", "planner", "sweep", str(file), "--shard-rows", "40",
               "--shards", "csv.gz"]  # fmt: skip
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*command, "-o", str(whole)], check=True, capture_output=True)
    for shards in (2, 6, 11):
        process = subprocess.Popen([*command, "-o", str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            if len(list(killed.glob("*.csv.gz"))) >= shards:
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.002)
        process.wait()
    subprocess.run([*command, "-o", str(killed)], check=True, capture_output=True)
    assert digest(whole) == digest(killed)


def test_the_verb(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("base: {task: train, micro_batch: 1, recompute: none}\ngrid: {model: [gpt2], hardware: [t4-16gb], "
                    "devices: [1], global_batch: [1, 2, x]}\n")  # fmt: skip
    ran = cli("sweep", file, "-o", tmp_path / "out", "--shards", "csv.gz")
    assert ran.code == 0 and "3 rows in 1 shard, 1 with an error" in ran.out and "rows" in ran.err
    assert json.loads((tmp_path / "out" / MANIFEST).read_text())["errors"] == 1
    assert cli("sweep", tmp_path / "none.yaml", "-o", tmp_path / "x").code == 2
    assert cli("sweep", file, "-o", tmp_path / "out", "--shards", "xml").code == 2
    assert cli("sweep", file, "-o", tmp_path / "out", "--shard-rows", "2").code == 2


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    swept = parse_sweep(GRID, where="x")
    run_sweep(swept, str(tmp_path / "p"), rows=400, kind="parquet", today=TODAY)
    run_sweep(swept, str(tmp_path / "c"), rows=400, kind="csv.gz", today=TODAY)
    rows = [r for p in shard_paths(str(tmp_path / "p")) for r in parquet.read_table(p).to_pylist()]
    assert [int(r["id"]) for r in rows] == list(range(swept.rows))
    text = "".join(gzip.decompress(p.read_bytes()).decode() for p in shard_paths(str(tmp_path / "c")))
    assert text.count("\n") == swept.rows + len(shard_paths(str(tmp_path / "c")))
    frames = {k: pd.concat(planner.sweep_frames(tmp_path / k)) for k in ("p", "c")}
    for key in ("step_time_s", "memory_peak_bytes", "mfu"):
        assert frames["p"][key].tolist() == pytest.approx(frames["c"][key].tolist(), nan_ok=True)
    assert sum(bool(r["error"]) for r in rows) == json.loads((tmp_path / "p" / MANIFEST).read_text())["errors"]
