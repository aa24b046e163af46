"""Which sections of a model a pass runs, and with which work: written once for time, FLOPs, bounds and points.

Encoders run once, before the first token, so decoding passes them over with the keys and values they left in the
cache. A head that generates reads the last token alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.demand.ops import Array
from planner.demand.transformer import Demand, Section
from planner.demand.workload import Work


@dataclass(frozen=True)
class Piece:
    """One section in one pass.

    Attributes
    ----------
    index : int                     of the section in ``Demand.sections``
    section : Section
    work : Work, (n,)               of the section's own stream of tokens
    active : Array, (op,)           1.0 for operators that run, 0.0 for those that do not
    """

    index: int
    section: Section
    work: Work
    active: Array


def pieces(
    d: Demand, w: Work, *, decode: bool = False, last_token: bool = False, fused: Sequence[str] = ()
) -> Iterator[Piece]:
    """Sections on the text path that a pass runs, in order.

    Parameters
    ----------
    d : Demand;  w : Work, (n,)     the text stream's
    decode : bool                   one new token a sequence over a cache: no encoders, nothing on their side
    last_token : bool               the head of a decoder reads one token a sequence
    fused : names of operators that another one swallows
    """
    for i, s in enumerate(d.sections):
        if not s.table.ops or not d.runs(s) or (decode and d.is_encoder(s)):
            continue
        here = d.stream(s, w)
        if last_token and _generates(d, s):
            one = np.ones_like(here.q_len)
            here = replace(here, q_len=one, cp=one)
        cached = decode * np.array([o.side == "encoder" for o in s.table.ops], dtype=np.float64)
        swallowed = np.array([o.name in fused for o in s.table.ops], dtype=np.float64)
        yield Piece(i, s, here, (1.0 - cached) * (1.0 - swallowed))


def _generates(d: Demand, s: Section) -> bool:
    stack = d.model.stacks[s.stack]
    return s.role == "output" and stack.role == "decoder" and d.model.embedding is not None
