"""A prefill, a decode step and serving in plain numbers; ``scalar.py`` has the operators.

A decode step reads all weights and the cache once (Pope et al. 2022, https://arxiv.org/abs/2211.05102, section 2); the
head runs on the last token of a prompt alone; residual adds are fused into the next norm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scalar import DOMAIN, GIB, LINK, WIDE, Dense, Kernel, collective, embedding, head, layer, layer_parameters

CAPACITY = 64 * GIB


@dataclass(frozen=True)
class Served:
    """One layout of an inference run; ``batch`` sequences over all replicas."""

    devices: int = 1
    tp: int = 1
    pp: int = 1
    cp: int = 1
    batch: int = 1
    input_len: int = 1024
    output_len: int = 256
    weight_dtype: str = "bf16"
    kv_dtype: str = "bf16"
    attention: str = "flash"
    engine: str = "ideal"

    @property
    def dp(self) -> int:
        return self.devices // (self.tp * self.pp * self.cp)

    @property
    def sequences(self) -> int:
        """Sequences of the fullest replica."""
        return math.ceil(self.batch / self.dp)

    @property
    def weight(self) -> float:
        return {"bf16": 2.0, "fp8": 1.0, "int8": 1.0}[self.weight_dtype]

    @property
    def kv(self) -> float:
        return {"bf16": 2.0, "fp8": 1.0}[self.kv_dtype]

    @property
    def engine_step(self) -> tuple[float, float]:
        """Overhead of a step [s] and share of the memory, ``planner/catalogue/engines.yaml``."""
        return {"ideal": (0.0, 1.0), "vllm": (250e-6, 0.92)}[self.engine]

    @property
    def engine_operator(self) -> float:
        """What an operator takes in a step beyond its kernel [s]."""
        return {"ideal": 0.0, "vllm": 1.6e-6}[self.engine]


def reduce(size: float, ranks: int) -> float:
    """An all-reduce of an engine: inside a domain the one-shot kernel where it is faster."""
    ring = collective("all_reduce", size, ranks, 1)
    if ranks == 1 or ranks > DOMAIN:
        return ring
    return min(ring, 2e-6 + 0.5e-6 * (ranks - 1) + (ranks - 1) * size / LINK)


def _kernels(d: Dense, r: Served, *, decode: bool) -> tuple[list[Kernel], list[Kernel], list[Kernel]]:
    """Operators before, of each, and after the layers."""
    tokens = r.sequences * (1 if decode else r.input_len) / r.cp
    seen = r.input_len + r.output_len / 2 if decode else r.input_len
    one = layer(d, tokens=tokens, batch=r.sequences, seq=seen, tp=r.tp, sp=False, decode=decode, sorts=2.0)
    one = [_stored(k, r) for k in one if not k.hidden]
    core = next(i for i, k in enumerate(one) if k.kind == "core")
    if decode:
        one[core] = replace(one[core], cache=one[core].cache / WIDE * r.kv)
    elif r.attention == "eager":  # the full rectangle, and four passes over its scores
        scores = tokens * seen * d.heads / r.tp
        one[core] = replace(one[core], flops=2 * one[core].flops, outputs=one[core].outputs + 4 * scores * WIDE)
    after = head(d, tokens=r.sequences, tp=r.tp, sp=False)
    return embedding(d, tokens=tokens, tp=r.tp, sp=False), one, [_stored(k, r) for k in after]


def _stored(k: Kernel, r: Served) -> Kernel:
    return replace(k, weights=k.weights / WIDE * r.weight)


def pass_time(d: Dense, r: Served, *, decode: bool) -> dict[str, float]:
    """The time ledger of one pass."""
    before, one, after = _kernels(d, r, decode=decode)
    out: dict[str, float] = {}
    for k in [*before, *one * d.layers, *after]:
        out[f"forward.{k.group}"] = out.get(f"forward.{k.group}", 0.0) + k.forward
    tokens = r.sequences * (1 if decode else r.input_len) / r.cp
    message = tokens * d.hidden * WIDE
    out["comm.tp"] = (2 * d.layers + 1) * reduce(message, r.tp) + reduce(r.sequences * d.hidden * WIDE, r.tp)
    hop = collective("send_recv", tokens * WIDE * d.key_value / min(r.tp, d.kv_heads), r.cp, r.tp)
    core = next(k for k in one if k.kind == "core").forward
    out["comm.cp"] = d.layers * (r.cp - 1) * max(hop - core / r.cp, 0.0)
    out["comm.pp"] = (r.pp - 1) * collective("send_recv", message, r.pp, r.tp * r.cp * r.dp)
    operators = sum(k.forward > 0 for k in (*before, *after)) + d.layers * sum(k.forward > 0 for k in one)
    out["engine"] = r.engine_step[0] + r.engine_operator * operators
    return out


def pass_memory(d: Dense, r: Served, *, decode: bool) -> tuple[dict[str, float], float]:
    """The memory ledger of the fullest stage, and the tokens the caches of all replicas could hold together."""
    tokens = r.sequences * (1 if decode else r.input_len) / r.cp
    length = r.input_len + r.output_len
    # Input and output of the operator that holds most beside the residual stream.
    widest = max(d.hidden + d.up / r.tp, (d.up + d.width) / r.tp, d.width / r.tp + d.hidden, 2 * d.hidden,
                 d.hidden + (d.query + d.key_value) / r.tp, d.query / r.tp + d.hidden,
                 3 * d.hidden * (not d.llama))  # fmt: skip
    layers = tokens * (2 * d.hidden + widest) * WIDE
    ledgers, room = [], []
    for i in range(r.pp):
        n = d.layers // r.pp
        weights = n * layer_parameters(d, r.tp) * r.weight
        weights += (i == 0) * (d.vocab * d.hidden / r.tp * WIDE + d.positions * d.hidden * r.weight)
        last = (d.vocab * d.hidden / r.tp if d.llama else 0.0) + (1 if d.llama else 2) * d.hidden
        weights += (i == r.pp - 1) * last * r.weight
        a_token = n * d.key_value / min(r.tp, d.kv_heads) * r.kv
        ledger = {
            "weights": weights,
            "kv_cache": r.sequences * length * a_token,
            "activations": layers,
            # They stand beside the last layer's output, when the layers are done.
            "logits": max(r.sequences * d.vocab / r.tp * (WIDE + 4) + tokens * d.hidden * WIDE - layers, 0.0),
            "communicators": 0.4 * GIB * ((r.tp > 1) + (r.pp > 1)),
            "context": 0.6 * GIB,
        }
        ledgers.append(ledger)
        rest = sum(ledger.values()) - ledger["kv_cache"]
        room.append(max(CAPACITY * r.engine_step[1] - rest, 0.0) / a_token)
    return max(ledgers, key=lambda parts: sum(parts.values())), min(room) * r.dp


def flops(d: Dense, r: Served, *, decode: bool) -> float:
    """Model FLOPs of a pass of all sequences: two a weight and token, and the scores that causality leaves."""
    weights = d.hidden * (2 * d.query + d.key_value + d.up + d.width) * d.layers
    if decode:
        seen = r.input_len + r.output_len / 2
        return r.batch * (2 * (weights + d.vocab * d.hidden) + 4 * seen * d.query * d.layers)
    s = r.input_len
    return r.batch * (2 * weights * s + 2 * d.vocab * d.hidden + 2 * s * s * d.query * d.layers)


def served_alone(d: Dense, r: Served) -> tuple[float, float]:
    """Time to first token and time an output token of one request a replica: its own prompt, its own steps."""
    alone = replace(r, batch=r.dp)
    return tuple(sum(pass_time(d, alone, decode=decode).values()) for decode in (False, True))  # type: ignore[return-value]
