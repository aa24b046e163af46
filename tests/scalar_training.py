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
    expert_exchange,
    expert_parameters,
    head,
    layer,
    layer_parameters,
    saved,
)  # fmt: skip

# A share of what is allocated and freed, fitted on published peaks
FRAGMENTATION = {"megatron": 0.38, "megatron-deepspeed": 0.38, "torch": 0.21, "jax": 0.0}


@dataclass(frozen=True)
class Row:
    """One layout of a training run."""

    devices: int = 1
    tp: int = 1
    pp: int = 1
    cp: int = 1
    ep: int = 1
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
    framework: str = "megatron"
    overlap_ep: bool = False

    @property
    def dp(self) -> int:
        return self.devices // (self.tp * self.pp * self.cp)

    @property
    def expert_dp(self) -> int:
        """Copies of an expert."""
        return self.dp * self.cp * self.tp // self.ep

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
    exchange: float  # with experts, one way
    repeated_exchange: float
    parameters: float
    experts: float
    kept: float
    logits: float
    shown: float  # part of the exchange with experts that no compute hides
    repeated_experts: float
    accumulated: float  # time to add a micro-batch's gradients where that is a kernel of its own

    @property
    def forward(self) -> float:
        return sum(k.forward for k in self.kernels) + self.forward_tp + self.forward_cp + 2 * self.shown * self.exchange

    @property
    def repeat(self) -> float:
        again = self.shown * self.repeated_experts
        return sum(k.forward for k in self.repeated) + self.repeated_exchange + again

    @property
    def backward(self) -> float:
        return (
            sum(k.backward for k in self.kernels)
            + self.repeat
            + self.accumulated
            + self.backward_tp
            + self.backward_cp
            + 2 * self.shown * self.exchange
        )


