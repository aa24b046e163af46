"""Pipeline schedules: what each costs in time and memory, and how it places the model. A new one is a row of SCHEDULES.

A *stage* is what one pipeline rank holds of the model; ``vpp`` chunks make a stage. Times and activations are in units
of whole stages: F and B of one micro-batch through everything a rank holds, B holding W, the weight gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from planner.demand.ops import Array

Ints = NDArray[np.int64]
Placement = Callable[[Ints, int], Ints]


@dataclass(frozen=True, kw_only=True)
class StageTimes:
    """Mean time of one micro-batch on one stage, each of shape (n,) [s]; ``backward`` holds both gradients and
    recomputation, ``weight_gradient`` the part of it that can wait."""

    forward: Array
    backward: Array
    weight_gradient: Array


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Sizes of a pipeline: stages, model chunks a stage and micro-batches a step, arrays that broadcast together."""

    pp: Array
    vpp: Array
    micro_batches: Array


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One pipeline schedule.

    Attributes
    ----------
    name, source
    bubble : (StageTimes, Pipeline) -> idle time of a stage in one step, shape (n,) [s]
    in_flight : (stage, Pipeline) -> micro-batches whose activations a stage holds at its peak, in whole stages
    exposed_sends : (time of one send, Pipeline) -> sends on the critical path of a step, shape (n,) [s]
    exchange_window : (Pipeline) -> passes of a stage during which an exchange once a step can go on, in micro-batches
    stage_of : (chunk, stages) -> stage that holds each chunk of the model, in the order of its layers
    chunks : fewest and most chunks a stage
    weight_copies : copies of a stage's weights and gradients on a rank
    merges_passes : whether one micro-batch runs forward while another runs back, which hides the experts' exchange
    even_stages : whether stages come in pairs
    rounds : micro-batches a step needs, over its stages
    """

    name: str
    source: str
    bubble: Callable[[StageTimes, Pipeline], Array]
    in_flight: Callable[[Array, Pipeline], Array]
    exposed_sends: Callable[[Array, Pipeline], Array]
    exchange_window: Callable[[Pipeline], Array]
    stage_of: Placement
    chunks: tuple[int, int]
    weight_copies: float
    merges_passes: bool
    even_stages: bool
    rounds: int

    def runs_chunks(self, vpp: Ints | int) -> NDArray[np.bool_]:
        """Whether a stage may hold ``vpp`` chunks, shape (n,)."""
        return np.asarray((self.chunks[0] <= vpp) & (vpp <= self.chunks[1]))

    def runs_stages(self, pp: Ints) -> NDArray[np.bool_]:
        """Whether the schedule is one of ``pp`` stages, shape (n,): chunks that always are several need a pipeline."""
        return np.asarray(((pp > 1) | (self.chunks[0] == 1)) & ((pp % 2 == 0) | (not self.even_stages)))

    @property
    def said_stages(self) -> str:
        """What it asks of the number of stages, in words."""
        return "an even number of stages" if self.even_stages else "two stages or more"

    @property
    def said_chunks(self) -> str:
        """How many chunks a stage holds, in words."""
        least, most = self.chunks
        return f"exactly {least} model chunk{'s' * (least > 1)}" if least == most else f"{least} model chunks or more"


MANY = 10**7  # chunks: as many as the model has layers


def looped_bubble(t: StageTimes, p: Pipeline) -> Array:
    """(p-1)(F+B)/v. Narayanan et al. 2021, section 2.2, https://arxiv.org/abs/2104.04473."""
    return np.asarray((p.pp - 1) * (t.forward + t.backward) / np.where(p.vpp > 1, p.vpp, 1.0))


def split_backward_bubble(t: StageTimes, p: Pipeline) -> Array:
    """(p-1)(F+B-2W), B holding W, of which one moves into the bubble. Qi et al. 2023, table 2,
    https://arxiv.org/abs/2401.10241."""
    return np.asarray(np.maximum((p.pp - 1) * (t.forward + t.backward - 2 * t.weight_gradient), 0.0))


def bidirectional_bubble(t: StageTimes, p: Pipeline) -> Array:
    """(p/2-1)(F+B-3W). DeepSeek-V3, table 1, https://arxiv.org/abs/2412.19437."""
    return np.asarray(np.maximum((p.pp / 2 - 1) * (t.forward + t.backward - 3 * t.weight_gradient), 0.0))


