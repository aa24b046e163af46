"""Layouts as columns: how a model is divided over devices, and which divisions cannot be.

Ranks are placed innermost first: tp, cp, dp, pp. Expert parallelism folds over the tp x cp x dp ranks of a stage, as
Megatron-Core's parallel folding does (https://arxiv.org/abs/2504.14960), so ep must divide dp·cp·tp. A group's stride
is the product of the sizes inside it, which decides whether it stays in one scale-up domain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planner.catalogue.schema import Attention, CompressedAttention, LatentAttention, LinearAttention, Mlp, Model, Moe
from planner.cost.schedules import SCHEDULES, Placement, Schedule, loop_placement
from planner.demand.ops import Array
from planner.errors import BadInputError
from planner.scenario.keys import RECOMPUTE, Value

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Layouts:
    """Candidate layouts, one a row; every column has shape (n,), int64. ``recompute`` indexes RECOMPUTE."""

    dp: Ints
    tp: Ints
    pp: Ints
    cp: Ints
    ep: Ints
    vpp: Ints
    micro_batch: Ints
    global_batch: Ints
    zero_stage: Ints
    sequence_parallel: Ints
    recompute: Ints

    def __len__(self) -> int:
        return len(self.dp)

    def take(self, index: ArrayLike) -> Layouts:
        """Rows ``index`` of every column."""
        return replace(self, **{f.name: getattr(self, f.name)[np.asarray(index)] for f in fields(self)})

    @property
    def devices(self) -> Ints:
        """Devices a layout uses, dp·tp·pp·cp."""
        return self.dp * self.tp * self.pp * self.cp

    @property
    def micro_batches(self) -> Ints:
        """Micro-batches a pipeline handles in a step, global_batch / (dp·micro_batch), at least 1."""
        return np.asarray(np.maximum(self.global_batch // np.maximum(self.dp * self.micro_batch, 1), 1))

    @property
    def expert_dp(self) -> Array:
        """Copies of an expert: dp·cp·tp / ep."""
        return np.maximum(self.dp * self.cp * self.tp / self.ep, 1.0)

    def row(self, i: int) -> dict[str, int | str | bool]:
        """One layout as scenario keys."""
        out: dict[str, int | str | bool] = {f.name: int(getattr(self, f.name)[i]) for f in fields(self)}
        return out | {
            "recompute": RECOMPUTE[int(self.recompute[i])],
            "sequence_parallel": bool(self.sequence_parallel[i]),
        }


def layouts(**columns: ArrayLike) -> Layouts:
    """Broadcast columns or numbers into :class:`Layouts`; what is not given is 1, no ZeRO, no recompute."""
    defaults: dict[str, ArrayLike] = dict.fromkeys((f.name for f in fields(Layouts)), 1)
    defaults |= {"zero_stage": 0, "sequence_parallel": 0, "recompute": 0}
    merged = defaults | columns
    arrays = np.broadcast_arrays(*[np.atleast_1d(np.asarray(v, dtype=np.int64)) for v in merged.values()])
    return Layouts(**dict(zip(merged, arrays, strict=True)))


@dataclass(frozen=True)
class Rule:
    """A law a layout must obey: ``broken`` (n,) marks the rows that break it, ``says`` words it for one row."""

    name: str
    broken: NDArray[np.bool_]
    says: str

    def message(self, row: Mapping[str, object]) -> str:
        return self.says.format(**row)


@dataclass(frozen=True)
class Divisors:
    """What a model's sizes allow: the numbers that tp, ep and pp must divide."""

    heads: tuple[int, ...]
    kv_heads: tuple[int, ...]
    widths: tuple[int, ...]
    experts: int
    layers: int


def divisors(model: Model) -> Divisors:
    """Sizes of the layers that a division must respect."""
    heads: set[int] = set()
    kv: set[int] = set()
    widths: set[int] = set()
    experts = 0
    for stack in model.stacks:
        if stack.optional:
            continue
        for kind in stack.kinds:
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
                if kind.ffn.shared is not None:
                    widths.add(kind.ffn.shared.width)
    layers = sum(s.layers for s in model.stacks if not s.optional)
    return Divisors(tuple(sorted(heads)), tuple(sorted(kv)), tuple(sorted(widths)), experts, layers)


def schedule_rules(x: Layouts, schedule: Schedule) -> list[Rule]:
    """What a pipeline schedule asks of a layout."""
    said = f"schedule {schedule.name} needs "
    return [
        Rule("schedule_pp", ~schedule.runs_stages(x.pp), said + f"{schedule.said_stages}; pp is {{pp}}"),
        Rule("schedule_vpp", ~schedule.runs_chunks(x.vpp), said + f"{schedule.said_chunks} a stage; vpp is {{vpp}}"),
        Rule("schedule_micro_batches", ~schedule.runs_micro_batches(x.micro_batches, x.pp),
             said + f"{schedule.said_micro_batches}; pp is {{pp}}, global_batch {{global_batch}}, dp {{dp}}, "
             "micro_batch {micro_batch}"),
    ]  # fmt: skip


