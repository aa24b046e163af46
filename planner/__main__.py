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
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _end(number: int, _: FrameType | None) -> None:
    """End here and now: an exception could be raised where nothing catches it, in an import or a destructor."""
    files = sys.modules.get("planner.files")
    if files is not None:
        files.discard_unfinished()
    if os.isatty(2):
        os.write(2, b"\x1b[?25h")  # a cursor that a progress bar hid
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
