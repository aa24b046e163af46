"""What a framework, an exchange or a module changes in a training step, each against the law it follows."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from builders import cluster, gpt, llama, training

import planner
from planner.catalogue.schema import Moe
from planner.cost import constants
from planner.cost.exchange import contention, expert_exchange, hidden_behind
from planner.cost.frameworks import exchanged_gradient_bytes
from planner.cost.groups import Group
from planner.cost.kernels import head_width_factor, rates, slowest_of
from planner.cost.layers import layer_terms
from planner.cost.layouts import layouts
from planner.cost.recompute import MODULES
from planner.cost.runs import HEADROOM
from planner.cost.training import exposed_share, training_step
from planner.demand.memory import state_bytes_per_parameter, update_bytes
from planner.demand.optimizer import optimizer
from planner.demand.transformer import demand
from planner.demand.workload import Precision
from planner.errors import BadInputError
from planner.planning.estimate import estimate_scenario
from planner.supply.collectives import collective_time

TODAY = date(2026, 11, 1)


def estimate(**keys: object):  # type: ignore[no-untyped-def]
    return estimate_scenario({"task": "train", "seq_len": 2048, **keys}, today=TODAY)


def test_the_slowest_of_many_is_slower_and_static_chips_are_alike() -> None:
    gpu, tpu = cluster(8).efficiency.execution, cluster(4, "tpu-v5p-pod").efficiency.execution
    times = [slowest_of(n, gpu) for n in (1, 8, 64, 4096)]
    assert times[0] == 1.0 and times == sorted(times)
    drawn = np.random.default_rng(0).normal(1.0, constants.DEVICE_SPREAD, (20_000, 64)).max(axis=1)
    assert times[2] == pytest.approx(drawn.mean(), abs=0.001)
    assert slowest_of(4096, tpu) == 1.0


def test_the_first_flash_attention_is_slower_than_the_second_and_eager_moves_more() -> None:
    x = layouts(micro_batch=1, global_batch=1)
    d = demand(gpt(hidden=2048, heads=16))
    step = {k: training_step(d, cluster(1), x, training(seq_len=16384, attention=k)).step_time[0]
            for k in ("flash", "flash-1", "eager")}  # fmt: skip
    assert step["flash"] < step["flash-1"] < step["eager"]


def test_training_multiplies_as_a_library_does_in_every_dtype() -> None:
    """The narrow fit of a chip describes fused inference kernels; training casts apart."""
    c = cluster(1)
    wide = rates(c, Precision(), direction="forward", sustained=False, training=True)
    narrow = rates(c, Precision(compute="fp8"), direction="forward", sustained=False, training=True)
    fused = rates(c, Precision(compute="fp8"), direction="forward", sustained=False)
    assert narrow.compute[0] == wide.compute[0] != fused.compute[0]
    assert narrow.peak[0] == pytest.approx(2.0 * wide.peak[0], rel=1e-3)
    assert narrow.casts_apart and not fused.casts_apart


def test_a_head_stays_wide_where_layers_compute_narrow() -> None:
    d, x = demand(llama()), layouts(micro_batch=1, global_batch=1)
    wide, narrow = (
        layer_terms(d, cluster(1), x, training(precision=Precision(compute=c)), detail=False) for c in ("bf16", "fp8")
    )
    head = next(i for i, s in enumerate(d.sections) if s.role == "output")
    layer = next(i for i, s in enumerate(d.sections) if s.role == "layer")
    assert narrow.backward["all"][0, head] == wide.backward["all"][0, head]
    assert narrow.backward["all"][0, layer] < wide.backward["all"][0, layer]


def test_host_and_device_run_side_by_side() -> None:
    """A small model takes as long as its launches, whatever its width."""
    x = layouts(micro_batch=1, global_batch=1)
    small, smaller = (
        training_step(demand(gpt(hidden=h, heads=4)), cluster(1), x, training(seq_len=128)) for h in (128, 256)
    )
    per_micro_batch = [sum(v[0] for k, v in s.time.items() if k != "optimizer") for s in (small, smaller)]
    assert per_micro_batch[0] == pytest.approx(per_micro_batch[1], rel=0.02)
    compiled = training_step(demand(gpt(hidden=128, heads=4)), cluster(1), x, training(seq_len=128, framework="jax"))
    assert compiled.time["host.launch"][0] == 0.0


def test_hidden_traffic_shows_in_part_and_more_across_domains() -> None:
    c, ranks = cluster(64), np.array([8.0, 64.0])
    parts = contention(Group(ranks, np.ones(2)), c, inside=0.0)
    assert parts.tolist() == [0.0, constants.CONTENTION]
    tpu = cluster(64, "tpu-v5p-pod")
    assert contention(Group(ranks, np.ones(2)), tpu, inside=constants.CONTENTION).tolist() == [0.0, 0.0]
    assert hidden_behind(np.array([3.0]), np.array([2.0]), contention=np.array([0.5])) == pytest.approx(2.0)


def test_an_asynchronous_exchange_hides_behind_weight_gradients() -> None:
    d, x = demand(gpt(hidden=8192, heads=64)), layouts(tp=8, micro_batch=1, global_batch=1)
    none, backward, every = (
        training_step(d, cluster(8), x, training(overlap_tp=o)).time["comm.tp"][0] for o in ("none", "backward", "all")
    )
    assert none > backward > every > 0


def test_deepspeed_sends_the_whole_activation_from_every_rank() -> None:
    d = demand(gpt(hidden=4096, heads=32))
    x = layouts(tp=8, pp=2, micro_batch=1, global_batch=16)
    sends = {f: training_step(d, cluster(16), x, training(framework=f)).time["comm.pp"][0]
             for f in ("megatron", "megatron-deepspeed")}  # fmt: skip
    assert sends["megatron-deepspeed"] > 3.0 * sends["megatron"]


def test_deepspeed_adds_gradients_in_a_kernel_of_its_own() -> None:
    """Once a micro-batch, and more than the accumulator's bytes at the speed of the memory."""
    d, c = demand(gpt(hidden=4096, heads=32)), cluster(1)
    few, many = (training_step(d, c, layouts(micro_batch=1, global_batch=n),
                               training(framework="megatron-deepspeed")).time["backward.accumulation"][0]
                 for n in (1, 4))  # fmt: skip
    assert many == pytest.approx(4 * few)
    moved = d.total_parameters * (2 + 2 + 4 + 4)
    assert moved / c.accelerator.bandwidth < few < 2.0 * moved / c.accelerator.bandwidth
    plain = training_step(d, c, layouts(micro_batch=1, global_batch=4), training())
    assert "backward.accumulation" not in plain.time


