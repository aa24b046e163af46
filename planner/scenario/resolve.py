"""From a scenario to what the cost model takes: model, cluster, precision, layout, run, and what had to be assumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from planner.catalogue.class_files import load_class
from planner.catalogue.engines import engine
from planner.catalogue.hardware import Accelerator, System
from planner.catalogue.loader import resolve_hardware
from planner.catalogue.models import load_model
from planner.catalogue.schema import Model
from planner.cost.frameworks import (
    MEGATRON_MODULES,
    WHY_FRAMEWORK,
    default_framework,
    default_gradients,
    settings_of_layout,
)
from planner.cost.inference import InferenceRun
from planner.cost.layouts import Layouts, divisors, layout_columns, layouts, resolve_layout, rules
from planner.cost.memory import held_zero_stage
from planner.cost.recompute import MODULES, default_modules, repeats_modules
from planner.cost.runs import TrainingRun
from planner.cost.training import training_step
from planner.demand.compression import compress
from planner.demand.costs import AttentionKind
from planner.demand.counts import encoder_tokens
from planner.demand.optimizer import optimizer
from planner.demand.transformer import Demand, demand
from planner.demand.workload import Precision
from planner.errors import BadInputError, unknown
from planner.precision import DTYPES
from planner.scenario.keys import KEYS, RECOMPUTE, Value
from planner.scenario.stored import model_name, said, stored_as
from planner.supply.accelerator import peak_flops
from planner.supply.cluster import Cluster

DEFAULT_INPUT, DEFAULT_OUTPUT, DEFAULT_SEQ = 1024, 256, 4096
HardwareDirs = tuple[str, ...]
NEUTRAL = (0, 1, False, "none")  # values that ask for nothing, so that leaving them aside is not worth a word


@dataclass
class Assumed:
    """What was not given and had to be chosen, in the words the user reads."""

    notes: list[str] = field(default_factory=list)

    def default(self, given: Mapping[str, Value], key: str, value: Value, why: str = "") -> Value:
        """The given value of a key, or ``value``, noted."""
        if key in given:
            return given[key]
        self.notes.append(f"{key} = {value}" + (f" ({why})" if why else ""))
        return value


@dataclass(frozen=True)
class Resolved:
    """A scenario understood. ``keys`` are the inputs as resolved."""

    task: str
    model: Model
    demand: Demand
    cluster: Cluster
    precision: Precision
    run: TrainingRun | InferenceRun
    keys: dict[str, Value]
    assumed_notes: list[str]
    free: frozenset[str] = frozenset()  # settings of the run that follow the layout, because they were not given

    @property
    def assumed(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.assumed_notes))


@lru_cache(maxsize=256)
def hardware(name: str, dirs: HardwareDirs = ()) -> tuple[Accelerator, System]:
    """Accelerator and system of a hardware name, cached."""
    return resolve_hardware(name, dirs or None)


@lru_cache(maxsize=256)
def cluster_of(name: str, devices: int, dirs: HardwareDirs = ()) -> Cluster:
    """Devices of a hardware name as a cluster, with the efficiency defaults of its class."""
    chip, system = hardware(name, dirs)
    return Cluster(chip, system, devices, load_class(chip.efficiency_class, dirs or None))


@lru_cache(maxsize=512)
def model_of(name: str, folder: str | None, compression: str = "none") -> Model:
    """A model by id or path, compressed as asked, cached."""
    if compression.startswith("student:"):
        name, compression = compression.removeprefix("student:"), "none"
    return compress(load_model(name, relative_to=Path(folder) if folder else None), compression)


def resolve(
    given: Mapping[str, Value],
    *,
    dirs: HardwareDirs = (),
    folder: str | None = None,
    model: Model | None = None,
) -> tuple[Resolved, Layouts]:
    """Understand one scenario with one layout.

    Raises
    ------
    BadInputError
        A key that is needed and missing, an unknown name, a dtype that the chip lacks, a layout that cannot be.
    """
    layout_keys = resolve_layout(given)
    resolved = resolve_run({**given, **layout_keys}, dirs=dirs, folder=folder, model=model)
    columns = layout_columns(given, layout_keys, resolved.task)
    if isinstance(resolved.run, TrainingRun):
        columns = fastest_that_fits(given, columns, resolved, resolved.run)
    chosen = "fastest that fits"
    for key, why in (("global_batch", "one micro-batch a rank, four a pipeline stage"), ("micro_batch", chosen),
                     ("zero_stage", ""), ("sequence_parallel", "where tp > 1"), ("recompute", chosen)):  # fmt: skip
        if key not in given and resolved.task == "train":
            said = _said_recompute(columns[key], resolved.run) if key == "recompute" else columns[key]
            resolved.assumed_notes.append(f"{key} = {said}" + (f" ({why})" if why else ""))
    x = layouts(**columns)
    seq = resolved.run.seq_len if isinstance(resolved.run, TrainingRun) else resolved.run.input_len
    broken = rules(x, resolved.model, devices=int(resolved.keys["devices"]),
                   seq_len=seq if int(x.cp[0]) > 1 or resolved.task == "train" else 1)  # fmt: skip
    if resolved.task != "train":
        broken = [r for r in broken if r.name not in ("sp_tokens", "micro_batch")]
    if broken:
        raise BadInputError(broken[0].message(x.row(0)))
    _refuse_split_heads(resolved, x)
    resolved.assumed_notes.extend(placement(x, resolved.cluster))
    stage = int(x.zero_stage[0])
    if isinstance(resolved.run, TrainingRun) and int(held_zero_stage(x, resolved.run)[0]) != stage:
        kept = "weights and gradients" if stage == 3 else "gradients"
        resolved.assumed_notes.append(f"zero_stage {stage} under a pipeline keeps {kept} whole, as 1 does")
    return resolved, x


def _refuse_split_heads(resolved: Resolved, x: Layouts) -> None:
    """An all-to-all context exchange deals whole heads to the ranks of tp·cp."""
    run, parts = resolved.run, int(x.tp[0] * x.cp[0])
    if not isinstance(run, TrainingRun) or run.context_exchange != "all_to_all" or int(x.cp[0]) == 1:
        return
    for heads in divisors(resolved.model).heads:
        if heads % parts:
            raise BadInputError(
                f"context_exchange: all_to_all needs tp·cp to divide the attention heads; tp {int(x.tp[0])} x "
                f"cp {int(x.cp[0])} does not divide {heads}"
            )


def placement(x: Layouts, cluster: Cluster) -> list[str]:
    """Which parallel axes stay inside a scale-up domain and which cross the network, where there is more than one."""
    domain = cluster.domain
    if cluster.devices <= domain:
        return []
    strides = {"tp": 1, "cp": int(x.tp[0]), "dp": int(x.tp[0] * x.cp[0]), "pp": int(x.tp[0] * x.cp[0] * x.dp[0])}
    sizes = {k: int(getattr(x, k)[0]) for k in strides} | {"ep": int(x.ep[0])}
    reach = {k: (sizes[k] - 1) * strides.get(k, 1) + 1 for k in sizes}
    inside = [f"{k} {n}" for k, n in sizes.items() if n > 1 and reach[k] <= domain]
    across = [f"{k} {n}" for k, n in sizes.items() if n > 1 and reach[k] > domain]
    parts = [f"{', '.join(inside)} inside a domain of {domain}"] if inside else []
    parts += [f"{', '.join(across)} across domains"] if across else []
    return [f"placement: {'; '.join(parts)}"]


def _said_recompute(mode: int, run: TrainingRun | InferenceRun) -> str:
    modules = run.recompute_modules if isinstance(run, TrainingRun) and repeats_modules(run) else ()
    return RECOMPUTE[mode] + (f" of {', '.join(modules)}" if modules and RECOMPUTE[mode] == "selective" else "")


def fastest_that_fits(
    given: Mapping[str, Value], columns: dict[str, int], resolved: Resolved, run: TrainingRun
) -> dict[str, int]:
    """Micro-batch and recomputation where they were not given: the fastest that fits the memory, else what needs least.

    Without a batch to divide, the micro-batch stays as it is.
    """
    modes = [columns["recompute"]] if "recompute" in given else list(range(len(RECOMPUTE)))
    sizes = [columns["micro_batch"]]
    share, rest = divmod(columns["global_batch"], columns["dp"])
    if "micro_batch" not in given and "global_batch" in given and rest == 0:
        sizes = [m for m in (2**i for i in range(share.bit_length())) if share % m == 0]
    if len(sizes) * len(modes) == 1:
        return columns
    pairs = np.array([(m, r) for m in sizes for r in modes])
    free = {"micro_batch", "recompute"}
    x = layouts(micro_batch=pairs[:, 0], recompute=pairs[:, 1], **{k: v for k, v in columns.items() if k not in free})
    broken = np.zeros(len(x), dtype=bool)
    for rule in rules(x, resolved.model, devices=int(resolved.keys["devices"]), seq_len=run.seq_len):
        broken |= rule.broken
    if broken.all():
        return columns
    x = x.take(np.flatnonzero(~broken))
    step = training_step(resolved.demand, resolved.cluster, x, run)
    fits = step.peak_memory <= resolved.cluster.accelerator.capacity
    best = np.argmin(np.where(fits, step.step_time, np.inf)) if fits.any() else np.argmin(step.peak_memory)
    return columns | {"micro_batch": int(x.micro_batch[best]), "recompute": int(x.recompute[best])}


def resolve_run(
    given: Mapping[str, Value],
    *,
    dirs: HardwareDirs = (),
    folder: str | None = None,
    model: Model | None = None,
) -> Resolved:
    """Understand everything but the layout: model, hardware, precision and workload.

    ``model`` stands in for the one that is named, for models that are in no file.
    """
    for key in ("model", "hardware"):
        if key not in given:
            raise BadInputError(f"{key}: missing; a scenario needs a model and hardware")
    assumed = Assumed()
    task = str(given.get("task", "train"))
    for key in given:
        if key in KEYS and task not in KEYS[key].tasks and given[key] not in NEUTRAL:
            assumed.notes.append(f"{key} is ignored: it says nothing to task {task}")
    compression = str(given.get("compression", "none"))
    model = model_of(model_name(given), folder, compression) if model is None else model
    model, given = stored_as(model, given, task)
    if task in ("prefill", "decode", "serve") and model.text.role != "decoder":
        raise BadInputError(f"task: {model.id} has no decoder and generates nothing; its task is forward, or train")
    if task in ("decode", "serve") and int(given.get("cp", 1)) > 1:
        raise BadInputError(f"cp: {given['cp']} given; {task} does not divide the context, use tp, pp or dp")
    cluster = cluster_of(str(given["hardware"]), int(given.get("devices", 1)), dirs)
    precision = resolve_precision(given, task, model, cluster.accelerator, assumed)
    keys: dict[str, Value] = {
        "task": task, "model": model.id, "hardware": _hardware_name(cluster), "accelerator": cluster.accelerator.id,
        "devices": cluster.devices, "compression": compression, "quantization": said(model),
    }  # fmt: skip
    run: TrainingRun | InferenceRun
    if task == "train":
        run = _training_run(given, model, cluster.accelerator, precision, assumed, keys)
        precision = run.precision
    else:
        run = _inference_run(given, task, model, precision, assumed, keys)
    keys |= {
        "compute_dtype": precision.compute, "weight_dtype": precision.weight, "activation_dtype": precision.activation,
        "kv_dtype": precision.kv, "grad_dtype": precision.grad, "sparsity": precision.sparsity,
        "attention": run.attention,
    }  # fmt: skip
    free = frozenset({"framework", "overlap_tp", "compiled", "grad_dtype"} - set(given))
    return Resolved(task, model, demand(model), cluster, precision, run, keys, [*assumed.notes, *model.assumed], free)


def _hardware_name(cluster: Cluster) -> str:
    """A name that can be given again: a system made by rule has none of its own."""
    made_by_rule = cluster.system.id.startswith("generic-")
    return cluster.accelerator.id if made_by_rule else cluster.system.id


def resolve_precision(
    given: Mapping[str, Value], task: str, model: Model, chip: Accelerator, assumed: Assumed
) -> Precision:
    """Dtypes of a run: what is given, else 16-bit for all the chip has; gradients are ``default_gradients``' to say."""
    wide = next((d for d in ("bf16", "fp16", "fp32") if d in chip.peak_flops), next(iter(chip.peak_flops)))
    weight = str(given.get("weight_dtype", wide if task == "train" else model.weight_dtype))
    if weight == "bf16" and "weight_dtype" not in given:
        weight = wide
    compute = str(given.get("compute_dtype", ""))
    if not compute:
        widened = model.quantization is not None and model.quantization.weight_only
        narrow = weight in chip.peak_flops and DTYPES[weight].bytes < 2 and task != "train" and not widened
        compute = weight if narrow else wide
        assumed.notes.append(f"compute_dtype = {compute}")
    peak_flops(chip, compute)
    if DTYPES[weight].bytes < 2 and weight != compute and compute not in DTYPES[weight].weight_only:
        raise BadInputError(
            f"weight_dtype: {weight} weights cannot run in compute_dtype {compute}; "
            f"allowed: {', '.join((*DTYPES[weight].weight_only, weight))}"
        )
    sparsity = str(given.get("sparsity", "none"))
    if sparsity == "2:4" and compute not in chip.sparse_factor:
        has = ", ".join(chip.sparse_factor) or "none"
        raise BadInputError(f"sparsity: {chip.id} has no 2:4 rate in {compute}; it has one in: {has}")
    passed_on = "fp32" if compute == "tf32" else compute  # tf32 is how fp32 values are multiplied
    activation = str(given.get("activation_dtype", passed_on if DTYPES[compute].bytes >= 2 else wide))
    if "weight_dtype" not in given and compute in ("fp32", "tf32", "fp16") and weight == "bf16":
        weight = "fp32" if compute == "tf32" else compute
    return Precision(compute, weight, activation, str(given.get("kv_dtype", activation)),
                     str(given.get("grad_dtype", "fp32")), sparsity)  # fmt: skip


