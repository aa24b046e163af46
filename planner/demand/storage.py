"""Weights as a checkpoint stores them: bytes of every operator by layout, from the model's own quantization.

An operator is cut into the matrices of the checkpoint (q, k and v of one projection), each takes the layout that the
method, its lists of modules or the rules of a GGUF file give it, and the operator keeps the mean width of its values
over the layers that share its table: :attr:`planner.demand.ops.Op.stored`. Sizes, memory and weight traffic all read
that width. Norms, biases and whatever else is no matrix stay wide (fp32 in a GGUF file).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from planner.catalogue.formats import Layout, Mix, Quantization, gguf_layout, layouts, table, tensor_table
from planner.catalogue.schema import Attention, Model, Moe
from planner.demand.ops import Op, OpTable
from planner.errors import BadInputError

if TYPE_CHECKING:
    from planner.demand.transformer import Section

PREFIXES = (
    "",
    "model.",
    "model.language_model.",
    "language_model.model.",
    "backbone.",
    "transformer.",
    "model.decoder.",
)
TOWERS = ("vision_tower", "vision_model", "visual", "vision_backbone", "mm_projector", "multi_modal_projector")
_PREFIX = re.compile(r"^(?:(?:model|language_model|backbone|transformer|decoder|text_model)\.)+")


@dataclass(frozen=True)
class Tensor:
    """One matrix of a checkpoint, ``copies`` of ``rows`` outputs by ``columns`` inputs, or so many values of no matrix.

    ``kind`` is one of :data:`planner.catalogue.formats.KINDS` or ``vector``; ``gguf`` the tensor whose rule applies;
    ``names`` the modules it may be called, below the layer.
    """

    kind: str
    gguf: str
    names: tuple[str, ...]
    rows: float
    columns: float = 1.0
    copies: float = 1.0

    @property
    def values(self) -> float:
        return self.rows * self.columns * self.copies


@dataclass(frozen=True)
class Piece:
    """Bytes of one tensor, summed over the layers that store it in one layout [byte]."""

    section: int
    op: int
    layout: str
    bytes: float
    values: float


def tensors(op: Op, table: OpTable, *, role: str, section: str, fused: bool, twice: bool) -> tuple[Tensor, ...]:
    """The tensors an operator holds; none where its weights belong to another.

    Parameters
    ----------
    role : of the stack: a tower's matrices are of the kind ``tower``
    section : ``input``, ``layer`` or ``output``
    fused : whether q, k and v are one tensor in the checkpoint
    twice : whether a tied token table is stored as a head too
    """
    found: list[Tensor] = []
    if op.k * op.n and not op.tied and op.kernel in ("matmul", "grouped_matmul", "lookup"):
        found += _matrices(op, table, role=role, section=section, fused=fused, twice=twice)
    if op.bias > 0:
        found.append(Tensor("vector", "", (), op.bias))
    return tuple(found)


def _matrices(op: Op, table: OpTable, *, role: str, section: str, fused: bool, twice: bool) -> list[Tensor]:
    if op.kernel == "lookup":
        width = op.read or 1.0
        own = Tensor("embedding", "token_embd", ("embed_tokens", "wte", "word_embeddings"), op.n / width, width)
        return [own, replace(own, kind="head", gguf="output", names=("lm_head",))] if twice else [own]
    if op.name == "head.logits":
        return [Tensor("head", "output", ("lm_head", "output", "head", "output_layer"), op.n, op.k)]
    given = tensor_table().get(op.name, {})
    parts = _parts(op, table, given, fused=fused)
    tower = role == "tower" or section != "layer"
    return [
        Tensor("tower" if tower else spec.get("kind", "linear"), spec.get("gguf", "other"),
               tuple(spec.get("names", (op.name,))), rows, op.k, op.experts)
        for spec, rows in parts if rows > 0
    ]  # fmt: skip


def _parts(op: Op, table: OpTable, given: Mapping[str, Any], *, fused: bool) -> list[tuple[Mapping[str, Any], float]]:
    """(specification, outputs) of the tensors of a projection: q, k and v apart unless the checkpoint fuses them."""
    if "v" not in given:
        return [(given, op.n)]
    if fused:
        return [(given.get("q", given["k"]) | {"gguf": "attn_qkv"}, op.n)]
    core = next((o for o in table.ops if o.name == f"{op.name.partition('.')[0]}.core"), op)
    shared = core.qk_dim + core.v_dim
    key = min(op.n_kv, op.kv_heads * core.qk_dim) if shared else op.n_kv / 2.0
    return [(given[name], rows) for name, rows in
            (("q", op.n - op.n_kv), ("k", key), ("v", op.n_kv - key)) if name in given]  # fmt: skip


class Modules:
    """Patterns of module names: plain (a whole dotted part of the name), globs, or ``re:`` regular expressions."""

    def __init__(self, patterns: Iterable[str]) -> None:
        given = [p.removesuffix(".weight") for p in patterns]
        short = [_PREFIX.sub("", p) for p in given if not p.startswith("re:")]
        self.plain = frozenset(p for p in short if "*" not in p and "?" not in p)
        globs = [p for p in short if p not in self.plain]
        both = [fnmatch.translate(p) for g in globs for p in (g, f"{g}.*")]
        self.globs = re.compile("|".join(both)) if both else None
        expressions = [p[3:] for p in given if p.startswith("re:")]
        try:
            self.expressions = re.compile("|".join(f"(?:{e})" for e in expressions)) if expressions else None
        except re.error as error:
            raise BadInputError(
                f"quantization_config: a pattern of modules is no regular expression: {error}"
            ) from None

    def __bool__(self) -> bool:
        return bool(self.plain or self.globs or self.expressions)

    def match(self, names: Iterable[str]) -> bool:
        """Whether one of a module's names, without the model's own prefix, is meant."""
        return any(self._match(name) for name in names)

    def _match(self, name: str) -> bool:
        parts = name.split(".")
        if self.plain and any(".".join(parts[i:j]) in self.plain
                              for i in range(len(parts)) for j in range(i + 1, len(parts) + 1)):  # fmt: skip
            return True
        if self.globs and self.globs.match(name):
            return True
        return bool(self.expressions and any(self.expressions.match(p + name) for p in PREFIXES))


@dataclass(frozen=True)
class _Rules:
    """A quantization made ready for one model."""

    q: Quantization
    ignore: Modules
    only: tuple[tuple[Modules, Layout], ...]
    facts: frozenset[str]
    tied: bool
    by_layer: bool  # whether layers of one kind may differ

    def layout(self, tensor: Tensor, names: Sequence[str], *, layer: int, layers: int) -> Layout:
        """Layout of one tensor of layer ``layer`` of ``layers``."""
        wide = layouts()[self.q.wide]
        if self.q.mix is not None:
            return self._in_gguf(self.q.mix, tensor, layer, layers)
        if tensor.kind == "vector" or self.ignore.match(names):
            return wide
        named = next((layout for modules, layout in self.only if modules.match(names)), None)
        return named or dict(self.q.kinds).get(tensor.kind, wide)

    def _in_gguf(self, mix: Mix, tensor: Tensor, layer: int, layers: int) -> Layout:
        if tensor.kind in ("vector", "router"):
            return layouts()["f32"]
        if tensor.kind == "tower":
            return layouts()["f32" if mix.base == "f32" else "f16"]  # a file of its own (mmproj), 16 bits
        kept = dict(self.q.kinds).get(tensor.kind)
        if kept is not None:
            return kept
        kind = "output" if tensor.gguf == "token_embd" and self.tied else tensor.gguf
        kind = f"experts:{kind}" if tensor.kind == "experts" else kind
        return gguf_layout(mix, kind, columns=tensor.columns, layer=layer, layers=layers, facts=self.facts)


def _rules(model: Model, q: Quantization) -> _Rules:
    patterns = (*q.ignore, *(p for p, _ in q.only))
    return _Rules(
        q, Modules(q.ignore), _grouped(q.only), gguf_facts(model),
        tied=(model.head is None or model.head.tied) and not _stored_twice(model),
        by_layer=q.mix is not None or any(c.isdigit() for p in patterns for c in p),
    )  # fmt: skip


def _grouped(only: Sequence[tuple[str, Layout]]) -> tuple[tuple[Modules, Layout], ...]:
    """Neighbours of one layout as one set of patterns: hundreds of single modules are matched at once."""
    return tuple((Modules(p for p, _ in same), layout) for layout, same in groupby(only, key=lambda pair: pair[1]))


def _stored_twice(model: Model) -> bool:
    """Whether a GGUF file of the model holds its tied token table as a head too."""
    in_gguf = model.quantization is not None and model.quantization.mix is not None
    return in_gguf and model.head is not None and model.head.tied and model.family in table()["stored_twice"]


def gguf_facts(model: Model) -> frozenset[str]:
    """What the rules of GGUF files ask of a model: the conditions of ``formats.yaml``."""
    mixers = [k.mixer for k in model.text.kinds if isinstance(k.mixer, Attention)]
    experts = max((k.ffn.experts for k in model.text.kinds if isinstance(k.ffn, Moe)), default=1)
    sharing = max((m.heads / m.kv_heads for m in mixers), default=1.0)
    seventy = table()["seventy"]
    held = {
        "gqa": sharing >= 4,
        "eight": experts == 8,
        "experts4": experts >= 4,
        "falcon": model.family in table()["falcon"],
        "seventy": model.layers == seventy["layers"] and model.family in seventy["families"] and sharing > 1,
    }
    return frozenset(name for name, holds in held.items() if holds)


def _names(tensor: Tensor, layer: int, layers: int, *, section: str, tied: bool) -> tuple[str, ...]:
    """Names of the module a tensor belongs to, without the model's own prefix; a layer counts from either end."""
    if tensor.kind == "tower":
        return tuple(f"{tower}.layers.{layer}.{n}" for tower in TOWERS for n in tensor.names)
    if section != "layer":
        return (*tensor.names, "lm_head") if tied and tensor.kind == "embedding" else tensor.names
    return tuple(f"layers.{i}.{n}" for n in tensor.names for i in (layer, layer - layers))


