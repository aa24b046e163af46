"""What one accelerator offers, looked up by dtype; a dtype that is not listed is refused, never guessed."""

from __future__ import annotations

from planner.catalogue.hardware import Accelerator
from planner.errors import BadInputError, nearest


def peak_flops(accelerator: Accelerator, dtype: str) -> float:
    """Dense peak of the matrix unit in ``dtype`` [FLOP/s].

    Raises
    ------
    BadInputError
        The accelerator has no such rate; the message lists those it has.
    """
    found = accelerator.peak_flops.get(dtype)
    if found is None:
        close = nearest(dtype, accelerator.peak_flops)
        hint = f"; nearest: {', '.join(close)}" if close else ""
        raise BadInputError(
            f"{accelerator.id} has no {dtype} matrix rate{hint}; it has: {', '.join(accelerator.peak_flops)}"
        )
    return found


def vector_flops(accelerator: Accelerator) -> float:
    """Rate of the vector units [FLOP/s]; where no source gives it, 1/16 of the fastest 16-bit matrix rate.

    Assumption: 1/16 is the ratio of the A100 (19.5 of 312 TFLOP/s); H100 and B200 lie within 0.035-0.068.
    """
    if accelerator.vector_flops is not None:
        return accelerator.vector_flops
    wide = [accelerator.peak_flops[d] for d in ("bf16", "fp16") if d in accelerator.peak_flops]
    return max(wide or accelerator.peak_flops.values()) / 16.0
