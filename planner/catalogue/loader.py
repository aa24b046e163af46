"""Hardware by name: which file is meant, read and turned into the dataclasses of ``catalogue.hardware``.

Folders are searched in order: those given, those of ``$PLANNER_HARDWARE``, the built-in catalogue. In each,
accelerators stand under ``accelerators/`` (any depth), systems under ``systems/``, efficiency classes under
``classes/``; a flat folder is told apart by the keys of its files. A look-up opens a file only to read its
``aliases:`` line, and parses the one that is meant.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Literal

from planner.catalogue import build, names
from planner.catalogue.fields import ACCELERATOR_FIELDS, SYSTEM_FIELDS
from planner.catalogue.hardware import Accelerator, System
from planner.catalogue.reader import read_file
from planner.errors import BadInputError, unknown
from planner.files import Stamp, is_folder, read_text, stamp

Kind = Literal["accelerators", "systems", "classes"]
Dirs = Sequence[Path | str] | None
ENVIRONMENT = "PLANNER_HARDWARE"
MARKS: dict[Kind, str] = {"accelerators": "peak_flops", "systems": "accelerator", "classes": "kernels"}
_KEY = re.compile(r"^([a-z_]+):", re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """A catalogue file that has not been parsed; its aliases are read only when an id does not decide."""

    id: str
    path: Path

    @cached_property
    def aliases(self) -> tuple[str, ...]:
        """The other names, from the ``aliases: [...]`` line alone."""
        return _aliases(self.path)

    def is_named(self, given: frozenset[str]) -> bool:
        """Whether the words are those of the id or of an alias."""
        if names.contradicts(names.words(self.id), given):
            return False
        return any(names.equal(names.words(n), given) for n in (self.id, *self.aliases))


@cache
def built_in() -> Path:
    """The catalogue that comes with the planner: the checkout's ``hardware/``, or the wheel's copy."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / "hardware"
    return checkout if (checkout / "accelerators").is_dir() else package / "_catalogue"


def search_path(dirs: Dirs = None) -> tuple[Path, ...]:
    """Folders in order of precedence; one that was given and does not exist is refused."""
    given = [Path(d) for d in dirs or ()]
    for folder in given:
        if not is_folder(folder):
            raise BadInputError(f"hardware folder {str(folder)!r} does not exist")
    from_environment = [Path(p) for p in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if p]
    for folder in from_environment:
        if not is_folder(folder):
            raise BadInputError(f"${ENVIRONMENT}: folder {str(folder)!r} does not exist")
    return (*given, *from_environment, built_in())


def _files(folder: Path, kind: Kind) -> Iterator[Path]:
    """Files of a kind; in a flat folder a key tells an accelerator from a system."""
    yield from sorted((folder / kind).rglob("*.yaml"))
    yield from (p for p in sorted(folder.glob("*.yaml")) if kind_of(p) == kind)


def kind_of(path: Path) -> Kind | None:
    """What a file of a flat folder describes, by a key that only its kind has; None where it has none of them."""
    try:
        keys = set(_KEY.findall(read_text(path)))
    except BadInputError:
        return None
    return next((kind for kind, mark in MARKS.items() if mark in keys), None)


def _aliases(path: Path) -> tuple[str, ...]:
    """The ``aliases: [...]`` line of a file, without parsing it."""
    try:
        text = read_text(path)
    except BadInputError:
        return ()
    for line in text.splitlines():
        if line.startswith("aliases:"):
            return tuple(a.strip().strip("'\"") for a in line[8:].strip().strip("[]").split(",") if a.strip())
    return ()


@lru_cache(maxsize=64)
def _index(folder: Path, kind: Kind, _listed: tuple[Stamp, ...]) -> tuple[Entry, ...]:
    return tuple(Entry(p.stem, p) for p in _files(folder, kind))


def _listed(folder: Path) -> tuple[Stamp, ...]:
    """Changes when a file of a folder comes, goes or changes; what ships with the planner is read once, as code is."""
    if folder == built_in():
        return ()
    paths = [*folder.glob("*.yaml"), *(p for kind in MARKS for p in (folder / kind).rglob("*.yaml"))]
    return tuple(stamp(p) for p in sorted(paths))


def snapshot(dirs: Dirs = None) -> tuple[tuple[Path, tuple[Stamp, ...]], ...]:
    """What every answer about hardware hangs on: the folders that are searched, and their files as they are now."""
    return tuple((folder.absolute(), _listed(folder)) for folder in search_path(dirs))


def entries(kind: Kind, dirs: Dirs = None) -> dict[str, Entry]:
    """Every file of a kind by id; the first folder that has an id wins."""
    found: dict[str, Entry] = {}
    for folder, listed in snapshot(dirs):
        for entry in _index(folder, kind, listed):
            found.setdefault(entry.id, entry)
    return found


def accelerator_ids(dirs: Dirs = None) -> tuple[str, ...]:
    """Ids of all accelerators, sorted."""
    return tuple(sorted(entries("accelerators", dirs)))


def system_ids(dirs: Dirs = None) -> tuple[str, ...]:
    """Ids of all systems that have a file, sorted."""
    return tuple(sorted(entries("systems", dirs)))


