"""How tokens reach experts: dispatchers, kernels around them, capacity, groups of experts; and adapters' kernels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import estimate
from planner.catalogue.dispatchers import dispatcher, dispatchers
from planner.catalogue.frameworks import frameworks
from planner.catalogue.schema import Moe
from planner.cost.exchange import expert_exchange
from planner.cost.groups import Group
from planner.demand.costs import Routing, op_costs
from planner.demand.moe import moe_ops
from planner.demand.ops import OpTable
from planner.demand.workload import Precision, work
from planner.errors import BadInputError
from planner.scenario.names import cluster_of

QWEN = {"model": "qwen3-30b-a3b", "hardware": "dgx-h100", "devices": 16, "ep": 16, "global_batch": 64, "seq_len": 4096,
        "micro_batch": 1, "recompute": "none", "framework": "megatron"}  # fmt: skip
LLAMA = {"model": "llama-3.1-8b", "hardware": "dgx-h100", "devices": 1, "global_batch": 4, "micro_batch": 1,
         "seq_len": 4096, "recompute": "none"}  # fmt: skip


def seconds(**keys: object) -> float:
    return float(estimate(**keys).row["step_time_s"])  # type: ignore[arg-type]


def exchanged(ep: int, **how: object) -> float:
    rows, stride = np.array([8.0 * 4096]), np.ones(1)
    group = Group(np.array([float(ep)]), stride)
    return float(expert_exchange(rows, 8, 4096.0, group, cluster_of("dgx-h100", 64), **how)[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("ep", [2, 4, 8, 16, 32, 64])
def test_copies_never_cross_faster_than_tokens_that_cross_once(ep: int) -> None:
    assert exchanged(ep, copies=True) >= exchanged(ep) * (1 - 1e-12)


@given(st.sampled_from([8, 16, 32, 64]), st.integers(1, 8))
def test_fewer_groups_in_reach_are_never_slower(ep: int, chosen: int) -> None:
    limited = exchanged(ep, limit=(8, chosen))
    assert limited <= exchanged(ep) * (1 + 1e-12)
    assert limited <= exchanged(ep, limit=(8, min(chosen + 1, 8))) * (1 + 1e-12)


def test_a_token_of_four_groups_of_eight_reaches_four_of_eight_domains() -> None:
    """Bytes over the network by hand: 4096 tokens of 4,096 bytes to 4·(1 − (3/4)^8) of 8 domains."""
    cluster = cluster_of("dgx-h100", 64)
    group = Group(np.array([64.0]), np.ones(1))
    visited = 4 * (1 - 0.75**8)
    from planner.supply.collectives import collective_time

    due = collective_time("all_to_all", np.array([4096 * 4096.0 * visited]), np.array([8.0]), stride=np.array([8.0]),
                          cluster=cluster)  # fmt: skip
    found = expert_exchange(np.array([8.0 * 4096]), 8, 4096.0, group, cluster, limit=(8, 4))
    assert found[0] == pytest.approx(due[0])


@given(st.integers(64, 512), st.integers(1, 4), st.sampled_from([1.0, 1.25, 2.0]))
def test_one_hot_matmuls_cost_what_their_products_do(tokens: int, top_k: int, load: float) -> None:
    """A scalar count of GShard's two products: S tokens, E·C slots, M values."""
    table = OpTable(tuple(moe_ops(Moe(16, top_k, 256), hidden=512)))
    w = work(batch=3, q_len=tokens, imbalance=load)
    i = table.names.index("moe.one_hot")
    plain, moved = (op_costs(table, w, Precision(), routing=r) for r in (Routing(0.0), Routing(0.0, one_hot=True)))
    slots = load * top_k * tokens  # E·C of one sequence
    assert plain.flops[0, i] == 0 and plain.bytes_moved[0, i] == 0
    assert moved.flops[0, i] == pytest.approx(3 * 2 * (2 * tokens * slots * 512))
    masks, buffers = 3 * 2 * tokens * slots * 2, 3 * 2 * slots * 512 * 2
    assert moved.bytes_moved[0, i] == pytest.approx(masks + buffers)
    others = np.arange(len(table.ops)) != i
    assert np.allclose(plain.flops[0, others], moved.flops[0, others])


