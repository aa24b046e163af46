"""Write what the planner is held to from here on: truth rows for the tests, and which classes are exact.

``python tests/reference/record.py FOLDER`` reads what ``collect.py`` wrote. Every class, form and tie is kept, and one
in :data:`SHARE` of the mutations. A row says what the planner does today: ``exact`` (and must stay) or ``refused``.
What all rows came to goes into ``reference_table.json``, from which ``docs/generate.py reference`` writes the table.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
import zlib
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path
from typing import Any

from compare import form_of, kinds, outcome, rows

from planner.catalogue.huggingface import supported_types

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
SHARE = 12
KEPT = {"exact": "exact", "refused": "refused", "both refuse": "refused"}


def truth(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, str]], dict[str, Counter[str]]]:
    """Rows for the tests, grouped by configuration, a row a class for ``checked.csv``, and outcomes by form."""
    grouped: dict[str, dict[str, Any]] = {}
    classes: dict[tuple[str, str], set[str]] = defaultdict(set)
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    known = set(supported_types())
    for path in sorted(folder.glob("*.jsonl.gz")):
        model_type = path.name.removesuffix(".jsonl.gz")
        for row in rows(path):
            if row["config"].get("model_type") != model_type:  # a second name of a type: GPT-SW3 writes gpt2
                continue
            result = outcome(row)[0]
            forms[form_of(row)][result] += 1
            if model_type not in known:
                continue
            if row["form"] in ("default", "saved"):
                classes[model_type, row["class"]].add(result)
            name = json.dumps([row["type"], row["form"], row.get("path"), row.get("value")])
            if result not in KEPT or (row["form"] == "mutated" and zlib.crc32(name.encode()) % SHARE):
                continue
            config = {k: v for k, v in row["config"].items() if k != "architectures"}
            key = json.dumps([form_of(row), config])
            group = grouped.setdefault(key, {"form": form_of(row), "config": config, "counts": {}})
            group["counts"][row["class"]] = row["count"] if KEPT[result] == "exact" else "refused"
    checked = [
        {"model_type": t, "class": n, "outcome": "exact" if found == {"exact"} else "refused"}
        for (t, n), found in classes.items()
    ]
    return list(grouped.values()), checked, forms


def table(folder: Path, forms: dict[str, Counter[str]]) -> dict[str, Any]:
    """What the documentation shows: outcomes by kind of type and by form, and with what they were compared."""
    return {
        **json.loads((folder / "versions.json").read_text()),
        "date": date.today().isoformat(),
        "kinds": {kind: dict(tally) for kind, tally in kinds(folder).items()},
        "classes": json.loads((folder / "kinds.json").read_text()),
        "forms": {form: dict(tally) for form, tally in forms.items()},
    }


def main() -> None:
    """Write the files."""
    folder = Path(sys.argv[1])
    found, checked, forms = truth(folder)
    whole = table(folder, forms)
    (DATA / "reference_truth.jsonl.gz").write_bytes(
        gzip.compress("\n".join(json.dumps(g) for g in found).encode(), 9, mtime=0)
    )
    (DATA / "reference_table.json").write_text(json.dumps(whole, indent=1) + "\n")
    with (ROOT / "planner" / "catalogue" / "families" / "checked.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["model_type", "class", "outcome", "transformers", "date"], lineterminator="\n")
        writer.writeheader()
        said = {"transformers": whole["transformers"], "date": whole["date"]}
        writer.writerows([{**row, **said} for row in sorted(checked, key=lambda r: (r["model_type"], r["class"]))])
    print(sum(len(g["counts"]) for g in found), "truth rows,", len(checked), "classes")


if __name__ == "__main__":
    main()
