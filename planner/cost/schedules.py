"""Pipeline schedules: what each costs in time and memory and where it places the model, as rows of SCHEDULES.

A *stage* is what one pipeline rank runs of the model, ``vpp`` chunks of it. Times and activations are in whole stages:
F and B are one micro-batch through all chunks of a rank. B, as the planner's other ledgers have it, holds both
gradients and recomputation; b is what the stage before waits for, W the weight gradients, B = b + W. The bubble is what
is left of a step, from the first pass on any stage to the last, beside m(F+B): all stages wait for the gradient norm.

Only operators and methods of arrays are used, so that names can be listed without loading numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from planner.demand.ops import Array

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

Placement = Callable[["Ints", "Ints", int], "Array"]
MANY = 10**7  # chunks a stage: as many as there are layers


@dataclass(frozen=True, kw_only=True)
class StageTimes:
    """Mean time of one micro-batch on one stage, each of shape (n,) [s]: F, B and the W that B holds."""

    forward: Array
    backward: Array
    weight_gradient: Array

    @property
    def input_gradient(self) -> Array:
        """What the stage before waits for, b = B - W [s]."""
        return self.backward - self.weight_gradient


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Stages p, chunks a stage v and micro-batches a step m; arrays that broadcast together."""

    pp: Array
    vpp: Array
    micro_batches: Array

    @property
    def round(self) -> Array:
        """Micro-batches that an interleaved chunk takes before the next chunk's turn: see :func:`rounds`."""
        return self.micro_batches / rounds(self.micro_batches, self.pp)


