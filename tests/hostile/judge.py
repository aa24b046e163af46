"""What every trial shares: what counts as an answer, and a command run in a child of this process."""

from __future__ import annotations

import contextlib
import gc
import io
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import planner.__main__ as entry

ANSWERED, REFUSED = "answered", "refused"
SECONDS, MEMORY = 2.0, 200 * 2**20  # of computing, and bytes, within which a command refuses what it cannot read
PATIENCE = 20.0  # seconds after which it is taken to hang, on a busy machine
# Results that are no times or sizes, or may be zero: a part of the memory that nothing fills.
_MAY_BE_ZERO = ("memory_", "kv_")


def fault(kind: str, detail: object = "") -> str:
    """The verdict of a trial that found something; the kind is what is counted."""
    return f"FAULT {kind}: {str(detail)[:300]!r}"


def believable(row: Mapping[str, object]) -> str:
    """Empty, or the first result of a row that cannot be: not finite, or a time, a rate or a size that is not more than
    nothing."""
    for name, value in row.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        positive = name.endswith(("_s", "_bytes")) or name in ("mfu", "hfu", "tokens_per_s", "model_flops_per_step")
        if not math.isfinite(value) or value < 0 or (positive and value == 0 and not name.startswith(_MAY_BE_ZERO)):
            return f"{name} = {value}"
    return ""


@dataclass(frozen=True)
class Ended:
    """How a child ended: exit code (negative: the signal), what it wrote, seconds it ran and those it computed, and
    memory beyond the parent's."""

    code: int
    out: str
    err: str
    seconds: float
    busy: float
    memory: int

    @property
    def untidy(self) -> str:
        """Empty, or what a user should never see."""
        for word in ("Traceback", "Exception ignored", "Error in sys"):
            if word in self.err:
                return self.err
        return ""


def child(
    work: Callable[[], None], folder: Path, *, out: int | None = None, strike: tuple[float, int] | None = None
) -> Ended:
    """Run ``work`` as the main program of a forked process, its output into files of ``folder`` (or ``out``).

    ``strike`` is the seconds after which a signal is sent, and the signal.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    (folder / "stdout").write_text("")
    reader, talk = os.pipe()  # which no limit on the size of files cuts short
    held = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    pid = os.fork()
    if pid == 0:
        entry._guard()  # what a process does first; a signal that comes before waits
        _become(work, folder, out, talk)
    signal.pthread_sigmask(signal.SIG_SETMASK, held)
    os.close(talk)
    if strike is not None:
        time.sleep(strike[0])
        os.kill(pid, strike[1])  # one that has ended waits to be asked how, so that the id is still its own
    _, status, used = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    out_text = (folder / "stdout").read_text(errors="replace") if out is None else ""
    grown = max(used.ru_maxrss - before, 0) * 1024
    seconds = time.perf_counter() - start
    with os.fdopen(reader, "rb") as said:
        return Ended(
            code, out_text, said.read(2**20).decode(errors="replace"), seconds, used.ru_utime + used.ru_stime, grown
        )


def _become(work: Callable[[], None], folder: Path, out: int | None, talk: int) -> None:
    """The child: ends like an interpreter does, with a traceback where an exception is left and a flush at the end."""
    code = 1
    try:
        os.dup2(os.open(folder / "stdout", os.O_WRONLY | os.O_TRUNC) if out is None else out, 1)
        os.dup2(talk, 2)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        code = _exit_code(work)
    finally:
        os._exit(code)


def _exit_code(work: Callable[[], None]) -> int:
    try:
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException as error:
        print(f"Traceback: {type(error).__name__}: {error}", file=sys.stderr)
        code = 1
    try:
        sys.stdout.flush()
    except OSError as error:
        print(f"Exception ignored: {error}", file=sys.stderr)
        code = 120
    sys.stderr.flush()
    return code


def command(*arguments: object) -> Callable[[], None]:
    """``planner`` with arguments, as its entry point runs it."""

    def work() -> None:
        sys.argv = ["planner", *(str(a) for a in arguments)]
        from planner.__main__ import main

        main()

    return work


def warm() -> None:
    """Import what commands do, so that a forked child need not, and keep the collector off what all children share."""
    for name in ("planner.cli", "planner.present.figures", "planner.planning.compare", "planner.measure.profile",
                 "planner.catalogue.check", "planner.present.resume"):  # fmt: skip
        import_module(name)
    from planner.cli import run

    with contextlib.redirect_stdout(io.StringIO()):
        run(["roofline", "gpt2", "t4-16gb", "--task", "decode"])
    gc.freeze()
    # A shell has what it runs in the background ignore interrupts, and the children would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
