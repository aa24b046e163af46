"""Estimates: a scenario in, a row of results with its ledgers out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.cost.constants import RECOMPUTE
from planner.cost.doubt import fit_chance, verdict
from planner.cost.inference import inference_pass, serving
from planner.cost.layouts import Layouts
from planner.cost.memory import device_capacity
from planner.cost.passes import inference_work, training_work
from planner.cost.runs import InferenceRun, Job, Terms, TrainingRun
from planner.cost.serving_memory import Serving
from planner.cost.training import Step, training_step
from planner.demand.costs import op_costs
from planner.demand.counts import forward_flops
from planner.demand.ops import Array
from planner.demand.passes import pieces
from planner.errors import BadInputError, PlannerError
from planner.planning.uncertainty import Interval, interval
from planner.scenario.echo import Said, inputs
from planner.scenario.keys import LABELS, UNREADABLE, parse_scenario
from planner.scenario.names import HardwareDirs
from planner.scenario.resolve import Resolved, resolve
from planner.supply.accelerator import peak_flops
from planner.supply.cost import ChosenPrice, cluster_price, rated_watts, usd_per_hour, usd_per_million_tokens

RESULTS = (
    "step_time_s", "step_time_low_s", "step_time_high_s", "tokens_per_s", "tokens_per_s_per_device",
    "model_flops_per_step", "mfu", "hfu", "ttft_s", "tpot_s", "output_tokens_per_s", "kv_cache_tokens",
    "kv_cache_sequences", "kv_pool_bytes", "memory_peak_bytes",
)  # fmt: skip
MEMORY_PARTS = (
    "weights", "gradients", "optimizer", "activations", "working", "kv_cache", "logits", "fragmentation", "graphs",
    "communicators", "context", "unused",
)  # fmt: skip
COLUMNS = (
    *RESULTS, *(f"memory_{p}_bytes" for p in MEMORY_PARTS), "fits", "fits_chance", "starts", "bound",
    "usd_per_hour", "usd_per_million_tokens", "watts", "error",
)  # fmt: skip
TRAIN_FACTOR = 3.0  # forward, and twice that backward


@dataclass(frozen=True)
class Estimate:
    """One scenario's answer: resolved inputs, results (:data:`COLUMNS`), time and memory ledgers, what was assumed."""

    inputs: Said
    results: dict[str, object]
    time: dict[str, float]
    memory: dict[str, float]
    assumed: tuple[str, ...]
    interval: Interval
    resolved: Resolved
    layout: Layouts

    @property
    def capacity(self) -> float:
        """What the run may fill of a device's memory [byte]."""
        return device_capacity(self.resolved.cluster, self.resolved.run)

    @property
    def job(self) -> Job:
        """What was priced: the model's demand, the cluster, the run and its one layout."""
        return Job(self.resolved.demand, self.resolved.cluster, self.layout, self.resolved.run)

    @property
    def row(self) -> dict[str, object]:
        """Inputs and results as one flat row."""
        return {**self.inputs, **self.results}


def estimate_scenario(
    given: Mapping[str, object],
    *,
    dirs: HardwareDirs = (),
    folder: str | None = None,
    today: date,
    where: str = "",
) -> Estimate:
    """Estimate one scenario of flat keys (DESIGN: the scenario).

    Parameters
    ----------
    given : mapping of scenario keys to text or values
    dirs : folders of the user's hardware profiles
    folder : folder that relative model paths start from
    today : date                     only to say how old a price is

    Raises
    ------
    BadInputError
        What was given, where, what is allowed.
    """
    scenario = parse_scenario(given, where=where)
    resolved, x = resolve(scenario, dirs=dirs, folder=folder)
    return estimate_resolved(resolved, x, today=today)


def estimate_resolved(resolved: Resolved, x: Layouts, *, today: date) -> Estimate:
    """Estimate what is already understood: one run and one layout."""
    if isinstance(resolved.run, TrainingRun):
        return _train(resolved, x, resolved.run, today)
    return _infer(resolved, x, resolved.run, today)


def estimate_rows(
    rows: Iterable[Mapping[str, object]], *, dirs: HardwareDirs = (), folder: str | None = None, today: date
) -> Iterable[dict[str, object]]:
    """Estimate scenarios one after another; a bad one becomes its inputs and an ``error``, the others are unharmed."""
    for row in rows:
        labels = {k: row[k] for k in LABELS if k in row and k != "error"}
        try:
            if UNREADABLE in row:
                raise BadInputError(str(row[UNREADABLE]))
            keys = {k: v for k, v in row.items() if k not in COLUMNS}
            e = estimate_scenario(keys, dirs=dirs, folder=folder, today=today)
            yield labels | e.row | {"error": ""}
        except PlannerError as error:
            yield {k: v for k, v in row.items() if k != UNREADABLE} | {"error": " ".join(str(error).split())}