def test_fsdp_under_a_pipeline_gathers_weights_once_a_step() -> None:
    """torchtitan keeps weights gathered between micro-batches, which is ZeRO 1 in time and memory."""
    d, run = demand(gpt(hidden=4096, heads=32)), training(framework="torch")
    sizes = {"dp": 4, "pp": 2, "micro_batch": 1, "global_batch": 64}
    three, one = (training_step(d, cluster(8), layouts(zero_stage=z, **sizes), run) for z in (3, 1))
    assert three.step_time[0] == one.step_time[0] and three.peak_memory[0] == one.peak_memory[0]
    alone = training_step(d, cluster(8), layouts(zero_stage=3, dp=8, micro_batch=1, global_batch=64), run)
    assert alone.memory["weights"][0] < three.memory["weights"][0]


def test_interleaved_stages_exchange_while_other_chunks_run() -> None:
    """All chunks but one have p micro-batches to hide behind; a plain stage has the last one alone."""
    d = demand(gpt(layers=16, hidden=4096, heads=32))
    plain, interleaved = (
        training_step(d, cluster(64), layouts(vpp=v, pp=4, dp=16, global_batch=64), training()) for v in (1, 2)
    )
    assert interleaved.time["comm.dp.gradients"][0] < plain.time["comm.dp.gradients"][0]


def test_what_xla_compiles_reduces_gradients_in_sixteen_bits() -> None:
    wide = Precision(grad="fp32")
    assert exchanged_gradient_bytes(training(precision=wide)) == 4.0
    assert exchanged_gradient_bytes(training(precision=wide, framework="jax")) == 2.0
    half = Precision(grad="bf16")
    assert exchanged_gradient_bytes(training(precision=half)) == 2.0


