"""Files of scenarios in every dress: read right, or refused with the line; rows never shift, merge or vanish."""

from __future__ import annotations

import csv
import io
import json
import random
import re
from pathlib import Path

from judge import ANSWERED, REFUSED, fault

from planner.errors import PlannerError
from planner.present.scenario_file import read_scenarios
from planner.scenario.keys import UNREADABLE

TEXTS = (
    "plain", "two\nlines", "car\r\nriage", "old\rmac", "a\u2028b", "a\u2029b", "a\x0bb", "a\x0cb", "a\x1cb", "a\x85b",
    'say "so"', "a,b", "a;b", "a\tb", "", "  padded  ", "'", "=1+1", "naïve", "日本", "\ufeffmark", "null", "1e5", "no",
)  # fmt: skip
SPOILS = ("none", "none", "none", "short", "long", "twice", "unclosed", "nul")


def trial(draw: random.Random, folder: Path) -> str:
    """A table written one way, perhaps spoiled one way, and read."""
    rows = [{"id": str(i), "model": "gpt2", "hardware": "t4-16gb", "devices": str(draw.randint(1, 8)),
             "note": draw.choice(TEXTS)} for i in range(draw.randint(1, 6))]  # fmt: skip
    columns = list(rows[0])
    draw.shuffle(columns)
    kind = draw.choice(("csv", "csv", "csv", "json", "yaml"))
    return _csv(rows, columns, draw, folder) if kind == "csv" else _tree(rows, kind, draw, folder)


def _csv(rows: list[dict[str, str]], columns: list[str], draw: random.Random, folder: Path) -> str:
    delimiter, end = draw.choice(",,;\t"), draw.choice(("\n", "\r\n"))
    cells = [columns, *([r[c] for c in columns] for r in rows)]
    spoil, at = draw.choice(SPOILS), draw.randrange(1, len(cells))
    if spoil == "short":
        cells[at] = cells[at][:-1]
    elif spoil == "long":
        cells[at] = [*cells[at], "more"]
    elif spoil == "twice":
        cells[0] = [*columns, draw.choice(columns)]
        cells[1:] = [[*c, "9"] for c in cells[1:]]
    out = io.StringIO()
    returns = any("\r" in cell for row in cells for cell in row)  # which Python's own writer leaves unquoted at times
    quoting = draw.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)) if not returns else csv.QUOTE_ALL
    csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(cells)
    text = out.getvalue()
    if spoil == "unclosed":
        text = text.rstrip("\r\n") + f'{end}x{delimiter}"never closed{delimiter}2{end}'
    elif spoil == "nul":
        text = text.replace("gpt2", "gpt\x002", 1)
    path = folder / "in.csv"
    path.write_bytes(("\ufeff" * draw.choice((0, 1)) + text).encode())
    return _compared(path, rows, spoil, at - 1)


def _compared(path: Path, rows: list[dict[str, str]], spoil: str, at: int) -> str:
    try:
        found = [dict(r) for r in read_scenarios(str(path))]
    except PlannerError as error:
        if spoil == "none":
            return fault("refused what is right", error)
        return REFUSED if re.search(r":\d+: ", str(error)) else fault("refused without a line", error)
    except Exception as error:
        return fault(f"reading raised {type(error).__name__}", error)
    if spoil in ("twice", "unclosed"):
        return fault(f"read a file that is {spoil}", found)
    if len(found) != len(rows):
        return fault("rows lost or made", (len(rows), len(found)))
    for i, (got, due) in enumerate(zip(found, rows, strict=True)):
        marked = UNREADABLE in got
        if spoil in ("short", "long") and i == at:
            if not marked:
                return fault(f"a {spoil} row passed", got)
        elif spoil == "nul" and i == 0:
            continue
        elif marked or {k: str(got.get(k) or "").strip() for k in due} != {k: v.strip() for k, v in due.items()}:
            return fault("a row was changed", (got, due))
    return ANSWERED


def _tree(rows: list[dict[str, str]], kind: str, draw: random.Random, folder: Path) -> str:
    """JSON, or YAML in flow style, which JSON is; a key given twice with another value must be refused."""
    twice = draw.random() < 0.4
    texts = [json.dumps(r, ensure_ascii=draw.random() < 0.5) for r in rows]
    if twice:
        i = draw.randrange(len(texts))
        texts[i] = texts[i][:-1] + ', "devices": "9"}'
    if kind == "yaml":
        texts = ["- " + json.dumps(r) if not twice else "- " + t for r, t in zip(rows, texts, strict=True)]
    text = "\n".join(texts) if kind == "yaml" else "[" + ",\n".join(texts) + "]"
    path = folder / f"in.{kind}"
    path.write_text(text, encoding="utf-8")
    try:
        found = [dict(r) for r in read_scenarios(str(path))]
    except PlannerError as error:
        if not twice:
            return fault("refused what is right", error)
        return REFUSED if re.search(r":\d+: ", str(error)) else fault("refused without a line", error)
    except Exception as error:
        return fault(f"reading raised {type(error).__name__}", error)
    if twice:
        return fault("read a key given twice", text)
    return ANSWERED if found == rows else fault("rows changed", (found, rows))
