"""The planner as Python: the same scenario keys as the command line, tables as DataFrames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from planner.cost.points import Point
    from planner.cost.roofs import Roof
    from planner.planning.estimate import Estimate
    from planner.planning.plan import Plan
    from planner.planning.size import Sizing

Dirs = Iterable[str | Path]


def _dirs(hardware_dirs: Dirs) -> tuple[str, ...]:
    return tuple(str(d) for d in hardware_dirs)


def estimate(*, hardware_dirs: Dirs = (), folder: str | Path | None = None, **scenario: object) -> Estimate:
    """Estimate one scenario: ``estimate(model=…, hardware=…, devices=…, …)``.

    Parameters
    ----------
    hardware_dirs : folders of your own hardware profiles
    folder : folder that relative model paths start from
    **scenario : the scenario keys, as on the command line with underscores

    Returns
    -------
    Estimate                       ``row`` (flat inputs and results), ``time`` and ``memory`` ledgers, ``assumed``

    Raises
    ------
    planner.errors.BadInputError   what was given, where, what is allowed, the nearest names
    """
    from planner.planning.estimate import estimate_scenario

    return estimate_scenario(
        scenario, dirs=_dirs(hardware_dirs), folder=str(folder) if folder else None, today=date.today()
    )


def estimates(
    scenarios: Iterable[Mapping[str, object]] | pd.DataFrame,
    *,
    hardware_dirs: Dirs = (),
    folder: str | Path | None = None,
) -> pd.DataFrame:
    """Estimate a table of scenarios, a row each; a bad row has its ``error`` and no effect on the others."""
    import pandas as pd

    from planner.planning.estimate import estimate_rows

    rows: Any = scenarios.to_dict("records") if isinstance(scenarios, pd.DataFrame) else scenarios
    if isinstance(rows, Mapping):
        rows = [rows]
    return pd.DataFrame(
        estimate_rows(rows, dirs=_dirs(hardware_dirs), folder=str(folder) if folder else None, today=date.today())
    )


def plan(
    *,
    compress: bool = False,
    top: int = 10,
    hardware_dirs: Dirs = (),
    folder: str | Path | None = None,
    **scenario: object,
) -> Plan:
    """Search the layouts of a scenario, and with ``compress`` what is done to the model; given keys are held.

    Returns
    -------
    Plan                           ``best`` (None where nothing fits), ``rows``, ``refused`` counts, ``assumed``
    """
    from planner.planning.plan import make_plan

    return make_plan(
        scenario, compress=compress, top=top, dirs=_dirs(hardware_dirs), folder=str(folder) if folder else None,
        today=date.today(),
    )  # fmt: skip


def compare(
    hardware: Sequence[str] | str, *, equal: str = "devices", hardware_dirs: Dirs = (),
    folder: str | Path | None = None, **scenario: object,
) -> pd.DataFrame:  # fmt: skip
    """The best plan of one scenario on each kind of hardware, a row each; ``error`` says where there is none.

    ``equal`` gives each as many devices as cost (``usd``) or draw (``power``) what ``devices`` of the first do.
    """
    import pandas as pd

    from planner.planning.compare import compare_hardware
    from planner.planning.equal import equal_terms
    from planner.present.plans import comparison_rows

    dirs, where, today = _dirs(hardware_dirs), str(folder) if folder else None, date.today()
    names = [hardware] if isinstance(hardware, str) else list(hardware)
    held = None
    if equal != "devices":
        held = equal_terms(scenario, names, equal, dirs=dirs, folder=where, today=today)
    found = compare_hardware(scenario, names, held=held, dirs=dirs, folder=where, today=today)
    return pd.DataFrame(comparison_rows(found))


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
    **words : those of ``planner size`` with underscores (``tokens``, ``deadline``, ``devices="256..4096"``,
              ``price_kind`` …), and scenario keys

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
    return size_training({**scenario, "model": model}, names, question, dirs=_dirs(hardware_dirs),
                         folder=str(folder) if folder else None, today=date.today())  # fmt: skip


def sweep_frames(folder: str | Path) -> Iterator[pd.DataFrame]:
    """Shards of a folder that ``planner sweep`` wrote, a DataFrame each, in order."""
    import pandas as pd

    from planner.present.sweeps import shard_paths

    for path in shard_paths(str(folder)):
        yield pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def roofline(*, hardware_dirs: Dirs = (), **scenario: object) -> tuple[list[Point], list[Roof]]:
    """Points (an operator each) and roofs of a scenario's roofline."""
    from planner.cost.points import points
    from planner.cost.roofs import roofs
    from planner.planning.estimate import estimate_scenario

    e = estimate_scenario(scenario, dirs=_dirs(hardware_dirs), today=date.today())
    return points(e.job), roofs(e.job)


def summary(model: str, *, batch: int = 1, seq_len: int = 2048, quantization: str | None = None) -> dict[str, Any]:
    """Parameters, forward FLOPs, weights by the precision they are stored in and the layer table; no hardware in it."""
    from planner.demand.counts import summary as summarise
    from planner.scenario.keys import parse_scenario
    from planner.scenario.stored import stored_model

    parse_scenario({"batch": str(batch), "seq_len": str(seq_len)})
    return summarise(stored_model(model, quantization), batch=batch, seq_len=seq_len)


def models() -> pd.DataFrame:
    """The catalogue of models, a row each."""
    import pandas as pd

    from planner.present.catalogue import model_rows

    return pd.DataFrame(model_rows())


def hardware(*, hardware_dirs: Dirs = ()) -> pd.DataFrame:
    """The catalogue of accelerators, a row each."""
    import pandas as pd

    from planner.present.catalogue import accelerator_rows

    return pd.DataFrame(accelerator_rows(_dirs(hardware_dirs)))