def _train(resolved: Resolved, x: Layouts, run: TrainingRun, today: date) -> Estimate:
    step = training_step(resolved.demand, resolved.cluster, x, run, detail=True)
    columns = training_columns(resolved, x, run, step)
    results: dict[str, object] = {k: v.tolist()[0] for k, v in columns.items()}
    time = {k: float(v[0]) for k, v in step.time.items() if float(v[0]) > 0}
    memory = {k: float(v[0]) for k, v in step.memory.items()}
    spread, tokens = interval(resolved, x), float(columns["tokens_per_s"][0])
    return _finish(resolved, x, results, time, memory, spread, tokens, today)


def training_columns(resolved: Resolved, x: Layouts, run: TrainingRun, step: Step) -> dict[str, NDArray[Any]]:
    """Results of training steps but for memory and money, a column of shape (n,) each.

    ``resolved`` is settled for all rows of ``x``; ``step`` has its ledgers in detail.
    """
    cluster, d, seconds, batch = resolved.cluster, resolved.demand, step.step_time, x.global_batch
    per_sequence = forward_flops(d.model, seq_len=run.seq_len, encoder_len=run.encoder_len)
    # Frozen weights have no weight gradient: adapters train with one forward and one backward matmul each.
    model_flops = (TRAIN_FACTOR - (1.0 if run.lora_rank else 0.0)) * per_sequence["model"] * batch
    repeated = (x.recompute == RECOMPUTE.index("full")).astype(np.float64)
    hardware_flops = model_flops + repeated * per_sequence["layers"] * batch
    available = seconds * cluster.devices * matmul_peak(resolved)
    tokens = batch * run.seq_len / seconds
    spread = interval(resolved, x)
    bounds = bound_of(step.time)
    kernels = bounds == "compute"
    if kernels.any():
        rows = np.flatnonzero(kernels)
        bounds[rows] = _kernel_bound(resolved, x.take(rows))
    return {
        "step_time_s": seconds, "step_time_low_s": seconds * spread.low, "step_time_high_s": seconds * spread.high,
        "tokens_per_s": tokens, "tokens_per_s_per_device": tokens / cluster.devices,
        "model_flops_per_step": model_flops, "mfu": model_flops / available, "hfu": hardware_flops / available,
        "bound": bounds,
    }  # fmt: skip


def _infer(resolved: Resolved, x: Layouts, run: InferenceRun, today: date) -> Estimate:
    d, cluster = resolved.demand, resolved.cluster
    prefill = inference_pass(d, cluster, x, run, phase="prefill")
    ttft = float(prefill.total_time[0])
    shown, tpot, seconds, tokens = prefill, None, ttft, run.batch * run.input_len / max(ttft, 1e-30)
    flops = forward_flops(
        d.model, batch=run.batch, seq_len=run.input_len, encoder_len=run.encoder_len, last_token=True
    )["model"]
    output_rate = None
    if resolved.task in ("decode", "serve"):
        shown = inference_pass(d, cluster, x, run, phase="decode")
        tpot = seconds = float(shown.total_time[0])
        context = run.input_len + run.output_len / 2
        flops = forward_flops(d.model, batch=run.batch, seq_len=1, encoder_len=run.encoder_len, context=context)[
            "model"
        ]
        if resolved.task == "serve":
            steady = serving(d, cluster, x, run)
            ttft, tpot = float(steady.ttft[0]), float(steady.tpot[0])
            seconds = tpot
        tokens = output_rate = run.batch / tpot
    time = {k: float(v[0]) for k, v in shown.time.items() if float(v[0]) > 0}
    if resolved.task == "serve" and tpot is not None:
        time["prefill of arriving requests"] = tpot - sum(time.values())
    memory = {k: float(v[0]) for k, v in shown.memory.items()}
    available = seconds * cluster.devices * matmul_peak(resolved)
    spread = interval(resolved, x)
    results: dict[str, object] = {
        "step_time_s": seconds, "step_time_low_s": seconds * spread.low, "step_time_high_s": seconds * spread.high,
        "tokens_per_s": tokens, "tokens_per_s_per_device": tokens / cluster.devices, "model_flops_per_step": flops,
        "mfu": flops / available, "hfu": flops / available,
        "ttft_s": None if resolved.task == "forward" else ttft, "tpot_s": tpot, "output_tokens_per_s": output_rate,
        **_cache_room(x, run, shown.held), "bound": _bound(resolved, x, time),
    }  # fmt: skip
    return _finish(resolved, x, results, time, memory, spread, tokens, today)


def _cache_room(x: Layouts, run: InferenceRun, held: Serving) -> dict[str, object]:
    """What the KV cache has room for: bytes on a device, sequences of the longest length and tokens on all replicas;
    nothing where nothing is cached."""
    if not run.output_len:
        return {}
    sequences = float(held.sequences[0]) * int(x.dp[0])
    return {"kv_cache_tokens": sequences * run.longest or None, "kv_cache_sequences": sequences or None,
            "kv_pool_bytes": float(held.pool[0]), "starts": bool(held.starts[0])}  # fmt: skip