def _training_run(
    given: Mapping[str, Value], model: Model, chip: Accelerator, precision: Precision, assumed: Assumed,
    keys: dict[str, Value],
) -> TrainingRun:  # fmt: skip
    longest = model.text.tokens or model.max_positions or DEFAULT_SEQ
    seq_len = int(assumed.default(given, "seq_len", min(longest, DEFAULT_SEQ)))
    _refuse_beyond_positions(model, "seq_len", seq_len)
    _refuse_narrow_training(precision)
    opt = optimizer(str(assumed.default(given, "optimizer", "adamw")))
    attention = str(assumed.default(given, "attention", "flash"))
    schedule = str(given.get("schedule", "interleaved" if int(given.get("vpp", 1)) > 1 else "1f1b"))
    zero_stage, tp = int(given.get("zero_stage", 0)), int(given.get("tp", 1))
    default = default_framework(chip, zero_stage, attention)
    framework = str(assumed.default(given, "framework", default, WHY_FRAMEWORK[default]))
    if "grad_dtype" not in given:
        precision = replace(precision, grad=default_gradients(framework, precision))
        if precision.activation == "bf16":
            other = "fp32" if precision.grad == "bf16" else "bf16"
            whose = "Megatron-LM alone keeps" if other == "fp32" else "NeMo and Megatron-Bridge benchmark with"
            assumed.notes.append(f"grad_dtype = {precision.grad} ({whose} {other})")
    if framework == "torch" and "compiled" not in given:
        assumed.notes.append("compiled = True (torch.compile or fused kernels; eager PyTorch is slower)")
    settings = settings_of_layout(chip, framework, precision.compute, bool(given.get("sequence_parallel", tp > 1)))
    overlap_tp = str(given.get("overlap_tp", settings["overlap_tp"]))
    if tp > 1 and "overlap_tp" not in given:
        assumed.notes.append(f"overlap_tp = {overlap_tp} (all: Megatron-LM's sequence parallelism on Hopper and newer)")
    if schedule not in ("interleaved", "1f1b") and int(given.get("vpp", 1)) > 1:
        raise BadInputError(f"schedule: {schedule} runs one model chunk a stage; vpp {given['vpp']} needs interleaved")
    if given.get("offload") == "activations" and chip.host is None:
        assumed.notes.append(f"offload hides behind compute: no link of {chip.id} to the host is listed")
    run = TrainingRun(
        seq_len=seq_len, precision=precision, optimizer=opt, attention=cast(AttentionKind, attention),
        schedule=schedule, offload=str(given.get("offload", "none")),
        overlap_dp=bool(given.get("overlap_dp", True)), overlap_tp=overlap_tp,
        compiled=bool(given.get("compiled", settings["compiled"])), imbalance=float(given.get("imbalance", 1.0)),
        encoder_len=int(given.get("encoder_len", encoder_tokens(model, seq_len))), framework=framework,
        lora_rank=int(given.get("lora_rank", 0)),
        recompute_modules=_modules(given, attention, chip),
        modules_named="recompute_modules" in given or chip.efficiency_class in MEGATRON_MODULES,
        context_exchange=str(given.get("context_exchange", "ring")), overlap_ep=bool(given.get("overlap_ep", False)),
        loss=str(assumed.default(given, "loss", "eager", "the framework's own; fused takes less memory")),
    )  # fmt: skip
    keys |= {"seq_len": seq_len, "optimizer": opt.name}
    keys["recompute_modules"] = ",".join(run.recompute_modules) if repeats_modules(run) else ""
    keys |= {k: getattr(run, k) for k in _SAID_SETTINGS}
    return run


