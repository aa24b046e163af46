"""Measured matmuls of a user in, the ``efficiency`` block of a hardware profile out."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from planner.catalogue.hardware import Accelerator
from planner.catalogue.loader import load_accelerator
from planner.errors import BadInputError
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
    source = Path(path)
    if not source.is_file():
        raise BadInputError(f"calibrate: file {path!r} does not exist")
    try:
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"calibrate: {path}: not readable as UTF-8 text: {error}") from error
    reader = csv.DictReader(text.splitlines())
    missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
    if missing:
        raise BadInputError(f"{path}:1: no column {', '.join(missing)}; due: {', '.join(COLUMNS)}")
    rows = [{c: (row[c] or "").strip() for c in COLUMNS} for row in reader]
    if not rows:
        raise BadInputError(f"{path}: a header and no rows")
    faults = [f"{path}:{i}: {c} {row[c]!r} is not a positive number" for i, row in enumerate(rows, start=2)
              for c in SIZES if not _positive(row[c])]  # fmt: skip
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