def find(name: str, known: Mapping[str, Entry], *, what: str) -> Entry:
    """The one entry a name means.

    Raises
    ------
    BadInputError
        Nothing has that name (with the nearest), or several do (with all of them).
    """
    entry, rivals = _match(name, known)
    if entry is not None:
        return entry
    if rivals:
        raise BadInputError(f"{what} {name!r} is ambiguous; say which: {', '.join(sorted(rivals))}")
    raise _unknown(what, name, known)


def _unknown(what: str, name: str, known: Mapping[str, Entry]) -> BadInputError:
    """The error for a name nothing has; ids that share a model number with it are the nearest."""
    shared = [w for w in names.words(name) if names.telling([w])]
    alike = [i for i in known if any(names.contains(names.words(i), [w]) for w in shared)]
    if alike:
        alike.sort(key=lambda i: (-SequenceMatcher(None, name.lower(), i).ratio(), i))
        text = f"unknown {what} {name!r}; nearest: {', '.join(alike[:6])} ({len(known)} are known)"
        return BadInputError(text, key=what, given=name, allowed=sorted(known))
    return unknown(what, name, known)


def _match(name: str, known: Mapping[str, Entry]) -> tuple[Entry | None, list[str]]:
    """The entry meant, or the ids between which the name does not decide."""
    if name.strip().lower() in known:
        return known[name.strip().lower()], []
    rivals: list[str] = []
    for form in (name, names.without_aside(name)):
        if not form or not form.strip():
            continue
        given = names.words(form)
        exact = [e for e in known.values() if e.is_named(given)]
        if len(exact) == 1:
            return exact[0], []
        partial = [e for e in known.values() if names.contains(names.words(e.id), given)]
        partial = partial if names.telling(given) else []
        if len(partial) == 1 and not exact:
            return partial[0], []
        rivals = rivals or [e.id for e in exact or partial]
    return None, rivals


@lru_cache(maxsize=256)
def _accelerator(path: Path, _changed: Stamp) -> Accelerator:
    return build.accelerator(read_file(path, ACCELERATOR_FIELDS), path)


@lru_cache(maxsize=256)
def _system(path: Path, _changed: Stamp) -> System:
    return build.system(read_file(path, SYSTEM_FIELDS), path)


def load_accelerator(name: str, dirs: Dirs = None) -> Accelerator:
    """The accelerator of an id, an alias, or a name that only one id contains."""
    path = find(name, entries("accelerators", dirs), what="accelerator").path
    return _accelerator(path, stamp(path))


def load_system(name: str, dirs: Dirs = None) -> System:
    """The system of an id or alias; an accelerator's name gives its default system."""
    return resolve_hardware(name, dirs)[1]


def default_system(accelerator: Accelerator, dirs: Dirs = None) -> System:
    """The system meant where only the chip is named; one made by rule where no node is known."""
    known = entries("systems", dirs)
    if accelerator.default_system is None:
        return build.generic_system(accelerator)
    path = find(accelerator.default_system, known, what="system").path
    return _system(path, stamp(path))


def resolve_hardware(name: str, dirs: Dirs = None) -> tuple[Accelerator, System]:
    """What a hardware name means: a system and its accelerator, or an accelerator and its default system.

    A system is looked for first by its full name, then an accelerator, then a system by part of its name.
    """
    systems, accelerators = entries("systems", dirs), entries("accelerators", dirs)
    whole = _whole(name, systems) if name.strip().lower() not in accelerators else None
    if whole is not None:
        return _of_system(whole, dirs)
    chip, rivals = _match(name, accelerators)
    if chip is not None:
        accelerator = _accelerator(chip.path, stamp(chip.path))
        return accelerator, default_system(accelerator, dirs)
    node, more = _match(name, systems)
    if node is not None and not rivals:
        return _of_system(node, dirs)
    if rivals or more:
        meant = sorted(rivals or more)
        text = f"hardware {name!r} is ambiguous; say which: {', '.join(meant)}"
        raise BadInputError(text, key="hardware", given=name, allowed=meant)
    raise _unknown("hardware", name, {**accelerators, **systems})


def variants(name: str, dirs: Dirs = None) -> tuple[str, ...]:
    """Other accelerators that a name could be of, where an alias decides; none where it is an id."""
    known = entries("accelerators", dirs)
    if name.strip().lower() in known:
        return ()
    given = names.words(name)
    chip = _match(name, known)[0]
    alike = (i for i in known if names.contains(own := names.words(i), given) and not names.contradicts(own, given)
             and not names.another(own, given))  # fmt: skip
    return tuple(i for i in alike if chip is not None and i != chip.id)


def _whole(name: str, known: Mapping[str, Entry]) -> Entry | None:
    """The entry whose id or alias is this very name, remarks in parentheses included."""
    if name.strip().lower() in known:
        return known[name.strip().lower()]
    given = names.words(name)
    found = [e for e in known.values() if given and e.is_named(given)]
    return found[0] if len(found) == 1 else None


def _of_system(entry: Entry, dirs: Dirs) -> tuple[Accelerator, System]:
    system = _system(entry.path, stamp(entry.path))
    return load_accelerator(system.accelerator, dirs), system


def alias_clashes(dirs: Dirs = None) -> Iterable[str]:
    """Ids that claim the same name, as sentences."""
    for kind in ("accelerators", "systems"):
        seen: dict[frozenset[str], str] = {}
        for entry in entries(kind, dirs).values():
            for name in (entry.id, *entry.aliases):
                other = seen.setdefault(names.words(name), entry.id)
                if other != entry.id:
                    yield f"{entry.path}:1: alias {name!r} is also a name of {other}"
