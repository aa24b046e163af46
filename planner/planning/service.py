"""What a served deployment answers: latencies, throughput, use of cache and capacity, each with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.cost.deployments import Deployment, deployment
from planner.cost.layouts import Layouts
from planner.cost.runs import InferenceRun
from planner.cost.serving import QUANTILES
from planner.demand.counts import forward_flops
from planner.planning.uncertainty import Interval, figure_interval
from planner.scenario.resolve import Resolved

P95 = QUANTILES.index(0.95)


@dataclass(frozen=True)
class Service:
    """The answers of one layout as columns, its deployment, model FLOPs a request, intervals, and what must be said."""

    results: dict[str, object]
    deployment: Deployment
    request_flops: float
    tpot: Interval
    rate: Interval
    notes: tuple[str, ...]


def service(resolved: Resolved, x: Layouts, run: InferenceRun) -> Service:
    """Serve in one layout: ``x`` has one row."""
    found = deployment(resolved.demand, resolved.cluster, x, run)
    s, replicas = found.served, float(x.dp[0])
    spans = {name: figure_interval(resolved, run, name) for name in ("ttft", "tpot", "rate")}
    ttft, tpot, rate = float(s.ttft[0]), float(s.tpot[0]), float(found.output_rate[0])
    held = float(found.decode.serving.sequences[0]) * run.longest
    used = float(s.in_flight[0]) * (run.mean_context)
    results: dict[str, object] = {
        **_spanned("ttft", ttft, spans["ttft"]), "ttft_p95_s": _known(float(s.ttft_quantiles[0, P95])),
        **_spanned("tpot", tpot, spans["tpot"]), "tpot_p95_s": _known(float(s.tpot_quantiles[0, P95])),
        "request_time_s": _known(ttft + (run.output_len - 1) * tpot),
        "requests_per_s": float(s.rate[0]) * replicas, "requests_per_s_most": float(found.most_requests[0]),
        "output_tokens_per_s": rate,
        "output_tokens_per_s_low": rate * spans["rate"].low, "output_tokens_per_s_high": rate * spans["rate"].high,
        "tokens_per_s_per_user": 1.0 / tpot if np.isfinite(tpot) else None,
        "in_flight": float(s.in_flight[0]) * replicas, "utilisation": float(s.utilisation[0]),
        "kv_use": min(used / held, 1.0) if held > 0 else None,
    }  # fmt: skip
    notes = (*_words(found, x, run), *dict.fromkeys(i.basis for i in spans.values()))
    return Service(results, found, _request_flops(resolved, run), spans["tpot"], spans["rate"], notes)


def _spanned(name: str, value: float, span: Interval) -> dict[str, object]:
    return {f"{name}_s": _known(value), f"{name}_low_s": _known(value * span.low),
            f"{name}_high_s": _known(value * span.high)}  # fmt: skip


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _request_flops(resolved: Resolved, run: InferenceRun) -> float:
    """Model FLOPs of one request: its prompt, and a step for each token after the first."""
    model, middle = resolved.demand.model, run.mean_context
    read = forward_flops(model, seq_len=run.input_len, encoder_len=run.encoder_len, last_token=True)["model"]
    each = forward_flops(model, seq_len=1, encoder_len=run.encoder_len, context=middle)["model"]
    return float(read + (run.output_len - 1) * each)


def _words(found: Deployment, x: Layouts, run: InferenceRun) -> list[str]:
    """What the answer must say beside its figures: saturation, and clients that wait for a slot."""
    load, most = float(found.served.utilisation[0]), float(found.most_requests[0])
    if run.rate and load >= 1.0:
        return [f"saturated: {run.rate:g} requests/s arrive and at most {most:.3g} are served, so the queue grows "
                "without end"]  # fmt: skip
    slots, asked = float(found.served.in_flight[0]) * float(x.dp[0]), float(run.batch)
    if not run.rate and slots < asked:
        return [f"{slots:,.0f} of {asked:,.0f} requests are in flight at once, as the KV cache and max_num_seqs allow; "
                "the others wait"]  # fmt: skip
    return []
