"""Names of hardware as people write them: cut into words, compared by words, whatever their order.

``A100-SXM4-80GB``, ``NVIDIA A100 80GB SXM4`` and ``a100_sxm_80gb`` are the words a100, sxm4, 80gb: ``sxm`` is
any ``sxmN``. A name that gives only some of an id's words means that id if no other id has those words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

# vendor and family words say nothing a model number does not; "capped" is said of a run, not of a chip
_NOISE = frozenset(
    {"nvidia", "amd", "intel", "google", "amazon", "aws", "apple", "huawei", "cloud", "the", "single"}
    | {"tesla", "geforce", "quadro", "instinct", "radeon", "gpu", "gpus", "core", "cores", "card", "capped"}
)
_SIZE = re.compile(r"(\d+)\s*g(?:i?b)?(?![a-z0-9])")
_SIZE_WORD = re.compile(r"\d+gb")
_FORM = re.compile(r"sxm\d*|oam|pcie|nvl\d*|hbm\w*|gddr\w*")
_ASIDE = re.compile(r"\(([^()]*)\)")


@lru_cache(maxsize=8192)
def words(name: str) -> frozenset[str]:
    """The words of a name: lower case, sizes joined (``80 GB`` is ``80gb``), vendors dropped."""
    text = unicodedata.normalize("NFKC", name).lower()
    text = re.sub(r"[\u2010-\u2015]", "-", text)
    text = _SIZE.sub(r"\1gb ", text.replace("_", "-"))
    found = frozenset(re.findall(r"[a-z0-9]+", text))
    return found - _NOISE or found


def without_aside(name: str) -> str | None:
    """The name without what stands in parentheses, or None where nothing may be dropped.

    An aside is a remark, unless it alone tells the memory size or the form:
    ``RTX 4090 (48 GB mod)`` is no RTX 4090.
    """
    asides = _ASIDE.findall(name)
    rest = _ASIDE.sub(" ", name).strip()
    if not asides or not rest:
        return None
    said, kept = words(" ".join(asides)), words(rest)
    for pattern in (_SIZE_WORD, _FORM):
        if any(pattern.fullmatch(w) for w in said) and not any(pattern.fullmatch(w) for w in kept):
            return None
    return rest


def _same(given: str, own: str) -> bool:
    return given == own or (given.startswith("sxm") and own.startswith("sxm") and "sxm" in (given, own))


def contradicts(own: Iterable[str], given: Iterable[str]) -> bool:
    """Whether a name gives another numbered form than an id has: ``sxm3`` is not ``sxm2``, whatever its aliases."""
    mine, said = ({w for w in ws if re.fullmatch(r"sxm\d", w)} for ws in (own, given))
    return bool(mine and said and mine != said)


def contains(own: Iterable[str], given: Iterable[str]) -> bool:
    """Whether every given word is one of an id's own."""
    mine = tuple(own)
    return all(any(_same(g, o) for o in mine) for g in given)


def another(own: Iterable[str], given: Iterable[str]) -> bool:
    """Whether an id adds a word that makes another model of it, as ``ti`` and ``super`` do: no size, form or memory."""
    extra = {o for o in own if not any(_same(g, o) for g in given)}
    return any(not _SIZE_WORD.fullmatch(w) and not _FORM.fullmatch(w) for w in extra)


def equal(own: frozenset[str], given: frozenset[str]) -> bool:
    """Whether two names are the same words."""
    return len(own) == len(given) and contains(own, given)


def telling(given: Iterable[str]) -> bool:
    """Whether a name holds a model number, and not only a size or a form."""
    return any(any(c.isdigit() for c in w) and not _SIZE_WORD.fullmatch(w) and not _FORM.fullmatch(w) for w in given)
