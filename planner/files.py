"""Files in and out: what is read is a regular file of bounded size, what is written is there whole or not at all.

Every fault of the operating system is one :class:`BadInputError`, a line that says which file and why.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from planner.errors import BadInputError

LARGEST = 4 * 2**20  # bytes of a profile or of a model's configuration; the largest of the Hub's hold long label lists
LARGEST_TABLE = 16 * 2**20  # bytes of a table
FRESH = 50_000_000  # ns within which a file may change again without a new time: clocks of file systems tick in ms
Stamp = tuple[str, int, int, int, int, str]

# Files beside those they will replace, which the end of the process by a signal has to remove.
_UNFINISHED: set[Path] = set()


def read_text(path: Path | str, *, most: int = LARGEST, where: str = "") -> str:
    """UTF-8 text of a regular file, its byte-order mark left out.

    Parameters
    ----------
    path : file
    most : bytes that are read at most
    where : how errors name the file; its path if empty

    Raises
    ------
    BadInputError
        A file that is missing, unreadable, too large, no text, or no file: a folder, a pipe, a device.
    """
    place = where or str(path)
    return as_text(_read_bytes(path, most, place), most=most, where=place)


def as_text(data: bytes, *, most: int, where: str) -> str:
    """Bytes as UTF-8 text, its byte-order mark left out; more than ``most`` of them, or no text, is refused."""
    if len(data) > most:
        raise BadInputError(f"{where}: is too large; at most {most / 2**20:.0f} MiB are read")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInputError(f"{where}:{line}: not UTF-8 text") from error


def _read_bytes(path: Path | str, most: int, place: str) -> bytes:
    try:
        # A pipe that nobody writes to must not keep anybody waiting.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            status = os.fstat(handle)
            if stat.S_ISDIR(status.st_mode):
                raise BadInputError(f"{place}: is a folder, not a file")
            if not stat.S_ISREG(status.st_mode):
                raise BadInputError(f"{place}: is a pipe or a device, not a file")
            if status.st_size > most:
                size = f"{status.st_size / 2**20:.1f} MiB"
                raise BadInputError(f"{place}: is too large: {size}; at most {most / 2**20:.0f} MiB are read")
            with os.fdopen(handle, "rb", closefd=False) as file:
                return file.read(most)
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:
        raise BadInputError(f"{place}: cannot be read: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What the operating system says, in a few words."""
    return str(getattr(error, "strerror", None) or error)


def is_file(path: Path | str) -> bool:
    """Whether a regular file stands there; no for a path that cannot be looked at."""
    return stat.S_ISREG(_mode(path))


def is_folder(path: Path | str) -> bool:
    """Whether a folder stands there; no for a path that cannot be looked at."""
    return stat.S_ISDIR(_mode(path))


def is_missing(path: Path | str) -> bool:
    """Whether nothing at all stands there, not even a link that leads nowhere."""
    try:
        Path(path).lstat()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return False


def is_replaced(path: Path | str) -> bool:
    """Whether what is written there takes a file's place, or makes one; no for a device or a pipe, which takes it as
    it comes."""
    return not _mode(path) or is_file(path)


def _mode(path: Path | str) -> int:
    """Kind and permissions, 0 for a path that cannot be looked at: a name too long, a folder that is locked."""
    try:
        return Path(path).stat().st_mode
    except (OSError, ValueError):
        return 0


def stamp(path: Path | str) -> Stamp:
    """What changes when a file does: where it stands, its times, its size, its node, and its content while it is so new
    that it could change again within a tick of the clock."""
    place = str(Path(path).absolute())
    try:
        s = Path(path).stat()
    except (OSError, ValueError):
        return (place, 0, 0, 0, 0, "")
    content = ""
    if time.time_ns() - max(s.st_mtime_ns, s.st_ctime_ns) < FRESH:
        with suppress(BadInputError):
            import hashlib  # seldom needed, and slow to import

            content = hashlib.sha256(_read_bytes(place, LARGEST, place)).hexdigest()
    return (place, s.st_mtime_ns, s.st_ctime_ns, s.st_size, s.st_ino, content)


@contextmanager
def replacing(path: Path | str, *, where: str = "") -> Iterator[BinaryIO]:
    """A file to write that takes the place of ``path`` once all of it is on the disk; until then that one stays whole.

    A device or a pipe, which has nothing to keep, is written directly.

    Raises
    ------
    BadInputError
        What the operating system refuses: a full disk, a folder that is gone or may not be written.
    """
    try:
        if not is_replaced(path):
            with Path(path).open("wb") as file:
                yield file
            return
        yield from _beside(Path(path).resolve())
    except (OSError, ValueError, RuntimeError) as error:  # a link that leads to itself is a RuntimeError to Python 3.11
        raise BadInputError(f"{where or path}: cannot be written: {reason(error)}") from error


def _beside(target: Path) -> Iterator[BinaryIO]:
    beside = target.with_name(f".{target.name[:80]}.{os.urandom(4).hex()}.part")
    _UNFINISHED.add(beside)
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if _mode(target):
            beside.chmod(stat.S_IMODE(_mode(target)))
        beside.replace(target)
    finally:
        with suppress(OSError):
            beside.unlink()
        _UNFINISHED.discard(beside)


def discard_unfinished() -> None:
    """Remove what was being written; for the end by a signal, which unwinds nothing."""
    for beside in tuple(_UNFINISHED):
        with suppress(OSError):
            beside.unlink()
