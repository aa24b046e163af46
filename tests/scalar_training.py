"""A training step in plain numbers: one layout, one stage at a time; ``scalar.py`` has the operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scalar import (
    ACROSS,
    BANDWIDTH,
    DOMAIN,
    GIB,
    GRAD,
    WIDE,
    Dense,
    Kernel,
    collective,
    embedding,
    head,
    layer,
    layer_parameters,
    saved,
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One layout of a training run."""

    devices: int = 1
    tp: int = 1
    pp: int = 1
    cp: int = 1
    vpp: int = 1
    micro_batch: int = 1
    micro_batches: int = 1
    zero_stage: int = 0
    sequence_parallel: bool = False
    recompute: str = "none"
    seq_len: int = 2048
    overlap_dp: bool = False
    overlap_tp: str = "none"
    context_exchange: str = "ring"

    @property
    def dp(self) -> int:
        return self.devices // (self.tp * self.pp * self.cp)

    @property
    def keys(self) -> dict[str, object]:
        """The scenario keys."""
        keys = dict(vars(self))
        keys["global_batch"] = self.dp * self.micro_batch * keys.pop("micro_batches")
        return keys


@dataclass
class Stage:
    """What one stage of a pipeline does in one micro-batch [s], and holds [parameters], [byte]."""

    kernels: list[Kernel]
    repeated: list[Kernel]
    forward_tp: float
    backward_tp: float
    forward_cp: float
    backward_cp: float
    repeated_exchange: float
    parameters: float
    kept: float
    logits: float

    @property
    def forward(self) -> float:
        return sum(k.forward for k in self.kernels) + self.forward_tp + self.forward_cp

    @property
    def repeat(self) -> float:
        return sum(k.forward for k in self.repeated) + self.repeated_exchange

    @property
    def backward(self) -> float:
        return sum(k.backward for k in self.kernels) + self.repeat + self.backward_tp + self.backward_cp


