"""What a device holds while an engine serves: the memory ledger of its fullest stage, and the pool for the KV cache.

An engine loads the weights, runs the largest step it will ever run, and gives what is then left of its share to the
cache. The ledger names every line of that, so that it sums to the device where the pool is full:

================ ==================================================================================================
line             what it holds [byte]
================ ==================================================================================================
weights          as stored, divided by the layout
activations      tokens · (2·hidden + input and output of the operator that holds most) · width, of a step of
                 ``token_budget`` tokens; of the pass itself where no budget is set
logits           what the head and the sampler hold beyond that: tokens · hidden · width + sequences · vocabulary ·
                 (bytes a logit of the engine), where it is more; the layers' activations are gone by then. All of it
                 where the engine holds a slot for each sequence throughout
graphs           captured graphs that an engine charges before it sizes the cache
communicators    buffers of each communicator, and workspaces that libraries allocate beyond the framework (non-torch)
context          the driver's context and what libraries hold
kv_cache         sequences · their length at the end of the output (in a steady state in its middle), or one sequence of
                 ``max_model_len`` where that is more: an engine that has no room for it does not start
unused           what the memory fraction leaves: the device less all other lines and the pool
================ ==================================================================================================

Where ``f`` is the memory fraction and C the device, the pool is ``f·C - weights - activations - logits - graphs -
communicators`` for an engine that counts its share of the device, ``f·(C - context - communicators) - weights`` where
it counts it of what was free before loading, and ``f·(C - everything else)`` where of what is left; and never more
than there is. Sources stand in ``planner/catalogue/engines.yaml``; vLLM prints these lines, as in
https://github.com/vllm-project/vllm/pull/10511.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.cost.groups import shares_experts_apart
from planner.cost.layouts import Layouts
from planner.cost.memory import COMMUNICATOR_BYTES, CONTEXT_BYTES, device_capacity, total
from planner.cost.runs import InferenceRun, Terms
from planner.cost.stages import stage_counts
from planner.demand.cache import sequence_bytes
from planner.demand.costs import stored_bytes
from planner.demand.ops import Array, Op
from planner.demand.transformer import Demand
from planner.demand.workload import Work
from planner.supply.cluster import Cluster

ALWAYS = ("weights", "activations", "logits", "graphs", "communicators", "context")
# Passes over the routed tokens, as dispatch and combine are priced, are no tensors that stand side by side.
MOVES = ("moe.dispatch", "moe.combine", "head.loss", "head.logits", "residual")


@dataclass(frozen=True)
class Serving:
    """Memory of a served model, for every layout.

    Attributes
    ----------
    terms : ledger of the fullest stage, (n,) a term [byte]
    pool : (n,) [byte]              that is left for the KV cache on the stage with the least room
    sequences : (n,)                of ``max_model_len`` tokens that the pools of a replica hold
    starts : (n,) bool              whether one of them has room
    """

    terms: Terms
    pool: Array
    sequences: Array
    starts: Array


def serving_memory(d: Demand, cluster: Cluster, x: Layouts, run: InferenceRun, w: Work, sequences: Array) -> Serving:
    """Memory of ``sequences`` of a replica, (n,), on the fullest stage of each layout; ``w`` is the pass, (n,)."""
    weights = _weights(d, run, w)
    step = _step_bytes(d, x, run, w, sequences)
    # Requests in flight stand anywhere in their output.
    at_end = run.input_len + run.output_len / (2 if run.steady else 1)
    whole, longest = (_sequence(d, run, w, tokens) for tokens in (at_end, run.longest))
    names = (*ALWAYS, "kv_cache", "unused")
    out: Terms = {name: np.zeros(len(x)) for name in names}
    pool, held = np.zeros(len(x)), np.zeros(len(x))
    for pp in np.unique(x.pp):
        rows = np.flatnonzero(x.pp == pp)
        counts = stage_counts(d, pp=int(pp), vpp=1)
        one = longest[rows] @ counts.T
        fixed = {"weights": weights[rows] @ counts.T} | {k: v[rows, None] + 0.0 * one for k, v in step.items()}
        left = _pool(cluster, run, fixed)
        ledger = {k: fixed[k] for k in ALWAYS}
        ledger["kv_cache"] = np.maximum((whole[rows] @ counts.T) * sequences[rows, None], one)
        ledger["unused"] = device_capacity(cluster, run) - total(fixed) - left
        at = np.arange(len(rows)), np.argmax(total(ledger), axis=1)
        for k, v in ledger.items():
            out[k][rows] = v[at]
        fits = np.where(one > 0, left / np.maximum(one, 1e-9), np.inf)
        least = np.arange(len(rows)), np.argmin(fits, axis=1)
        pool[rows], held[rows] = left[least], fits[least]
    finite = np.where(np.isfinite(held), np.maximum(held, 0.0), 0.0)
    return Serving(out, np.maximum(pool, 0.0), finite, held >= 1.0)


def _pool(cluster: Cluster, run: InferenceRun, fixed: Terms) -> Array:
    """Bytes that the engine leaves to the KV cache of each stage, (n, stage); negative where the rest has no room."""
    capacity, memory, share = device_capacity(cluster, run), run.engine.memory, run.memory_fraction
    rest = capacity - total(fixed)
    if memory.share_of == "rest":
        return rest * np.where(rest > 0, share, 1.0)
    if memory.share_of == "free":
        free = capacity - fixed["context"] - fixed["communicators"]
        return np.minimum(share * free - fixed["weights"], rest)
    outside = 0.0 if memory.charges_context else fixed["context"]
    return np.minimum(share * capacity - total(fixed) + outside, rest)


def _weights(d: Demand, run: InferenceRun, w: Work) -> Array:
    """Weights of one layer of each section as stored, (n, section) [byte]."""
    stored, none = run.precision.bytes_of("weight"), np.zeros(len(w.tp))
    each = [stored_bytes(s.table, tp=w.tp, ep=w.ep, etp=w.etp, width=stored) if s.table.ops else none
            for s in d.sections]  # fmt: skip
    if run.engine.memory.unties and d.model.head is not None and d.model.head.tied:
        each[-1] = each[-1] + d.model.head.outputs * d.model.hidden * run.precision.bytes_of("activation") / w.tp
    return np.stack(each, axis=1)


def _sequence(d: Demand, run: InferenceRun, w: Work, tokens: float) -> Array:
    """Cache of one sequence of so many tokens in one layer of each section, (n, section); none where nothing is
    generated [byte]."""
    if not run.output_len:
        return np.zeros((len(w.tp), len(d.sections)))
    at_once = run.token_budget or run.engine.memory.window_tokens
    return sequence_bytes(d, tp=w.tp, kv_len=np.full(len(w.tp), float(tokens)), width=run.precision.bytes_of("kv"),
                          encoder_len=run.encoder_len, read_at_once=at_once)  # fmt: skip


def _step_bytes(d: Demand, x: Layouts, run: InferenceRun, w: Work, sequences: Array) -> Terms:
    """What the largest step holds besides weights and cache, and what it needs to run at all, (n,) a term [byte]."""
    width, memory = run.precision.bytes_of("activation"), run.engine.memory
    tokens = np.full(len(x), float(run.token_budget)) if run.token_budget else w.tokens
    layers = tokens * (2.0 * d.model.hidden + widest(d, w.tp)) * width
    rows = {"sequences": np.minimum(tokens, run.max_num_seqs or sequences), "tokens": tokens,
            "slots": np.full(len(x), float(run.max_num_seqs))}[memory.logits_of]  # fmt: skip
    # Engines gather the logits of all ranks before they sample; what generates nothing samples nothing.
    outputs, one_logit = d.model.head.outputs if d.model.head else 0, memory.logit_bytes or (width + 4.0) / w.tp
    if d.model.text.role != "decoder":
        rows, one_logit = sequences if d.model.head and d.model.head.once else w.tokens, width / w.tp
    logits = rows * outputs * one_logit
    if memory.logits_of != "slots":
        logits = np.maximum(logits + tokens * d.model.hidden * width - layers, 0.0)
    groups = (x.tp > 1) * 1.0 + (x.pp > 1) + (x.ep > 1) + shares_experts_apart(x)
    return {
        "activations": layers,
        "logits": logits,
        "graphs": np.full(len(x), memory.graphs),
        "communicators": COMMUNICATOR_BYTES * groups + memory.workspace,
        "context": np.full(len(x), CONTEXT_BYTES),
    }


def widest(d: Demand, tp: Array) -> Array:
    """Values a token of the operator whose input and output together are most, divided over tp, shape (n,)."""
    ops = {o for s in d.sections if d.runs(s) for o in s.table.ops if o.name not in MOVES and o.side == "text"}
    return np.asarray(np.max([_side_by_side(o, tp) for o in ops] or [np.zeros(len(tp))], axis=0))


def _side_by_side(o: Op, tp: Array) -> Array:
    """Input and output of an operator, values a token of one device, shape (n,): experts' widths over tp, as engines
    divide them."""
    wide = np.ones(len(tp))
    if o.kernel in ("vector", "scan"):
        divided = o.shard == "tensor" or o.name == "moe.act"
        return (o.read + o.write) / (tp if divided else wide)
    if o.kernel not in ("matmul", "grouped_matmul"):
        return 0.0 * wide
    inner = tp if o.shard == "row" or o.name == "moe.down" else wide
    outer = tp if o.shard == "column" or o.name == "moe.up" else wide
    return o.rows * (o.k / inner + o.n / outer)
