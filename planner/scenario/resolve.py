"""From a scenario to what the cost model takes: model, cluster, precision, layout, run, and what had to be assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from planner.catalogue.classes import Execution
from planner.catalogue.dispatchers import dispatcher
from planner.catalogue.engines import engine
from planner.catalogue.frameworks import framework
from planner.catalogue.hardware import Accelerator
from planner.catalogue.schema import Model
from planner.cost.layouts import Layouts, layouts
from planner.cost.recompute import MODULES, default_modules, modules_of
from planner.cost.rules import Case, divisors, lawful, refuse_unlawful
from planner.cost.runs import HEADROOM, InferenceRun, TrainingRun
from planner.cost.schedules import SCHEDULES, Schedule
from planner.demand.cache import with_expanded_latents
from planner.demand.costs import AttentionKind
from planner.demand.counts import encoder_tokens
from planner.demand.memory import MASTER_BYTES
from planner.demand.optimizer import Optimizer, optimizer
from planner.demand.transformer import Demand, demand
from planner.demand.workload import Precision
from planner.errors import BadInputError, unknown
from planner.precision import DTYPES
from planner.scenario.complete import (
    axis_sizes,
    expert_notes,
    fastest_that_fits,
    layout_choices,
    layout_columns,
    routing_notes,
    runs,
    settings_notes,
    told,
)
from planner.scenario.defaults import default_framework
from planner.scenario.echo import Said, resolved_keys
from planner.scenario.engines import engine_settings
from planner.scenario.keys import KEYS, Value
from planner.scenario.names import HardwareDirs, alias_notes, cluster_of, model_of, names_of, variant_notes
from planner.scenario.notes import Assumed, choice_notes, offload_notes, words_on_layout
from planner.scenario.overrides import override_notes, overrides
from planner.scenario.stored import model_name, said, stored_as
from planner.supply.accelerator import peak_flops
from planner.supply.cluster import Cluster

DEFAULT_INPUT, DEFAULT_OUTPUT, DEFAULT_SEQ = 1024, 256, 4096
AS_GIVEN = ("overlap_tp", "compiled", "expandable_segments", "first_stage_layers", "last_stage_layers")
NEUTRAL = (0, 1, False, "none")  # values that ask for nothing, so that leaving them aside is not worth a word


@dataclass(frozen=True)
class Resolved:
    """A scenario understood. ``keys`` are the inputs as resolved, but for the layout; ``named`` those that were given.

    Settings of a training run that were not named follow its layout: :func:`settle` gives the run of one layout.
    """

    task: str
    model: Model
    demand: Demand
    cluster: Cluster
    precision: Precision
    run: TrainingRun | InferenceRun
    keys: Said
    assumed_notes: list[str]
    named: frozenset[str] = frozenset()
    settings_notes: tuple[str, ...] = ()

    @property
    def schedule(self) -> Schedule | None:
        """The pipeline schedule of a training run."""
        return self.run.schedule if isinstance(self.run, TrainingRun) else None

    @property
    def assumed(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.assumed_notes, *self.settings_notes]))

    @property
    def case(self) -> Case:
        """What the laws of layouts ask about."""
        run, chip = self.run, self.cluster.accelerator
        case = Case(self.task, self.cluster.devices, divisors(self.model), tokens_of(run), chip=chip.id)
        if isinstance(run, InferenceRun):
            return replace(case, sequences=0 if run.rate else run.batch)
        schedule = run.schedule if "schedule" in self.named else None
        return replace(case, schedule=schedule, context_exchange=run.context_exchange, offload=run.offload,
                       end_layers=run.end_layers,
                       host_link=chip.host is not None)  # fmt: skip


def tokens_of(run: TrainingRun | InferenceRun) -> int:
    """Tokens of a sequence that a run reads at once."""
    return run.seq_len if isinstance(run, TrainingRun) else run.input_len


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
    sizes = axis_sizes(given)
    resolved = resolve_run({**given, **sizes}, dirs=dirs, folder=folder, model=model)
    columns = layout_columns(given, sizes, resolved.task, experts=resolved.case.sizes.experts)
    tried = layout_choices(given, columns, resolved.task)
    x = lawful(tried, resolved.case)
    if not len(x):
        refuse_unlawful(tried, resolved.case)
    resolved = settle(resolved, x.take([0]))
    if isinstance(resolved.run, TrainingRun):
        x = fastest_that_fits(resolved.demand, resolved.cluster, x, resolved.run)
        resolved = with_notes(resolved, choice_notes(given, x, resolved.run))
        experts = resolved.case.sizes.experts
        resolved = with_notes(resolved, routing_notes(given, cast(TrainingRun, resolved.run), x, experts))
    resolved = with_notes(resolved, expert_notes(given, x, resolved.case.sizes.experts))
    return with_notes(resolved, layout_notes(resolved, x)), x


def settle(resolved: Resolved, x: Layouts) -> Resolved:
    """A scenario as one layout has it, which settings that were not named follow; ``x`` has one row."""
    if isinstance(resolved.run, InferenceRun):
        return resolved
    ((_, run),) = runs(resolved.run, resolved.cluster.efficiency.execution, resolved.named, x)
    names = {k: v for k in ("model", "compression", "quantization") if (v := resolved.keys[k]) is not None}
    given = {k: v for k, v in resolved.keys.items() if v is not None}
    keys = resolved_keys(resolved.task, given, names, resolved.cluster, run.precision, run)
    said = settings_notes(run, resolved.named, tp=int(x.tp[0]))
    return replace(resolved, run=run, precision=run.precision, keys=keys, settings_notes=tuple(said))


def with_notes(resolved: Resolved, notes: list[str]) -> Resolved:
    """The same with more to say."""
    return replace(resolved, assumed_notes=[*resolved.assumed_notes, *notes])


def layout_notes(resolved: Resolved, x: Layouts) -> list[str]:
    """Words on one layout: where its axes lie, and what of it does less than it says."""
    return words_on_layout(x, resolved.cluster, resolved.run, resolved.schedule)


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
    if task == "train" and given.get("engine", "ideal") != "ideal":
        raise BadInputError(f"engine: {given['engine']} given for task train; engines serve, training has framework; "
                            "allowed for task: prefill, decode, serve, forward")  # fmt: skip
    for key in given:
        if key in KEYS and task not in KEYS[key].tasks and given[key] not in NEUTRAL:
            assumed.notes.append(f"{key} is ignored: it says nothing to task {task}")
    compression = str(given.get("compression", "none"))
    names = {"model": model.id, "compression": compression} if model else names_of(given, folder)
    model = model_of(model_name(given), folder, compression) if model is None else model
    model, given = stored_as(model, given, task)
    assumed.notes.extend(alias_notes(str(given["model"]), str(names["model"]), model))
    names["quantization"] = said(model)
    if task in ("prefill", "decode", "serve") and model.text.role != "decoder":
        raise BadInputError(f"task: {model.id} has no decoder and generates nothing; its task is forward, or train")
    cluster = cluster_of(str(given["hardware"]), int(given.get("devices", 1)), dirs, overrides(given))
    own = cluster_of(str(given["hardware"]), 1, dirs)
    assumed.notes.extend(variant_notes(str(given["hardware"]), own.accelerator.id, dirs))
    assumed.notes.extend(override_notes(given, own, cluster.devices, cluster.domain))
    precision = resolve_precision(given, task, model, cluster.accelerator, assumed)
    run: TrainingRun | InferenceRun
    if task == "train":
        run = _training_run(given, model, cluster, precision, assumed)
    else:
        run = _inference_run(given, task, model, cluster.accelerator, precision, assumed)
    keys = resolved_keys(task, given, names, cluster, precision, run)
    notes = [*assumed.notes, *model.assumed]
    d = with_expanded_latents(demand(model)) if given.get("latent_cache") == "expanded" else demand(model)
    resolved = Resolved(task, model, d, cluster, precision, run, keys, notes, frozenset(given))
    columns = layout_columns(given, axis_sizes(given), task, experts=resolved.case.sizes.experts)
    return settle(resolved, layouts(**columns))


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
    return Precision(compute, weight, activation, _cache_dtype(given, task, model, activation, assumed),
                     str(given.get("grad_dtype", "fp32")), sparsity)  # fmt: skip


def _cache_dtype(
    given: Mapping[str, Value], task: str, model: Model, activation: str, assumed: Assumed
) -> str:  # fmt: skip
    """Dtype of the cache: as given, as a checkpoint that carries its scales says (what engines call ``auto``), or the
    activations'."""
    own = model.quantization.cache if model.quantization is not None and task != "train" else ""
    if "kv_dtype" in given or not own:
        return str(given.get("kv_dtype", activation))
    return str(assumed.default(given, "kv_dtype", own, "the checkpoint has scales for it"))


