"""Which test runs which line of the physics, and how long each takes; recorded once for every state of the source."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mutants import FOLDERS, ROOT, Mutant, module_of, physics

TESTS = ROOT / "tests"
# Answers of the planner itself on record, and published runs within a tolerance, are no laws.
RECORDS = ("test_validation.py", "test_regression.py")
# What is drawn and printed, files of the catalogue and the state of the repository: none checks a formula.
LEFT_OUT = (
    "test_readme.py", "test_packaging.py", "test_documentation.py", "test_cli.py", "test_figures.py",
    "test_hardware_catalogue.py", "test_units.py",
)  # fmt: skip
# Those that time the machine, which is busy, or start processes of their own, which a fault planted here doesn't reach.
TESTS_LEFT_OUT = (
    "test_counting_a_config_takes_milliseconds", "test_the_speed_benchmark_measures_what_it_says",
)  # fmt: skip
# Hypothesis is imported before pytest, so that a process of faults need not import it again.
OPTIONS = ("-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
Reach = dict[str, dict[str, Any]]  # test -> {"time": [s], "lines": {file: [line, ...]}}


def digest(paths: Iterable[Path]) -> str:
    """Fingerprint of the content of files."""
    return hashlib.sha256(b"".join(p.read_bytes() for p in sorted(paths))).hexdigest()[:16]


def source_digest() -> str:
    """Fingerprint of the planner, its catalogue and what tests share."""
    shared = [p for p in TESTS.glob("*.py") if not p.name.startswith("test_")]
    data = [p for folder in (ROOT / "planner", TESTS / "data") for p in folder.rglob("*.yaml")]
    return digest([*(ROOT / "planner").rglob("*.py"), *data, *shared])


def test_files(*, records: bool) -> list[Path]:
    """Files of tests that may kill; ``records`` are those that compare with answers on record."""
    names = {p.name: p for p in sorted(TESTS.glob("test_*.py")) if p.name not in LEFT_OUT}
    return [p for n, p in names.items() if (n in RECORDS) == records]


class Recorder:
    """A pytest plugin that tells coverage which test runs, and times it.

    Caches of the planner are emptied before each test function, or only the first to ask would reach what they hold.
    Fixtures of a module are recorded apart and belong to every test that uses them.
    """

    def __init__(self, cov: Any) -> None:
        self.cov, self.current = cov, ""
        self.times: dict[str, float] = {}
        self.fixtures: dict[str, set[str]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        name = function_of(item.nodeid)
        if name != self.current:
            clear_caches()
            self.current = name
        self.cov.switch_context(name)
        self.fixtures.setdefault(name, set()).update(getattr(item, "fixturenames", ()))
        start = time.perf_counter()
        done = yield
        self.times[name] = self.times.get(name, 0.0) + time.perf_counter() - start
        return done

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        if fixturedef.scope == "function":
            return (yield)
        self.cov.switch_context(f"fixture {fixturedef.argname}")
        done = yield
        self.cov.switch_context(self.current)
        return done


def function_of(nodeid: str) -> str:
    """The test function of a test, whatever its parameters."""
    return nodeid.split("[")[0]


def clear_caches() -> None:
    """Empty every lru_cache of the planner."""
    import sys

    for name, module in list(sys.modules.items()):
        if name.startswith("planner"):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def reach(cache: Path, files: list[Path]) -> Reach:
    """What the tests of ``files`` reach, from the cache where neither they nor the planner have changed."""
    known: dict[str, Any] = json.loads(cache.read_text()) if cache.exists() else {}
    now = {p.name: f"{source_digest()} {digest([p])}" for p in files}
    stale = [p for p in files if known.get(p.name, {}).get("state") != now[p.name]]
    if stale:
        for name, tests in _recorded(stale).items():
            known[name] = {"state": now[name], "tests": tests}
        cache.write_text(json.dumps(known))
    return {test: entry for p in files for test, entry in known[p.name]["tests"].items()}


def _recorded(files: list[Path]) -> dict[str, Reach]:
    """Run tests under coverage in a process of their own, which imports the planner anew."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.close(read)
        try:
            answer = json.dumps(_measure(files)).encode()
        except BaseException as error:
            answer = json.dumps({"fault": repr(error)}).encode()
        with os.fdopen(write, "wb") as out:
            out.write(answer)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as back:
        found: dict[str, Any] = json.loads(back.read())
    os.wait()
    if "fault" in found:
        raise SystemExit(f"tests could not be recorded: {found['fault']}")
    return found


def _measure(files: list[Path]) -> dict[str, Reach]:
    import coverage

    for path in physics():  # what runs at import belongs to no test
        importlib.import_module(module_of(path.relative_to(ROOT).as_posix()))
    cov = coverage.Coverage(
        data_file=None, include=[str(ROOT / "planner" / f / "*") for f in FOLDERS], config_file=False
    )
    recorder = Recorder(cov)
    cov.start()
    code = pytest.main([*OPTIONS, *(str(p) for p in files)], plugins=[recorder])
    cov.stop()
    if code:
        raise RuntimeError(f"the tests fail without any fault (exit {int(code)})")
    lines = _lines_by_context(cov.get_data())
    out: dict[str, Reach] = {p.name: {} for p in files}
    for test, seconds in recorder.times.items():
        if test.split("::")[-1] in TESTS_LEFT_OUT:
            continue
        reached: dict[str, set[int]] = {}
        for context in (test, *(f"fixture {f}" for f in recorder.fixtures[test])):
            for file, found in lines.get(context, {}).items():
                reached.setdefault(file, set()).update(found)
        entry = {"time": seconds, "lines": {f: sorted(n) for f, n in reached.items()}}
        out[Path(test.split("::")[0]).name][test] = entry
    return out


def _lines_by_context(data: Any) -> dict[str, dict[str, set[int]]]:
    out: dict[str, dict[str, set[int]]] = {}
    for file in data.measured_files():
        name = Path(file).relative_to(ROOT).as_posix()
        for line, contexts in data.contexts_by_lineno(file).items():
            for context in contexts:
                out.setdefault(context, {}).setdefault(name, set()).add(line)
    return out


def reaching(mutant: Mutant, found: Reach) -> list[str]:
    """Tests that run the statement of a mutant; of one that runs at import, whose value goes anywhere, all."""
    lines = set(range(mutant.first, mutant.last + 1))
    return [t for t, entry in found.items() if lines & set(entry["lines"].get(mutant.file, ()))] or list(found)
