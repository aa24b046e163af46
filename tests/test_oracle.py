"""A second implementation, slow and scalar, written from the formulas and not from the code it checks.

Plain Python numbers, one layout at a time. Where the vectorised code and this file differ, one of them is wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from builders import cluster, gpt, llama, random_layouts, training
from hypothesis import given
from hypothesis import strategies as st

from planner.catalogue.schema import Attention, Mlp, Model
from planner.cost.layouts import Layouts
from planner.cost.stages import stage_sections
from planner.cost.training import training_step
from planner.demand.costs import op_costs
from planner.demand.transformer import demand
from planner.demand.workload import Precision, work
from planner.supply.collectives import ring_volume
from planner.supply.roofline import kernel_time

WIDE = 2.0  # bytes of a bf16 value

# One layer


@dataclass(frozen=True)
class Matmul:
    """FLOPs and bytes of y[m, n] = x[m, k]·W[k, n]."""

    m: float
    n: float
    k: float

    @property
    def flops(self) -> float:
        return 2 * self.m * self.n * self.k

    @property
    def moved(self) -> float:
        return WIDE * (self.m * self.k + self.k * self.n + self.m * self.n)


def layer_matmuls(model: Model, *, tokens: float, tp: int) -> dict[str, Matmul]:
    """The matmuls of one dense layer on one tensor-parallel rank, Megatron's way."""
    kind = model.stacks[0].kinds[0]
    a, f, h = kind.mixer, kind.ffn, model.hidden
    assert isinstance(a, Attention) and isinstance(f, Mlp)
    q = a.heads * a.head_dim / tp
    kv = 2 * a.kv_heads * a.head_dim / min(tp, a.kv_heads)
    ups = 2 if f.gated else 1
    return {
        "qkv": Matmul(tokens, q + kv, h),
        "out": Matmul(tokens, h, q),
        "up": Matmul(tokens, ups * f.width / tp, h),
        "down": Matmul(tokens, h, f.width / tp),
    }


def causal_attention(model: Model, *, batch: int, seq: int, tp: int) -> tuple[float, float]:
    """FLOPs and bytes of fused causal attention on one rank: half the square; q, k, v in, values out."""
    a = model.stacks[0].kinds[0].mixer
    assert isinstance(a, Attention)
    heads, kv = a.heads / tp, a.kv_heads / min(tp, a.kv_heads)
    flops = 2 * 2 * batch * seq * seq * heads * a.head_dim / 2
    moved = WIDE * batch * seq * a.head_dim * (2 * heads + 2 * kv)
    return flops, moved


@pytest.mark.parametrize("model", [gpt(), llama(), llama(kv_heads=1)], ids=["gpt", "gqa", "mqa"])
@pytest.mark.parametrize("tp", [1, 2, 4, 8, 16])
@pytest.mark.parametrize(("batch", "seq"), [(1, 1024), (4, 2048), (3, 512)])
def test_flops_and_bytes_of_a_layer(model: Model, tp: int, batch: int, seq: int) -> None:
    table = next(s.table for s in demand(model).sections if s.role == "layer")
    c = op_costs(table, work(batch=batch, q_len=seq, tp=tp), Precision())
    kernels = np.array([o.kernel for o in table.ops])
    due = layer_matmuls(model, tokens=batch * seq, tp=tp).values()
    matmul = kernels == "matmul"
    assert c.flops[0, matmul].sum() == pytest.approx(sum(m.flops for m in due))
    ours = c.bytes_moved[0, matmul].sum()
    gated = model.stacks[0].kinds[0].ffn
    assert isinstance(gated, Mlp)
    split = table.names.count("mlp.gate")  # a gate of its own reads the input once more
    assert ours == pytest.approx(sum(m.moved for m in due) + split * WIDE * batch * seq * model.hidden)
    flops, moved = causal_attention(model, batch=batch, seq=seq, tp=tp)
    core = kernels == "attention"
    assert c.flops[0, core].sum() == pytest.approx(flops)
    assert c.bytes_moved[0, core].sum() == pytest.approx(moved)


# Supply


@given(
    flops=st.floats(0, 1e18), moved=st.floats(0, 1e13), e_c=st.floats(0.05, 1), e_m=st.floats(0.05, 1),
    t_0=st.floats(0, 1e-4), r=st.floats(0.5, 10),
)  # fmt: skip
def test_kernel_time(flops: float, moved: float, e_c: float, e_m: float, t_0: float, r: float) -> None:
    got = kernel_time(
        flops, moved, peak_flops=989.4e12, bandwidth=3.35e12, compute_efficiency=e_c, memory_efficiency=e_m,
        overhead=t_0, sharpness=r,
    )  # fmt: skip
    a, b = flops / (e_c * 989.4e12), moved / (e_m * 3.35e12)
    high, low = max(a, b), min(a, b)
    due = high * math.exp(math.log1p((low / high) ** r) / r) + t_0 if high else 0.0
    assert float(got) == pytest.approx(due, rel=1e-9)


