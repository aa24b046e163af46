"""From passes to a served deployment: what a replica of each layout does in its steps, and how it serves with them.

The steps are the planner's own passes, over as many sequences and prompts as a replica holds; the laws are those of
``planner.cost.serving``. A replica holds as many requests as its KV cache has room for and the engine takes, and others
wait. Stages of a pipeline serve different requests at once: each micro-batch of b/pp sequences walks through all of
them while the others follow, so a token takes the walk of b/pp, and stages read a prompt after each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from planner.cost.inference import Pass, cache_time, inference_pass, pass_time
from planner.cost.layouts import Layouts
from planner.cost.memory import total
from planner.cost.passes import inference_work
from planner.cost.runs import InferenceRun
from planner.cost.serving import Replica, Served, capacity, closed_loop, decode_time, open_loop
from planner.demand.ops import Array
from planner.demand.transformer import Demand
from planner.supply.cluster import Cluster

KNOTS = np.array([0.0, 0.125, 0.5, 1.0])  # of the slots in use: batches at which a decode step is priced
UNBOUNDED = 4096.0  # slots that are priced where neither the cache nor the engine bounds them: a choice, not a figure


@dataclass(frozen=True)
class Deployment:
    """A model served in each layout.

    Attributes
    ----------
    decode : Pass                   the decode step of the requests that decode, and what a device holds
    stepping : (n,)                 sequences of a replica that the step is priced at, a whole number a stage
    scale : (n,)                    the step's time over that of a pass over so many
    replica : Replica               of each layout, (n,)
    served : Served                 how a replica serves, (n,)
    replicas : (n,)                 of them
    """

    decode: Pass
    stepping: Array
    scale: Array
    replica: Replica
    served: Served
    replicas: Array

    @property
    def output_rate(self) -> Array:
        """Output tokens a second of all replicas, (n,) [1/s]."""
        return np.asarray(self.served.rate * self.replica.outputs * self.replicas)

    @property
    def needed(self) -> Array:
        """What must fit, (n,) [byte]: all but the cache, and the cache of one sequence of ``max_model_len``; requests
        wait where the pool holds no more of them."""
        terms, room = self.decode.memory, self.decode.serving
        one = np.where(room.sequences > 0, room.pool / np.maximum(room.sequences, 1e-30), terms["kv_cache"])
        return np.asarray(self.decode.peak_memory - terms["kv_cache"] + np.minimum(terms["kv_cache"], one))

    @property
    def most_requests(self) -> Array:
        """Requests a second that all replicas can serve, (n,) [1/s]."""
        return np.asarray(np.maximum(capacity(self.replica), self.served.rate) * self.replicas)


def deployment(d: Demand, cluster: Cluster, x: Layouts, run: InferenceRun) -> Deployment:
    """How every layout serves: ``run.batch`` clients of a closed loop, or ``run.rate`` requests a second."""
    decode = inference_pass(d, cluster, x, run, phase="decode")
    r = replica(d, cluster, x, run, _slots(x, run, decode))
    if run.rate:
        served = open_loop(r, run.rate / x.dp)
    else:
        served = closed_loop(r, np.maximum(run.batch / x.dp, 1.0), rounds=run.requests / run.batch or np.inf)
    running = np.ceil(served.in_flight) * x.dp
    if run.rate or (running < run.batch).any():  # those that wait for a slot have no cache yet
        decode = inference_pass(d, cluster, x, run, phase="decode", batch=running)
    batch = np.maximum(np.minimum(np.ceil(served.batch), r.slots), 1.0)
    stepping = np.ceil(batch / x.pp)
    w = inference_work(x, run, phase="decode", sequences=stepping)
    shown = pass_time(d, cluster, x, run, w, phase="decode")
    scale = decode_time(r, served.batch) / np.maximum(total(shown), 1e-30)
    step = replace(decode, time={k: v * scale for k, v in shown.items()})
    return Deployment(step, stepping, scale, r, served, x.dp)


def _slots(x: Layouts, run: InferenceRun, decode: Pass) -> Array:
    """Requests that a replica holds at most, (n,): by the room of its cache, and as many as the engine takes.

    An engine that lets requests in with room for the tokens they have holds as many as there is room for in the mean,
    at half of their output; another reserves all of it.
    """
    length = run.mean_context if run.engine.steps.reserves == "grows" else run.input_len + run.output_len
    room = decode.serving.sequences * run.longest / length
    room = np.where(decode.serving.starts & (room <= 0), np.inf, room)  # nothing is cached
    most = float(run.request_slots or np.inf)
    asked = np.inf if run.rate else np.ceil(run.batch / x.dp)
    return np.maximum(np.minimum(np.minimum(np.floor(room), most), np.maximum(asked, 1.0)), 1.0)


def replica(d: Demand, cluster: Cluster, x: Layouts, run: InferenceRun, slots: Array) -> Replica:
    """What a replica of every layout does, from passes at ``KNOTS`` of its slots and at one and the most prompts."""
    most = np.where(np.isfinite(slots), slots, UNBOUNDED)
    budget = float(run.token_budget or run.input_len)
    prompts = np.clip(np.floor(budget / run.input_len), 1.0, most)
    batches = np.maximum(most[:, None] * KNOTS, 1.0)
    decode = _priced(d, cluster, x, run, np.ceil(batches / x.pp[:, None]), phase="decode")
    read = np.stack([np.ones(len(x)), prompts], axis=1)
    prefill = _priced(d, cluster, x, run, read, phase="prefill")
    beside = prefill
    if run.engine.steps.mixes:
        full = np.ceil(most / x.pp) if not run.rate else np.ceil(most / x.pp / 2.0)
        beside = _beside(d, cluster, x, run, read, full)
    steps, one = run.engine.steps, np.ones(len(x))
    return Replica(
        batches=batches, decode=decode, prefill_one=prefill[:, 0], prefill_most=prefill[:, 1],
        beside_one=beside[:, 0], beside_most=beside[:, 1], prompts=prompts,
        chunks=one * max(run.input_len / budget, 1.0), stages=x.pp + 0.0, slots=most, outputs=one * run.output_len,
        mixes=one * steps.mixes, slowdown=one * steps.slowdown, overhead=one * steps.request_overhead,
        wait_steps=one * run.admission_steps,
    )  # fmt: skip


def _beside(d: Demand, cluster: Cluster, x: Layouts, run: InferenceRun, prompts: Array, decoding: Array) -> Array:
    """What prompts add to a step that decodes for ``decoding`` sequences, (n,), of a replica, (n, knot) [s].

    Matmuls read their weights once, for the tokens of both; attention is a kernel of each.
    """
    n, knots = prompts.shape
    rows, read, beside = x.take(np.repeat(np.arange(n), knots)), prompts.reshape(-1), np.repeat(decoding, knots)
    w = inference_work(rows, run, phase="prefill", sequences=read)
    both = pass_time(d, cluster, rows, run, replace(w, q_len=w.q_len + beside / read), phase="prefill")
    alone = inference_work(x, run, phase="decode", sequences=decoding)
    step = total(pass_time(d, cluster, x, run, alone, phase="decode"))
    cores = cache_time(d, cluster, run, alone)
    return np.asarray(np.maximum(total(both).reshape(n, knots) + (cores - step)[:, None], 0.0))


def _priced(d: Demand, cluster: Cluster, x: Layouts, run: InferenceRun, sequences: Array, *, phase: str) -> Array:
    """Time of a pass over each of several numbers of sequences a replica, (n, knot) in and out [s]."""
    n, knots = sequences.shape
    rows = x.take(np.repeat(np.arange(n), knots))
    w = inference_work(rows, run, phase=phase, sequences=sequences.reshape(-1))
    return np.asarray(total(pass_time(d, cluster, rows, run, w, phase=phase)).reshape(n, knots))
