"""Fit the kernel-time and collective-time models to measurements.

The model is ``planner.supply.roofline.kernel_time`` with four parameters: the fractions of the two roofs e_c
and e_m, the launch term t_0 and the sharpness r. They are found by Levenberg-Marquardt on the logarithm of
time, reweighted so that outliers count less (Huber), from several starts. numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from planner.catalogue.hardware import KernelEfficiency, Provenance
from planner.precision import dtype as look_up_dtype
from planner.supply.collectives import ring_volume
from planner.supply.roofline import Floats, kernel_time, soft_maximum

Model = Callable[[Floats], Floats]

_LOW = np.log([0.02, 0.02, 1e-7, 0.5])
_HIGH = np.log([1.2, 1.5, 1e-3, 16.0])
# medians over the measured chips, and how far chips differ (log)
_EXPECTED = np.log([0.7, 0.72, 4e-6, 1.8])
_SPREAD = np.array([0.3, 0.3, 1.0, 0.4])
_STARTS = ((0.7, 0.75, 4e-6, 2.0), (0.4, 0.5, 15e-6, 1.2), (0.85, 0.9, 2e-6, 6.0))
_COLLECTIVE_STARTS = ((0.8, 8e-6, 1e-6, 0.6), (0.6, 5e-6, 2e-6, 1.5), (0.9, 12e-6, 3e-7, 1.0))
_NOISE = 0.15  # spread of a row around the model, log time; sets the weight of the prior
_HUBER = 0.15  # residual in log time beyond which a row counts less


@dataclass(frozen=True)
class Fit:
    """Fitted parameters and what they leave: errors |t/t_measured - 1| on rows held out of the fit."""

    compute: float
    memory: float
    overhead: float
    sharpness: float
    rows: int
    median_error: float
    p90_error: float

    def efficiency(self, source: str) -> KernelEfficiency:
        """The fit as the catalogue writes it."""
        note = f"{self.rows} rows, held-out error median {self.median_error:.0%}, p90 {self.p90_error:.0%}"
        provenance = Provenance(source, "measured", note)
        return KernelEfficiency(self.compute, self.memory, self.overhead, self.sharpness, provenance)


def matmul_work(m: ArrayLike, n: ArrayLike, k: ArrayLike, *, dtype: str) -> tuple[Floats, Floats]:
    """FLOPs and bytes of C[m, n] = A[m, k] · B[k, n].

    Parameters
    ----------
    m, n, k : array_like, shape (rows,)
    dtype : str                             of A and B; C is at least 2 bytes wide

    Returns
    -------
    flops, bytes : ndarray, shape (rows,)   2·m·n·k; b·(m·k + k·n) + max(b, 2)·m·n
    """
    rows, columns, inner = (np.asarray(x, dtype=np.float64) for x in (m, n, k))
    width = look_up_dtype(dtype).bytes
    moved = width * (rows * inner + inner * columns) + max(width, 2.0) * rows * columns
    return 2.0 * rows * columns * inner, moved


def fit_soft_roofline(
    flops: Floats, bytes_moved: Floats, seconds: Floats, *, peak_flops: float, bandwidth: float
) -> Floats:
    """The four parameters (e_c, e_m, t_0, r) that best explain measured times.

    Parameters
    ----------
    flops, bytes_moved, seconds : ndarray, shape (rows,)
    peak_flops, bandwidth : float           [FLOP/s], [byte/s]

    Returns
    -------
    ndarray, shape (4,)
    """

    def model(log_parameters: Floats) -> Floats:
        compute, memory, overhead, sharpness = np.exp(log_parameters)
        return kernel_time(
            flops,
            bytes_moved,
            peak_flops=peak_flops,
            bandwidth=bandwidth,
            compute_efficiency=compute,
            memory_efficiency=memory,
            overhead=overhead,
            sharpness=sharpness,
        )

    return np.exp(
        robust_fit(model, seconds, starts=np.log(_STARTS), low=_LOW, high=_HIGH, expected=_EXPECTED, spread=_SPREAD)
    )


def robust_fit(
    model: Model,
    measured: Floats,
    *,
    starts: Floats,
    low: Floats,
    high: Floats,
    expected: Floats,
    spread: Floats,
) -> Floats:
    """Parameters in [low, high] that minimise the Huber loss of log(model/measured), best of several starts.

    A weak prior, one pseudo-row a parameter, keeps what the rows do not determine near what other chips show.

    Parameters
    ----------
    model : callable, (p,) -> (rows,)       positive
    measured : ndarray, shape (rows,)       positive
    starts : ndarray, shape (starts, p)
    low, high : ndarray, shape (p,)
    expected, spread : ndarray, shape (p,)  centre and width of the prior

    Returns
    -------
    ndarray, shape (p,)
    """
    target = np.log(measured)

    def residual(parameters: Floats) -> Floats:
        prior = _NOISE * (parameters - expected) / spread
        return np.concatenate([np.log(model(parameters)) - target, prior])

    ends = [_descend(residual, np.clip(s, low, high), low=low, high=high) for s in starts]
    return min(ends, key=lambda p: float(np.sum(_huber(residual(p)))))


def _huber(residual: Floats) -> Floats:
    size = np.abs(residual)
    return np.where(size <= _HUBER, 0.5 * size**2, _HUBER * (size - 0.5 * _HUBER))


def _descend(residual: Model, start: Floats, *, low: Floats, high: Floats, steps: int = 60) -> Floats:
    """Levenberg-Marquardt with Huber weights and a numerical Jacobian, projected on the box."""
    here, damping = start, 1e-2
    error = residual(here)
    loss = float(np.sum(_huber(error)))
    for _ in range(steps):
        weight = _HUBER / np.maximum(np.abs(error), _HUBER)
        jacobian = _jacobian(residual, here, error, high=high)
        hessian = jacobian.T @ (weight[:, None] * jacobian)
        gradient = jacobian.T @ (weight * error)
        scaled = hessian + damping * (np.diag(np.diag(hessian)) + 1e-9 * np.eye(len(here)))
        there = np.clip(here - np.linalg.solve(scaled, gradient), low, high)
        tried = residual(there)
        new_loss = float(np.sum(_huber(tried)))
        if new_loss < loss:
            settled = loss - new_loss < 1e-9 * loss
            here, error, loss, damping = there, tried, new_loss, max(damping / 4.0, 1e-9)
            if settled:
                break
        else:
            damping *= 5.0
            if damping > 1e9:
                break
    return here


def _jacobian(residual: Model, here: Floats, error: Floats, *, high: Floats) -> Floats:
    step = np.where(here + 1e-5 > high, -1e-5, 1e-5)
    columns = [(residual(here + step * unit) - error) / s for unit, s in zip(np.eye(len(here)), step, strict=True)]
    return np.stack(columns, axis=1)


def folds(rows: int, *, count: int = 5) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Rows to fit and rows to hold out, in fixed random folds; arrays of shape (rows,)."""
    fold: NDArray[np.int64] = np.random.default_rng(0).permutation(rows) % count
    for held in range(min(count, rows)):
        yield fold != held, fold == held