def rules(
    x: Layouts, model: Model, *, devices: int | None, seq_len: int, schedule: Schedule | None = None
) -> list[Rule]:
    """The laws of division for training layouts, in the order a reader would check them."""
    d = divisors(model)
    split_heads = np.zeros(len(x), dtype=bool)
    for h in d.heads:
        split_heads |= (h % x.tp) != 0
    for h in d.kv_heads:
        split_heads |= (h % x.tp != 0) & (x.tp % h != 0)
    split_width = np.zeros(len(x), dtype=bool)
    for w in d.widths:
        split_width |= (w % x.tp) != 0
    chunks = x.pp * x.vpp
    used = x.devices
    found = [
        Rule("devices", (used != devices) if devices is not None else np.zeros(len(x), dtype=bool),
             "dp {dp} x tp {tp} x pp {pp} x cp {cp} does not make " + f"{devices} devices"),
        Rule("tp_heads", split_heads, f"tp {{tp}} does not divide the attention heads {_list(d.heads)}"
             + (f" (k/v heads {_list(d.kv_heads)})" if d.kv_heads else "")),
        Rule("tp_width", split_width, f"tp {{tp}} does not divide the MLP width {_list(d.widths)}"),
        Rule("pp_layers", x.pp > d.layers, f"pp {{pp}} is more than the {d.layers} layers"),
        *(schedule_rules(x, schedule) if schedule is not None else ()),
        Rule("vpp_layers", (x.vpp > 1) & ((chunks > d.layers + 2) | (x.pp == 1)),
             f"vpp {{vpp}} x pp {{pp}} needs pp > 1 and at most the {d.layers} layers"),
        Rule("ep_experts", (x.ep > 1) & ((d.experts == 0) | (max(d.experts, 1) % x.ep != 0)),
             f"ep {{ep}} does not divide the {d.experts} experts" if d.experts
             else "ep {ep} given, but the model has no experts"),
        Rule("ep_ranks", (x.dp * x.cp * x.tp) % x.ep != 0, "ep {ep} does not divide dp·cp·tp = {dp}·{cp}·{tp}"),
        Rule("cp_tokens", seq_len % (x.cp * np.where(x.cp > 1, 2, 1)) != 0,
             f"cp {{cp}} needs a sequence that divides by 2·cp; seq_len is {seq_len}"),
        Rule("sp_tokens", (x.sequence_parallel > 0) & ((seq_len // np.maximum(x.cp, 1)) % x.tp != 0),
             f"sequence_parallel needs tp to divide the tokens of a rank; tp {{tp}}, seq_len {seq_len}, cp {{cp}}"),
        Rule("micro_batch", x.global_batch % np.maximum(x.dp * x.micro_batch, 1) != 0,
             "global_batch {global_batch} does not divide into dp {dp} x micro_batch {micro_batch}"),
    ]  # fmt: skip
    return [r for r in found if r.broken.any()]


def _list(values: tuple[int, ...]) -> str:
    return ", ".join(str(v) for v in values) or "none"


def stage_sections(
    order: tuple[int, ...], *, sections: int, pp: int, vpp: int, placement: Placement = loop_placement
) -> Array:
    """Layers of each section on each stage, shape (pp, section).

    Layers are dealt in order to pp·vpp chunks as evenly as they go; a remainder goes to the middle chunks first,
    because the first and last chunk stand beside the embedding and the head. ``placement`` shares the chunks out.
    """
    chunks = max(1, min(pp * vpp, len(order))) if vpp > 1 else pp
    base, extra = divmod(len(order), chunks)
    sizes = np.full(chunks, base, dtype=np.int64)
    middle_first = np.argsort(np.abs(np.arange(chunks) - (chunks - 1) / 2.0), kind="stable")
    sizes[middle_first[:extra]] += 1
    held = np.zeros((chunks, sections))
    np.add.at(held, (np.repeat(np.arange(chunks), sizes), np.asarray(order, dtype=np.int64)), 1.0)
    return np.asarray(placement(np.arange(pp)[:, None], np.arange(chunks), pp) @ held)


def resolve_layout(given: Mapping[str, Value]) -> dict[str, Value]:
    """Sizes of the parallel axes; dp follows from devices, or devices from dp."""
    schedule = str(given.get("schedule", "1f1b")) if given.get("task", "train") == "train" else "1f1b"
    chunks = SCHEDULES[schedule].chunks[0]
    sizes = {k: int(given.get(k, 1)) for k in ("tp", "pp", "cp", "ep")} | {"vpp": int(given.get("vpp", chunks))}
    inner = sizes["tp"] * sizes["pp"] * sizes["cp"]
    if "dp" in given and "devices" in given:
        if int(given["dp"]) * inner != int(given["devices"]):
            raise BadInputError(
                f"dp {given['dp']} x tp {sizes['tp']} x pp {sizes['pp']} x cp {sizes['cp']} = "
                f"{int(given['dp']) * inner} does not make {given['devices']} devices"
            )
        dp = int(given["dp"])
    elif "devices" in given:
        dp, rest = divmod(int(given["devices"]), inner)
        if rest or dp < 1:
            raise BadInputError(
                f"tp {sizes['tp']} x pp {sizes['pp']} x cp {sizes['cp']} = {inner} does not divide "
                f"{given['devices']} devices"
            )
    else:
        dp = int(given.get("dp", 1))
    return {**sizes, "dp": dp, "devices": dp * inner}


def layout_columns(given: Mapping[str, Value], sizes: Mapping[str, Value], task: str) -> dict[str, int]:
    """The layout of one scenario as integers; what is not given takes the common choice."""
    dp, tp = int(sizes["dp"]), int(sizes["tp"])
    micro = int(given.get("micro_batch", 1))
    batch = int(given.get("global_batch", dp * micro * (4 * int(sizes["pp"]) if int(sizes["pp"]) > 1 else 1)))
    return {
        **{k: int(sizes[k]) for k in ("dp", "tp", "pp", "cp", "ep", "vpp")},
        "micro_batch": micro,
        "global_batch": batch if task == "train" else dp * micro,
        "zero_stage": int(given.get("zero_stage", 1 if task == "train" and dp > 1 else 0)),
        "sequence_parallel": int(bool(given.get("sequence_parallel", tp > 1 and task == "train"))),
        "recompute": RECOMPUTE.index(str(given.get("recompute", "none"))),
    }
