"""Plans and estimates in words and rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.cost.runs import InferenceRun
from planner.planning.compare import Compared
from planner.planning.equal import told_apart
from planner.planning.estimate import Estimate, ledger_rows
from planner.planning.plan import Choice, Plan
from planner.planning.search import REASONS
from planner.units import format_gib, format_quantity

LAYOUT = ("dp", "tp", "pp", "cp", "ep", "etp", "vpp", "micro_batch", "zero_stage", "sequence_parallel", "recompute")
Rows = list[dict[str, Any]]


def layout_text(e: Estimate) -> str:
    """A layout in words, ones left out: ``dp 16, tp 8, pp 2, micro-batch 1, ZeRO 1``."""
    row = e.inputs
    parts = [f"{k} {row[k]}" for k in ("dp", "tp", "pp", "cp", "ep", "etp", "vpp") if int(row.get(k) or 1) > 1]
    if e.resolved.task == "train":
        parts.append(f"micro-batch {row['micro_batch']}")
        parts += [f"ZeRO {row['zero_stage']}"] if row["zero_stage"] else []
        parts += ["sequence parallel"] if row["sequence_parallel"] else []
        parts += [f"{row['recompute']} recompute"] if row["recompute"] != "none" else []
    return ", ".join(parts) or "one device"


def titles(e: Estimate) -> dict[str, Any]:
    """Title and subtitle of an estimate's figure."""
    c = e.resolved.cluster
    work = {k: e.inputs[k] for k in ("batch", "concurrency", "seq_len", "input_len", "output_len", "global_batch")
            if k in e.inputs}  # fmt: skip
    shape = ", ".join(f"{k} {v:,}" for k, v in work.items() if isinstance(v, int))
    return {"title": f"{e.resolved.model.name}: {e.resolved.task} on {c.devices} x {c.accelerator.name}",
            "subtitle": f"{layout_text(e)}; {shape}; {e.resolved.precision.compute}"}  # fmt: skip


def answer(e: Estimate) -> str:
    """The estimate in one sentence."""
    r, low, high = e.results, e.results["step_time_low_s"], e.results["step_time_high_s"]
    span = f"{format_quantity(_f(low), 's')} to {format_quantity(_f(high), 's')}"
    memory = f"{format_gib(_f(r['memory_peak_bytes']))} of {format_gib(e.capacity)}"
    where = f"{e.resolved.cluster.devices} x {e.resolved.cluster.accelerator.name}"
    said = {"yes": "", "tight": f": tight, fits with a chance of {_f(r['fits_chance']):.0%}", "no": ": does not fit"}
    fit = memory + said[str(r["fits"])]
    more = "" if r["fits"] != "no" else " `planner plan` looks for a layout that fits."
    time = format_quantity(_f(r["step_time_s"]), "s")
    if e.resolved.task == "train":
        return (f"{e.resolved.model.name} on {where}, {layout_text(e)}: {time} a step ({span}), "
                f"{_f(r['tokens_per_s']):,.0f} tokens/s, MFU {_f(r['mfu']):.1%}, {fit} a device.{more}")  # fmt: skip
    unit = {"prefill": "for the first token", "forward": "a pass"}.get(e.resolved.task, "a token")
    rate = f"{_f(r['tokens_per_s']):,.0f} tokens/s"
    return (
        f"{e.resolved.model.name} on {where}, {layout_text(e)}: {time} {unit} ({span}), {rate}, {fit} a device.{more}"
    )


def _f(value: object) -> float:
    return float(value)  # type: ignore[arg-type]


def time_rows(e: Estimate) -> Rows:
    """The time ledger with shares; it sums to the step."""
    total = sum(e.time.values())
    rows: Rows = [{"term": k, "time_s": v, "share": v / total} for k, v in ledger_rows(e.time)]
    return [*rows, {"term": "total", "time_s": total, "share": 1.0}]


