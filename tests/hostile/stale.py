"""Files that change under the planner's feet: an answer is that of the file as it is now, wherever one stands."""

from __future__ import annotations

import json
import os
import random
from datetime import date
from functools import cache
from pathlib import Path

from judge import ANSWERED, fault

from planner.catalogue.loader import built_in
from planner.errors import PlannerError
from planner.planning.estimate import estimate_scenario

TODAY = date(2026, 1, 1)
DEPTHS = (2, 3, 4, 6)
RATES = ("1000", "2000", "4000")
GPT = {"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_positions": 1024, "vocab_size": 50257,
       "architectures": ["GPT2LMHeadModel"]}  # fmt: skip
KEYS = {"task": "decode", "devices": 1, "batch": 1, "input_len": 128, "output_len": 16}


def trial(draw: random.Random, folder: Path) -> str:
    """A walk: write a model or a profile, go to another folder, ask."""
    places = [folder / name for name in ("a", "b")]
    now: dict[Path, int] = {}
    rate = draw.choice(RATES)
    for place in places:
        (place / "model").mkdir(parents=True, exist_ok=True)
        now[place] = _write(place, draw)
    _profile(folder / "hw", rate)
    here = Path.cwd()
    try:
        for _ in range(draw.randint(2, 5)):
            place = draw.choice(places)
            match draw.choice(("write", "write", "profile", "ask")):
                case "write":
                    now[place] = _write(place, draw)
                case "profile":
                    rate = draw.choice(RATES)
                    _profile(folder / "hw", rate)
            os.chdir(place)
            hw = draw.choice((str(folder / "hw"), "../hw"))
            path = draw.choice(("model/config.json", "./model", str(place / "model")))
            wrong = _asked(path, hw, now[place], rate)
            if wrong:
                return wrong
    finally:
        os.chdir(here)
    return ANSWERED


def _asked(path: str, hw: str, depth: int, rate: str) -> str:
    try:
        e = estimate_scenario({**KEYS, "model": path, "hardware": "mine"}, dirs=(hw,), today=TODAY)
    except PlannerError as error:
        return fault("refused what is right", error)
    due = (depth, float(rate) * 1e9)
    found = (e.resolved.model.layers, e.resolved.cluster.accelerator.bandwidth)
    return fault("a stale answer", (found, due)) if found != due else ""


def _write(place: Path, draw: random.Random) -> int:
    depth = draw.choice(DEPTHS)
    _put(place / "model" / "config.json", json.dumps({**GPT, "n_layer": depth}), draw.random() < 0.5)
    return depth


def _put(path: Path, text: str, replace: bool) -> None:
    """In place, which keeps size and perhaps time, or as a new file."""
    if replace:
        beside = path.with_suffix(".new")
        beside.write_text(text)
        beside.replace(path)
    else:
        path.write_text(text)


@cache
def _chip() -> str:
    text = (built_in() / "accelerators" / "nvidia" / "l4-24gb.yaml").read_text()
    return text.replace("id: l4-24gb", "id: mine").replace("300 GB/s", "RATE GB/s").split("prices:")[0] + \
        "sources:" + text.split("sources:")[1]  # fmt: skip


def _profile(folder: Path, rate: str) -> None:
    (folder / "accelerators").mkdir(parents=True, exist_ok=True)
    _put(folder / "accelerators" / "mine.yaml", _chip().replace("RATE", rate), False)
