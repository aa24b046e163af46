"""``quantization_config`` of a checkpoint as a :class:`~planner.catalogue.formats.Quantization`.

Every quantiser writes its own keys; each is read into the same few facts: the layout of what it quantised, which kinds
of matrices that is, and which modules it left. Layouts and sources are those of ``formats.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from planner.catalogue.formats import Layout, Quantization, find_format, layouts, table
from planner.errors import BadInputError, unknown

# Keys of a configuration under which quantisers write; compressed-tensors and MLX have older ones of their own.
SECTIONS = ("quantization_config", "compression_config", "quantization")
LISTS = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "exclude", "llm_int8_skip_modules")
MATRICES = ("linear", "experts")
Kinds = tuple[tuple[str, Layout], ...]
Reader = Callable[["Section"], Quantization]


@dataclass(frozen=True)
class Section:
    """A quantiser's mapping, with errors that name the key."""

    values: Mapping[str, Any]
    where: str

    def error(self, key: str, message: str) -> BadInputError:
        return BadInputError(f"{self.where}.{key} {message}")

    def integer(self, key: str, default: int, *, low: int = -1, high: int = 1 << 20) -> int:
        """A whole number in ``low … high``."""
        value = self.values.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(key, f"is {value!r}; a whole number from {low} to {high} is due")
        return value

    def group(self, default: int = 128) -> int:
        """Inputs that share a scale; 0 where a row shares one."""
        return max(self.integer("group_size", default), 0)

    def section(self, key: str) -> Section:
        """A mapping inside, empty where it is missing."""
        value = self.values.get(key) or {}
        if not isinstance(value, Mapping):
            raise self.error(key, f"is {value!r}; a mapping is due")
        return Section(value, f"{self.where}.{key}")

    def names(self, *keys: str) -> tuple[str, ...]:
        """The module names under the first of ``keys`` that is given."""
        for key in keys:
            value = self.values.get(key)
            if value is not None:
                if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
                    raise self.error(key, f"is {value!r}; a list of module names is due")
                return tuple(value)
        return ()


def read_quantization(config: Mapping[str, Any], *, where: str, wide: str) -> Quantization | None:
    """How a checkpoint's configuration says its weights are stored; None where it says nothing.

    Parameters
    ----------
    config : mapping        of a ``config.json``; a text model's own section is looked into too
    where : str             shown in errors
    wide : str              dtype of what is not quantised

    Raises
    ------
    BadInputError
        An unknown quantiser, one whose layout its configuration does not tell, or a key of the wrong kind.
    """
    for inner in (config, config.get("text_config"), config.get("llm_config")):
        if not isinstance(inner, Mapping):
            continue
        for key in SECTIONS:
            if isinstance(inner.get(key), Mapping) and inner[key]:
                found = _read(Section(inner[key], f"{where}: {key}"))
                return replace(_experts(found, inner, where), wide=wide, cache=_cache(inner[key]))
    return None


def _cache(section: Mapping[str, Any]) -> str:
    """Dtype of the cache that a checkpoint carries scales for: fp8 in whatever way it is said, else none."""
    nested = section.get("quantization")
    for held in (section, nested if isinstance(nested, Mapping) else {}):
        said = held.get("kv_cache_scheme") or held.get("kv_cache_quant_algo")
        if isinstance(said, Mapping) and said.get("num_bits") == 8 and said.get("type", "float") == "float":
            return "fp8"
        if isinstance(said, str) and said.lower() in ("fp8", "static"):
            return "fp8"
    return ""


def _read(s: Section) -> Quantization:
    nested = s.section("quantization")
    if "quant_algo" in nested.values:  # hf_quant_config.json
        return _modelopt(replace(nested, where=s.where))
    method = s.values.get("quant_method")
    if method is None:
        method = "modelopt" if "quant_algo" in s.values else "mlx" if "bits" in s.values else None
        method = "compressed-tensors" if method is None and "config_groups" in s.values else method
        method = "bitsandbytes" if method is None and "load_in_4bit" in s.values else method
    name = str(method).lower().replace("_", "-")
    reader = READERS.get(name)
    if reader is None:
        reason = table()["refused"].get(str(method).lower())
        if reason is not None:
            raise s.error("quant_method", f"{method!r} is refused: {reason}")
        raise unknown("quant_method", str(method), READERS, where=s.where)
    try:
        return reader(s)
    except (TypeError, ValueError, AttributeError, LookupError) as error:  # a list where a name is due, and the like
        raise BadInputError(f"{s.where}: a value of {name} is of the wrong kind: {error}") from error


