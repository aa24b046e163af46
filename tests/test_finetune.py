"""Fine-tuning on what there is: each cell is the largest that fits, and the next one does not."""

from __future__ import annotations

import json
from datetime import date

import pytest
from conftest import Cli

import planner
from planner.errors import BadInputError
from planner.planning.estimate import Estimate
from planner.planning.finetune import GRAIN, MICRO_BATCHES, fine_tuning, setting
from planner.planning.search import RANK_ERROR
from planner.present.tuning import answer

TODAY = date(2026, 11, 1)
ASK: dict[str, object] = {"model": "llama-3.1-8b", "hardware": "rtx-4090-24gb", "devices": 2, "lora_rank": 16}
KEYS = {"full": {}, "LoRA": {"lora_rank": 16}, "QLoRA": {"lora_rank": 16, "quantization": "nf4-dq"}}


def plan_of(method: str, seq_len: int, micro_batch: int, devices: int = 2) -> Estimate | None:
    """What ``plan`` says of a length and a micro-batch, one a device in a step."""
    return planner.plan(model=ASK["model"], hardware=ASK["hardware"], devices=devices, **KEYS[method],
                        **setting(seq_len, micro_batch, devices), top=1).best  # fmt: skip


def test_methods_side_by_side() -> None:
    full, lora, qlora = fine_tuning(ASK, today=TODAY)
    assert full.miss is not None and not full.fits and full.longest == 0
    assert full.miss.results["memory_peak_bytes"] > full.miss.capacity
    assert lora.fits and qlora.fits and qlora.longest > lora.longest
    for length, e in lora.batches.items():
        assert qlora.batches[length].inputs["micro_batch"] >= e.inputs["micro_batch"]


def test_each_cell_is_what_plan_says_and_the_next_batch_and_length_have_no_plan() -> None:
    for room in fine_tuning(ASK, today=TODAY)[1:]:
        assert room.fastest is not None
        for e in (*room.batches.values(), room.fastest):
            best = plan_of(room.method.name, int(str(e.inputs["seq_len"])), int(str(e.inputs["micro_batch"])))
            assert best is not None and best.layout.row(0) == e.layout.row(0) and best.results == e.results
        for length, e in room.batches.items():
            following = next(m for m in MICRO_BATCHES if m > int(str(e.inputs["micro_batch"])))
            assert plan_of(room.method.name, length, following) is None
        assert plan_of(room.method.name, room.longest, 1) is not None
        assert plan_of(room.method.name, room.longest + GRAIN, 1) is None


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.published)])
def test_more_devices_are_never_worse(devices: int) -> None:
    few, more = (fine_tuning({**ASK, "devices": n}, today=TODAY) for n in (devices, 2 * devices))
    for a, b in zip(few, more, strict=True):
        assert b.longest >= a.longest and set(b.batches) >= set(a.batches)
        for length, e in a.batches.items():
            assert int(str(b.batches[length].inputs["micro_batch"])) >= int(str(e.inputs["micro_batch"]))
        if a.fastest is not None:
            assert b.fastest is not None
            assert b.fastest.results["tokens_per_s"] >= a.fastest.results["tokens_per_s"]


@pytest.mark.parametrize("layout", [{"dp": 1, "tp": 2}, {"dp": 2, "zero_stage": 3}, {"dp": 2, "zero_stage": 0}])
def test_4_bit_weights_are_no_faster_in_the_same_layout(layout: dict[str, int]) -> None:
    common = {"model": ASK["model"], "hardware": ASK["hardware"], "devices": 2, "seq_len": 2048, "micro_batch": 1,
              "global_batch": 2, "recompute": "full", **layout}  # fmt: skip
    lora, qlora = (planner.estimate(**common, **KEYS[m]).results for m in ("LoRA", "QLoRA"))
    assert lora["step_time_s"] <= qlora["step_time_s"] * (1 + RANK_ERROR)


def test_a_length_that_is_given_is_held() -> None:
    rooms = fine_tuning({**ASK, "seq_len": 1024}, today=TODAY)
    assert [list(r.batches) for r in rooms] == [[], [1024], [1024]]
    assert rooms[1].longest == 1024 and all(r.held for r in rooms)
    said = answer(rooms)
    assert "fits up to" not in said and "micro-batches of up to" in said and "1,024 tokens" in said


@pytest.mark.parametrize("key", ["quantization", "micro_batch", "global_batch"])
def test_what_is_compared_is_not_given(key: str) -> None:
    value = "nf4" if key == "quantization" else 4
    with pytest.raises(BadInputError, match=key):
        fine_tuning({**ASK, key: value}, today=TODAY)


def test_the_verb(cli: Cli) -> None:
    flags = ("--devices", "2", "--task", "train", "--lora-rank", "16")
    ran = cli("size", "llama-3.1-8b", "rtx-4090-24gb", *flags)
    assert ran.code == 0 and ran.out.startswith(
        "Llama 3.1 8B on 2 x NVIDIA GeForce RTX 4090 24GB: full fine-tuning does not"
    )
    assert "one micro-batch a device" in ran.out and "bound" in ran.out
    rows = json.loads(cli("size", "llama-3.1-8b", "rtx-4090-24gb", *flags, "--format", "json").out)
    assert {r["method"] for r in rows} == {"full", "LoRA", "QLoRA"}
    assert {r["pick"] for r in rows if not r["error"]} == {"largest", "fastest"}
    none = cli("size", "llama-3.1-70b", "rtx-4090-24gb", "--devices", "1")
    assert none.code == 1 and "QLoRA (rank 8) does not fit" in none.err


def test_other_tasks_are_told_what_answers_them(cli: Cli) -> None:
    for more in ((), ("--tokens", "1T")):
        ran = cli("size", "llama-3.3-70b", "dgx-h100", "--task", "serve", "--rate", "50", *more)
        assert ran.code == 2 and "size is for training" in ran.err
        assert "planner plan llama-3.3-70b dgx-h100 --task serve --rate 50" in ran.err
    told = cli("size", "--help").out
    assert "--task" in told and "serve)" not in told and "decode" not in told and "--rate" not in told
