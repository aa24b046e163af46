"""Sizing: each row is a plan, the counts that are skipped hide nothing, and bad limits are one clear line."""

from __future__ import annotations

import json
import random
from datetime import date
from pathlib import Path

import pytest
from conftest import Cli

import planner
from planner.catalogue.economics import scaling_law
from planner.catalogue.loader import resolve_hardware
from planner.errors import BadInputError
from planner.planning.asked import WORDS, asked
from planner.planning.counts import batch_for, counts_between, octave_steps, parse_counts, possible
from planner.planning.outlook import outlook
from planner.planning.search import RANK_ERROR
from planner.planning.size import Sizing, size_training
from planner.planning.size_limits import cheapest_of, stops_paying
from planner.planning.work import optimal_tokens
from planner.scenario.keys import KEYS
from planner.supply.cost import Owned, Tariff, owned_usd_per_hour

TODAY = date(2026, 11, 1)
HELD = {"model": "llama-3.1-8b", "vpp": 1, "micro_batch": 1, "recompute": "selective", "seq_len": 4096, "cp": 1}


def sized(names: str, scenario: dict[str, object] | None = None, **words: object) -> Sizing:
    own = {k: v for k, v in words.items() if k in KEYS and k not in WORDS}
    question = asked({k: v for k, v in words.items() if k not in own})
    return size_training({**(scenario or HELD), **own}, names.split(), question, today=TODAY)


# Counts


def test_counts_are_read() -> None:
    assert parse_counts("256..4096") == parse_counts(" 256 .. 4096 ")
    assert parse_counts("512, 256").listed == (256, 512)
    assert parse_counts(None).open and parse_counts("").open and not parse_counts("8").open
    for wrong in ("512..256", "0..8", "many", "8..", "1.5", "0", "-8", "8,x"):
        with pytest.raises(BadInputError, match="devices"):
            parse_counts(wrong)


def test_counts_are_whole_nodes_or_parts_that_divide_one() -> None:
    dgx, pod, card = (resolve_hardware(n)[1] for n in ("dgx-h100", "tpu-v6e-pod", "rtx-4090-8x"))
    assert [n for n in range(1, 20) if possible(dgx, n)] == [1, 2, 4, 8, 16]
    assert possible(pod, 64) and not possible(pod, 96) and possible(pod, 512) and not possible(pod, 384)
    assert not possible(card, 3) and (card.scale_out is not None or not possible(card, 16))
    found = counts_between(dgx, 100, 600)
    assert found == [112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 600]
    assert octave_steps(found) == [112, 128, 256, 512, 600]


def test_a_batch_is_nearly_the_largest_and_divides_over_a_large_part_of_the_devices() -> None:
    for n in (1, 8, 24, 96, 160, 768, 1024, 1536, 4096, 5120, 7168):
        batch = batch_for(n, 1024)
        assert 960 <= batch <= 1024
        assert any(batch % (n >> k) == 0 for k in range(8) if n % (1 << k) == 0)
    assert batch_for(2047, 1024) == 1024  # no half to give away
    assert batch_for(384, 1024) == 960 and batch_for(512, 1024) == 1024


def test_nodes_without_a_network_are_said_to_be_what_stops_a_count() -> None:
    words = {"tokens": "1T", "deadline": "30d"}
    with pytest.raises(BadInputError, match=r"no network joins its nodes.*network-bandwidth"):
        sized("rtx-4090-8x", {**HELD, "model": "qwen3-32b"}, **words)
    joined = sized("rtx-4090-8x", tokens="10G", devices="32", network_bandwidth="12.5 GB/s", zero_stage=1)
    assert [o.devices for o in joined.sized[0].curve] == [32]
    with pytest.raises(BadInputError, match="whole tori of 256"):
        sized("tpu-v6e-pod", tokens="1T", devices="257..300")


# Each row is a plan


