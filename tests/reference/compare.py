"""Hold the planner to what ``collect.py`` wrote: exact, refused, wrong or crashed, by kind and by form.

``python tests/reference/compare.py FOLDER [--show wrong,crashed] [TYPE ...]`` needs the planner alone.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from planner.catalogue.huggingface import model_from_config, supported_types
from planner.demand.counts import parameter_counts
from planner.errors import BadInputError

MISSING = "<missing>"
OUTCOMES = ("exact", "refused", "both refuse", "wrong", "crashed", "answered alone")


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of one type with the whole configuration in each, ``architectures`` included."""
    base: dict[str, Any] = {}
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        row = json.loads(line)
        if "base" in row:
            base = row
            continue
        if "path" in row:
            values = copy.deepcopy(base["base"])
            parent = values
            for key in row["path"][:-1]:
                parent = parent[key]
            if row["value"] == MISSING:
                del parent[row["path"][-1]]
            else:
                parent[row["path"][-1]] = row["value"]
            row = {**row, "type": base["type"], "class": base["class"], "form": "mutated", "of": base.get("of"),
                   "config": values}  # fmt: skip
        row["config"] = {**row["config"], "architectures": [row["class"]]}
        yield row


def outcome(row: dict[str, Any]) -> tuple[str, str]:
    """What the planner makes of a row, and why or how far off."""
    expected = row["count"]
    try:
        p = parameter_counts(model_from_config(row["config"], id="x", where="x"))
    except BadInputError as error:
        return ("both refuse" if isinstance(expected, str) else "refused"), str(error)
    except Exception as error:  # what must never happen
        return "crashed", f"{type(error).__name__}: {error}"
    ours = [p["total"], p["active"]]
    if isinstance(expected, str):
        return "answered alone", f"{ours} where the reference says {expected}"
    return ("exact" if ours == expected else "wrong"), f"{ours} for {expected}"


def form_of(row: dict[str, Any]) -> str:
    """The form of a row, classes other than that of the type's usual task apart."""
    return str(row["form"]) if row.get("main", True) else f"{row['form']}, other classes"


def label(row: dict[str, Any]) -> str:
    """One line that names a row."""
    change = f" {'.'.join(map(str, row['path']))} = {row['value']!r:.60}" if "path" in row else ""
    return f"{row['type']} {row['class']} {row['form']}{change}"


def kinds(folder: Path) -> dict[str, Counter[str]]:
    """Types of each kind by how the class of that kind fares in its default and in its saved form."""
    found = {}
    for kind, types in json.loads((folder / "kinds.json").read_text()).items():
        found[kind] = Counter(_of_kind(folder, model_type, name) for model_type, name in types.items())
    return found


def _of_kind(folder: Path, model_type: str, class_name: str) -> str:
    path = folder / f"{model_type}.jsonl.gz"
    results = {
        outcome(row)[0]
        for row in (rows(path) if path.exists() and model_type in supported_types() else ())
        if row["class"] == class_name and row["form"] in ("default", "saved")
    }
    worst = next((o for o in ("crashed", "wrong", "refused", "both refuse", "answered alone") if o in results), "")
    return worst or ("exact" if results else "refused")


def print_kinds(folder: Path) -> None:
    """The table by kind: types whose class is exact in both written forms, and the others."""
    print(f"\n{'kind':14}" + "".join(f"{o:>16}" for o in ("types", *OUTCOMES)))
    for kind, tally in kinds(folder).items():
        print(f"{kind:14}{sum(tally.values()):16}" + "".join(f"{tally[o]:16}" for o in OUTCOMES))


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--show", default="wrong,crashed")
    parser.add_argument("--out", type=Path, help="outcomes of every row, as JSON lines")
    given = parser.parse_args()
    show = given.show.split(",")
    table: Counter[tuple[str, str]] = Counter()
    by_type: dict[str, Counter[str]] = {}
    written = []
    for path in sorted(given.folder.glob("*.jsonl.gz")):
        model_type = path.name.removesuffix(".jsonl.gz")
        if given.types and model_type not in given.types:
            continue
        mine = by_type.setdefault(model_type, Counter())
        for row in rows(path):
            result, why = outcome(row)
            table[form_of(row), result] += 1
            mine[result] += 1
            if result in show:
                print(f"{result}: {label(row)}: {why:.200}")
            written.append({"type": model_type, "class": row["class"], "form": row["form"], "outcome": result,
                            "main": row.get("main", False)})  # fmt: skip
    print_kinds(given.folder)
    if given.out:
        given.out.write_text("\n".join(json.dumps(w) for w in written))
    print(f"\n{'form':34}" + "".join(f"{o:>16}" for o in OUTCOMES))
    for form in dict.fromkeys(f for f, _ in table):
        print(f"{form:34}" + "".join(f"{table[form, o]:16}" for o in OUTCOMES))
    print(f"{'all':34}" + "".join(f"{sum(v for (_, r), v in table.items() if r == o):16}" for o in OUTCOMES))


if __name__ == "__main__":
    main()
