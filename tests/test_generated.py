"""What is made from the code is as the code makes it, and the command that makes it sees what is stale."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import script

ROOT = Path(__file__).resolve().parents[1]


generate = script(ROOT / "docs" / "generate.py")


def test_the_table_of_keys_is_as_the_keys_are() -> None:
    assert generate.stale(["keys"], write=False) == [], "run: python docs/generate.py"


@pytest.mark.published
def test_nothing_that_is_made_from_the_code_is_stale() -> None:
    assert generate.stale(list(generate.PARTS), write=False) == [], "run: python docs/generate.py"


def test_what_is_stale_is_told_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "docs" / "glossary.md"
    page.parent.mkdir()
    page.write_text(generate.GLOSSARY.read_text(encoding="utf-8").replace("| `tp` |", "| `tpp` |"), encoding="utf-8")
    monkeypatch.setattr(generate, "GLOSSARY", page)
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check", "keys"])
    assert generate.main() == 1 and "`tpp`" in page.read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["generate.py", "keys"])
    assert generate.main() == 0 and "`tpp`" not in page.read_text(encoding="utf-8")
    assert generate.stale(["keys"], write=False) == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("28.8 s, 291,068 tokens", "28.9 s, 291,069 tokens", True),
        ("28.8 s", "29.0 s", False),
        ("tp 4", "tp 5", False),
        ("884 runs", "885 runs", False),
        ("fits", "tight", False),
        ("5.9% of 3", "5.9% of 3 more", False),
    ],
)
def test_texts_are_the_same_up_to_a_last_place(one: str, other: str, same: bool) -> None:
    assert generate.same_text(one, other) is same


DRAWING = '<svg><metadata>Matplotlib v3.10.1</metadata><path id="a1" d="M 10.00 5e1"/><text>28.8 s</text></svg>'


@pytest.mark.parametrize(
    ("was", "now", "same"),
    [
        ("10.00", "10.04", True),
        ("10.00", "10.4", False),
        ('"a1"', '"b2"', True),
        ("28.8 s", "29.1 s", False),
        ("<text>", "<text><tspan>", False),
        ("v3.10.1", "v3.11.0", True),
    ],
)
def test_drawings_are_the_same_up_to_the_width_of_a_line(was: str, now: str, same: bool) -> None:
    assert generate.same_drawing(DRAWING, DRAWING.replace(was, now)) is same


def test_another_release_may_draw_other_lines_but_no_other_figures() -> None:
    redrawn = DRAWING.replace("v3.10.1", "v3.11.0").replace("10.00", "17.00")
    assert generate.same_drawing(DRAWING, redrawn)
    assert not generate.same_drawing(DRAWING, redrawn.replace("28.8", "31.0"))
