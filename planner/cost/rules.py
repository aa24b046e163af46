"""The rule book: every law that a layout must obey, written once.

A :class:`Rule` says which tasks it holds for, which rows of :class:`Layouts` break it, in which words one row is
refused, and under which words a search counts those it left out. One layout, a search and a landscape read the same
book through :func:`first_broken`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

from planner.catalogue.schema import Attention, CompressedAttention, LatentAttention, LinearAttention, Mlp, Model, Moe
from planner.cost.constants import TASKS
from planner.cost.layouts import Ints, Layouts
from planner.cost.schedules import SCHEDULES, Schedule, loop_placement, rounds
from planner.errors import BadInputError

Bools = NDArray[np.bool_]
Row = Mapping[str, int | str | bool]

TRAIN = ("train",)
ONE_TOKEN = ("decode", "serve")  # tasks whose step reads one new token a sequence
INFERENCE = ("prefill", *ONE_TOKEN, "forward")


@dataclass(frozen=True)
class Divisors:
    """What a model's sizes allow: the numbers that tp, ep, etp and pp must divide."""

    heads: tuple[int, ...]
    kv_heads: tuple[int, ...]
    widths: tuple[int, ...]
    expert_widths: tuple[int, ...]
    experts: int
    layers: int


@dataclass(frozen=True)
class Case:
    """What the laws ask about besides the layout.

    Attributes
    ----------
    task, devices
    sizes : of the model
    tokens : of a whole sequence, which context parallelism divides
    schedule : of the pipeline, None where it follows the layout
    context_exchange, offload : of a training run
    end_layers : of the first and the last stage, 0 where layers are dealt evenly
    chip, host_link : the accelerator, and whether it lists a link to its host
    sequences : at once, over all replicas of inference; 0 where nothing says it
    """

    task: str
    devices: int
    sizes: Divisors
    tokens: int
    schedule: Schedule | None = None
    context_exchange: str = "ring"
    offload: str = "none"
    end_layers: tuple[int, int] = (0, 0)
    chip: str = ""
    host_link: bool = True
    sequences: int = 0


@dataclass(frozen=True)
class Rule:
    """A law of layouts.

    Attributes
    ----------
    name, tasks : the law, and the tasks that it holds for
    broken : marks the rows that break it, shape (n,)
    words : refuses one row: the obstacle, and what is allowed
    tally : what the rows that break it are called when they are counted
    """

    name: str
    tasks: tuple[str, ...]
    broken: Callable[[Layouts, Case], Bools]
    words: Callable[[Row, Case], str]
    tally: str


def divisors(model: Model) -> Divisors:
    """Sizes of the layers that a division must respect."""
    heads: set[int] = set()
    kv: set[int] = set()
    widths: set[int] = set()
    inner: set[int] = set()
    experts = 0
    for kind in (k for stack in model.stacks if not stack.optional for k in stack.kinds):
        for mixer in (kind.mixer, kind.second_mixer, kind.cross):
            if isinstance(mixer, Attention):
                heads.add(mixer.heads)
                kv.add(mixer.kv_heads)
            elif isinstance(mixer, LatentAttention | CompressedAttention):
                heads.add(mixer.heads)
            elif isinstance(mixer, LinearAttention):
                heads.add(mixer.tensor_parallel_heads)
        if isinstance(kind.ffn, Mlp):
            widths.add(kind.ffn.width)
        elif isinstance(kind.ffn, Moe):
            experts = max(experts, kind.ffn.experts)
            inner.add(kind.ffn.width)
            if kind.ffn.shared is not None:
                widths.add(kind.ffn.shared.width)
    layers = sum(s.layers for s in model.stacks if not s.optional)
    return Divisors(_ascending(heads), _ascending(kv), _ascending(widths), _ascending(inner), experts, layers)


def _ascending(sizes: set[int]) -> tuple[int, ...]:
    return tuple(sorted(sizes))


