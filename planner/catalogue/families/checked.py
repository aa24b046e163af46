"""Which types and classes were held to the reference implementation, and when: ``checked.csv``.

Written by ``tests/reference/compare.py --write``: a row a class, ``exact`` where the class defaults and what
``save_pretrained`` writes of them are counted to the parameter, else ``refused``.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from importlib import resources
from typing import Any

from planner.catalogue.huggingface import supported_types


def supported_rows() -> list[dict[str, Any]]:
    """A row a ``model_type``: its classes that are exact, those that are refused, the reference, the day."""
    text = resources.files(__package__).joinpath("checked.csv").read_text(encoding="utf-8")
    by_type: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in csv.DictReader(text.splitlines()):
        by_type[row["model_type"]].append(row)
    return [_row(name, by_type.get(name, [])) for name in supported_types()]


def _row(name: str, rows: list[dict[str, str]]) -> dict[str, Any]:
    named = {o: ", ".join(r["class"] for r in rows if r["outcome"] == o) for o in ("exact", "refused")}
    version = f"transformers {rows[0]['transformers']}" if rows else "none: code that ships with checkpoints"
    return {"id": name, **named, "reference": version, "checked": rows[0]["date"] if rows else ""}
