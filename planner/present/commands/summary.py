"""``planner summary``: the layer table of a model. No hardware in it."""

from __future__ import annotations

from typing import Annotated

import typer

from planner.present.console import Format, ModelArgument, looks, put

SUMMED = ("parameters", "forward_flops", "weight_bytes", "activation_bytes", "saved_activation_bytes",
          "kv_cache_bytes_per_token")  # fmt: skip
SHOWN = ("name", "count", "parameters_per_layer", *SUMMED, "arithmetic_intensity")


def summary(
    model: ModelArgument,
    batch: Annotated[int, typer.Option("--batch", min=1, max=10**6)] = 1,
    seq_len: Annotated[int | None, typer.Option("--seq-len", min=1, max=10**8)] = None,
    fmt: Format = "table",
) -> None:
    """Layer table of a model: parameters, FLOPs, bytes and activation memory. No hardware in it."""
    from planner.catalogue.models import load_model
    from planner.demand.counts import summary as summarise
    from planner.present.tables import render, to_csv, to_json

    m = load_model(model)
    length = seq_len or m.text.tokens or min(m.max_positions or 2048, 2048)
    data = summarise(m, batch=batch, seq_len=length)
    rows = data["layers"]
    if fmt in ("json", "csv"):
        put(to_json(data) if fmt == "json" else to_csv(rows))
        return
    p, f = data["parameters"], data["forward_flops"]
    total = {"name": "total", "count": "", **{k: sum(r.get(k) or 0 for r in rows) for k in SUMMED}}
    head = (f"{m.name}: {p['total']:,} parameters ({p['active']:,} active); one forward pass of {batch} x {length} "
            f"tokens is {f['total'] / 1e9:,.2f} GFLOP, {f['causal_total'] / 1e9:,.2f} with causal attention "
            "halved.")  # fmt: skip
    notes = [f"Assumed: {a}" for a in m.assumed]
    put("\n".join([head, "", render([*rows, total], fmt, SHOWN, **looks(fmt)), *notes]))