@pytest.mark.parametrize(
    ("term", "share", "shape"),
    [
        ("comm.dp.parameters", 0.5, {"dp": 64, "zero_stage": 3, "global_batch": 64}),
        # scatters stay wide, as does the head
        ("comm.tp", 0.75, {"dp": 8, "tp": 8, "sequence_parallel": 1, "global_batch": 8}),
    ],
)
def test_torch_gathers_in_float8_what_it_multiplies_in_float8(term: str, share: float, shape: dict[str, int]) -> None:
    """torchtitan, docs/float8.md; Megatron-LM does not unless asked."""
    d, c, x = demand(gpt(hidden=8192, heads=64)), cluster(64), layouts(micro_batch=1, **shape)

    def exposed(framework: str, compute: str) -> float:
        run = training(overlap_dp=False, framework=framework, precision=Precision(compute=compute))
        return float(training_step(d, c, x, run).time[term][0])

    assert exposed("torch", "fp8") == pytest.approx(share * exposed("megatron", "fp8"), rel=0.1)
    assert exposed("torch", "bf16") == pytest.approx(exposed("megatron", "bf16"))


def test_only_the_longest_stage_waits_for_its_own_slowest_device() -> None:
    """With a head on it the last of 4 stages leads; its 16 devices spread less than all 64."""
    d = demand(gpt(layers=4, hidden=4096, heads=32, vocab=256_000))
    x = layouts(pp=4, dp=16, micro_batch=1, global_batch=16 * 64)
    step = training_step(d, cluster(64), x, training())
    alone = training_step(d, cluster(64), layouts(dp=64, micro_batch=1, global_batch=64 * 64), training())
    ratio = slowest_of(16, cluster(64).efficiency.execution) / slowest_of(64, cluster(64).efficiency.execution)
    assert ratio < 1.0
    head = {k: s.time["backward.all"][0] for k, s in (("staged", step), ("whole", alone))}
    per_layer = layer_terms(d, cluster(64), x, training(), detail=False).backward["all"][0]
    roles = np.array([s.role for s in d.sections])
    last = per_layer[roles == "layer"].sum() + per_layer[roles == "output"].sum()
    assert head["staged"] == pytest.approx(64 * last * ratio)
    assert head["whole"] == pytest.approx(64 * (per_layer @ np.array([s.count for s in d.sections])))


@pytest.mark.parametrize(
    ("system", "direction", "slower"),
    [
        ("dgx-h100", "forward", (1 + 2 * 0.462) / 1.462),  # 989 TFLOP/s against 66.9/16 of exponentials
        ("dgx-h100", "backward", (1 + 2 * 0.185) / 1.185),  # five matmuls to an exponential, not two
        ("dgx-a100-80gb", "forward", (1 + 2 * 0.25) / 1.25),
        ("tpu-v5p-pod", "forward", 2.0),  # half of the array idle
    ],
)
def test_narrow_heads_pay_for_exponentials_or_an_empty_array(system: str, direction: str, slower: float) -> None:
    found = head_widths(system, direction)
    assert found[128] == 1.0
    assert found[64] == pytest.approx(slower, rel=0.01)
    assert found[256] == 1.0 or system == "tpu-v5p-pod"


def test_wide_heads_spare_a_systolic_array_exponentials_until_its_matmuls_are_the_limit() -> None:
    found = head_widths("tpu-v5p-pod", "forward")
    assert found[256] == pytest.approx(0.5 / 0.8)  # attention and matmul reach of the chip
    assert found[192] == pytest.approx(max(128 / 192, 0.5 / 0.8 * 256 / 192))  # padded to two widths of the array
    assert found[512] == found[256]


def head_widths(system: str, direction: str) -> dict[int, float]:
    r = rates(cluster(1, system), Precision(), direction=direction, sustained=False)
    found = {}
    for width in (64, 128, 192, 256, 512):
        table = demand(gpt(hidden=16 * width, heads=16)).sections[1].table
        core = next(i for i, o in enumerate(table.ops) if o.kernel == "attention")
        found[width] = float(head_width_factor(table, r.exponentials, array_reach=r.array_reach)[core])
    return found


