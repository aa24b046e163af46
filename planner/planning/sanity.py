"""The last check before a number is shown: a time or a size that cannot be is a fault of the planner, no answer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from planner.errors import InternalError


def refuse_impossible(
    figures: Mapping[str, ArrayLike | None], inputs: Mapping[str, object], *, parts: bool = False
) -> None:
    """Stop at a figure that is not finite and positive.

    Parameters
    ----------
    figures : mapping               name to values of any shape, in base units; None is no figure
    inputs : mapping                what they were worked out from, which the error names
    parts : bool                    they are parts of a whole, any of which may be nothing

    Raises
    ------
    InternalError
        The first such figure, with the inputs that made it.
    """
    for name, value in figures.items():
        if value is None:
            continue
        found = np.asarray(value, dtype=np.float64)
        bad = ~np.isfinite(found) | (found < 0) | ((found == 0) & (not parts))
        if bad.any():
            said = ", ".join(f"{k}={v}" for k, v in inputs.items() if v not in (None, "", "none"))
            raise InternalError(f"{name} is {found[bad].flat[0]:g} for {said}")
