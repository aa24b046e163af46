"""Storage formats by name, from ``formats.yaml``: what a matrix takes in each layout, and which names mean which.

A :class:`Layout` is how one matrix is stored. A :class:`Quantization` says which layout each kind of matrix of a model
takes and which modules are left as they were; :mod:`planner.demand.storage` turns it into bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

from planner.errors import BadInputError, nearest, unknown

WIDE = ("fp32", "bf16", "fp16")
KINDS = ("linear", "experts", "router", "embedding", "head", "tower")


@dataclass(frozen=True)
class Layout:
    """How one matrix of ``rows`` outputs and ``columns`` inputs is stored.

    Attributes
    ----------
    bits : float                    [bit] a value
    group, group_bits : int, float  [bit] for each ``group`` inputs of a row; a group of 0 is the whole row
    row_bits, column_bits : float   [bit] for each output, each input
    tile, tile_bits : int, float    [bit] for each square of ``tile`` by ``tile`` values
    block, fallback : int, str      columns are a multiple of ``block``, else the matrix takes the layout ``fallback``
    """

    name: str
    bits: float
    group: int = 0
    group_bits: float = 0.0
    row_bits: float = 0.0
    column_bits: float = 0.0
    tile: int = 0
    tile_bits: float = 0.0
    block: int = 1
    fallback: str = ""
    source: str = ""

    def bytes(self, rows: float, columns: float, copies: float = 1.0) -> float:
        """Bytes of ``copies`` matrices [byte]: Σ values·bits + scales, zero points and indices."""
        bits = rows * columns * self.bits + rows * self.row_bits + columns * self.column_bits
        if self.group_bits:
            bits += rows * math.ceil(columns / (self.group or columns)) * self.group_bits
        if self.tile:
            bits += math.ceil(rows / self.tile) * math.ceil(columns / self.tile) * self.tile_bits
        return copies * bits / 8.0

    @property
    def bits_per_weight(self) -> float:
        """Bits a value with the scales of its group and tile; rows and columns of a large matrix do not count."""
        return self.bits + (self.group_bits / self.group if self.group else 0.0) + (
            self.tile_bits / self.tile**2 if self.tile else 0.0)  # fmt: skip

    def grouped(self, group: int) -> Layout:
        """The same with ``group`` inputs a scale; 0 is a scale a row."""
        return self if group == self.group else replace(self, group=group, name=f"{self.name} g{group or 'row'}")


@dataclass(frozen=True)
class Mix:
    """Which layout each tensor of a GGUF file takes: ``rules`` are (tensor, layout, conditions), the first fit wins."""

    base: str
    rules: tuple[tuple[str, ...], ...] = ()
    tables: str = ""
    output: str = "q6_k"
    low: bool = False

    @property
    def plain(self) -> bool:
        """Whether the file is not quantised at all."""
        return self.base in ("f32", "f16", "bf16")


@dataclass(frozen=True)
class Quantization:
    """How the weights of a model are stored.

    Attributes
    ----------
    name : str                  as it may be said again
    kinds : pairs               layout of each kind of :data:`KINDS` that is quantised; the others stay ``wide``
    dtype : str                 the plain dtype whose rules say what the matmuls run in
    weight_only : bool          weights are widened before they are multiplied
    ignore : tuple of str       modules left as they were: names, globs, or ``re:`` and a regular expression
    only : pairs                (module pattern, layout), before ``kinds``; the first fit wins
    mix : Mix or None           the rules of a GGUF file, instead of ``kinds``
    wide : str                  dtype of what is not quantised
    assumed : tuple of str      what the checkpoint does not say and had to be chosen
    cache : str                 dtype that the checkpoint has scales for its cached keys and values in, if any
    """

    name: str
    kinds: tuple[tuple[str, Layout], ...] = ()
    dtype: str = "bf16"
    weight_only: bool = False
    ignore: tuple[str, ...] = ()
    only: tuple[tuple[str, Layout], ...] = ()
    mix: Mix | None = None
    wide: str = "bf16"
    assumed: tuple[str, ...] = ()
    cache: str = ""


@lru_cache(maxsize=1)
def table() -> Mapping[str, Any]:
    """``formats.yaml`` as it is written."""
    return _written("formats.yaml")


@lru_cache(maxsize=1)
def tensor_table() -> Mapping[str, Any]:
    """``tensors.yaml`` as it is written: the matrices of each operator as checkpoints name them."""
    return _written("tensors.yaml")


def _written(name: str) -> Mapping[str, Any]:
    text = (resources.files("planner.catalogue") / name).read_text(encoding="utf-8")
    found: Mapping[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return found


@lru_cache(maxsize=1)
def layouts() -> Mapping[str, Layout]:
    """Every layout by name."""
    out = {}
    for name, given in table()["layouts"].items():
        values = dict(given)
        values["source"] = table()["sources"][values["source"]]
        if "bytes" in values:
            values["bits"] = 8.0 * values.pop("bytes") / values["block"]
        out[name] = Layout(name, **values)
    return out


@lru_cache(maxsize=1)
def _names() -> Mapping[str, str]:
    """Every way of saying a format, as :func:`_key` folds it, to its name."""
    t = table()
    found = {_key(n): n for n in (*t["formats"], *t["mixes"])}
    found |= {_key(alias): n for alias, n in t["mix_aliases"].items()} | {_key(n): n for n in t["large"]}
    for name, given in t["formats"].items():
        found |= {_key(alias): name for alias in given.get("aliases", ())}
    return found


def format_names() -> tuple[str, ...]:
    """Names that may be said as a quantization, without their aliases."""
    return tuple(sorted({*table()["formats"], *table()["mixes"], *table()["large"]}))


def _key(name: str) -> str:
    """A name folded: lower case, blanks, commas and underscores as hyphens, ``gguf`` left out."""
    text = re.sub(r"^(gguf[\s_-]+(type|mix)?|mostly_)\s*", "", name.strip().lower())
    return re.sub(r"[\s_,/()-]+", "-", text).strip("-")


def requantized(q: Quantization, own: Quantization | None, wide: str) -> Quantization:
    """A format as it is made from a checkpoint that stores its weights as ``own``, or plain in ``wide``.

    Experts that a checkpoint holds in MXFP4 go into a GGUF file as they are, whatever its mix
    (ggml-org/llama.cpp convert_hf_to_gguf.py, GptOssModel; no fp32 or bf16 original of gpt-oss exists).
    """
    if own is None:
        return replace(q, wide=wide if wide in WIDE else "bf16")
    kept = tuple(k for k in own.kinds if k[0] == "experts" and k[1].name == "mxfp4") if q.mix else ()
    return replace(q, wide=own.wide, kinds=(*q.kinds, *kept))


def _said(name: str) -> str | None:
    """The format a name says: as a GGUF file's where it says so, with its remarks in parentheses, then without them."""
    in_gguf = name.strip().lower().startswith("gguf")
    for form in (name, re.sub(r"\([^()]*\)", " ", name)):
        for key in (f"{_key(form)}-gguf", _key(form)) if in_gguf else (_key(form),):
            if key in _names():
                return _names()[key]
    return None


