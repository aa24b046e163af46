"""What a caching allocator reserves, fitted on published peaks, and how far off peaks are with every source left out.

The fraction of ``frameworks.yaml`` is the median over sources of the median of a source's runs. Frameworks with the
same fraction are fitted together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.cost.runs import TrainingRun
from planner.cost.training import training_step
from planner.validation.published import Compared
from planner.validation.study import Rows, error_row, predicted_memory


@dataclass(frozen=True)
class Peak:
    """One published peak: ``measured``, ``predicted`` as shipped, and ``freed``, which the fraction is of [byte].

    ``fraction`` is that of the framework, 0 where nothing is cached or fragmentation is not measured.
    """

    kind: str
    source: str
    measured: float
    predicted: float
    freed: float
    fraction: float

    def with_fraction(self, fraction: float) -> float:
        """The peak predicted with another fraction [byte]."""
        return self.predicted + (fraction - self.fraction) * self.freed

    @property
    def own(self) -> float:
        """The fraction that would have met this peak."""
        return self.fraction + (self.measured - self.predicted) / self.freed


def peaks(compared: Sequence[Compared]) -> list[Peak]:
    """Every comparison that has a measured and a predicted peak."""
    return [_peak(c) for c in compared if c.estimate is not None and np.isfinite(c.case.memory_gib)]


def _peak(c: Compared) -> Peak:
    assert c.estimate is not None
    job = c.estimate.job
    assert isinstance(job.run, TrainingRun)
    freed, measured = 0.0, c.case.memory_gib * 2**30
    if c.case.memory_kind != "allocated":
        freed = _fragmented(c, job.run, 1.0) - _fragmented(c, job.run, 0.0)
    fraction = job.run.framework.fragmentation if freed else 0.0
    return Peak(c.case.memory_kind, c.case.source, measured, predicted_memory(c), freed, fraction)


def _fragmented(c: Compared, run: TrainingRun, fraction: float) -> float:
    assert c.estimate is not None
    job = c.estimate.job
    other = replace(run, framework=replace(run.framework, fragmentation=fraction))
    return float(training_step(job.demand, job.cluster, job.layout, other).memory["fragmentation"][0])


def fitted(found: Sequence[Peak], fraction: float, *, without: str = "") -> float:
    """The fraction of the frameworks that ship with ``fraction``, from all sources but one."""
    by_source: dict[str, list[float]] = {}
    for p in found:
        if p.freed and p.fraction == fraction and p.source != without:
            by_source.setdefault(p.source, []).append(p.own)
    return float(np.median([np.median(v) for v in by_source.values()])) if by_source else fraction


def left_out_rows(compared: Sequence[Compared]) -> Rows:
    """Errors of each kind of peak, as fitted and with a run's own source left out of the fit."""
    found = peaks(compared)
    rows: Rows = []
    for kind in ("allocated", "reserved", "device"):
        of = [p for p in found if p.kind == kind]
        for label, out in (("in", False), ("left out", True)):
            logs = [float(np.log(p.with_fraction(fitted(found, p.fraction, without=p.source if out else ""))
                                 / p.measured)) for p in of]  # fmt: skip
            rows += [{"measured": kind, "own source": label, **error_row(logs)}] if logs else []
    return rows
