"""What a choice changes in a step on a plain chip, worked out by hand from its source."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from builders import llama
from scalar import (
    BANDWIDTH,
    GIB,
    GPT,
    LLAMA,
    MIXTRAL,
    PEAK,
    Dense,
    estimate,
    expert_parameters,
    head,
    layer,
    layer_parameters,
)  # fmt: skip
from scalar_training import Row, step_memory, step_time

from planner.catalogue.loader import load_accelerator
from planner.catalogue.models import load_model
from planner.catalogue.schema import Attention
from planner.demand.compression import compress
from planner.demand.costs import local_weights
from planner.demand.counts import parameter_counts
from planner.demand.transformer import demand
from planner.supply.accelerator import vector_flops

HOST, HOST_REACH, HOST_LATENCY = 20e9, 0.87, 10e-6  # byte/s, the share that nvbandwidth measures, s
ONE = {"model": LLAMA.id, "framework": "megatron", "overlap_tp": "none", "overlap_dp": False}
PARAMETERS = 8_030_261_248  # of Llama 3.1 8B


def forward_flops(d: Dense, *, seq: int, layers_only: bool = False) -> float:
    """2·N·s of the matmuls and half of 4·s²·a·d of the scores, a sequence."""
    matrices = d.hidden * (2 * d.query + d.key_value + d.up + d.width)
    once = d.layers * (2 * seq * matrices + 2 * seq * seq * d.query)
    return once if layers_only else once + 2 * seq * d.hidden * d.vocab


@pytest.mark.parametrize(
    ("recompute", "lora_rank"), [("none", 0), ("full", 0), ("selective", 0), ("none", 16), ("full", 8)]
)
def test_mfu_counts_the_model_and_hfu_what_is_repeated(recompute: str, lora_rank: int) -> None:
    """MFU: three times the forward pass whatever is repeated (Chowdhery et al. 2022, appendix B,
    https://arxiv.org/abs/2204.02311), two where the weights are frozen and have no gradient (Hu et al. 2021,
    https://arxiv.org/abs/2106.09685); HFU the layers once more under full recomputation."""
    found = estimate(**ONE, devices=2, global_batch=6, seq_len=1024, recompute=recompute, lora_rank=lora_rank)
    available = found.row["step_time_s"] * 2 * PEAK
    model = (2 if lora_rank else 3) * forward_flops(LLAMA, seq=1024) * 6
    repeated = forward_flops(LLAMA, seq=1024, layers_only=True) * 6 * (recompute == "full")
    assert found.row["model_flops_per_step"] == pytest.approx(model)
    assert found.row["mfu"] == pytest.approx(model / available)
    assert found.row["hfu"] == pytest.approx((model + repeated) / available)
    assert found.row["tokens_per_s"] == pytest.approx(6 * 1024 / found.row["step_time_s"])
    assert found.row["tokens_per_s_per_device"] == pytest.approx(3 * 1024 / found.row["step_time_s"])


@pytest.mark.parametrize("zero", [0, 1])
def test_an_offloaded_optimizer_sends_gradients_out_and_weights_back(zero: int) -> None:
    """Each rank's share, over its link to the host (Ren et al. 2021, https://arxiv.org/abs/2101.06840, section 4.1)."""
    shape = {**ONE, "devices": 4, "global_batch": 4, "zero_stage": zero, "recompute": "none"}
    here, there = estimate(**shape), estimate(**shape, offload="optimizer")
    owned = PARAMETERS / (4 if zero else 1)
    sent = owned * (4 + 2) / (HOST_REACH * HOST) + HOST_LATENCY
    assert there.time["optimizer"] - here.time["optimizer"] == pytest.approx(sent)
    assert there.memory["optimizer"] == 0.0 < here.memory["optimizer"]


def test_offloaded_activations_leave_one_layer_here_and_travel_behind_the_passes() -> None:
    row = Row(micro_batch=1, seq_len=2048)
    here, there = (estimate(**ONE | row.keys, offload=o) for o in ("none", "activations"))
    due, ledger = step_time(LLAMA, row), step_memory(LLAMA, row)
    sections = LLAMA.layers + 2  # embedding and head are a section each
    assert there.memory["activations"] == pytest.approx(ledger["activations"] / sections)
    travel = ledger["activations"] / (HOST_REACH * HOST) + HOST_LATENCY
    forward, backward = (sum(v for k, v in due.items() if k.startswith(way)) for way in ("forward", "backward"))
    assert there.time["offload"] == pytest.approx(max(travel - forward, 0.0) + max(travel - backward, 0.0))
    assert sum(there.time.values()) == pytest.approx(sum(here.time.values()) + there.time["offload"])
    small = {"model": "gpt2", "micro_batch": 32, "global_batch": 32, "seq_len": 1024}
    fast, away = (estimate(**ONE | row.keys | small, offload=o) for o in ("none", "activations"))
    travel = fast.memory["activations"] / (HOST_REACH * HOST) + HOST_LATENCY
    windows = [sum(v for k, v in fast.time.items() if k.startswith(way)) for way in ("forward", "backward")]
    assert max(windows) < travel  # a narrow model computes little for what it keeps
    assert away.time["offload"] == pytest.approx(2 * travel - sum(windows))


@pytest.mark.parametrize("model", [LLAMA, GPT], ids=["llama", "gpt"])
def test_muon_multiplies_matrices_fifteen_times(model: Dense) -> None:
    """Five Newton-Schulz steps of three matmuls, X·Xᵀ, A·A and B·X: 6·n·k·min(n, k) FLOPs a step
    (https://kellerjordan.github.io/posts/muon/), at half of the 16-bit peak; the narrower side is the root of what a
    rank owns, at most 8,192. Momentum alone for hidden matrices, two moments for the rest."""
    devices = 32
    found = estimate(**ONE | {"model": model.id}, devices=devices, global_batch=devices, seq_len=128, optimizer="muon")
    n = model.layers * layer_parameters(model, 1)
    matrices = model.layers * model.hidden * (2 * model.query + model.key_value + model.up + model.width)
    n += model.vocab * model.hidden + model.positions * model.hidden
    n += model.vocab * model.hidden + model.hidden if model.llama else 2 * model.hidden
    moments = 4 * matrices + 8 * (n - matrices)
    owned, per = n / devices, moments / n + 4
    orthogonal = 5 * 6 * owned * min(math.sqrt(owned), 8192.0) / (0.5 * PEAK)
    assert found.time["optimizer"] == pytest.approx(owned * (2 * per + 2 + 5 * 4) / BANDWIDTH + orthogonal)
    assert found.memory["optimizer"] == pytest.approx((moments + 4 * n) / devices)


OPTIMIZERS = {
    "sgd": 0.0, "momentum": 4.0, "adam": 8.0, "adamw": 8.0, "adam8bit": 2 + 8 / 256, "rmsprop": 4.0, "adagrad": 4.0,
    "lion": 4.0,
}  # fmt: skip


@pytest.mark.parametrize(("name", "moments"), OPTIMIZERS.items())
def test_an_optimizer_holds_its_moments_and_a_master_copy(name: str, moments: float) -> None:
    found = estimate(**ONE, devices=1, global_batch=1, seq_len=128, optimizer=name)
    assert found.memory["optimizer"] == pytest.approx((moments + 4) * PARAMETERS)
    assert found.time["optimizer"] == pytest.approx(PARAMETERS * (2 * (moments + 4) + 2 + 5 * 4) / BANDWIDTH)


def test_adafactor_holds_rows_and_columns_and_pure_bf16_no_master() -> None:
    """Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235: a row and a column sum for each matrix."""
    d, h = LLAMA, LLAMA.hidden
    found = estimate(**ONE, devices=1, global_batch=1, seq_len=128, optimizer="adafactor")
    each = (h + d.query + d.key_value) + (d.query + h) + (h + d.up) + (d.width + h) + 2 * h
    factors = d.layers * each + (1 + d.vocab * h) + h + (h + d.vocab)
    assert found.memory["optimizer"] == pytest.approx(4 * factors + 4 * PARAMETERS)
    pure = estimate(**ONE, devices=1, global_batch=1, seq_len=128, optimizer="adamw-bf16")
    assert pure.memory["optimizer"] == pytest.approx(4 * PARAMETERS)


def test_adapters_train_their_own_parameters_and_hold_frozen_weights() -> None:
    """r·(k + n) parameters a matmul (Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 4.1), and no gradient of
    the weights themselves."""
    d, h, rank = LLAMA, LLAMA.hidden, 16
    found = estimate(**ONE, devices=2, global_batch=2, seq_len=1024, recompute="none", lora_rank=rank)
    a_layer = (h + d.query + d.key_value) + (d.query + h) + (h + d.up) + (d.width + h)
    adapters = rank * a_layer * d.layers
    assert found.memory["gradients"] == pytest.approx(4 * adapters)
    assert found.memory["optimizer"] == pytest.approx(12 * adapters / 2)
    assert found.memory["weights"] == pytest.approx(2 * (adapters + PARAMETERS))
    assert found.time["optimizer"] == pytest.approx(46 * adapters / 2 / BANDWIDTH)
    due = step_time(d, Row(devices=2, seq_len=1024))
    shape = {"tokens": 1024.0, "tp": 1, "sp": False}
    kernels = layer(d, batch=1, seq=1024, **shape) * d.layers + head(d, **shape)  # type: ignore[arg-type]
    backward = sum(v for k, v in due.items() if k.startswith("backward")) - sum(k.weight_gradient for k in kernels)
    beside = [k for k in kernels if k.kind == "matmul" and k.group in ("attention", "mlp")]
    backward += sum(5 * k.inputs + 2 * k.outputs for k in beside) / BANDWIDTH
    ahead = sum(v for k, v in due.items() if k.startswith("forward"))
    ahead += sum(k.inputs + 4 * k.outputs for k in beside) / BANDWIDTH
    assert sum(v for k, v in found.time.items() if k.startswith("forward")) == pytest.approx(ahead)
    assert sum(v for k, v in found.time.items() if k.startswith("backward")) == pytest.approx(backward)


def test_adapters_of_a_mixture_of_experts_leave_experts_frozen() -> None:
    """Adapters sit on attention and dense matmuls; experts are held, and under ZeRO 3 divided over their own ranks."""
    d, h, rank = MIXTRAL, MIXTRAL.hidden, 8
    found = estimate(model=d.id, devices=16, ep=4, zero_stage=3, global_batch=16, seq_len=512, lora_rank=rank,
                     framework="megatron", recompute="none", overlap_dp=False)  # fmt: skip
    adapters = rank * d.layers * ((h + d.query + d.key_value) + (d.query + h) + (h + d.experts))
    dense = d.layers * layer_parameters(d, 1) + 2 * d.vocab * h + h
    held, experts = dense / 16, d.layers * expert_parameters(d, 4) / 4  # 16 ranks of data, 4 copies of an expert
    assert found.memory["weights"] == pytest.approx(2 * (adapters / 16 + held + experts))
    assert found.memory["gradients"] == pytest.approx(4 * adapters / 16)
    assert found.memory["optimizer"] == pytest.approx(12 * adapters / 16)
    assert found.time["optimizer"] == pytest.approx(46 * adapters / 16 / BANDWIDTH)


def test_weights_that_train_in_fp8_are_stored_in_sixteen_bits() -> None:
    found = estimate(**ONE, devices=1, global_batch=1, seq_len=128, compute_dtype="fp8", weight_dtype="fp8")
    assert found.memory["weights"] == pytest.approx(2 * PARAMETERS)
    assert found.memory["optimizer"] == pytest.approx(12 * PARAMETERS)


@pytest.mark.parametrize("tp", [1, 2, 8])
def test_a_single_head_of_keys_is_held_by_every_rank(tp: int) -> None:
    """Shazeer 2019, https://arxiv.org/abs/1911.02150: multi-query attention."""
    table = demand(llama(heads=16, kv_heads=1)).sections[1].table
    held = local_weights(table, tp=np.array([float(tp)]), ep=np.ones(1), etp=np.ones(1))[
        0, table.names.index("attn.qkv")
    ]
    assert held == pytest.approx(1024 * (1024 / tp + 2 * 64))


def test_tokens_of_distant_experts_cross_the_network_once_a_domain() -> None:
    """DeepSeek-V3 over 64 ranks in 8 domains: 8 experts a token in 4 of its 8 groups, one crossing for each domain that
    has some."""
    found = estimate(model="deepseek-v3", devices=64, ep=64, seq_len=512, micro_batch=1, global_batch=64,
                     recompute="none", framework="megatron")  # fmt: skip
    visited = 4 * (1 - (3 / 4) ** 8)
    one = 20e-6 + 7 * 3e-6 + 7 / 8 * 512 * 7168 * 2 * visited / 10e9
    assert found.time["comm.ep"] == pytest.approx(58 * 4 * one)


def test_the_kv_room_is_what_the_engine_manages_less_what_is_there() -> None:
    """Weights, and what a pass needs beside the cache: all that a cache token is not."""
    common = {"model": LLAMA.id, "task": "decode", "devices": 4, "tp": 2, "batch": 8}
    less, more = (estimate(**common, engine="vllm", memory_fraction=f) for f in (0.8, 0.9))
    token = 2 * LLAMA.layers * LLAMA.key_value / 2  # bytes a token on a rank of two
    assert more.row["kv_cache_tokens"] - less.row["kv_cache_tokens"] == pytest.approx(2 * 0.1 * 64 * GIB / token)
    operators = 1 + 9 * LLAMA.layers + 3  # the table of tokens; nine a layer; last norm, head, sampling
    assert more.time["engine"] == pytest.approx(250e-6 + 1.6e-6 * operators)


def test_dualpipe_holds_a_stage_of_either_direction() -> None:
    """Parameters twice (DeepSeek-V3, https://arxiv.org/abs/2412.19437, table 1), and their gradients; the optimizer's
    shards once."""
    shape = {**ONE, "devices": 8, "pp": 4, "global_batch": 16, "micro_batch": 1, "seq_len": 512, "recompute": "none"}
    one, two = (estimate(**shape, schedule=s).memory for s in ("1f1b", "dualpipe"))
    stages = [
        8 * layer_parameters(LLAMA, 1) + n for n in (LLAMA.vocab * LLAMA.hidden, 0, LLAMA.vocab * LLAMA.hidden + 4096)
    ]
    assert any(one["weights"] == pytest.approx(2 * n) for n in stages)
    assert any(
        two["weights"] == pytest.approx(2 * 2 * n) and two["gradients"] == pytest.approx(2 * 4 * n) for n in stages
    )
    assert two["optimizer"] * 2 / 12 == pytest.approx(two["gradients"] / 8)


@pytest.mark.parametrize(("pp", "batch"), [(1, 6), (2, 3 * 8)])
def test_a_batch_that_is_not_given_is_one_micro_batch_a_rank_and_four_a_stage(pp: int, batch: int) -> None:
    found = estimate(**ONE, devices=2, pp=pp, micro_batch=3, seq_len=128)
    assert found.row["global_batch"] == batch
    assert any(a.startswith(f"global_batch = {batch}") for a in found.assumed)


# What is done to a model


def pruned(how: str, model: str = LLAMA.id) -> dict[str, float]:
    """Parameters of a model that was pruned, by group."""
    return parameter_counts(compress(load_model(model), how))


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_pruned_heads_go_by_whole_groups_of_queries(share: float) -> None:
    """Grouped queries keep their ratio; with a key head each, heads go one by one."""
    grouped, alone = pruned(f"heads:{share}"), pruned(f"heads:{share}", "llama-2-7b")
    assert grouped["attention"] == 32 * 4096 * (2 * 4096 + 2 * 1024) * share
    assert alone["attention"] == 32 * 4 * 4096 * 4096 * share
    latent, whole = pruned(f"heads:{share}", "deepseek-v2-lite"), pruned("none", "deepseek-v2-lite")
    by_head = 27 * 16 * (2048 * 192 + 512 * 256 + 128 * 2048)
    assert whole["attention"] - latent["attention"] == by_head * (1 - share)
    assert compress(load_model("deepseek-v2-lite"), "heads:0.001").stacks[0].kinds[0].mixer.heads == 1  # type: ignore[union-attr]
    two = compress(load_model("chatglm2-6b"), "heads:0.3").stacks[0].kinds[0].mixer  # 32 heads, 2 of keys
    assert isinstance(two, Attention) and (two.heads, two.kv_heads) == (16, 1)
    multi_query = pruned(f"heads:{share}", "falcon-7b")  # 71 heads of 64 and one of keys
    assert pruned("heads:0.001", "falcon-7b")["attention"] == 32 * 4544 * 64 * (2 + 2)
    kept = max(1, round(71 * share))
    assert multi_query["attention"] == 32 * 4544 * 64 * (2 * kept + 2)


def test_a_pruned_width_stays_a_multiple_of_64_and_experts_stay_enough_to_choose_from() -> None:
    assert pruned("width:0.3")["mlp"] == 32 * 3 * 4096 * round(14336 * 0.3 / 64) * 64
    assert pruned("width:0.001")["mlp"] == 32 * 3 * 4096 * 64
    whole = pruned("none", "mixtral-8x7b")
    assert pruned("experts:0.5", "mixtral-8x7b")["experts"] == whole["experts"] / 2
    assert pruned("experts:0.1", "mixtral-8x7b")["experts"] == whole["experts"] / 4  # top 2 of 8
    assert pruned("width:0.5", "mixtral-8x7b")["experts"] == whole["experts"] / 2
    shared = pruned("width:0.5", "deepseek-v2-lite"), pruned("none", "deepseek-v2-lite")
    routers = 26 * 2048 * 64
    assert shared[0]["mlp"] - shared[0]["experts"] - routers == pytest.approx(
        3 * 2048 * (5504 + 26 * 1408)  # 10944 / 2 to the nearest 64
    )
    assert shared[0]["experts"] == shared[1]["experts"] / 2


def test_pruned_depth_keeps_layers_evenly_and_at_least_one() -> None:
    assert compress(load_model(LLAMA.id), "depth:0.5").stacks[0].layers == 16
    assert compress(load_model(LLAMA.id), "depth:0.001").stacks[0].layers == 1
    order = load_model("gemma-2-9b").stacks[0].order
    half = compress(load_model("gemma-2-9b"), "depth:0.5").stacks[0].order
    assert half == tuple(order[2 * i] for i in range(21))
    both = pruned("depth:0.5+width:0.5")
    assert both["mlp"] == pruned("none")["mlp"] / 4
    assert [s.layers for s in compress(load_model("gemma-3-4b"), "depth:0.5").stacks] == [27, 17]  # not the tower


# A host that comes late, in a pipeline


def test_a_late_host_lengthens_the_bubble_too() -> None:
    """Two stages of six layers: launches outlast kernels, so each pass takes as long as they do."""
    found = estimate(model="gpt2", devices=2, pp=2, seq_len=16, micro_batch=1, global_batch=4, recompute="none",
                     framework="megatron", compiled=False)  # fmt: skip
    first, last = (55e-6 * (6 * 10 + n) for n in (2, 8))
    mean = 3 * (first + last) / 2  # a pass forward and a pass back, of twice as many launches
    assert found.time["pipeline.bubble"] == pytest.approx(mean)
    busy = ("forward", "backward", "host")
    assert sum(v for k, v in found.time.items() if k.startswith(busy)) == pytest.approx(4 * 3 * last)


def test_vector_units_without_a_source_are_a_sixteenth_of_the_matrix_unit() -> None:
    """19.5 of 312 TFLOP/s on an A100; of the fastest 16-bit rate, or of any where there is none."""
    chip = load_accelerator("a100-sxm-80gb")
    bare = replace(chip, vector_flops=None, peak_flops={"bf16": 320e12, "fp16": 160e12, "fp8": 640e12})
    assert vector_flops(bare) == 20e12
    assert vector_flops(replace(bare, peak_flops={"fp8": 640e12, "fp32": 32e12})) == 40e12
    assert vector_flops(replace(bare, vector_flops=1e12)) == 1e12
