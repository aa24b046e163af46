"""Everything in the repository that is made from the code, made by one command.

``python docs/generate.py`` writes what is stale; ``--check`` writes nothing, names it and exits with 1. Names limit
either to some parts: ``chips``, ``intervals``, ``accuracy``, ``samples``, ``keys``, ``columns``, ``reference``,
``gallery``. In a text a part stands between ``<!-- NAME:start -->`` and ``<!-- NAME:end -->``. Numbers count as the
same up to one in the last place that is printed, and lines of a drawing up to a twentieth of a point: processors differ
in the last bit of a sum. Where another release of matplotlib drew the gallery, its words and figures are compared and
its lines are not.

The gallery is kept as SVG. Its PNGs are drawn beside them and left out of the repository, because their bytes change
with every release of the drawing library and nobody can read what changed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import runpy
import shlex
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from planner.catalogue.intervals import read_again
from planner.cli import run
from planner.planning.columns import BESIDE, LAST, RESULT_COLUMNS
from planner.present.validation import chips_yaml, interval_yaml, readme_section
from planner.scenario.keys import KEYS, TASKS, Key
from planner.validation.deployments import Deployed, deployments
from planner.validation.published import (
    Compared,
    cases,
    compare_all,
    compare_inference,
    compare_memory,
    inference_cases,
)

ROOT = Path(__file__).resolve().parents[1]
README, GLOSSARY, ACCURACY = ROOT / "README.md", ROOT / "docs" / "glossary.md", ROOT / "docs" / "accuracy.md"
REFERENCE = ROOT / "tests" / "data" / "reference_table.json"
CHIPS = ROOT / "planner" / "validation" / "chips.yaml"
INTERVALS = ROOT / "planner" / "validation" / "intervals.yaml"
PLOTS, GALLERY = ROOT / "plots", ROOT / "plots" / "gallery"
WIDTH, ROWS = 120, 3  # of a text; rows of a table
MISS = "plan llama-3.1-70b l40s-48gb --devices 2 --task decode"  # in 16 bits it does not fit
NUMBER = re.compile(r"[-+]?(?:\d[\d,]*)(?:\.\d+)?(?:e[-+]?\d+)?")
DRAWN = 0.05  # [pt] by which a line of a drawing may move
NAMES = re.compile(r' (?:id|clip-path|xlink:href)="[^"]*"')  # hashes of what they name
METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
RELEASE = re.compile(r"Matplotlib v[\w.]+")
SHOWN = re.compile(r">([^<>]*)<")  # what stands between tags
Made = Iterator[tuple[Path, str]]


def between(text: str, name: str, made: str) -> str:
    """A text with what stands between the markers of ``name`` replaced."""
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"no {start} … {end}")
    return f"{before}{start}\n{made}\n{end}{after}"


@cache
def compared() -> tuple[list[Compared], list[Compared], list[Compared]]:
    """The published runs beside their predictions: training, inference, memory."""
    return compare_all(), compare_inference(), compare_memory()


@cache
def served() -> list[Deployed]:
    """Served deployments beside their predictions."""
    return deployments()


def intervals() -> Made:
    """The table that intervals are read from."""
    training, inference, peaks = compared()
    yield INTERVALS, interval_yaml([*training, *inference], peaks, served())


def chips() -> Made:
    """The chips that published runs are of."""
    yield CHIPS, chips_yaml([*cases(), *inference_cases()], served())


def accuracy() -> Made:
    """The tables of errors in the README."""
    yield README, between(README.read_text(encoding="utf-8"), "validation", readme_section(*compared(), served()))


@contextlib.contextmanager
def page(width: int) -> Iterator[None]:
    """Text as on a terminal of so many columns."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(width)
    try:
        yield
    finally:
        os.environ.pop("COLUMNS")
        os.environ |= {"COLUMNS": before} if before is not None else {}


def said(command: str) -> tuple[str, str]:
    """What a command of the planner writes to stdout and to stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), page(WIDTH):
        run(shlex.split(command))
    return out.getvalue(), err.getvalue()


def samples() -> Made:
    """What the README's first command answers, and a search in which nothing fits."""
    text = README.read_text(encoding="utf-8")
    first = text.splitlines()[1].split(".venv/bin/planner ")[1]
    for name, sample in (("sample", plan_sample(said(first)[0])), ("miss", wrapped(said(MISS)[1]))):
        text = between(text, name, f"```text\n{sample}\n```")
    yield README, text


def plan_sample(out: str) -> str:
    """The answer, and the first rows of the table."""
    answer, title, table = out.split("\n\n")[:3]
    lines = table.splitlines()
    rule = next(i for i, line in enumerate(lines) if line.startswith("─"))
    return "\n\n".join([answer, title, "\n".join([*lines[: rule + 1 + ROWS], "…"])])


def wrapped(text: str) -> str:
    """A sentence over lines."""
    return "\n".join(textwrap.wrap(text.strip(), WIDTH))


def keys() -> Made:
    """The table of scenario keys in the glossary."""
    rows = ["| key | meaning | values | of |", "| --- | --- | --- | --- |"]
    for k in KEYS.values():
        of = "every task" if set(k.tasks) == set(TASKS) else ", ".join(k.tasks)
        meaning = k.help.replace("|", "\\|") + ("; searched by `plan`" if k.searched else "")
        rows.append(f"| `{k.name}` | {meaning} | {values(k)} | {of} |")
    yield GLOSSARY, between(GLOSSARY.read_text(encoding="utf-8"), "keys", "\n".join(rows))


