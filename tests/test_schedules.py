"""Pipeline schedules, each played out pass by pass in the order its authors give it, beside the closed forms.

F is a forward pass, B what the stage before waits for, W the weight gradients. Passes of one step run together, as a
whole backward pass (B, W) does or what DualPipe merges; a step takes the sum of its passes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from builders import cluster, gpt, training
from hypothesis import given
from hypothesis import strategies as st

import planner
from planner.cost.layouts import layouts
from planner.cost.schedules import SCHEDULES, Pipeline, StageTimes
from planner.cost.stages import stage_counts
from planner.cost.training import training_step
from planner.demand.transformer import demand
from planner.errors import BadInputError
from planner.scenario.keys import KEYS

Pass = tuple[str, int, int]  # F, B or W; chunk in the order of the layers; micro-batch
Order = list[tuple[Pass, ...]]


class Stage:
    """Writes down the order of one stage. A path is where it holds a chunk; micro-batches of a path come in turn, and
    ``lane`` keeps apart those that enter a two-way pipeline from either end."""

    def __init__(self, *chunks: int, lanes: tuple[int, ...] = (0, 0, 0, 0, 0, 0, 0, 0)) -> None:
        self.order: Order = []
        self.chunks, self.lanes = chunks, lanes
        self.begun: Counter[tuple[str, int]] = Counter()
        self.due: deque[Pass] = deque()

    def of(self, kind: str, path: int) -> Pass:
        turn = self.begun[kind, path]
        self.begun[kind, path] += 1
        return kind, self.chunks[path], 2 * turn + self.lanes[path]

    def forward(self, path: int = 0) -> None:
        self.order.append((self.of("F", path),))

    def backward(self, path: int = 0, *, behind: int | None = None) -> None:
        """A whole backward pass, merged with the next forward pass of the path ``behind`` which it hides."""
        hidden = () if behind is None else (self.of("F", behind),)
        kind, chunk, micro = self.of("B", path)
        self.order.append((*hidden, (kind, chunk, micro), ("W", chunk, micro)))

    def inputs(self, path: int = 0) -> None:
        """The backward pass without its weight gradients, which are due."""
        kind, chunk, micro = self.of("B", path)
        self.order.append(((kind, chunk, micro),))
        self.due.append(("W", chunk, micro))

    def weights(self) -> None:
        """The weight gradients that have been due for longest."""
        self.order.append((self.due.popleft(),))


def gpipe(p: int, m: int, v: int) -> list[Order]:
    """All forward, then all back. Huang et al. 2019, figure 2, https://arxiv.org/abs/1811.06965."""
    stages = [Stage(r) for r in range(p)]
    for s in stages:
        for _ in range(m):
            s.forward()
        for _ in range(m):
            s.backward()
    return [s.order for s in stages]


def one_f_one_b(p: int, m: int, v: int) -> list[Order]:
    """p-r-1 forward, then one forward and one back in turn. Narayanan et al. 2021, figure 4 (top)."""
    if v > 1:
        return interleaved(p, m, v)
    stages = [Stage(r) for r in range(p)]
    for r, s in enumerate(stages):
        warm = min(p - r - 1, m)
        for _ in range(warm):
            s.forward()
        for _ in range(m - warm):
            s.forward()
            s.backward()
        for _ in range(warm):
            s.backward()
    return [s.order for s in stages]


