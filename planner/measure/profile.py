"""Measured matmuls of a user in, the ``efficiency`` block of a hardware profile out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from planner.catalogue.documents import csv_rows
from planner.catalogue.hardware import Accelerator
from planner.catalogue.loader import load_accelerator
from planner.errors import BadInputError
from planner.files import LARGEST_TABLE, is_missing, read_text
from planner.measure.fit import COLUMNS, Fit, fit_kernels

SIZES = COLUMNS[2:]  # positive numbers: m, n, k, time_us


def calibrated_profile(path: str, *, dirs: Sequence[str] = ()) -> str:
    """Fit a CSV of measured matmuls and word the ``efficiency`` block of each chip in it, as YAML.

    Raises
    ------
    BadInputError
        A file that is missing, unreadable or without the columns; an unknown chip or dtype; too few rows for a fit.
    """
    rows = read_kernels(path)
    chips = {gpu: load_accelerator(gpu, dirs or None) for gpu in dict.fromkeys(r["gpu"] for r in rows)}
    fits = fit_kernels(rows, accelerators=chips)
    return "\n".join(efficiency_block(chips[gpu], by_dtype, source=Path(path).name) for gpu, by_dtype in fits.items())


def read_kernels(path: str) -> list[dict[str, str]]:
    """Rows of a CSV with the columns :data:`planner.measure.fit.COLUMNS`; sizes and times are positive numbers."""
    if is_missing(path):
        raise BadInputError(f"calibrate: file {path!r} does not exist")
    header, cells = csv_rows(read_text(path, most=LARGEST_TABLE, where=f"calibrate: {path}"), path, COLUMNS)
    missing = [c for c in COLUMNS if c not in header]
    if missing:
        raise BadInputError(f"{path}:1: no column {', '.join(missing)}; due: {', '.join(COLUMNS)}")
    rows, faults = [], []
    for line, found in cells:
        row = {name: cell.strip() for name, cell in zip(header, found, strict=False)}
        if len(found) != len(header):
            faults.append(f"{path}:{line}: {len(found)} cells, but the header has {len(header)}")
        faults += [f"{path}:{line}: {c} {row[c]!r} is not a positive number" for c in SIZES
                   if c in row and not _positive(row[c])]  # fmt: skip
        rows.append({c: row.get(c, "") for c in COLUMNS})
    if not rows:
        raise BadInputError(f"{path}: a header and no rows")
    if faults:
        raise BadInputError("; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else ""))
    return rows


def _positive(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False


def efficiency_block(chip: Accelerator, by_dtype: Mapping[str, Fit], *, source: str) -> str:
    """The ``efficiency`` block of a chip's profile: a line a dtype, and the source to put under ``sources``."""
    lines = [f"# {chip.id}: {source}", "efficiency:", "  kernels:", "    matmul:"]
    for dtype, f in by_dtype.items():
        lines.append(f"      {dtype}: {{compute: {f.compute:.3f}, memory: {f.memory:.3f}, overhead: "
                     f"{f.overhead * 1e6:.2f} us, sharpness: {f.sharpness:.2f}, source: own, "
                     "basis: measured}")  # fmt: skip
    return "\n".join([*lines, f'# and under sources:  own: "{source}"'])
