"""The planner as Python: the same scenario keys as the command line, tables as DataFrames.

A scenario is a mapping, an object whose public attributes are keys (a dataclass, a namespace, a named tuple), keyword
arguments, or the first with the last on top. Keys that are not given, None or NaN are left to choose.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.errors import BadInputError

if TYPE_CHECKING:
    from planner.cost.points import Point
    from planner.cost.roofs import Roof
    from planner.frames import Frame
    from planner.planning.estimate import Estimate
    from planner.planning.plan import Plan
    from planner.planning.size import Sizing

Dirs = str | Path | Iterable[str | Path]
Progress = Callable[[int, int], None]


def estimate(
    scenario: object = None, /, *, hardware_dirs: Dirs = (), folder: str | Path | None = None, **keys: object
) -> Estimate:
    """Estimate one scenario: ``estimate(model="llama-3.1-8b", hardware="dgx-h100", devices=8, tp=8, task="decode")``.

    Parameters
    ----------
    scenario : mapping or object    scenario keys, as on the command line with underscores
    hardware_dirs : folder or folders of your own hardware profiles
    folder : folder that relative model paths start from
    **keys : scenario keys, over those of ``scenario``

    Returns
    -------
    Estimate                        ``row`` (flat inputs and results), ``time`` and ``memory`` ledgers, ``fits``,
                                    ``assumed``

    Raises
    ------
    planner.BadInputError           what was given, where, what is allowed, the nearest names
    """
    from planner.planning.estimate import estimate_scenario

    asked = _asked(scenario, keys)
    with _given(asked):
        return estimate_scenario(asked, today=date.today(), **_where(hardware_dirs, folder))


def estimates(
    scenarios: Iterable[object] | Frame,
    *,
    hardware_dirs: Dirs = (),
    folder: str | Path | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> Frame:
    """Estimate a table of scenarios, a row each; a bad row has its ``error`` and no effect on the others.

    Parameters
    ----------
    scenarios : DataFrame, or mappings or objects of scenario keys
    hardware_dirs, folder : as for :func:`estimate`
    strict : bool                   refuse columns that are no keys; else they go through untouched, with a warning
    progress : callable             told the rows done, and how many of them have an answer

    Returns
    -------
    DataFrame                       your own columns, then fixed ones (docs/glossary.md, *Result columns*): ``model``
                                    and ``hardware`` as given beside ``resolved_model`` and ``resolved_hardware``; the
                                    index of a DataFrame is kept
    """
    from planner.frames import frame
    from planner.planning.columns import FIXED
    from planner.planning.estimate import estimate_rows, own_columns, unknown_columns

    table: Any = scenarios
    given = table.to_dict("records") if hasattr(table, "to_dict") and hasattr(table, "columns") else table
    rows = [_asked(r, {}) for r in ([given] if isinstance(given, Mapping) else given)]
    strange = unknown_columns(rows)
    if strange and strict:
        raise BadInputError("; ".join(strange))
    if strange:
        warnings.warn(f"{'; '.join(strange)}: passed through untouched", stacklevel=2)
    done = estimate_rows(rows, today=date.today(), progress=progress, **_where(hardware_dirs, folder))
    own = dict.fromkeys(k for r in rows for k in own_columns(r))
    out = frame(list(done), [*own, *FIXED])
    return out.set_index(table.index) if given is not table else out


def plan(
    scenario: object = None,
    /,
    *,
    compress: bool = False,
    top: int = 10,
    hardware_dirs: Dirs = (),
    folder: str | Path | None = None,
    progress: Progress | None = None,
    **keys: object,
) -> Plan:
    """Search the layouts of a scenario, and with ``compress`` what is done to the model; given keys are held.

    Parameters
    ----------
    scenario, hardware_dirs, folder, **keys : as for :func:`estimate`; a key that is searched may be held to several
        values: ``tp=(2, 4)`` or ``tp="1..8"``
    compress : bool                 search precision, sparsity, pruning, students and optimizers too
    top : int                       rows kept
    progress : callable             told the layouts considered, and how many of them fit

    Returns
    -------
    Plan                            ``best`` (None where nothing fits), ``rows``, ``to_frame()``, ``refused`` counts,
                                    ``assumed``
    """
    from planner.planning.plan import make_plan

    asked = _asked(scenario, keys)
    with _given(asked):
        return make_plan(asked, compress=compress, top=top, today=date.today(), progress=progress,
                         **_where(hardware_dirs, folder))  # fmt: skip


def compare(
    hardware: Sequence[str] | str,
    scenario: object = None,
    /,
    *,
    equal: str = "devices",
    hardware_dirs: Dirs = (),
    folder: str | Path | None = None,
    progress: Progress | None = None,
    **keys: object,
) -> Frame:
    """The best plan of one scenario on each kind of hardware, a row each; ``error`` says where there is none.

    Parameters
    ----------
    hardware : ids of systems or accelerators
    equal : ``devices``, or as many of each as cost (``usd``) or draw (``power``) what ``devices`` of the first do
    scenario, hardware_dirs, folder, progress, **keys : as for :func:`plan`

    Returns
    -------
    DataFrame                       ``id``, ``layout``, ``alike`` (rows whose 90 % intervals overlap), then the fixed
                                    columns
    """
    from planner.frames import frame
    from planner.planning.columns import FIXED
    from planner.planning.compare import compare_hardware
    from planner.planning.equal import equal_terms
    from planner.present.plans import comparison_rows

    asked, where, held = _asked(scenario, keys), _where(hardware_dirs, folder), None
    if equal != "devices":
        names = [hardware] if isinstance(hardware, str) else list(hardware)
        held = equal_terms(asked, names, equal, today=date.today(), **where)
    found = compare_hardware(asked, hardware, held=held, today=date.today(), progress=progress, **where)
    return frame(comparison_rows(found), ["id", "layout", "alike", *FIXED])


def size(
    model: str,
    hardware: Sequence[str] | str,
    *,
    hardware_dirs: Dirs = (),
    folder: str | Path | None = None,
    **words: object,
) -> Sizing:
    """How many devices train a model: ``size("llama-2-13b", "dgx-h100", tokens="2T", deadline="30d", budget="1.5M")``.

    Parameters
    ----------
    hardware : system or accelerator ids
    **words : those of ``planner size`` with underscores (``tokens``, ``deadline``, ``devices="256..4096"`` …), and
              scenario keys

    Returns
    -------
    Sizing                          ``best`` (None where nothing keeps the limits); ``sized``, of every kind of
                                    hardware ``curve``, ``fewest``, ``cheapest``, ``fastest``; ``tokens``
    """
    from planner.planning.asked import WORDS, asked
    from planner.planning.size import size_training

    question = asked({k: v for k, v in words.items() if k in WORDS})
    scenario = {k: v for k, v in words.items() if k not in WORDS}
    names = [hardware] if isinstance(hardware, str) else list(hardware)
    return size_training({**scenario, "model": model}, names, question, today=date.today(),
                         **_where(hardware_dirs, folder))  # fmt: skip


def sweep_frames(folder: str | Path) -> Iterator[Frame]:
    """Shards of a folder that ``planner sweep`` wrote, a DataFrame each, in order."""
    from planner.frames import read_shard
    from planner.present.sweeps import shard_paths

    yield from map(read_shard, shard_paths(str(folder)))


def roofline(
    scenario: object = None, /, *, hardware_dirs: Dirs = (), folder: str | Path | None = None, **keys: object
) -> tuple[list[Point], list[Roof]]:
    """Points (an operator each) and roofs of a scenario's roofline; arguments as for :func:`estimate`."""
    from planner.cost.points import points
    from planner.cost.roofs import roofs

    e = estimate(scenario, hardware_dirs=hardware_dirs, folder=folder, **keys)
    return points(e.job), roofs(e.job)


