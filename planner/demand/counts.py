"""Exact counts of a model without hardware: parameters, forward FLOPs, cache and state bytes, the layer table.

Conventions. A matmul is 2·m·n·k. Attention scores and values count the full query x key rectangle (``total``) or half
of it where attention is causal (``causal_total``); windows and sparse selection do not shrink the rectangle. Linear
attention and state space layers count what the chunked reference implementation computes. Norms, activations, rotary
embeddings and look-ups count no FLOPs. Experts count ``top_k`` a token. A vision or audio tower of a language model
counts in the parameters and not in the FLOPs: they are those of the text path. Multi-token-prediction layers count in
neither. In an encoder-decoder both streams have ``seq_len`` tokens unless the model fixes one (Whisper: 1500 frames).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from planner.catalogue.schema import Model, Stack
from planner.demand.cache import section_bytes_per_token
from planner.demand.costs import chunk_rest, op_costs, saved_bytes
from planner.demand.ops import KERNELS, OpTable
from planner.demand.passes import pieces
from planner.demand.storage import bytes_by_precision
from planner.demand.transformer import Demand, Section, demand
from planner.demand.workload import Precision, Work, work

_ATTENTION = KERNELS.index("attention")
PARAMETER_KEYS = ("total", "active", "embedding", "head", "attention", "mlp", "experts", "norm", "other")


def parameter_counts(model: Model) -> dict[str, int]:
    """Parameters by group; ``mlp`` holds the routed ``experts`` too, so all but ``experts`` sum to ``total``.

    ``active`` is the total less the routed experts a token does not visit, embeddings included.
    """
    d = demand(model)
    p = d.parameters
    counts = {"total": d.total_parameters, "active": d.active_parameters, **p, "mlp": p["mlp"] + p["experts"]}
    return {k: counts[k] for k in PARAMETER_KEYS}


def stack_tokens(model: Model, stack: Stack, seq_len: float) -> float:
    """Tokens a sequence brings to a stack: its fixed length, else the workload's."""
    return float(stack.tokens or seq_len)


def encoder_tokens(model: Model, seq_len: float) -> float:
    """Tokens a sequence of the stream cross-attention reads; 0 without an encoder."""
    encoders = [s for s in model.stacks[:-1] if s.role == "encoder"]
    if encoders:
        return stack_tokens(model, encoders[-1], seq_len)
    return 0.0


def stack_work(model: Model, stack: Stack, *, batch: float, seq_len: float) -> Work:
    """The pass of a whole sequence through one stack on one device."""
    return work(batch=batch, q_len=stack_tokens(model, stack, seq_len), encoder_len=encoder_tokens(model, seq_len))


def _section_flops(table: OpTable, w: Work) -> tuple[float, float, float]:
    """All FLOPs, those of attention scores, and what causality saves; every rectangle whole."""
    flops = op_costs(table, w, Precision(), attention="eager").flops[0]
    core = flops * (table.kernel == _ATTENTION)
    in_scan = float(((table.columns["score_flops"] + chunk_rest(table, w)[0]) * w.tokens[0]).sum())
    return float(flops.sum()), float(core.sum()) + in_scan, float((core * (table.columns["causal"] > 0)).sum()) / 2.0


def forward_flops(
    model: Model, *, batch: float = 1, seq_len: float, encoder_len: float | None = None, context: float | None = None,
    last_token: bool = False,
) -> dict[str, float]:  # fmt: skip
    """FLOPs of one forward pass of ``batch`` sequences, text path.

    Parameters
    ----------
    batch, seq_len : sequences, and new tokens of each
    encoder_len : tokens of the encoder's stream; what ``seq_len`` implies if not given
    context : cached tokens, in place of ``seq_len``: one new token a sequence sees so many
    last_token : the head of a decoder reads one token a sequence, as in prefill

    Returns
    -------
    dict
        ``total`` (full S x S scores), ``attention_scores`` (that part of it), ``causal_total`` (half of them where
        attention is causal), ``model`` (windows too count the keys they see), ``layers`` (``model`` without embedding
        and head). [FLOP]
    """
    d, decode = demand(model), context is not None
    length = encoder_tokens(model, seq_len) if encoder_len is None else encoder_len
    w = work(batch=batch, q_len=1.0 if decode else seq_len, kv_len=context if decode else seq_len,
             encoder_len=length, decode=float(decode))  # fmt: skip
    out = dict.fromkeys(("total", "attention_scores", "causal_total", "model", "layers"), 0.0)
    for piece in pieces(d, w, decode=decode, last_token=last_token):
        section = piece.section
        whole, scores, saved = _section_flops(section.table, piece.work)
        flops = op_costs(section.table, piece.work, Precision(), attention="flash").flops[0]
        seen = float(flops[piece.active > 0].sum()) * section.count
        out["total"] += whole * section.count
        out["attention_scores"] += scores * section.count
        out["causal_total"] += (whole - saved) * section.count
        out["model"] += seen
        out["layers"] += seen * (section.role == "layer")
    return out