def find_format(name: str, *, where: str = "quantization", also: tuple[str, ...] = ()) -> Quantization:
    """The quantization a name means: a GGUF mix (``q4_k_m``), a method (``awq``, ``fp8``, ``nf4``), in any case.

    A method with groups takes its size as ``-g64`` or ``-channel``; exl2 and exl3 take bits a weight (``exl2-4.65``).
    ``also`` are other names that would do, for the error.

    Raises
    ------
    BadInputError
        An unknown name, with the nearest; a known one that has no answer, with the reason.
    """
    found = _said(name)
    if found is not None:
        return _named(found)
    key = _key(re.sub(r"\([^()]*\)", " ", name))
    mix = _said(key.removesuffix("@2023"))
    if key.endswith("@2023") and (mix in table()["mixes"] or mix in table()["large"]):
        return _named(f"{mix}@2023")
    _refuse(name, key, where)
    bits = re.fullmatch(r"(exl[23])-(\d+(?:\.\d+)?)(?:bpw)?", key)
    if bits:
        return _at_bits(bits[1], float(bits[2]), where)
    group = re.fullmatch(r"(.+?)-(?:group-|g)?(in|none|channel|no-group|\d+)g?", key)
    if group and (base := _names().get(group[1])) is not None:
        return _grouped(_named(base), int(group[2]) if group[2].isdigit() else 0, name, where)
    raise unknown("format", name, (*format_names(), *also), where=where)


def _refuse(name: str, key: str, where: str) -> None:
    refused: Mapping[str, str] = table()["refused"]
    parts = key.split("-")
    reason = refused.get(key.replace("-", "_")) or next((refused[p] for p in ("ud", "apex") if p in parts), None)
    if reason is None and parts[-1] == "xl":
        reason = refused["k_xl"]
    if reason is not None:
        close = nearest(key.replace("ud-", "").replace("-xl", "-m").replace("-", "_"), format_names())
        raise BadInputError(
            f"{where}: {name!r} is refused: {reason}" + (f"; nearest: {', '.join(close)}" if close else "")
        )


