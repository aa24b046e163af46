"""One model on several kinds of hardware: each has its own best plan, and a fault of one harms no other."""

from __future__ import annotations

from datetime import date

import pytest
from conftest import Cli

import planner
from planner.errors import BadInputError
from planner.planning.asked import asked
from planner.planning.compare import compare_hardware
from planner.planning.equal import equal_terms, unspent
from planner.planning.size import size_training
from planner.scenario.names import cluster_of
from planner.supply.cost import cluster_price
from planner.supply.power import mean_draw

TODAY = date(2026, 11, 1)

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


# Equal terms

TRAIN = {"model": "llama-3.1-8b", "vpp": 1, "cp": 1, "recompute": "selective", "global_batch": 256, "seq_len": 4096}
KINDS = ("dgx-h100", "dgx-b200", "mi300x-platform", "tpu-v6e-pod")


def test_equal_rent_and_power_are_as_many_devices_as_cost_and_draw_no_more() -> None:
    given = {**TRAIN, "devices": 64}
    rent = equal_terms(given, KINDS, "usd", today=TODAY)
    draw = equal_terms(given, KINDS, "power", today=TODAY)
    for held, each in ((rent, lambda c: cluster_price(c, today=TODAY).observation.usd_per_hour),  # type: ignore[union-attr]
                       (draw, lambda c: mean_draw(c, "train").watts)):  # fmt: skip
        assert held["dgx-h100"] == {"devices": 64} and isinstance(held["tpu-v6e-pod"], BadInputError)
        most = 64 * each(cluster_of("dgx-h100", 1))
        for name in KINDS[1:3]:
            n = held[name]["devices"]  # type: ignore[index]
            assert n % 8 == 0 and n * each(cluster_of(name, 1)) <= most < (n + 8) * each(cluster_of(name, 1))


def test_equal_deadline_is_the_fewest_that_meet_it() -> None:
    asked_for = asked({"tokens": "1T", "deadline": "20d"})
    free = {k: v for k, v in TRAIN.items() if k != "global_batch"}
    held = equal_terms(free, KINDS[:2], "deadline", question=asked_for, today=TODAY)
    sized = size_training(free, KINDS[:2], asked_for, today=TODAY).sized
    assert [held[s.hardware]["devices"] for s in sized] == [s.fewest.devices for s in sized]  # type: ignore[index, union-attr]
    found = compare_hardware(free, KINDS[:2], held=held, today=TODAY)
    for c, s in zip(found, sized, strict=True):
        assert c.plan is not None and c.plan.best is not None and s.fewest is not None
        assert c.plan.best.results == s.fewest.estimate.results


@pytest.mark.parametrize(
    ("terms", "given", "said"),
    [("watts", {"devices": 8}, "power"), ("usd", {}, "devices"), ("deadline", {"devices": 8}, "tokens"),
     ("usd", {"devices": 8, "hardware": "tpu-v6e-pod"}, "no on-demand price")],
)  # fmt: skip
def test_terms_that_lack_something_say_what(terms: str, given: dict[str, object], said: str) -> None:
    names = [str(given.get("hardware", "dgx-h100"))]
    with pytest.raises(BadInputError, match=said):
        equal_terms({**TRAIN, **given}, names, terms, today=TODAY)


def test_the_verb_compares_on_equal_terms(cli: Cli) -> None:
    flags = ("--vpp", "1", "--cp", "1", "--recompute", "selective", "--global-batch", "256", "--devices", "64")
    ran = cli("compare", "llama-3.1-8b", *KINDS, *flags, "--equal", "usd", "--format", "markdown")
    assert ran.code == 0 and "| dgx-b200 | 32 |" in ran.out and "no on-demand price is known" in ran.out
    assert cli("compare", "llama-3.1-8b", *KINDS, *flags, "--equal", "watts").code == 2


def test_what_is_left_unspent_is_told_and_decides_nothing(cli: Cli) -> None:
    names = ("dgx-h100", "mi300x-platform", "rtx-4090-8x")
    given = {"model": "llama-3.1-8b", "task": "decode", "batch": 8, "devices": 8}
    held = equal_terms(given, names, "usd", today=TODAY)
    left = unspent(given, held, "usd", today=TODAY)
    rent = {
        n: held[n]["devices"] * cluster_price(cluster_of(n, 1), today=TODAY).observation.usd_per_hour for n in names
    }  # type: ignore[index, union-attr]
    assert [u.share for u in left.values()] == pytest.approx([1 - rent[n] / rent["dgx-h100"] for n in names])
    assert [u.equal for u in left.values()] == [True, False, False]
    assert "nodes of 8" in left["mi300x-platform"].why and "no network" in left["rtx-4090-8x"].why
    assert unspent(given, held, "deadline", today=TODAY) == {}
    flags = ("--devices", "8", "--task", "decode", "--batch", "8", "--equal", "usd")
    told = cli("compare", "llama-3.1-8b", *names, *flags).out
    assert "Unequal terms" in told and "told apart" not in told
    assert "unspent_share" in cli("compare", "llama-3.1-8b", *names, *flags, "--format", "csv").out.splitlines()[0]
    assert "Unequal" not in cli("compare", "llama-3.1-8b", *names, *flags[:-2]).out


def test_a_network_that_is_given_lets_equal_rent_buy_more_nodes() -> None:
    given = {"model": "llama-3.1-8b", "task": "decode", "devices": 8, "network_bandwidth": "12.5 GB/s"}
    held = equal_terms(given, ("dgx-h100", "rtx-4090-8x"), "usd", today=TODAY)
    assert held["rtx-4090-8x"]["devices"] > 8  # type: ignore[index]