def values(key: Key) -> str:
    """What a key may be set to, in words."""
    if key.kind in ("choice", "format"):
        return ", ".join(f"`{c}`" for c in key.allowed)
    if key.kind == "quantity":
        return f"quantity [{key.unit}]"
    if key.kind in ("int", "float"):
        return f"{'whole number' if key.kind == 'int' else 'number'}, {key.least:g} to {key.most:,.0f}"
    return {"bool": "`true`, `false`"}.get(key.kind, "text")


def reference() -> Made:
    """The table of parameter counts against the reference implementation."""
    yield ACCURACY, between(ACCURACY.read_text(encoding="utf-8"), "reference", reference_table())


def reference_table() -> str:
    """Outcomes by kind of type and by form, as ``tests/reference/record.py`` left them."""
    kept = json.loads(REFERENCE.read_text(encoding="utf-8"))
    total = sum(sum(tally.values()) for tally in kept["forms"].values())
    heading = f"transformers {kept['transformers']}, torch {kept['torch']}, {kept['date']}: {total:,} comparisons."
    columns = ("exact", "refused", "both refuse", "answered alone", "wrong", "crashed")
    parts = [heading]
    for first, rows in (("types whose class is in both written forms", "kinds"), ("form", "forms")):
        parts += ["", f"| {first} | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
        for name, tally in kept[rows].items():
            parts.append(f"| {name} | {' | '.join(f'{tally.get(c, 0):,}' for c in columns)} |")
    return "\n".join(parts)


def columns() -> Made:
    """The table of result columns in the glossary."""
    rows = ["| column | definition | unit |", "| --- | --- | --- |"]
    rows += [
        f"| `{c.name}` | {c.meaning} | {c.unit} |" for c in (*BESIDE, *RESULT_COLUMNS[:-1], *LAST, RESULT_COLUMNS[-1])
    ]
    yield GLOSSARY, between(GLOSSARY.read_text(encoding="utf-8"), "columns", "\n".join(rows))


def gallery() -> Made:
    """The drawings of ``plots/plot_*.py``, drawn beside the gallery first."""
    sys.path.insert(0, str(PLOTS))
    import _gallery

    with tempfile.TemporaryDirectory() as folder:
        _gallery.GALLERY = Path(folder) / "plots" / "gallery"
        _gallery.GALLERY.mkdir(parents=True)
        for script in sorted(PLOTS.glob("plot_*.py")):
            with contextlib.redirect_stdout(io.StringIO()):
                runpy.run_path(str(script))
        for drawn in sorted(_gallery.GALLERY.glob("*.svg")):
            yield GALLERY / drawn.name, drawn.read_text(encoding="utf-8")


# In order: the samples are answered with the intervals.
PARTS: dict[str, Callable[[], Made]] = {
    "chips": chips, "intervals": intervals, "accuracy": accuracy, "samples": samples, "keys": keys,
    "columns": columns, "reference": reference, "gallery": gallery,
}  # fmt: skip


def same_text(one: str, other: str) -> bool:
    """Whether two texts say the same: words equal, numbers but for one in the last place, whole ones but for 1e-4."""
    return one == other or _same(one, other, _last_place)


def same_drawing(one: str, other: str) -> bool:
    """Whether two SVGs show the same: words as texts do, lines up to :data:`DRAWN` where one release drew both."""
    if one == other:
        return True
    if not same_text(*(" | ".join(SHOWN.findall(METADATA.sub("", t))) for t in (one, other))):
        return False
    if RELEASE.findall(one) != RELEASE.findall(other):
        return True
    return _same(*(SHOWN.sub("><", NAMES.sub("", METADATA.sub("", t))) for t in (one, other)), _drawn)


def _same(one: str, other: str, near: Callable[[str, str], bool]) -> bool:
    if NUMBER.sub("#", one).split() != NUMBER.sub("#", other).split():
        return False
    pairs = zip(NUMBER.findall(one), NUMBER.findall(other), strict=True)
    return all(a == b or near(a, b) for a, b in pairs)


def _last_place(one: str, other: str) -> bool:
    a, b = (float(n.replace(",", "")) for n in (one, other))
    decimals = min(len(n.partition(".")[2]) for n in (one, other))
    return abs(a - b) <= (1.001 * 10.0**-decimals if decimals else 1e-4 * max(abs(a), abs(b)))


def _drawn(one: str, other: str) -> bool:
    return abs(float(one.replace(",", "")) - float(other.replace(",", ""))) <= DRAWN


def stale(names: list[str], *, write: bool) -> list[str]:
    """Files that differ from what the code makes, with the part that made them; ``write`` replaces them."""
    found = []
    for name in names:
        for path, made in PARTS[name]():
            there = path.read_text(encoding="utf-8") if path.is_file() else ""
            if (same_drawing if path.suffix == ".svg" else same_text)(there, made):
                continue
            found.append(f"{path.relative_to(ROOT)} ({name})")
            if write:
                path.parent.mkdir(exist_ok=True)
                path.write_text(made, encoding="utf-8")
                read_again()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where something is stale")
    args = parser.parse_args()
    if wrong := set(args.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(wrong))}; there are {', '.join(PARTS)}")
    found = stale(args.parts or list(PARTS), write=not args.check)
    for line in found:
        print(f"{'stale' if args.check else 'written'}: {line}")
    return int(args.check and bool(found))


if __name__ == "__main__":
    sys.exit(main())
