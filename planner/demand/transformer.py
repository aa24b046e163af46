"""A model as tables of operators: one table a layer kind, one for the embedding, one for the head.

:class:`Demand` is what the rest of the planner sees of a model. Parameters, FLOPs, bytes and saved activations all
come from the same operators, so they cannot disagree.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from planner.catalogue.schema import NORM_PARAMETERS, Layer, Model, Moe, Stack
from planner.demand.attention import attention_ops, mixer_ops
from planner.demand.moe import mlp_ops, moe_ops
from planner.demand.ops import GROUPS, UNFUSED_RMS, Op, OpTable
from planner.demand.storage import stored
from planner.demand.workload import Work


def layer_ops(layer: Layer, *, hidden: int, dropout: bool) -> tuple[Op, ...]:
    """Operators of one layer, in order of execution."""
    ops: list[Op] = []
    norms = [_norm_op(f"norm.{i + 1}", kind, width) for i, (kind, width) in enumerate(layer.norms)]
    residual = Op("residual", "other", "vector", "sequence", read=2 * hidden, write=hidden,
                  mask_whole=hidden if dropout else 0.0)  # fmt: skip
    ops += norms[:1]
    if layer.hyper:
        ops.append(_hyper_op("attn.hyper", "attention", layer.hyper, hidden))
    if layer.mixer is not None:
        ops += mixer_ops(layer.mixer, hidden=hidden, dropout=dropout)
        if layer.second_mixer is not None:
            ops += mixer_ops(layer.second_mixer, hidden=hidden, dropout=dropout)
        ops.append(residual)
    if layer.cross is not None:
        ops += [*attention_ops(layer.cross, hidden=hidden, dropout=dropout, prefix="cross"), residual]
    ops += norms[1:]
    if layer.hyper:
        ops.append(_hyper_op("mlp.hyper", "mlp", layer.hyper, hidden))
    if layer.ffn is not None:
        ffn = moe_ops(layer.ffn, hidden=hidden) if isinstance(layer.ffn, Moe) else mlp_ops(layer.ffn, hidden=hidden)
        ops += ffn if layer.parallel and layer.mixer is not None else [*ffn, residual]
    ops += [Op(name, "other", "matmul", "none", k=k, n=n) for name, k, n in layer.projections]
    if layer.extra_parameters:
        ops.append(Op("other", "other", "vector", bias=layer.extra_parameters))
    if layer.shared_weights:
        ops = [replace(op, tied=True, bias=0.0) for op in ops]
    return tuple(ops)


def _hyper_op(name: str, group: str, streams: int, hidden: int) -> Op:
    """Coefficients that mix ``streams`` residual streams, from all of them, and the mix (https://arxiv.org/abs/2409.19606)."""
    mixes = (2 + streams) * streams
    return Op(name, group, "matmul", "none", k=streams * hidden, n=mixes, bias=mixes + 3,
              extra_flops=2.0 * streams * streams * hidden)  # fmt: skip


def _norm_op(name: str, kind: str, width: int) -> Op:
    return Op(name, "norm", "vector", "sequence", bias=NORM_PARAMETERS[kind] * width, read=width, write=width,
              unfused=UNFUSED_RMS * width * (kind == "rms"), saved_whole=width)  # fmt: skip


def reads_tokens(stack: Stack) -> bool:
    """Whether a stack looks its input up in the table of tokens: towers do not, nor what patches or frames feed."""
    return stack.role != "tower" and not (stack.tokens and stack.input_matmuls)


def input_ops(model: Model, stack: Stack, *, first: bool) -> tuple[Op, ...]:
    """Operators before the first layer of a stack: token table of the text stream, patches or frames of a tower."""
    ops: list[Op] = []
    if reads_tokens(stack) and model.embedding is not None and (first or stack is model.text):
        e = model.embedding
        own = first or len(model.stacks) == 1
        ops.append(
            Op("embedding.tokens", "embedding", "lookup", "vocab", k=1.0, n=e.vocab * e.width if own else 0.0,
               read=e.width, write=model.hidden, mask_whole=model.hidden if model.dropout else 0.0)
        )  # fmt: skip
        extra = (e.positions + e.types) * e.width + e.extra_parameters if own else 0
        if extra:
            ops.append(
                Op("embedding.positions", "embedding", "vector", "sequence", bias=extra, read=2 * e.width,
                   write=e.width)
            )  # fmt: skip
        if own and e.norm_parameters:
            ops.append(Op("embedding.norm", "norm", "vector", "sequence", bias=e.norm_parameters, read=e.width,
                          write=e.width, saved_whole=e.width))  # fmt: skip
        if own and e.projection_parameters:
            ops.append(Op("embedding.projection", "embedding", "matmul", "none", k=e.width, n=model.hidden,
                          bias=e.projection_parameters - e.width * model.hidden))  # fmt: skip
    if stack.input_parameters:
        ops.append(Op(f"{stack.name}.input", stack.input_group, "vector", "sequence", bias=stack.input_parameters))
    for name, k, n, rows in stack.input_matmuls:
        ops.append(Op(name, stack.input_group, "matmul", "none", k=k, n=n, rows=rows))
    return tuple(ops)


def output_ops(model: Model, stack: Stack) -> tuple[Op, ...]:
    """Operators after the last layer of a stack: final norm, and for the text stack the head and the loss."""
    norm_parameters = NORM_PARAMETERS[stack.final_norm] * stack.hidden + stack.extra_norm_parameters
    ops: list[Op] = []
    if norm_parameters:
        ops.append(Op("final_norm", "norm", "vector", "sequence", bias=norm_parameters, read=stack.hidden,
                      write=stack.hidden, unfused=UNFUSED_RMS * stack.hidden * (stack.final_norm == "rms"),
                      saved_whole=stack.hidden))  # fmt: skip
    if stack.output_parameters:
        ops.append(Op(f"{stack.name}.output", stack.output_group, "vector", "sequence", bias=stack.output_parameters))
    for name, k, n, rows in stack.output_matmuls:
        ops.append(Op(name, stack.output_group, "matmul", "none", k=k, n=n, rows=rows))
    if stack is model.text and model.head is not None:
        ops += _head_ops(model)
    return tuple(ops)


def _head_ops(model: Model) -> list[Op]:
    h = model.head
    assert h is not None
    width = h.width or (model.embedding.width if model.embedding is not None and h.tied else model.hidden)
    if h.once:
        total = width * h.outputs * (not h.tied) + h.bias * h.outputs + h.extra_parameters
        total += sum(k * n for _, k, n in h.extra_matmuls) + h.norm_parameters
        return [Op("head.once", "head", "vector", "none", bias=total)]
    ops = [Op(name, "head", "matmul", "none", k=k, n=n) for name, k, n in h.extra_matmuls]
    if h.norm_parameters:
        ops.append(Op("head.norm", "norm", "vector", "sequence", bias=h.norm_parameters, read=width, write=width))
    ops.append(
        Op("head.logits", "head", "matmul", "vocab", k=width, n=h.outputs,
           tied=h.tied,
           bias=h.bias * h.outputs + h.extra_parameters, saved_whole=width)
    )  # fmt: skip
    ops.append(Op("head.loss", "head", "vector", "tensor", read=3 * h.outputs, write=1.67 * h.outputs,
                  launches=6))  # fmt: skip
    return ops


@dataclass(frozen=True)
class Section:
    """One table of operators and how many layers share it; ``stack`` indexes the model's stacks."""

    name: str
    stack: int
    role: str  # "input", "layer", "output"
    table: OpTable
    count: int
    kind: int = -1  # index into stack.kinds for layers


@dataclass(frozen=True)
class Demand:
    """What a model asks for: its sections of operators, independent of hardware and layout."""

    model: Model
    sections: tuple[Section, ...]

    @cached_property
    def layer_sections(self) -> tuple[int, ...]:
        """Section index of each layer, in order of execution, over all stacks."""
        index = {(s.stack, s.kind): i for i, s in enumerate(self.sections) if s.role == "layer"}
        return tuple(index[(i, kind)] for i, stack in enumerate(self.model.stacks) for kind in stack.order)

    def runs(self, section: Section) -> bool:
        """Whether a section is on the text path: towers and layers that wait for an image are held but not run."""
        stack = self.model.stacks[section.stack]
        return not stack.optional and not (section.role == "layer" and stack.kinds[section.kind].optional)

    def is_encoder(self, section: Section) -> bool:
        """Whether a section belongs to an encoder that feeds a decoder."""
        stack = self.model.stacks[section.stack]
        return stack.role == "encoder" and stack is not self.model.text

    def stream(self, section: Section, w: Work) -> Work:
        """The work of a section's own token stream: a fixed number of tokens, the encoder's, or the text's."""
        fixed = self.model.stacks[section.stack].tokens
        if not fixed and not self.is_encoder(section):
            return w
        length = np.full(w.q_len.shape, float(fixed)) if fixed else w.encoder_len
        return replace(w, q_len=length, kv_len=length)

    @cached_property
    def parameters(self) -> dict[str, int]:
        """Parameters by group, the groups of :data:`planner.demand.ops.GROUPS`; they sum to the total."""
        totals = dict.fromkeys(GROUPS, 0.0)
        for section in self.sections:
            for op in section.table.ops:
                totals[op.group] += op.parameters * section.count
        totals["other"] += self.model.other_parameters
        return {g: round(v) for g, v in totals.items()}

    @cached_property
    def total_parameters(self) -> int:
        """All parameters, tied tables once."""
        return sum(self.parameters.values())

    @cached_property
    def active_parameters(self) -> int:
        """Parameters one token touches: all of them, less the routed experts it does not visit."""
        unused = sum((o.parameters - o.active_parameters) * s.count for s in self.sections for o in s.table.ops)
        return self.total_parameters - round(unused)

    def parameters_by_section(self) -> NDArray[np.float64]:
        """Parameters of one layer of each section, shape (section,)."""
        return np.array([s.table.parameters.sum() for s in self.sections], dtype=np.float64)


@lru_cache(maxsize=256)
def demand(model: Model) -> Demand:
    """Build the operator tables of a model."""
    sections: list[Section] = []
    for i, stack in enumerate(model.stacks):
        first = i == next((j for j, s in enumerate(model.stacks) if reads_tokens(s)), 0)
        sections.append(Section(f"{stack.name}.input", i, "input", OpTable(input_ops(model, stack, first=first)), 1))
        counts = Counter(stack.order)
        for k, kind in enumerate(stack.kinds):
            table = OpTable(layer_ops(kind, hidden=stack.hidden, dropout=model.dropout))
            sections.append(Section(kind.name, i, "layer", table, counts[k], kind=k))
        sections.append(Section(f"{stack.name}.output", i, "output", OpTable(output_ops(model, stack)), 1))
    return Demand(model, stored(model, sections))
