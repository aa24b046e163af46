"""The scenario: one flat vocabulary for command line, YAML, CSV and Python.

:data:`KEYS` is the law: every key with its type, the tasks it belongs to and what it means. The command line makes a
flag of each, a CSV a column, Python a keyword.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from planner.cost.constants import OFFLOADS, RECOMPUTE, TASKS
from planner.cost.schedules import SCHEDULES
from planner.demand.optimizer import OPTIMIZERS
from planner.errors import BadInputError, unknown
from planner.precision import DTYPE_NAMES
from planner.units import format_quantity, parse_quantity

LARGEST = 10**7  # devices and batches beyond this are refused as a slip of the keyboard
LONGEST = 10**9  # tokens of a sequence; 15 million have been trained on
# What stands beside the keys of an answer and says nothing when it is read back.
ECHOED = ("accelerator", "resolved_model", "resolved_hardware", "price_basis", "assumed")
LABELS = ("id", "name", "note", "notes", "source", "error")  # columns that go through untouched
UNREADABLE = "unreadable row"  # set by a reader where the row itself is broken
Value = str | int | float | bool
PRICE_KINDS = ("on-demand", "spot", "reserved", "marketplace")


@dataclass(frozen=True)
class Key:
    """One scenario key.

    ``kind`` is text, int, float, bool, choice, format (a choice, or the name of a storage format), or quantity: a
    number with a unit, kept as it was written and read by :func:`amount`. ``least`` and ``most`` bound a number, in
    base units that of a quantity. A choice among the entries of a catalogue file is ``named`` by a function, which
    reads the file when asked.
    """

    name: str
    kind: str
    help: str
    choices: tuple[str, ...] = ()
    least: float = 1
    most: float = LARGEST
    named: Callable[[], Iterable[str]] | None = None
    searched: bool = False  # `plan` looks for the best value unless one is given
    unit: str = ""  # base unit of a quantity

    @property
    def allowed(self) -> tuple[str, ...]:
        """The choices, read from their file where they are named."""
        return tuple(self.named()) if self.named is not None else self.choices

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks the key says something to."""
        return _TASKS_OF.get(self.name, TASKS)

    @property
    def default(self) -> str:
        """What is taken where the key is not given, in words; empty where the model or the hardware says it."""
        return _DEFAULTS.get(self.name, "")


def _size(name: str, text: str, *, searched: bool = False, least: int = 1, most: float = LARGEST) -> Key:
    return Key(name, "int", text, least=least, most=most, searched=searched)


def _frameworks() -> Iterable[str]:
    from planner.catalogue.frameworks import frameworks

    return frameworks()


def _dispatchers() -> Iterable[str]:
    from planner.catalogue.dispatchers import dispatchers

    return dispatchers()