def test_an_expert_exchange_sends_a_token_once_to_a_rank() -> None:
    c, ep = cluster(8), np.array([8.0])
    tokens, row = 4096.0, 8192.0
    few, many = (expert_exchange(np.array([tokens * k]), k, row, Group(ep, np.ones(1)), c)[0] for k in (1, 64))
    whole = collective_time("all_to_all", np.array([tokens * 8 * row]), ep, stride=np.ones(1), cluster=c)[0]
    assert few < many <= whole * (1 + 1e-9)  # never more than one copy to each of the eight


def test_a_merged_schedule_hides_the_exchange_with_experts_and_holds_a_micro_batch_more() -> None:
    moe = Moe(width=768, experts=64, top_k=8)
    d = demand(llama(hidden=4096, heads=32, width=768, moe=moe))
    x = layouts(dp=8, ep=8, micro_batch=1, global_batch=64)
    plain, merged = (training_step(d, cluster(8), x, training(overlap_ep=o)) for o in (False, True))
    hidden = constants.HIDDEN_EXCHANGE_SHARE * plain.time["comm.ep"][0]
    assert hidden * (1 - 1e-9) <= merged.time["comm.ep"][0] < plain.time["comm.ep"][0]
    assert merged.memory["activations"][0] == pytest.approx(2.0 * plain.memory["activations"][0])


@pytest.mark.parametrize(
    ("framework", "loss", "per_logit"),
    [("torch", "eager", 12.0), ("megatron", "eager", 6.0), ("jax", "eager", 4.0), ("torch", "fused", 4.0),
     ("megatron", "fused", 4.0)],
)  # fmt: skip
def test_logits_take_what_the_loss_keeps_of_them(framework: str, loss: str, per_logit: float) -> None:
    x = layouts(micro_batch=2, global_batch=2)
    d = demand(gpt(vocab=50_000))
    step = training_step(d, cluster(1), x, training(seq_len=1024, framework=framework, loss=loss))
    assert step.memory["logits"][0] == pytest.approx(2 * 1024 * 50_000 * per_logit)


def test_a_chunked_loss_takes_as_much_as_its_input_whatever_the_vocabulary() -> None:
    x = layouts(micro_batch=2, global_batch=2)
    takes = [training_step(demand(gpt(vocab=v)), cluster(1), x, training(seq_len=1024, loss="chunked")).memory["logits"]
             for v in (50_000, 250_000)]  # fmt: skip
    assert takes[0][0] == takes[1][0] == pytest.approx(2 * 1024 * 1024 * 6)


def test_fsdp_holds_fp32_shards_and_casts_what_it_gathers() -> None:
    """16 bytes a parameter under Adam, where a sharded 16-bit copy would make 18."""
    d, x = demand(gpt(hidden=2048)), layouts(dp=8, zero_stage=3, micro_batch=1, global_batch=8)
    state = {f: sum(training_step(d, cluster(8), x, training(framework=f)).memory[k][0] * 8 / d.total_parameters
                    for k in ("weights", "gradients", "optimizer")) for f in ("torch", "jax", "megatron")}  # fmt: skip
    assert state == pytest.approx({"torch": 16.0, "jax": 16.0, "megatron": 18.0})
    assert training_step(d, cluster(8), x, training(framework="torch")).memory["weights"][0] == pytest.approx(
        4.0 * d.total_parameters / 8
    )
    pure = training(framework="torch", adam="adamw-bf16")
    assert training_step(d, cluster(8), x, pure).memory["weights"][0] == pytest.approx(2.0 * d.total_parameters / 8)


def test_what_xla_compiles_neither_caches_nor_gathers_whole_layers() -> None:
    moe = Moe(width=768, experts=64, top_k=8)
    d = demand(llama(hidden=4096, heads=32, width=768, moe=moe))
    x = layouts(dp=64, zero_stage=3, micro_batch=1, global_batch=64)
    torch, xla = (training_step(d, cluster(64), x, training(framework=f)) for f in ("torch", "jax"))
    assert xla.memory["fragmentation"][0] == 0.0 < torch.memory["fragmentation"][0]
    gathered = xla.memory["working"][0] + xla.memory["logits"][0]  # logits are gone by then
    assert gathered == pytest.approx(2 * 2 * 64 * 768 * 4096 * 2)  # gate and up are one matrix
    assert gathered < torch.memory["working"][0] + torch.memory["logits"][0]