def _training_run(
    given: Mapping[str, Value], model: Model, cluster: Cluster, precision: Precision, assumed: Assumed
) -> TrainingRun:  # fmt: skip
    longest = model.text.tokens or model.max_positions or DEFAULT_SEQ
    seq_len = int(assumed.default(given, "seq_len", min(longest, DEFAULT_SEQ)))
    _refuse_beyond_positions(model, "seq_len", seq_len)
    _refuse_narrow_training(precision)
    chip, execution = cluster.accelerator, cluster.efficiency.execution
    opt = _optimizer(given, precision, assumed)
    attention = str(assumed.default(given, "attention", "flash"))
    offload = str(given.get("offload", "none"))
    assumed.notes.extend(offload_notes(offload, chip))
    used = framework(str(given["framework"])) if "framework" in given else default_framework(execution, 0)
    return TrainingRun(
        seq_len=seq_len, precision=precision, optimizer=opt, framework=used, attention=cast(AttentionKind, attention),
        offload=offload, overlap_dp=bool(given.get("overlap_dp", True)),
        imbalance=float(given.get("imbalance", 1.0)), capacity_factor=float(given.get("capacity_factor", 0.0)),
        moe_kernels=str(given.get("moe_kernels", "permute")),
        dispatcher=dispatcher(str(given.get("dispatcher", used.dispatcher))),
        encoder_len=int(given.get("encoder_len", encoder_tokens(model, seq_len))),
        lora_rank=int(given.get("lora_rank", 0)), lora_targets=str(given.get("lora_targets", "all")),
        recompute_modules=_modules(given, model, attention, execution, assumed),
        modules_named="recompute_modules" in given or execution.names_modules,
        context_exchange=str(given.get("context_exchange", "ring")), overlap_ep=bool(given.get("overlap_ep", False)),
        loss=str(assumed.default(given, "loss", "eager", "the framework's own; fused takes less memory")),
        schedule=SCHEDULES[str(given.get("schedule", "1f1b"))], headroom=float(given.get("headroom", HEADROOM)),
        **{k: cast(Any, given[k]) for k in AS_GIVEN if k in given},
    )  # fmt: skip


