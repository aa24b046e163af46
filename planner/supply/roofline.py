"""The roofline: what a kernel can reach, and how long it takes.

References
----------
.. [1] Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for multicore
   architectures", CACM 52(4), 2009. https://doi.org/10.1145/1498765.1498785
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

BOUND_NAMES = ("compute", "memory", "overhead")


def attainable_flops(intensity: ArrayLike, peak_flops: ArrayLike, bandwidth: ArrayLike) -> Floats:
    """Upper bound on throughput at an arithmetic intensity.

    Parameters
    ----------
    intensity : array_like, shape (n,)      [FLOP/byte]
    peak_flops, bandwidth : array_like      [FLOP/s], [byte/s]

    Returns
    -------
    ndarray, shape (n,)                     [FLOP/s]

    Notes
    -----
    min(P, I·W) [1]_.
    """
    slope = np.asarray(intensity, dtype=np.float64) * np.asarray(bandwidth, dtype=np.float64)
    return np.minimum(np.asarray(peak_flops, dtype=np.float64), slope)


def ridge_point(peak_flops: ArrayLike, bandwidth: ArrayLike) -> Floats:
    """Arithmetic intensity at which the two roofs meet, P/W [1]_.

    Parameters
    ----------
    peak_flops, bandwidth : array_like      [FLOP/s], [byte/s]

    Returns
    -------
    ndarray, shape (n,)                     [FLOP/byte]
    """
    return np.asarray(peak_flops, dtype=np.float64) / np.asarray(bandwidth, dtype=np.float64)


def soft_maximum(left: ArrayLike, right: ArrayLike, sharpness: ArrayLike) -> Floats:
    """(a^r + b^r)^(1/r), scaled by the larger: safe for zeros, huge values and r = inf (hard maximum).

    Parameters
    ----------
    left, right : array_like, shape (n,)    not negative
    sharpness : array_like                  r > 0; below 1 the terms more than add

    Returns
    -------
    ndarray, shape (n,)                     at least the larger of the two
    """
    a, b = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    r = np.asarray(sharpness, dtype=np.float64)
    high, low = np.maximum(a, b), np.minimum(a, b)
    ratio = np.divide(low, high, out=np.zeros(np.shape(high), dtype=np.float64), where=high > 0)
    return np.asarray(high * (1.0 + ratio**r) ** (1.0 / r), dtype=np.float64)


def kernel_time(
    flops: ArrayLike,
    bytes_moved: ArrayLike,
    *,
    peak_flops: ArrayLike,
    bandwidth: ArrayLike,
    compute_efficiency: ArrayLike = 1.0,
    memory_efficiency: ArrayLike = 1.0,
    overhead: ArrayLike = 0.0,
    sharpness: ArrayLike = np.inf,
) -> Floats:
    """Time of one kernel launch.

    Parameters
    ----------
    flops, bytes_moved : array_like, shape (n,)             [FLOP], [byte]
    peak_flops, bandwidth : array_like                      [FLOP/s], [byte/s]
    compute_efficiency, memory_efficiency : array_like      e_c, e_m, fractions of the two roofs
    overhead : array_like                                   t_0 [s], launch and drain
    sharpness : array_like                                  r of the soft maximum; inf is the hard roofline

    Returns
    -------
    ndarray, shape (n,)                                     [s]; 0 where there is neither work nor traffic

    Notes
    -----
    t = ((F/(e_c·P))^r + (B/(e_m·W))^r)^(1/r) + t_0. With r = inf and unit efficiencies this is [1]_; the
    soft maximum stands for imperfect overlap of arithmetic and traffic near the ridge (planner/calibrate.py).
    """
    compute = np.asarray(flops, dtype=np.float64) / (np.asarray(compute_efficiency) * np.asarray(peak_flops))
    memory = np.asarray(bytes_moved, dtype=np.float64) / (np.asarray(memory_efficiency) * np.asarray(bandwidth))
    busy = soft_maximum(compute, memory, sharpness)
    return np.where(busy > 0, busy + np.asarray(overhead, dtype=np.float64), 0.0)


def bound_by(compute_time: ArrayLike, memory_time: ArrayLike, *, overhead: ArrayLike = 0.0) -> NDArray[np.int64]:
    """What limits a kernel: the largest of its three times, as a code into ``BOUND_NAMES``.

    Parameters
    ----------
    compute_time, memory_time, overhead : array_like, shape (n,)    [s]

    Returns
    -------
    ndarray of int64, shape (n,)            ties go to compute, then memory
    """
    times = np.broadcast_arrays(
        np.asarray(compute_time, dtype=np.float64),
        np.asarray(memory_time, dtype=np.float64),
        np.asarray(overhead, dtype=np.float64),
    )
    return np.asarray(np.argmax(np.stack(times), axis=0), dtype=np.int64)