def looped_in_flight(stage: Array, p: Pipeline) -> Array:
    """p - i on stage i; interleaved (2·(p-i-1) + (v-1)·p + 1)/v, on the first stage p·(1 + (p-1)/(p·v))
    (Korthikanti et al. 2022, section 4.2.3, https://arxiv.org/abs/2205.05198); never more than there are."""
    chunks = 2.0 * (p.pp - stage - 1) + (p.vpp - 1) * p.pp + 1
    return np.asarray(np.minimum(np.where(p.vpp > 1, chunks / p.vpp, p.pp - stage), p.micro_batches))


def all_in_flight(stage: Array, p: Pipeline) -> Array:
    """All: every forward pass comes before the first backward pass. Huang et al. 2019, https://arxiv.org/abs/1811.06965."""
    return np.asarray(p.micro_batches + 0.0 * stage)


def bidirectional_in_flight(stage: Array, p: Pipeline) -> Array:
    """p + 1 on every stage. DeepSeek-V3, table 1, https://arxiv.org/abs/2412.19437."""
    return np.asarray(np.minimum(p.pp + 1 + 0.0 * stage, 2 * p.micro_batches))


def looped_sends(send: Array, p: Pipeline) -> Array:
    """Each micro-batch forward and back; interleaving hides the steady state behind other chunks and pays v times in
    filling and draining."""
    fill = 2.0 * (p.pp - 1) * send
    return np.where(p.vpp > 1, fill * p.vpp, fill + 2.0 * (p.micro_batches - 1) * send)


def bidirectional_sends(send: Array, p: Pipeline) -> Array:
    """Filling and draining only: the steady state hides behind the other direction."""
    return np.asarray(2.0 * (p.pp - 1) * send)


def looped_window(p: Pipeline) -> Array:
    """A stage that holds one chunk of the model has its gradients with the last backward pass. Interleaved, chunks run
    in turn for p micro-batches each, so all but the last exchange while the next of them run; parameters likewise,
    before the first (Narayanan et al. 2021, section 2.2, https://arxiv.org/abs/2104.04473)."""
    v = p.vpp.astype(np.float64)
    turns = np.minimum(p.pp, p.micro_batches)
    return np.where(v > 1, (1.0 + (v - 1.0) * turns) / v, 1.0)


def last_pass_window(p: Pipeline) -> Array:
    """One pass: gradients are complete with the last backward pass."""
    return np.ones(np.shape(p.pp))


def loop_placement(chunk: Ints, stages: int) -> Ints:
    """Chunk c on stage c mod p."""
    return chunk % stages


def _looped(name: str, source: str) -> Schedule:
    return Schedule(
        name=name, source=source, bubble=looped_bubble, in_flight=looped_in_flight, exposed_sends=looped_sends,
        exchange_window=looped_window, stage_of=loop_placement, chunks=(1, MANY), weight_copies=1.0,
        merges_passes=False, even_stages=False, rounds=0,
    )  # fmt: skip


SCHEDULES: Mapping[str, Schedule] = MappingProxyType({
    s.name: s
    for s in (
        _looped("1f1b", "Narayanan et al. 2021 (PipeDream-Flush), https://arxiv.org/abs/2104.04473"),
        _looped("interleaved", "Narayanan et al. 2021, section 2.2, https://arxiv.org/abs/2104.04473"),
        Schedule(
            name="zb-h1", source="Qi et al. 2023, https://arxiv.org/abs/2401.10241", bubble=split_backward_bubble,
            in_flight=looped_in_flight, exposed_sends=looped_sends, exchange_window=last_pass_window,
            stage_of=loop_placement, chunks=(1, 1), weight_copies=1.0, merges_passes=False, even_stages=False,
            rounds=0,
        ),
        Schedule(
            name="dualpipe", source="DeepSeek-V3, https://arxiv.org/abs/2412.19437", bubble=bidirectional_bubble,
            in_flight=bidirectional_in_flight, exposed_sends=bidirectional_sends, exchange_window=last_pass_window,
            stage_of=loop_placement, chunks=(1, 1), weight_copies=2.0, merges_passes=True, even_stages=False, rounds=0,
        ),
        Schedule(
            name="gpipe", source="Huang et al. 2019, https://arxiv.org/abs/1811.06965", bubble=looped_bubble,
            in_flight=all_in_flight, exposed_sends=looped_sends, exchange_window=last_pass_window,
            stage_of=loop_placement, chunks=(1, 1), weight_copies=1.0, merges_passes=False, even_stages=False,
            rounds=0,
        ),
    )
})  # fmt: skip
