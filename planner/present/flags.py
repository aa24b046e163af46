"""Flags of the verbs: a parser that explains itself and refuses in one line, and a flag for every scenario key.

``argparse``, because it starts fastest of what is conventional: importing it takes 10 ms, click 35, typer 110.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from planner.errors import BadInputError, nearest, unknown
from planner.present.tables import FORMATS

MODEL_HELP, HARDWARE_HELP = "model id, config.json or YAML", "system or accelerator id"
DIR_HELP = "folder of your own hardware profiles; may be given again"
FORMAT_HELP = f"{', '.join(FORMATS)} (default: by the end of -o, else table)"
SAFE_HELP = "in CSV, an apostrophe before text that a spreadsheet would run as a formula"
OUTPUT_HELP = "write here, as .csv, .json, .md or .parquet say; - is stdout"

# Scenario keys by what they are about, in the order of the help; a key that is in none comes last.
GROUPS = {
    "workload": ("task", "seq_len", "encoder_len", "input_len", "output_len", "batch", "concurrency", "global_batch"),
    "layout": ("devices", "dp", "tp", "pp", "cp", "ep", "etp", "vpp", "micro_batch", "zero_stage", "sequence_parallel",
               "recompute", "recompute_modules", "schedule", "offload", "context_exchange", "headroom"),
    "formats": ("compute_dtype", "weight_dtype", "quantization", "activation_dtype", "kv_dtype", "grad_dtype",
                "sparsity", "compression"),
    "training": ("optimizer", "lora_rank", "attention", "loss", "framework", "compiled", "overlap_dp", "overlap_tp",
                 "overlap_ep", "imbalance"),
    "serving": ("engine", "memory_fraction", "token_budget", "max_num_seqs", "max_model_len", "latent_cache"),
    "in place of the hardware's figures": ("network_bandwidth", "network_latency", "oversubscription", "domain",
                                           "memory_capacity", "price", "price_kind"),
}  # fmt: skip
METAVARS = {"int": "N", "float": "X", "bool": "BOOL", "quantity": "QUANTITY", "choice": "NAME", "format": "NAME",
            "text": "TEXT"}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """A parser of one verb; what it cannot read is a :class:`BadInputError` with the nearest flags."""

    def __init__(self, verb: str, text: str, examples: Sequence[str] = ()) -> None:
        from inspect import cleandoc

        said = "examples:\n" + "\n".join(f"  {e}" for e in examples)
        super().__init__(
            prog=f"planner {verb}", description=cleandoc(text), epilog=said if examples else None, allow_abbrev=False,
            formatter_class=_Help,
        )  # fmt: skip

    def error(self, message: str) -> NoReturn:
        wrong, _, rest = message.partition("unrecognized arguments: ")
        text = message
        if rest and not wrong:
            name = rest.split()[0].split("=")[0]
            close = nearest(name, [o for o in self._option_string_actions if o.startswith("--")])
            text = f"no such {'flag' if name.startswith('-') else 'argument'}: {rest}"
            text += f"; nearest: {', '.join(close)}" if close and name.startswith("-") else ""
        said, due, missing = text.partition("the following arguments are required: ")
        text = f"missing: {missing.lower()}" if due else said
        raise BadInputError(f"{text}; see: {self.prog} --help")


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal, up to what is easily read."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=min(shutil.get_terminal_size((100, 24)).columns, 110))


def count(least: int, most: int) -> Callable[[str], int]:
    """A reader of whole numbers between two, for ``type=`` of a flag."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{number} is outside {least:,} … {most:,}")
        return number

    return read


def _format(text: str) -> str:
    if text not in FORMATS:
        raise argparse.ArgumentTypeError(str(unknown("format", text, FORMATS)))
    return text


def answer_flags(parser: Parser, *, output: bool = True, dirs: bool = True) -> None:
    """The flags that say where an answer goes and how it looks."""
    group = parser.add_argument_group("answer")
    group.add_argument("--format", dest="fmt", type=_format, metavar="NAME", help=FORMAT_HELP)
    group.add_argument("--safe-csv", action="store_true", help=SAFE_HELP)
    if output:
        group.add_argument("-o", "--output", metavar="FILE", help=OUTPUT_HELP)
    if dirs:
        group.add_argument("--hardware-dir", action="append", default=[], metavar="FOLDER", help=DIR_HELP)


def names(parser: Parser, *, optional: bool = False) -> None:
    """The two names that a scenario begins with."""
    parser.add_argument("model", metavar="MODEL", nargs="?" if optional else None, help=MODEL_HELP)
    parser.add_argument("hardware", metavar="HARDWARE", nargs="?" if optional else None, help=HARDWARE_HELP)
    parser.usage = f"%(prog)s {'[MODEL HARDWARE]' if optional else 'MODEL HARDWARE'} [--KEY VALUE ...]"


def scenario_flags(parser: Parser, *, searched: bool = False) -> None:
    """A flag for every scenario key but the model and the hardware, in groups; a search (``searched``) has no default
    for the number of devices."""
    from planner.scenario.keys import KEYS

    grouped = {k for keys in GROUPS.values() for k in keys}
    rest = tuple(k for k in KEYS if k not in grouped and k not in ("model", "hardware"))
    for title, keys in {**GROUPS, "more": rest}.items():
        group = parser.add_argument_group(title)
        for key in (KEYS[k] for k in keys if k in KEYS):
            due = searched and key.name == "devices"
            default = " (required, unless dp is given)" if due else f" (default: {key.default})" if key.default else ""
            told = len(key.choices) > 12 or all(c in key.help for c in key.choices)
            one_of = "" if told else f": {', '.join(key.choices)}"
            text = f"{key.help}{one_of}{default}".replace("%", "%%")
            flag = f"--{key.name.replace('_', '-')}"
            group.add_argument(flag, dest=key.name, metavar=METAVARS.get(key.kind, "VALUE"), help=text)


def scenario_of(args: argparse.Namespace) -> dict[str, Any]:
    """The scenario keys that were given."""
    from planner.scenario.keys import KEYS

    return {k: v for k in KEYS if (v := getattr(args, k, None)) is not None}
