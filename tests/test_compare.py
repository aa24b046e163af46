"""One model on several kinds of hardware: each has its own best plan, and a fault of one harms no other."""

from __future__ import annotations

from datetime import date

import pytest
from conftest import Cli

import planner
from planner.errors import BadInputError
from planner.planning.compare import compare_hardware

ASKED = {"model": "llama-3.1-8b", "devices": 1, "task": "decode", "batch": 4}
NAMES = ("h100-sxm5-80gb", "nobodys-chip", "t4-16gb")  # one that does, one that is none, one that cannot hold it


def test_each_is_the_plan_of_its_own() -> None:
    found = compare_hardware({**ASKED, "weight_dtype": "bf16"}, NAMES, today=date(2026, 11, 1))
    assert [c.hardware for c in found] == list(NAMES)
    alone = planner.plan(**ASKED, weight_dtype="bf16", hardware=NAMES[0], top=1)
    assert found[0].plan is not None and found[0].plan.best is not None and alone.best is not None
    assert found[0].plan.best.results["tpot_s"] == alone.best.results["tpot_s"]
    assert found[1].plan is None and isinstance(found[1].fault, BadInputError)
    assert found[2].plan is not None and found[2].plan.best is None and found[2].fault is None


def test_as_a_table_with_what_is_wrong_in_its_row() -> None:
    table = planner.compare(NAMES, **ASKED)
    assert list(table["id"]) == list(NAMES)
    assert list(table["error"] != "") == [False, True, True]
    assert table["tpot_s"][0] > 0 and "nobodys-chip" in table["error"][1] and "nothing fits" in table["error"][2]


def test_the_verb_shows_the_rest_and_says_why_one_is_missing(cli: Cli) -> None:
    flags = ("--devices", "1", "--task", "decode", "--batch", "4")
    ran = cli("compare", "llama-3.1-8b", *NAMES, *flags, "--format", "markdown")
    assert ran.code == 0 and "unknown" in ran.out and "nothing fits" in ran.out
    assert cli("compare", "llama-3.1-8b", NAMES[2], *flags).code == 1
    assert cli("compare", "llama-3.1-8b", NAMES[1], *flags).code == 2


def test_it_says_what_cannot_be_told_apart_whose_prices_it_takes_and_what_was_assumed(cli: Cli) -> None:
    names = ("h100-sxm5-80gb", "aws-p5-48xlarge", "t4-16gb")
    ran = cli("compare", "llama-3.2-1b", *names, "--devices", "1", "--task", "decode")
    text = " ".join(ran.out.split())
    assert ran.code == 0
    assert "interval [ms]" in text or ("interval" in text and "ttft" in text)
    assert "Cannot be told apart, as their 90 % intervals overlap: aws-p5-48xlarge and h100-sxm5-80gb." in text
    assert "aws-p5-48xlarge: 6.88 USD/h a device, aws, on-demand, 2026-09-06" in text
    assert "Assumed for t4-16gb: compute_dtype = fp16" in text
    ran = cli("compare", "llama-3.2-1b", *names, "--devices", "1", "--task", "decode", "--price", "3 USD/h")
    assert ran.out.count("3.00 USD/h a device, given") == 3


def test_rows_that_overlap_are_alike() -> None:
    table = planner.compare(
        ["h100-sxm5-80gb", "t4-16gb", "aws-p5-48xlarge"], task="decode", model="llama-3.2-1b", devices=1
    )
    assert list(table["alike"]) == ["aws-p5-48xlarge", "", "h100-sxm5-80gb"]
    assert table["price_basis"][2].startswith("aws, on-demand")


def test_a_kind_of_price_can_be_asked_for() -> None:
    asked = {"model": "llama-3.2-1b", "devices": 1, "task": "decode"}
    spot = planner.estimate(asked, hardware="azure-nd-h100-v5", price_kind="spot")
    assert (
        spot.price is not None and spot.price.observation.provider == "azure" and spot.price.observation.kind == "spot"
    )
    none = planner.estimate(asked, hardware="aws-p5-48xlarge", price_kind="spot")
    assert none.row["usd_per_hour"] is None and any("no spot price of aws" in a for a in none.assumed)


def test_strict_is_1_where_one_has_no_answer(cli: Cli) -> None:
    flags = ("--devices", "1", "--task", "decode", "--batch", "4")
    assert cli("compare", "llama-3.1-8b", *NAMES, *flags, "--strict").code == 1


def test_one_name_is_a_list_of_one_and_none_is_refused() -> None:
    assert list(planner.compare(NAMES[0], **ASKED)["id"]) == [NAMES[0]]
    with pytest.raises(BadInputError, match="hardware"):
        planner.compare([], **ASKED)