def held_out_errors(
    flops: Floats,
    bytes_moved: Floats,
    seconds: Floats,
    *,
    peak_flops: float,
    bandwidth: float,
) -> Floats:
    """Relative error of each row under a fit that has not seen it, shape (rows,); fixed random folds."""
    errors = np.zeros(len(seconds))
    for seen, out in folds(len(seconds)):
        fitted = fit_soft_roofline(
            flops[seen], bytes_moved[seen], seconds[seen], peak_flops=peak_flops, bandwidth=bandwidth
        )
        predicted = _predict(fitted, flops[out], bytes_moved[out], peak_flops=peak_flops, bandwidth=bandwidth)
        errors[out] = np.abs(predicted / seconds[out] - 1.0)
    return errors


def _predict(fitted: Floats, flops: Floats, bytes_moved: Floats, *, peak_flops: float, bandwidth: float) -> Floats:
    return kernel_time(
        flops,
        bytes_moved,
        peak_flops=peak_flops,
        bandwidth=bandwidth,
        compute_efficiency=fitted[0],
        memory_efficiency=fitted[1],
        overhead=fitted[2],
        sharpness=fitted[3],
    )


def fit_work(flops: Floats, bytes_moved: Floats, seconds: Floats, *, peak_flops: float, bandwidth: float) -> Fit:
    """Fit one kind of kernel on one chip, with the errors of five-fold cross-validation.

    Parameters
    ----------
    flops, bytes_moved, seconds : ndarray, shape (rows,)
    peak_flops, bandwidth : float           [FLOP/s], [byte/s]
    """
    fitted = fit_soft_roofline(flops, bytes_moved, seconds, peak_flops=peak_flops, bandwidth=bandwidth)
    errors = held_out_errors(flops, bytes_moved, seconds, peak_flops=peak_flops, bandwidth=bandwidth)
    compute, memory, overhead, sharpness = (float(x) for x in fitted)
    return Fit(
        compute=compute,
        memory=memory,
        overhead=overhead,
        sharpness=sharpness,
        rows=len(seconds),
        median_error=float(np.median(errors)),
        p90_error=float(np.quantile(errors, 0.9)),
    )