KEYS: dict[str, Key] = {
    k.name: k
    for k in (
        Key("task", "choice", "what is run", TASKS),
        Key("model", "text", "catalogue id, or a path to a config.json or a model YAML"),
        Key("hardware", "text", "system id, or accelerator id for its default system"),
        _size("devices", "number of accelerators"),
        _size("dp", "data-parallel size", searched=True),
        _size("tp", "tensor-parallel size", searched=True),
        _size("pp", "pipeline-parallel size", searched=True),
        _size("cp", "context-parallel size", searched=True),
        _size("ep", "expert-parallel size, over dp·cp·tp", searched=True),
        _size("etp", "ranks that share one expert, each a part of its width; etp·ep divides dp·cp·tp", searched=True),
        _size("vpp", "model chunks a pipeline stage (interleaving)", searched=True),
        _size("micro_batch", "sequences a micro-batch, per data-parallel rank", searched=True),
        _size("global_batch", "sequences a step"),
        Key("zero_stage", "int", "ZeRO stage: 1 shards optimizer state, 2 gradients, 3 weights (FSDP)", least=0, most=3,
            searched=True),
        Key("sequence_parallel", "bool", "divide norms and residuals over tp", searched=True),
        Key("recompute", "choice", "activations recomputed in the backward pass", RECOMPUTE, searched=True),
        Key("recompute_modules", "text", "what selective recomputation repeats, names with commas: "
            "core_attn, layernorm, mla_up_proj, moe_act, mlp, shared_experts, moe"),
        Key("attention", "choice", "flash (whichever the framework or engine calls), flash-1 (the first "
            "FlashAttention and its Triton port), flash-2, flash-3, cudnn, or eager (moves the score matrix)",
            ("flash", "flash-1", "flash-2", "flash-3", "cudnn", "eager")),
        Key("loss", "choice", "cross-entropy: eager (the framework's own), fused (16-bit logits and their gradient) or "
            "chunked (logits never whole)", ("eager", "fused", "chunked")),
        Key("schedule", "choice", "pipeline schedule", tuple(SCHEDULES)),
        _size("first_stage_layers", "layers of the first pipeline stage, where not dealt evenly"),
        _size("last_stage_layers", "layers of the last pipeline stage, where not dealt evenly"),
        Key("offload", "choice", "what lives in host memory: optimizer state, activations, or parameters with their "
            "gradients and optimizer state (nvme: on disks)", OFFLOADS),
        _size("seq_len", "tokens a sequence (train, forward)", most=LONGEST),
        _size("encoder_len", "tokens of the encoder's sequence; seq_len if not given", least=1),
        _size("input_len", "prompt tokens (prefill, decode, serve); 0 decodes from an empty cache", least=0,
              most=LONGEST),
        _size("output_len", "generated tokens (decode, serve)"),
        _size("batch", "sequences at once, over all replicas (prefill, decode, forward)"),
        _size("concurrency", "clients that send a request each, and the next when it is answered (serve)"),
        Key("rate", "float", "requests a second that arrive on their own, in place of concurrency (serve)", least=1e-9,
            most=1e9),
        _size("requests", "requests that a benchmark sends in all, the first of every client at once; no end if not "
              "given (serve)"),
        Key("admission_steps", "float", "decode steps that an engine holds a prompt back in the mean, to poll or to "
            "batch (serve)", least=0, most=1e4),
        Key("engine", "text", "inference engine whose per-step overheads and memory apply; ideal has none"),
        Key("memory_fraction", "float", "share of a device's memory that the engine manages; the engine's default if "
            "not given", least=0.01, most=1),
        _size("token_budget", "most tokens a step, whose activations the engine keeps room for; the engine's default "
              "if not given"),
        _size("max_num_seqs", "most sequences a step, whose logits the engine keeps room for; the engine's default if "
              "not given"),
        _size("max_model_len", "longest sequence that must have room; input_len + output_len if not given",
              most=LONGEST),
        Key("latent_cache", "choice", "what latent attention caches: the latent (absorbed) or keys and values of every "
            "head (expanded)", ("absorbed", "expanded")),
        Key("compute_dtype", "choice", "what matmuls run in", DTYPE_NAMES),
        Key("weight_dtype", "format", "how weights are stored: a dtype, or a GGUF format such as q4_k_m", DTYPE_NAMES),
        Key("quantization", "text", "how a quantised copy stores its weights, module by module: q4_k_m and the other "
            "GGUF formats, awq, gptq-int4, fp8, fbgemm_fp8, w4a16, nvfp4, mxfp4, nf4 …; checkpoint as the model itself "
            "says, none for plain weights"),
        Key("activation_dtype", "choice", "what layers pass on", DTYPE_NAMES),
        Key("kv_dtype", "choice", "the KV cache", DTYPE_NAMES),
        Key("grad_dtype", "choice", "the gradient accumulator", DTYPE_NAMES),
        Key("optimizer", "choice", "optimizer", tuple(OPTIMIZERS)),
        Key("expandable_segments", "bool", "segments of the caching allocator grow and serve blocks of every size "
            "(PYTORCH_CUDA_ALLOC_CONF)"),
        Key("master_weights", "bool", "fp32 copies of 16-bit weights and fp32 moments; false trains in plain 16 bits"),
        Key("sparsity", "choice", "2:4 structured sparsity of the weights", ("none", "2:4")),
        Key("compression", "text", "what is done to the model: none, or width:0.75, heads:0.5, depth:0.5, student:ID"),
        Key("overlap_dp", "bool", "hide gradient and parameter exchange behind compute"),
        Key("overlap_tp", "choice", "tensor-parallel communication hidden behind matmuls: none, that of the backward "
            "pass behind weight gradients, or all", ("none", "backward", "all")),
        Key("overlap_ep", "bool", "exchange with experts hidden behind another micro-batch, as DualPipe always "
            "does"),
        Key("context_exchange", "choice", "how context parallelism moves keys and values: ring, all_gather (Llama 3) "
            "or all_to_all (Ulysses)", ("ring", "all_gather", "all_to_all")),
        Key("framework", "choice", "whose kernels, checkpointing and pipeline sends: megatron, megatron-deepspeed, "
            "torch (FSDP) or jax (XLA)", named=_frameworks),
        Key("lora_rank", "int", "rank of the adapters trained instead of the weights; 0 trains the weights", least=0),
        Key("lora_targets", "choice", "matmuls that have adapters: those of attention, or all but routed experts",
            ("all", "attention")),
        Key("compiled", "bool", "kernels fused by a compiler or replayed as CUDA graphs: fewer launches, and "
            "under torch norms, rotary embeddings and gates in one pass"),
        Key("dispatcher", "choice", "how tokens reach experts: all_to_all (a copy for each expert), deepep (a token "
            "once a rank and node), hybridep (that, sorted on the way) or einsum (one-hot matmuls)",
            named=_dispatchers),
        Key("moe_kernels", "choice", "generation of the kernels around experts: unfused (sorting step by step), "
            "permute (sorts fused) or fused (router too, and experts as one kernel)", ("unfused", "permute", "fused")),
        Key("capacity_factor", "float", "rows that every expert computes over the mean, padded or dropped to it; 0 "
            "drops nothing", least=0, most=1e4),
        Key("imbalance", "float", "load of the busiest expert rank over the mean", least=1.0, most=1e4),
        Key("headroom", "float", "chance of fitting that a search asks of a layout: 0.5 fills a device to the brim, "
            "0.95 leaves room for nearly all that published peaks lay above their prediction", least=0.01, most=0.999),
        Key("network_bandwidth", "quantity", "one-way bandwidth of a device into the network between domains, as in "
            "400 Gbit/s, in place of the hardware's; joins nodes that have no network", unit="byte/s", most=1e18),
        Key("network_latency", "quantity", "time of one message across that network, as in 5 us, in place of the "
            "fitted steps", unit="s", least=0, most=3600),
        Key("oversubscription", "float", "what that network's bandwidth is divided by beyond a domain", most=1e4),
        _size("domain", "devices of a scale-up domain, in place of the hardware's"),
        Key("memory_capacity", "quantity", "memory of a device that a program can allocate, as in 80 GiB, in place of "
            "the hardware's", unit="byte", most=1e18),
        Key("price", "quantity", "rent of a device, as in 2.5 USD/hour, in place of the observed price",
            unit="USD/hour", least=0, most=1e6),
        Key("price_kind", "choice", "kind of the observed price that is taken", PRICE_KINDS),
    )
}  # fmt: skip
_INFERENCE = ("prefill", "decode", "serve")
_TASKS_OF: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("micro_batch", "global_batch", "vpp", "zero_stage", "sequence_parallel", "recompute", "schedule", "offload",
     "grad_dtype", "optimizer", "overlap_dp", "overlap_tp", "overlap_ep", "compiled", "framework", "lora_rank",
     "recompute_modules", "context_exchange", "loss", "first_stage_layers", "last_stage_layers", "master_weights",
     "expandable_segments", "lora_targets", "dispatcher", "moe_kernels", "capacity_factor"),
    ("train",),
) | {
    "seq_len": ("train", "forward"), "input_len": _INFERENCE, "output_len": ("decode", "serve"),
    "batch": ("prefill", "decode", "forward"), "concurrency": ("serve",), "rate": ("serve",), "requests": ("serve",),
    "admission_steps": ("serve",), "engine": (*_INFERENCE, "forward"),
    "kv_dtype": (*_INFERENCE, "forward"), "memory_fraction": _INFERENCE, "token_budget": _INFERENCE,
    "max_num_seqs": _INFERENCE, "max_model_len": _INFERENCE, "latent_cache": _INFERENCE,
}  # fmt: skip
_CHOSEN = "fastest that fits"
_DEFAULTS = dict.fromkeys(("tp", "pp", "cp", "ep", "devices"), "1") | {
    "task": "train", "dp": "devices over tp, pp and cp", "etp": "tp where ep is 1, else 1", "vpp": "1",
    "micro_batch": _CHOSEN, "recompute": _CHOSEN, "global_batch": "one micro-batch a rank, four a pipeline stage",
    "zero_stage": "1 where dp > 1, else 0", "sequence_parallel": "true where tp > 1", "attention": "flash",
    "loss": "eager", "schedule": "1f1b; interleaved where vpp > 1", "offload": "none",
    "seq_len": "4096 or all positions; 512 for forward", "input_len": "1024", "output_len": "256",
    "batch": "one a replica", "concurrency": "one a replica", "engine": "ideal", "latent_cache": "absorbed",
    "compute_dtype": "16 bits, or as the weights where the chip can",
    "activation_dtype": "compute_dtype, 16 bits or more",
    "kv_dtype": "activation_dtype", "grad_dtype": "as the framework does", "optimizer": "adamw", "sparsity": "none",
    "compression": "none", "overlap_dp": "true", "overlap_tp": "as the framework does", "overlap_ep": "false",
    "context_exchange": "ring", "framework": "megatron; torch for ZeRO 3; jax where XLA compiles",
    "lora_rank": "0", "compiled": "as the framework does", "imbalance": "1", "price_kind": "on-demand",
}  # fmt: skip
_TRUE, _FALSE = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


