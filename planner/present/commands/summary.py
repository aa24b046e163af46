"""``planner summary``: the layer table of a model. No hardware in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from planner.present.console import Format, ModelArgument, looks, put

SUMMED = ("parameters", "forward_flops", "weight_bytes", "activation_bytes", "saved_activation_bytes",
          "kv_cache_bytes_per_token")  # fmt: skip
STORED_HELP = "how the weights are stored: q4_k_m, awq, fp8 …"
SHOWN = ("name", "count", "parameters_per_layer", *SUMMED, "arithmetic_intensity")


def summary(
    model: ModelArgument,
    batch: Annotated[int, typer.Option("--batch", min=1, max=10**6)] = 1,
    seq_len: Annotated[int | None, typer.Option("--seq-len", min=1, max=10**8)] = None,
    quantization: Annotated[str | None, typer.Option("--quantization", help=STORED_HELP)] = None,
    class_name: Annotated[str | None, typer.Option("--class", help="architecture class to count")] = None,
    fmt: Format = "table",
) -> None:
    """Layer table of a model: parameters, FLOPs, bytes and activation memory. No hardware in it."""
    from planner.demand.counts import summary as summarise
    from planner.present.tables import render, to_csv, to_json
    from planner.scenario.stored import stored_model

    m = stored_model(model, quantization, class_name)
    length = seq_len or m.text.tokens or min(m.max_positions or 2048, 2048)
    data = summarise(m, batch=batch, seq_len=length)
    rows = data["layers"]
    if fmt in ("json", "csv"):
        put(to_json({"class": m.class_name or None, **data}) if fmt == "json" else to_csv(rows))
        return
    p, f = data["parameters"], data["forward_flops"]
    total = {"name": "total", "count": "", **{k: sum(r.get(k) or 0 for r in rows) for k in SUMMED}}
    counted = f", counted as {m.class_name}" if m.class_name else ""
    head = (f"{m.name}{counted}: {p['total']:,} parameters ({p['active']:,} active); one forward pass of {batch} x "
            f"{length} tokens is {f['total'] / 1e9:,.2f} GFLOP, {f['causal_total'] / 1e9:,.2f} with causal attention "
            "halved.")  # fmt: skip
    notes = [f"Assumed: {a}" for a in m.assumed]
    table = render([*rows, total], fmt, SHOWN, **looks(fmt))
    put("\n".join([head, _weights(data["weight_bytes"], p["total"]), "", table, *notes]))


def _weights(by_precision: Mapping[str, float], parameters: int) -> str:
    """Bytes of the weights and what part of them each precision holds, in a sentence."""
    from planner.units import format_gib

    total = sum(by_precision.values())
    parts = ", ".join(f"{name} {format_gib(size)}" for name, size in by_precision.items())
    return f"Weights as stored: {format_gib(total)}, {8 * total / parameters:.2f} bits a parameter ({parts})."
