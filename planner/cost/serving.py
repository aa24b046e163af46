"""A replica that serves: latencies and throughput under a fixed number of clients, or under arrivals at a rate.

A step is a pass. It decodes a token for each of b sequences in D(b), reads n prompts in P(n), or both: engines that mix
add the two, others read prompts first and decode when none waits. With c requests in flight, N output tokens each, at
most k prompts a pass (what the token budget holds of them) and X requests a second:

    prompt pass    s = P(n) + D(b)                        D where the engine mixes, and others decode
    prompts of it  n = 1 + X·s/2, at most k               those that came while the pass before was made
    decoding       b = c - X·ttft                         the others wait, or are read (Little's law)
    tpot           D(b) + (c - 1)/N · P(n)/n              each of the others is read once in a request's life
    residual       u·s/2 + (1 - u)·D(b)/2, u = X/n · s    of the pass that is under way
    queue          x/(2(1 - x)) · s/k,     x = X·s/k      prompts before it that one pass doesn't hold (M/D/1)
    ttft           h + residual + queue + s               h: what a request costs outside of the passes
    X              c / (ttft + (N - 1)·tpot)

Benchmarks send all C requests at once, and R·C in all: the first C are read k by k, in passes between which an engine
that mixes decodes for those it has read, and weigh 1/R. The first are not interrupted by prompts of others, the last
decode beside fewer and fewer: their tokens weigh 1/R too. Clients beyond the slots wait for a whole request's life.
Under arrivals at a rate, X is given and b = X·(N - 1)·tpot.

Closed forms, worked out by fixed points; ``tests/test_serving.py`` holds them to a simulation request by request.
Little 1961, https://doi.org/10.1287/opre.9.3.383; slots: Sakasegawa 1977, https://doi.org/10.1007/BF02911660
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.demand.ops import Array

ROUNDS = 24  # of the fixed point: damped by half, it stands still to 1e-6
FULL = 0.98  # utilisation that a queue is worked out at where there is more to do than can be done
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Replica:
    """What one replica of a deployment does, arrays of shape (n,) but for the first two.

    Attributes
    ----------
    batches, decode : (n, knot)     sequences, rising, and the time of a decode step of so many [s]
    prefill_one, prefill_most : [s] a pass over one prompt, over ``prompts`` of them
    beside_one, beside_most : [s]   what they add to a decode step; the same where prompts have steps of their own
    prompts : at least 1            prompts that a pass holds at most
    chunks : at least 1             passes that one prompt takes
    stages : of its pipeline, which read prompts one behind the other
    slots : requests in flight at most
    outputs : tokens of a request
    mixes : 1.0 where prompts are read within decode steps
    slowdown : time of prompts read beside decoding over what their pass takes in one
    overhead : [s]                  of a request outside of the passes
    wait_steps : decode steps that a prompt is held back
    """

    batches: Array
    decode: Array
    prefill_one: Array
    prefill_most: Array
    beside_one: Array
    beside_most: Array
    prompts: Array
    chunks: Array
    stages: Array
    slots: Array
    outputs: Array
    mixes: Array
    slowdown: Array
    overhead: Array
    wait_steps: Array


@dataclass(frozen=True)
class Served:
    """How a replica serves, arrays of shape (n,).

    Attributes
    ----------
    ttft, tpot : [s]                means
    rate : [1/s]                    requests
    batch : requests that decode
    in_flight : requests that hold a slot
    utilisation : load over the most that it can serve; 1 where it serves all it can
    ttft_quantiles, tpot_quantiles : (n, 3) [s] at ``QUANTILES``
    """

    ttft: Array
    tpot: Array
    rate: Array
    batch: Array
    in_flight: Array
    utilisation: Array
    ttft_quantiles: Array
    tpot_quantiles: Array


@dataclass(frozen=True)
class _Flow:
    """One state of the fixed point, (n,) each: prompts of a pass, its time, a decode step, a prompt's share, waits,
    the part of the time that prompt passes take, and the chance that others decode."""

    prompts: Array
    prompt_pass: Array
    step: Array
    share: Array
    residual: Array
    queue: Array
    used: Array
    busy: Array


def decode_time(r: Replica, batch: Array) -> Array:
    """Time of a decode step of ``batch`` sequences, (n,) [s]: linear between the knots and beyond the last two."""
    x, y = r.batches, r.decode
    out = np.broadcast_to(y[:, 0], batch.shape)
    for i in range(x.shape[1] - 1):
        width = np.maximum(x[:, i + 1] - x[:, i], 1e-9)
        out = np.where(batch > x[:, i], y[:, i] + (y[:, i + 1] - y[:, i]) / width * (batch - x[:, i]), out)
    return np.asarray(out)


def prefill_time(r: Replica, prompts: Array) -> Array:
    """Time of a pass over so many prompts alone, (n,) [s]: linear between one and the most."""
    return _between(r, prompts, r.prefill_one, r.prefill_most)


def beside_time(r: Replica, prompts: Array) -> Array:
    """What so many prompts add to a decode step, (n,) [s]: weights are read once for both."""
    return _between(r, prompts, r.beside_one, r.beside_most) * r.slowdown


def _between(r: Replica, prompts: Array, one: Array, most: Array) -> Array:
    slope = np.where(r.prompts > 1.0, (most - one) / np.maximum(r.prompts - 1.0, 1e-9), one)
    return np.asarray(one + slope * (prompts - 1.0))


def burst_wait(r: Replica, clients: Array) -> Array:
    """Mean time to the first token of ``clients`` prompts that come at once, (n,) [s].

    Pass i of m = ⌈c/k⌉ ends at i·P(k); an engine that mixes decodes for the (i - 1)·k that are read, D((c + k)/3)
    in the mean.
    """
    c, k = clients, np.minimum(r.prompts, clients)
    whole = np.floor(c / k)
    rest = np.maximum(c - whole * k, 0.0)
    alone, mixed = prefill_time(r, k), (r.mixes > 0) & (c > k)
    one = np.where(mixed, beside_time(r, k), alone)
    last = np.where(rest > 0, np.where(mixed, beside_time(r, rest), prefill_time(r, rest)), 0.0)
    read = (k * whole * (whole + 1.0) / 2.0 * one + rest * (whole * one + last)) / c / r.stages
    read = read + (alone - one) / r.stages + alone * (1.0 - 1.0 / r.stages)
    passes = np.ceil(c / k) * r.chunks
    between = np.where(passes > 1, (passes - 1.0) / 2.0, 0.0) * decode_time(r, (c + k) / 3.0) * (c > 1)
    return np.asarray(read + between * r.mixes)


def _flow(r: Replica, rate: Array, batch: Array, busy: Array, before: Array) -> _Flow:
    """The state that ``rate`` requests a second and ``batch`` that decode make, from ``before`` prompts a pass.

    ``busy`` is the chance that others decode when a prompt comes.
    """
    step = decode_time(r, batch)
    joint = r.mixes * busy
    pause = (_read(r, before, joint) + joint * r.chunks * step) / r.stages
    n = np.clip(1.0 + rate * pause / 2.0 * busy, 1.0, r.prompts)
    read = _read(r, n, joint)
    prompt_pass = read + joint * r.chunks * step
    taken, turn = prompt_pass / r.stages, step / r.stages
    used = np.minimum(rate / n * taken * busy, FULL)
    residual = busy * (used * taken + (1.0 - used) * turn) / 2.0
    full = np.minimum(rate * taken / r.prompts * busy, FULL)
    queue = full / (2.0 * (1.0 - full)) * taken / r.prompts
    return _Flow(n, prompt_pass, step, read / n / r.stages, residual, queue, used, busy)


def _read(r: Replica, prompts: Array, joint: Array) -> Array:
    """Time that prompts take, (n,) [s], beside decoding with the chance ``joint``."""
    return np.asarray((1.0 - joint) * prefill_time(r, prompts) + joint * beside_time(r, prompts))


def closed_loop(r: Replica, clients: Array, *, rounds: float | Array = np.inf) -> Served:
    """A fixed number of clients, each of which sends its next request when it has the last token of one.

    Parameters
    ----------
    r : Replica, (n,)
    clients : (n,), at least 1
    rounds : requests over clients in all; a benchmark's first round comes at once, service has no end
    """
    c, more = np.minimum(clients, np.maximum(r.slots, 1.0)), r.outputs - 1.0
    wait, tpot, n = r.prefill_one, decode_time(r, c), np.ones_like(c)
    for _ in range(ROUNDS):
        rate = c / (r.overhead + wait + more * tpot)
        batch = np.clip(c - rate * (wait + r.overhead), np.minimum(c, 1.0), c)
        busy = 1.0 - (1.0 - batch / c * (more > 0)) ** (c - 1.0)
        f = _flow(r, rate, batch, busy, n)
        held = r.wait_steps * busy * tpot
        n, tpot = f.prompts, f.step + (c - 1.0) / r.outputs * f.share
        wait = 0.5 * (wait + f.residual + f.queue + f.prompt_pass + held)
    wait = np.maximum(wait, _bottleneck(r, c, tpot) - r.overhead)
    rate = c / (r.overhead + wait + more * tpot)
    batch = rate * more * tpot
    spared = (c - 1.0) / r.outputs * f.share + (f.step - decode_time(r, batch / 2.0)) / 2.0
    steady = r.overhead + wait
    first = r.overhead + burst_wait(r, c) + r.wait_steps * tpot * (c > 1)
    queued = (clients / c - 1.0) * (steady + more * tpot)
    ttft = steady + (first - steady) / rounds + queued * (1.0 - 1.0 / rounds + (1.0 - c / clients) / (2.0 * rounds))
    spread = _ttft_quantiles(r, ttft, f, 0.0 * c, 0.0 * c)
    tpot = tpot - spared / rounds
    return Served(ttft, tpot, rate, batch, c, np.minimum(clients / r.slots, 1.0), spread,
                  _tpot_quantiles(r, tpot, rate, f.share, 0.0 * c))  # fmt: skip


def _bottleneck(r: Replica, c: Array, tpot: Array) -> Array:
    """Least time to first token of c clients where reading their prompts takes all the time there is, (n,) [s]."""
    cycle = c * prefill_time(r, r.prompts) / r.prompts / r.stages
    together = np.where(r.outputs > 1, 0.0, cycle)  # nothing to decode: prompts are all there is
    steps = r.prompts / r.chunks * (r.outputs - 1.0)
    full = decode_time(r, np.maximum(steps, 1.0)) * r.chunks + beside_time(r, r.prompts)
    mixed = (c - steps) * full / r.prompts / r.stages
    return np.asarray(np.maximum(together, np.where((r.mixes > 0) & (c > steps) & (r.outputs > 1), mixed, 0.0)))


def capacity(r: Replica) -> Array:
    """Most requests a second that a replica serves, all slots taken, (n,) [1/s]: c / ((N - 1)·D(c) + c·P(k)/k)."""
    share = _read(r, r.prompts, r.mixes) / r.prompts / r.stages
    return np.asarray(r.slots / ((r.outputs - 1.0) * decode_time(r, r.slots) + r.slots * share))


def open_loop(r: Replica, rate: Array) -> Served:
    """Requests that arrive on their own, ``rate`` a second in the mean (Poisson), (n,) [1/s].

    Where the load exceeds the capacity latencies are infinite and ``utilisation`` is above 1.
    """
    most, more = capacity(r), r.outputs - 1.0
    load = rate / most
    x = np.minimum(rate, FULL * most)
    tpot, n, batch = decode_time(r, np.ones_like(x)), np.ones_like(x), np.zeros_like(x)
    for _ in range(ROUNDS):
        batch = 0.5 * (batch + np.minimum(x * more * tpot, r.slots))
        busy = 1.0 - np.exp(-batch)
        f = _flow(r, x, np.minimum(1.0 + batch, r.slots), busy, n)  # a request sees itself and those beside it
        n = f.prompts
        tpot = f.step / (1.0 - np.minimum(x * f.share * busy, FULL))
    life = f.prompt_pass + more * tpot
    chance = np.minimum(load, 1.0) ** (np.sqrt(2.0 * (r.slots + 1.0)) - 1.0)
    slots = chance * life / (2.0 * r.slots * np.maximum(1.0 - load, 1.0 - FULL))
    wait = f.residual + f.queue + slots + r.wait_steps * busy * tpot
    ttft, over = r.overhead + wait + f.prompt_pass, load >= 1.0
    spread = _ttft_quantiles(r, ttft, f, slots, chance)
    swing = _tpot_quantiles(r, tpot, x, f.share, batch)
    return Served(
        np.where(over, np.inf, ttft), np.where(over, np.inf, tpot), np.minimum(rate, most), batch,
        np.minimum(x * (life + f.residual), r.slots), load, np.where(over[:, None], np.inf, spread),
        np.where(over[:, None], np.inf, swing),
    )  # fmt: skip


def _ttft_quantiles(r: Replica, mean: Array, f: _Flow, slots: Array, chance: Array) -> Array:
    """Times to first token at ``QUANTILES``, (n, 3) [s].

    A prompt meets a prompt pass (with the chance u) or a step, and what is left of it is uniform; the prompts that
    share its own pass are Poisson; the queue behind a pass and the wait for a slot, ``slots`` in the mean, are
    exponential where there are any. All are added as if they went together: a long pass leaves a long queue.
    """
    p, normal = np.asarray(QUANTILES), np.array([0.0, 1.645, 2.326])
    u, long, short = f.used[:, None], f.prompt_pass[:, None], f.step[:, None]
    both = p / np.maximum(u / long + (1.0 - u) / short, 1e-30)
    late = long * (1.0 - (1.0 - p) / np.maximum(u, 1e-9))
    met = np.where(both > short, late, both) * f.busy[:, None]
    each = (prefill_time(r, f.prompts + 1.0) - prefill_time(r, f.prompts)) * np.sqrt(f.prompts - 1.0)
    more = met - f.residual[:, None] + each[:, None] * normal
    more = more + _tail(f.queue, np.ones_like(f.queue)) + _tail(slots, chance)
    return np.asarray(np.maximum(mean[:, None] + more, 0.0))


def _tail(wait: Array, chance: Array) -> Array:
    """What an exponential wait exceeds its mean by at ``QUANTILES``, (n, 3) [s]; there is one with a ``chance``."""
    some = np.maximum(chance, 1e-6)[:, None]
    longer = np.maximum(np.log(some / (1.0 - np.asarray(QUANTILES))), 0.0)
    return np.asarray(wait[:, None] * (longer / some - 1.0))


def _tpot_quantiles(r: Replica, mean: Array, rate: Array, share: Array, vary: Array) -> Array:
    """Times per output token of a request at ``QUANTILES``, (n, 3) [s]: the prompts that come while it decodes are
    Poisson, and so are the requests beside it, ``vary`` of them in the mean."""
    more = np.maximum(r.outputs - 1.0, 1.0)
    come = np.sqrt(np.maximum(rate * more * mean, 0.0)) * share / more
    beside = (decode_time(r, vary + np.sqrt(vary)) - decode_time(r, vary)) * (vary > 0)
    deviations = np.array([0.0, 1.645, 2.326])
    return np.asarray(mean[:, None] + np.hypot(come, beside)[:, None] * deviations)