def test_modules_trade_time_for_memory() -> None:
    d, x = demand(llama(hidden=4096, heads=32, width=11008)), layouts(micro_batch=1, global_batch=1, recompute=1)
    base = training_step(d, cluster(1), layouts(micro_batch=1, global_batch=1), training())
    for name in MODULES:
        step = training_step(d, cluster(1), x, training(recompute_modules=(name,)))
        assert step.step_time[0] >= base.step_time[0]
        assert step.memory["activations"][0] <= base.memory["activations"][0], name
    dense = training_step(d, cluster(1), x, training(recompute_modules=("layernorm", "mlp")))
    assert dense.memory["activations"][0] < 0.6 * base.memory["activations"][0]


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_named_modules_replace_the_policy_of_a_framework(framework: str) -> None:
    d, x = demand(llama(hidden=4096, heads=32, width=11008)), layouts(micro_batch=1, global_batch=1, recompute=1)
    own = training_step(d, cluster(1), x, training(framework=framework))
    named = {
        m: training_step(d, cluster(1), x, training(framework=framework, recompute_modules=(m,), modules_named=True))
        for m in ("mlp", "core_attn")
    }
    again = {m: step.time["recompute"][0] for m, step in named.items()}
    whole = training_step(d, cluster(1), x, training(framework=framework), detail=True).time
    assert whole["forward.mlp"][0] * 0.6 < again["mlp"] < whole["forward.mlp"][0]  # all but the last of three matmuls
    assert again["core_attn"] < whole["forward.attention"][0]
    assert own.time["recompute"][0] not in again.values()


@pytest.mark.parametrize(
    ("keys", "grad"),
    [
        ({}, "fp32"),
        ({"compute_dtype": "fp8"}, "bf16"),
        ({"compute_dtype": "fp8", "zero_stage": 3}, "fp32"),  # PyTorch's FSDP
        ({"compute_dtype": "fp8", "grad_dtype": "fp32"}, "fp32"),
        ({"compute_dtype": "fp16"}, "fp16"),
    ],
)
def test_gradients_are_as_wide_as_the_frameworks_recipes_have_them(keys: dict[str, object], grad: str) -> None:
    common = {"model": "llama-3.1-8b", "hardware": "dgx-h100", "devices": 8, "global_batch": 8}
    e = estimate(**common, **keys)
    assert e.inputs["grad_dtype"] == grad
    assert e.results["memory_gradients_bytes"] == pytest.approx(
        e.resolved.demand.total_parameters
        * {"fp32": 4, "bf16": 2, "fp16": 2}[grad]
        / (8 if "zero_stage" in keys else 1)
    )
    said = [a for a in e.assumed if a.startswith("grad_dtype")]
    assert len(said) == ("grad_dtype" not in keys and grad != "fp16")


def test_a_search_gives_each_framework_its_own_gradients() -> None:
    plan = planner.plan(model="llama-3.1-70b", hardware="dgx-h100", devices=64, global_batch=64, compute_dtype="fp8")
    assert plan.rows
    for e in plan.rows:
        again = estimate(**{k: v for k, v in e.inputs.items() if v != "" and k != "accelerator"})
        assert again.results["step_time_s"] == pytest.approx(e.results["step_time_s"])
        assert e.inputs["grad_dtype"] == ("fp32" if e.inputs["framework"] == "torch" else "bf16")


def test_rows_name_modules_only_where_they_are_what_is_repeated() -> None:
    common = {"model": "llama-3.1-8b", "hardware": "dgx-h100", "devices": 8, "global_batch": 8}
    assert estimate(**common, zero_stage=3).inputs["recompute_modules"] == ""
    assert estimate(**common, zero_stage=3, recompute_modules="mlp").inputs["recompute_modules"] == "mlp"
    assert "core_attn" in estimate(**common, zero_stage=1, recompute="selective").inputs["recompute_modules"]


