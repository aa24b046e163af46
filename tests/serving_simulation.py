"""A replica served request by request: the oracle of ``planner.cost.serving``, written from what engines do.

A step is a pass. An engine that runs prefill apart first reads waiting prompts, as many as its token budget and its
free slots allow, and decodes for all others where none waits; one that mixes does both in one pass. Nothing here is an
average: requests have their own lengths, arrive one by one and hold a slot until their last token.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Simulated:
    """What every request saw, in order of completion, shape (request,) [s]; ``span`` is the time the run took."""

    ttft: Floats
    tpot: Floats
    span: float


@dataclass
class _Running:
    arrived: float
    left: int
    first: float
    tokens: int


def simulate(
    *, decode: Callable[[float], float], prefill: Callable[[float], float], prompts: int, slots: int,
    outputs: Floats, arrivals: Floats | None = None, clients: int = 0, mixed: bool = False, wait_steps: float = 0.0,
    overhead: float = 0.0, rng: np.random.Generator | None = None,
) -> Simulated:  # fmt: skip
    """Serve ``len(outputs)`` requests.

    Parameters
    ----------
    decode, prefill : time of a decode step of b sequences, of a pass over n prompts [s]
    prompts : most prompts a pass;  slots : most requests in flight
    outputs : (request,) tokens of each
    arrivals : (request,) times of an open loop [s]; None for a closed loop of ``clients``
    mixed : prompts are read within decode steps
    wait_steps : decode steps that a prompt is held back
    overhead : time between a request being sent and the engine seeing it [s]; what clients send later varies from none
        to twice that
    """
    late = (rng or np.random.default_rng(0)).uniform(0.0, 2.0 * overhead, len(outputs))
    late[: clients or len(outputs)] = overhead  # a benchmark's first requests come at once, others' times are their own
    waiting: deque[tuple[float, int, int]] = deque()
    running: list[_Running] = []
    coming: list[tuple[float, int]] = []
    if arrivals is None:
        coming = [(late[i], i) for i in range(min(clients, len(outputs)))]
    else:
        coming = [(float(t) + late[i], i) for i, t in enumerate(arrivals)]
    heapq.heapify(coming)
    sent = len(coming)
    now, steps = 0.0, 0
    ttft, tpot = [], []
    while waiting or running or coming:
        while coming and coming[0][0] <= now:
            at, i = heapq.heappop(coming)
            waiting.append((at - late[i], i, steps))
        if not waiting and not running:
            now = coming[0][0]
            continue
        free = min(prompts, slots - len(running), len(waiting))
        taken = [waiting.popleft() for _ in range(free) if not running or steps - waiting[0][2] >= wait_steps]
        decoding = list(running) if mixed or not taken else []
        cost = (prefill(len(taken)) if taken else 0.0) + (decode(len(decoding)) if decoding else 0.0)
        now += cost
        steps += bool(decoding)
        done = []
        for r in decoding:
            r.left -= 1
            if r.left <= 0:
                done.append(r)
        for at, i, _ in taken:
            ttft.append(now - at)
            r = _Running(at, int(outputs[i]) - 1, now, int(outputs[i]))
            (running if r.left > 0 else done).append(r)
        for r in done:
            if r.tokens > 1:
                running.remove(r)
                tpot.append((now - r.first) / (r.tokens - 1))
            if arrivals is None and sent < len(outputs):
                heapq.heappush(coming, (now + late[sent], sent))
                sent += 1
    return Simulated(np.array(ttft), np.array(tpot), now)
