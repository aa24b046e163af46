"""Write what the planner is held to from here on: truth rows for the tests, and which classes are exact.

``python tests/reference/record.py FOLDER`` reads what ``collect.py`` wrote. Every class, form and tie is kept, and one
in :data:`SHARE` of the mutations. A row says what the planner does today: ``exact`` (and must stay) or ``refused``.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
import zlib
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Any

from compare import outcome, rows

from planner.catalogue.huggingface import supported_types

ROOT = Path(__file__).parents[2]
SHARE = 12
KEPT = {"exact": "exact", "refused": "refused", "both refuse": "refused"}


def truth(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Rows for the tests, grouped by configuration, and a row a class for ``checked.csv``."""
    grouped: dict[str, dict[str, Any]] = {}
    classes: dict[tuple[str, str], set[str]] = defaultdict(set)
    for model_type in supported_types():
        path = folder / f"{model_type}.jsonl.gz"
        for row in rows(path) if path.exists() else ():
            result = outcome(row)[0]
            if row["form"] in ("default", "saved"):
                classes[model_type, row["class"]].add(result)
            name = json.dumps([row["type"], row["form"], row.get("path"), row.get("value")])
            if result not in KEPT or (row["form"] == "mutated" and zlib.crc32(name.encode()) % SHARE):
                continue
            config = {k: v for k, v in row["config"].items() if k != "architectures"}
            key = json.dumps(config)
            group = grouped.setdefault(key, {"form": row["form"], "config": config, "counts": {}})
            group["counts"][row["class"]] = row["count"] if KEPT[result] == "exact" else "refused"
    checked = [
        {"model_type": t, "class": n, "outcome": "exact" if found == {"exact"} else "refused"}
        for (t, n), found in classes.items()
    ]
    return list(grouped.values()), checked


def main() -> None:
    """Write both files."""
    folder = Path(sys.argv[1])
    version = json.loads((folder / "versions.json").read_text())["transformers"]
    found, checked = truth(folder)
    text = "\n".join(json.dumps(g) for g in found)
    target = ROOT / "tests" / "data" / "reference_truth.jsonl.gz"
    target.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    with (ROOT / "planner" / "catalogue" / "families" / "checked.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["model_type", "class", "outcome", "transformers", "date"], lineterminator="\n")
        writer.writeheader()
        writer.writerows([{**row, "transformers": version, "date": date.today().isoformat()} for row in checked])
    print(sum(len(g["counts"]) for g in found), "truth rows,", len(checked), "classes")


if __name__ == "__main__":
    main()