def test_an_update_passes_over_gradients_five_times() -> None:
    adam = optimizer("adamw")
    bf16 = Precision(grad="fp32")
    assert update_bytes(state_bytes_per_parameter(bf16, adam), bf16) == 2 * 12 + 2 + 5 * 4
    fp16 = Precision("fp16", "fp16", "fp16", "fp16", "fp16")
    assert update_bytes(state_bytes_per_parameter(fp16, adam), fp16) == 2 * 12 + 2 + 5 * 4 + (2 + 4 + 8)


def test_dualpipe_holds_weights_and_gradients_twice() -> None:
    d, x = demand(gpt(layers=16)), layouts(pp=4, micro_batch=1, global_batch=16)
    plain, dual = (training_step(d, cluster(4), x, training(schedule=s)).memory for s in ("1f1b", "dualpipe"))
    for part in ("weights", "gradients"):
        assert dual[part][0] == pytest.approx(2.0 * plain[part][0], rel=0.3)


@pytest.mark.parametrize("kind", ["ring", "all_gather", "all_to_all"])
def test_every_context_exchange_costs_something_once_it_cannot_hide(kind: str) -> None:
    d, run = demand(llama(hidden=4096, heads=32, kv_heads=8)), training(seq_len=8192, context_exchange=kind)
    far = training_step(d, cluster(32, "aws-p4d-24xlarge"), layouts(cp=32, micro_batch=1, global_batch=1), run)
    one = training_step(d, cluster(1), layouts(micro_batch=1, global_batch=1), run)
    assert far.time["comm.cp"][0] > 0 == one.time["comm.cp"][0]


def test_a_ring_hides_what_a_gather_shows() -> None:
    d, x = demand(llama(hidden=4096, heads=32, kv_heads=8)), layouts(cp=8, micro_batch=1, global_batch=1)
    run = training(seq_len=131072)
    ring, gather = (
        training_step(d, cluster(8), x, replace(run, context_exchange=k)).time["comm.cp"][0]
        for k in ("ring", "all_gather")
    )
    assert ring < gather


def test_heads_that_an_all_to_all_cannot_deal_are_refused() -> None:
    with pytest.raises(BadInputError, match=r"all_to_all needs tp·cp to divide the attention heads; tp 8 x cp 8"):
        estimate(model="llama-3.1-8b", hardware="dgx-h100", devices=64, tp=8, cp=8, global_batch=1,
                 context_exchange="all_to_all")  # fmt: skip


def test_what_is_not_given_is_the_fastest_that_fits() -> None:
    common = {"model": "llama-3.1-8b", "hardware": "dgx-h100", "devices": 8, "global_batch": 64, "seq_len": 8192}
    chosen = estimate(**common)
    assert chosen.results["fits"] != "no"
    tried = [estimate(**common, micro_batch=m, recompute=r) for m in (1, 2, 4, 8) for r in ("none", "full")]
    fitting = [e.results["step_time_s"] for e in tried if float(str(e.results["fits_chance"])) >= HEADROOM]
    assert chosen.results["step_time_s"] <= min(fitting) * (1 + 1e-9)
    assert any(a.startswith("recompute = ") and "fastest that fits" in a for a in chosen.assumed)


def test_an_estimate_says_what_lies_inside_a_domain() -> None:
    e = estimate(model="llama-3.1-8b", hardware="dgx-h100", devices=32, tp=8, pp=2, global_batch=32)
    assert "placement: tp 8 inside a domain of 8; dp 2, pp 2 across domains" in e.assumed
    assert not any(
        "placement" in a for a in estimate(model="gpt2", hardware="dgx-h100", devices=8, seq_len=512).assumed
    )


def test_an_unknown_module_names_the_nearest() -> None:
    with pytest.raises(BadInputError, match=r"recompute_modules.*core_attn"):
        estimate(model="gpt2", hardware="dgx-h100", devices=1, seq_len=512, recompute_modules="core_atn")


def test_a_tensor_parallel_group_that_leaves_its_domain_cannot_pipeline_its_exchange() -> None:
    d = demand(gpt(hidden=8192, heads=64))
    x = layouts(tp=16, micro_batch=1, global_batch=1, sequence_parallel=1)
    far = {o: training_step(d, cluster(16), x, training(overlap_tp=o)).time["comm.tp"][0] for o in ("backward", "all")}
    assert far["all"] == far["backward"]
    near = layouts(tp=8, micro_batch=1, global_batch=1, sequence_parallel=1)
    step = training_step(d, cluster(8), near, training(overlap_tp="all"))
    assert step.time["comm.tp"][0] < 0.2 * far["all"]


