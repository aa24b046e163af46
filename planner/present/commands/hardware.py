"""``planner hardware``: accelerators and systems, and every figure of one with its source."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from planner.present.console import listed, looks, prose, put
from planner.present.flags import HARDWARE_HELP, Parser, answer_flags

CHIPS = ("id", "memory_bytes", "bandwidth", "bf16_flops", "fp8_flops", "link", "power", "year", "vendor", "fp16_flops",
         "default_system", "name")  # fmt: skip
SYSTEMS = ("id", "accelerator", "devices_per_node", "scale_up_domain", "scale_up_bandwidth", "scale_out_bandwidth",
           "scale_up", "scale_out", "name")  # fmt: skip
FIGURES = ("figure", "value", "basis", "source")
EXAMPLES = ("planner hardware", "planner hardware --systems", "planner hardware h100-sxm5-80gb")


def flags(parser: Parser) -> None:
    """What the verb takes."""
    parser.add_argument("id", nargs="?", metavar="HARDWARE", help=HARDWARE_HELP)
    parser.add_argument("--systems", action="store_true", help="list systems instead of accelerators")
    answer_flags(parser)


def hardware(args: Namespace) -> None:
    """List accelerators or systems, or show every figure of one with its source."""
    from planner.present import catalogue
    from planner.present.output import put_list, text_format

    if args.id is not None:
        fmt = text_format(args.fmt, args.output)
        put(_shown(args.id, fmt, args.hardware_dir, args.safe_csv), args.output)
    elif args.systems:
        put_list(catalogue.system_rows(args.hardware_dir), args.fmt, args.output, SYSTEMS, safe=args.safe_csv)
    else:
        put_list(catalogue.accelerator_rows(args.hardware_dir), args.fmt, args.output, CHIPS, safe=args.safe_csv)


def _shown(id: str, fmt: str, dirs: Sequence[str], safe: bool) -> str:
    from planner.catalogue.loader import load_accelerator, resolve_hardware
    from planner.present import catalogue
    from planner.present.tables import render, to_csv, to_json

    chip, system = resolve_hardware(id, dirs or None)
    chip = load_accelerator(chip.id, dirs or None)
    figures, joined = catalogue.figure_rows(chip), catalogue.system_figure_rows(system)
    used = catalogue.efficiency_rows(chip, dirs)
    if fmt == "json":
        return to_json([{"id": chip.id, "name": chip.name, "aliases": chip.aliases, "device_is": chip.device_is,
                         "figures": figures, "efficiencies": used, "conflicts": chip.conflicts,
                         "system": {"id": system.id, "name": system.name, "figures": joined}}])  # fmt: skip
    if fmt == "csv":
        rows = [{"of": chip.id, **r} for r in (*figures, *used)] + [{"of": system.id, **r} for r in joined]
        return to_csv(rows, safe=safe)
    head = f"{chip.name} ({chip.id}): a device is a {chip.device_is}; system {system.id} ({system.name})."
    parts = [prose(head), render(figures, fmt, FIGURES, **looks(fmt)),
             render(used, fmt, FIGURES, **looks(fmt, "Efficiencies in use")),
             render(joined, fmt, FIGURES, **looks(fmt, system.id)) if joined else "",
             "\n".join(listed("Other values seen:", chip.conflicts))]  # fmt: skip
    return "\n\n".join(p for p in parts if p)
