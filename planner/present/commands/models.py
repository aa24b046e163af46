"""``planner models``: the catalogue of models, and one with its published size beside the count."""

from __future__ import annotations

from argparse import Namespace

from planner.present.console import looks, prose, put
from planner.present.flags import Parser, answer_flags

SHOWN = ("id", "parameters", "active", "layers", "hidden", "weight_dtype", "family", "published")
SUPPORTED = ("id", "exact", "refused", "reference", "checked")
EXAMPLES = ("planner models", "planner models llama-3.1-8b", "planner models --supported")


def flags(parser: Parser) -> None:
    """What the verb takes."""
    parser.add_argument("id", nargs="?", metavar="MODEL", help="model id")
    parser.add_argument("--supported", action="store_true", help="list model types and their classes instead")
    answer_flags(parser, dirs=False)


def models(args: Namespace) -> None:
    """List the models, or show one with its published size beside the count."""
    from planner.present.output import put_list, text_format

    if args.id is not None:
        put(_shown(args.id, text_format(args.fmt, args.output), args.safe_csv), args.output)
    elif args.supported:
        from planner.catalogue.families.checked import supported_rows

        put_list(supported_rows(), args.fmt, args.output, SUPPORTED, safe=args.safe_csv)
    else:
        from planner.present.catalogue import model_rows

        put_list(model_rows(), args.fmt, args.output, SHOWN, safe=args.safe_csv)


def _shown(id: str, fmt: str, safe: bool) -> str:
    from planner.catalogue.models import load_model
    from planner.present.catalogue import model_row
    from planner.present.tables import render

    m = load_model(id)
    row = model_row(m)
    if fmt in ("json", "csv"):
        return render([row | {"assumed": list(m.assumed), "notes": list(m.notes)}], fmt, safe=safe, **looks(fmt))
    ours, published = row["parameters"], row["published"]
    lines = [f"{m.name}: {ours:,} parameters, {row['active']:,} active a token."]
    if published:
        lines.append(f"Published: {published:,.0f} ({(ours - published) / published:+.2%}).")
    lines += [f"Source: {m.source}"] + [f"Assumed: {a}" for a in m.assumed] + [f"Note: {n}" for n in m.notes]
    return "\n".join(prose(line) for line in lines)
