"""Writing files of results; every fault of a path is one clear error."""

from __future__ import annotations

from pathlib import Path

from planner.errors import BadInputError
from planner.files import is_folder, replacing


def check_writable(path: str) -> Path:
    """A path that a file can be written to; refused before any work is done."""
    target = Path(path)
    if not is_folder(target.parent):
        raise BadInputError(f"-o: folder {str(target.parent)!r} does not exist")
    if is_folder(target):
        raise BadInputError(f"-o {path}: Is a directory")
    return target


def write_text(path: str, text: str) -> None:
    """Write text to a file, a new line at its end; the file that stood there stays until all of it is written."""
    write_bytes(path, (text.rstrip("\n") + "\n").encode("utf-8", errors="backslashreplace"))


def write_bytes(path: str, data: bytes) -> None:
    """Write bytes to a file; the one that stood there stays until all of them are written."""
    with replacing(check_writable(path), where=f"-o {path}") as file:
        file.write(data)
