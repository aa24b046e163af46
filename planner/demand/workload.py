"""What is asked of a model: precision, and the shape of the work one device group sees."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from planner.demand.ops import Array
from planner.precision import DTYPES


@dataclass(frozen=True)
class Precision:
    """Dtypes of a run, by name; ``bytes_of`` gives their width.

    ``compute`` is what matmuls run in, ``weight`` how weights are stored, ``activation`` what layers pass on,
    ``kv`` the cache, ``grad`` the gradient accumulator.
    """

    compute: str = "bf16"
    weight: str = "bf16"
    activation: str = "bf16"
    kv: str = "bf16"
    grad: str = "fp32"
    sparsity: str = "none"

    def bytes_of(self, what: str) -> float:
        """Bytes a value of ``what`` (compute, weight, activation, kv, grad) [byte]; 2:4 sparsity thins weights.

        A 2:4 sparse weight keeps half the values and 2 index bits for each kept one, so a 16-bit value costs
        (2 + 2/8)/2 bytes. https://arxiv.org/abs/2104.08378, section 3
        """
        width = DTYPES[getattr(self, what)].bytes
        if what == "weight" and self.sparsity == "2:4":
            return 0.5 * (width + 0.25)
        return width

    @property
    def matmul_input_bytes(self) -> float:
        """Bytes a matmul reads per activation value: the compute dtype's, once quantised."""
        return min(DTYPES[self.compute].bytes, DTYPES[self.activation].bytes)


@dataclass(frozen=True)
class Work:
    """One pass over one micro-batch as a device group sees it; every field has shape (n,).

    Attributes
    ----------
    batch : sequences in the pass, per data-parallel rank
    q_len : new tokens a sequence, before context parallelism
    kv_len : keys each new token may see at most (the whole sequence in training and prefill, the context in decode)
    encoder_len : tokens of the encoder's stream a sequence (0 without an encoder or once encoded)
    tp, cp, ep, etp : parallel sizes
    sequence_parallel : 1.0 where norms and residuals are divided over tp
    decode : 1.0 where attention runs over the cache, one new token a sequence
    imbalance : busiest expert rank's load over the mean (1: balanced)
    """

    batch: Array
    q_len: Array
    kv_len: Array
    encoder_len: Array
    tp: Array
    cp: Array
    ep: Array
    etp: Array
    sequence_parallel: Array
    decode: Array
    imbalance: Array

    @property
    def tokens(self) -> Array:
        """New tokens a device group of one cp rank handles, shape (n,)."""
        return self.batch * self.q_len / self.cp

    def take(self, index: Array) -> Work:
        """Rows ``index`` of every column."""
        return replace(self, **{k: v[index] for k, v in vars(self).items()})


def work(
    *,
    batch: object,
    q_len: object,
    kv_len: object = None,
    encoder_len: object = 0.0,
    tp: object = 1.0,
    cp: object = 1.0,
    ep: object = 1.0,
    etp: object = 1.0,
    sequence_parallel: object = 0.0,
    decode: object = 0.0,
    imbalance: object = 1.0,
) -> Work:
    """Broadcast columns or numbers into a :class:`Work` of equal columns; ``kv_len`` defaults to ``q_len``."""
    given = [
        batch,
        q_len,
        q_len if kv_len is None else kv_len,
        encoder_len,
        tp,
        cp,
        ep,
        etp,
        sequence_parallel,
        decode,
    ]
    columns = np.broadcast_arrays(*[np.atleast_1d(np.asarray(c, dtype=np.float64)) for c in [*given, imbalance]])
    return Work(*columns)
