"""Would the tests notice? A seeded sample of faults is planted in the physics, one at a time, and the tests that reach
each are run until one fails.

``python tests/mutation/run.py`` prints what was caught, by module, and every fault that was not; it exits 1 where fewer
than 90 % were caught or one that was not is missing from ``accepted.toml``. A run that was broken off goes on where it
was. ``--records`` lets the published runs and the answers on record try what laws and oracles let pass, and counts them
apart.

Why not mutmut or cosmic-ray: mutmut 3 passes over decorated functions, which properties and cached functions are, and
over constants of a module, and has no sample; cosmic-ray starts a process with the whole suite for each fault.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401 - what a process of faults need not import again
import pandas as pd  # noqa: F401
import pytest
import yaml  # noqa: F401
from hypothesis import HealthCheck, Phase, settings
from mutants import ROOT, Mutant, Planted, all_mutants, sample
from reach import OPTIONS, Reach, digest, function_of, reach, reaching, source_digest, test_files

ACCEPTED = Path(__file__).with_name("accepted.toml")
CACHE = ROOT / ".mutation"
TARGET = 0.9
MEMORY = 12 * 2**30  # address space of a process [byte]: a fault may ask for arrays without end
FIRST = 12  # tests tried before the others, which take longer to collect
SURVIVED, KILLED, TIMED_OUT = "survived", "killed", "timed out"


class Judge:
    """A pytest plugin: the first test that fails, and examples drawn without shrinking or a deadline."""

    def __init__(self) -> None:
        self.killer = ""

    def pytest_sessionstart(self) -> None:
        settings.register_profile("faults", parent=settings.get_profile("planner"), deadline=None, database=None,
                                  phases=[Phase.explicit, Phase.generate],
                                  suppress_health_check=list(HealthCheck))  # fmt: skip
        settings.load_profile("faults")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.killer:
            self.killer = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self.killer:
            self.killer = f"{report.nodeid}::collection"


def judge(mutant: Mutant, tests: Sequence[str], *, record: bool) -> str:
    """In a process of its own: the test that catches a fault, or nothing."""
    Planted(mutant).install()
    found = Judge()
    for batch in (tests[:FIRST], tests[FIRST:]):
        if batch and not found.killer:
            code = pytest.main(["-x", *OPTIONS, *batch], plugins=[found])
            if code not in (0, 1) and not found.killer:
                found.killer = f"exit {int(code)}"
    return found.killer or (_record_moves() if record else "")


def _record_moves() -> str:
    """Whether an answer on record moves, in the last bits or more."""
    sys.path.insert(0, str(ROOT / "tests" / "regression"))
    import record  # type: ignore[import-not-found]

    for entry in record.recorded():
        if any(record.differences(entry, record.again(entry), tolerance=1e-9)):
            return "tests/regression/record.py"
    return ""


class Trials:
    """Faults under trial, so many at once, each in a fork that ends itself after its time."""

    def __init__(self, found: Reach, *, jobs: int, record: bool, kills: Counter[str]) -> None:
        self.found, self.jobs, self.record, self.kills = found, jobs, record, kills
        self.running: dict[int, tuple[Mutant, int, float]] = {}

    def run(self, mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, dict[str, Any]]]:
        """Each fault with its outcome, as they end."""
        for mutant in mutants:
            while len(self.running) >= self.jobs:
                yield self._ended()
            self._start(mutant)
        while self.running:
            yield self._ended()

    def _order(self, test: str) -> float:
        return float(self.found[test]["time"]) / (1.0 + 4.0 * self.kills[test])

    def _start(self, mutant: Mutant) -> None:
        tests = sorted(reaching(mutant, self.found), key=self._order)
        read, write = os.pipe()
        pid = os.fork()
        if pid:
            os.close(write)
            self.running[pid] = (mutant, read, time.monotonic())
            return
        os.close(read)
        signal.alarm(60 + 300 * self.record + int(6 * sum(self.found[t]["time"] for t in tests)))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        try:
            killer = judge(mutant, tests, record=self.record)
        except BaseException as error:
            killer = repr(error)
        os.write(write, killer.encode()[:2000])
        os._exit(0)

    def _ended(self) -> tuple[Mutant, dict[str, Any]]:
        pid, status = os.wait()
        mutant, read, start = self.running.pop(pid)
        with os.fdopen(read, "rb") as back:
            killer = back.read().decode()
        self.kills[function_of(killer)] += 1
        outcome = TIMED_OUT if os.WIFSIGNALED(status) else KILLED if killer else SURVIVED
        return mutant, {"outcome": outcome, "killer": killer, "time": round(time.monotonic() - start, 1)}


def outcomes(mutants: Sequence[Mutant], tests: list[Path], *, jobs: int, record: bool) -> dict[str, dict[str, Any]]:
    """The outcome of every fault, from the cache where it still holds."""
    CACHE.mkdir(exist_ok=True)
    found = reach(CACHE / "reach.json", tests)
    path = CACHE / ("records.jsonl" if record else "outcomes.jsonl")
    source, all_tests = source_digest(), digest(tests)
    known: dict[str, dict[str, Any]] = {}
    kills: Counter[str] = Counter()
    for line in path.read_text().splitlines() if path.exists() else ():
        entry = json.loads(line)
        kills[function_of(entry["killer"])] += 1
        if entry["source"] == source and entry["by"] == _by(entry, all_tests):
            known[entry["key"]] = entry
    left = [m for m in mutants if m.key not in known]
    trials = Trials(found, jobs=jobs, record=record, kills=kills)
    with path.open("a") as out:
        for i, (mutant, outcome) in enumerate(trials.run(left), 1):
            entry = {"key": mutant.key, "source": source, **outcome}
            entry["by"] = _by(entry, all_tests)
            known[mutant.key] = entry
            out.write(json.dumps(entry) + "\n")
            out.flush()
            print(f"{i}/{len(left)} {outcome['outcome']:9} {outcome['time']:5} s  {mutant.key}  {outcome['killer']}",
                  file=sys.stderr, flush=True)  # fmt: skip
    return {m.key: known[m.key] for m in mutants}


def _by(entry: dict[str, Any], all_tests: str) -> str:
    """What an outcome rests on besides the source: the file of the test that caught it, or every test."""
    file = ROOT / entry["killer"].split("::")[0]
    return digest([file]) if entry["killer"] and file.is_file() else all_tests


def accepted() -> dict[str, str]:
    """Faults that may pass, with the reason."""
    entries = tomllib.loads(ACCEPTED.read_text()).get("accepted", []) if ACCEPTED.exists() else []
    return {f"{e['file']}::{e['function']}: {e['mutation']}": e["reason"] for e in entries}


def report(mutants: Sequence[Mutant], found: dict[str, dict[str, Any]], *, title: str) -> tuple[float, list[Mutant]]:
    """Print a table by module and what passed; the share that was caught, and what is neither caught nor accepted."""
    allowed = accepted()
    passed = [m for m in mutants if found[m.key]["outcome"] == SURVIVED]
    print(f"\n{title}\n\n| module | planted | caught | share | passed, accepted |\n| --- | --- | --- | --- | --- |")
    for name in [*dict.fromkeys(sorted(m.file for m in mutants)), ""]:
        here = [m for m in mutants if name in (m.file, "")]
        missed = [m for m in here if m in passed]
        caught, known = len(here) - len(missed), sum(m.key in allowed for m in missed)
        row = f"{name or '**all**'} | {len(here)} | {caught} | {caught / len(here):.0%} | {len(missed)}, {known}"
        print(f"| {row} |")
    unlisted = [m for m in passed if m.key not in allowed]
    print("".join(f"\npassed: {m.key}" for m in unlisted))
    return 1.0 - len(passed) / len(mutants), unlisted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=240, help="faults to plant")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--only", default="", help="faults whose file and function have this in them")
    parser.add_argument("--tests", default="", help="only test files whose name has this in it: quick, and no verdict")
    parser.add_argument("--records", action="store_true", help="let records and published runs try the rest")
    args = parser.parse_args()
    os.chdir(ROOT)
    mutants = sample([m for m in all_mutants() if args.only in m.key], n=args.n, seed=args.seed)
    files = [p for p in test_files(records=False) if args.tests in p.name]
    known = {m.key: {"outcome": SURVIVED, "killer": ""} for m in mutants if m.key in accepted()}
    laws = known | outcomes([m for m in mutants if m.key not in known], files, jobs=args.jobs, record=False)
    score, unlisted = report(mutants, laws, title="Laws and oracles")
    if args.records:
        rest = [m for m in mutants if laws[m.key]["outcome"] == SURVIVED and m.key not in known]
        more = outcomes(rest, test_files(records=True), jobs=args.jobs, record=True)
        report(mutants, laws | more, title="With published runs and answers on record")
    print(f"\n{score:.1%} of {len(mutants)} caught by laws and oracles; {len(unlisted)} passed that are not accepted")
    return int(score < TARGET or bool(unlisted))


if __name__ == "__main__":
    sys.exit(main())
