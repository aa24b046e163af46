"""The entry point: ``planner`` and ``python -m planner``.

Signals and readers that go away are prepared for before anything of weight is imported, so that no moment of a command
answers them with a traceback.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # before the signals are prepared for, as little as can be is imported
if TYPE_CHECKING:
    from types import FrameType
    from typing import TextIO


def main() -> None:
    """Run the command line; every error a user can cause is one clear line on stderr and an exit code."""
    _guard()
    from planner.cli import run

    code = run(sys.argv[1:])
    raise SystemExit(_written(code))


def _guard() -> None:
    """An interrupt ends with 130, a request to end with 143; a reader that goes away ends in silence, as for others."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, _end)
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _nowhere() -> TextIO:
    """In place of a stream that was closed before the start, so that no file that is opened takes its number."""
    return os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def _end(number: int, _: FrameType | None) -> None:
    """End here and now: an exception could be raised where nothing catches it, in an import or a destructor."""
    files = sys.modules.get("planner.files")
    if files is not None:
        files.discard_unfinished()
    if os.isatty(2):
        os.write(2, b"\r\x1b[K")  # what a counter wrote
    os.write(2, b"planner: interrupted\n")
    os._exit(128 + number)


def _written(code: int) -> int:
    """The exit code once all output is out; 2 where the last of it cannot be written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.write(2, f"planner: output cannot be written: {error.strerror}\n".encode())
        os._exit(code or 2)
    return code


if __name__ == "__main__":
    main()