def test_each_row_is_what_plan_says() -> None:
    found = sized("dgx-h100 tpu-v6e-pod", tokens="1T", deadline="60d", devices="64..512")
    assert found.best is not None
    for s in found.sized:
        assert len(s.curve) > 3
        for o in s.curve:
            e = o.estimate
            asked_for = {**HELD, "hardware": s.hardware, "devices": o.devices,
                         "global_batch": int(e.layout.global_batch[0])}  # fmt: skip
            best = planner.plan(**asked_for, top=3).best
            assert best is not None and best.layout.row(0) == e.layout.row(0)
            assert best.results == e.results


def test_days_and_money_are_those_of_the_step() -> None:
    found = sized("dgx-h100", tokens="1T", devices="128", price_kind="spot", grid="FRA", spares=0.1)
    (o,) = found.sized[0].curve
    step = o.estimate.results["step_time_s"]
    steps = -(-int(1e12) // (1024 * 4096))
    assert o.steps == steps and o.healthy == pytest.approx(steps * step)
    assert o.seconds == pytest.approx(o.healthy / o.goodput.share) and o.seconds > o.healthy
    assert o.price is not None and o.price.observation.kind == "spot"
    assert o.usd == pytest.approx(o.price.observation.usd_per_hour * 128 * 1.1 * o.seconds / 3600)
    assert o.kwh == pytest.approx(1.15 * o.watts * o.seconds / 3.6e6)
    assert o.kg_co2e == pytest.approx(0.044 * o.kwh)
    assert o.joules_per_token == pytest.approx(o.watts * o.seconds / 1e12)


def test_chance_runs_through_the_interval() -> None:
    (o,) = sized("dgx-h100", tokens="1T", devices="128").sized[0].curve
    assert o.chance(o.seconds * o.factors["low"]) == pytest.approx(0.05, abs=1e-3)
    assert o.chance(o.seconds * o.factors["high"]) == pytest.approx(0.95, abs=1e-3)
    assert o.chance(o.seconds / 10) < 1e-3 and o.chance(o.seconds * 10) > 0.999
    step = o.estimate.interval
    assert o.factors["high"] > step.high and o.factors["low"] < step.low  # failures are in doubt too


# Brute force


def problem(draw: random.Random) -> tuple[str, dict[str, object], dict[str, object]]:
    """A system, a scenario with most of a layout held so that a search is short, and limits."""
    system = draw.choice(["dgx-h100", "dgx-b200", "mi300x-platform", "dgx-a100-80gb", "tpu-v6e-pod", "hgx-h200"])
    model = draw.choice(["llama-3.1-8b", "llama-2-13b", "gpt2-xl", "qwen3-30b-a3b"])
    scenario = {**HELD, "model": model, "zero_stage": draw.choice([1, 3]), "seq_len": 1024, "etp": 1}
    words = {"tokens": f"{draw.choice([20, 50, 150, 400, 1000])}G", "devices": f"{draw.choice([8, 16, 24])}..1024",
             "deadline": f"{draw.choice([2, 5, 15, 40])}d",
             "max_global_batch": draw.choice([512, 1024, 1536])}  # fmt: skip
    if draw.random() < 0.5:
        words["budget"] = f"{draw.choice([10, 40, 150, 600])}k"
    return system, scenario, words


def check_against_brute_force(seed: int) -> bool:
    """Whether a problem has an answer; the counts that were tried must hide none."""
    system, scenario, words = problem(random.Random(seed))
    s = sized(system, scenario, **words).sized[0]
    question = asked(words)
    counts = counts_between(resolve_hardware(system)[1], question.counts.low, question.counts.high)
    every = []
    for n in counts:
        given = {**scenario, "hardware": system, "devices": n, "global_batch": batch_for(n, words["max_global_batch"])}
        try:
            best = planner.plan(**given, top=1).best
        except BadInputError:
            continue
        if best is not None:
            every.append(outlook(best, question.amount.tokens, question.terms, today=TODAY))
    timely = [o for o in every if question.limits.on_time(o)]
    paid = [o for o in every if question.limits.affordable(o)] if question.limits.budget else []
    assert (s.fewest and s.fewest.devices) == min((o.devices for o in timely), default=None)
    cheapest = cheapest_of(timely)
    assert (s.cheapest is None) == (cheapest is None)
    if cheapest is not None and s.cheapest is not None:
        cost = [o.usd or o.devices * o.seconds for o in (s.cheapest, cheapest)]
        assert cost[0] <= cost[1] * (1 + RANK_ERROR)
    fastest = min((o.seconds for o in paid), default=None)
    assert (s.fastest is None) == (fastest is None)
    if s.fastest is not None and fastest is not None:
        assert s.fastest.seconds <= fastest * (1 + RANK_ERROR)
    return bool(timely)


@pytest.mark.parametrize("seed", range(2))
def test_brute_force_over_all_counts_agrees(seed: int) -> None:
    check_against_brute_force(seed)


@pytest.mark.published
def test_brute_force_over_all_counts_agrees_on_fifty_problems() -> None:
    answered = [check_against_brute_force(seed) for seed in range(100, 150)]
    assert 10 < sum(answered) < 50


# Limits


def test_more_devices_are_faster_and_stop_paying() -> None:
    s = sized("dgx-h100", tokens="1T", devices="8..8192").sized[0]
    rates = [o.tokens_per_s / o.devices for o in s.curve]
    assert rates[0] == pytest.approx(max(rates), rel=0.1)
    last = stops_paying(s.curve)
    assert last == s.pays_to and last is not None and 64 < last < 8192


def test_weak_scaling_holds_the_batch_of_a_device() -> None:
    s = sized("dgx-h100", tokens="1T", devices="8..512", sequences_per_device=8).sized[0]
    assert all(int(o.estimate.layout.global_batch[0]) == 8 * o.devices for o in s.curve)
    rates = [o.tokens_per_s / o.devices for o in s.curve]
    assert min(rates) > 0.85 * max(rates) and s.pays_to is None


def test_a_chance_asks_for_more_devices() -> None:
    likely = sized("dgx-h100", tokens="1T", deadline="30d", devices="8..512")
    sure = sized("dgx-h100", tokens="1T", deadline="30d", devices="8..512", sure=0.95)
    assert likely.best is not None and sure.best is not None
    assert sure.best.devices > likely.best.devices and sure.best.chance(30 * 86400) >= 0.95


def test_scaling_laws() -> None:
    assert optimal_tokens(scaling_law("chinchilla-20"), 70e9) == 1.4e12
    refit = optimal_tokens(scaling_law("chinchilla-refit"), 70e9)
    assert 15 < refit / 70e9 < 25
    law = scaling_law("chinchilla-refit")
    slopes = law.alpha * law.A / 70e9**law.alpha, law.beta * law.B / refit**law.beta
    assert slopes[0] == pytest.approx(slopes[1])
    assert sized("dgx-h100", compute_optimal="chinchilla-20", devices="64").tokens == pytest.approx(
        20 * 8.03e9, rel=0.01
    )


def test_prices_of_one_s_own(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text("hardware,usd,date,provider,kind\ndgx-h100,1.5 USD/hour,2026-10-01,us,on-demand\n"
                    "h100-sxm5-80gb,9 USD/hour,2026-10-01,them,on-demand\n"
                    "hls-gaudi3,1 USD/hour,2026-10-01,us,reserved\n")  # fmt: skip
    flags = (*ASK, "dgx-h100", "hls-gaudi3", "--tokens", "1T", "--devices", "64", "--prices", file, "--format", "json")
    first, second = json.loads(cli(*flags).out)["curve"]
    assert first["usd_per_hour_each"] == 1.5 and first["price"].startswith("us, on-demand, 2026-10-01")
    assert second["usd"] is None
    reserved = json.loads(cli(*flags, "--price-kind", "reserved").out)["curve"]
    assert [r["usd_per_hour_each"] for r in reserved] == [None, 1.0]
    file.write_text("hardware,usd,date\ndgx-h100,1.5,2026-10-01\n")
    assert "row 1" in cli(*flags).err
    file.write_text("hardware,date\ndgx-h100,2026-10-01\n")
    assert "no usd" in cli(*flags).err
    assert cli(*ASK, "dgx-h100", "--tokens", "1T", "--prices", tmp_path / "none.csv").code == 2


def test_owned_devices() -> None:
    owned = Owned(40_000.0, 5.0, 0.08, 1.2)
    assert owned_usd_per_hour(owned, 850.0) == pytest.approx(40_000 / (5 * 8766) + 1.2 * 0.85 * 0.08)
    (o,) = sized("dgx-h100", tokens="1T", devices="64", capex="40k", power_price="0.08 USD/kWh").sized[0].curve
    assert o.price is not None and 0.9 < o.price.observation.usd_per_hour < 1.1
    assert Tariff("owned", owned=owned).words == "owned"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"tokens": "1T", "steps": "5k"}, ["tokens and steps"]),
        ({}, ["none given"]),
        ({"tokens": "1X"}, ["tokens", "1X"]),
        ({"tokens": "1T", "deadline": "60"}, ["deadline", "'60'", "unit", "h, d"]),
        ({"tokens": "1T", "deadline": "0d"}, ["deadline", "more than 0"]),
        ({"tokens": "1T", "budget": "5 EUR"}, ["budget", "EUR"]),
        ({"tokens": "1T", "sure": 0.9}, ["sure", "deadline"]),
        ({"tokens": "1T", "price_kind": "gift"}, ["price_kind", "gift", "spot"]),
        ({"tokens": "1T", "deadline": "3d", "sure": "very"}, ["sure", "very"]),
        ({"tokens": "1T", "capex": "40k"}, ["capex", "power_price"]),
        ({"tokens": "1T", "capex": "40k", "power_price": "0.1 USD/kWh", "provider": "aws"}, ["capex", "aws"]),
        ({"tokens": "1T", "grid": "ATL"}, ["grid", "ATL"]),
        ({"compute_optimal": "chinchila"}, ["chinchila", "chinchilla-20"]),
        ({"tokens": "1T", "devices": "9..15"}, ["devices", "9", "15", "8"]),
        ({"tokens": "1T", "max_global_batch": 64, "sequences_per_device": 2}, ["sequences_per_device", "max_global"]),
        ({"steps": "1k", "sequences_per_device": 2}, ["steps", "sequences_per_device"]),
        ({"tokens": "1T", "colour": "red"}, ["colour"]),
    ],
)  # fmt: skip
def test_bad_words_are_refused(words: dict[str, object], said: list[str]) -> None:
    with pytest.raises(BadInputError) as error:
        sized("dgx-h100", **words)
    assert all(w in str(error.value) for w in said), error.value


