"""``planner calibrate``: measured matmuls in, the efficiency block of a hardware profile out."""

from __future__ import annotations

from typing import Annotated

import typer

from planner.present.console import Dirs, put


def calibrate(
    kernels: Annotated[str, typer.Argument(help="CSV of measured matmuls: gpu, dtype, m, n, k, time_us")],
    hardware_dir: Dirs = None,
) -> None:
    """Fit efficiencies to your own measured matmuls, as a block for a hardware profile."""
    from planner.measure.profile import calibrated_profile

    put(calibrated_profile(kernels, dirs=hardware_dir or []))