_SAID_SETTINGS = ("schedule", "offload", "framework", "overlap_dp", "overlap_tp", "overlap_ep", "context_exchange",
                  "compiled", "lora_rank", "imbalance", "loss")  # fmt: skip


def _modules(given: Mapping[str, Value], attention: str, chip: Accelerator) -> tuple[str, ...]:
    """Modules of selective recomputation, as named or by default."""
    if "recompute_modules" not in given:
        megatron = chip.efficiency_class in MEGATRON_MODULES
        return default_modules(attention, asked="recompute" in given or megatron)
    names = tuple(m.strip() for m in str(given["recompute_modules"]).split(","))
    for name in names:
        if name not in MODULES:
            raise unknown("recompute_modules", name, MODULES)
    return names


def _positions(model: Model) -> int:
    """Learned positions of the text stream, 0 where positions are computed."""
    return model.embedding.positions if model.embedding is not None and model.text.role != "tower" else 0


def _refuse_beyond_positions(model: Model, key: str, length: int) -> None:
    positions = _positions(model)
    if 0 < positions < length:
        raise BadInputError(f"{key}: {length} is beyond the {positions} learned positions of {model.id}")


def _refuse_narrow_training(precision: Precision) -> None:
    """Activations and gradient accumulators of training are 16 or 32 bits wide; only matmuls run narrower."""
    for key, name in (("activation_dtype", precision.activation), ("grad_dtype", precision.grad)):
        if name not in ("fp32", "bf16", "fp16"):
            raise BadInputError(f"{key}: {name} given; training keeps fp32, bf16 or fp16")