def memory_rows(e: Estimate) -> Rows:
    """The memory ledger of the fullest stage, which sums to the peak, and what the KV cache has room for."""
    total = sum(e.memory.values())
    rows: Rows = [{"term": k, "memory_bytes": v, "share": v / total} for k, v in ledger_rows(e.memory)]
    return [*rows, {"term": "total", "memory_bytes": total, "share": 1.0}, *_pool_rows(e)]


def _pool_rows(e: Estimate) -> Rows:
    """The pool for the KV cache, with its tokens and sequences on all replicas."""
    r = e.results
    if not r["kv_cache_tokens"]:
        return []
    return [{"term": "room for kv_cache", "memory_bytes": r["kv_pool_bytes"], "tokens": int(_f(r["kv_cache_tokens"])),
             "sequences": round(_f(r["kv_cache_sequences"]), 2)}]  # fmt: skip


def no_start(e: Estimate) -> str:
    """Why an engine does not start, and what would let it; empty where it does, or where no engine is named."""
    run, r = e.resolved.run, e.results
    if r["starts"] is not False or not isinstance(run, InferenceRun) or not run.engine.memory.tiers:
        return ""
    tokens = int(_f(r["kv_cache_tokens"] or 0.0) / int(_f(e.inputs["dp"])))
    lesser = f"max_model_len at most {tokens:,}" if tokens else "fewer bits a weight"
    return (f"{run.engine.name} does not start: one sequence of max_model_len {run.longest:,} has no room in the "
            f"{format_gib(_f(r['kv_pool_bytes']))} that are left for its KV cache; would start with: {lesser}, "
            f"memory_fraction above {run.memory_fraction:g}, token_budget below {run.token_budget:,}, "
            "a narrower kv_dtype, or more devices in tp or pp")  # fmt: skip


def plan_rows(rows: Sequence[Estimate]) -> Rows:
    """The best layouts as rows with all results."""
    return [e.row for e in rows]


def shown_rows(rows: Sequence[Estimate]) -> Rows:
    """The same with the interval in one cell."""
    return [{**e.row, "90 %": _span(e)} for e in rows]


def _span(e: Estimate) -> str:
    low, high = (format_quantity(_f(e.results[k]), "s") for k in ("step_time_low_s", "step_time_high_s"))
    return f"{low} to {high}"


def alternative_rows(plan: Plan) -> Rows:
    """The best layout of every other tensor-parallel size, and the terms that make it slower than the winner."""
    if plan.best is None:
        return []
    rows: Rows = []
    base = _f(plan.best.results["step_time_s"])
    for e in plan.alternatives:
        terms = {k: e.time.get(k, 0.0) - plan.best.time.get(k, 0.0) for k in {**e.time, **plan.best.time}}
        worst = sorted(terms, key=lambda k: -terms[k])[:3]
        why = ", ".join(f"{k} +{format_quantity(terms[k], 's')}" for k in worst if terms[k] > 0.002 * base)
        rows.append({"layout": layout_text(e), "step_time_s": e.results["step_time_s"],
                     "slower": f"{_f(e.results['step_time_s']) / base - 1:+.1%}", "why": why})  # fmt: skip
    return rows


def plan_columns(rows: Sequence[Estimate]) -> list[str]:
    """Columns a reader of the table wants: layout keys that differ from 1 somewhere, then the results."""
    if not rows:
        return []
    moving = [k for k in LAYOUT if k in rows[0].inputs and len({str(e.inputs.get(k)) for e in rows}) > 1]
    always = [k for k in ("dp", "tp", "pp") if k not in moving and k in rows[0].inputs]
    changes = [k for k in ("model", "compute_dtype", "weight_dtype", "kv_dtype", "sparsity", "compression", "optimizer")
               if len({str(e.inputs.get(k)) for e in rows}) > 1]  # fmt: skip
    shown = [
        "step_time_s",
        "90 %",
        "tokens_per_s",
        "mfu",
        "memory_peak_bytes",
        "fits",
        "usd_per_million_tokens",
        "bound",
    ]
    return [*changes, *[k for k in LAYOUT if k in (*always, *moving)], *shown]


