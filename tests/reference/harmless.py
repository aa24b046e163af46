"""Write which fields no count depends on: every change of them, in every form tried, left the reference's count alone.

``python tests/reference/harmless.py FOLDER PATH`` reads what ``collect.py`` wrote, writes ``harmless.json``. A field
is listed with the type of the section it stands in; under ``*`` those of :data:`EVERYWHERE` that changed nothing in
:data:`ENOUGH` types and something in none, which holds for types whose mutations took too long to try all.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from compare import rows

from planner.catalogue.families.facts import facts_of

EVERYWHERE = re.compile(r"_token_id$|_eps(ilon)?$|^use_cache$|^initializer_range$")
ENOUGH = 20


def section_type(model_type: str, values: dict[str, Any], path: list[str]) -> str | None:
    """Type of the nested configuration that a path leads through."""
    for key in path:
        spec = facts_of(model_type).sections.get(key)
        values = values.get(key) or {}
        if spec is None:
            return None
        named = values.get("model_type") if not spec.get("fixed") else None
        model_type = named or spec["type"]
    return model_type


def main() -> None:
    """Gather the evidence of all types and write the fields that have some and none against."""
    folder, target = Path(sys.argv[1]), Path(sys.argv[2])
    same: dict[str, set[str]] = defaultdict(set)
    other: dict[str, set[str]] = defaultdict(set)
    for path in sorted(folder.glob("*.jsonl.gz")):
        base: dict[str, Any] = {}
        for row in rows(path):
            if row["form"].startswith("varied") and row.get("main"):
                base[row["form"]] = row["count"]
            if row["form"] != "mutated" or isinstance(row["count"], str):
                continue
            *sections, field = row["path"]
            owner = section_type(row["type"], row["config"], sections)
            if owner and facts_of(owner).knows(field):
                (same if row["count"] == base[row["of"] or "varied-1"] else other)[owner].add(field)
    found = {t: sorted(same[t] - other[t]) for t in sorted(same)}
    tried = Counter(field for fields in same.values() for field in fields)
    changed = set().union(*other.values())
    found["*"] = sorted(f for f, n in tried.items() if n >= ENOUGH and f not in changed and EVERYWHERE.search(f))
    version = json.loads((folder / "versions.json").read_text())["transformers"]
    lines = ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in found.items() if v)
    target.write_text(f'{{"_version": "{version}", "types": {{\n{lines}\n}}}}\n')
    print(sum(map(len, found.values())), "fields of", len(found), "types")


if __name__ == "__main__":
    main()
