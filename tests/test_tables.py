"""Tables fit their page: nothing is cut, columns that have no room are named, a column has one unit."""

from __future__ import annotations

import re

import pytest
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st

from planner.catalogue.loader import system_ids
from planner.present.formatting import column_text, text_of
from planner.present.tables import to_markdown, to_table

COMMANDS = (
    ("hardware",),
    ("hardware", "--systems"),
    ("hardware", "h100-sxm5-80gb"),
    ("models",),
    ("models", "llama-3.1-8b"),
    ("summary", "transformer-base", "--seq-len", "128"),
    ("estimate", "llama-3.1-8b", "dgx-h100", "--devices", "8", "--tp", "8"),
    ("estimate", "llama-3.1-8b", "dgx-h100", "--devices", "8", "--tp", "8", "--task", "decode", "--batch", "1,4"),
    ("plan", "llama-3.1-8b", "dgx-h100", "--devices", "8", "--global-batch", "32"),
    ("compare", "llama-3.1-8b", "dgx-h100", "mi300x-platform", "t4-16gb", "--devices", "8", "--task", "decode"),
    ("roofline", "llama-3.1-8b", "h100-sxm5-80gb", "--task", "decode"),
)
ROWS = st.lists(
    st.fixed_dictionaries({
        "id": st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=30),
        "step_time_s": st.floats(1e-9, 1e5), "memory_peak_bytes": st.integers(0, 10**15),
        "count": st.integers(0, 10**9),
        "interval_s": st.tuples(st.floats(1e-9, 1e5), st.floats(1e-9, 1e5)), "mfu": st.floats(0, 1),
        "error": st.text(st.characters(codec="ascii", categories=("L", "Zs")), max_size=90),
    }), min_size=1, max_size=6,
)  # fmt: skip


@given(rows=ROWS, width=st.integers(60, 200))
def test_no_line_is_wider_than_the_page_and_no_name_or_number_is_cut(rows: list[dict[str, object]], width: int) -> None:
    columns = ("id", "step_time_s", "interval_s", "mfu", "memory_peak_bytes", "count", "error")
    text = to_table(rows, columns, width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    words = set(text.split())
    assert all(str(r["id"]) in words for r in rows)
    heading, cells = column_text("step_time_s", [r["step_time_s"] for r in rows])
    assert all(c.split()[-1] in words for c in cells), (heading, cells)
    for name in ("mfu", "memory peak", "count"):
        shown = text.split("\n…")
        assert all(w in shown[0].replace("\n", " ") or name in shown[-1].replace("\n", " ") for w in name.split())


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_answers_fit_the_terminal(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    ran = cli(*arguments)
    assert ran.code == 0, ran.err
    long = [line for line in ran.out.splitlines() if len(line) > width and " " in line.strip()]
    assert not long, long[:3]
    assert not re.search(r"(?<![\w.])\d+(\.\d+)?[eE][+-]\d", ran.out), "an exponent"
    assert not re.search(r"(?<![\d.,])0\.0+ (?!0)[A-Za-z]+B\b", ran.out), "nothing in GiB or MiB"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_systems_keep_their_ids(cli: Cli, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    words = set(cli("hardware", "--systems").out.split())
    assert set(system_ids()) <= words


def test_a_page_too_narrow_for_two_columns_shows_blocks() -> None:
    rows = [{"id": "x" * 40, "accelerator": "y" * 40, "power": 700.0}]
    assert to_table(rows, width=60).splitlines() == [f"id: {'x' * 40}", f"accelerator: {'y' * 40}", "power [W]: 700"]


@pytest.mark.parametrize(
    ("name", "values", "heading", "cells"),
    [
        ("step_time_s", [28.8, 0.0051], "step time [s]", ["28.800", "0.005"]),
        ("step_time_s", [2570.0], "step time [s]", ["2,570"]),
        ("memory_bytes", [80 * 2**30, 2**20, 0], "memory [GiB]", ["80.000", "0.001", "0"]),
        ("bandwidth", [300e9, 1.28e12, 450e9], "bandwidth [GB/s]", ["300", "1,280", "450"]),
        ("forward_flops", [136.5e12, 1.6e12], "forward [TFLOP]", ["136.5", "1.6"]),
        ("mfu", [0.516, 0.00001], "mfu [%]", ["51.6", "< 0.1"]),
        ("usd_per_million_tokens", [0.324, None], "cost [USD/Mtoken]", ["0.32", ""]),
        ("tokens_per_s", [290925.4], "tokens per s", ["290,925"]),
        ("interval_s", [(0.0029, 0.0059)], "interval [ms]", ["2.90 – 5.90"]),
        ("devices", [1024, 8], "devices", ["1,024", "8"]),
        ("fits", [True, False, "tight"], "fits", ["yes", "no", "tight"]),
    ],
)
def test_a_column_has_one_unit_and_its_heading_names_it(
    name: str, values: list[object], heading: str, cells: list[str]
) -> None:
    assert column_text(name, values) == (heading, cells)


@given(
    values=st.lists(st.floats(1e-12, 1e12), min_size=1), name=st.sampled_from(("step_time_s", "weight_bytes", "watts"))
)
def test_what_is_not_zero_never_reads_as_zero(values: list[float], name: str) -> None:
    _, cells = column_text(name, values)
    assert all(c.startswith("<") or float(c.replace(",", "")) > 0 for c in cells)
    assert all("e" not in c for c in cells)


def test_one_value_has_its_unit_beside_it() -> None:
    assert text_of("step_time_s", 0.0284) == "28.4 ms"
    assert text_of("mfu", 0.516) == "51.6%"
    assert text_of("error", None) == ""


def test_bars_in_markdown_are_escaped() -> None:
    assert "a\\|b" in to_markdown([{"name": "a|b"}])