def pieces(model: Model, sections: Sequence[Section]) -> Iterator[Piece]:
    """Every tensor of the model in the layout its quantization gives it; nothing for a model that carries none.

    Raises
    ------
    BadInputError
        The quantization's list of modules that stay as they were matches nothing. Single entries may: lists name
        towers, draft layers and modules without weights that are not described here.
    """
    if model.quantization is None:
        return
    rules, fused = _rules(model, model.quantization), model.family in table()["fused_qkv"]
    twice = _stored_twice(model)
    met = False
    for i, s in enumerate(sections):
        stack = model.stacks[s.stack]
        own = [j for j, kind in enumerate(stack.order) if kind == s.kind] if s.role == "layer" else [0]
        shown = own if rules.by_layer else own[:1]
        for j, op in enumerate(s.table.ops):
            for tensor in tensors(op, s.table, role=stack.role, section=s.role, fused=fused, twice=twice):
                for layer in shown:
                    names = _names(tensor, layer, stack.layers, section=s.role, tied=rules.tied)
                    met = met or rules.ignore.match(names)
                    layout = rules.layout(tensor, names, layer=layer, layers=stack.layers)
                    share = s.count / len(shown)
                    size = layout.bytes(tensor.rows, tensor.columns, tensor.copies)
                    yield Piece(i, j, layout.name, size * share, tensor.values * share)
    if rules.ignore and not met:
        raise _matches_nothing(model.id, rules.q.ignore)


