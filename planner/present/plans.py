"""Plans and estimates in words and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.cost.runs import InferenceRun
from planner.planning.columns import FIXED
from planner.planning.compare import Compared, alike
from planner.planning.estimate import Estimate, ledger_rows
from planner.planning.plan import Choice, Plan
from planner.planning.search import REASONS
from planner.present.formatting import text_of
from planner.units import format_gib, format_quantity

LAYOUT = ("dp", "tp", "pp", "cp", "ep", "etp", "vpp", "micro_batch", "zero_stage", "sequence_parallel", "recompute")
SERVICE = {
    "ttft_p95_s": "TTFT, 95th percentile", "tpot_p95_s": "TPOT, 95th percentile",
    "requests_per_s_most": "most requests a second", "in_flight": "requests in flight", "utilisation": "utilisation",
    "kv_use": "KV cache in use", "mfu": "MFU", "usd_per_million_tokens": "cost",
    "joules_per_million_tokens": "energy of a million tokens",
}  # fmt: skip
Rows = list[dict[str, Any]]


def layout_text(e: Estimate) -> str:
    """A layout in words, ones left out: ``dp 16, tp 8, pp 2, micro-batch 1, ZeRO 1``.

    All is said that an estimate would choose or take otherwise if it were not given.
    """
    row, x = e.inputs, e.layout
    dp, tp, experts = int(x.dp[0]), int(x.tp[0]), e.resolved.case.sizes.experts
    parts = [f"{k} {row[k]}" for k in ("dp", "tp", "pp", "cp", "ep", "etp", "vpp") if int(row.get(k) or 1) > 1]
    if e.resolved.task == "train":
        parts.append(f"micro-batch {row['micro_batch']}")
        parts += ["etp 1"] if experts and tp > 1 and row["ep"] == row["etp"] == 1 else []
        parts += [f"ZeRO {row['zero_stage']}"] if row["zero_stage"] or dp > 1 else []
        parts += [f"{'' if row['sequence_parallel'] else 'not '}sequence parallel"] if tp > 1 else []
        again = (
            f" of {row['recompute_modules']}" if row["recompute"] == "selective" and row["recompute_modules"] else ""
        )
        parts += [f"{'no' if row['recompute'] == 'none' else row['recompute']} recompute{again}"]
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
    memory = f"{format_gib(_f(r['memory_peak_bytes']))} of {format_gib(e.capacity)} a device"
    where = f"{e.resolved.cluster.devices} x {e.resolved.cluster.accelerator.name}"
    said = {"yes": "", "tight": f": tight, fits with a chance of {_f(r['fits_chance']):.0%}", "no": ": does not fit"}
    fit = memory + said[str(r["fits"])]
    more = "" if e.fits else " `planner plan` looks for a layout that fits."
    if e.resolved.task == "serve":
        return f"{e.resolved.model.name} on {where}, {layout_text(e)}: {_served(e)}, {fit}.{more}"
    span = f"{format_quantity(_f(low), 's')} to {format_quantity(_f(high), 's')}"
    time = format_quantity(_f(r["step_time_s"]), "s")
    if e.resolved.task == "train":
        return (f"{e.resolved.model.name} on {where}, {layout_text(e)}: {time} a step ({span}), "
                f"{_f(r['tokens_per_s']):,.0f} tokens/s, MFU {_f(r['mfu']):.1%}, {fit}.{more}")  # fmt: skip
    unit = {"prefill": "for the first token", "forward": "a pass"}.get(e.resolved.task, "a token")
    rate = f"{_f(r['tokens_per_s']):,.0f} tokens/s"
    return f"{e.resolved.model.name} on {where}, {layout_text(e)}: {time} {unit} ({span}), {rate}, {fit}.{more}"


def _served(e: Estimate) -> str:
    """How a deployment serves, in words."""
    r = e.results
    if r["ttft_s"] is None:
        return f"saturated, {_f(r['requests_per_s_most']):.3g} requests/s is the most it serves"

    def time(name: str) -> str:
        value, low, high = (format_quantity(_f(r[f"{name}{end}_s"]), "s") for end in ("", "_low", "_high"))
        return f"{value} ({low} to {high})"

    rate, low, high = (_f(r[f"output_tokens_per_s{end}"]) for end in ("", "_low", "_high"))
    return (f"first token after {time('ttft')}, {time('tpot')} a token, {rate:,.0f} output tokens/s ({low:,.0f} to "
            f"{high:,.0f}), {_f(r['tokens_per_s_per_device']):,.0f} a device, {_f(r['tokens_per_s_per_user']):,.0f} a "
            f"user, {_f(r['requests_per_s']):.3g} requests/s")  # fmt: skip


def service_rows(e: Estimate) -> Rows:
    """The other figures of a served deployment, a row each; none for other tasks."""
    if e.resolved.task != "serve":
        return []
    return [{"figure": said, "value": text_of(n, e.results[n])}
            for n, said in SERVICE.items() if e.results[n] is not None]  # fmt: skip


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


def with_interval(rows: Sequence[Mapping[str, Any]]) -> Rows:
    """Rows with the 90 % interval in one cell."""
    return [{**r, "interval_s": _interval(r)} for r in rows]


def served_rows(rows: Sequence[Mapping[str, Any]]) -> Rows:
    """Rows of deployments for a table: where requests come faster than they are served, no first token has a time, and
    that cell says so."""
    return [{**r, "ttft_s": "saturated"} if _is_saturated(r) else dict(r) for r in rows]


def _is_saturated(row: Mapping[str, Any]) -> bool:
    return not row["error"] and row["task"] == "serve" and row["ttft_s"] is None


def _interval(row: Mapping[str, Any]) -> tuple[float, float] | None:
    low, high = row.get("step_time_low_s"), row.get("step_time_high_s")
    return None if low is None or high is None else (_f(low), _f(high))


def best_row(plan: Plan, given: Mapping[str, Any]) -> dict[str, Any]:
    """The winner of a search as a row of fixed columns, or why there is none."""
    if plan.best is None:
        return {**dict.fromkeys(FIXED), **given, "error": infeasible(plan)}
    return {"layout": layout_text(plan.best), **plan.answers()[0]}


def alternative_rows(plan: Plan) -> Rows:
    """The fastest layout of every other tensor-parallel size, and the terms by which it differs from the winner: those
    that make it slower, or faster where it is."""
    if plan.best is None:
        return []
    rows: Rows = []
    base = _f(plan.best.results["step_time_s"])
    for e in plan.alternatives:
        terms = {k: e.time.get(k, 0.0) - plan.best.time.get(k, 0.0) for k in {**e.time, **plan.best.time}}
        slower = _f(e.results["step_time_s"]) / base - 1
        sign, mark = (1.0, "+") if slower >= 0 else (-1.0, "-")
        most = sorted(terms, key=lambda k: -sign * terms[k])[:3]
        why = ", ".join(f"{k} {mark}{format_quantity(abs(terms[k]), 's')}" for k in most
                        if sign * terms[k] > 0.002 * base)  # fmt: skip
        rows.append({"layout": layout_text(e), "step_time_s": e.results["step_time_s"], "slower": slower, "why": why})
    return rows


def plan_columns(rows: Sequence[Estimate]) -> list[str]:
    """Columns a reader of the table wants: layout keys that differ from 1 somewhere, then the results."""
    if not rows:
        return []
    moving = [k for k in LAYOUT if k in rows[0].inputs and len({str(e.inputs.get(k)) for e in rows}) > 1]
    always = [k for k in ("dp", "tp", "pp") if k not in moving and k in rows[0].inputs]
    changes = [k for k in ("model", "compute_dtype", "weight_dtype", "kv_dtype", "sparsity", "compression", "optimizer")
               if len({str(e.inputs.get(k)) for e in rows}) > 1]  # fmt: skip
    shown = ["step_time_s", "interval_s", "tokens_per_s", "memory_peak_bytes", "fits", "mfu", "usd_per_million_tokens",
             "bound"]  # fmt: skip
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
    what = "nothing fits" if plan.miss is not None else "no layout can be"
    text = f"{what}: of {plan.considered:,} layouts, {tally}"
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
    """The best plan on each kind of hardware, a row each; ``error`` says why there is none, ``alike`` which others it
    cannot be told apart from."""
    overlapping = alike(compared)
    rows = [_compared_row(c) | {"alike": ", ".join(overlapping.get(c.hardware, ()))} for c in compared]
    return with_interval(rows)


def _compared_row(c: Compared) -> dict[str, Any]:
    empty = dict.fromkeys(FIXED)
    if c.plan is None:
        return {**empty, "id": c.hardware, "hardware": c.hardware, "error": str(c.fault)}
    best = c.plan.best
    if best is None:
        return {**empty, "id": c.hardware, "hardware": c.hardware, "error": infeasible(c.plan)}
    return {"id": c.hardware, **c.plan.answers()[0], "layout": layout_text(best)}


def price_notes(compared: Sequence[Compared]) -> list[str]:
    """Whose price each kind of hardware carries, and how old it is."""
    rows = [(c.hardware, c.plan.best) for c in compared if c.plan is not None and c.plan.best is not None]
    return [f"{name}: {_price(best)}" for name, best in rows]


def _price(e: Estimate) -> str:
    if e.price is None:
        return f"no {e.inputs.get('price_kind') or 'on-demand'} price is listed; give --price"
    return f"{e.price.observation.usd_per_hour:.2f} USD/h a device, {e.price.basis}"


def compared_notes(compared: Sequence[Compared]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """What was assumed for all kinds of hardware, and for each of them besides; prices are told apart."""
    noted = {c.hardware: [n for n in c.plan.assumed if not n.startswith("price ")] for c in compared if c.plan}
    shared = [n for n in next(iter(noted.values()), []) if all(n in notes for notes in noted.values())]
    return shared, [(name, own) for name, notes in noted.items() if (own := [n for n in notes if n not in shared])]


def estimate_json(e: Estimate, given: Mapping[str, Any] | Sequence[tuple[str, Any]] = ()) -> dict[str, Any]:
    """One estimate as an object: the fixed columns, names as ``given``, and the ledgers."""
    return {**e.answer(given), "time": e.time, "memory": e.memory, "assumed": list(e.assumed)}


def plan_json(plan: Plan) -> dict[str, Any]:
    """A plan as an object with best, rows, refused, assumed."""
    return {
        "best": estimate_json(plan.best) if plan.best else None,
        "rows": plan.answers(),
        "refused": plan.refused,
        "assumed": list(plan.assumed),
        "considered": plan.considered,
        "fitting": plan.fitting,
        "choices": choice_rows(plan.choices),
        "alternatives": alternative_rows(plan),
        "nearest_miss": estimate_json(plan.miss) if plan.miss else None,
        "remedies": plan.remedies,
    }