def test_contradictory_batches_are_both_named() -> None:
    with pytest.raises(BadInputError, match=r"global_batch: 512 given with max_global_batch 256"):
        sized("dgx-h100", {**HELD, "global_batch": 512}, tokens="1T", max_global_batch=256)


# The verb


ASK = ("size", "llama-3.1-8b", "--vpp", "1", "--micro-batch", "1", "--recompute", "selective", "--cp", "1")


def test_the_answer_leads(cli: Cli, tmp_path: Path) -> None:
    figure = tmp_path / "size.png"
    ran = cli(*ASK, "dgx-h100", "hls-gaudi3", "--tokens", "1T", "--deadline", "30d", "--budget", "1M",
              "--devices", "32..256", "--figure", figure)  # fmt: skip
    assert ran.code == 0, ran.err
    first = ran.out.splitlines()[0]
    assert " x NVIDIA H100" in first and "USD" in first and "likely to make 30 days" in first
    for heading in ("Picks", "strong scaling", "Binds:", "Would change it:", "Assumed:", "no price known"):
        assert heading in ran.out
    assert figure.stat().st_size > 10_000 and str(figure) in ran.err


def test_formats(cli: Cli) -> None:
    flags = (*ASK, "dgx-h100", "--tokens", "1T", "--deadline", "15d", "--devices", "64,128", "--format")
    whole = json.loads(cli(*flags, "json").out)
    assert whole["best"]["devices"] == 128 and {r["devices"] for r in whole["curve"]} == {64, 128}
    assert whole["rows"][0]["id"] == "dgx-h100" and whole["binds"] and whole["changes"] and whole["assumed"]
    assert cli(*flags, "csv").out.splitlines()[0].startswith("id,pick,")
    assert cli(*flags, "markdown").out.count("|") > 40