def parse_scenario(given: Mapping[str, object], *, where: str = "") -> dict[str, Value]:
    """Check a flat mapping against :data:`KEYS`; empty and missing values are left out.

    Raises
    ------
    BadInputError
        All faults at once: unknown keys with the nearest names, values of the wrong kind or out of range. Its ``key``,
        ``given`` and ``allowed`` are those of the first.
    """
    faults: list[BadInputError] = []
    out: dict[str, Value] = {}
    for name, value in given.items():
        if name in LABELS or name in ECHOED or is_missing(value):
            continue
        if name not in KEYS:
            faults.append(unknown("key", str(name), KEYS))
            continue
        try:
            out[name] = _parse(KEYS[name], value)
        except BadInputError as error:
            faults.append(BadInputError(str(error), key=name, given=value, allowed=KEYS[name].allowed))
    if faults:
        place, first = f"{where}: " if where else "", faults[0]
        raise BadInputError("; ".join(f"{place}{f}" for f in faults), key=first.key, given=first.given,
                            allowed=first.allowed)  # fmt: skip
    return out


def is_missing(value: object) -> bool:
    """None, an empty cell or NaN."""
    return (
        value is None
        or (isinstance(value, str) and not value.strip())
        or (isinstance(value, float) and math.isnan(value))
    )