def test_embedding_tables_stay_wide_under_narrow_weights() -> None:
    """Weight-only formats quantise matmuls: a table of V·h values keeps 16 bits."""
    model = llama(vocab=64000)
    table = 64000 * 1024
    d, x = demand(model), layouts(micro_batch=1, global_batch=1)
    wide, narrow = (
        training_step(d, cluster(1), x, training(lora_rank=8, precision=Precision(weight=w))).memory["weights"][0]
        for w in ("bf16", "int4")
    )
    assert narrow > 2.0 * table
    assert narrow < wide


def test_eager_pytorch_keeps_the_activated_gate() -> None:
    d, x = demand(llama(width=4096)), layouts(micro_batch=1, global_batch=1)
    eager, fused = (
        training_step(d, cluster(1), x, training(framework="torch", compiled=c)).memory["activations"][0]
        for c in (False, True)
    )
    assert eager - fused == pytest.approx(8 * 2048 * 4096 * 2.0)  # layers x tokens x width x bf16


def test_a_pipeline_exchanges_gradients_once_and_keeps_them_whole() -> None:
    d = demand(llama(hidden=4096, heads=32, kv_heads=8, layers=16))
    one, two = (training_step(d, cluster(32), layouts(dp=8, pp=4, micro_batch=1, global_batch=256, zero_stage=z),
                              training(seq_len=2048)) for z in (1, 2))  # fmt: skip
    assert two.step_time[0] == one.step_time[0]
    assert two.memory["gradients"][0] == one.memory["gradients"][0]
    alone, sharded = (training_step(d, cluster(32), layouts(dp=32, micro_batch=1, global_batch=1024, zero_stage=z),
                                    training(seq_len=2048)) for z in (1, 2))  # fmt: skip
    assert sharded.time["comm.dp.gradients"][0] > alone.time["comm.dp.gradients"][0]
    assert sharded.memory["gradients"][0] == pytest.approx(alone.memory["gradients"][0] / 32)
    said = estimate(model="llama-3.1-8b", hardware="h100-sxm5-80gb", devices=16, pp=2, zero_stage=2, global_batch=64)
    assert any("zero_stage 2 under a pipeline keeps gradients whole" in note for note in said.assumed)


def test_what_compute_cannot_cover_of_an_exchange_shows() -> None:
    exchange, compute, taken = np.array([1.0, 3.0, 0.0]), np.array([2.0, 1.0, 1.0]), 20 / 132
    assert (exposed_share(training(), exchange, compute) == 1.0).all()
    shown = exposed_share(training(schedule="dualpipe"), exchange, compute) * exchange
    assert shown == pytest.approx([taken, 2.0 + taken, 0.0])


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_dualpipe_hides_the_exchange_with_experts_behind_compute(recompute: str) -> None:
    keys = {"model": "deepseek-v3", "hardware": "h800-sxm5-80gb", "devices": 256, "pp": 4, "ep": 64, "micro_batch": 1,
            "global_batch": 1024, "recompute": recompute}  # fmt: skip
    plain, dual = (estimate(schedule=s, **keys).time for s in ("1f1b", "dualpipe"))
    assert 0.0 < dual["comm.ep"] < 0.5 * plain["comm.ep"]
    if recompute == "full":
        assert dual["recompute"] < plain["recompute"]


def test_pytorch_spares_the_exchange_after_the_last_matmul_of_a_recomputed_layer() -> None:
    d, c = demand(llama(hidden=4096, heads=32, kv_heads=8, layers=16)), cluster(8)
    x = layouts(tp=8, micro_batch=1, global_batch=1, recompute=2, sequence_parallel=1)
    terms = layer_terms(d, c, x, training(seq_len=4096, framework="torch", overlap_tp="none"), detail=False)
    layer = [s.role for s in d.sections].index("layer")
    message = np.array([4096.0 * 4096 * 2])
    scatter = collective_time("reduce_scatter", message, x.tp, stride=np.ones(1), cluster=c)
    assert terms.exchange["tp"].last[0, layer] == pytest.approx(scatter[0])