def summary(model: Model, *, batch: int = 1, seq_len: int = 2048, precision: Precision | None = None) -> dict[str, Any]:
    """Parameters, FLOPs and a row for each distinct part of the model; rows sum to the totals.

    A row stands for all ``count`` layers of its kind: ``parameters`` (and ``parameters_per_layer``),
    ``forward_flops`` (full scores, 0 off the text path), ``weight_bytes``, ``activation_bytes`` (read and written),
    ``saved_activation_bytes`` (kept for backward, fused attention), ``kv_cache_bytes_per_token``,
    ``arithmetic_intensity`` (FLOP over weight and activation bytes). ``weight_bytes`` of the whole are by the precision
    that weights are stored in.
    """
    precision = precision or Precision(weight=model.weight_dtype)
    d, flops = demand(model), forward_flops(model, batch=batch, seq_len=seq_len)
    plain = {model.weight_dtype: d.total_parameters * precision.bytes_of("weight")}
    rows = [_row(d, s, batch=batch, seq_len=seq_len, precision=precision) for s in d.sections if s.table.ops]
    if model.other_parameters:
        rows.append(_bare_row("other", model.other_parameters, precision))
    return {
        "parameters": parameter_counts(model),
        "forward_flops": {k: flops[k] for k in ("total", "attention_scores", "causal_total")},
        "weight_bytes": bytes_by_precision(model, d.sections) or plain,
        "layers": rows,
    }


def _bare_row(name: str, parameters: int, precision: Precision) -> dict[str, Any]:
    return {
        "name": name, "kind": "other", "count": 1, "parameters": parameters,
        "parameters_per_layer": parameters, "forward_flops": 0.0,
        "weight_bytes": parameters * precision.bytes_of("weight"), "activation_bytes": 0.0,
        "saved_activation_bytes": 0.0, "kv_cache_bytes_per_token": 0.0, "arithmetic_intensity": 0.0,
    }  # fmt: skip


def _row(d: Demand, section: Section, *, batch: int, seq_len: int, precision: Precision) -> dict[str, Any]:
    model, stack = d.model, d.model.stacks[section.stack]
    table, on = section.table, d.runs(section)
    w = stack_work(model, stack, batch=batch, seq_len=seq_len)
    costs = op_costs(table, w, precision, attention="flash")
    flops = _section_flops(table, w)[0] if on else 0.0
    parameters = round(float(table.parameters.sum()))
    own = table.columns["stored"]
    weight = parameters * precision.bytes_of("weight") if not own.any() else float((table.parameters * own).sum())
    moved = float((costs.bytes_moved - costs.weight_bytes).sum()) if on else 0.0
    saved = float(saved_bytes(table, w, width=precision.bytes_of("activation")).sum()) if on else 0.0
    n, cached = section.count, section_bytes_per_token(d, section, width=precision.bytes_of("kv"))
    kind = {"input": "embedding", "output": "head"}.get(section.role, "layer")
    name = stack.kinds[section.kind].name if section.role == "layer" else kind
    return {
        "name": name if len(model.stacks) == 1 else f"{stack.name}: {name}", "kind": kind, "count": n,
        "parameters": parameters * n, "parameters_per_layer": parameters, "forward_flops": flops * n,
        "weight_bytes": weight * n, "activation_bytes": moved * n, "saved_activation_bytes": saved * n,
        "kv_cache_bytes_per_token": cached * n,
        "arithmetic_intensity": flops / (weight + moved) if weight + moved else 0.0,
    }  # fmt: skip


@lru_cache(maxsize=512)
def total_parameters(model: Model) -> int:
    """All parameters, tied tables once."""
    return demand(model).total_parameters
