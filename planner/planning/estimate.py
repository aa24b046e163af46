"""Estimates: a scenario in, a row of results with its ledgers out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np

from planner.cost.constants import RECOMPUTE
from planner.cost.doubt import fit_chance, verdict
from planner.cost.inference import inference_pass
from planner.cost.layouts import Layouts
from planner.cost.memory import device_capacity
from planner.cost.points import kernel_bound
from planner.cost.runs import InferenceRun, Job, Terms, TrainingRun
from planner.cost.serving_memory import Serving
from planner.cost.training import training_step
from planner.demand.counts import forward_flops
from planner.errors import BadInputError, internal, nearest
from planner.planning.assumptions import assumed_efficiencies
from planner.planning.columns import COLUMNS, FIXED, MEMORY_PARTS, POSITIVE
from planner.planning.sanity import refuse_impossible
from planner.planning.service import service
from planner.planning.shown import cell, html_table
from planner.planning.uncertainty import Interval, interval
from planner.scenario.echo import Said, inputs
from planner.scenario.keys import ECHOED, KEYS, LABELS, UNREADABLE, is_missing, parse_scenario
from planner.scenario.names import HardwareDirs, refuse_other_chip
from planner.scenario.resolve import Resolved, resolve
from planner.supply.accelerator import peak_flops
from planner.supply.cost import ON_DEMAND, ChosenPrice, cluster_price, rated_watts, usd_per_hour, usd_per_million_tokens
from planner.units import format_gib, format_quantity

Progress = Callable[[int, int], None]
TRAIN_FACTOR = 3.0  # forward, and twice that backward


@dataclass(frozen=True, repr=False)
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
    price: ChosenPrice | None = None

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

    @property
    def fits(self) -> bool:
        """Whether it fits or may fit: the verdict is not ``no``."""
        return self.results["fits"] != "no"

    def answer(self, given: Mapping[str, object] | Iterable[tuple[str, object]] = ()) -> dict[str, object]:
        """The row of :data:`FIXED` columns: ``model`` and ``hardware`` as they were given beside what they resolved
        to, and the columns of ``given`` that are no keys before all."""
        said = dict(given)
        names = {f"resolved_{k}": self.inputs[k] for k in ("model", "hardware")}
        told = {k: said[k] for k in ("model", "hardware") if not is_missing(said.get(k))}
        row = {**self.row, **names, **told, "price_basis": self.price.basis if self.price else "",
               "assumed": "; ".join(self.assumed), "error": ""}  # fmt: skip
        return own_columns(said) | {c: row.get(c) for c in FIXED}

    def __repr__(self) -> str:
        r = self.results
        low, high = (format_quantity(float(str(r[k])), "s") for k in ("step_time_low_s", "step_time_high_s"))
        what = f"{self.inputs['model']} on {self.inputs['devices']} x {self.inputs['hardware']}, {self.resolved.task}"
        return (f"<Estimate {what}: {format_quantity(float(str(r['step_time_s'])), 's')} ({low} to {high}), "
                f"{format_gib(sum(self.memory.values()))} of {format_gib(self.capacity)}"
                f"{'' if self.fits else ', does not fit'}>")  # fmt: skip

    def _repr_html_(self) -> str:
        rows = [{"key": k, "value": cell(k, v)} for k, v in self.row.items() if v is not None]
        return html_table(rows, ("key", "value"), caption=repr(self)[1:-1])


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
    refuse_other_chip(given, resolved.cluster.accelerator.id, dirs)
    return estimate_resolved(resolved, x, today=today)


def estimate_resolved(resolved: Resolved, x: Layouts, *, today: date) -> Estimate:
    """Estimate what is already understood: one run and one layout."""
    if isinstance(resolved.run, TrainingRun):
        return _train(resolved, x, resolved.run, today)
    if resolved.task == "serve":
        return _serve(resolved, x, resolved.run, today)
    return _infer(resolved, x, resolved.run, today)


def estimate_rows(
    rows: Iterable[Mapping[str, object]],
    *,
    dirs: HardwareDirs = (),
    folder: str | None = None,
    today: date,
    progress: Progress | None = None,
) -> Iterable[dict[str, object]]:
    """Estimate scenarios one after another; a bad one becomes its inputs and an ``error``, the others are unharmed.

    So does one that the planner itself fails at, whatever way; its error begins with ``internal error``. Columns that
    are no keys go through untouched, before those of :data:`FIXED`; ``progress`` is told how many rows are done and how
    many of them have an answer.
    """
    good = 0
    for done, row in enumerate(rows, start=1):
        try:
            if UNREADABLE in row:
                raise BadInputError(str(row[UNREADABLE]))
            keys = {k: v for k, v in row.items() if k in KEYS or k in ECHOED}
            out = estimate_scenario(keys, dirs=dirs, folder=folder, today=today).answer(row)
            good += 1
        except Exception as error:
            given = {k: row.get(k) for k in KEYS}
            told = " ".join(str(internal(error)).split())
            out = own_columns(row) | dict.fromkeys(FIXED) | given | {"error": told}
        yield out
        if progress is not None:
            progress(done, good)


def own_columns(row: Mapping[str, object]) -> dict[str, object]:
    """What a row has besides keys and results: its own columns, which go through untouched."""
    return {k: v for k, v in row.items() if k not in FIXED and k != UNREADABLE}


def unknown_columns(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """What is said of columns that are no keys, labels or results, with the keys they may have meant."""
    strange = dict.fromkeys(str(k) for r in rows for k in own_columns(r) if k not in LABELS)
    said = []
    for name in strange:
        close = nearest(name, KEYS)
        said.append(f"column {name!r} is no key" + (f" (nearest: {', '.join(close)})" if close else ""))
    return said


def _train(resolved: Resolved, x: Layouts, run: TrainingRun, today: date) -> Estimate:
    cluster, d = resolved.cluster, resolved.demand
    step = training_step(d, cluster, x, run, detail=True)
    time = {k: float(v[0]) for k, v in step.time.items() if float(v[0]) > 0}
    memory = {k: float(v[0]) for k, v in step.memory.items()}
    seconds = float(step.step_time[0])
    per_sequence = forward_flops(d.model, seq_len=run.seq_len, encoder_len=run.encoder_len)
    batch = int(x.global_batch[0])
    # Frozen weights have no weight gradient: adapters train with one forward and one backward matmul each.
    model_flops = (TRAIN_FACTOR - (1.0 if run.lora_rank else 0.0)) * per_sequence["model"] * batch
    repeated = {"none": 0.0, "selective": 0.0, "full": 1.0}[RECOMPUTE[int(x.recompute[0])]]
    hardware_flops = model_flops + repeated * per_sequence["layers"] * batch
    available = seconds * cluster.devices * matmul_peak(resolved)
    tokens = batch * run.seq_len / seconds
    spread = interval(resolved, x)
    results: dict[str, object] = {
        "step_time_s": seconds, "step_time_low_s": seconds * spread.low, "step_time_high_s": seconds * spread.high,
        "tokens_per_s": tokens, "tokens_per_s_per_device": tokens / cluster.devices,
        "model_flops_per_step": model_flops, "mfu": model_flops / available, "hfu": hardware_flops / available,
        "bound": bound(time, Job(d, cluster, x, run), stage=int(step.bottleneck[0])),
    }  # fmt: skip
    return _finish(resolved, x, results, time, memory, spread, tokens, today)


def _infer(resolved: Resolved, x: Layouts, run: InferenceRun, today: date) -> Estimate:
    d, cluster = resolved.demand, resolved.cluster
    prefill = inference_pass(d, cluster, x, run, phase="prefill")
    ttft = float(prefill.total_time[0])
    shown, tpot, seconds, tokens = prefill, None, ttft, run.batch * run.input_len / max(ttft, 1e-30)
    flops = forward_flops(
        d.model, batch=run.batch, seq_len=run.input_len, encoder_len=run.encoder_len, last_token=True
    )["model"]
    output_rate = None
    if resolved.task == "decode":
        shown = inference_pass(d, cluster, x, run, phase="decode")
        tpot = seconds = float(shown.total_time[0])
        flops = forward_flops(
            d.model, batch=run.batch, seq_len=1, encoder_len=run.encoder_len, context=run.mean_context
        )["model"]
        tokens = output_rate = run.batch / tpot
    time = {k: float(v[0]) for k, v in shown.time.items() if float(v[0]) > 0}
    memory = {k: float(v[0]) for k, v in shown.memory.items()}
    available = seconds * cluster.devices * matmul_peak(resolved)
    spread = interval(resolved, x)
    results: dict[str, object] = {
        "step_time_s": seconds, "step_time_low_s": seconds * spread.low, "step_time_high_s": seconds * spread.high,
        "tokens_per_s": tokens, "tokens_per_s_per_device": tokens / cluster.devices, "model_flops_per_step": flops,
        "mfu": flops / available, "hfu": flops / available,
        "ttft_s": None if resolved.task == "forward" else ttft, "tpot_s": tpot, "output_tokens_per_s": output_rate,
        "request_time_s": None if tpot is None else ttft + (run.output_len - 1) * tpot,
        **_cache_room(x, run, shown.serving), "bound": bound(time, Job(d, cluster, x, run)),
    }  # fmt: skip
    return _finish(resolved, x, results, time, memory, spread, tokens, today)


def _serve(resolved: Resolved, x: Layouts, run: InferenceRun, today: date) -> Estimate:
    s = service(resolved, x, run)
    shown, rate = s.deployment.decode, float(s.deployment.output_rate[0])
    time = {k: float(v[0]) for k, v in shown.time.items() if float(v[0]) > 0}
    tpot = float(s.deployment.served.tpot[0])
    arriving = tpot - sum(time.values())
    if np.isfinite(arriving) and arriving > 0:
        time["prefill of arriving requests"] = arriving
    memory = {k: float(v[0]) for k, v in shown.memory.items()}
    used = float(str(s.results["requests_per_s"])) * s.request_flops
    mfu = used / (resolved.cluster.devices * matmul_peak(resolved))
    watts = float(rated_watts(resolved.cluster, resolved.cluster.devices))
    results: dict[str, object] = {
        "step_time_s": s.results["tpot_s"], "step_time_low_s": s.results["tpot_low_s"],
        "step_time_high_s": s.results["tpot_high_s"],
        "tokens_per_s": rate, "tokens_per_s_per_device": rate / resolved.cluster.devices,
        "model_flops_per_step": used * tpot if np.isfinite(tpot) else None, "mfu": mfu, "hfu": mfu, **s.results,
        **_cache_room(x, run, shown.serving), "bound": bound(time, Job(resolved.demand, resolved.cluster, x, run)),
        "joules_per_million_tokens": _known(watts / rate * 1e6),
    }  # fmt: skip
    return _finish(resolved, x, results, time, memory, s.tpot, rate, today, notes=s.notes,
                   needed=float(s.deployment.needed[0]))  # fmt: skip


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


def bound(time: Mapping[str, float], job: Job, *, stage: int = 0) -> str:
    """What a step spends most of, by ledger family; where that is kernels, what limits theirs on a ``stage``."""
    families: dict[str, float] = {}
    for name, seconds in time.items():
        family = {"forward": "kernels", "backward": "kernels", "recompute": "kernels", "comm": "communication",
                  "pipeline": "bubble", "host": "host",
                  "optimizer": "memory"}.get(name.split(".")[0], name)  # fmt: skip
        families[family] = families.get(family, 0.0) + seconds
    most = max(families, key=lambda k: families[k])
    return kernel_bound(job, stage=stage) if most == "kernels" else most


def _finish(
    resolved: Resolved, x: Layouts, results: dict[str, object], time: dict[str, float], memory: dict[str, float],
    spread: Interval, tokens: float, today: date, *, notes: tuple[str, ...] = (), needed: float | None = None,
) -> Estimate:  # fmt: skip
    cluster = resolved.cluster
    peak = sum(memory.values())
    must = peak if needed is None else needed
    chance = float(fit_chance(resolved.run, np.array(must), device_capacity(cluster, resolved.run)))
    price = cluster_price(cluster, today=today)
    hourly = float(usd_per_hour(price, cluster.devices))
    results |= {"memory_peak_bytes": peak} | {f"memory_{p}_bytes": memory.get(p) for p in MEMORY_PARTS}
    results |= {
        "fits": verdict(chance),
        "fits_chance": chance,
        "usd_per_hour": _known(hourly),
        "usd_per_million_tokens": _known(float(usd_per_million_tokens(hourly, tokens))),
        "watts": _known(float(rated_watts(cluster, cluster.devices))),
    }
    ordered = {c: results.get(c) for c in COLUMNS if c != "error"}
    assumed = [*resolved.assumed, *assumed_efficiencies(resolved, time)]
    if price is not None:
        assumed.append(f"price {price.observation.usd_per_hour:.2f} USD/h a device: {price.basis}")
    elif cluster.price_kind is not None or cluster.system.provider:
        whose = f" of {cluster.system.provider}" if cluster.system.provider else ""
        kind = cluster.price_kind or ON_DEMAND
        assumed.append(f"price: no {kind} price{whose} is listed; price or price_kind gives one")
    assumed += notes or (spread.basis,)
    said = inputs(resolved.task, resolved.keys, x.row(0), cluster.accelerator.id)
    _refuse_impossible(said, results, time, memory)
    return Estimate(said, ordered, time, memory, tuple(dict.fromkeys(assumed)), spread, resolved, x, price)


def _refuse_impossible(
    said: Said, results: Mapping[str, object], time: Mapping[str, float], memory: Mapping[str, float]
) -> None:
    """No time, size or rate of an answer is anything but a positive number."""
    whole = {k: v for k, v in results.items() if k in POSITIVE and isinstance(v, float | int)}
    refuse_impossible(whole, said)
    shown = {k: v for k, v in results.items() if k not in POSITIVE and isinstance(v, float)}
    refuse_impossible({**shown, **time, **{f"memory.{k}": v for k, v in memory.items()}}, said, parts=True)


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def ledger_rows(time: Mapping[str, float] | Terms) -> list[tuple[str, float]]:
    """A ledger in its own order as pairs, zeros left out."""
    return [(k, float(v)) for k, v in time.items() if float(np.asarray(v).sum()) != 0.0]
