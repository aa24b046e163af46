"""Measured kernels of a user in; the ``efficiency`` block of a hardware profile out, and collectives of its class.

Each row of the table is one kernel: ``gpu``, ``dtype``, ``time_us``, and the columns of its ``kernel`` (:data:`SHAPES`;
``matmul`` where there is no such column). A row that is faster than its roof is refused by its line; a row of a chip,
dtype or kernel that nothing here can place is skipped and said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from planner.catalogue.documents import csv_rows
from planner.catalogue.hardware import Accelerator
from planner.catalogue.loader import load_accelerator
from planner.errors import BadInputError, PlannerError, unknown
from planner.files import LARGEST_TABLE, is_missing, read_text
from planner.measure.fit import Fit, Link, fit_link, fit_work, matmul_work
from planner.precision import dtype as look_up_dtype
from planner.supply.accelerator import peak_flops
from planner.supply.collectives import OPERATIONS, ring_volume
from planner.units import format_quantity

FIXED = ("gpu", "dtype", "time_us")
ATTENTION = ("batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim")
SHAPES: Mapping[str, tuple[str, ...]] = {
    "matmul": ("m", "n", "k"),
    "attention_prefill": ATTENTION, "attention_backward": ATTENTION, "attention_decode": ATTENTION,
    **dict.fromkeys(OPERATIONS, ("bytes", "ranks")),
}  # fmt: skip
FEWEST = 10  # rows that four parameters need
FLASH_BACKWARD = 2.5  # FLOPs over those of the forward pass, https://arxiv.org/abs/2307.08691 section 3.1
MOST_FAULTS = 5


@dataclass(frozen=True)
class Row:
    """One measured kernel: its line in the file, what it is of, its sizes and its time [s]."""

    line: int
    gpu: str
    dtype: str
    kernel: str
    sizes: tuple[float, ...]
    seconds: float


@dataclass
class Calibration:
    """Fits by chip: kernel and dtype to :class:`Fit`, operation to :class:`Link`; and what was left out, in words."""

    chips: dict[str, Accelerator] = field(default_factory=dict)
    kernels: dict[str, dict[tuple[str, str], Fit]] = field(default_factory=dict)
    collectives: dict[str, dict[str, Link]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def calibrated_profile(path: str, *, dirs: Sequence[str] = ()) -> str:
    """The blocks of :func:`calibration` as YAML."""
    return blocks(calibration(path, dirs=dirs), source=Path(path).name)


def calibration(path: str, *, dirs: Sequence[str] = ()) -> Calibration:
    """Fit a CSV of measured kernels.

    Raises
    ------
    BadInputError
        A file that is missing, unreadable or without the columns; rows faster than their roof, by line; nothing that
        can be placed.
    """
    found, groups = Calibration(), dict[tuple[str, str, str], list[Row]]()
    for row in read_kernels(path):
        groups.setdefault((row.gpu, row.kernel, row.dtype if row.kernel not in OPERATIONS else ""), []).append(row)
    faults: list[str] = []
    for (gpu, kernel, dtype), rows in groups.items():
        try:
            chip = found.chips.setdefault(gpu, load_accelerator(gpu, dirs or None))
            _place(found, chip, kernel, dtype, rows, path, faults)
        except PlannerError as error:
            found.skipped.append(f"{len(rows)} rows of {' '.join(w for w in (gpu, kernel, dtype) if w)}: {error}")
    if faults:
        raise BadInputError("; ".join(faults[:MOST_FAULTS]) + _more(len(faults)))
    if not found.kernels and not found.collectives:
        raise BadInputError(f"{path}: nothing to fit; {'; '.join(found.skipped[:MOST_FAULTS])}"
                            f"{_more(len(found.skipped))}")  # fmt: skip
    return found


def _more(count: int) -> str:
    return f"; and {count - MOST_FAULTS} more" if count > MOST_FAULTS else ""


def _place(
    found: Calibration, chip: Accelerator, kernel: str, dtype: str, rows: Sequence[Row], path: str, faults: list[str]
) -> None:
    """Check the rows of one chip, kernel and dtype against the roof, and fit them."""
    if kernel not in SHAPES:
        raise unknown("kernel", kernel, SHAPES)
    if len(rows) < FEWEST:
        raise BadInputError(f"{len(rows)} rows; a fit of four parameters needs at least {FEWEST}")
    sizes, seconds = np.array([r.sizes for r in rows]).T, np.array([r.seconds for r in rows])
    if kernel in OPERATIONS:
        size, ranks = sizes
        link = chip.scale_up or chip.host
        if link is None:
            raise BadInputError(f"{chip.id} lists no link")
        # Switches that sum let an all_reduce send each byte once, where a ring sends it twice.
        sent = ring_volume(kernel, size, ranks) / (2.0 if kernel == "all_reduce" else 1.0)
        faults += _too_fast(rows, sent, link.bandwidth, "byte/s", f"{chip.id}'s {link.name}", path)
        if not faults:
            found.collectives.setdefault(chip.id, {})[kernel] = fit_link(
                kernel, size, ranks, seconds, bandwidth=link.bandwidth)  # fmt: skip
        return
    peak = peak_flops(chip, dtype)
    flops, moved = work(kernel, sizes, dtype)
    faults += _too_fast(rows, flops, peak, "FLOP/s", f"{chip.id}'s {dtype} peak", path)
    if not faults:
        fit = fit_work(flops, moved, seconds, peak_flops=peak, bandwidth=chip.bandwidth)
        found.kernels.setdefault(chip.id, {})[kernel, dtype] = fit


def _too_fast(rows: Sequence[Row], amount: np.ndarray, roof: float, unit: str, whose: str, path: str) -> list[str]:
    """What is said of rows whose rate is above a roof that nothing can pass."""
    return [f"{path}:{r.line}: {format_quantity(a / r.seconds, unit)} is above {whose} of {format_quantity(roof, unit)}"
            for r, a in zip(rows, amount.tolist(), strict=True) if a / r.seconds > roof]  # fmt: skip


def work(kernel: str, sizes: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """FLOPs and bytes of kernels, as the cost model counts them; each of shape (rows,).

    Matmul as :func:`planner.measure.fit.matmul_work`. Attention of q new tokens over s keys, causal, flash: 4·b·q·s̄·h·d
    FLOPs with s̄ = s in decode and s/2 in prefill; queries and outputs b·q·h·d each, keys and values 2·b·s·h_kv·d.
    Backward: 2.5 times the FLOPs, twice the bytes.
    """
    if kernel == "matmul":
        return matmul_work(*sizes, dtype=dtype)
    batch, queries, keys, heads, kv_heads, width = sizes
    seen = keys if kernel == "attention_decode" else keys / 2.0
    flops = 4.0 * batch * queries * seen * heads * width
    moved = look_up_dtype(dtype).bytes * 2.0 * batch * width * (queries * heads + keys * kv_heads)
    backward = kernel == "attention_backward"
    return flops * (FLASH_BACKWARD if backward else 1.0), moved * (2.0 if backward else 1.0)


def read_kernels(path: str) -> list[Row]:
    """Rows of a CSV of measured kernels; sizes and times are positive numbers, each fault told by its line."""
    if is_missing(path):
        raise BadInputError(f"calibrate: file {path!r} does not exist")
    text = read_text(path, most=LARGEST_TABLE, where=f"calibrate: {path}")
    header, found = csv_rows(text, path, (*FIXED, "kernel", *ATTENTION, *SHAPES["matmul"]))
    due = FIXED if "kernel" in header else (*FIXED, *SHAPES["matmul"])
    missing = [c for c in due if c not in header]
    if missing:
        raise BadInputError(f"{path}:1: no column {', '.join(missing)}; due: {', '.join(due)}")
    rows, faults = list[Row](), list[str]()
    for line, values in found:
        cells = {name: cell.strip() for name, cell in zip(header, values, strict=False)}
        if len(values) != len(header):
            faults.append(f"{path}:{line}: {len(values)} cells, but the header has {len(header)}")
            continue
        kernel = cells.get("kernel") or "matmul"
        numbers = {c: _positive(cells.get(c, "")) for c in (*SHAPES.get(kernel, ()), "time_us")}
        faults += [f"{path}:{line}: {c} {cells.get(c, '')!r} is not a positive number"
                   for c, v in numbers.items() if v is None]  # fmt: skip
        sizes = tuple(v or 0.0 for c, v in numbers.items() if c != "time_us")
        rows.append(Row(line, cells["gpu"], cells["dtype"], kernel, sizes, (numbers["time_us"] or 0.0) * 1e-6))
    if faults:
        raise BadInputError("; ".join(faults[:MOST_FAULTS]) + _more(len(faults)))
    if not rows:
        raise BadInputError(f"{path}: a header and no rows")
    return rows


def _positive(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < math.inf else None


def report(found: Calibration) -> list[dict[str, object]]:
    """What each fit came to, a row each: rows, and errors on rows held out of the fit."""
    rows: list[dict[str, object]] = []
    for chip, fits in found.kernels.items():
        rows += [{"chip": chip, "kernel": k, "dtype": d, "rows": f.rows, "median_error": f.median_error,
                  "p90_error": f.p90_error} for (k, d), f in fits.items()]  # fmt: skip
    for chip, links in found.collectives.items():
        rows += [{"chip": chip, "kernel": op, "dtype": None, "rows": f.rows, "median_error": f.median_error,
                  "p90_error": f.p90_error} for op, f in links.items()]  # fmt: skip
    return rows


def blocks(found: Calibration, *, source: str) -> str:
    """The blocks to put into a profile: ``efficiency`` of each chip, ``collectives`` of its class, and the source."""
    lines: list[str] = []
    for chip, fits in found.kernels.items():
        lines += [f"# {chip}: {source}", "efficiency:", "  kernels:"]
        for kernel in dict.fromkeys(k for k, _ in fits):
            lines.append(f"    {kernel}:")
            lines += [_line(6, d, {"compute": f"{f.compute:.3f}", "memory": f"{f.memory:.3f}",
                                   "overhead": f"{f.overhead * 1e6:.2f} us", "sharpness": f"{f.sharpness:.2f}"}, f)
                      for (k, d), f in fits.items() if k == kernel]  # fmt: skip
    chips = {a.id: a for a in found.chips.values()}
    for chip, links in found.collectives.items():
        kind = "scale_up" if chips[chip].scale_up is not None else "pcie"
        lines += [f"# classes/{chips[chip].efficiency_class}.yaml: {source}", "collectives:", f"  {kind}:"]
        lines += [_line(4, op, {"bandwidth": f"{f.share:.3f}", "latency": f"{f.latency * 1e6:.3g} us",
                                "latency_per_rank": f"{f.latency_per_rank * 1e6:.3g} us",
                                "sharpness": f"{f.sharpness:.3g}"}, f) for op, f in links.items()]  # fmt: skip
    return "\n".join([*lines, f'# and under sources:  own: "{source}"'])


def _line(indent: int, name: str, values: Mapping[str, str], fit: Fit | Link) -> str:
    note = f"{fit.rows} rows, held-out error median {fit.median_error:.0%}, p90 {fit.p90_error:.0%}"
    said = ", ".join(f"{k}: {v}" for k, v in values.items())
    return f'{" " * indent}{name}: {{{said}, source: own, basis: measured, note: "{note}"}}'
