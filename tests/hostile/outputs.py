"""Files that are written while the disk fills, the folder goes or the process dies: the old one whole, or the new."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path

from judge import ANSWERED, REFUSED, Ended, child, command, fault, warm

OLD = "the old file\n" * 40
SCENARIOS = "id,model,hardware,task,devices,batch\n" + "".join(f"{i},gpt2,t4-16gb,decode,1,{i + 1}\n" for i in range(6))
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("estimate", "--scenarios", "in.csv", "-o", "out.csv"),
    ("estimate", "--scenarios", "in.csv", "--format", "json", "-o", "out.json"),
    ("estimate", "gpt2", "t4-16gb", "--task", "decode", "-o", "out.txt"),
    ("compare", "gpt2", "t4-16gb", "--devices", "1", "--task", "decode", "-o", "out.md", "--format", "markdown"),
    ("roofline", "gpt2", "t4-16gb", "--task", "decode", "-o", "out.svg"),
    ("estimate", "gpt2", "t4-16gb", "--task", "decode", "--figure", "out.png"),
)
KEPT = ("out.csv.partial", "out.json.partial")  # rows that were done, for the next run
SIGNALS = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT, "terminate": signal.SIGTERM}
TROUBLE = ("none", "full", "full", "kill", "kill", "kill", "interrupt", "terminate", "gone", "locked")


@cache
def _whole(arguments: tuple[str, ...]) -> tuple[bytes, float]:
    """What a command writes when nothing is in its way, and how long it takes."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    (folder / "in.csv").write_text(SCENARIOS)
    done = child(_inside(folder, command(*arguments)), folder)
    target = next(folder.glob("out.*"))
    content = target.read_bytes()
    shutil.rmtree(folder)
    return content, done.seconds


def _inside(folder: Path, work: Callable[[], None], before: Callable[[], None] = lambda: None) -> Callable[[], None]:
    def run() -> None:
        os.chdir(folder)
        before()
        work()

    return run


def trial(draw: random.Random, folder: Path) -> str:
    """One command, one trouble, and what the file holds afterwards."""
    arguments = draw.choices(COMMANDS, weights=(6, 4, 6, 2, 1, 1))[0]  # figures take ten times as long
    name = next(a for a in arguments if a.startswith("out."))
    due, seconds = _whole(arguments)
    place, talk = folder / "place", folder / "talk"
    for made in (place, talk):
        made.mkdir()
    (place / "in.csv").write_text(SCENARIOS)
    (place / name).write_text(OLD)
    trouble = draw.choice(TROUBLE)
    size = draw.randint(1, max(len(due) - 1, 2))

    def before() -> None:
        if trouble == "full":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        elif trouble == "gone":
            shutil.rmtree(place)
        elif trouble == "locked":
            (place / name).unlink()
            (place / name).mkdir()

    strike = (draw.uniform(0.001, 1.1 * seconds), SIGNALS[trouble]) if trouble in SIGNALS else None
    ended = child(_inside(place, command(*arguments), before), talk, strike=strike)
    verdict = _judged(place / name, ended, due, trouble)
    for made in (place, talk):
        shutil.rmtree(made, ignore_errors=True)
    return verdict


def _judged(target: Path, ended: Ended, due: bytes, trouble: str) -> str:
    if ended.untidy:
        return fault(f"a traceback under {trouble}", ended.err)
    if trouble in ("gone", "locked"):
        return REFUSED if ended.code == 2 else fault(f"exit {ended.code} under {trouble}", ended.err)
    content = target.read_bytes() if target.exists() else b""
    if content not in (OLD.encode(), due):
        return fault(f"a partial file under {trouble}", (len(content), len(due)))
    if ended.code == 0 and content != due:
        return fault("said done and wrote nothing", trouble)
    allowed = {"none": (0,), "full": (0, 2), "kill": (0, -9), "interrupt": (0, 130), "terminate": (0, 143)}[trouble]
    if ended.code not in allowed:
        return fault(f"exit {ended.code} under {trouble}", ended.err)
    litter = [p.name for p in target.parent.iterdir() if p.name not in ("in.csv", target.name, *KEPT)]
    if litter and trouble != "kill":
        return fault(f"litter under {trouble}", litter)
    return ANSWERED if ended.code == 0 else REFUSED


def prepare(_: Path) -> None:
    """Every trial is a forked child."""
    warm()