@lru_cache(maxsize=256)
def _named(name: str) -> Quantization:
    t = table()
    if name in t["formats"]:
        given = t["formats"][name]
        kinds = {k: given.get(k) or (given.get("matrices") if k in ("linear", "experts") else None) for k in KINDS}
        held = tuple((k, layouts()[v]) for k, v in kinds.items() if v)
        return Quantization(name, held, given["dtype"], given.get("weight_only", False), tuple(given.get("ignore", ())))
    return _mixed(name)


def _mixed(name: str) -> Quantization:
    """A GGUF mix; ``_l`` names keep the tables at Q8_0, ``@2023`` ones leave experts at the base type."""
    mixes, bare = table()["mixes"], name.removesuffix("@2023")
    large = table()["large"].get(bare)
    given = dict(mixes.get(name) or mixes[large or bare])
    dtype = given.pop("dtype", None)
    rules = tuple(tuple(map(str, r)) for r in given.pop("rules", ()))
    if large:
        given |= {"tables": "q8_0", "output": "q8_0"}
    if name != bare:
        rules = (("experts", given["base"]), *rules)
    mix = Mix(**given, rules=rules)
    return Quantization(
        name, dtype=dtype or ("int8" if layouts()[mix.base].bits > 5 else "int4"), weight_only=True, mix=mix
    )


def _at_bits(name: str, bits: float, where: str) -> Quantization:
    if not 1.0 <= bits <= 8.0:
        raise BadInputError(f"{where}: {name} stores 1 to 8 bits a weight, not {bits:g}")
    q = _named(name)
    kinds = tuple((k, replace(v, bits=bits) if v.name == name else v) for k, v in q.kinds)
    return replace(q, name=f"{name}-{bits:g}", kinds=kinds, dtype="int4" if bits <= 5 else "int8")


def _grouped(q: Quantization, group: int, name: str, where: str) -> Quantization:
    if not q.kinds or not any(v.group for _, v in q.kinds):
        raise BadInputError(f"{where}: {name!r}: {q.name} has no groups to size")
    kinds = tuple((k, v.grouped(group)) for k, v in q.kinds)
    sized = q.name if kinds == q.kinds else f"{q.name}-{f'g{group}' if group else 'channel'}"
    return replace(q, name=sized, kinds=kinds)


def gguf_layout(mix: Mix, tensor: str, *, columns: float, layer: int, layers: int, facts: frozenset[str]) -> Layout:
    """Layout of one tensor of a GGUF file.

    Parameters
    ----------
    tensor : ``attn_v attn_qkv attn_k attn_q attn_output ffn_up ffn_down experts output token_embd`` or ``other``
        (``experts:ffn_down`` for an expert's); norms, biases, routers and positions are not asked for: they are fp32
    columns : inputs of the matrix
    layer, layers : its index among the layers, and how many there are
    facts : of the model, ``gqa eight experts4 falcon seventy``

    ggml-org/llama.cpp, src/llama-quant.cpp, llama_tensor_get_type
    """
    if mix.plain:
        return layouts()[mix.base]
    kind, _, inner = tensor.partition(":")
    base = layouts()[mix.base]
    if kind == "output":
        whole = "falcon" not in facts and columns % base.block == 0
        name = mix.output if whole else "q8_0"
    elif kind == "token_embd":
        name = mix.tables or mix.base
    else:
        name = _by_rule(mix, kind, inner, layer=layer, layers=layers, facts=facts)
    found = layouts()[name]
    while columns % found.block:
        found = layouts()[found.fallback or "f16"]
    return found


def _by_rule(mix: Mix, kind: str, inner: str, *, layer: int, layers: int, facts: frozenset[str]) -> str:
    names = (kind, inner)
    name = next((r[1] for r in mix.rules
                 if r[0] in names and all(_holds(c, layer, layers, facts) for c in r[2:])), mix.base)  # fmt: skip
    if mix.low:
        return name
    if kind in ("attn_v", "attn_qkv") and "seventy" in facts:
        name = table()["seventy"]["lift"].get(name, name)
    if "eight" in facts:
        name = table()["eight_experts"].get(kind, name)
    return name


def _holds(condition: str, i: int, n: int, facts: frozenset[str]) -> bool:
    """Whether a condition of a rule holds for layer ``i`` of ``n``."""
    first = {"first 2": 2, "first 4": 4, "first n/8": n // 8, "first n/16": n // 16}
    if condition in first:
        return i < first[condition]
    if condition == "more":
        return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2
    if condition == "middle":
        return n // 8 <= i < 7 * n // 8
    if condition.startswith("not "):
        return condition[4:] not in facts
    return condition in facts or (condition == "sharing" and bool({"gqa", "experts4"} & facts))