@given(st.floats(0.0, 4.0), st.floats(0.0, 4.0))
def test_more_passes_of_sorting_move_more(few: float, many: float) -> None:
    few, many = sorted((few, many))
    table = OpTable(tuple(moe_ops(Moe(16, 4, 256), hidden=512)))
    w = work(batch=1, q_len=128)
    less, more = (op_costs(table, w, Precision(), routing=Routing(s)).bytes_moved for s in (few, many))
    assert (less <= more + 1e-9).all()
    swap = table.names.index("moe.dispatch")
    assert more[0, swap] == pytest.approx(many * 2 * 128 * 4 * 512 * 2)


def test_each_generation_of_kernels_around_experts_is_faster_than_the_one_before() -> None:
    unfused, permute, fused = (seconds(**QWEN, moe_kernels=k) for k in ("unfused", "permute", "fused"))
    assert unfused > permute > fused


def test_a_capacity_of_the_mean_is_what_even_routing_costs() -> None:
    assert seconds(**QWEN, capacity_factor=1.0) == pytest.approx(seconds(**QWEN))
    assert seconds(**QWEN, capacity_factor=1.25) == pytest.approx(seconds(**QWEN, imbalance=1.25))
    assert seconds(**QWEN, capacity_factor=2.0) > seconds(**QWEN, capacity_factor=1.25)


def test_one_hot_dispatch_grows_with_the_square_of_the_sequence() -> None:
    def beyond(length: int) -> float:
        keys = QWEN | {"seq_len": length, "overlap_dp": False, "capacity_factor": 1.0}
        found = [estimate(**keys, dispatcher=d).time for d in ("einsum", "hybridep")]  # type: ignore[arg-type]
        return float(found[0]["forward.mlp"] - found[1]["forward.mlp"])

    assert beyond(16384) > 3.5 * 4 * beyond(4096) / 1.2


def test_every_framework_has_a_dispatcher_and_unknown_ones_are_refused() -> None:
    assert {f.dispatcher for f in frameworks().values()} <= set(dispatchers())
    assert not dispatcher("DeepEP").copies
    with pytest.raises(BadInputError, match="all_to_all"):
        dispatcher("alltoall")
    with pytest.raises(BadInputError, match="dispatcher"):
        seconds(**QWEN, dispatcher="deep_ep")


def test_a_dispatcher_that_is_not_named_follows_the_framework() -> None:
    inputs = [estimate(**QWEN | {"framework": f}).inputs for f in ("megatron", "torch")]  # type: ignore[arg-type]
    assert [i["dispatcher"] for i in inputs] == ["deepep", "all_to_all"]
    assert inputs[0]["moe_kernels"] == "permute"


def test_adapters_beside_attention_alone_cost_less_than_beside_all() -> None:
    none, some, all_ = (seconds(**LLAMA, **k) for k in (
        {"lora_rank": 0}, {"lora_rank": 16, "lora_targets": "attention"}, {"lora_rank": 16}))  # fmt: skip
    assert some < all_ < none


def test_adapters_of_eager_pytorch_move_more_than_fused_ones() -> None:
    eager, fused = (seconds(**LLAMA, lora_rank=16, framework="torch", compiled=c) for c in (False, True))
    plain = [seconds(**LLAMA, framework="torch", compiled=c) for c in (False, True)]
    assert eager - fused > plain[0] - plain[1]


def test_attention_kernels_that_are_named_stand_in_place_of_the_frameworks() -> None:
    """PyTorch calls FlashAttention-2 on Hopper; with FlashAttention-3 or cuDNN it has what Megatron-LM has."""
    keys = LLAMA | {"seq_len": 32768, "global_batch": 1}
    torch = {a: seconds(**keys, framework="torch", attention=a) for a in ("flash", "flash-2", "flash-3", "cudnn")}
    assert torch["flash"] == torch["flash-2"] > torch["flash-3"] == torch["cudnn"]
    megatron = {a: seconds(**keys, framework="megatron", attention=a) for a in ("flash", "flash-2", "flash-3")}
    assert megatron["flash"] == megatron["flash-3"] < megatron["flash-2"]
