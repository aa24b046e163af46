"""The README is run: its commands, its Python, and the table of keys against the keys there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from conftest import Cli

from planner.present.verbs import parser_of, verbs
from planner.scenario.keys import KEYS

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)


def planner_lines() -> list[list[str]]:
    """Arguments of every planner command in the shell blocks; what sets up the environment is left out."""
    found = []
    for line in "".join(blocks("sh")).splitlines():
        last = line.split("&&")[-1].strip()
        if last.startswith(("planner ", ".venv/bin/planner ")):
            found.append(shlex.split(last)[1:])
    return found


def examples() -> list[list[str]]:
    """Arguments of the examples that end the help of the verbs; what needs a file of the user's is left out."""
    found = [
        shlex.split(e)[1:] for v in verbs() for e in getattr(parser_of(v)[0], "EXAMPLES", ()) if e[:7] == "planner"
    ]
    return [a for a in found if ">" not in a and not a[-1].endswith(".yaml")]


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("arguments", [*planner_lines(), *examples()], ids=" ".join)
def test_commands(cli: Cli, arguments: list[str], width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", str(width))
    ran = cli(*arguments)
    assert ran.code == 0, ran.err
    assert ran.out.strip() or list(tmp_path.iterdir())
    if "json" not in arguments:
        assert all(len(line) <= width or " " not in line.strip() for line in ran.out.splitlines())


def test_there_are_commands() -> None:
    assert len(planner_lines()) >= 8


def test_it_opens_with_the_line_that_runs_and_the_line_that_tests() -> None:
    run, test = TEXT.splitlines()[1:3]
    assert TEXT.startswith("```sh\n")
    assert run.endswith("planner plan llama-3.1-70b dgx-h100 --devices 256 --global-batch 1024 --seq-len 8192")
    assert test.endswith(".venv/bin/python -m pytest")
    assert all(line.startswith("python3 -m venv .venv && .venv/bin/pip install -q ") for line in (run, test))


def test_python() -> None:
    (code,) = blocks("python")
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert len(names["table"]) == 2  # type: ignore[arg-type]
    assert names["best"] is not None and names["points"]
    assert list(names["beside"]["id"]) == ["dgx-h100", "mi300x-platform"]  # type: ignore[index]


def test_the_table_of_keys_names_keys() -> None:
    """The table is a choice; the glossary has every key and is held to them."""
    section = TEXT.split("## The scenario")[1].split("\n## ")[0]
    named = {k for line in section.splitlines() if line.startswith("| `")
             for k in re.findall(r"`(\w+)`", line.split("|")[1])}  # fmt: skip
    assert len(named) > 40 and not named - set(KEYS)


def test_every_command_is_named() -> None:
    for verb in verbs():
        assert f"`planner {verb}" in TEXT, verb


def test_the_accuracy_section_can_be_written() -> None:
    assert TEXT.index("<!-- validation:start -->") < TEXT.index("<!-- validation:end -->")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/accuracy.md"])
def test_files_that_are_named_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    paths = re.findall(r"`((?:planner|hardware|tests|plots|docs)/[\w/.*-]*)`", text)
    assert all(any(ROOT.glob(p.rstrip("/"))) for p in paths), paths
