"""Inputs without bounds: each is refused in one line, in little time and memory, whatever reads it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from judge import ANSWERED, MEMORY, PATIENCE, REFUSED, SECONDS, child, command, fault, warm

LONGEST = 20_000  # characters of an error


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 300 * 2**20)


def _bomb(path: Path) -> None:
    levels = "abcdefghijklmnop"
    text = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise(levels))
    path.write_text(text)


def _merges(path: Path) -> None:
    path.write_text("".join(f"k{i}: &k{i} {{<<: [{', '.join([f'*k{i - 1}'] * 9) if i else '{}'}], a{i}: 1}}\n"
                            for i in range(12)))  # fmt: skip


def _itself(path: Path) -> None:
    path.write_text("layers: &a [*a]\nhidden: 3\n")


def _deep(path: Path) -> None:
    path.write_text("[" * 200_000)


def _deep_maps(path: Path) -> None:
    path.write_text('{"a":' * 100_000)


def _digits(path: Path) -> None:
    path.write_text('{"model_type": "gpt2", "n_layer": ' + "9" * 100_000 + "}")


def _binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 50)


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _locked(path: Path) -> None:
    path.write_text("layers: 3\n")
    path.chmod(0)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _long_line(path: Path) -> None:
    path.write_text("x" * 3_000_000)


def _many(path: Path) -> None:
    path.write_text("{" + ", ".join(f'"k{i}": 1' for i in range(20_000)) + "}")


def _controls(path: Path) -> None:
    path.write_text('{"model_type": "\\u001b[31mred\\u0007", "n_layer": 2}')


def _cells(path: Path) -> None:
    path.write_text("model,hardware\n" + "," * 200_000 + "\n")


MAKERS: tuple[Callable[[Path], None], ...] = (
    _sparse, _bomb, _merges, _itself, _deep, _deep_maps, _digits, _binary, _folder, _loop, _dangling, _fifo, _locked,
    _device, _long_line, _many, _controls, _cells,
)  # fmt: skip
SUFFIXES = (".json", ".yaml", ".csv")


def trial(draw: random.Random, folder: Path) -> str:
    """One thing that is no file, given to one command; or one argument too long."""
    if draw.random() < 0.15:
        return _judged(child(command(*_long(draw)), folder), "a long argument")
    inside = folder / "in"
    inside.mkdir(exist_ok=True)
    maker, suffix = draw.choice(MAKERS), draw.choice(SUFFIXES)
    path = inside / f"thing{suffix}"
    maker(path)
    how = draw.choice(("model", "folder", "scenarios", "scenarios", "hardware", "check", "calibrate", "relative"))
    arguments: dict[str, tuple[object, ...]] = {
        "model": ("summary", path),
        "folder": ("summary", _renamed(path, inside / "config.json") if how == "folder" else path),
        "scenarios": ("estimate", "--scenarios", path, "-o", folder / "o.csv"),
        "hardware": ("estimate", "gpt2", "thing", "--hardware-dir", inside),
        "check": ("check", inside),
        "calibrate": ("calibrate", path),
        "relative": ("estimate", path, "t4-16gb"),
    }
    verdict = _judged(child(command(*arguments[how]), folder), f"{maker.__name__} to {how}")
    for p in (*inside.iterdir(), *folder.glob("o.csv*")):
        p.rmdir() if p.is_dir() and not p.is_symlink() else p.unlink()
    return verdict


def _renamed(path: Path, to: Path) -> Path:
    path.rename(to)
    return to.parent


def _long(draw: random.Random) -> tuple[str, ...]:
    text = draw.choice(("9", "a", "\x1b[2J", "é\u202e", "a/", "../", "$x^{", "\n"))
    text *= draw.choice((1, 50, 5000))
    model, hardware = ("gpt2", "t4-16gb")
    flags = ["--" + draw.choice(("devices", "batch", "price", "quantization", "compression", "engine")), text]
    return draw.choice((("estimate", text, hardware), ("estimate", model, text), ("summary", text + ".json"),
                        ("estimate", model, hardware, *flags), ("hardware", text), ("models", text), (text,),
                        ("plan", model, hardware, *flags)))  # fmt: skip


def _judged(ended: object, what: str) -> str:
    said = ended.err.rstrip("\n")
    if ended.untidy:
        return fault(f"a traceback: {what}", ended.err[-300:])
    if ended.busy > SECONDS or ended.seconds > PATIENCE:
        return fault(f"{ended.busy:.1f} s computing in {ended.seconds:.0f} s: {what}", said)
    if ended.memory > MEMORY - 80 * 2**20:  # what every command imports is the parent's
        return fault(f"{ended.memory >> 20} MiB: {what}", said)
    if any(ord(c) < 32 and c not in "\n\t" for c in ended.err + ended.out):
        return fault(f"control characters: {what}", said)
    if len(said) > LONGEST:
        return fault(f"an error of {len(said)} characters: {what}", said)
    if ended.code == 0:
        return ANSWERED
    if ended.code in (1, 2) and said:
        return REFUSED
    return fault(f"exit {ended.code}: {what}", said)


def prepare(_: Path) -> None:
    """Every trial is a forked child."""
    warm()
