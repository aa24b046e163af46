"""Layouts as columns: how a model is divided over devices. Which divisions cannot be is ``rules``' to say.

Ranks are placed innermost first: tp, cp, dp, pp. Experts fold over the tp·cp·dp ranks of a stage, as Megatron-Core's
parallel folding does (https://arxiv.org/abs/2504.14960): etp ranks share an expert, ep such groups hold different ones,
and what remains of dp·cp·tp holds copies, so etp·ep must divide it. A group's stride is the product of the sizes inside
it, which decides whether it stays in one scale-up domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planner.cost.constants import RECOMPUTE
from planner.demand.ops import Array

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Layouts:
    """Candidate layouts, one a row; every column has shape (n,), int64. ``recompute`` indexes RECOMPUTE."""

    dp: Ints
    tp: Ints
    pp: Ints
    cp: Ints
    ep: Ints
    etp: Ints
    vpp: Ints
    micro_batch: Ints
    global_batch: Ints
    zero_stage: Ints
    sequence_parallel: Ints
    recompute: Ints

    def __len__(self) -> int:
        return len(self.dp)

    def take(self, index: ArrayLike) -> Layouts:
        """Rows ``index`` of every column."""
        return replace(self, **{f.name: getattr(self, f.name)[np.asarray(index)] for f in fields(self)})

    @property
    def devices(self) -> Ints:
        """Devices a layout uses, dp·tp·pp·cp."""
        return self.dp * self.tp * self.pp * self.cp

    @property
    def micro_batches(self) -> Ints:
        """Micro-batches a pipeline handles in a step, global_batch / (dp·micro_batch), at least 1."""
        return np.asarray(np.maximum(self.global_batch // np.maximum(self.dp * self.micro_batch, 1), 1))

    @property
    def expert_dp(self) -> Array:
        """Copies of an expert: dp·cp·tp / (etp·ep)."""
        return np.maximum(self.dp * self.cp * self.tp / (self.etp * self.ep), 1.0)

    def row(self, i: int) -> dict[str, int | str | bool]:
        """One layout as scenario keys."""
        out: dict[str, int | str | bool] = {f.name: int(getattr(self, f.name)[i]) for f in fields(self)}
        return out | {
            "recompute": RECOMPUTE[int(self.recompute[i])],
            "sequence_parallel": bool(self.sequence_parallel[i]),
        }


def joined(parts: Sequence[Layouts]) -> Layouts:
    """Rows of several one after another."""
    return Layouts(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Layouts)})


def layouts(**columns: ArrayLike) -> Layouts:
    """Broadcast columns or numbers into :class:`Layouts`; what is not given is 1, no ZeRO, no recompute."""
    defaults: dict[str, ArrayLike] = dict.fromkeys((f.name for f in fields(Layouts)), 1)
    defaults |= {"zero_stage": 0, "sequence_parallel": 0, "recompute": 0}
    merged = defaults | columns
    arrays = np.broadcast_arrays(*[np.atleast_1d(np.asarray(v, dtype=np.int64)) for v in merged.values()])
    return Layouts(**dict(zip(merged, arrays, strict=True)))