def simulated_ring(n: int, size: float) -> float:
    """Bytes one rank sends while an n-rank ring reduces and then gathers n chunks."""
    held = [[{rank} for _ in range(n)] for rank in range(n)]
    sent = 0.0
    for phase in range(2):
        for step in range(n - 1):
            moves = [(rank, (rank - step + phase) % n, set(held[rank][(rank - step + phase) % n])) for rank in range(n)]
            for rank, chunk, parts in moves:
                held[(rank + 1) % n][chunk] |= parts
            sent += size / n
    assert all(len(parts) == n for chunks in held for parts in chunks)
    return sent


@pytest.mark.parametrize("n", [2, 3, 4, 8, 13])
def test_ring_all_reduce_by_simulation(n: int) -> None:
    assert float(ring_volume("all_reduce", 1e9, n)) == pytest.approx(simulated_ring(n, 1e9))
    assert float(ring_volume("reduce_scatter", 1e9, n)) == pytest.approx(simulated_ring(n, 1e9) / 2)


# Memory of a dense model


@dataclass(frozen=True)
class Stage:
    """Bytes of one pipeline stage."""

    weights: float
    gradients: float
    optimizer: float
    activations: float


def dealt(layers: int, chunks: int) -> list[int]:
    """Layers of each chunk, the remainder to the chunks nearest the middle."""
    sizes = [layers // chunks] * chunks
    for c in sorted(range(chunks), key=lambda c: (abs(c - (chunks - 1) / 2), c))[: layers % chunks]:
        sizes[c] += 1
    return sizes


def layer_parameters(model: Model, tp: int) -> float:
    """Parameters of one Llama layer on a tensor-parallel rank; norms are held by all."""
    matmuls = layer_matmuls(model, tokens=1, tp=tp).values()
    return sum(m.n * m.k for m in matmuls) + 2 * model.hidden


def layer_saved(model: Model, *, tokens: float, tp: int, sp: bool, mode: int) -> float:
    """Activation bytes one Llama layer keeps under fused attention, or its input under full recompute."""
    kind, h = model.stacks[0].kinds[0], model.hidden
    a, f = kind.mixer, kind.ffn
    assert isinstance(a, Attention) and isinstance(f, Mlp)
    whole = tp if sp else 1
    if mode == 2:
        return tokens * h * WIDE / whole
    inner = (2 * a.heads + 2 * a.kv_heads) * a.head_dim + 3 * f.width
    return WIDE * tokens * (4 * h / whole + inner / tp)


def stages(model: Model, row: dict[str, int]) -> list[Stage]:
    """Every stage of one layout of a Llama."""
    tp, pp, ranks, zero = row["tp"], row["pp"], row["dp"] * row["cp"], row["zero_stage"]
    sp, m = bool(row["sequence_parallel"]), row["global_batch"] // (row["dp"] * row["micro_batch"])
    tokens = row["micro_batch"] * 2048 / row["cp"]
    layers = model.stacks[0].layers
    table = 32000 * model.hidden / tp
    out = []
    for i, count in enumerate(dealt(layers, pp)):
        parameters = count * layer_parameters(model, tp)
        kept = count * layer_saved(model, tokens=tokens, tp=tp, sp=sp, mode=row["recompute"])
        if i == 0:
            parameters += table
        if i == pp - 1:
            parameters += table + model.hidden
            kept += 2 * WIDE * tokens * model.hidden / (tp if sp else 1)
        out.append(
            Stage(
                2 * parameters / (ranks if zero >= 3 else 1),
                4 * parameters / (ranks if zero >= (2 if pp == 1 else 3) else 1),  # a pipeline accumulates them whole
                12 * parameters / (ranks if zero >= 1 else 1),
                kept * min(pp - i, m),
            )
        )
    return out


def plain(x: Layouts, i: int) -> dict[str, int]:
    return {k: int(v[i]) for k, v in vars(x).items()}


@pytest.mark.parametrize("layers", [8, 11])
def test_memory_of_a_dense_model(layers: int) -> None:
    model = llama(kv_heads=16, layers=layers)
    x = random_layouts(60, seed=layers)
    x = x.take(np.flatnonzero(x.vpp == 1))
    step = training_step(demand(model), cluster(512), x, training())
    for i in range(len(x)):
        got = [float(step.memory[k][i]) for k in ("weights", "gradients", "optimizer", "activations")]
        due = [[s.weights, s.gradients, s.optimizer, s.activations] for s in stages(model, plain(x, i))]
        assert any(got == pytest.approx(d, rel=1e-9) for d in due), (plain(x, i), got, due)
        if x.pp[i] == 1:
            assert got == pytest.approx(due[0], rel=1e-9)


@given(layers=st.integers(1, 200), p=st.sampled_from([1, 2, 3, 4, 8, 16]), v=st.sampled_from([1, 2, 4]))
def test_layers_are_dealt_once_each(layers: int, p: int, v: int) -> None:
    counts = stage_sections((0,) * layers, sections=1, pp=p, vpp=v)
    assert counts.sum() == layers
    if v == 1:
        assert counts[:, 0].tolist() == dealt(layers, p)