def _experts(q: Quantization, config: Mapping[str, Any], where: str) -> Quantization:
    """``expert_dtype`` of DeepSeek-V4: experts in fp4 with a scale of 8 bits over 32 values, the rest as q has it."""
    name = config.get("expert_dtype")
    if name is None:
        return q
    known = {"fp4": "mxfp4", "mxfp4": "mxfp4", "nvfp4": "nvfp4", "fp8": "fp8-block"}
    if not isinstance(name, str) or name not in known:
        raise unknown("expert_dtype", str(name), known, where=where)
    kinds = tuple((k, v) for k, v in q.kinds if k != "experts")
    return replace(q, kinds=(*kinds, ("experts", layouts()[known[name]])))


def _of(layout: Layout, kinds: Iterable[str] = MATRICES) -> Kinds:
    return tuple((k, layout) for k in kinds)


def integers(bits: int, group: int, *, zeros: bool, columns: float = 0.0, name: str = "") -> Layout:
    """Integers with a 16-bit scale a group and, with ``zeros``, a zero point of their own width."""
    base = Layout(name or f"int{bits}", float(bits), 128, 16.0 + bits * zeros, column_bits=columns)
    return base.grouped(group)


def _narrow(bits: float) -> str:
    return "int4" if bits <= 4 else "int8"


def _gptq(s: Section) -> Quantization:
    bits = s.integer("bits", 4, low=2, high=8)
    layout = integers(bits, s.group(), zeros=True, columns=32.0, name=f"int{bits}-gptq")
    kinds = _of(layout, (*MATRICES, "head") if s.values.get("lm_head") else MATRICES)
    ignore, only = list(s.names(*LISTS)), []
    for pattern, given in s.section("dynamic").values.items():  # GPTQModel: "-:" leaves out, "+:" overrides
        if pattern.startswith("-:"):
            ignore.append(f"re:.*{pattern[2:]}")
        else:
            own = Section(given if isinstance(given, Mapping) else {}, f"{s.where}.dynamic")
            width = own.integer("bits", bits, low=2, high=8)
            only.append((f"re:.*{pattern.removeprefix('+:')}", integers(width, own.group(s.group()), zeros=True,
                                                                       columns=32.0)))  # fmt: skip
    blocks = s.values.get("modules_in_block_to_quantize")
    if blocks:
        only += [(name, layout) for names in blocks for name in ([names] if isinstance(names, str) else names)]
        kinds = ()
    return Quantization(f"gptq-int{bits}", kinds, _narrow(bits), True, tuple(ignore), tuple(only))


def _awq(s: Section) -> Quantization:
    bits = s.integer("bits", s.integer("w_bit", 4), low=2, high=8)
    zeros = bool(s.values.get("zero_point", True))
    layout = integers(bits, s.group(s.integer("q_group_size", 128)), zeros=zeros, name=f"int{bits}-awq")
    return Quantization("awq", _of(layout), _narrow(bits), True, s.names(*LISTS))


def _auto_round(s: Section) -> Quantization:
    bits = s.integer("bits", 4, low=2, high=8)
    in_awq = "awq" in str(s.values.get("packing_format", ""))
    layout = integers(bits, s.group(), zeros=True, columns=0.0 if in_awq else 32.0, name=f"int{bits}-gptq")
    extra = s.section("extra_config").values
    wide = tuple(n for n, v in extra.items() if isinstance(v, Mapping) and int(v.get("bits", bits)) >= 16)
    return Quantization("auto-round", _of(layout), _narrow(bits), True, (*s.names(*LISTS), *wide))


def _fp8(s: Section) -> Quantization:
    block = s.values.get("weight_block_size")
    layout = layouts()["fp8"]
    if block is not None:
        square = isinstance(block, list | tuple) and len(block) == 2 and block[0] == block[1]
        if not square or isinstance(block[0], bool) or not isinstance(block[0], int) or block[0] < 1:
            raise s.error("weight_block_size", f"is {block!r}; [n, n] is due")
        layout = replace(layouts()["fp8-block"], tile=int(block[0]))
    mixed = _by_layer(s)
    # Where single layers are narrower still, the list says which of the others kept their fp8.
    return Quantization("fp8" if block else "fp8-static", _of(layout), "fp8", False, () if mixed else s.names(*LISTS),
                        mixed)  # fmt: skip


def _fbgemm(s: Section) -> Quantization:
    return Quantization("fbgemm_fp8", _of(layouts()["fp8-row"]), "fp8", False, s.names(*LISTS))


# Algorithms of NVIDIA's ModelOpt and the layout each writes.
ALGORITHMS = {
    "FP8": "fp8", "FP8_PER_CHANNEL_PER_TOKEN": "fp8-channel", "FP8_PB_WO": "fp8-block", "FP8_PB_REAL": "fp8-block",
    "NVFP4": "nvfp4", "NVFP4_AWQ": "nvfp4", "W4A16_NVFP4": "nvfp4", "W4A8_NVFP4_FP8": "nvfp4", "MXFP4": "mxfp4",
    "W4A8_MXFP4_FP8": "mxfp4", "MXFP8": "mxfp8", "W4A16_AWQ": "int4", "W4A8_AWQ": "int4", "INT8_SQ": "int8-channel",
    "W8A16": "int8-channel",
}  # fmt: skip


