"""Which numbers of devices are worth asking about: those a system can have, in even steps of ratio."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from planner.catalogue.hardware import System
from planner.errors import BadInputError
from planner.scenario.keys import LARGEST

STEPS = (4, 5, 6, 7)  # counts of an octave: 4·2^k, 5·2^k, 6·2^k, 7·2^k
FULL = 15 / 16  # of the largest batch that a count is given at least
_RANGE = re.compile(r"^(\d+)\s*\.\.\s*(\d+)$")


@dataclass(frozen=True)
class Asked:
    """The counts that were asked for: a list of them, or a range from ``low`` to ``high``, 0 where it is open."""

    listed: tuple[int, ...] = ()
    low: int = 0
    high: int = 0

    @property
    def open(self) -> bool:
        """Whether nothing was asked."""
        return not self.listed and not self.high


def parse_counts(text: str | None) -> Asked:
    """``256``, ``256,512,1024`` or ``256..16384``; None and empty ask for nothing.

    Raises
    ------
    BadInputError
        What is neither, a range that runs backwards, or numbers out of range.
    """
    if text is None or not text.strip():
        return Asked()
    span = _RANGE.match(text.strip())
    if span is not None:
        low, high = int(span[1]), int(span[2])
        if not 1 <= low <= high <= LARGEST:
            raise BadInputError(f"devices: {text!r} is no range within 1 … {LARGEST:,} that rises")
        return Asked(low=low, high=high)
    parts = [p.strip() for p in text.split(",")]
    if not all(p.isdigit() and 1 <= int(p) <= LARGEST for p in parts):
        raise BadInputError(f"devices: {text!r} is not a number, a list such as 256,512 or a range such as 256..16384")
    return Asked(listed=tuple(sorted({int(p) for p in parts})))


def possible(system: System, devices: int) -> bool:
    """Whether a system comes in such a count: a part of a node that divides it, or whole nodes; of a torus a part that
    divides it, or whole tori; no more than its fabric joins where no network joins its domains."""
    fabric, node = system.scale_up, system.devices_per_node
    domain = fabric.domain if fabric is not None else 1
    if system.scale_out is None and devices > max(domain, 1):
        return False
    unit = domain if fabric is not None and fabric.topology in ("torus", "ring") else node
    return unit % devices == 0 if devices < unit else devices % unit == 0


def comes_in(system: System) -> str:
    """Which counts a system can have, in words."""
    fabric, node = system.scale_up, system.devices_per_node
    if system.scale_out is None:
        most = max(fabric.domain if fabric is not None else 1, 1)
        return (f"{most} are the most of it, because no network joins its nodes; network_bandwidth "
                "(--network-bandwidth, as in '50 GB/s') joins them")  # fmt: skip
    if fabric is not None and fabric.topology in ("torus", "ring"):
        return f"it comes in whole tori of {fabric.domain}, or parts that divide one"
    return f"it comes in nodes of {node}"


def counts_between(system: System, low: int, high: int) -> list[int]:
    """Possible counts from ``low`` to ``high`` in four steps an octave, the ends too where they are possible."""
    octaves = range(high.bit_length())
    tried = {m << k for k in octaves for m in STEPS} | {1, 2, 3, low, high}
    return sorted(n for n in tried if low <= n <= high and possible(system, n))


def octave_steps(counts: Sequence[int], *, ends: bool = True) -> list[int]:
    """Of rising counts the powers of two, and the ``ends``; where those are few, each that is about twice the one
    before."""
    powers = [n for n in counts if n & (n - 1) == 0]
    if powers and 2 ** len(powers) * counts[0] >= counts[-1] / 2:
        return sorted({counts[0], *powers, counts[-1]}) if ends else powers
    chosen = [counts[0]]
    for n, following in zip(counts[1:], [*counts[2:], None], strict=False):
        if following is None or following > 2 * chosen[-1]:
            chosen.append(n)
    return chosen


def around(counts: Sequence[int], known: Iterable[int], picked: int) -> list[int]:
    """Counts that are not known yet between a picked one's known neighbours, both sides."""
    have = set(known)
    lower = max((n for n in have if n < picked), default=counts[0])
    upper = min((n for n in have if n > picked), default=counts[-1])
    return [n for n in counts if lower <= n <= upper and n not in have]


def batch_for(devices: int, most: int) -> int:
    """The largest batch that divides over as large a part of the devices as leaves at least 15/16 of ``most``.

    The part is that of halving the devices as often as needed: the halves go to tensor or pipeline parallelism, which a
    search divides large counts by anyway. A batch that is much smaller costs more than data-parallel sizes that are
    left out: 5,120 devices are 15 % faster on 960 sequences than on 640.
    """
    part = devices
    while part % 2 == 0 and most // part * part < FULL * most:
        part //= 2
    return most // part * part if part <= most else most