def test_what_nothing_meets_is_the_nearest_miss(cli: Cli) -> None:
    late = cli(*ASK, "dgx-h100", "--tokens", "15T", "--deadline", "10d", "--devices", "8..64")
    assert late.code == 1 and "64 x NVIDIA H100" in late.err and "the deadline" in late.err
    dear = cli(*ASK, "dgx-h100", "--tokens", "15T", "--budget", "1k", "--devices", "8..64")
    assert dear.code == 1 and "the budget" in dear.err
    priceless = cli(*ASK, "hls-gaudi3", "--tokens", "1T", "--budget", "1M", "--devices", "8..64")
    assert priceless.code == 1 and "no price is known" in priceless.err


def test_failures_that_leave_nothing_are_a_miss(cli: Cli) -> None:
    flags = ("--tokens", "1T", "--deadline", "60d", "--devices", "64,128")
    ran = cli(*ASK, "dgx-h100", *flags, "--mtbf", "10 min", "--format", "json")
    assert ran.code == 1 and "the deadline" in ran.err
    assert all(r["chance"] == 0 for r in json.loads(ran.out)["curve"])


def test_one_kind_s_fault_harms_no_other(cli: Cli) -> None:
    flags = ("--tokens", "1T", "--deadline", "60d", "--devices", "64,128")
    assert cli(*ASK, "dgx-h100", "nobodys-chip", *flags).code == 0
    assert cli(*ASK, "nobodys-chip", *flags).code == 2
    assert cli(*ASK, "dgx-h100", "--tokens", "1T", "--steps", "9", "--devices", "64").code == 2


