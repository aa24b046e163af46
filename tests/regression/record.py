"""Answers on record: 2,000 varied scenarios and 60 searches with every figure of their answers.

``python tests/regression/record.py`` compares today's answers with the record and prints each that moved;
``--write`` puts today's in its place, and ``pytest -m published`` compares them up to 1e-9. A change of physics is
recorded anew in the commit that makes it, with the size of its effect in ``docs/accuracy.md``; a change of structure
leaves the record as it is, to the last bit.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import planner
from planner.errors import PlannerError

RECORD = Path(__file__).with_name("answers.jsonl.gz")
SCENARIOS, REFUSALS, SEARCHES, SEED = 2000, 250, 60, 20261128
MODELS = (
    "gpt2", "gpt3-175b", "llama-2-7b", "llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b", "mixtral-8x7b",
    "qwen3-30b-a3b", "deepseek-v3", "deepseek-v2-lite", "gemma-3-27b", "gpt-oss-20b", "falcon-40b", "minimax-m2.5",
    "kimi-k2", "glm-4.5-air", "bert-large-uncased", "flan-t5-xl", "whisper-large", "modernbert-base",
    "llama-4-scout", "gemma-3-4b", "minicpm3-4b",
)  # fmt: skip
HARDWARE = (
    "dgx-h100", "dgx-a100-80gb", "mi300x-platform", "tpu-v5p-pod", "gb200-nvl72", "dgx-b200", "l40s-48gb",
    "rtx-4090-24gb", "hls-gaudi2", "aws-trn2-48xlarge", "dgx-1v-32gb", "tpu-v6e-pod", "lumi-mi250x",
    "rtx-5090-32gb", "t4-16gb", "apple-m3-max-128gb", "h100-pcie-80gb",
)  # fmt: skip
TRAIN: Mapping[str, tuple[object, ...]] = {
    "tp": (1, 1, 2, 4, 8), "pp": (1, 1, 2, 4, 8), "cp": (1, 1, 1, 2, 4), "ep": (1, 1, 2, 4, 8), "vpp": (1, 1, 1, 2),
    "micro_batch": (None, 1, 2, 4), "global_batch": (None, 32, 64, 256, 1024), "zero_stage": (None, 0, 1, 2, 3),
    "sequence_parallel": (None, True, False), "recompute": (None, "none", "selective", "full"),
    "recompute_modules": (None, None, "core_attn", "layernorm,moe_act", "mlp,mla_up_proj", "moe"),
    "attention": (None, "flash", "flash-1", "eager"), "loss": (None, "fused", "chunked"),
    "schedule": (None, None, "1f1b", "interleaved", "zb-h1", "dualpipe", "gpipe"),
    "offload": (None, None, "optimizer", "activations"), "seq_len": (None, 512, 2048, 8192, 32768),
    "encoder_len": (None, None, 256), "compute_dtype": (None, None, "bf16", "fp8", "mxfp8", "nvfp4", "fp16", "tf32"),
    "grad_dtype": (None, "fp32", "bf16"), "optimizer": (None, "adamw", "muon", "adafactor", "adam8bit", "lion", "sgd"),
    "overlap_dp": (None, True, False), "overlap_tp": (None, "none", "backward", "all"), "overlap_ep": (None, True),
    "context_exchange": (None, "ring", "all_gather", "all_to_all"),
    "framework": (None, None, "megatron", "megatron-deepspeed", "torch", "jax"), "lora_rank": (None, None, None, 16),
    "compiled": (None, True, False), "imbalance": (None, None, 1.3),
    "compression": (None,) * 6 + ("depth:0.5", "width:0.75"),
}  # fmt: skip
INFER: Mapping[str, tuple[object, ...]] = {
    "tp": (1, 1, 2, 4, 8), "pp": (1, 1, 2), "ep": (1, 1, 2, 8), "input_len": (None, 128, 2048, 8192),
    "output_len": (None, 64, 512), "batch": (None, 1, 16, 64, 256), "concurrency": (None, 4, 64),
    "engine": (None, "ideal", "vllm", "sglang", "tensorrt-llm", "llama.cpp"), "attention": (None, None, "eager"),
    "weight_dtype": (None, None, "bf16", "fp8", "int4", "int8", "mxfp4"), "kv_dtype": (None, "fp8"),
    "compute_dtype": (None, None, "bf16", "fp16", "fp8"), "sparsity": (None, None, None, "2:4"),
    "imbalance": (None, 1.5), "cp": (1, 1, 1, 2), "seq_len": (None, 256),
}  # fmt: skip


def scenarios() -> Iterator[dict[str, Any]]:
    """Scenarios without end, the same every time."""
    draw = random.Random(SEED)
    while True:
        task = draw.choice(("train", "train", "train", "train", "prefill", "decode", "serve", "forward"))
        keys = TRAIN if task == "train" else INFER
        given = {k: draw.choice(v) for k, v in keys.items() if draw.random() < 0.45}
        base = {"task": task, "model": draw.choice(MODELS), "hardware": draw.choice(HARDWARE)}
        base["devices"] = draw.choice((1, 2, 4, 8, 8, 16, 64, 64, 256, 1024))
        yield base | {k: v for k, v in given.items() if v is not None}


def searches() -> Iterator[dict[str, Any]]:
    """The searches of the record."""
    draw = random.Random(SEED + 1)
    for _ in range(SEARCHES):
        task = draw.choice(("train", "train", "train", "prefill", "decode", "serve"))
        base = {"task": task, "model": draw.choice(MODELS), "hardware": draw.choice(HARDWARE)}
        base |= {"devices": draw.choice((1, 2, 4, 8, 16, 64))}
        if task == "train":
            base |= {"global_batch": draw.choice((32, 64, 256)), "seq_len": draw.choice((512, 2048, 4096))}
        yield base


def estimated(scenario: Mapping[str, Any]) -> dict[str, Any]:
    """A scenario beside its answer: results and ledgers."""
    try:
        e = planner.estimate(**scenario)
    except PlannerError:
        return {"scenario": dict(scenario), "refused": True}
    return {"scenario": dict(scenario), "row": e.row, "time": e.time, "memory": e.memory}


def searched(scenario: Mapping[str, Any]) -> dict[str, Any]:
    """A search beside the rows that it keeps and what it refused."""
    try:
        found = planner.plan(**scenario)
    except PlannerError:
        return {"search": dict(scenario), "refused": True}
    return {"search": dict(scenario), "rows": [e.row for e in found.rows], "refusals": found.refused,
            "considered": found.considered, "fitting": found.fitting}  # fmt: skip


def answers() -> Iterator[dict[str, Any]]:
    """Today's answers to record: scenarios, of which some are refused, and searches."""
    kept = refused = 0
    for scenario in scenarios():
        entry = estimated(scenario)
        refused += "refused" in entry
        if "refused" in entry and refused > REFUSALS:
            continue
        yield entry
        kept += 1
        if kept == SCENARIOS:
            break
    yield from (searched(s) for s in searches())


