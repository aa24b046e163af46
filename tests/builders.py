"""Small models, clusters and runs for the tests, built in memory so that a test says all it depends on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planner.catalogue.engines import engine
from planner.catalogue.frameworks import frameworks
from planner.catalogue.hardware import Fabric
from planner.catalogue.schema import Attention, Embedding, Head, Layer, Mlp, Model, Moe, Stack
from planner.cost.layouts import Layouts, layouts
from planner.cost.runs import InferenceRun, TrainingRun
from planner.cost.schedules import SCHEDULES
from planner.demand.optimizer import optimizer
from planner.demand.transformer import Demand, demand
from planner.demand.workload import Precision
from planner.scenario.names import cluster_of
from planner.supply.cluster import Cluster


def gpt(*, hidden: int = 1024, heads: int = 16, layers: int = 8, vocab: int = 51200, bare: bool = False) -> Model:
    """A GPT with full attention, a plain MLP of 4h and dropout; ``bare`` has neither tables nor head."""
    layer = Layer(
        "decoder",
        Attention(heads, heads, hidden // heads, rotary=False),
        Mlp(4 * hidden, gated=False),
        (("layer", hidden), ("layer", hidden)),
    )
    stack = Stack("decoder", "decoder", hidden, (layer,), (0,) * layers, final_norm="none" if bare else "layer")
    table, head = (None, None) if bare else (Embedding(vocab, hidden), Head(vocab, tied=False))
    return Model(f"gpt-{hidden}-{layers}", "GPT", "gpt", hidden, table, head, (stack,), dropout=True)


def llama(
    *,
    hidden: int = 1024,
    heads: int = 16,
    kv_heads: int = 4,
    width: int = 2816,
    layers: int = 8,
    vocab: int = 32000,
    window: int | None = None,
    moe: Moe | None = None,
) -> Model:
    """A Llama: grouped queries, gated MLP (or experts), RMS norms, no biases."""
    layer = Layer(
        "decoder",
        Attention(heads, kv_heads, hidden // heads, window=window),
        moe or Mlp(width, gated=True),
        (("rms", hidden), ("rms", hidden)),
    )
    stack = Stack("decoder", "decoder", hidden, (layer,), (0,) * layers)
    return Model("llama", "Llama", "llama", hidden, Embedding(vocab, hidden), Head(vocab, tied=False), (stack,))


def cluster(devices: int = 8, hardware: str = "dgx-h100") -> Cluster:
    """Devices of a catalogue system."""
    return cluster_of(hardware, devices)


def faster(c: Cluster, *, bandwidth: float = 1.0, peak: float = 1.0, links: float = 1.0) -> Cluster:
    """The same cluster with its memory bandwidth, matrix rates and fabrics multiplied."""

    def wider(fabric: Fabric | None) -> Fabric | None:
        if fabric is None:
            return None
        each = None if fabric.per_peer is None else fabric.per_peer * links
        return replace(fabric, bandwidth=fabric.bandwidth * links, per_peer=each)

    system = replace(c.system, scale_up=wider(c.system.scale_up), scale_out=wider(c.system.scale_out))
    chip = c.accelerator
    peaks = {k: v * peak for k, v in chip.peak_flops.items()}
    outer = replace(chip.memory[0], bandwidth=chip.bandwidth * bandwidth)
    return replace(c, system=system, accelerator=replace(chip, memory=(outer, *chip.memory[1:]), peak_flops=peaks))


def training(
    *,
    seq_len: int = 2048,
    precision: Precision | None = None,
    adam: str = "adamw",
    framework: str = "megatron",
    **keys: object,
) -> TrainingRun:
    """A training run; ``keys`` are fields of TrainingRun, the schedule by name."""
    keys |= {"schedule": SCHEDULES[str(keys.get("schedule", "1f1b"))]}
    return TrainingRun(
        seq_len=seq_len,
        precision=precision or Precision(),
        optimizer=optimizer(adam),
        framework=frameworks()[framework],
        **keys,  # type: ignore[arg-type]
    )


def serving(*, batch: int = 8, input_len: int = 1024, output_len: int = 256, **keys: object) -> InferenceRun:
    """An inference run without engine overheads."""
    return InferenceRun(
        precision=Precision(),
        batch=batch,
        input_len=input_len,
        output_len=output_len,
        engine=engine("ideal"),
        **keys,  # type: ignore[arg-type]
    )


def random_layouts(n: int, *, seed: int, most: int = 8, dp: bool = True) -> Layouts:
    """``n`` layouts of powers of two that divide the models above; devices differ from row to row."""
    rng = np.random.default_rng(seed)
    powers = [p for p in (1, 2, 4, 8) if p <= most]
    tp, pp, micro = (rng.choice(powers, n) for _ in range(3))
    ranks = rng.choice([1, 2, 4, 8], n) if dp else np.ones(n, dtype=np.int64)
    return layouts(
        tp=tp,
        pp=pp,
        dp=ranks,
        cp=rng.choice([1, 2], n),
        vpp=np.where(pp == 4, rng.choice([1, 2], n), 1),
        micro_batch=micro,
        global_batch=ranks * micro * rng.choice([1, 4, 16], n),
        zero_stage=rng.integers(0, 4, n),
        sequence_parallel=np.where(tp > 1, rng.integers(0, 2, n), 0),
        recompute=rng.integers(0, 3, n),
    )


def asked(model: Model) -> Demand:
    """Demand of a model."""
    return demand(model)
