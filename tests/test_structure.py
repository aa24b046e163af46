"""The shape of the code as laws: what may import what, how long a function may be, and what a newcomer would touch.

A violation that is known stands in a list that may only shrink: the test fails for a new one and for one that is gone
and still listed.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

import planner

PACKAGE = Path(planner.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
WORDS = ("errors", "files", "units", "precision", "frames")  # modules beside the halls that anybody may use

# A hall and the halls it may import from: itself and what stands before it.
STOREYS: dict[str, tuple[str, ...]] = {"catalogue": ()}
STOREYS["demand"] = STOREYS["supply"] = ("catalogue",)
STOREYS["cost"] = ("catalogue", "demand", "supply")
STOREYS["scenario"] = (*STOREYS["cost"], "cost")
STOREYS["planning"] = (*STOREYS["scenario"], "scenario")
STOREYS["measure"] = ("catalogue", "supply")
STOREYS["validation"] = (*STOREYS["planning"], "planning")
STOREYS["present"] = (*STOREYS["planning"], "planning", "measure", "validation")
STOREYS["api"] = STOREYS["cli"] = STOREYS["figures"] = (*STOREYS["present"], "present")
STOREYS["__main__"] = (*STOREYS["cli"], "cli")

# Imports that run up today, as "module -> module".
KNOWN: set[str] = set()

NUMPY_ONLY = ("demand", "supply", "cost", "scenario", "planning")
ELSEWHERE = {"catalogue": {"numpy", "yaml"}, "measure": {"numpy"}, "validation": {"numpy"}, "api": set(), "cli": set(),
             "__main__": set(), "figures": {"matplotlib"}, "present": {"matplotlib", "numpy", "yaml"}}  # fmt: skip


def module_of(path: Path) -> str:
    """Dotted name of a file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def hall_of(module: str) -> str:
    """The hall of a module: the part after ``planner``, empty for the package itself."""
    return [*module.split("."), ""][1]


def imports_of(path: Path) -> Iterator[str]:
    """Every module a file imports, wherever in it the import stands; of ``from a import b`` also ``a.b``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: imports are absolute"
            yield from (f"{node.module}.{a.name}" for a in node.names)


def running_up() -> set[str]:
    """Imports between halls that :data:`STOREYS` does not allow."""
    found = set()
    for path in FILES:
        importer = module_of(path)
        here = hall_of(importer)
        if not here:
            continue  # the package itself only names what is imported when it is first used
        for imported in imports_of(path):
            there = hall_of(imported)
            if not imported.startswith("planner.") or there in (here, *WORDS, "__version__"):
                continue
            if here in WORDS or there not in STOREYS[here]:
                found.add(f"{importer} -> {_existing(imported)}")
    return found


def _existing(name: str) -> str:
    """The module of ``from module import name``."""
    parts = name.split(".")
    known = {module_of(p) for p in FILES}
    return name if name in known else ".".join(parts[:-1])


def test_every_hall_has_its_place() -> None:
    assert {hall_of(module_of(p)) for p in FILES} - {"", *WORDS} == set(STOREYS)


def test_imports_run_down() -> None:
    found = running_up()
    assert not found - KNOWN, "imports that run up"
    assert not KNOWN - found, "gone: take these off KNOWN"


def test_an_import_that_runs_up_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "inside.py"
    file.write_text("def f():\n    from planner.present import tables\n    import planner.cli as c\n")
    assert set(imports_of(file)) == {"planner.present.tables", "planner.cli"}
    assert "present" not in STOREYS["planning"] and "scenario" not in STOREYS["cost"]


@pytest.mark.parametrize("hall", STOREYS)
def test_third_parties_stay_behind_their_border(hall: str) -> None:
    import sys

    allowed = {"numpy"} if hall in NUMPY_ONLY else ELSEWHERE[hall]
    foreign = {
        (module_of(p), name.split(".")[0])
        for p in FILES
        if hall_of(module_of(p)) == hall
        for name in imports_of(p)
        if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith("planner")
    }
    assert {f for f in foreign if f[1] not in allowed} == set()


@pytest.mark.parametrize("name", ["matplotlib", "pandas", "yaml"])
def test_each_third_party_has_few_doors(name: str) -> None:
    """Matplotlib in figures, pandas in ``frames``, YAML where files are read."""
    doors = {"matplotlib": ("present.figures", "figures"), "pandas": ("frames",),
             "yaml": ("catalogue", "present.export")}[name]  # fmt: skip
    users = {module_of(p) for p in FILES if any(i.split(".")[0] == name for i in imports_of(p))}
    assert users and all(u.startswith(tuple(f"planner.{d}" for d in doors)) for u in users), users


# Names

# Modules of cost that name a framework, an engine, a model or a chip in code today.
NAMING: set[str] = set()


def names_of_things() -> set[str]:
    """Ids of everything whose facts are data: frameworks, engines, models, chips, systems and their classes."""
    from planner.catalogue.engines import engines
    from planner.catalogue.loader import accelerator_ids, system_ids
    from planner.catalogue.models import model_ids
    from planner.scenario.keys import KEYS

    classes = {p.stem for p in (PACKAGE.parent / "hardware" / "classes").glob("*.yaml")}
    return {*KEYS["framework"].allowed, *engines(), *accelerator_ids(), *system_ids(), *model_ids(), *classes}


def strings_in_code(path: Path) -> set[str]:
    """String constants of a file that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    return {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
            and id(n) not in documented}  # fmt: skip


def test_cost_names_no_framework_engine_model_or_chip() -> None:
    names = names_of_things()
    assert len(names) > 200
    found = {module_of(p) for p in FILES if hall_of(module_of(p)) == "cost" and strings_in_code(p) & names}
    assert not found - NAMING, "names of things in cost"
    assert not NAMING - found, "gone: take these off NAMING"


# Sizes


def bodies() -> list[tuple[int, str]]:
    """Lines of every function's body without its docstring, and where it is."""
    found = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                first = node.body[1] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body[0]
                assert node.end_lineno is not None
                found.append((node.end_lineno - first.lineno + 1, f"{module_of(path)}.{node.name}"))
    return sorted(found)


LONG_FILES: dict[str, int] = {}


def test_functions_are_short() -> None:
    found = bodies()
    assert found[math.ceil(0.9 * len(found)) - 1][0] <= 30
    assert found[-1][0] <= 60, found[-1]


def test_files_are_short() -> None:
    long = {m: n for p in FILES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400 for m in [module_of(p)]}
    assert {m for m, n in long.items() if n > LONG_FILES.get(m, 400)} == set()
    assert set(LONG_FILES) <= set(long), "gone: take these off LONG_FILES"


def test_a_file_of_families_is_shorter_still() -> None:
    families = PACKAGE / "catalogue" / "families"
    assert [p.name for p in families.glob("*.py") if len(p.read_text(encoding="utf-8").splitlines()) >= 250] == []


# Verbs


def test_a_verb_is_a_file_of_its_name() -> None:
    from planner.present.verbs import verbs

    files = {p.stem for p in (PACKAGE / "present" / "commands").glob("*.py")} - {"__init__"}
    assert set(verbs()) == files


def test_the_functions_of_the_package_are_functions() -> None:
    """``planner.plan`` stays the function, whatever modules are imported beside it."""
    import planner.planning.plan

    for name in planner.__all__:
        if name != "__version__" and not name.endswith("Error"):
            assert callable(getattr(planner, name)) and getattr(planner, name).__doc__, name
            assert getattr(planner, name).__module__ == "planner.api"
    with pytest.raises(AttributeError, match="nonsense"):
        _ = planner.nonsense