@pytest.mark.parametrize(
    ("keys", "framework", "overlap_tp"),
    [
        ({"hardware": "dgx-h100", "tp": 8, "sequence_parallel": True}, "megatron", "all"),
        ({"hardware": "dgx-h100", "tp": 8, "sequence_parallel": True, "zero_stage": 3}, "torch", "none"),
        ({"hardware": "dgx-a100-80gb", "tp": 8, "sequence_parallel": True}, "megatron", "backward"),
        ({"hardware": "dgx-b200", "tp": 8, "compute_dtype": "fp8"}, "megatron", "all"),
        ({"hardware": "dgx-b200", "tp": 8, "compute_dtype": "nvfp4"}, "megatron", "backward"),
        ({"hardware": "dgx-a100-80gb", "tp": 8, "attention": "eager"}, "megatron", "backward"),
        ({"hardware": "dgx-a100-80gb", "tp": 8, "attention": "eager", "zero_stage": 1}, "megatron", "backward"),
        ({"hardware": "tpu-v5p-pod", "attention": "eager", "zero_stage": 1}, "jax", "none"),
    ],
)
def test_a_run_that_names_no_framework_gets_the_defaults_of_the_likely_one(
    keys: dict[str, object], framework: str, overlap_tp: str
) -> None:
    e = estimate(model="llama-3.1-8b", devices=16, global_batch=64, seq_len=2048, **keys)
    assert (e.inputs["framework"], e.inputs["overlap_tp"]) == (framework, overlap_tp)
    asked = estimate(model="llama-3.1-8b", devices=16, global_batch=64, seq_len=2048, overlap_tp="all", **keys)
    assert asked.inputs["overlap_tp"] == "all"


def test_a_search_over_zero_stages_compares_them_under_one_framework() -> None:
    plan = planner.plan(model="llama-3.1-8b", hardware="dgx-a100-80gb", devices=16, global_batch=64, seq_len=2048,
                        attention="eager", top=200)  # fmt: skip
    used = {(e.inputs["zero_stage"] == 3, e.inputs["framework"]) for e in plan.rows}
    assert (False, "megatron") in used
    assert used <= {(False, "megatron"), (True, "torch")}


def test_eager_pytorch_pays_for_what_it_does_not_fuse() -> None:
    """RMS norms, rotary embeddings and gates slow down; layer norms and GELU, single kernels, do not."""
    x = layouts(micro_batch=1, global_batch=1)
    for model, slower in ((llama(hidden=4096, heads=32), True), (gpt(hidden=4096, heads=32), False)):
        d = demand(model)
        runs = [training(seq_len=2048, framework="torch", compiled=c) for c in (False, True)]
        eager, fused = (training_step(d, cluster(1), x, run, detail=True) for run in runs)
        assert (eager.time["forward.norm"][0] > 2.0 * fused.time["forward.norm"][0]) == slower
        assert (eager.time["forward.mlp"][0] > fused.time["forward.mlp"][0]) == slower
    width = 4096.0
    norm = next(o for o in demand(llama(hidden=4096, heads=32)).sections[1].table.ops if o.name == "norm.1")
    assert 2.0 * (norm.read + norm.write + norm.unfused) == 36.0 * width  # six kernels, in fp32 but for the ends


def test_selective_recomputation_under_xla_keeps_attention_and_repeats_the_mlp() -> None:
    d = demand(llama(hidden=4096, heads=32))
    x = layouts(micro_batch=1, global_batch=1, recompute=1)
    c = cluster(1, "tpu-v5p-pod")
    step = training_step(d, c, x, training(framework="jax"))
    ahead = training_step(d, c, x, training(framework="jax"), detail=True).time
    assert 0.5 * ahead["forward.mlp"][0] < step.time["recompute"][0] < ahead["forward.mlp"][0]
    full = training_step(d, c, layouts(micro_batch=1, global_batch=1, recompute=2), training(framework="jax"))
    none = training_step(d, c, layouts(micro_batch=1, global_batch=1), training(framework="jax"))
    kept = [s.memory["activations"][0] for s in (full, step, none)]
    assert kept == sorted(kept) and kept[0] < 0.5 * kept[1] < 0.5 * kept[2]