def matmul_peak(resolved: Resolved) -> float:
    """The roof that MFU is taken of: the compute dtype's dense peak, or its 2:4 peak under 2:4 sparsity [FLOP/s]."""
    chip, precision = resolved.cluster.accelerator, resolved.precision
    sparse = chip.sparse_factor.get(precision.compute, 1.0) if precision.sparsity == "2:4" else 1.0
    return peak_flops(chip, precision.compute) * sparse


def _bound(resolved: Resolved, x: Layouts, time: Mapping[str, float]) -> str:
    """What the pass of one layout spends most of."""
    found = str(bound_of({k: np.array([v]) for k, v in time.items()})[0])
    return str(_kernel_bound(resolved, x)[0]) if found == "compute" else found


def bound_of(time: Mapping[str, Array]) -> NDArray[Any]:
    """What each step spends most of, by family of ledger terms: compute, communication, bubble, host …, shape (n,)."""
    families: dict[str, Array] = {}
    for name, seconds in time.items():
        family = {"forward": "compute", "backward": "compute", "recompute": "compute", "comm": "communication",
                  "pipeline": "bubble", "host": "host",
                  "optimizer": "memory"}.get(name.split(".")[0], name)  # fmt: skip
        families[family] = families.get(family, 0.0) + seconds
    names = np.array(list(families), dtype=object)
    return np.asarray(names[np.argmax(np.stack(list(families.values())), axis=0)])


def _kernel_bound(resolved: Resolved, x: Layouts) -> NDArray[Any]:
    """Whether kernels are limited by FLOP/s or bandwidth, shape (n,): the larger of the two ideal times of a pass."""
    d, run, chip = resolved.demand, resolved.run, resolved.cluster.accelerator
    decode = isinstance(run, InferenceRun) and run.phase == "decode"
    if isinstance(run, TrainingRun):
        w = training_work(x, run)
    else:
        w = inference_work(x, run, phase=run.phase, context=None, sequences=np.ceil(run.batch / x.dp))
    flops, moved = np.zeros(len(x)), np.zeros(len(x))
    for piece in pieces(d, w, decode=decode):
        if piece.section.role == "layer":
            c = op_costs(piece.section.table, piece.work, resolved.precision)
            flops = flops + c.flops.sum(axis=1) * piece.section.count
            moved = moved + c.bytes_moved.sum(axis=1) * piece.section.count
    peak = peak_flops(chip, resolved.precision.compute)
    return np.where(flops / peak >= moved / chip.bandwidth, "compute", "memory").astype(object)


def held_columns(
    resolved: Resolved, memory: Mapping[str, Array], tokens: Array, price: ChosenPrice | None
) -> dict[str, NDArray[Any] | None]:
    """Memory, whether it fits, and money of layouts that share a run, a column of shape (n,) each; None where a run
    has no such part, NaN where no price or rated power is known. ``tokens`` [1/s] of each."""
    cluster = resolved.cluster
    peak = np.asarray(sum(memory.values()))
    chance = fit_chance(resolved.run, peak, device_capacity(cluster, resolved.run))
    hourly = usd_per_hour(price, np.full(len(peak), cluster.devices))
    return {
        "memory_peak_bytes": peak, **{f"memory_{p}_bytes": memory.get(p) for p in MEMORY_PARTS},
        "fits": np.array([verdict(c) for c in chance.tolist()], dtype=object), "fits_chance": chance,
        "usd_per_hour": hourly, "usd_per_million_tokens": usd_per_million_tokens(hourly, tokens),
        "watts": rated_watts(cluster, np.full(len(peak), cluster.devices)),
    }  # fmt: skip


def _finish(
    resolved: Resolved, x: Layouts, results: dict[str, object], time: dict[str, float], memory: dict[str, float],
    spread: Interval, tokens: float, today: date,
) -> Estimate:  # fmt: skip
    cluster = resolved.cluster
    price = cluster_price(cluster, today=today)
    held = held_columns(resolved, {k: np.array([v]) for k, v in memory.items()}, np.array([tokens]), price)
    results |= {k: None if v is None else known(v.tolist()[0]) for k, v in held.items()}
    ordered = {c: results.get(c) for c in COLUMNS if c != "error"}
    assumed = list(resolved.assumed)
    if price is not None:
        assumed.append(f"price {price.observation.usd_per_hour:.2f} USD/h a device: {price.basis}")
    assumed.append(spread.basis)
    said = inputs(resolved.task, resolved.keys, x.row(0), cluster.accelerator.id)
    return Estimate(said, ordered, time, memory, tuple(dict.fromkeys(assumed)), spread, resolved, x)


def known(value: object) -> object:
    """A value as it is; None for a number that is not finite."""
    return None if isinstance(value, float) and not isfinite(value) else value


def ledger_rows(time: Mapping[str, float] | Terms) -> list[tuple[str, float]]:
    """A ledger in its own order as pairs, zeros left out."""
    return [(k, float(v)) for k, v in time.items() if float(np.asarray(v).sum()) != 0.0]