def recorded() -> Iterator[dict[str, Any]]:
    """The answers on record."""
    with gzip.open(RECORD, "rt", encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines)


def again(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Today's answer to what an entry of the record asks, as JSON would give it back."""
    now = estimated(entry["scenario"]) if "scenario" in entry else searched(entry["search"])
    back: dict[str, Any] = json.loads(json.dumps(now, default=str))
    return back


def differences(then: Any, now: Any, *, tolerance: float, at: str = "") -> Iterator[str]:
    """Where two answers differ by more than a relative ``tolerance``; 0 asks for every bit."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*then, *now)):
            if key not in then or key not in now:
                yield f"{at}.{key} only {'now' if key in now else 'then'}"
            else:
                yield from differences(then[key], now[key], tolerance=tolerance, at=f"{at}.{key}")
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for i, pair in enumerate(zip(then, now, strict=True)):
            yield from differences(*pair, tolerance=tolerance, at=f"{at}[{i}]")
    elif isinstance(then, float) and isinstance(now, float):
        if not (then == now or math.isclose(then, now, rel_tol=tolerance) or (math.isnan(then) and math.isnan(now))):
            yield f"{at} {then!r} -> {now!r}"
    elif then != now:
        yield f"{at} {then!r} -> {now!r}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="record today's answers")
    parser.add_argument("--tolerance", type=float, default=0.0, help="relative; 0 (default) asks for every bit")
    args = parser.parse_args()
    if args.write:
        with gzip.GzipFile(RECORD, "wb", mtime=0) as file:
            for entry in answers():
                file.write((json.dumps(entry, default=str) + "\n").encode())
        return 0
    moved = 0
    for i, entry in enumerate(recorded()):
        found = list(differences(entry, again(entry), tolerance=args.tolerance))
        moved += bool(found)
        if found:
            print(f"{i}: {entry.get('scenario') or entry['search']}: {'; '.join(found[:6])}")
    print(f"{moved} answers moved")
    return int(moved > 0)


if __name__ == "__main__":
    sys.exit(main())