def test_python_says_the_same() -> None:
    found = planner.size("llama-3.1-8b", "dgx-h100", tokens="1T", deadline="15d", devices="64,128", vpp=1, cp=1,
                         micro_batch=1, recompute="selective")  # fmt: skip
    assert found.best is not None and found.best.devices == 128 and "size" in planner.__all__


def test_the_figure_shows_every_count_and_rings_the_answer() -> None:
    from matplotlib.text import Annotation

    from planner.errors import BadInputError
    from planner.present.figures import size_figure

    rows = [
        {"devices": n, "days": 100 / n, "days_low": 90 / n, "days_high": 120 / n, "usd": 1e4 + n} for n in (8, 16, 64)
    ]
    free = [{**r, "usd": None} for r in rows]
    figure = size_figure({"a": rows, "b": free}, picked={"a": 16}, title="t", deadline=10.0, budget=2e4)
    left, right = figure.axes
    (own,) = [line for line in left.get_lines() if line.get_label() == "_a"]
    assert list(own.get_xdata()) == [8, 16, 64] and list(own.get_ydata()) == [100 / 8, 100 / 16, 100 / 64]
    assert [line.get_label() for line in right.get_lines() if len(line.get_xdata()) == 3] == ["_a"]
    ringed = [line for line in left.get_lines() if line.get_markersize() == 10]
    assert [list(line.get_xdata()) for line in ringed] == [[16]]
    said = {t.get_text() for axes in (left, right) for t in axes.texts if isinstance(t, Annotation)}
    assert said == {"deadline 10 days", "budget 20 k"}
    with pytest.raises(BadInputError, match="kinds of hardware"):
        size_figure({}, picked={}, title="t")


@pytest.mark.parametrize("word", [("--mtbf", "1e-300 h"), ("--storage", "1e-300 GB/s"), ("--recovery", "1e300 h")])
def test_what_fails_faster_than_it_recovers_is_no_answer(cli: Cli, word: tuple[str, str]) -> None:
    ran = cli("size", "gpt2", "dgx-h100", "--tokens", "10G", "--devices", "8", *word)
    assert ran.code == 1 and "fails faster than it recovers" in ran.err