def _algorithm(s: Section, key: str = "quant_algo") -> Layout:
    name = str(s.values.get(key, ""))
    if name not in ALGORITHMS:
        raise unknown(key, name, ALGORITHMS, where=s.where)
    layout = layouts()[ALGORITHMS[name]]
    return layout.grouped(s.group(layout.group)) if layout.group and layout.name == "int4" else layout


def _by_layer(s: Section) -> Kinds:
    """Layouts of single modules (``quantized_layers`` of a mixed ModelOpt checkpoint)."""
    inner = s.section("quantized_layers")
    return tuple((name, _algorithm(Section(given, f"{inner.where}.{name}")))
                 for name, given in inner.values.items() if isinstance(given, Mapping))  # fmt: skip


def _modelopt(s: Section) -> Quantization:
    algorithm = s.values.get("quant_algo")
    ignore = s.names(*LISTS)
    if algorithm == "MIXED_PRECISION":
        only = _by_layer(s)
        if not only:
            raise s.error("quant_algo", "is MIXED_PRECISION without quantized_layers: nothing says which is stored how")
        dtype = min(
            (_dtype(layout) for _, layout in only), key=("nvfp4", "mxfp4", "int4", "fp8", "mxfp8", "int8").index
        )
        return Quantization("modelopt", (), dtype, False, ignore, only)
    if algorithm is None and "config_groups" in s.values:
        return replace(_compressed(s), name="modelopt", kinds=_compressed(s).kinds[:2])
    layout = _algorithm(s)
    return Quantization(f"modelopt-{str(algorithm).lower()}", _of(layout), _dtype(layout),
                        "W4A16" in str(algorithm) or algorithm == "W8A16", ignore)  # fmt: skip


def _dtype(layout: Layout) -> str:
    """The plain dtype whose matmuls a layout feeds."""
    name = layout.name.partition(" ")[0].partition("-")[0]
    return name if name in ("fp8", "nvfp4", "mxfp4", "mxfp8") else _narrow(layout.bits)


def _compressed(s: Section) -> Quantization:
    groups = s.section("config_groups")
    if not groups.values:
        raise s.error("config_groups", "is missing: nothing says how weights are stored")
    only: list[tuple[str, Layout]] = []
    whole: Layout | None = None
    weight_only = True
    for name in groups.values:
        group = groups.section(name)
        layout = _scheme(group.section("weights"))
        weight_only &= group.values.get("input_activations") is None
        targets = group.names("targets") or ("Linear",)
        only += [(t, layout) for t in targets if t.startswith("re:") or "." in t]
        if not all(t.startswith("re:") or "." in t for t in targets):
            whole = layout
    main = whole or only[0][1]
    kinds = _of(whole, (*MATRICES, "head")) if whole else ()
    return Quantization("compressed-tensors", kinds, _dtype(main), weight_only and _dtype(main) in ("int4", "int8"),
                        s.names(*LISTS), tuple(only))  # fmt: skip


def _scheme(w: Section) -> Layout:
    """Layout of one scheme of compressed-tensors: type, bits, and what shares a scale."""
    bits, kind = w.integer("num_bits", 8, low=2, high=8), w.values.get("type", "int")
    group = w.group(0)
    strategy = str(w.values.get("strategy") or ("group" if group else "channel"))
    if kind == "float" and bits == 4:
        return layouts()["mxfp4" if group == 32 else "nvfp4"]
    if kind == "float":
        block = w.values.get("block_structure")
        if strategy == "block" and isinstance(block, list) and block:
            return replace(layouts()["fp8-block16"], tile=int(block[0]))
        return layouts()[{"channel": "fp8-channel", "block": "fp8-block16"}.get(strategy, "fp8")]
    if kind != "int":
        raise w.error("type", f"is {kind!r}; int or float is due")
    zeros = w.values.get("symmetric") is False
    if strategy == "tensor":
        return Layout(f"int{bits}", float(bits))
    return integers(bits, group if strategy == "group" else 0, zeros=zeros)


def _bitsandbytes(s: Section) -> Quantization:
    eight = s.values.get("load_in_8bit") or s.values.get("_load_in_8bit")
    double = s.values.get("bnb_4bit_use_double_quant")
    name = "bnb-int8" if eight else "nf4-dq" if double else "nf4"
    return replace(find_format(name), ignore=s.names(*LISTS))


def _mxfp4(s: Section) -> Quantization:
    return replace(find_format("mxfp4-experts"), ignore=s.names(*LISTS))


