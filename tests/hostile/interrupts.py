"""Signals at any moment, and readers that go away: no traceback, exit 130, and quiet for a closed pipe."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from judge import ANSWERED, child, command, fault, warm
from outputs import SCENARIOS

import planner.__main__ as entry

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("estimate", "gpt2", "t4-16gb", "--task", "decode"),
    ("estimate", "--scenarios", "in.csv"),
    ("hardware", "--format", "csv"),
    ("plan", "gpt2", "t4-16gb", "--devices", "1", "--task", "decode"),
    ("roofline", "gpt2", "t4-16gb", "--task", "decode", "-o", "out.svg"),
    ("models", "gpt2"),
    ("hardware", "nothing-like-it"),
)
FRESH = 0.01  # of the trials start an interpreter, whose imports are interrupted too


def trial(draw: random.Random, folder: Path) -> str:
    """A command that is interrupted or loses its reader."""
    (folder / "in.csv").write_text(SCENARIOS)
    arguments = draw.choices(COMMANDS, weights=(6, 6, 3, 3, 1, 6, 6))[0]
    if draw.random() < FRESH:
        return _fresh(draw, folder, arguments)
    if draw.random() < 0.5:
        return _interrupted(draw, folder, arguments)
    return _closed(draw, folder, arguments)


def _interrupted(draw: random.Random, folder: Path, arguments: tuple[str, ...]) -> str:
    """The moment counts from when the entry point has prepared itself, which is its first act."""
    moment = draw.choice((draw.uniform(1e-6, 1e-3), draw.uniform(1e-6, 0.03), draw.uniform(1e-6, 0.3)))
    guard = entry._guard

    def work() -> None:
        os.chdir(folder)
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        entry._guard = lambda: (guard(), signal.setitimer(signal.ITIMER_REAL, moment, 0.0))
        command(*arguments)()

    ended = child(work, folder)
    if ended.untidy:
        return fault("a traceback", ended.err)
    usual = 2 if "nothing-like-it" in arguments else 0
    return ANSWERED if ended.code in (130, usual) else fault(f"exit {ended.code} when interrupted", ended.err)


def _closed(draw: random.Random, folder: Path, arguments: tuple[str, ...]) -> str:
    """The reader takes some bytes, or none, and goes."""
    reader, writer = os.pipe()
    taken = draw.choice((0, 0, 1, 100, 5000))
    taker = _taker(reader, writer, taken)
    os.close(reader)
    run = command(*arguments)

    def work() -> None:
        os.chdir(folder)
        run()

    ended = child(work, folder, out=writer)
    os.close(writer)
    os.waitpid(taker, 0)
    if ended.untidy:
        return fault("a traceback at a closed pipe", ended.err)
    usual = 2 if "nothing-like-it" in arguments else 0
    if ended.code not in (0, 141, -signal.SIGPIPE, usual):
        return fault(f"exit {ended.code} at a closed pipe", ended.err)
    return ANSWERED


def _taker(reader: int, writer: int, taken: int) -> int:
    """A process that reads so many bytes of a pipe and goes."""
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        while taken > 0:
            got = os.read(reader, taken)
            taken -= len(got) or taken
        os._exit(0)
    return pid


def _fresh(draw: random.Random, folder: Path, arguments: tuple[str, ...]) -> str:
    """An interpreter of its own, interrupted once the package's first line has run."""
    code = "import planner.__main__ as p, os; p._guard(); os.write(2, b'up\\n'); p.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    process.stderr.readline()
    time.sleep(draw.uniform(0.004, 0.7))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    if b"Traceback" in err or b"Exception ignored" in err:
        return fault("a traceback in a fresh process", err.decode()[-300:])
    usual = 2 if "nothing-like-it" in arguments else 0
    # An interpreter that shuts down has put its handlers back: the signal ends it, which a shell tells as 130 too.
    return (
        ANSWERED
        if process.returncode in (130, -signal.SIGINT, usual)
        else fault(f"exit {process.returncode} in a fresh process")
    )


def prepare(_: Path) -> None:
    """Every trial is a forked child."""
    warm()