def dealt(layers: int, chunks: int) -> list[int]:
    """Layers of each chunk, the remainder to the chunks nearest the middle."""
    sizes = [layers // chunks] * chunks
    for c in sorted(range(chunks), key=lambda c: (abs(c - (chunks - 1) / 2), c))[: layers % chunks]:
        sizes[c] += 1
    return sizes


def behind(traffic: float, window: float, share: float = 0.0) -> float:
    """What traffic costs behind compute: what outlasts it, and a share of the rest."""
    return max(traffic - window, 0.0) + share * min(traffic, window)


def tensor_exchange(d: Dense, r: Row, kernels: list[Kernel], blocks: int) -> tuple[float, float, float]:
    """Exposed exchange of the blocks of a layer, forward and backward, and after its last block."""
    message = r.micro_batch * r.seq_len / r.cp * d.hidden * WIDE
    gather, scatter = (collective(op, message, r.tp, 1) for op in ("all_gather", "reduce_scatter"))
    plain = blocks * (gather + scatter if r.sequence_parallel else collective("all_reduce", message, r.tp, 1))
    last = scatter if r.sequence_parallel else plain / blocks
    if r.overlap_tp == "none":
        return plain, plain, last
    products = sum(k.forward for k in kernels if k.kind == "matmul")
    if r.overlap_tp == "all":
        return behind(plain, products, 0.22), behind(plain, 2 * products, 0.22), 0.0
    late = blocks * scatter if r.sequence_parallel else plain
    hidden = behind(late, sum(k.weight_gradient for k in kernels))
    return plain, hidden + (blocks * gather if r.sequence_parallel else 0.0), last


def context_exchange(d: Dense, r: Row, core: float) -> tuple[float, float]:
    """Exposed exchange of keys and values of a layer, forward and backward."""
    held = r.micro_batch * r.seq_len / r.cp * WIDE
    kv = d.key_value / min(r.tp, d.kv_heads)
    if r.cp == 1:
        return 0.0, 0.0
    if r.context_exchange == "all_to_all":  # queries, keys, values, and the outputs back
        one = d.key_value / 2 / d.kv_heads  # of fewer heads than ranks, each rank gets a copy of one
        kv = one * max(d.kv_heads / min(r.tp, d.kv_heads), r.cp)
        parts = (d.query / r.tp, kv, kv, d.query / r.tp)
        once = sum(collective("all_to_all", held * p, r.cp, r.tp) for p in parts)
        return once, once
    if r.context_exchange == "all_gather":
        gather, scatter = (collective(op, held * r.cp * kv, r.cp, r.tp) for op in ("all_gather", "reduce_scatter"))
        return gather, gather + scatter
    hop = collective("send_recv", held * kv, r.cp, r.tp)
    return (r.cp - 1) * max(hop - core / r.cp, 0.0), (r.cp - 1) * max(2 * hop - 2.5 * core / r.cp, 0.0)


@dataclass(frozen=True)
class Repeated:
    """What the backward pass repeats of a layer: kernels, exchange [s], and the bytes that are kept instead."""

    kernels: list[Kernel]
    exchange: float
    experts: float
    kept: float


def repeated(d: Dense, r: Row, one: list[Kernel], tp: float, last: float, cp: float, experts: float) -> Repeated:
    """By the mode of recomputation. PyTorch's checkpoint stops once the last saved tensor is back and XLA removes what
    no gradient reads, which spares the last matmul of a layer and the exchange after it."""
    tokens, whole = r.micro_batch * r.seq_len / r.cp, r.tp if r.sequence_parallel else 1
    everything = saved(d, tokens=tokens, seq=r.seq_len, tp=r.tp, sp=r.sequence_parallel)
    if r.recompute == "none":
        return Repeated([], 0.0, 0.0, everything)
    if r.recompute == "selective":
        # The core sends keys and values itself; flash attention keeps no scores.
        return Repeated([k for k in one if k.kind == "core"], cp, 0.0, everything)
    kernels, exchange, both = one, tp + cp, 2 * experts
    if r.framework in ("torch", "jax"):
        skipped = max(i for i, k in enumerate(one) if k.kind == "matmul")
        kernels, exchange, both = one[:skipped] + one[skipped + 1 :], exchange - last, experts
    return Repeated(kernels, exchange, both, tokens * d.hidden * WIDE / whole)


def stages(d: Dense, r: Row) -> list[Stage]:
    """Every stage of the pipeline; chunk c of the model sits on stage c mod p."""
    tokens = r.micro_batch * r.seq_len / r.cp
    shape: dict[str, Any] = {"tokens": tokens, "tp": r.tp, "sp": r.sequence_parallel}
    copies = r.framework != "megatron"  # an all-to-all sorts by rank before and by expert after, DeepEP once
    one = layer(d, batch=r.micro_batch, seq=r.seq_len, ep=r.ep, sorts=2.0 if copies else 1.0, **shape)
    core = next(k for k in one if k.kind == "core")
    ahead, back, last = tensor_exchange(d, r, one, 1 if d.experts else 2)
    cp = context_exchange(d, r, core.forward)
    exchange = expert_exchange(d, tokens=tokens / r.tp, ep=r.ep, copies=copies) if d.experts else 0.0
    again = repeated(d, r, one, ahead, last, cp[0], exchange)
    sizes = dealt(d.layers, r.pp * r.vpp)
    out = []
    for i in range(r.pp):
        n = sum(sizes[i :: r.pp])
        stage = Stage(
            kernels=one * n, repeated=again.kernels * n, forward_tp=n * ahead, backward_tp=n * back,
            forward_cp=n * cp[0], backward_cp=n * cp[1], exchange=n * exchange, repeated_exchange=n * again.exchange,
            parameters=n * layer_parameters(d, r.tp), experts=n * expert_parameters(d, r.ep), kept=n * again.kept,
            logits=0.0, accumulated=0.0, shown=1.0, repeated_experts=n * again.experts,
        )  # fmt: skip
        _ends(stage, d, r, first=i == 0, last=i == r.pp - 1)
        if r.overlap_ep:
            stage.shown = exposed(stage)
        if r.framework == "megatron-deepspeed":  # the 16-bit gradient written and read, the accumulator too
            stage.accumulated = (stage.parameters + stage.experts) * 2 * (WIDE + GRAD) / BANDWIDTH
        out.append(stage)
    return out


def exposed(s: Stage) -> float:
    """Part of the exchange of a micro-batch that shows behind the compute of the next: what outlasts it, and of the
    rest the 20 of 132 multiprocessors that its kernels hold (DeepSeek-V3, https://arxiv.org/abs/2412.19437, section
    3.2.2)."""
    traffic = 4 * s.exchange + s.repeated_experts
    compute = sum(k.forward + k.backward for k in s.kernels) + sum(k.forward for k in s.repeated) + s.repeated_exchange
    return behind(traffic, compute, 20 / 132) / traffic if traffic else 0.0


def _ends(stage: Stage, d: Dense, r: Row, *, first: bool, last: bool) -> None:
    """The embedding of the first stage, the head of the last."""
    tokens, whole = r.micro_batch * r.seq_len / r.cp, r.tp if r.sequence_parallel else 1
    shape: dict[str, Any] = {"tokens": tokens, "tp": r.tp, "sp": r.sequence_parallel}
    table = d.vocab * d.hidden / r.tp
    if first:
        _add(stage, d, r, embedding(d, **shape))
        stage.parameters += table + d.positions * d.hidden
        stage.kept += 0 if d.llama else tokens * d.hidden / whole  # dropout's mask
    if last:
        _add(stage, d, r, head(d, **shape))
        stage.parameters += table + d.hidden if d.llama else 2 * d.hidden
        stage.kept += 2 * tokens * d.hidden * WIDE / whole
        per_logit = {"torch": 2 * (WIDE + 4), "jax": 2 * WIDE}.get(r.framework, WIDE + 4)
        stage.logits = tokens * d.vocab / r.tp * per_logit


def _add(stage: Stage, d: Dense, r: Row, kernels: list[Kernel]) -> None:
    stage.kernels = stage.kernels + kernels
    ahead, back, _ = tensor_exchange(d, r, kernels, 1)
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
    size = r.micro_batch * r.seq_len / r.cp * d.hidden * WIDE
    size /= 1 if r.framework == "megatron-deepspeed" else r.tp
    send = collective("send_recv", size, r.pp, r.tp * r.cp * r.dp)
    # Interleaved, a micro-batch passes on p·v chunks; what is sent in between hides behind other chunks.
    sends = 2 * (r.pp - 1 + m - 1) * send if r.vpp == 1 else 2 * (r.pp * r.vpp - 1) * send
    gradients, parameters = data_exchange(found, r)
    owned = max(s.parameters / (r.dp * r.cp if r.zero_stage else 1) + s.experts / (r.expert_dp if r.zero_stage else 1)
                for s in found)  # fmt: skip
    return out | {
        "recompute": m * slow.repeat, "comm.tp": m * (slow.forward_tp + slow.backward_tp),
        "comm.cp": m * (slow.forward_cp + slow.backward_cp), "comm.ep": m * 4 * slow.shown * slow.exchange,
        "comm.pp": sends if r.pp > 1 else 0.0, "backward.accumulation": m * slow.accumulated,
        "pipeline.bubble": (r.pp - 1) * mean / r.vpp, "comm.dp.gradients": gradients, "comm.dp.parameters": parameters,
        "optimizer": owned * 46 / BANDWIDTH,
    }  # fmt: skip


def held_stage(r: Row) -> int:
    """A pipeline keeps gradients to its last micro-batch, and FSDP under one its weights."""
    return 1 if r.pp > 1 and (r.zero_stage == 2 or (r.zero_stage == 3 and r.framework == "torch")) else r.zero_stage


def data_exchange(found: list[Stage], r: Row) -> tuple[float, float]:
    """Exposed exchange of gradients and of parameters, of the stage that has most of each."""
    ranks, m, stage = r.dp * r.cp, r.micro_batches, held_stage(r)
    turns = (1 + (r.vpp - 1) * min(r.pp, m)) / r.vpp  # of a chunk, behind which another's exchange goes on
    shown = ACROSS if ranks > max(DOMAIN // r.tp, 1) else 0.0
    grad = WIDE if r.framework == "jax" else GRAD  # XLA reduces what matmuls put out, and widens it after
    gradients, parameters = [], []
    for s in found:

        def both_kinds(op: str, width: float, s: Stage = s) -> float:
            dense = collective(op, s.parameters * width, ranks, r.tp)
            return dense + collective(op, s.experts * width, r.expert_dp, r.ep)

        scatter, gather = both_kinds("reduce_scatter", grad), both_kinds("all_gather", WIDE)
        g = [both_kinds("all_reduce", grad), scatter, scatter * m, scatter * m][stage]
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
    m, xla = r.micro_batches, r.framework == "jax"
    groups = (r.tp > 1) + (r.pp > 1) + (r.dp * r.cp > 1) + (r.ep > 1)
    one = saved(d, tokens=r.micro_batch * r.seq_len / r.cp, seq=r.seq_len, tp=r.tp, sp=r.sequence_parallel)
    gathered = layer_parameters(d, r.tp) + expert_parameters(d, r.ep)
    if xla:  # one matrix at a time, the largest
        whole = layer_parameters(d, 1) + expert_parameters(d, 1)
        gathered *= (d.experts * d.hidden * d.up if d.experts else d.hidden * d.up) / whole
    ledgers = []
    for i, s in enumerate(stages(d, r)):
        flying = min(r.pp - i, m) if r.vpp == 1 else min((2 * (r.pp - i - 1) + (r.vpp - 1) * r.pp + 1) / r.vpp, m)
        flying = min(flying + 1, m) if r.overlap_ep else flying  # the next runs forward while this one runs back
        ledger = states(s, r)
        ledger["activations"] = s.kept * flying
        rebuilt, shards = one * (r.recompute == "full"), held_stage(r) == 3
        layers = 2 * WIDE * gathered * shards
        head = WIDE * head_parameters(d, r.tp) * shards * (s.logits > 0)
        # DeepSpeed reduces and gathers through buckets
        buckets = WIDE * 2 * 5e8 * (r.framework == "megatron-deepspeed" and r.zero_stage >= 1)
        # A layer is rebuilt when logits are gone.
        ledger["working"] = max(rebuilt + layers - s.logits, head) + buckets
        ledger["logits"] = s.logits
        # Blocks of both stay cached, those of the layer's gradients, and a share of all that is freed.
        passed = ledger["activations"] + 2 * rebuilt + layers + buckets + s.logits
        alive = sum(ledger[part] for part in ("activations", "working", "logits"))
        ledger["fragmentation"] = 0.0 if xla else passed * (1 + FRAGMENTATION[r.framework]) - alive
        ledger["context"] = (0.6 + 0.4 * groups * (not xla)) * GIB
        ledgers.append(ledger)
    return max(ledgers, key=lambda parts: sum(parts.values()))


def head_parameters(d: Dense, tp: int) -> float:
    """The head's matrix on a rank, and the final norm: a layer norm has a bias too."""
    return d.vocab * d.hidden / tp + d.hidden * (1 if d.llama else 2)


def states(s: Stage, r: Row) -> dict[str, float]:
    """Weights, gradients, and 12 bytes of optimizer state a parameter. FSDP and XLA hold the fp32 master shard as their
    weights under ZeRO 3; DeepSpeed has the 16-bit gradients of autograd beside its own."""
    stage, ranks = held_stage(r), (r.dp * r.cp, r.expert_dp)

    def divided(width: float, at: int) -> float:
        return sum(n * width / (k if stage >= at else 1) for n, k in zip((s.parameters, s.experts), ranks, strict=True))

    kept_master = stage == 3 and r.framework in ("torch", "jax")
    extra = (s.parameters + s.experts) * WIDE * (r.framework == "megatron-deepspeed")
    return {
        "weights": divided(4.0 if kept_master else WIDE, 3),
        "gradients": divided(GRAD, 2) + extra,
        "optimizer": divided(8.0 if kept_master else 12.0, 1),
    }