def refusal_rows(refused: dict[str, int]) -> Rows:
    """Candidates refused, by reason, most first."""
    ordered = sorted(refused.items(), key=lambda kv: -kv[1])
    return [{"refused": v, "reason": REASONS.get(k, k)} for k, v in ordered]


def choice_rows(choices: Sequence[Choice]) -> Rows:
    """Compression choices, those that fit first, then by how near they come."""
    rows: Rows = []
    for c in sorted(choices, key=lambda c: (not c.fits, c.memory / c.capacity if not c.fits else 0.0, c.departure)):
        rows.append({
            "choice": c.label, "values_kept": c.values, "bits_kept": c.kept, "fits": c.verdict,
            "memory_bytes": c.memory,
            "of_capacity": c.memory / c.capacity, "step_time_s": c.seconds,
        })  # fmt: skip
    return rows


def infeasible(plan: Plan) -> str:
    """Why nothing fits: which constraint removed how many, and the nearest miss with what would make it fit."""
    tally = "; ".join(f"{r['refused']:,} {r['reason']}" for r in refusal_rows(plan.refused))
    text = f"nothing fits: of {plan.considered:,} layouts, {tally}"
    if plan.miss is not None:
        e = plan.miss
        need, have = _f(e.results["memory_peak_bytes"]), e.capacity
        text += (f"; nearest miss: {layout_text(e)} needs {format_gib(need)} of {format_gib(have)} "
                 f"({need / have:.2f} times; fits with a chance of {_f(e.results['fits_chance']):.0%} where headroom "
                 f"asks for {e.resolved.run.headroom:.0%})")  # fmt: skip
    if plan.remedies:
        text += f"; would fit with: {' or '.join(plan.remedies)}"
    return text


def comparison_rows(compared: Sequence[Compared]) -> Rows:
    """The best plan on each kind of hardware, a row each; ``error`` says why there is none."""
    rows = [_compared_row(c) for c in compared]
    _tell_apart(rows, [c.plan.best if c.plan is not None else None for c in compared])
    return rows


def _tell_apart(rows: Rows, bests: Sequence[Estimate | None]) -> None:
    """Mark in ``same_as_fastest`` the rows whose throughput is as likely above as below that of the fastest: the 50 %
    intervals meet."""
    rates = {i: _f(e.results["tokens_per_s"]) for i, e in enumerate(bests) if e is not None}
    if not rates:
        return
    lead = max(rates, key=lambda i: rates[i])
    spans = {i: (r / bests[i].interval.high50, r / bests[i].interval.low50) for i, r in rates.items()}  # type: ignore[union-attr]
    for i in rates:
        rows[i]["same_as_fastest"] = not told_apart(spans[lead], spans[i])
        rows[i]["90 %"] = _span(bests[i])  # type: ignore[arg-type]


def _compared_row(c: Compared) -> dict[str, Any]:
    if c.plan is None:
        return {"id": c.hardware, "error": str(c.fault)}
    best = c.plan.best
    if best is None:
        return {"id": c.hardware, "error": infeasible(c.plan)}
    return {"id": c.hardware, **best.row, "layout": layout_text(best), "error": ""}


def estimate_json(e: Estimate) -> dict[str, Any]:
    """One estimate as an object."""
    return {**e.row, "time": e.time, "memory": e.memory, "assumed": list(e.assumed)}


def plan_json(plan: Plan) -> dict[str, Any]:
    """A plan as an object with best, rows, refused, assumed."""
    return {
        "best": estimate_json(plan.best) if plan.best else None,
        "rows": [e.row for e in plan.rows],
        "refused": plan.refused,
        "assumed": list(plan.assumed),
        "considered": plan.considered,
        "fitting": plan.fitting,
        "choices": choice_rows(plan.choices),
        "alternatives": alternative_rows(plan),
        "nearest_miss": estimate_json(plan.miss) if plan.miss else None,
        "remedies": plan.remedies,
    }