def runs_of_layouts(resolved: Resolved, x: Layouts) -> Iterator[tuple[NDArray[np.int64], TrainingRun]]:
    """Rows of ``x`` that share a run's settings, and that run: settings that were not given follow the layout."""
    run, chip = resolved.run, resolved.cluster.accelerator
    assert isinstance(run, TrainingRun)
    key = (x.zero_stage == 3) * 2 + (x.sequence_parallel > 0)
    for k in np.unique(key):
        framework = _framework_of(resolved, chip, fully_sharded=bool(k >= 2))
        settings = settings_of_layout(chip, framework, run.precision.compute, bool(k % 2))
        chosen = {name: value for name, value in settings.items() if name in resolved.free}
        grad = default_gradients(framework, run.precision) if "grad_dtype" in resolved.free else run.precision.grad
        own = replace(run, precision=replace(run.precision, grad=grad), **chosen)  # type: ignore[arg-type]
        yield np.flatnonzero(key == k), own


def _framework_of(resolved: Resolved, chip: Accelerator, *, fully_sharded: bool) -> str:
    """The run's framework; PyTorch's FSDP and the others take turns where it was not given."""
    run = cast(TrainingRun, resolved.run)
    if "framework" not in resolved.free or fully_sharded == (run.framework == "torch"):
        return run.framework
    return default_framework(chip, 3 if fully_sharded else 0)


