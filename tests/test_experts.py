"""Experts divided over ranks: whole ones by ep, parts of one by etp, and what each costs."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from builders import cluster, llama, serving, training
from hypothesis import given
from hypothesis import strategies as st

from planner.catalogue.models import load_model, model_ids
from planner.catalogue.schema import Mlp, Moe
from planner.cost.exchange import Traffic, Window, layer_exchange
from planner.cost.groups import expert_gradient_group, expert_group, shared_expert_group
from planner.cost.inference import inference_pass
from planner.cost.layouts import layouts
from planner.cost.passes import training_work
from planner.cost.training import training_step
from planner.demand.costs import local_weights, op_costs, saved_bytes
from planner.demand.ops import Op, OpTable
from planner.demand.transformer import demand
from planner.demand.workload import Precision, work
from planner.errors import BadInputError
from planner.planning.estimate import Estimate, estimate_scenario
from planner.planning.plan import make_plan
from planner.supply.collectives import collective_time
from planner.validation.published import TODAY

MOE = Moe(16, 2, 1408)
QWEN: dict[str, Any] = {"task": "decode", "model": "qwen3-30b-a3b", "hardware": "dgx-h100", "devices": 4, "batch": 1,
                        "input_len": 1024, "output_len": 128}  # fmt: skip
power = st.sampled_from([1, 2, 4, 8])


def estimated(**scenario: object) -> Estimate:
    return estimate_scenario(scenario, today=TODAY)


def expert_models() -> list[str]:
    """Catalogue models with experts."""
    return [m for m in model_ids() if any(isinstance(k.ffn, Moe) for s in load_model(m).stacks for k in s.kinds)]


def table_of(moe: Moe) -> OpTable:
    return next(s.table for s in demand(llama(kv_heads=16, moe=moe)).sections if s.role == "layer")


# Weights


def parts(op: Op, *, tp: int, ep: int, etp: int) -> float:
    """Devices of one tp·dp group over which the matrix of an operator is cut, in plain words of its kind."""
    if op.kernel == "grouped_matmul":
        return ep * etp
    return tp if op.shard in ("column", "row", "vocab") else 1


@pytest.mark.parametrize("name", expert_models())
def test_weights_over_devices_sum_to_the_model(name: str) -> None:
    """Every device of a stage of dp·tp ranks: what is cut in n is held dp·tp / n times, biases of sums by each part."""
    d = demand(load_model(name))
    for tp, ep, etp in product((1, 2, 4), (1, 2, 8), (1, 2, 4, 8)):
        ranks, one = 64, {"tp": np.array([float(tp)]), "ep": np.array([float(ep)]), "etp": np.array([float(etp)])}
        for s in (s for s in d.sections if s.table.ops):
            on_all = ranks * local_weights(s.table, **one)[0]
            for op, got in zip(s.table.ops, on_all, strict=True):
                if op.n_kv:
                    continue  # key and value heads are copied beyond their number, which has laws of its own
                matrix = op.parameters - op.bias
                cut = parts(op, tp=tp, ep=ep, etp=etp)
                apart = op.shard in ("column", "vocab", "expert_column")
                bias_cut = cut if apart else ep if op.kernel == "grouped_matmul" else 1
                assert got == pytest.approx(ranks * (matrix / cut + op.bias / bias_cut)), (name, op.name)


@given(tp=power, ep=power, etp=power)
def test_copies_of_an_expert_share_the_ranks_of_a_stage(tp: int, ep: int, etp: int) -> None:
    """etp · ep · edp = dp · cp · tp, and the three groups tile the stage."""
    x = layouts(tp=tp, cp=2, dp=64 // tp, ep=ep, etp=etp)
    shared, experts, copies = shared_expert_group(x), expert_group(x), expert_gradient_group(x)
    assert etp * ep * x.expert_dp[0] == 128
    assert (shared.stride[0], experts.stride[0], copies.stride[0]) == (1, etp, etp * ep)
    reached = {int(a + etp * b + etp * ep * c) for a, b, c in product(
        range(int(shared.ranks[0])), range(int(experts.ranks[0])), range(int(copies.ranks[0])))}  # fmt: skip
    assert reached == set(range(128))


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_gradients_and_optimizer_state_follow_the_part_of_an_expert_that_a_rank_holds(stage: int) -> None:
    """Of 8 ranks, the state of experts is cut in etp·ep, and by ZeRO in the copies besides: nothing else differs."""
    d, c = demand(llama(kv_heads=16, moe=MOE)), cluster(8)
    tables = [(s.table, s.count) for s in d.sections if s.table.ops]
    experts = sum(o.parameters * n for t, n in tables for o in t.ops if o.kernel == "grouped_matmul")
    whole, shared = (training_step(d, c, layouts(tp=4, dp=2, ep=2, etp=e, sequence_parallel=1, zero_stage=stage,
                                                  global_batch=8), training()).memory for e in (1, 4))  # fmt: skip
    for term, bytes_each, from_stage in (("gradients", 4.0, 2), ("optimizer", 12.0, 1)):
        copies = {1: 4.0, 4: 1.0} if stage >= from_stage else {1: 1.0, 4: 1.0}
        due = experts * bytes_each * (1.0 / (2 * copies[1]) - 1.0 / (8 * copies[4]))
        assert whole[term][0] - shared[term][0] == pytest.approx(due, rel=1e-9, abs=1.0)


# Work


@given(tp=power, etp=power, ep=st.sampled_from([1, 2, 4]))
def test_flops_of_all_ranks_sum_to_the_whole(tp: int, etp: int, ep: int) -> None:
    table = table_of(MOE)
    whole = op_costs(table, work(batch=2, q_len=4096), Precision())
    part = op_costs(table, work(batch=2, q_len=4096, tp=tp, ep=ep, etp=etp, sequence_parallel=1), Precision())
    assert part.flops * tp == pytest.approx(whole.flops)
    routed = np.array([o.name in ("moe.dispatch", "moe.combine", "moe.up", "moe.down") for o in table.ops])
    grouped = np.array([o.kernel == "grouped_matmul" for o in table.ops])
    rows = 2 * 4096 * 2 / tp * etp  # two of the experts see each token
    up, down = (next(i for i, o in enumerate(table.ops) if o.name == name) for name in ("moe.up", "moe.down"))
    assert part.input_bytes[0, up] == pytest.approx(rows * table.ops[up].k * 2.0)
    assert part.output_bytes[0, down] == pytest.approx(rows * table.ops[down].n * 2.0)
    assert (part.input_bytes * tp / etp)[:, routed & ~grouped] == pytest.approx(whole.input_bytes[:, routed & ~grouped])


def test_ranks_that_share_an_expert_keep_the_rows_of_all_of_them() -> None:
    """The input of the first matmul is whole rows, etp times as many; what lies inside an expert is cut as often."""
    table = table_of(MOE)
    kept = [
        saved_bytes(table, work(batch=1, q_len=4096, tp=4, etp=e, sequence_parallel=1), width=2.0)[0] for e in (1, 4)
    ]
    at = {o.name: i for i, o in enumerate(table.ops)}
    assert kept[1][at["moe.up"]] == 4 * kept[0][at["moe.up"]]
    others = [i for name, i in at.items() if name != "moe.up"]
    assert kept[1][others] == pytest.approx(kept[0][others])


@pytest.mark.parametrize(("experts", "rows"), [(2, 1), (2, 3), (3, 2), (4, 4), (5, 3)])
def test_the_experts_that_a_step_reads_are_those_that_rows_reach(experts: int, rows: int) -> None:
    """Counted over every way that so many rows can fall on so many experts."""
    ways = list(product(range(experts), repeat=rows))
    due = sum(len(set(w)) for w in ways) / len(ways)
    table = OpTable((Op("moe.up", "experts", "grouped_matmul", "expert_column", k=64, n=32, experts=experts),))
    c = op_costs(table, work(batch=rows, q_len=1), Precision())
    assert c.weight_bytes[0, 0] == pytest.approx(due * 64 * 32 * 2.0)


@pytest.mark.parametrize("batch", [1, 16, 256])
def test_decode_reads_as_many_bytes_of_experts_shared_as_of_experts_divided(batch: int) -> None:
    """At many rows all of them: 1/4 of each or a quarter of them, not every expert on every rank."""
    c, d = cluster(4), demand(load_model("qwen3-30b-a3b"))
    x = layouts(tp=4, etp=[1, 4, 1], ep=[1, 1, 4])
    copied, shared, divided = inference_pass(d, c, x, serving(batch=batch), phase="decode").time["forward.experts"]
    assert shared < copied * (1.0 + 1e-9) and divided < copied * (1.0 + 1e-9)
    assert shared == pytest.approx(divided, rel=0.25)
    if batch == 256:
        assert shared < copied / 2.0


# Exchange


def moved(operation: str, size: float, ranks: int, *, low_latency: bool = False) -> float:
    return float(collective_time(operation, np.array([size]), np.array([ranks]), stride=np.ones(1), cluster=cluster(16),
                                 low_latency=low_latency)[0])  # fmt: skip


def due_exchange(moe: Moe, *, tokens: float, hidden: int, tp: int, ep: int, etp: int, split: bool) -> float:
    """One way of the exchange over etp, a layer at a time and in words: who holds what before and after."""
    own = tokens / tp  # tokens that a rank answers for
    if ep > 1:  # dispatched rows of etp ranks are gathered, and their outputs scattered
        size = own * moe.top_k * etp * hidden * 2.0
        return moved("all_gather", size, etp) + moved("reduce_scatter", size, etp)
    size = own * etp * hidden * 2.0
    if split or etp > tp:  # tokens lie apart
        return moved("all_gather", size, etp) + moved("reduce_scatter", size, etp)
    if moe.shared is not None:  # the shared block's all-reduce takes the sum along
        return 0.0
    return moved("all_reduce", tokens * hidden * 2.0, tp)


@pytest.mark.parametrize("moe", [MOE, Moe(16, 2, 1408, shared=Mlp(1408, gated=True))], ids=["routed", "shared"])
@pytest.mark.parametrize(
    ("tp", "ep", "etp"), [(4, 1, 4), (4, 1, 2), (4, 1, 1), (4, 2, 4), (2, 4, 2), (8, 2, 1), (2, 1, 4)]
)
@pytest.mark.parametrize("split", [False, True])
def test_exchange_of_the_ranks_that_share_an_expert(moe: Moe, tp: int, ep: int, etp: int, split: bool) -> None:
    d = demand(llama(kv_heads=16, moe=moe))
    x = layouts(tp=tp, dp=16 // tp, ep=ep, etp=etp, sequence_parallel=int(split))
    w = training_work(x, training(seq_len=2048))
    section = next(s for s in d.sections if s.role == "layer")
    none = Window(np.zeros(1), np.zeros(1), np.zeros(1))
    got = layer_exchange(d, section, w, x, cluster(16), Traffic(2.0), none)
    due = due_exchange(moe, tokens=2048, hidden=d.model.hidden, tp=tp, ep=ep, etp=etp, split=split)
    assert got["etp"].forward[0] == pytest.approx(due)
    assert got["etp"].backward[0] == got["etp"].forward[0] >= got["etp"].last[0]


# Defaults


def test_an_engine_splits_experts_over_tensor_parallel_ranks() -> None:
    """vLLM logs 14.25 GiB of weights a device for Qwen3-30B-A3B on 4 ranks."""
    e = estimated(**QWEN, tp=4)
    assert e.memory["weights"] / 2**30 == pytest.approx(14.25, rel=0.02)
    assert e.inputs["etp"] == 4 and "comm.etp" in e.time
    assert any(a.startswith("etp = 4 (without ep") for a in e.assumed)


@pytest.mark.parametrize("task", ["train", "prefill", "decode", "serve"])
def test_experts_divided_over_ep_are_whole_unless_told(task: str) -> None:
    base = {"task": task, "model": "mixtral-8x7b", "hardware": "dgx-h100", "devices": 8, "tp": 4, "ep": 2}
    free, held = estimated(**base), estimated(**base, etp=1)
    assert free.results == held.results and free.inputs == held.inputs
    assert any(a.startswith("etp = 1 (experts divided over ep") for a in free.assumed)
    assert not any(a.startswith("etp") for a in held.assumed)


def test_a_dense_model_has_nothing_to_share() -> None:
    e = estimated(model="llama-3.1-8b", hardware="dgx-h100", devices=8, tp=8)
    assert e.inputs["etp"] == 1 and not any(a.startswith("etp") for a in e.assumed)
    with pytest.raises(BadInputError, match="etp 2 given, but the model has no experts; allowed: 1"):
        estimated(model="llama-3.1-8b", hardware="dgx-h100", devices=8, etp=2)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"tp": 8, "ep": 2, "etp": 8}, "etp 8 x ep 2 does not divide dp·cp·tp = 1·1·8 = 8; allowed: etp 1, 2, 4"),
        ({"tp": 2, "pp": 2, "etp": 8}, "etp 8 x ep 1 does not divide dp·cp·tp = 2·1·2 = 4; allowed: etp 1, 2, 4"),
        (
            {"tp": 2, "pp": 2, "ep": 8, "etp": 2},
            "etp 2 x ep 8 does not divide dp·cp·tp = 2·1·2 = 4; allowed: ep 1, 2, 4",
        ),
    ],
)
def test_an_etp_that_divides_nothing_is_refused_with_what_would(keys: dict[str, int], words: str) -> None:
    with pytest.raises(BadInputError) as error:
        estimated(model="mixtral-8x7b", hardware="dgx-h100", devices=8, **keys)
    assert words in str(error.value)


def test_the_placement_says_where_the_ranks_that_share_an_expert_lie() -> None:
    e = estimated(**{**QWEN, "devices": 32, "dp": 2, "tp": 4, "pp": 4, "ep": 2, "etp": 4, "batch": 2})
    (said,) = (a for a in e.assumed if a.startswith("placement"))
    assert "tp 4" in said.split(" inside")[0] and "etp 4" in said.split(" inside")[0] and "ep 2" in said


@pytest.mark.parametrize("batch", [1, 64])
def test_a_plan_offers_copies_of_all_experts_only_where_nothing_shared_or_divided_is_faster(batch: int) -> None:
    found = make_plan({**QWEN, "batch": batch}, today=TODAY, top=50)
    assert found.best is not None
    alike = [e for e in found.rows if e.inputs["tp"] == found.best.inputs["tp"]]
    assert len({e.inputs["etp"] for e in alike}) > 1
    for e in found.rows:
        assert e.results["step_time_s"] >= found.best.results["step_time_s"]
    if found.best.inputs["tp"] != 1:
        assert int(found.best.inputs["etp"]) * int(found.best.inputs["ep"]) > 1
