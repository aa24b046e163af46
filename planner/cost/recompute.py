"""Recomputation: what the backward pass repeats of the forward one, and what a layer keeps for it.

Full recomputation keeps a layer's input. Selective recomputation repeats the modules that are named; where none are,
it is the framework's choice: PyTorch and XLA save matmul outputs by a policy, Megatron-LM and Neuron's libraries repeat
the attention core.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.catalogue.schema import CompressedAttention, LatentAttention, Model, Moe
from planner.cost.adapters import adapted
from planner.cost.frameworks import adapters, repeats_modules, saved_input_width, saved_share, unfused
from planner.cost.runs import TrainingRun
from planner.demand.costs import expert_load, saved_bytes
from planner.demand.ops import Array, Op, OpTable
from planner.demand.workload import Work


@dataclass(frozen=True)
class Module:
    """A module that Megatron-LM can recompute: operators that run again, and those whose saved input is theirs to give.

    Each is a tuple of name prefixes.
    """

    repeated: tuple[str, ...]
    dropped: tuple[str, ...]


# --recompute-modules, https://github.com/NVIDIA/Megatron-LM (megatron/core/transformer/transformer_config.py)
MODULES: dict[str, Module] = {
    "core_attn": Module(("attn.core",), ()),
    "layernorm": Module(("norm.",), ("attn.q_a", "attn.qkv", "mlp.up", "moe.shared.up")),
    "mla_up_proj": Module(("attn.q_norm", "attn.q_b", "attn.kv_norm", "attn.kv_b", "attn.rope"), ("attn.core",)),
    "moe_act": Module(("moe.act",), ("moe.down",)),
    "mlp": Module(("mlp.up", "mlp.act"), ("mlp.act", "mlp.down")),
    "shared_experts": Module(("moe.shared.",), ("moe.shared.act", "moe.shared.down")),
    "moe": Module(("moe.",), ("moe.up", "moe.act", "moe.down", "moe.shared.act", "moe.shared.down")),
}
CHEAP_MODULES = ("layernorm", "mla_up_proj", "moe_act")  # much memory for little time


def modules_of(model: Model) -> tuple[str, ...]:
    """Modules that a model has: Megatron-LM refuses to recompute others (transformer_config.py, as above)."""
    kinds = [kind for stack in model.stacks for kind in stack.kinds]
    latent = any(isinstance(k.mixer, LatentAttention | CompressedAttention) for k in kinds)
    experts = [k.ffn for k in kinds if isinstance(k.ffn, Moe)]
    absent = {"mla_up_proj": not latent, "moe_act": not experts, "moe": not experts,
              "shared_experts": not any(f.shared is not None for f in experts)}  # fmt: skip
    return tuple(m for m in MODULES if not absent.get(m, False))


def default_modules(model: Model, attention: str, *, asked: bool) -> tuple[str, ...]:
    """Modules of selective recomputation that were not named: Megatron-LM's own default, the attention core, where
    selective was ``asked`` for or attention is unfused, else those that save much memory for little time."""
    has = modules_of(model)
    return ("core_attn",) if asked or attention == "eager" else tuple(m for m in CHEAP_MODULES if m in has)


def repeated_share(op: Op, run: TrainingRun) -> float:
    """Part of a forward operator that selective recomputation repeats, 0 to 1."""
    if repeats_modules(run):
        return float(any(_is_in(op, MODULES[m].repeated) for m in run.recompute_modules))
    if op.kernel in ("matmul", "grouped_matmul"):
        return 0.0 if _spared(op, run) else 1.0 - saved_share(op, run)
    return float(op.kernel != "attention")


def _spared(op: Op, run: TrainingRun) -> bool:
    """The last matmul of an MLP, whose output no gradient reads: XLA removes it wherever it stands."""
    return run.framework.removes_unread and op.name in ("mlp.down", "moe.down", "moe.shared.down")


def selective_time(table: OpTable, times: Array, experts: Array, context: Array, run: TrainingRun) -> Array:
    """Forward time that selective recomputation repeats, shape (n,) [s].

    ``times`` (n, op) of the forward pass; ``experts`` and ``context`` (n,) of the exchanges inside ``moe`` and
    the attention core (Transformer Engine's ``DotProductAttention`` sends keys and values itself,
    https://github.com/NVIDIA/TransformerEngine), which are repeated with them.
    """
    repeated = times @ np.array([repeated_share(op, run) for op in table.ops])
    named = run.recompute_modules if repeats_modules(run) else ()
    return np.asarray(repeated + experts * ("moe" in named) + context * ("core_attn" in named))


def last_matmul_time(table: OpTable, times: Array) -> Array:
    """Forward time of the last matmul of a layer, shape (n,) [s]."""
    matmuls = [i for i, o in enumerate(table.ops) if o.kernel in ("matmul", "grouped_matmul")]
    return times[:, matmuls[-1]] if matmuls else np.zeros(len(times))


def activation_bytes(table: OpTable, w: Work, run: TrainingRun, *, hidden: int) -> tuple[Array, Array]:
    """Activation bytes a layer keeps with nothing recomputed and under selective recomputation, shape (n,) each."""
    width = run.precision.bytes_of("activation")
    saved = saved_bytes(table, w, width=width, attention=run.attention) * _saved_width(table, run)
    if unfused(run):
        saved = saved + _unfused_gate_bytes(table, w, width)
    everything = saved.sum(axis=1)
    if not repeats_modules(run):
        return everything, np.minimum(_policy_bytes(table, w, width, run, hidden=hidden), everything)
    if "core_attn" in run.recompute_modules:
        saved = saved_bytes(table, w, width=width, attention=run.attention, recompute_core=True)
        saved = saved * _saved_width(table, run)
    dropped = [prefix for m in run.recompute_modules for prefix in MODULES[m].dropped]
    stays = np.array([not _is_in(op, tuple(dropped)) for op in table.ops], dtype=np.float64)
    return everything, (saved * stays).sum(axis=1)


def _unfused_gate_bytes(table: OpTable, w: Work, width: float) -> Array:
    """What eager PyTorch keeps of a gated activation beyond its inputs: the activated gate, which the product reads."""
    t = table.columns
    gated = np.array([o.name.endswith(".act") and o.read > o.write for o in table.ops], dtype=np.float64)
    held = w.tokens[:, None] * (t["write"] * gated)[None, :] * width / w.tp[:, None]
    return np.asarray(held * expert_load(table, w))


def _saved_width(table: OpTable, run: TrainingRun) -> Array:
    """Width of a saved input over the activation's, shape (op,).

    Transformer Engine, in Megatron-LM, keeps the inputs of its matmuls in the narrow dtype that the weight gradient
    reads; torchao keeps them as they came. A frozen weight has no gradient, so that without an adapter nothing reads
    its input again; attention reads its own output.
    """
    narrow = saved_input_width(run)
    own = adapters(run)
    reads = np.ones(len(table.ops)) if own is None else adapted(table, own)
    unread = [o.group in ("mlp", "experts") and not r for o, r in zip(table.ops, reads, strict=True)]
    return np.array([(0.0 if none else narrow) if o.kernel in ("matmul", "grouped_matmul") else 1.0
                     for o, none in zip(table.ops, unread, strict=True)])  # fmt: skip


def _is_in(op: Op, prefixes: tuple[str, ...]) -> bool:
    return op.name.startswith(prefixes) if prefixes else False


def _policy_bytes(table: OpTable, w: Work, width: float, run: TrainingRun, *, hidden: int) -> Array:
    """Bytes kept when a share of the matmul outputs, the attention output and the layer's input are saved, (n,)."""
    t = table.columns
    saved = np.array([saved_share(o, run) * (o.kernel in ("matmul", "grouped_matmul")) for o in table.ops])
    core = np.array([o.kernel == "attention" for o in table.ops])
    whole = np.array([o.shard == "expert_row" for o in table.ops])
    parts = 1.0 + (w.etp[:, None] - 1.0) * whole  # ranks that share an expert each hold its whole output
    parts = parts * expert_load(table, w)
    outputs = float((t["heads"] * t["v_dim"] * core).sum()) + parts @ (t["rows"] * t["n"] * saved)
    return np.asarray(w.tokens * (outputs / w.tp + hidden / np.where(w.sequence_parallel > 0, w.tp, 1.0)) * width)