def _optimizer(given: Mapping[str, Value], precision: Precision, assumed: Assumed) -> Optimizer:
    """The optimizer, with or without fp32 weights beside those it updates."""
    opt = optimizer(str(assumed.default(given, "optimizer", "adamw")))
    if bool(given.get("master_weights", opt.master)) == opt.master:
        return opt
    if not opt.master:
        raise BadInputError(f"master_weights: true given; {opt.name} keeps none; allowed: false")
    if precision.bytes_of("weight") >= MASTER_BYTES:
        raise BadInputError(f"master_weights: false given, but the weights are {precision.weight}; allowed: true")
    return opt.plain


def _modules(
    given: Mapping[str, Value], model: Model, attention: str, execution: Execution, assumed: Assumed
) -> tuple[str, ...]:
    """Modules of selective recomputation, as named or by default."""
    if "recompute_modules" not in given:
        return default_modules(model, attention, asked="recompute" in given or execution.names_modules)
    names = tuple(m.strip() for m in str(given["recompute_modules"]).split(","))
    for name in names:
        if name not in MODULES:
            raise unknown("recompute_modules", name, MODULES)
    has = modules_of(model)
    absent, present = [n for n in names if n not in has], tuple(n for n in names if n in has)
    if not present:
        said = f"{', '.join(absent)} given, which {model.name} does not have"
        raise BadInputError(f"recompute_modules: {said}; allowed: {', '.join(has)}")
    if absent:
        assumed.notes.append(f"recompute_modules: {model.name} has no {', '.join(absent)}")
    return present


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


def _inference_run(
    given: Mapping[str, Value],
    task: str,
    model: Model,
    chip: Accelerator,
    precision: Precision,
    assumed: Assumed,
) -> InferenceRun:
    if task == "forward":
        length = model.text.tokens or int(assumed.default(given, "seq_len", min(model.max_positions or 512, 512)))
        inputs, outputs = length, 0
    else:
        longest = _positions(model) or DEFAULT_INPUT + DEFAULT_OUTPUT
        default_output = min(DEFAULT_OUTPUT, max(longest // 4, 1))
        outputs = 1 if task == "prefill" else int(assumed.default(given, "output_len", default_output))
        default_input = min(DEFAULT_INPUT, max(longest - outputs, 1))
        inputs = int(assumed.default(given, "input_len", default_input))
        if inputs == 0 and task != "decode":
            raise BadInputError(f"input_len: 0 given; {task} needs a prompt of at least 1 token")
    if task == "forward":
        _refuse_beyond_positions(model, "seq_len", inputs)
    else:  # the last token is generated, not read
        _refuse_beyond_positions(model, "input_len + output_len - 1", inputs + outputs - 1)
    key = "concurrency" if task == "serve" else "batch"
    replicas = int(given.get("dp", 1))
    open_loop = task == "serve" and "rate" in given
    if open_loop and "concurrency" in given:
        raise BadInputError(f"rate: {given['rate']} given beside concurrency {given['concurrency']}; say one of them")
    batch = int(replicas if open_loop else assumed.default(
        given, key, replicas, "one sequence a replica" if replicas > 1 else ""))  # fmt: skip
    chosen = engine(str(given.get("engine", "ideal")))
    if chosen.basis in ("assumed", "reported"):
        assumed.notes.append(f"engine {chosen.id}: {chosen.step_overhead * 1e6:.0f} µs a step, {chosen.basis}")
    return InferenceRun(
        precision=precision, batch=batch, input_len=inputs, output_len=outputs, engine=chosen,
        phase="decode" if task in ("decode", "serve") else "prefill", steady=task == "serve",
        attention=cast(AttentionKind, str(given.get("attention", "flash"))),
        imbalance=float(given.get("imbalance", 1.0)),
        encoder_len=int(given.get("encoder_len", encoder_tokens(model, inputs))),
        rate=float(given["rate"]) if open_loop else 0.0, requests=int(told(given, task).get("requests", 0)),
        admission_steps=float(told(given, task).get("admission_steps", 0.0)),
        **engine_settings(told(given, task), task, model, chip, chosen, inputs + outputs),
        headroom=float(given.get("headroom", HEADROOM)),
    )  # fmt: skip
