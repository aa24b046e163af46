"""Fine-tuning on what there is: each cell is the largest that fits, and the next one does not."""

from __future__ import annotations

import json
from datetime import date

import pytest
from conftest import Cli

import planner
from planner.errors import BadInputError
from planner.planning.finetune import GRAIN, MICRO_BATCHES, fine_tuning

TODAY = date(2026, 11, 1)
ASK: dict[str, object] = {"model": "llama-3.1-8b", "hardware": "rtx-4090-24gb", "devices": 2, "lora_rank": 16}
KEYS = {"full": {}, "LoRA": {"lora_rank": 16}, "QLoRA": {"lora_rank": 16, "quantization": "nf4-dq"}}


def chance(method: str, seq_len: int, micro_batch: int) -> float:
    """The best chance to fit of one length and batch, by ``estimate``, over the recompute modes."""
    common = {"model": ASK["model"], "hardware": ASK["hardware"], "devices": 2, "zero_stage": 3, **KEYS[method]}
    return max(
        planner.estimate(**common, seq_len=seq_len, micro_batch=micro_batch, global_batch=2 * micro_batch,
                         recompute=r).results["fits_chance"]
        for r in ("none", "selective", "full")
    )  # fmt: skip


def test_methods_side_by_side() -> None:
    full, lora, qlora = fine_tuning(ASK, today=TODAY)
    assert full.miss is not None and not full.fits and full.longest == 0
    assert full.miss.results["memory_peak_bytes"] > full.miss.capacity
    assert lora.fits and qlora.fits and qlora.longest > lora.longest
    for length, e in lora.batches.items():
        assert qlora.batches[length].inputs["micro_batch"] >= e.inputs["micro_batch"]


def test_the_next_batch_and_the_next_length_do_not_fit() -> None:
    for room in fine_tuning(ASK, today=TODAY)[1:]:
        headroom = next(iter(room.batches.values())).resolved.run.headroom
        for length, e in room.batches.items():
            batch = int(str(e.inputs["micro_batch"]))
            assert chance(room.method.name, length, batch) >= headroom
            following = next(m for m in MICRO_BATCHES if m > batch)
            assert chance(room.method.name, length, following) < headroom
        assert chance(room.method.name, room.longest, 1) >= headroom
        assert chance(room.method.name, room.longest + GRAIN, 1) < headroom


def test_a_length_that_is_given_is_held() -> None:
    rooms = fine_tuning({**ASK, "seq_len": 1024}, today=TODAY)
    assert [list(r.batches) for r in rooms] == [[], [1024], [1024]]
    assert rooms[1].longest == 1024


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
    assert "zero_stage = 3" in ran.out
    rows = json.loads(cli("size", "llama-3.1-8b", "rtx-4090-24gb", *flags, "--format", "json").out)
    assert {r["method"] for r in rows} == {"full", "LoRA", "QLoRA"}
    none = cli("size", "llama-3.1-70b", "rtx-4090-24gb", "--devices", "1")
    assert none.code == 1 and "QLoRA (rank 8) does not fit" in none.err
