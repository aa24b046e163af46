"""How far off an estimate may be: factors on a predicted time, from the residuals of published runs by regime."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.catalogue.intervals import interval_table, measured_chips
from planner.cost.layouts import Layouts
from planner.cost.runs import InferenceRun
from planner.precision import DTYPES
from planner.scenario.resolve import Resolved
from planner.supply.efficiency import kernel_efficiency

WIDE = 2.0  # factor either way where nothing shows how far off a prediction is: an assumption
WIDE50 = (0.7, 1.4)  # and the half of it that is taken to hold half of the runs
CLIENTS = ((8, "to_8"), (32, "to_32"), (128, "to_128"))


@dataclass(frozen=True)
class Interval:
    """Factors that bound a predicted time in 90 % (``low``, ``high``) and 50 % of runs, and where they come from."""

    low: float
    high: float
    low50: float
    high50: float
    basis: str


def regime(resolved: Resolved, x: Layouts) -> str:
    """The regime an estimate belongs to, from wide to narrow, joined by dots.

    Inference: prefill or decode, weights computed in as stored or expanded first (weight-only quantisation).
    Training: dense or mixture of experts; chips whose kernels were never measured by vendor, else 16-bit or narrower
    matmuls, inside one scale-up domain or across.
    """
    if resolved.task != "train":
        p = resolved.precision
        phase = "decode" if resolved.task in ("decode", "serve") else "prefill"
        return f"infer.{phase}.{'weight_only' if DTYPES[p.weight].bytes < DTYPES[p.compute].bytes else 'native'}"
    chip = resolved.cluster.accelerator
    found = kernel_efficiency(chip, "matmul", resolved.precision.compute, defaults=resolved.cluster.efficiency)
    sparse = resolved.demand.active_parameters < resolved.demand.total_parameters
    if found.provenance.basis != "measured":
        return f"train.unmeasured.{'moe' if sparse else 'dense'}.{chip.vendor.lower()}"
    narrow = DTYPES[resolved.precision.compute].bytes < 2
    across = int(x.devices[0]) > resolved.cluster.domain
    return ".".join(("train", "moe" if sparse else "dense", "narrow" if narrow else "wide",
                     "multi" if across else "single"))  # fmt: skip


def serving_regime(run: InferenceRun, figure: str) -> str:
    """The regime of a figure of a served deployment (``ttft``, ``tpot``, ``rate``): by engine, and requests at once."""
    return f"serve.{figure}.{run.engine.id.replace('.', '_')}.{clients_bucket(run.batch)}"


def clients_bucket(clients: int) -> str:
    """Requests at once, in ranges."""
    return next((name for most, name in CLIENTS if clients <= most), "more")


def figure_interval(resolved: Resolved, run: InferenceRun, figure: str) -> Interval:
    """The 90 % interval of one figure of a served deployment; a rate is taken of its own residuals."""
    return _of_chip(resolved, _of_regime(serving_regime(run, figure)))


def interval(resolved: Resolved, x: Layouts) -> Interval:
    """The 90 % interval of an estimate's regime, as wide as :func:`_of_chip` says."""
    return _of_chip(resolved, _of_regime(regime(resolved, x)))


def _of_chip(resolved: Resolved, found: Interval) -> Interval:
    """A regime's interval where this very chip was measured: a published run of the task, or its own matmuls in the
    compute dtype. Else the wide one: the regime's, but a factor :data:`WIDE` either way at least."""
    chip, phase = resolved.cluster.accelerator, phase_of(resolved.task)
    if chip.id in measured_chips()[phase]:
        return found
    matmul = kernel_efficiency(chip, "matmul", resolved.precision.compute)  # of the chip itself, not of its class
    if matmul.provenance.basis == "measured":
        return replace(found, basis=f"{found.basis}; none of {chip.id}, but its matmuls are measured")
    whose = resolved.cluster.efficiency
    told = f"class {whose.id}" if whose.kernels else "all chips"
    basis = f"interval: no published {phase} run and no measured matmul of {chip.id}: kernels as of {told}"
    return Interval(min(found.low, 1 / WIDE), max(found.high, WIDE), min(found.low50, WIDE50[0]),
                    max(found.high50, WIDE50[1]), f"{basis}, a factor 2 either way at least is assumed")  # fmt: skip


def phase_of(task: str) -> str:
    """What published runs of a task are called by: train, prefill (also of encoders), decode or serve."""
    return task if task in ("train", "decode", "serve") else "prefill"


def _of_regime(name: str) -> Interval:
    """The interval of a regime, or of the nearest regime above it that has one."""
    parts = name.split(".")
    while parts:
        found = interval_table().get(".".join(parts))
        if found is not None:
            return Interval(found["low"], found["high"], found["low50"], found["high50"],
                            f"interval: from {found['runs']:.0f} published runs in regime "
                            f"{'.'.join(parts)}")  # fmt: skip
        parts.pop()
    basis = f"interval: no published run in regime {name}; a factor 2 either way is assumed"
    return Interval(1 / WIDE, WIDE, *WIDE50, basis)
