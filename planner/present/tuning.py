"""What can be fine-tuned, in words and rows: methods side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.planning.estimate import Estimate
from planner.planning.finetune import USUAL, Room
from planner.present.plans import layout_text
from planner.units import counted, format_gib

Rows = list[dict[str, Any]]


def answer(rooms: Sequence[Room]) -> str:
    """The methods in one sentence."""
    e = _any(rooms[0])
    c = e.resolved.cluster
    said = "; ".join(f"{_name(r)} {_words(r)}" for r in rooms)
    return f"{e.resolved.model.name} on {c.devices:,} x {c.accelerator.name}: {said}."


def _any(room: Room) -> Estimate:
    found = room.miss or next(iter(room.batches.values()), None)
    assert found is not None
    return found


def _name(room: Room) -> str:
    rank = room.method.keys["lora_rank"]
    return f"{room.method.name} (rank {rank})" if rank else "full fine-tuning"


def _words(room: Room) -> str:
    if room.miss is not None:
        return f"does not fit ({_need(room.miss)})"
    length = max(n for n in room.batches if n <= max(USUAL, min(room.batches)))
    sequences = f"{counted(int(str(room.batches[length].inputs['micro_batch'])), 'sequence')} of {length:,} tokens"
    if room.held:
        return f"fits micro-batches of up to {sequences}"
    return f"fits up to {room.longest:,} tokens, or micro-batches of up to {sequences}"


def _need(e: Estimate) -> str:
    return f"{format_gib(float(str(e.results['memory_peak_bytes'])))} of {format_gib(e.capacity)}"


def shown_rows(rooms: Sequence[Room]) -> Rows:
    """A row a method: the longest sequence, the largest micro-batch at each length, and what is fastest at the usual
    one."""
    lengths = sorted({n for r in rooms for n in r.batches})
    rows: Rows = []
    for r in rooms:
        cells = {f"batch at {n:,}": str(r.batches[n].inputs["micro_batch"]) if n in r.batches else "-" for n in lengths}
        at = r.fastest
        longest = {} if r.held else {"longest": r.longest or "-"}
        rows.append({
            "method": _name(r), **longest, **cells, "tokens_per_s": at.results["tokens_per_s"] if at else None,
            "bound": at.results["bound"] if at else "", "memory": _need(at or _any(r)),
            "layout": layout_text(at or _any(r)),
        })  # fmt: skip
    return rows


def room_rows(hardware: str, rooms: Sequence[Room]) -> Rows:
    """Every method and length with everything; a method that does not fit says by how much."""
    rows: Rows = []
    for r in rooms:
        told = [("largest", e) for e in r.batches.values()] + ([("fastest", r.fastest)] if r.fastest else [])
        for pick, e in told:
            rows.append({"id": hardware, "method": r.method.name, "longest": r.longest, "length": e.inputs["seq_len"],
                         "pick": pick, **e.row, "error": ""})  # fmt: skip
        if r.miss is not None:
            rows.append({"id": hardware, "method": r.method.name, "longest": 0, "length": r.miss.inputs["seq_len"],
                         "micro_batch": None, "error": f"{_name(r)} does not fit: {_need(r.miss)}"})  # fmt: skip
    return rows


def assumed(rooms: Sequence[Room]) -> list[str]:
    """What was assumed of any method, once each."""
    notes = dict.fromkeys([*rooms[0].notes, *(a for r in rooms for a in _any(r).assumed)])
    found = {"micro_batch", "recompute", "global_batch", "sequence_parallel", "zero_stage", "placement"}
    return [a for a in notes if a.split(" = ")[0] not in found]
