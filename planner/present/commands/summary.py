"""``planner summary``: the layer table of a model. No hardware in it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping

from planner.present.console import listed, looks, prose, put
from planner.present.flags import MODEL_HELP, Parser, answer_flags, count

SUMMED = ("parameters", "forward_flops", "weight_bytes", "activation_bytes", "saved_activation_bytes",
          "kv_cache_bytes_per_token")  # fmt: skip
SHOWN = ("name", "count", "parameters", "forward_flops", "weight_bytes", "saved_activation_bytes",
         "kv_cache_bytes_per_token", "activation_bytes", "arithmetic_intensity", "parameters_per_layer")  # fmt: skip
EXAMPLES = (
    "planner summary llama-3.1-8b --seq-len 4096",
    "planner summary transformer-base --seq-len 128 --format json",
)


def flags(parser: Parser) -> None:
    """What the verb takes."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--batch", type=count(1, 10**6), default=1, metavar="N", help="sequences (default: 1)")
    parser.add_argument("--seq-len", type=count(1, 10**8), metavar="N",
                        help="tokens of one (default: 2048, or all positions where those are fewer)")  # fmt: skip
    parser.add_argument("--quantization", metavar="TEXT", help="how the weights are stored: q4_k_m, awq, fp8 …")
    parser.add_argument("--class", dest="class_name", metavar="NAME", help="architecture class to count")
    answer_flags(parser, dirs=False)


def summary(args: Namespace) -> None:
    """Layer table of a model: parameters, FLOPs, bytes and activation memory. No hardware in it."""
    from planner.demand.counts import summary as summarise
    from planner.present.output import text_format
    from planner.present.tables import render, to_csv, to_json
    from planner.scenario.stored import stored_model
    from planner.units import format_quantity

    fmt = text_format(args.fmt, args.output)
    m = stored_model(args.model, args.quantization, args.class_name)
    length = args.seq_len or m.text.tokens or min(m.max_positions or 2048, 2048)
    data = summarise(m, batch=args.batch, seq_len=length)
    rows = data["layers"]
    if fmt in ("json", "csv"):
        text = to_json({"class": m.class_name or None, **data}) if fmt == "json" else to_csv(rows, safe=args.safe_csv)
        put(text, args.output)
        return
    p, f = data["parameters"], data["forward_flops"]
    total = {"name": "total", "count": None, **{k: sum(r.get(k) or 0 for r in rows) for k in SUMMED}}
    counted = f", counted as {m.class_name}" if m.class_name else ""
    whole, halved = (format_quantity(f[k], "FLOP", digits=4) for k in ("total", "causal_total"))
    head = (f"{m.name}{counted}: {p['total']:,} parameters ({p['active']:,} active); one forward pass of "
            f"{args.batch} x {length} tokens is {whole}, {halved} with causal attention halved.")  # fmt: skip
    table = render([*rows, total], fmt, SHOWN, **looks(fmt))
    put("\n".join([prose(head), prose(_weights(data["weight_bytes"], p["total"])), "", table,
                   *listed("Assumed:", m.assumed)]), args.output)  # fmt: skip


def _weights(by_precision: Mapping[str, float], parameters: int) -> str:
    """Bytes of the weights and what part of them each precision holds, in a sentence."""
    from planner.units import format_gib

    total = sum(by_precision.values())
    parts = ", ".join(f"{name} {format_gib(size)}" for name, size in by_precision.items())
    return f"Weights as stored: {format_gib(total)}, {8 * total / parameters:.2f} bits a parameter ({parts})."