def _matches_nothing(model: str, patterns: Sequence[str]) -> BadInputError:
    shown = ", ".join(patterns[:4]) + (", …" if len(patterns) > 4 else "")
    return BadInputError(
        f"{model}: quantization_config: none of the modules to leave as they were is in this model: {shown}; "
        "modules are named like layers.0.self_attn.q_proj, layers.0.mlp.gate, lm_head, embed_tokens"
    )


def stored(model: Model, sections: Sequence[Section]) -> tuple[Section, ...]:
    """The sections with each operator's stored width set, a mean over the layers that share its table [byte/value].

    A head that is tied reads the token table, in the table's own width.
    """
    sizes: dict[tuple[int, int], float] = {}
    head = 0.0
    for p in pieces(model, sections):
        sizes[p.section, p.op] = sizes.get((p.section, p.op), 0.0) + p.bytes
        op = sections[p.section].table.ops[p.op]
        head = p.bytes / p.values if op.kernel == "lookup" else head
    if not sizes:
        return tuple(sections)
    widths = {(i, j): size / (sections[i].count * sections[i].table.ops[j].parameters)
              for (i, j), size in sizes.items()}  # fmt: skip
    return tuple(
        replace(s, table=OpTable(tuple(
            replace(op, stored=widths.get((i, j), head if op.tied else 0.0))
            for j, op in enumerate(s.table.ops))))
        for i, s in enumerate(sections)
    )  # fmt: skip


def bytes_by_precision(model: Model, sections: Sequence[Section], *, towers: bool = True) -> dict[str, float]:
    """Bytes of all weights by layout, largest first; without ``towers``, those of the text path alone [byte]."""
    out: dict[str, float] = {}
    for p in pieces(model, sections):
        if towers or not model.stacks[sections[p.section].stack].optional:
            out[p.layout] = out.get(p.layout, 0.0) + p.bytes
    return dict(sorted(out.items(), key=lambda item: -item[1]))