def _inference_run(
    given: Mapping[str, Value],
    task: str,
    model: Model,
    precision: Precision,
    assumed: Assumed,
    keys: dict[str, Value],
) -> InferenceRun:
    if task == "forward":
        length = model.text.tokens or int(assumed.default(given, "seq_len", min(model.max_positions or 512, 512)))
        inputs, outputs = length, 0
        keys["seq_len"] = length
    else:
        longest = _positions(model) or DEFAULT_INPUT + DEFAULT_OUTPUT
        default_output = min(DEFAULT_OUTPUT, max(longest // 4, 1))
        outputs = 1 if task == "prefill" else int(assumed.default(given, "output_len", default_output))
        default_input = min(DEFAULT_INPUT, max(longest - outputs, 1))
        inputs = int(assumed.default(given, "input_len", default_input))
        if inputs == 0 and task != "decode":
            raise BadInputError(f"input_len: 0 given; {task} needs a prompt of at least 1 token")
        keys |= {"input_len": inputs, "output_len": outputs}
    if task == "forward":
        _refuse_beyond_positions(model, "seq_len", inputs)
    else:  # the last token is generated, not read
        _refuse_beyond_positions(model, "input_len + output_len - 1", inputs + outputs - 1)
    key = "concurrency" if task == "serve" else "batch"
    batch = int(assumed.default(given, key, 1))
    chosen = engine(str(given.get("engine", "ideal")))
    if chosen.basis in ("assumed", "reported"):
        assumed.notes.append(f"engine {chosen.id}: {chosen.step_overhead * 1e6:.0f} µs a step, {chosen.basis}")
    keys |= {key: batch, "engine": chosen.id}
    return InferenceRun(
        precision=precision, batch=batch, input_len=inputs, output_len=outputs, engine=chosen,
        attention=cast(AttentionKind, str(given.get("attention", "flash"))),
        imbalance=float(given.get("imbalance", 1.0)),
        encoder_len=int(given.get("encoder_len", encoder_tokens(model, inputs))),
    )  # fmt: skip