def summary(
    model: str, *, batch: int = 1, seq_len: int = 2048, quantization: str | None = None,
    folder: str | Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Parameters, forward FLOPs, weights by the precision they are stored in and the layer table; no hardware in it."""
    from planner.demand.counts import summary as summarise
    from planner.scenario.keys import parse_scenario
    from planner.scenario.stored import stored_model

    parse_scenario({"batch": str(batch), "seq_len": str(seq_len)})
    path = Path(folder, model) if folder is not None else None
    found = str(path) if path is not None and path.exists() else model
    return summarise(stored_model(found, quantization), batch=batch, seq_len=seq_len)


def models() -> Frame:
    """The catalogue of models, a row each."""
    from planner.frames import frame
    from planner.present.catalogue import model_rows

    return frame(model_rows())


def hardware(*, hardware_dirs: Dirs = (), systems: bool = False) -> Frame:
    """The catalogue of accelerators, or of systems, a row each."""
    from planner.frames import frame
    from planner.present.catalogue import accelerator_rows, system_rows

    return frame((system_rows if systems else accelerator_rows)(_where(hardware_dirs, None)["dirs"]))


def _where(hardware_dirs: Dirs, folder: str | Path | None) -> dict[str, Any]:
    """Folders as the planner takes them: one by itself is a list of one."""
    several = [hardware_dirs] if isinstance(hardware_dirs, str | Path) else hardware_dirs
    return {"dirs": tuple(str(d) for d in several), "folder": str(folder) if folder else None}


@contextmanager
def _given(asked: Mapping[str, object]) -> Iterator[None]:
    """An error about a key tells what was given for it."""
    try:
        yield
    except BadInputError as error:
        if error.given is None:
            error.given = asked.get(error.key)
        raise


def _asked(scenario: object, keys: Mapping[str, object]) -> dict[str, object]:
    """A scenario as one mapping: a mapping's items or an object's public attributes, with ``keys`` on top."""

    if scenario is None:
        return dict(keys)
    if isinstance(scenario, Mapping):
        return {**scenario, **keys}
    fields = getattr(scenario, "_asdict", lambda: getattr(scenario, "__dict__", None))()
    if fields is None and hasattr(scenario, "__slots__"):
        fields = {k: getattr(scenario, k) for k in scenario.__slots__}
    if not isinstance(fields, Mapping) or isinstance(scenario, type):
        raise BadInputError(f"scenario: {type(scenario).__name__} given; due is a mapping, an object whose attributes "
                            "are keys, or keyword arguments", given=scenario)  # fmt: skip
    return {k: v for k, v in fields.items() if not k.startswith("_")} | dict(keys)
