"""Dtypes: the names that may be said, the bytes each takes, and what runs where.

Block formats carry their scale: mxfp8 and mxfp4 share one 8-bit scale over 32 values (OCP Microscaling Formats v1.0,
https://www.opencompute.org/documents/ocp-microscaling-formats-mx-v1-0-spec-final-pdf), nvfp4 one fp8 scale over 16
values (https://developer.nvidia.com/blog/introducing-nvfp4-for-efficient-and-accurate-low-precision-inference/),
int4 is group-quantised with a 16-bit scale and a 4-bit zero point over 128 values (GPTQ/AWQ, group size 128).
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.errors import unknown


@dataclass(frozen=True)
class Dtype:
    """One number format.

    Attributes
    ----------
    bytes : float                           [byte] per value, block scales included
    weight_only : tuple of str              compute dtypes that weights of this format may be expanded to
    """

    name: str
    bytes: float
    weight_only: tuple[str, ...] = ()


_WIDE = ("bf16", "fp16")
DTYPES: dict[str, Dtype] = {
    d.name: d
    for d in (
        Dtype("fp32", 4.0),
        Dtype("tf32", 4.0),
        Dtype("bf16", 2.0),
        Dtype("fp16", 2.0),
        Dtype("fp8", 1.0, _WIDE),
        Dtype("mxfp8", 1.0 + 1.0 / 32, _WIDE),
        Dtype("int8", 1.0, _WIDE),
        Dtype("nvfp4", 0.5 + 1.0 / 16, _WIDE),
        Dtype("mxfp4", 0.5 + 1.0 / 32, _WIDE),
        Dtype("int4", 0.5 + 2.5 / 128, _WIDE),
    )
}
DTYPE_NAMES = tuple(DTYPES)


def dtype(name: str, *, where: str = "") -> Dtype:
    """Look a dtype up by name; an unknown one is refused with the allowed names."""
    found = DTYPES.get(str(name).lower())
    if found is None:
        raise unknown("dtype", str(name), DTYPES, where=where)
    return found