def divisors_of(n: int) -> list[int]:
    """Numbers that divide ``n``, ascending."""
    small = [i for i in range(1, int(n**0.5) + 1) if n % i == 0]
    return sorted({*small, *(n // i for i in small)})


def chunks_allowed(schedule: Schedule | None, vpp: Ints) -> Bools:
    """Rows whose model chunks a stage the schedule can run; any where the schedule follows the layout."""
    return np.ones(len(vpp), dtype=bool) if schedule is None else schedule.runs_chunks(vpp)


def _micro_batches_allowed(schedule: Schedule | None, x: Layouts) -> Bools:
    return np.ones(len(x), dtype=bool) if schedule is None else schedule.runs_micro_batches(x.micro_batches, x.pp)


def _rounds_allowed(schedule: Schedule | None, x: Layouts) -> Bools:
    """Several chunks are interleaved where the schedule follows the layout."""
    return (schedule or SCHEDULES["interleaved"]).runs_rounds(x.micro_batches, x.pp, x.vpp)


def _stages_allowed(schedule: Schedule | None, pp: Ints) -> Bools:
    return np.ones(len(pp), dtype=bool) if schedule is None else schedule.runs_stages(pp)


def first_broken(x: Layouts, case: Case) -> Ints:
    """Place in :data:`RULES` of the first law that each row breaks, ``len(RULES)`` where it breaks none, shape (n,)."""
    found = np.full(len(x), len(RULES), dtype=np.int64)
    for i in reversed(range(len(RULES))):
        if case.task in RULES[i].tasks:
            found[RULES[i].broken(x, case)] = i
    return found


def unavoidable(x: Layouts, case: Case) -> dict[int, str]:
    """Laws that every row breaks, by their place in :data:`RULES`, in their words on the first row."""
    broken = [i for i, r in enumerate(RULES) if case.task in r.tasks and r.broken(x, case).all()]
    return {i: RULES[i].words(x.row(0), case) for i in broken}


def lawful(x: Layouts, case: Case) -> Layouts:
    """The rows that break no law."""
    return x.take(np.flatnonzero(first_broken(x, case) == len(RULES)))


def refusal(x: Layouts, case: Case) -> str:
    """Why the first row cannot be, in the words of the first law that it breaks; empty where it breaks none."""
    law = int(first_broken(x.take([0]), case)[0])
    return RULES[law].words(x.row(0), case) if law < len(RULES) else ""


def refuse_unlawful(x: Layouts, case: Case) -> None:
    """Raise what :func:`refusal` says of the first row."""
    if text := refusal(x, case):
        raise BadInputError(text)


def _listed(values: list[int] | tuple[int, ...]) -> str:
    return ", ".join(str(v) for v in values) or "none"


def _splits(sizes: tuple[int, ...], parts: Ints) -> Bools:
    """Rows whose parts fail to divide one of the sizes."""
    return np.asarray(np.any([size % parts != 0 for size in sizes] or [np.zeros(len(parts), dtype=bool)], axis=0))


def _splits_kv(sizes: tuple[int, ...], tp: Ints) -> Bools:
    """Rows whose ranks neither divide the k/v heads nor are a multiple of them, which would copy each evenly."""
    apart = [(size % tp != 0) & (tp % size != 0) for size in sizes]
    return np.asarray(np.any(apart or [np.zeros(len(tp), dtype=bool)], axis=0))


def _tensor_sizes(case: Case) -> str:
    """Sizes of tp that the model allows."""
    s = case.sizes
    tried = np.array(divisors_of(gcd(*s.heads, *s.widths) or 1))
    return _listed(tried[~_splits_kv(s.kv_heads, tried)].tolist())


def _devices_words(r: Row, c: Case) -> str:
    inner = int(r["tp"]) * int(r["pp"]) * int(r["cp"])
    sizes = f"tp {r['tp']} x pp {r['pp']} x cp {r['cp']}"
    if c.devices % inner:
        return f"{sizes} = {inner} does not divide {c.devices} devices"
    return f"dp {r['dp']} x {sizes} = {int(r['dp']) * inner} does not make {c.devices} devices"


def _heads_words(r: Row, c: Case) -> str:
    tp, s = int(r["tp"]), c.sizes
    split = [h for h in s.heads if h % tp]
    apart = [k for k in s.kv_heads if k % tp and tp % k]
    obstacle = (f"tp {tp} does not divide the {_listed(split)} attention heads" if split else
                f"tp {tp} neither divides the {_listed(apart)} k/v heads nor is a multiple of them")  # fmt: skip
    return f"{obstacle}; allowed: {_tensor_sizes(c)}"


def _width_words(r: Row, c: Case) -> str:
    split = [w for w in c.sizes.widths if w % int(r["tp"])]
    return f"tp {r['tp']} does not divide the MLP width {_listed(split)}; allowed: {_tensor_sizes(c)}"


def _vpp_words(r: Row, c: Case) -> str:
    if r["pp"] == 1:
        return f"vpp {r['vpp']} needs pp > 1: only the stages of a pipeline hold several model chunks"
    return (f"vpp {r['vpp']} x pp {r['pp']} = {int(r['vpp']) * int(r['pp'])} model chunks are more than the "
            f"{c.sizes.layers} layers with embedding and head")  # fmt: skip


def _experts_words(r: Row, c: Case) -> str:
    if not c.sizes.experts:
        return f"ep {r['ep']} given, but the model has no experts; allowed: 1"
    return (f"ep {r['ep']} does not divide the {c.sizes.experts} experts; "
            f"allowed: {_listed(divisors_of(c.sizes.experts))}")  # fmt: skip


def _etp_width_words(r: Row, c: Case) -> str:
    if not c.sizes.experts:
        return f"etp {r['etp']} given, but the model has no experts; allowed: 1"
    return (f"etp {r['etp']} does not divide the expert width {_listed(c.sizes.expert_widths)}; "
            f"allowed: {_listed(_expert_parts(int(r['dp']) * int(r['cp']) * int(r['tp']), c))}")  # fmt: skip


def _expert_parts(ranks: int, c: Case) -> list[int]:
    """Sizes of etp that ranks and the experts' widths allow."""
    return divisors_of(gcd(ranks, *c.sizes.expert_widths))


def _ep_ranks_words(r: Row, c: Case) -> str:
    ranks, ep, etp = int(r["dp"]) * int(r["cp"]) * int(r["tp"]), int(r["ep"]), int(r["etp"])
    sizes = f"ep {ep}" if etp == 1 else f"etp {etp} x ep {ep}"
    allowed = f"etp {_listed(_expert_parts(ranks // ep, c))}" if ranks % ep == 0 else (
        f"{'' if etp == 1 else 'ep '}{_listed(divisors_of(gcd(ranks, c.sizes.experts)))}")  # fmt: skip
    return f"{sizes} does not divide dp·cp·tp = {r['dp']}·{r['cp']}·{r['tp']} = {ranks}; allowed: {allowed}"


def _cp_tokens_words(r: Row, c: Case) -> str:
    key = "seq_len" if c.task in ("train", "forward") else "input_len"
    allowed = f"1, or what divides {c.tokens // 2}" if c.tokens % 2 == 0 else "1"
    return (f"cp {r['cp']} cuts a sequence in 2·cp = {2 * int(r['cp'])} parts, and {key} {c.tokens} does not divide "
            f"into them; allowed: {allowed}")  # fmt: skip


def _idle_words(r: Row, c: Case) -> str:
    key = "concurrency" if c.task == "serve" else "batch"
    return (f"dp {r['dp']} for {key} {c.sequences}: {int(r['dp']) - c.sequences} replicas would stand idle; "
            f"allowed: dp at most {c.sequences}, or {key} at least {r['dp']}")  # fmt: skip


def _rounds_words(r: Row, c: Case) -> str:
    pp, m = int(r["pp"]), int(r["global_batch"]) // (int(r["dp"]) * int(r["micro_batch"]))
    tried = np.arange(max(m - 2 * pp, 1), m + pp + 1)
    near = tried[tried % rounds(tried, np.array(pp)) == 0]
    return (f"vpp {r['vpp']}: model chunks take turns in equal rounds of pp {pp} micro-batches or more, and {m} do not "
            f"divide into {m // pp}; allowed nearby: {_listed([int(v) for v in near])} micro-batches "
            f"(global_batch / (dp·micro_batch)), or vpp 1")  # fmt: skip


def _named(c: Case) -> Schedule:
    assert c.schedule is not None  # no law of schedules is broken where none was named
    return c.schedule


def _cp_heads_words(r: Row, c: Case) -> str:
    ranks = int(r["tp"]) * int(r["cp"])
    split = [h for h in c.sizes.heads if h % ranks] or [k for k in c.sizes.kv_heads if k % ranks and ranks % k]
    return (f"context_exchange: all_to_all needs tp·cp to divide the attention heads; tp {r['tp']} x cp {r['cp']} "
            f"does not divide {_listed(split)}; allowed: ring, all_gather")  # fmt: skip


def _ends_dealt(x: Layouts, c: Case) -> Bools:
    """Whether the stages between the ends have layers, each chunk as many as the others of its stage
    (``--decoder-first-pipeline-num-layers``, https://github.com/NVIDIA/Megatron-LM)."""
    first, last = c.end_layers
    named = (first > 0) + (last > 0)
    if not named:
        return np.ones(len(x), dtype=bool)
    between, rest = x.pp - named, c.sizes.layers - first - last
    chunks = np.maximum(x.vpp, 1)
    even = (rest % np.maximum(between * chunks, 1) == 0) & (first % chunks == 0) & (last % chunks == 0)
    looped = c.schedule is None or c.schedule.placement is loop_placement
    return np.asarray((x.pp > 1) & np.where(between > 0, (rest >= between) & even, rest == 0) & looped)


def _ends_words(r: Row, c: Case) -> str:
    first, last = c.end_layers
    rest, between = c.sizes.layers - first - last, int(r["pp"]) - (first > 0) - (last > 0)
    said = ", ".join(f"{k}_stage_layers {v}" for k, v in (("first", first), ("last", last)) if v)
    if int(r["pp"]) == 1:
        return f"{said} given, but pp is 1; allowed: pp above 1"
    return (f"{said}: of {c.sizes.layers} layers {rest} are left to {between} stages of {r['vpp']} chunks, pp is "
            f"{r['pp']}; allowed: ends that vpp divides and that leave a multiple of {max(between, 1) * int(r['vpp'])} "
            "layers, under a schedule that deals chunks in a loop")  # fmt: skip


# What the given keys decide alone comes first, so that a search in which they refuse every layout can say so.
RULES: tuple[Rule, ...] = (
    Rule("host_link", TRAIN, lambda x, c: np.full(len(x), c.offload not in ("none", "activations") and not c.host_link),
         lambda r, c: f"offload: {c.offload} cannot be timed, {c.chip} lists no host link; allowed: none, activations",
         "offload without a listed host link"),
    Rule("offload_zero", TRAIN, lambda x, c: (x.zero_stage < 3) & c.offload.startswith(("parameters", "nvme")),
         lambda r, c: (f"offload: {c.offload} gathers weights from the host layer by layer, which zero_stage 3 does; "
                       f"zero_stage is {r['zero_stage']}; allowed: 3"),
         "parameters on the host without ZeRO 3"),
    Rule("cp_decode", ONE_TOKEN, lambda x, c: x.cp > 1,
         lambda r, c: f"cp: {r['cp']} given; {c.task} does not divide the context; allowed: 1; use tp, pp or dp",
         "cp where one token a sequence is read"),
    Rule("schedule_vpp", TRAIN, lambda x, c: ~chunks_allowed(c.schedule, x.vpp),
         lambda r, c: f"schedule {_named(c).name} needs {_named(c).said_chunks} a stage; vpp is {r['vpp']}",
         "model chunks that the schedule does not run"),
    Rule("devices", TASKS, lambda x, c: x.devices != c.devices, _devices_words, "sizes that do not make the devices"),
    Rule("dp_sequences", INFERENCE, lambda x, c: (x.dp > c.sequences) & (c.sequences > 0), _idle_words,
         "dp beyond the sequences, which leaves replicas idle"),
    Rule("tp_heads", TASKS, lambda x, c: _splits(c.sizes.heads, x.tp) | _splits_kv(c.sizes.kv_heads, x.tp),
         _heads_words, "tp that does not divide the attention heads"),
    Rule("tp_width", TASKS, lambda x, c: _splits(c.sizes.widths, x.tp), _width_words,
         "tp that does not divide the MLP width"),
    Rule("pp_layers", TASKS, lambda x, c: x.pp > c.sizes.layers,
         lambda r, c: f"pp {r['pp']} is more than the {c.sizes.layers} layers; allowed: at most that",
         "more stages than layers"),
    Rule("end_layers", TRAIN, lambda x, c: ~_ends_dealt(x, c), _ends_words,
         "first and last stages of so many layers that the others do not deal evenly"),
    Rule("schedule_pp", TRAIN, lambda x, c: ~_stages_allowed(c.schedule, x.pp),
         lambda r, c: f"schedule {_named(c).name} needs {_named(c).said_stages}; pp is {r['pp']}",
         "numbers of stages that the schedule does not run"),
    # Embedding and head may take a chunk each, as where 126 layers are dealt to 128.
    Rule("vpp_layers", TRAIN, lambda x, c: (x.vpp > 1) & ((x.pp * x.vpp > c.sizes.layers + 2) | (x.pp == 1)),
         _vpp_words, "model chunks without a pipeline, or more than the layers"),
    Rule("schedule_micro_batches", TRAIN, lambda x, c: ~_micro_batches_allowed(c.schedule, x),
         lambda r, c: (f"schedule {_named(c).name} needs {_named(c).said_micro_batches}; pp is {r['pp']}, "
                       f"global_batch {r['global_batch']}, dp {r['dp']}, micro_batch {r['micro_batch']}"),
         "too few micro-batches for the schedule"),
    Rule("ep_experts", TASKS, lambda x, c: (x.ep > 1) & ((c.sizes.experts == 0) | (c.sizes.experts % x.ep != 0)),
         _experts_words, "ep that does not divide the experts"),
    Rule("etp_width", TASKS,
         lambda x, c: (x.etp > 1) & ((c.sizes.experts == 0) | _splits(c.sizes.expert_widths, x.etp)),
         _etp_width_words, "etp that does not divide the expert width"),
    Rule("ep_ranks", TASKS, lambda x, c: (x.dp * x.cp * x.tp) % (x.etp * x.ep) != 0, _ep_ranks_words,
         "etp x ep that does not divide dp·cp·tp"),
    Rule("cp_tokens", TASKS, lambda x, c: c.tokens % (x.cp * np.where(x.cp > 1, 2, 1)) != 0, _cp_tokens_words,
         "cp that does not divide the sequence"),
    Rule("cp_heads", TRAIN, lambda x, c: (x.cp > 1) & (c.context_exchange == "all_to_all")
         & (_splits(c.sizes.heads, x.tp * x.cp) | _splits_kv(c.sizes.kv_heads, x.tp * x.cp)), _cp_heads_words,
         "tp·cp that does not divide the heads exchanged"),
    Rule("sp_tokens", TRAIN, lambda x, c: (x.sequence_parallel > 0) & ((c.tokens // x.cp) % x.tp != 0),
         lambda r, c: (f"sequence_parallel needs tp to divide the tokens of a rank; tp {r['tp']} does not divide "
                       f"seq_len {c.tokens} / cp {r['cp']} = {c.tokens // int(r['cp'])}; allowed: false"),
         "sequence parallelism that does not divide the tokens"),
    Rule("micro_batch", TRAIN, lambda x, c: x.global_batch % (x.dp * x.micro_batch) != 0,
         lambda r, c: (f"global_batch {r['global_batch']} does not divide into dp {r['dp']} x micro_batch "
                       f"{r['micro_batch']}; allowed: multiples of {int(r['dp']) * int(r['micro_batch'])}"),
         "batch that does not divide into micro-batches"),
    Rule("vpp_rounds", TRAIN, lambda x, c: ~_rounds_allowed(c.schedule, x), _rounds_words,
         "micro-batches that interleaved chunks cannot deal into equal rounds"),
)  # fmt: skip