def rounds(micro_batches: Ints | Array, pp: Ints | Array) -> Array:
    """Rounds that interleaved chunks take turns in: as many as have pp micro-batches or more, or one.

    Rounds are equal, so their number divides the micro-batches, as PyTorch has it (ScheduleInterleaved1F1B in
    torch/distributed/pipelining/schedules.py, https://github.com/pytorch/pytorch). Megatron-LM runs such rounds too,
    from pp micro-batches on: pp each by default, else ``--microbatch-group-size-per-virtual-pipeline-stage``. A last
    round of fewer than pp it refuses, because stages would wait for each other
    (megatron/core/pipeline_parallel/schedules.py, https://github.com/NVIDIA/Megatron-LM).
    """
    found: Array = (micro_batches // pp).clip(min=1)
    return found


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One pipeline schedule.

    Attributes
    ----------
    name, source : what it is called, and where it is described
    bubble : (StageTimes, Pipeline) -> idle time of a stage in one step, shape (n,) [s]
    in_flight : (stage, Pipeline) -> micro-batches whose activations a stage holds at its peak, in whole stages
    exposed_sends : (time of one send, Pipeline) -> sends on the critical path of a step, shape (n,) [s]
    exchange_window : (Pipeline) -> passes of a stage during which an exchange once a step can go on, in micro-batches
    placement : (stage, chunk, stages) -> part of the chunk's work that the stage does, 0 to 1
    chunks : fewest and most chunks a stage
    weight_copies : ranks that hold each chunk
    merges_passes : whether one micro-batch runs forward while another runs back, which hides the experts' exchange
    paired : whether stages and micro-batches come in pairs
    in_rounds : whether several chunks take turns in equal rounds of micro-batches
    fewest_micro_batches : (a, b), a step needs at least a·p + b
    """

    name: str
    source: str
    bubble: Callable[[StageTimes, Pipeline], Array]
    in_flight: Callable[[Array, Pipeline], Array]
    exposed_sends: Callable[[Array, Pipeline], Array]
    exchange_window: Callable[[Pipeline], Array]
    placement: Placement
    chunks: tuple[int, int]
    weight_copies: int
    merges_passes: bool
    paired: bool
    fewest_micro_batches: tuple[int, int]
    in_rounds: bool = False

    def runs_chunks(self, vpp: Ints) -> Mask:
        """Whether a stage may hold ``vpp`` chunks, shape (n,)."""
        return (vpp >= self.chunks[0]) & (vpp <= self.chunks[1])

    def runs_stages(self, pp: Ints) -> Mask:
        """Whether there may be ``pp`` stages, shape (n,): chunks that always are several need a pipeline."""
        runs: Mask = ((pp > 1) | (self.chunks[0] == 1)) & ((pp % 2 == 0) | (not self.paired))
        return runs

    def runs_micro_batches(self, micro_batches: Ints, pp: Ints) -> Mask:
        """Whether a step may have so many micro-batches, shape (n,)."""
        a, b = self.fewest_micro_batches
        runs: Mask = (micro_batches >= a * pp + b) & ((micro_batches % 2 == 0) | (not self.paired))
        return runs

    def runs_rounds(self, micro_batches: Ints, pp: Ints, vpp: Ints) -> Mask:
        """Whether the micro-batches deal into equal rounds where chunks take turns in them, shape (n,)."""
        runs: Mask = (micro_batches % rounds(micro_batches, pp) == 0) | (vpp == 1) | (not self.in_rounds)
        return runs

    @property
    def said_chunks(self) -> str:
        """How many chunks a stage holds, in words."""
        least, most = self.chunks
        return f"exactly {least} model chunk{'s' * (least > 1)}" if least == most else f"{least} model chunks or more"

    @property
    def said_stages(self) -> str:
        """What is asked of the number of stages, in words."""
        return "an even number of stages" if self.paired else "two stages or more"

    @property
    def said_micro_batches(self) -> str:
        """What is asked of the number of micro-batches, in words."""
        a, b = self.fewest_micro_batches
        least = f"{a}·pp" + (f"{b:+d}" if b else "")
        return f"an even number of micro-batches, {least} or more" if self.paired else f"{least} micro-batches or more"


# Bubbles


def looped_bubble(t: StageTimes, p: Pipeline) -> Array:
    """(p-1)(F+B)/v (Narayanan et al. 2021, section 2.2, https://arxiv.org/abs/2104.04473), in rounds of p
    micro-batches or more. Where m < p, chunks run in rounds of m and a micro-batch comes round to a stage's next chunk
    later than the stage is done with the others: (p-m)(1-1/v)(F+B) more."""
    whole = t.forward + t.backward
    late = (p.pp - p.micro_batches).clip(min=0.0) * (1.0 - 1.0 / p.vpp) * whole
    bubble: Array = (p.pp - 1) * whole / p.vpp + late
    return bubble


def deferred_bubble(t: StageTimes, p: Pipeline) -> Array:
    """(p-1)(F+b-W), so (p-1)(F+B-2W) (Qi et al. 2023, table 2, https://arxiv.org/abs/2401.10241), where m ≥ p and
    W is the shortest of the three. A gap is filled by no more than the shortest, and by no more than are due."""
    filled = p.micro_batches.clip(max=p.pp) - 1
    f, b, w = t.forward, t.input_gradient, t.weight_gradient
    bubble: Array = (p.pp - 1) * (f + b) - filled * w.clip(max=b).clip(max=f)
    return bubble


def zb_v_bubble(t: StageTimes, p: Pipeline) -> Array:
    """Critical paths of ZB-V in the order for F = b = W (Qi et al. 2023, section 6, https://arxiv.org/abs/2401.10241).

    There (p-1)F/2, which is how much later the last stage starts: the paper counts each stage by itself, and none
    where optimizer steps do not wait for each other. max(b/2, b-W)·(p-1) where b ≥ F and b ≥ W. Its scheduler reorders
    passes of other times, which can only be shorter.
    """
    n = p.pp - 1
    f, b, w = t.forward / 2, t.input_gradient / 2, t.weight_gradient / 2
    late = ((2 * n - 1) * (f - b)).clip(min=2 * n * (f - b) - w).clip(min=0.0)
    bubble: Array = (n * b + late).clip(min=2 * n * (b - w) + late).clip(min=f.clip(min=b) + (n - 1) * w)
    return bubble


def _two_way_bubble(f: Array, b: Array, w: Array, n: Array) -> Array:
    """n(F&B + B - 3W) = n(F+2b-W) where F = b ≥ W (DeepSeek-V3, table 1, https://arxiv.org/abs/2412.19437), F&B being
    F + B: what they hide of each other is the exchange with experts. Else what the order of the published code
    (https://github.com/deepseek-ai/DualPipe) takes, up to F less where b > F."""
    bubble: Array = (2 * n * f).clip(min=(n - 1) * f + n * b) + n * (b - w).clip(min=0.0)
    return bubble


def dualpipe_bubble(t: StageTimes, p: Pipeline) -> Array:
    """Two pipelines of p stages from either end meet: n = p/2 - 1."""
    return _two_way_bubble(t.forward, t.input_gradient, t.weight_gradient, p.pp / 2 - 1)


def dualpipev_bubble(t: StageTimes, p: Pipeline) -> Array:
    """One pipeline of 2p chunks folded on p stages: n = p - 1, of passes half as long
    (https://github.com/deepseek-ai/DualPipe, README)."""
    return _two_way_bubble(t.forward / 2, t.input_gradient / 2, t.weight_gradient / 2, p.pp - 1.0)


# Activations


def looped_in_flight(stage: Array, p: Pipeline) -> Array:
    """p - i on stage i; interleaved (2·(p-i-1) + (v-1)·p + 1)/v, on the first stage p·(1 + (p-1)/(p·v))
    (Korthikanti et al. 2022, section 4.2.3, https://arxiv.org/abs/2205.05198); in rounds of another length, (v-1) of
    those."""
    chunks = 2.0 * (p.pp - stage - 1) + (p.vpp - 1) * p.round + 1
    several = p.vpp > 1
    held: Array = (several * chunks / p.vpp + ~several * (p.pp - stage)).clip(max=p.micro_batches)
    return held


def all_in_flight(stage: Array, p: Pipeline) -> Array:
    """All: every forward pass comes before the first backward (Huang et al. 2019, https://arxiv.org/abs/1811.06965)."""
    return p.micro_batches + 0.0 * stage


def level_in_flight(stage: Array, p: Pipeline) -> Array:
    """p on every stage: what a later stage needs less for its input gradients it keeps for weight gradients (Qi et al.
    2023, section 2.1, https://arxiv.org/abs/2401.10241; ZB-V the same, 2p chunks of half a stage, section 6)."""
    return (p.pp + 0.0 * stage).clip(max=p.micro_batches)


def dualpipe_in_flight(stage: Array, p: Pipeline) -> Array:
    """p + 1 on every stage (DeepSeek-V3, table 1, https://arxiv.org/abs/2412.19437)."""
    return p.pp + 1.0 + 0.0 * stage


def dualpipev_in_flight(stage: Array, p: Pipeline) -> Array:
    """2p + 1 chunks of half a stage (https://github.com/deepseek-ai/DualPipe, README)."""
    return p.pp + 0.5 + 0.0 * stage


# Sends


def looped_sends(send: Array, p: Pipeline) -> Array:
    """1F1B: each micro-batch forward and back. Interleaving hides the steady state behind other chunks: filling and
    draining pass on all v·p chunks."""
    steady = 2.0 * (p.pp - 1) * send + 2.0 * (p.micro_batches - 1) * send
    several = p.vpp > 1
    sends: Array = several * 2.0 * (p.pp * p.vpp - 1) * send + ~several * steady
    return sends


def fill_sends(send: Array, p: Pipeline) -> Array:
    """Filling and draining only, v times through the pipeline: the steady state hides behind other passes. Where the
    chunks turn round, the last stage sends to itself."""
    return 2.0 * (p.pp - 1) * p.vpp * send


# Windows of the exchange once a step


def looped_window(p: Pipeline) -> Array:
    """A stage that holds one chunk of the model has its gradients with the last backward pass. Interleaved, chunks run
    in turn for a round of micro-batches each, so all but the last exchange while the next of them run; parameters
    likewise, before the first (Narayanan et al. 2021, section 2.2, https://arxiv.org/abs/2104.04473)."""
    window: Array = (1.0 + (p.vpp - 1.0) * p.round) / p.vpp
    return window


def last_pass_window(p: Pipeline) -> Array:
    """Gradients are complete with the last pass, and that is what they hide behind."""
    return 1.0 + 0.0 * p.pp


# Placements


def loop_placement(stage: Ints, chunk: Ints, stages: int) -> Array:
    """Chunk c on stage c mod p."""
    share: Array = 1.0 * (stage == chunk % stages)
    return share


def v_placement(stage: Ints, chunk: Ints, stages: int) -> Array:
    """Chunks 0 … p-1 on stages 0 … p-1, and back: the first and the last chunk on the first stage."""
    share: Array = 1.0 * (stage == chunk.clip(max=2 * stages - 1 - chunk))
    return share


def mirrored_placement(stage: Ints, chunk: Ints, stages: int) -> Array:
    """Half of the micro-batches find chunk c on stage c, the others, from the other end, on stage p-1-c."""
    share: Array = 0.5 * (stage == chunk) + 0.5 * (stage == stages - 1 - chunk)
    return share


def _looped(name: str, source: str) -> Schedule:
    """1F1B, interleaved where stages hold several chunks: two names of one schedule."""
    return Schedule(
        name=name, source=source, bubble=looped_bubble, in_flight=looped_in_flight, exposed_sends=looped_sends,
        exchange_window=looped_window, placement=loop_placement, chunks=(1, MANY), weight_copies=1,
        merges_passes=False, paired=False, fewest_micro_batches=(0, 1), in_rounds=True,
    )  # fmt: skip


SCHEDULES: Mapping[str, Schedule] = MappingProxyType({
    s.name: s
    for s in (
        _looped("1f1b", "PipeDream-Flush, Narayanan et al. 2021, section 2.2, https://arxiv.org/abs/2104.04473"),
        _looped("interleaved", "Narayanan et al. 2021, section 2.2, https://arxiv.org/abs/2104.04473"),
        Schedule(
            name="zb-h1", source="Qi et al. 2023, section 2.1, https://arxiv.org/abs/2401.10241",
            bubble=deferred_bubble, in_flight=level_in_flight, exposed_sends=looped_sends,
            exchange_window=last_pass_window, placement=loop_placement, chunks=(1, 1), weight_copies=1,
            merges_passes=False, paired=False, fewest_micro_batches=(0, 1),
        ),
        Schedule(
            name="zb-v", source="Qi et al. 2023, section 6, https://arxiv.org/abs/2401.10241; "
            "Qi et al. 2024, https://arxiv.org/abs/2405.15362", bubble=zb_v_bubble, in_flight=level_in_flight,
            exposed_sends=fill_sends, exchange_window=last_pass_window, placement=v_placement, chunks=(2, 2),
            weight_copies=1, merges_passes=False, paired=False, fewest_micro_batches=(2, -1),
        ),
        Schedule(
            name="dualpipe", source="DeepSeek-V3, section 3.2.1, https://arxiv.org/abs/2412.19437",
            bubble=dualpipe_bubble, in_flight=dualpipe_in_flight, exposed_sends=fill_sends,
            exchange_window=last_pass_window, placement=mirrored_placement, chunks=(1, 1), weight_copies=2,
            merges_passes=True, paired=True, fewest_micro_batches=(2, 0),
        ),
        Schedule(
            name="dualpipev", source="https://github.com/deepseek-ai/DualPipe", bubble=dualpipev_bubble,
            in_flight=dualpipev_in_flight, exposed_sends=fill_sends, exchange_window=last_pass_window,
            placement=v_placement, chunks=(2, 2), weight_copies=1, merges_passes=True, paired=False,
            fewest_micro_batches=(2, 0),
        ),
        Schedule(
            name="gpipe", source="Huang et al. 2019, https://arxiv.org/abs/1811.06965", bubble=looped_bubble,
            in_flight=all_in_flight, exposed_sends=fill_sends, exchange_window=last_pass_window,
            placement=loop_placement, chunks=(1, 1), weight_copies=1, merges_passes=False, paired=False,
            fewest_micro_batches=(0, 1),
        ),
    )
})  # fmt: skip