def interleaved(p: int, m: int, v: int, turns: int = 0) -> list[Order]:
    """Chunks in turn for a round of micro-batches each: p of them (Narayanan et al. 2021, figure 4, bottom), or what
    makes max(1, m // p) rounds of m, as PyTorch's ScheduleInterleaved1F1B has it. 2(p-r-1) + (v-1)·round chunks
    forward before the first back, as in PyTorch and Megatron-LM; where m is no multiple, the last round is short, the
    order of Megatron-LM's get_schedule_table."""
    if v == 1:
        return one_f_one_b(p, m, v)
    turns = turns or m // max(1, m // p)
    stages = [Stage(*(c * p + r for c in range(v))) for r in range(p)]
    for r, s in enumerate(stages):
        warm = min(2 * (p - r - 1) + (v - 1) * turns, m * v)
        ahead = [c for first in range(0, m, turns) for c in range(v) for _ in range(first, min(first + turns, m))]
        back = [v - 1 - c for c in ahead]
        for c in ahead[:warm]:
            s.forward(c)
        for c, b in zip(ahead[warm:], back[: m * v - warm], strict=True):
            s.forward(c)
            s.backward(b)
        for b in back[m * v - warm :]:
            s.backward(b)
    return [s.order for s in stages]


def zb_h1(p: int, m: int, v: int) -> list[Order]:
    """1F1B, but stage r starts with weight gradients r micro-batches later. Qi et al. 2023, section 2.1,
    https://arxiv.org/abs/2401.10241."""
    stages = [Stage(r) for r in range(p)]
    for r, s in enumerate(stages):
        warm = min(p - r - 1, m)
        for _ in range(warm):
            s.forward()
        for i in range(m):
            if i < m - warm:
                s.forward()
            s.inputs()
            if i >= r:
                s.weights()
        while s.due:
            s.weights()
    return [s.order for s in stages]


def zb_v(p: int, m: int, v: int) -> list[Order]:
    """Stage r holds chunks r and 2p-1-r. Qi et al. 2023, section 6, for F = B = W; PyTorch's ScheduleZBVZeroBubble
    (https://github.com/pytorch/pytorch) runs the same order."""
    stages = [Stage(r, 2 * p - 1 - r) for r in range(p)]
    for r, s in enumerate(stages):
        for _ in range(2 * (p - r) - 1):
            s.forward(0)
        for _ in range(r):
            s.forward(1)
            s.forward(0)
        for _ in range(p - r):
            s.forward(1)
            s.inputs(1)
            s.weights()
        for i in range(m - p):
            if i < m - (2 * p - 1 - r):
                s.forward(0)
            s.inputs(0)
            s.weights()
            s.forward(1)
            s.inputs(1)
            s.weights()
        for _ in range(r):
            s.inputs(0)
            s.inputs(1)
        for _ in range(p - r):
            s.inputs(0)
            s.weights()
        while s.due:
            s.weights()
    return [s.order for s in stages]


def two_way(s: Stage, at: int, depth: int, m: int) -> Order:
    """The eight phases of DualPipe (https://github.com/deepseek-ai/DualPipe) on the stage ``at`` steps from the end
    that path 0 comes from, ``depth`` stages from where the ways meet or turn, m micro-batches a path."""
    inner = depth - at - 1
    for _ in range(2 * inner):
        s.forward(0)
    for _ in range(at + 1):
        s.forward(0)
        s.forward(1)
    for _ in range(inner):
        s.inputs(1)
        s.weights()
        s.forward(1)
    for i in range(m - 2 * depth + at + 1):
        if i == 0 and inner == 0:
            s.forward(0)
            s.backward(1)
        else:
            s.backward(1, behind=0)
        s.backward(0, behind=1)
    for _ in range(inner):
        s.backward(1)
        s.backward(0, behind=1)
    for i in range(2 * (at + 1)):  # the later half leaves its weight gradients for the gaps
        (s.backward if i <= at else s.inputs)(1 - i % 2)
    for _ in range(inner):
        s.weights()
        s.inputs(0)
    for _ in range(at + 1):
        s.weights()
    assert not s.due
    return s.order