def dealt(layers: int, chunks: int) -> list[int]:
    """Layers of each chunk, the remainder to the chunks nearest the middle."""
    sizes = [layers // chunks] * chunks
    for c in sorted(range(chunks), key=lambda c: (abs(c - (chunks - 1) / 2), c))[: layers % chunks]:
        sizes[c] += 1
    return sizes


def behind(traffic: float, window: float, share: float = 0.0) -> float:
    """What traffic costs behind compute: what outlasts it, and a share of the rest."""
    return max(traffic - window, 0.0) + share * min(traffic, window)


def tensor_exchange(d: Dense, r: Row, kernels: list[Kernel], blocks: int) -> tuple[float, float]:
    """Exposed exchange of the blocks of a layer, forward and backward."""
    message = r.micro_batch * r.seq_len / r.cp * d.hidden * WIDE
    gather, scatter = (collective(op, message, r.tp, 1) for op in ("all_gather", "reduce_scatter"))
    plain = blocks * (gather + scatter if r.sequence_parallel else collective("all_reduce", message, r.tp, 1))
    if r.overlap_tp == "none":
        return plain, plain
    products = sum(k.forward for k in kernels if k.kind == "matmul")
    if r.overlap_tp == "all":
        return behind(plain, products, 0.22), behind(plain, 2 * products, 0.22)
    late = blocks * scatter if r.sequence_parallel else plain
    hidden = behind(late, sum(k.weight_gradient for k in kernels))
    return plain, hidden + (blocks * gather if r.sequence_parallel else 0.0)


def context_exchange(d: Dense, r: Row, core: float) -> tuple[float, float]:
    """Exposed exchange of keys and values of a layer, forward and backward."""
    held = r.micro_batch * r.seq_len / r.cp * WIDE
    kv = d.key_value / min(r.tp, d.kv_heads)
    if r.cp == 1:
        return 0.0, 0.0
    if r.context_exchange == "all_to_all":  # queries, keys, values, and the outputs back
        parts = (d.query / r.tp, kv / 2, kv / 2, d.query / r.tp)
        once = sum(collective("all_to_all", held * p, r.cp, r.tp) for p in parts)
        return once, once
    if r.context_exchange == "all_gather":
        gather, scatter = (collective(op, held * r.cp * kv, r.cp, r.tp) for op in ("all_gather", "reduce_scatter"))
        return gather, gather + scatter
    hop = collective("send_recv", held * kv, r.cp, r.tp)
    return (r.cp - 1) * max(hop - core / r.cp, 0.0), (r.cp - 1) * max(2 * hop - 2.5 * core / r.cp, 0.0)


def stages(d: Dense, r: Row) -> list[Stage]:
    """Every stage of the pipeline; chunk c of the model sits on stage c mod p."""
    tokens = r.micro_batch * r.seq_len / r.cp
    shape: dict[str, Any] = {"tokens": tokens, "tp": r.tp, "sp": r.sequence_parallel}
    one = layer(d, batch=r.micro_batch, seq=r.seq_len, **shape)
    core = next(k for k in one if k.kind == "core")
    tp, cp = tensor_exchange(d, r, one, 2), context_exchange(d, r, core.forward)
    sizes = dealt(d.layers, r.pp * r.vpp)
    whole = r.tp if r.sequence_parallel else 1
    kept = {"none": saved(d, seq=r.seq_len, **shape), "full": tokens * d.hidden * WIDE / whole}
    kept["selective"] = kept["none"]  # under flash attention no scores are kept
    out = []
    for i in range(r.pp):
        n = sum(sizes[i :: r.pp])
        again = {"none": [], "selective": [core], "full": one}[r.recompute]
        stage = Stage(one * n, again * n, n * tp[0], n * tp[1], n * cp[0], n * cp[1],
                      n * (tp[0] + cp[0]) * (r.recompute == "full"), n * layer_parameters(d, r.tp),
                      n * kept[r.recompute], 0.0)  # fmt: skip
        if i == 0:
            _add(stage, d, r, embedding(d, **shape))
            stage.parameters += d.vocab * d.hidden / r.tp + d.positions * d.hidden
            stage.kept += 0 if d.llama else tokens * d.hidden / whole  # dropout's mask
        if i == r.pp - 1:
            _add(stage, d, r, head(d, **shape))
            stage.parameters += (d.vocab * d.hidden / r.tp + d.hidden) if d.llama else 2 * d.hidden
            stage.kept += 2 * tokens * d.hidden * WIDE / whole
            stage.logits = tokens * d.vocab / r.tp * (WIDE + 4)
        out.append(stage)
    return out


def _add(stage: Stage, d: Dense, r: Row, kernels: list[Kernel]) -> None:
    stage.kernels = stage.kernels + kernels
    ahead, back = tensor_exchange(d, r, kernels, 1)
    stage.forward_tp += ahead
    stage.backward_tp += back


def step_time(d: Dense, r: Row) -> dict[str, float]:
    """The time ledger of a step."""
    found, m = stages(d, r), r.micro_batches
    slow = max(found, key=lambda s: s.forward + s.backward)
    mean = sum(s.forward + s.backward for s in found) / r.pp
    out: dict[str, float] = {}
    for k in slow.kernels:
        for way in ("forward", "backward"):
            name = f"{way}.{k.group}"
            out[name] = out.get(name, 0.0) + m * getattr(k, way)
    size = r.micro_batch * r.seq_len / r.cp * d.hidden * WIDE / r.tp
    send = collective("send_recv", size, r.pp, r.tp * r.cp * r.dp)
    sends = 2 * (r.pp - 1) * send * r.vpp + (2 * (m - 1) * send if r.vpp == 1 else 0.0)
    gradients, parameters = data_exchange(found, r)
    return out | {
        "recompute": m * slow.repeat, "comm.tp": m * (slow.forward_tp + slow.backward_tp),
        "comm.cp": m * (slow.forward_cp + slow.backward_cp), "comm.pp": sends if r.pp > 1 else 0.0,
        "pipeline.bubble": (r.pp - 1) * mean / r.vpp, "comm.dp.gradients": gradients, "comm.dp.parameters": parameters,
        "optimizer": max(s.parameters for s in found) / (r.dp * r.cp if r.zero_stage else 1) * 46 / BANDWIDTH,
    }  # fmt: skip


def data_exchange(found: list[Stage], r: Row) -> tuple[float, float]:
    """Exposed exchange of gradients and of parameters, of the stage that has most of each."""
    ranks, m = r.dp * r.cp, r.micro_batches
    stage = 1 if r.zero_stage == 2 and r.pp > 1 else r.zero_stage  # a pipeline keeps gradients to its last micro-batch
    turns = (1 + (r.vpp - 1) * min(r.pp, m)) / r.vpp  # of a chunk, behind which another's exchange goes on
    shown = ACROSS if ranks > max(DOMAIN // r.tp, 1) else 0.0
    gradients, parameters = [], []
    for s in found:
        reduce, scatter = (collective(op, s.parameters * GRAD, ranks, r.tp) for op in ("all_reduce", "reduce_scatter"))
        gather = collective("all_gather", s.parameters * WIDE, ranks, r.tp)
        g = [reduce, scatter, scatter * m, scatter * m][stage]
        p = [0.0, gather, gather, 2 * gather * m][stage]
        if r.overlap_dp:
            window_b = s.backward * max(m if stage >= 2 else 1, turns)
            window_f = s.forward * max(m if stage >= 3 else 1, turns)
            both = window_b + window_f if stage >= 3 else window_f
            g = behind(g, max(both - p, 0.0) if stage >= 3 else window_b, shown)
            p = behind(p, both, shown)
        gradients.append(g)
        parameters.append(p)
    return max(gradients), max(parameters)


def step_memory(d: Dense, r: Row) -> dict[str, float]:
    """The memory ledger of the fullest stage."""
    ranks, m = r.dp * r.cp, r.micro_batches
    groups = (r.tp > 1) + (r.pp > 1) + (ranks > 1)
    one = saved(d, tokens=r.micro_batch * r.seq_len / r.cp, seq=r.seq_len, tp=r.tp, sp=r.sequence_parallel)
    ledgers = []
    for i, s in enumerate(stages(d, r)):
        n = s.parameters
        flying = min(r.pp - i, m) if r.vpp == 1 else min((2 * (r.pp - i - 1) + (r.vpp - 1) * r.pp + 1) / r.vpp, m)
        whole_grad = r.zero_stage < (2 if r.pp == 1 else 3)
        ledger = {
            "weights": n * WIDE / (ranks if r.zero_stage == 3 else 1),
            "gradients": n * GRAD / (1 if whole_grad else ranks),
            "optimizer": n * 12 / (ranks if r.zero_stage >= 1 else 1), "activations": s.kept * flying,
            "working": 2 * one * (r.recompute == "full")
            + 2 * WIDE * layer_parameters(d, r.tp) * (r.zero_stage == 3),
            "logits": s.logits,
        }  # fmt: skip
        ledger["fragmentation"] = 0.1 * sum(ledger.values())
        ledger["context"] = (0.6 + 0.4 * groups) * GIB
        ledgers.append(ledger)
    return max(ledgers, key=lambda parts: sum(parts.values()))