def _parse(key: Key, value: object) -> Value:
    if key.kind == "text":
        return _text(key, value)
    if key.kind == "bool":
        return _parse_bool(key, value)
    if key.kind in ("choice", "format"):
        text = _text(key, value).lower()
        if text not in key.allowed and key.kind == "format":
            from planner.catalogue.formats import find_format  # --help reads no catalogue

            return find_format(text, where=key.name, also=key.allowed).name
        if text not in key.allowed:
            raise unknown(key.name, _text(key, value), key.allowed)
        return text
    if key.kind == "quantity":
        return _parse_quantity(key, value)
    return _parse_number(key, value)


def _text(key: Key, value: object) -> str:
    """A value as it is written; Python refuses to write a number of thousands of digits."""
    try:
        return str(value).strip()
    except ValueError:
        raise BadInputError(f"{key.name}: a number of thousands of digits is no value of it") from None


def _parse_bool(key: Key, value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = _text(key, value).lower().removesuffix(".0")
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise BadInputError(f"{key.name}: {value!r} is not true or false")


def _parse_number(key: Key, value: object) -> int | float:
    try:
        number = float(_text(key, value))
    except ValueError:
        raise BadInputError(f"{key.name}: {value!r} is not a number") from None
    if not math.isfinite(number):
        raise BadInputError(f"{key.name}: {value!r} is not finite")
    if key.kind == "int" and number != int(number):
        raise BadInputError(f"{key.name}: {value!r} is not a whole number")
    if not key.least <= number <= key.most:
        raise BadInputError(f"{key.name}: {value} is outside {key.least:g} … {key.most:,.0f}")
    return int(number) if key.kind == "int" else number


def _parse_quantity(key: Key, value: object) -> str:
    """The quantity as it was written, so that it can be read again; one out of range is refused."""
    _text(key, value)
    try:
        number = parse_quantity(value, key.unit)
    except BadInputError as error:
        raise BadInputError(f"{key.name}: {error}") from None
    if not key.least <= number <= key.most:
        least, most = (format_quantity(v, key.unit) for v in (key.least, key.most))
        raise BadInputError(f"{key.name}: {value} is outside {least} … {most}")
    return " ".join(str(value).split())


def amount(given: Mapping[str, Value], name: str) -> float | None:
    """A quantity key in its base unit; None where it is not given."""
    return parse_quantity(given[name], KEYS[name].unit) if name in given else None