def _mlx(s: Section) -> Quantization:
    mode = str(s.values.get("mode", "affine"))
    bits, group = s.integer("bits", 4, low=2, high=8), s.group(64)
    base = find_format(f"mlx-{bits}bit" if mode == "affine" else f"mlx-{mode}", where=s.where)
    kinds = tuple((k, v.grouped(group)) if mode == "affine" else (k, v) for k, v in base.kinds)
    own = {n: v for n, v in s.values.items() if "." in n or n in ("lm_head", "embed_tokens")}
    only = tuple((n, _mlx(Section({"bits": bits, "group_size": group, **v}, f"{s.where}.{n}")).kinds[0][1])
                 for n, v in own.items() if isinstance(v, Mapping))  # fmt: skip
    return replace(base, kinds=kinds, only=only, ignore=tuple(n for n, v in own.items() if v is False))


def _exl(s: Section) -> Quantization:
    name, bits = str(s.values["quant_method"]).lower(), s.values.get("bits")
    if isinstance(bits, bool) or not isinstance(bits, int | float):
        raise s.error("bits", f"is {bits!r}; the bits a weight are due")
    found = find_format(f"{name}-{bits:g}", where=s.where)
    head = s.values.get("head_bits")
    kinds = tuple((k, replace(v, bits=float(head)) if k == "head" and head else v) for k, v in found.kinds)
    return replace(found, kinds=kinds)


# Names of torchao's configurations, old and new, and the layout each writes.
TORCHAO = {
    "int4_weight_only": "int4-torchao", "Int4WeightOnlyConfig": "int4-torchao", "int8_weight_only": "int8-channel",
    "Int8WeightOnlyConfig": "int8-channel", "int8_dynamic_activation_int8_weight": "int8-channel",
    "Int8DynamicActivationInt8WeightConfig": "int8-channel", "float8_weight_only": "fp8-row",
    "Float8WeightOnlyConfig": "fp8-row", "float8_dynamic_activation_float8_weight": "fp8-row",
    "Float8DynamicActivationFloat8WeightConfig": "fp8-row",
}  # fmt: skip


def _torchao(s: Section) -> Quantization:
    given = s.values.get("quant_type")
    data: Mapping[str, Any] = s.section("quant_type_kwargs").values
    if isinstance(given, Mapping):
        inner = given.get("default", given)
        given, data = inner.get("_type"), inner.get("_data") or {}
    if given not in TORCHAO:
        raise unknown("quant_type", str(given), TORCHAO, where=s.where)
    layout = layouts()[TORCHAO[given]]
    layout = layout.grouped(Section(data, s.where).group(layout.group)) if layout.group else layout
    kinds = (*MATRICES, "embedding", "head") if s.values.get("include_input_output_embeddings") else MATRICES
    return Quantization("torchao", _of(layout, kinds), _dtype(layout), "only" in given.lower(), s.names(*LISTS))


def _quark(s: Section) -> Quantization:
    weight = s.section("global_quant_config").values.get("weight")
    scheme = weight[-1] if isinstance(weight, list) and weight else weight
    if not isinstance(scheme, Mapping):
        raise s.error("global_quant_config", "says nothing of weights: nothing says how they are stored")
    inner = Section(scheme, f"{s.where}.global_quant_config.weight")
    kind, way = str(scheme.get("dtype", "")), str(scheme.get("qscheme", ""))
    if kind.startswith("fp8"):
        layout = layouts()["fp8-channel" if way == "per_channel" else "fp8"]
    elif kind in ("fp4", "mxfp4"):
        layout = layouts()["mxfp4"]
    elif kind in ("int4", "int8", "uint4"):
        group = inner.group(0) if way == "per_group" else 0
        layout = integers(int(kind[-1]), group, zeros=scheme.get("symmetric") is False)
    else:
        raise unknown("dtype", kind, ("fp8_e4m3", "fp4", "int4", "uint4", "int8"), where=inner.where)
    weight_only = not s.section("global_quant_config").values.get("input_tensors")
    return Quantization("quark", _of(layout), _dtype(layout), weight_only, s.names(*LISTS))


READERS: Mapping[str, Reader] = {
    "gptq": _gptq, "awq": _awq, "auto-round": _auto_round, "intel/auto-round": _auto_round, "fp8": _fp8,
    "fbgemm-fp8": _fbgemm, "modelopt": _modelopt, "modelopt-fp4": _modelopt, "modelopt-mixed": _modelopt,
    "compressed-tensors": _compressed, "bitsandbytes": _bitsandbytes, "mxfp4": _mxfp4, "mlx": _mlx, "exl2": _exl,
    "exl3": _exl, "torchao": _torchao, "quark": _quark,
}  # fmt: skip