def dualpipe(p: int, m: int, v: int) -> list[Order]:
    """Micro-batches enter from both ends; stage r is chunk r to the one half and p-1-r to the other."""
    orders = []
    for r in range(p):
        near, far = (0, 1) if r < p // 2 else (1, 0)
        chunk = {0: r, 1: p - 1 - r}
        orders.append(two_way(Stage(chunk[near], chunk[far], lanes=(near, far)), min(r, p - 1 - r), p // 2, m // 2))
    return orders


def dualpipev(p: int, m: int, v: int) -> list[Order]:
    """One half of DualPipe with the other folded onto it."""
    return [two_way(Stage(r, 2 * p - 1 - r), r, p, m) for r in range(p)]


ORDERS: dict[str, Callable[[int, int, int], list[Order]]] = {
    "1f1b": one_f_one_b, "interleaved": interleaved, "zb-h1": zb_h1, "zb-v": zb_v, "dualpipe": dualpipe,
    "dualpipev": dualpipev, "gpipe": gpipe,
}  # fmt: skip
SIZES = {  # stages, micro-batches, chunks a stage
    "1f1b": [(1, 1, 1), (2, 2, 1), (2, 7, 1), (4, 4, 1), (4, 2, 1), (4, 16, 1), (8, 32, 1), (5, 13, 1), (4, 8, 2)],
    "interleaved": [(2, 2, 2), (2, 8, 4), (4, 8, 2), (4, 16, 3), (8, 16, 4), (4, 1, 2), (4, 3, 2), (8, 5, 4),
                    (4, 6, 8), (4, 7, 2), (4, 10, 3), (3, 8, 2), (8, 18, 3), (5, 9, 4)],
    "zb-h1": [(1, 3, 1), (2, 2, 1), (2, 8, 1), (4, 4, 1), (4, 16, 1), (8, 32, 1), (5, 13, 1), (4, 3, 1), (8, 1, 1)],
    "zb-v": [(2, 3, 2), (2, 8, 2), (3, 5, 2), (4, 7, 2), (4, 16, 2), (5, 12, 2), (8, 15, 2), (8, 40, 2)],
    "dualpipe": [(2, 4, 1), (2, 10, 1), (4, 8, 1), (4, 18, 1), (6, 12, 1), (8, 16, 1), (8, 20, 1), (10, 32, 1)],
    "dualpipev": [(2, 4, 2), (2, 9, 2), (3, 6, 2), (4, 8, 2), (4, 10, 2), (5, 17, 2), (8, 16, 2)],
    "gpipe": [(1, 1, 1), (2, 2, 1), (4, 3, 1), (4, 16, 1), (8, 9, 1)],
}  # fmt: skip
# F, B and W: alike; as training has them; with recomputation; frozen weights; each the longest and the shortest.
TIMES = [(1.0, 1.0, 1.0), (1.0, 1.2, 0.8), (1.0, 2.2, 0.8), (1.0, 1.1, 0.0), (1.0, 1.3, 0.4), (2.0, 1.0, 0.9),
         (1.3, 1.0, 1.6), (0.6, 1.0, 1.7), (1.2, 1.1, 0.1), (0.7, 0.6, 0.5)]  # fmt: skip
CASES = [(name, *size) for name, sizes in SIZES.items() for size in sizes]


@dataclass(frozen=True)
class Played:
    """When the last stage is done, and which passes each stage ran."""

    end: float
    orders: list[Order]


def play(orders: list[Order], *, chunks: int, f: float, b: float, w: float, send: float = 0.0) -> Played:
    """Run a pipeline whose stages work in the given orders as soon as their inputs are there. ``f``, ``b`` and ``w``
    of a chunk; ``send`` passes before what another stage made can be used."""
    takes = {"F": f, "B": b, "W": w}
    done: dict[Pass, tuple[float, int]] = {}
    clock, at = [0.0] * len(orders), [0] * len(orders)

    def needs(one: Pass) -> list[Pass]:
        kind, chunk, micro = one
        if kind == "F":
            return [("F", chunk - 1, micro)] if chunk else []
        if kind == "W":
            return [("B", chunk, micro)]
        return [("F", chunk, micro)] + ([("B", chunk + 1, micro)] if chunk < chunks - 1 else [])

    def start(r: int, step: tuple[Pass, ...]) -> float | None:
        inputs = [n for one in step for n in needs(one) if n not in step]
        if any(n not in done for n in inputs):
            return None
        return max([clock[r], *(done[n][0] + send * (done[n][1] != r) for n in inputs)])

    while any(at[r] < len(orders[r]) for r in range(len(orders))):
        moved = False
        for r, order in enumerate(orders):
            while at[r] < len(order) and (begin := start(r, order[at[r]])) is not None:
                clock[r] = begin + sum(takes[kind] for kind, _, _ in order[at[r]])
                for one in order[at[r]]:
                    assert one not in done, "a pass ran twice"
                    done[one] = clock[r], r
                at[r] += 1
                moved = True
        assert moved, "the schedule waits for itself"
    return Played(max(clock), orders)


def played(name: str, p: int, m: int, v: int, *, times: tuple[float, float, float], send: float = 0.0) -> Played:
    f, b, w = (t / v for t in times)
    orders = ORDERS[name](p, m, v)
    assert Counter(one for order in orders for step in order for one in step) == Counter(
        (kind, c, i) for kind in "FBW" for c in range(p * v) for i in micro_batches(name, m)
    ), "every pass runs once"
    return play(orders, chunks=p * v, f=f, b=b, w=w, send=send)


def micro_batches(name: str, m: int) -> range:
    """Numbers of the micro-batches: even ones of a single lane, all of two lanes."""
    return range(m) if name == "dualpipe" else range(0, 2 * m, 2)


def sizes(p: int, m: int, v: int) -> Pipeline:
    return Pipeline(pp=np.array([p]), vpp=np.array([v]), micro_batches=np.array([float(m)]))


def bubble(name: str, p: int, m: int, v: int, *, times: tuple[float, float, float]) -> float:
    f, b, w = (np.array([t]) for t in times)
    stage = StageTimes(forward=f, backward=b + w, weight_gradient=w)
    return float(SCHEDULES[name].bubble(stage, sizes(p, m, v))[0])


def test_every_schedule_is_played_and_can_be_asked_for() -> None:
    assert set(ORDERS) == set(SIZES) == set(SCHEDULES) == set(KEYS["schedule"].allowed)
    assert all(s.name == name and "https://" in s.source for name, s in SCHEDULES.items())


# Time


@pytest.mark.parametrize(("name", "p", "m", "v"), CASES)
@pytest.mark.parametrize("times", TIMES)
def test_bubble_by_simulation(name: str, p: int, m: int, v: int, times: tuple[float, float, float]) -> None:
    due = played(name, p, m, v, times=times).end - m * sum(times)
    assert bubble(name, p, m, v, times=times) == pytest.approx(due, abs=1e-9)


@given(
    case=st.sampled_from(CASES), f=st.floats(0.01, 10), b=st.floats(0.01, 10), w=st.floats(0, 10),
)  # fmt: skip
def test_bubble_of_any_times_by_simulation(case: tuple[str, int, int, int], f: float, b: float, w: float) -> None:
    name, p, m, v = case
    due = played(name, p, m, v, times=(f, b, w)).end - m * (f + b + w)
    assert bubble(name, p, m, v, times=(f, b, w)) == pytest.approx(due, rel=1e-9, abs=1e-7)


GRID = [(p, m, v) for p in (2, 3, 4, 6) for m in range(1, 6 * p + 2) for v in (2, 3, 5)]


def runs_rounds(p: int, m: int, v: int) -> bool:
    return bool(SCHEDULES["interleaved"].runs_rounds(np.array([m]), np.array([p]), np.array([v]))[0])


@pytest.mark.parametrize("times", [(1.0, 1.2, 0.8), (2.0, 1.0, 0.9), (1.0, 1.3, 0.0)])
def test_equal_rounds_by_simulation(times: tuple[float, float, float]) -> None:
    """Whatever deals into equal rounds has the bubble and the activations of the closed form; what does not, played
    with the short last round that is left, idles for longer than that or for ever."""
    for p, m, v in GRID:
        assert runs_rounds(p, m, v) == (m % max(1, m // p) == 0)
        f, b, w = (t / v for t in times)
        if runs_rounds(p, m, v):
            due = played("interleaved", p, m, v, times=times)
            assert due.end - m * sum(times) == pytest.approx(bubble("interleaved", p, m, v, times=times), abs=1e-9)
            for stage, order in enumerate(due.orders):
                got = SCHEDULES["interleaved"].in_flight(np.array([float(stage)]), sizes(p, m, v))
                assert float(got[0]) == pytest.approx(held_at_peak(order) / v), (p, m, v, stage)
        else:
            try:
                end = play(interleaved(p, m, v, turns=p), chunks=p * v, f=f, b=b, w=w).end
            except AssertionError as stuck:
                assert "waits for itself" in str(stuck)
                continue
            assert end - m * sum(times) > (p - 1) * sum(times) / v + 0.3 * min(times[0], times[1])


def test_a_search_deals_interleaved_micro_batches_into_equal_rounds() -> None:
    """18 micro-batches on 4 stages would leave a round of two."""
    scenario = {"model": "llama-3.1-70b", "hardware": "dgx-h100", "devices": 64, "global_batch": 72, "seq_len": 4096}
    for e in planner.plan(**scenario, top=50).rows:
        pp, m = int(e.layout.pp[0]), int(e.layout.micro_batches[0])
        assert e.layout.vpp[0] == 1 or m % max(1, m // pp) == 0
    held = {"pp": 4, "tp": 8, "vpp": 2, "micro_batch": 1, "global_batch": 12}
    told = planner.estimate(**scenario | held).assumed
    assert any("every 6 micro-batches (Megatron-LM: --microbatch-group-size" in a for a in told)


@given(p=st.integers(1, 16), extra=st.integers(0, 30), f=st.floats(0.1, 5), b=st.floats(0.1, 5), w=st.floats(0, 5))
def test_bubbles_as_published(p: int, extra: int, f: float, b: float, w: float) -> None:
    """Tables of Zero Bubble and of DualPipe, whose B holds W: exact where their figures are drawn, else a bound."""
    pp, m, whole = 2 * p, 4 * p + 2 * extra, b + w
    times = (f, b, w)
    assert bubble("1f1b", pp, m, 1, times=times) == pytest.approx((pp - 1) * (f + whole))
    assert bubble("gpipe", pp, m, 1, times=times) == pytest.approx((pp - 1) * (f + whole))
    h1 = bubble("zb-h1", pp, m, 1, times=times)
    assert h1 >= (pp - 1) * (f + whole - 2 * w) - 1e-9
    if w <= min(f, b):
        assert h1 == pytest.approx((pp - 1) * (f + whole - 2 * w))
    level, short = (b, b, min(w, b)), min(w, b)  # F = B, W no longer
    both = b + b + short
    table = (pp / 2 - 1) * (both + (b + short) - 3 * short)
    assert bubble("dualpipe", pp, m, 1, times=level) == pytest.approx(table)
    if p > 1:
        table = (p - 1) * (both + (b + short) - 3 * short) / 2
        assert bubble("dualpipev", p, m, 2, times=level) == pytest.approx(table)
        assert bubble("zb-v", p, m, 2, times=(b, b, b)) == pytest.approx((p - 1) * b / 2)
    if b >= max(f, w):
        table = (pp / 2 - 1) * ((f + whole) + whole - 3 * w)
        assert table - f - 1e-9 <= bubble("dualpipe", pp, m, 1, times=times) <= table + 1e-9


@pytest.mark.parametrize(("p", "m"), [(2, 8), (4, 16), (8, 40)])
def test_zb_v_has_no_bubble_but_the_late_start(p: int, m: int) -> None:
    """Where F = B = W each stage works without a pause from its first pass to its last."""
    orders = ORDERS["zb-v"](p, m, 2)
    end = play(orders, chunks=2 * p, f=1.0, b=1.0, w=1.0).end
    assert end == 6 * m + (p - 1)  # the last stage starts p - 1 passes late and ends last


SENDS = [
    ("1f1b", 4, 16, 1),
    ("interleaved", 2, 4, 2),
    ("interleaved", 4, 8, 3),
    ("zb-h1", 4, 16, 1),
    ("gpipe", 4, 9, 1),
]


@pytest.mark.parametrize(("name", "p", "m", "v"), SENDS)
def test_sends_by_simulation(name: str, p: int, m: int, v: int) -> None:
    """Exact where the steady state hides them. One forward and one back in turn wait for each other: twice a
    micro-batch where a send holds its stage up, and less where it goes on beside other work, as it is played here."""
    short, times = 1e-3, (1.0, 1.2, 0.8)
    due = (played(name, p, m, v, times=times, send=short).end - played(name, p, m, v, times=times).end) / short
    got = float(SCHEDULES[name].exposed_sends(np.ones(1), sizes(p, m, v))[0])
    if name in ("interleaved", "gpipe"):
        assert got == pytest.approx(due)
    else:
        assert 2 * (p - 1) <= due <= got == 2 * (p - 1) + 2 * (m - 1)


@pytest.mark.parametrize("name", ["zb-v", "dualpipe", "dualpipev"])
def test_filling_and_draining_send_once_a_hop(name: str) -> None:
    """What one micro-batch alone waits for on its way there and back."""
    p, v = 4, SCHEDULES[name].chunks[0]
    orders = [[s for s in [tuple(one for one in step if one[2] == 0) for step in order] if s]
              for order in ORDERS[name](p, 2 * p, v)]  # fmt: skip
    slow, quick = (play(orders, chunks=p * v, f=1.0, b=1.0, w=1.0, send=c).end for c in (0.5, 0.0))
    got = SCHEDULES[name].exposed_sends(np.array([0.5]), sizes(p, 2 * p, v))
    assert float(got[0]) == pytest.approx(slow - quick)


def test_interleaved_stages_exchange_while_other_chunks_run() -> None:
    """All chunks but one have p micro-batches to hide behind, or as many as there are; a plain stage has the last
    one alone."""
    window = SCHEDULES["interleaved"].exchange_window
    assert window(sizes(4, 32, 1)).tolist() == [1.0]
    assert window(sizes(4, 32, 2)).tolist() == [2.5]
    assert window(sizes(4, 1, 2)).tolist() == [1.0]
    assert all(SCHEDULES[s].exchange_window(sizes(4, 8, 2)).tolist() == [1.0] for s in ("zb-v", "dualpipev"))


# Memory


def held_at_peak(order: Order) -> int:
    """Most chunks of micro-batches whose activations a stage holds at once, from F until W is done."""
    held = most = 0
    for step in order:
        held += sum(kind == "F" for kind, _, _ in step)
        most = max(most, held)
        held -= sum(kind == "W" for kind, _, _ in step)
    return most


@pytest.mark.parametrize(("name", "p", "m", "v"), CASES)
def test_micro_batches_in_flight_by_simulation(name: str, p: int, m: int, v: int) -> None:
    for stage, order in enumerate(ORDERS[name](p, m, v)):
        got = SCHEDULES[name].in_flight(np.array([float(stage)]), sizes(p, m, v))
        assert float(got[0]) == pytest.approx(held_at_peak(order) / v), stage


@pytest.mark.parametrize(("name", "p", "m", "v"), CASES)
def test_placement_and_copies_by_simulation(name: str, p: int, m: int, v: int) -> None:
    """Part of the micro-batches that a stage runs each chunk for; a stage that runs a chunk holds its weights."""
    runs = np.zeros((p, p * v))
    for stage, order in enumerate(ORDERS[name](p, m, v)):
        for step in order:
            for kind, chunk, _ in step:
                runs[stage, chunk] += kind == "F"
    assert (SCHEDULES[name].placement(np.arange(p)[:, None], np.arange(p * v), p) == runs / m).all()
    if p > 1:
        assert ((runs > 0).sum(axis=0) == SCHEDULES[name].weight_copies).all()


UNITS = {"1f1b": 4.0, "gpipe": 16.0, "zb-h1": 4.0, "zb-v": 4.0, "dualpipe": 5.0, "dualpipev": 4.5}


@pytest.mark.parametrize(("name", "units"), UNITS.items())
def test_activations_of_the_ledger(name: str, units: float) -> None:
    """What a stage keeps of a micro-batch, as often as its authors say."""
    d, x = demand(gpt(layers=16, bare=True)), layouts(pp=4, vpp=SCHEDULES[name].chunks[0], global_batch=16)
    alone = training_step(d, cluster(4), layouts(pp=4, global_batch=1), training()).memory
    ours = training_step(d, cluster(4), x, training(schedule=name)).memory
    assert ours["activations"][0] == pytest.approx(units * alone["activations"][0])


@pytest.mark.parametrize(("zero", "optimizer"), [(0, 2.0), (1, 1.0)])
def test_copies_of_dualpipe_are_held_summed_and_sharded(zero: int, optimizer: float) -> None:
    """Two stages' weights and gradients, summed with the rank that holds the same two even without data parallelism."""
    d = demand(gpt(layers=16, bare=True))
    plain, dual = (
        training_step(d, cluster(4), layouts(pp=4, global_batch=16, zero_stage=zero), training(schedule=s))
        for s in ("1f1b", "dualpipe")
    )
    for part, times in {"weights": 2.0, "gradients": 2.0, "optimizer": optimizer}.items():
        assert dual.memory[part][0] == pytest.approx(times * plain.memory[part][0])
    assert dual.time["comm.dp.gradients"][0] > 0.0 == plain.time["comm.dp.gradients"][0]


def test_a_schedule_places_what_a_step_holds() -> None:
    """Folded, the first stage holds both tables; from either end, both outer stages hold a head and its logits."""
    d = demand(gpt(layers=8))
    one, plain, folded, dual = (
        training_step(d, cluster(2), layouts(pp=p, vpp=v, global_batch=16), training(schedule=s)).memory
        for p, v, s in ((1, 1, "1f1b"), (2, 1, "1f1b"), (2, 2, "zb-v"), (2, 1, "dualpipe"))
    )
    assert folded["weights"][0] - plain["weights"][0] == pytest.approx(2.0 * 51200 * 1024, rel=0.01)
    assert dual["logits"][0] == one["logits"][0] > 0.0


def test_a_micro_batch_adds_to_the_gradients_of_one_copy() -> None:
    d, x = demand(gpt(layers=16, bare=True)), layouts(pp=4, global_batch=16)
    plain, dual = (
        training_step(d, cluster(4), x, training(schedule=s, framework="megatron-deepspeed")).time
        for s in ("1f1b", "dualpipe")
    )
    assert dual["backward.accumulation"][0] == pytest.approx(plain["backward.accumulation"][0])


# Places and laws


@pytest.mark.parametrize("name", ["zb-v", "dualpipev"])
def test_a_v_puts_first_and_last_chunk_on_the_first_stage(name: str) -> None:
    d = demand(gpt(layers=12))
    counts = stage_counts(d, pp=3, vpp=2, placement=SCHEDULES[name].placement)
    ends = [i for i, s in enumerate(d.sections) if s.role in ("input", "output")]
    layers = [i for i, s in enumerate(d.sections) if s.role == "layer"]
    assert counts[:, ends].tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    assert counts[:, layers].sum(axis=1).tolist() == [4.0, 4.0, 4.0]


def test_dualpipe_shares_both_ends_between_two_stages() -> None:
    d = demand(gpt(layers=10))
    counts = stage_counts(d, pp=4, vpp=1, placement=SCHEDULES["dualpipe"].placement)
    ends = [i for i, s in enumerate(d.sections) if s.role in ("input", "output")]
    assert counts[:, ends].tolist() == [[0.5, 0.5], [0.0, 0.0], [0.0, 0.0], [0.5, 0.5]]
    assert counts.sum() == 12.0


RUNS = {  # chunks a stage and stages, of 1 to 4
    "1f1b": ([1, 2, 3, 4], [1, 2, 3, 4]), "interleaved": ([1, 2, 3, 4], [1, 2, 3, 4]), "zb-h1": ([1], [1, 2, 3, 4]),
    "gpipe": ([1], [1, 2, 3, 4]), "zb-v": ([2], [2, 3, 4]), "dualpipe": ([1], [2, 4]), "dualpipev": ([2], [2, 3, 4]),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_chunks_and_stages_that_a_schedule_runs(name: str) -> None:
    sizes = np.arange(5)
    chunks, stages = RUNS[name]
    assert sizes[SCHEDULES[name].runs_chunks(sizes)].tolist() == chunks
    assert sizes[1:][SCHEDULES[name].runs_stages(sizes[1:])].tolist() == stages


BASE = {"model": "gpt3-175b", "hardware": "dgx-h100", "devices": 64, "tp": 8, "seq_len": 2048}


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"schedule": "dualpipe", "pp": 1}, "an even number of stages; pp is 1"),
        ({"schedule": "zb-v", "pp": 1}, "two stages or more; pp is 1"),
        ({"schedule": "zb-v", "pp": 8, "vpp": 3}, "exactly 2 model chunks a stage; vpp is 3"),
        ({"schedule": "zb-v", "pp": 8, "global_batch": 14}, "2·pp-1 micro-batches or more; pp is 8, global_batch 14"),
        ({"schedule": "dualpipev", "pp": 8, "global_batch": 15}, "2·pp micro-batches or more; pp is 8"),
        ({"schedule": "dualpipe", "pp": 8, "global_batch": 14}, "an even number of micro-batches, 2·pp or more"),
        ({"schedule": "dualpipe", "pp": 8, "global_batch": 17}, "an even number of micro-batches, 2·pp or more"),
        ({"schedule": "gpipe", "pp": 8, "vpp": 2}, "exactly 1 model chunk a stage; vpp is 2"),
        ({"schedule": "zbv", "pp": 8}, "nearest: zb-v"),
    ],
)
def test_what_a_schedule_does_not_run_is_refused(keys: dict[str, object], says: str) -> None:
    with pytest.raises(BadInputError) as refused:
        planner.estimate(**BASE, micro_batch=1, **{"global_batch": 16} | keys)
    assert says in str(refused.value)


@pytest.mark.parametrize(("name", "m"), [("zb-v", 15), ("dualpipev", 16), ("dualpipe", 16), ("zb-h1", 1), ("gpipe", 1)])
def test_as_few_micro_batches_as_a_schedule_runs(name: str, m: int) -> None:
    answer = planner.estimate(**BASE, pp=8, schedule=name, micro_batch=1, global_batch=m)
    assert answer.row["schedule"] == name and answer.row["vpp"] == RUNS[name][0][0]


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_what_a_search_returns_its_schedule_runs(name: str) -> None:
    found = planner.plan(model="llama-3.1-8b", hardware="mi300x-platform", devices=4, global_batch=8, seq_len=512,
                         schedule=name, pp=2)  # fmt: skip
    assert found.rows
    x = SimpleNamespace(**{k: np.array([e.row[k] for e in found.rows]) for k in ("pp", "vpp")})
    assert SCHEDULES[name].runs_chunks(x.vpp).all() and SCHEDULES[name].runs_stages(x.pp).all()
    assert {e.row["schedule"] for e in found.rows} == {name}
