"""Start-up: help and one estimate in processes of their own, in CPU seconds beside ``import numpy``; completion."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from conftest import Cli

from planner.present.verbs import verbs

ROOT = Path(__file__).resolve().parent.parent
ESTIMATE = ("estimate", "llama-3.1-8b", "h100-sxm5-80gb", "--task", "decode", "--batch", "32")
RUNS = 9


@cache
def cpu(*arguments: str) -> float:
    """Median CPU time of a Python process with its bytecode written, user and system [s]."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    times = []
    for _ in range(RUNS + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=ROOT, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(times[1:])


@pytest.mark.parametrize(
    ("arguments", "most", "over_numpy"),
    [(("--help",), 0.2, 1.5), (("estimate", "--help"), 0.2, 1.5), (ESTIMATE, 0.5, 4.0)],
)
def test_start_up(arguments: tuple[str, ...], most: float, over_numpy: float) -> None:
    """At most so many CPU seconds, or on a slower machine so many times what importing numpy takes there."""
    taken = cpu("-m", "planner", *arguments)
    assert taken <= max(most, over_numpy * cpu("-c", "import numpy")), f"{taken:.3f} s"


def test_nothing_given_prints_the_overview(cli: Cli) -> None:
    ran = cli()
    assert ran.code == 0 and not ran.err
    assert all(f"  {v} " in ran.out for v in verbs())
    assert ran.out == cli("--help").out


def test_help_says_types_defaults_and_groups(cli: Cli) -> None:
    text = " ".join(cli("estimate", "--help").out.split())
    for words in ("--input-len N", "(default: 1024)", "layout:", "serving:", "--price QUANTITY", "examples:",
                  "--task NAME", "train, prefill, decode, serve, forward (default: train)"):  # fmt: skip
        assert words in text, words


def test_defaults_in_the_help_are_those_taken() -> None:
    import planner
    from planner.scenario.keys import KEYS

    told = {k: v.default for k, v in KEYS.items()}
    for task in ("train", "decode"):
        row = planner.estimate(model="gpt3-175b", hardware="dgx-h100", task=task).inputs
        for key, value in row.items():
            plain = told.get(key, "")
            if plain and " " not in plain and value is not None and key not in ("task", "seq_len", "kv_dtype"):
                said = f"{value:g}" if isinstance(value, float) else str(value).lower()
                assert said == plain, (task, key, value)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_verbs_flags_and_ids(cli: Cli, shell: str) -> None:
    ran = cli("completion", shell)
    assert ran.code == 0
    for word in ("estimate", "global-batch", "llama-3.1-8b", "h100-sxm5-80gb", "selective"):
        assert word in ran.out, word


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["planner", "est"], "estimate"),
        (["planner", "plan", "--micro"], "--micro-batch"),
        (["planner", "plan", "llama-3.1-7"], "llama-3.1-70b"),
        (["planner", "plan", "--recompute", "sel"], "selective"),
        (["planner", "hardware", "h100-sx"], "h100-sxm5-80gb"),
    ],
)
def test_bash_completes(cli: Cli, words: list[str], found: str) -> None:
    script = cli("completion", "bash").out
    ask = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _planner; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
    assert found in done.stdout.split()
