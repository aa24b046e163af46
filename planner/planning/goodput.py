"""Goodput: how much of the wall clock a training run spends on steps that count, and how often it is interrupted.

A job of n devices that fail at a rate λ each meets a failure every M = 1/(n·λ) on average. It writes a checkpoint in w
every τ of useful work; a failure costs what was done since the last one, and R to be noticed, mended and restarted.
With failures that are exponential, a segment of τ + w takes M·e^(R/M)·(e^((τ+w)/M) - 1) on average [1]_, so that

    goodput = τ / (M·e^(R/M)·(e^((τ+w)/M) - 1))

and the interval that is nearly best is τ = √(2·w·M)·(1 + ⅓·√(w/2M) + ⅑·w/2M) - w, or M where w is 2M and more [1]_;
its first term is Young's [2]_.

References
----------
.. [1] Daly 2006, A higher order estimate of the optimum checkpoint interval for restart dumps,
   https://doi.org/10.1016/j.future.2004.11.016
.. [2] Young 1974, A first order approximation to the optimum checkpoint interval, https://doi.org/10.1145/361147.361115
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, expm1, log, sqrt

from planner.catalogue.economics import FailureRate, reliability
from planner.cost.layers import adapter_parameters
from planner.cost.memory import run_state
from planner.cost.runs import TrainingRun
from planner.demand.transformer import Demand

NODE_DAY = 8 * 86400.0  # device-seconds of a node-day, in which rates are published
NORMAL_90 = 1.6449


@dataclass(frozen=True)
class FailureModel:
    """What is taken of a cluster's failures.

    Attributes
    ----------
    rate : of a device [1/s]
    spread : standard deviation of the logarithm of the rate, between clusters
    recovery : [s] from a failure to the next useful step, but for lost work and reading the checkpoint
    storage : [byte/s] a device
    basis : where each is from, a line each
    """

    rate: float
    spread: float
    recovery: float
    storage: float
    basis: tuple[str, ...] = ()


@dataclass(frozen=True)
class Goodput:
    """Effective part of the wall clock, with the ends that rates of clusters 90 % apart give, and what it follows from.

    Attributes
    ----------
    share, low, high : effective part of the time
    mtbf : [s] between failures of the job;  interval : [s] of work between checkpoints
    checkpoint : [byte];  write : [s] that writing one stops the job
    """

    share: float
    low: float
    high: float
    mtbf: float
    interval: float
    checkpoint: float
    write: float

    def interruptions(self, seconds: float) -> float:
        """Failures to be expected in so much wall clock."""
        return seconds / self.mtbf


def failure_model(
    *, mtbf: float | None = None, recovery: float | None = None, storage: float | None = None,
    rates: Sequence[FailureRate] | None = None,
) -> FailureModel:  # fmt: skip
    """Rates of published clusters, unless a device's mean time between failures [s] is given; the same of the others.

    The rate is the geometric mean of clusters and its spread theirs: between two of one owner it is 2.8 times, far more
    than counting failures leaves open.
    """
    known = reliability()
    general = [r for r in known.rates if r.general] if rates is None else list(rates)
    logs = [log(r.per_1000_node_days / 1000.0 / NODE_DAY) for r in general]
    mean = sum(logs) / len(logs)
    spread = sqrt(sum((v - mean) ** 2 for v in logs) / max(len(logs) - 1, 1))
    rate = exp(mean)
    who = ", ".join(r.cluster for r in general)
    basis = [
        f"failures: {rate * NODE_DAY * 1000:.1f} a thousand node-days of 8 devices, the mean of {who}; one in "
        f"{1 / rate / 3600:,.0f} hours of a device" if mtbf is None else "failures: of a device as given",
        f"recovery: {(recovery or known.recovery) / 60:.0f} min a failure"
        + (f" ({known.recovery_source})" if recovery is None else " (given)"),
        f"storage: {(storage or known.storage) / 1e9:.3g} GB/s a device"
        + (f" ({known.storage_source})" if storage is None else " (given)"),
    ]  # fmt: skip
    return FailureModel(
        rate=rate if mtbf is None else 1.0 / mtbf, spread=spread if mtbf is None else 0.0,
        recovery=known.recovery if recovery is None else recovery,
        storage=known.storage if storage is None else storage, basis=tuple(basis),
    )  # fmt: skip


def checkpoint_bytes(d: Demand, run: TrainingRun) -> float:
    """What a checkpoint holds [byte]: weights and optimizer state of the whole model, or of its adapters."""
    per = run_state(d, run)
    trained = float(d.total_parameters)
    if run.lora_rank:
        trained = sum(adapter_parameters(s.table, run) * s.count for s in d.sections)
    return trained * (per.weight + per.optimizer)


def checkpoint_interval(write: float, mtbf: float) -> float:
    """Daly's higher-order interval of useful work between checkpoints [s]; ``write`` and ``mtbf`` [s]."""
    if write >= 2.0 * mtbf:
        return mtbf
    half = write / (2.0 * mtbf)
    return sqrt(2.0 * write * mtbf) * (1.0 + sqrt(half) / 3.0 + half / 9.0) - write


def effective_share(*, interval: float, write: float, restart: float, mtbf: float) -> float:
    """Effective part of the wall clock, by Daly's complete model; all [s]. 0 where failures leave nothing."""
    exponent = (interval + write) / mtbf
    if restart / mtbf + exponent > 700.0:
        return 0.0
    return interval / (mtbf * exp(restart / mtbf) * expm1(exponent))


def goodput(checkpoint: float, devices: int, failures: FailureModel) -> Goodput:
    """Goodput of a job on so many devices that writes checkpoints of so many bytes, at the best interval."""
    write = checkpoint / (failures.storage * devices)

    def share(rate: float) -> tuple[float, float, float]:
        mtbf = 1.0 / (devices * rate)
        interval = checkpoint_interval(write, mtbf)
        restart = failures.recovery + write  # a checkpoint is read as fast as it is written: assumption
        return effective_share(interval=interval, write=write, restart=restart, mtbf=mtbf), mtbf, interval

    apart = exp(NORMAL_90 * failures.spread)
    middle, mtbf, interval = share(failures.rate)
    low, high = share(failures.rate * apart)[0], share(failures.rate / apart)[0]
    return Goodput(middle, low, high, mtbf, interval, checkpoint, write)
