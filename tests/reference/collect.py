"""Build the reference of types in all their classes, forms and mutations, and write what it counts.

``python tests/reference/collect.py --out FOLDER [--no-mutations] [TYPE ...]`` needs torch and transformers; it writes a
file a type.
``python tests/reference/compare.py FOLDER`` needs neither and holds the planner to what was written.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
import time
from pathlib import Path
from typing import Any

from classes import KINDS, VERSIONS, build, classes, counts, main_class, mappings
from forms import MISSING, Values, drop, forms, mutations, put
from transformers import CONFIG_MAPPING


def counted(values: Values, class_name: str) -> list[int] | str:
    """Total and active parameters, or why the class cannot be built."""
    try:
        return list(counts(build({**values, "architectures": [class_name]}, class_name)))
    except RecursionError:
        return "RecursionError"
    except Exception as error:  # any failure of the reference is a refusal
        return f"{type(error).__name__}: {str(error).strip()[:160]}"


def rows_of(model_type: str, *, mutated: bool) -> list[dict[str, Any]]:
    """Rows of one type: the class, the form, the configuration or the field changed, and the count."""
    main = main_class(model_type)
    if not main:
        return []

    def builds(values: Values) -> bool:
        return not isinstance(counted(values, main), str)

    found = forms(model_type, builds)
    rows: list[dict[str, Any]] = []
    for form, values in found.items():
        for name in classes(model_type):
            rows.append({"type": model_type, "class": name, "form": form, "main": name == main, "config": values,
                         "count": counted(values, name)})  # fmt: skip
    for form in ("default", "varied-1"):
        for tie in _ties(found[form]):
            rows.append({"type": model_type, "class": main, "form": f"{form} tied", "config": tie,
                         "count": counted(tie, main)})  # fmt: skip
    for form in ("varied-1", "varied-2") if mutated else ():
        if builds(found[form]):
            rows += mutation_rows(model_type, main, form, found[form])
    return rows


def _ties(values: Values) -> list[Values]:
    """The root, and each section, saying tied and not tied: alone and against each other."""
    key = "tie_word_embeddings"
    out = [{**values, key: flag} for flag in (True, False, None)]
    sections = [k for k in ("text_config", "decoder", "llm_config", "thinker_config") if k in _sections(values)]
    for section in sections:
        inner = values.get(section) or {}
        for root in (True, False, MISSING):
            for flag in (True, False, MISSING):
                new = copy.deepcopy({**values, section: {**inner}})
                for place, value in ((new, root), (new[section], flag)):
                    place.pop(key, None)
                    if value is not MISSING:
                        place[key] = value
                out.append(new)
    return out


def _sections(values: Values) -> list[str]:
    return list(CONFIG_MAPPING[values["model_type"]].sub_configs)


def mutation_rows(model_type: str, main: str, form: str, values: Values) -> list[dict[str, Any]]:
    """One field of a form changed at a time."""
    rows = [{"type": model_type, "class": main, "form": "mutated", "of": form, "base": values}]
    start = time.monotonic()
    for path, new in mutations(values):
        if time.monotonic() - start > 120:
            break
        trial = copy.deepcopy(values)
        (drop(trial, path) if new is MISSING else put(trial, path, new))
        rows.append({"path": list(path), "value": new, "count": counted(trial, main)})
    return rows


def main() -> None:
    """Write one file a type, and skip the types that have one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--no-mutations", action="store_true")
    parser.add_argument("--kinds", action="store_true", help="all types of causal, masked, seq2seq and image-text")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    types = list(given.types)
    if given.kinds:
        types += [t for name in KINDS.values() for t in mappings()[name]]
    (given.out / "versions.json").write_text(json.dumps(VERSIONS))
    (given.out / "kinds.json").write_text(
        json.dumps({k: {t: n[0] for t, n in mappings()[m].items()} for k, m in KINDS.items()})
    )
    for model_type in dict.fromkeys(types):
        target = given.out / f"{model_type}.jsonl.gz"
        if target.exists() or model_type not in CONFIG_MAPPING:
            continue
        start = time.monotonic()
        try:
            rows = rows_of(model_type, mutated=not given.no_mutations)
        except Exception as error:  # a type that the reference itself cannot describe
            print(f"{model_type}: {type(error).__name__}: {error}", flush=True)
            continue
        text = "\n".join(json.dumps(r) for r in rows)
        target.write_bytes(gzip.compress(text.encode()))
        print(f"{model_type}: {len(rows)} rows, {time.monotonic() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