@dataclass(frozen=True)
class Link:
    """Fitted parameters of a collective: share of the link, latency and latency a rank [s], sharpness; and errors
    |t/t_measured - 1| on rows held out of the fit."""

    share: float
    latency: float
    latency_per_rank: float
    sharpness: float
    rows: int
    median_error: float
    p90_error: float


def fit_link(op: str, size: Floats, ranks: Floats, seconds: Floats, *, bandwidth: float) -> Link:
    """Fit one collective inside a domain, with the errors of five-fold cross-validation; arguments as for
    :func:`fit_collective`."""
    fitted = fit_collective(op, size, ranks, seconds, bandwidth=bandwidth)
    errors = np.zeros(len(seconds))
    for seen, out in folds(len(seconds)):
        part = fit_collective(op, size[seen], ranks[seen], seconds[seen], bandwidth=bandwidth)
        volume = ring_volume(op, size[out], ranks[out])
        errors[out] = np.abs(_link_time(part, volume, ranks[out], bandwidth) / seconds[out] - 1.0)
    share, latency, per_rank, sharpness = (float(x) for x in fitted)
    return Link(share, latency, per_rank, sharpness, len(seconds), float(np.median(errors)),
                float(np.quantile(errors, 0.9)))  # fmt: skip


def _link_time(parameters: Floats, volume: Floats, ranks: Floats, bandwidth: float) -> Floats:
    share, fixed, per_rank, sharpness = parameters
    return soft_maximum(fixed + per_rank * (ranks - 1.0), volume / (share * bandwidth), float(sharpness))


def fit_collective(
    op: str, size: ArrayLike, ranks: ArrayLike, seconds: ArrayLike, *, bandwidth: float, own_share: float = 0.0
) -> Floats:
    """Parameters of a collective inside one domain that best explain measured times.

    Parameters
    ----------
    op : str                                one of ``planner.supply.collectives.OPERATIONS``
    size, ranks, seconds : array_like, shape (rows,)    [byte], -, [s]; at least 2 ranks
    bandwidth : float                       [byte/s] one way per device
    own_share : float                       cost of the part that stays on a rank, over that of sending as much

    Returns
    -------
    ndarray, shape (4,)                     share of the link η, latency [s], latency a rank [s], sharpness r
    """
    n = np.asarray(ranks, dtype=np.float64)
    volume = ring_volume(op, size, n) + own_share * np.asarray(size, dtype=np.float64) / n

    def model(log_parameters: Floats) -> Floats:
        return _link_time(np.exp(log_parameters), volume, n, bandwidth)

    return np.exp(
        robust_fit(
            model,
            np.asarray(seconds, dtype=np.float64),
            starts=np.log(_COLLECTIVE_STARTS),
            low=np.log([0.01, 1e-6, 1e-8, 0.2]),
            high=np.log([1.3, 1e-4, 2e-5, 8.0]),
            expected=np.log([0.8, 8e-6, 1.5e-6, 0.8]),
            spread=np.array([0.4, 1.0, 1.5, 0.5]),
        )
    )
