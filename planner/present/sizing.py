"""Sizes in words and rows: the answer in a sentence, the picks, the curve, what binds and what would change it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from planner.catalogue.economics import reliability
from planner.planning.outlook import DAY, Outlook
from planner.planning.size import Sized, Sizing, nearest_miss
from planner.planning.size_limits import Limits, best_of
from planner.present.plans import layout_text
from planner.supply.cost import Tariff, cluster_price

Rows = list[dict[str, Any]]
SURE = 0.9  # the chance that a line on what would change the answer asks for


def days_text(days: float) -> str:
    """Days for people: ``29 days``, ``1.4 days``, ``8.2 hours``."""
    if days < 1.0:
        return f"{24 * days:.1f} hours"
    return f"{days:,.0f} days" if days >= 20 else f"{days:.1f} days"


def money(usd: float | None) -> str:
    """USD for people: ``0.31 M USD``, ``870 USD``; words where no price is known."""
    if usd is None:
        return "no price known"
    return f"{usd / 1e6:,.2f} M USD" if usd >= 1e5 else f"{usd:,.0f} USD"


def tokens_text(tokens: float) -> str:
    """A number of tokens for people: ``15.6 T tokens``."""
    scale, prefix = next(((k, p) for k, p in ((1e12, "T"), (1e9, "G"), (1e6, "M")) if tokens >= k), (1.0, ""))
    return f"{tokens / scale:.3g} {prefix} tokens".replace("  ", " ")


def span(o: Outlook) -> str:
    """The days that hold in 90 of 100 runs."""
    low, high = (o.days * o.factors[k] for k in ("low", "high"))
    digits = 0 if low >= 10 else 1
    return f"{low:,.{digits}f} to {high:,.{digits}f}"


def system_text(o: Outlook) -> str:
    """``128 x NVIDIA H100 SXM5 80GB in 16 nodes``."""
    c = o.estimate.resolved.cluster
    nodes = f" in {c.nodes:,} nodes" if c.nodes > 1 else ""
    return f"{c.devices:,} x {c.accelerator.name}{nodes}"


def lead(sizing: Sizing) -> str:
    """The answer in one sentence; why there is none where nothing keeps the limits."""
    best = sizing.best
    if best is None:
        return miss(sizing)
    limits = sizing.question.limits
    sure = ""
    if limits.deadline is not None:
        sure = f", {best.chance(limits.deadline):.0%} likely to make {days_text(limits.deadline / DAY)}"
    e = best.estimate
    return (f"{system_text(best)}: {days_text(best.days)} ({span(best)}), {money(best.usd)}{sure}; "
            f"{e.resolved.model.name} on {tokens_text(sizing.tokens)}, {layout_text(e)}.")  # fmt: skip


def miss(sizing: Sizing) -> str:
    """Nothing keeps the limits: which one binds, and what comes nearest."""
    near, which = nearest_miss(sizing)
    if near is None:
        reasons = "; ".join(f"{s.hardware}: {_no_plan(s, sizing)}" for s in sizing.sized)
        return f"nothing keeps the limits: {reasons}"
    return f"nothing keeps the limits; nearest miss: {system_text(near)} misses {which} ({money(near.usd)})"


def _no_plan(s: Sized, sizing: Sizing) -> str:
    """Why a kind of hardware has no pick."""
    near, which = nearest_miss(replace(sizing, sized=(s,)))
    if near is not None:
        return f"nearest: {near.devices:,} devices miss {which}"
    if s.fault is not None:
        return str(s.fault)
    if s.refused:
        last = max(s.refused)
        return f"no plan up to {last:,} devices: {s.refused[last]}"
    return "no count was tried"


def outlook_row(o: Outlook, limits: Limits) -> dict[str, Any]:
    """Everything on a run, in base units but for what its name says."""
    e = o.estimate
    c = e.resolved.cluster
    chance = None if limits.deadline is None else o.chance(limits.deadline)
    return {
        **{k: v for k, v in e.inputs.items() if k != "devices"}, "devices": c.devices, "nodes": c.nodes,
        "layout": layout_text(e), "tokens": o.tokens, "steps": o.steps, "step_time_s": e.results["step_time_s"],
        "tokens_per_s": e.results["tokens_per_s"], "mfu": o.mfu, "healthy_days": o.healthy / DAY, "days": o.days,
        "days_low": o.days * o.factors["low"], "days_high": o.days * o.factors["high"], "chance": chance,
        "usd": o.usd, "usd_per_million_tokens": o.usd_per_million_tokens, "mwh": None if o.kwh is None else o.kwh / 1e3,
        "tco2e": None if o.kg_co2e is None else o.kg_co2e / 1e3, "joules_per_token": o.joules_per_token,
        "goodput": o.goodput.share, "goodput_low": o.goodput.low, "goodput_high": o.goodput.high,
        "interruptions": o.interruptions, "checkpoint_bytes": o.goodput.checkpoint,
        "checkpoint_interval_s": o.goodput.interval, "usd_per_hour_each": o.price.observation.usd_per_hour if o.price
        else None, "price": o.price.basis if o.price else "", "memory_peak_bytes": e.results["memory_peak_bytes"],
        "fits": e.results["fits"],
    }  # fmt: skip


def pick_rows(sizing: Sizing) -> Rows:
    """The picks of each kind of hardware with everything; a kind that has none says why in ``error``."""
    rows: Rows = []
    for s in sizing.sized:
        picks = named_picks(s, sizing.question.limits)
        for names, o in picks:
            rows.append({"id": s.hardware, "pick": names, **outlook_row(o, sizing.question.limits), "error": ""})
        if not picks:
            rows.append({"id": s.hardware, "pick": "", "error": _no_plan(s, sizing)})
    return rows


def named_picks(s: Sized, limits: Limits) -> list[tuple[str, Outlook]]:
    """Each picked run once, under all its names; without limits the one past which more devices stop paying."""
    named = [("fewest", s.fewest), ("cheapest", s.cheapest), ("fastest within the budget", s.fastest)]
    out: dict[int, tuple[list[str], Outlook]] = {}
    for name, o in named:
        if o is not None:
            out.setdefault(o.devices, ([], o))[0].append(name)
    if limits.deadline is None and limits.budget is None:
        last = next((o for o in s.curve if o.devices == s.pays_to), s.curve[-1] if s.curve else None)
        if last is not None:
            out.setdefault(last.devices, ([], last))[0].append("most that pay" if s.pays_to else "most tried")
    return [(", ".join(names), o) for names, o in out.values()]


def shown_rows(sizing: Sizing) -> Rows:
    """The picks as a table for people."""
    limits = sizing.question.limits
    rows: Rows = []
    for s in sizing.sized:
        picks = named_picks(s, limits)
        for names, o in picks:
            rows.append({"hardware": s.hardware, "pick": names, **_shown(o, limits)})
        if not picks:
            rows.append({"hardware": s.hardware, "pick": "none", "why": _no_plan(s, sizing)})
    return rows


def _shown(o: Outlook, limits: Limits) -> dict[str, Any]:
    chance = {} if limits.deadline is None else {"chance": f"{o.chance(limits.deadline):.0%}"}
    carbon = {} if o.kg_co2e is None else {"tCO2e": _three(o.kg_co2e / 1e3)}
    energy = "" if o.kwh is None else _three(o.kwh / 1e3)
    return {
        "devices": o.devices, "days": f"{o.days:.1f}", "90 %": span(o), **chance, "cost": money(o.usd),
        "MWh": energy, **carbon, "mfu": o.mfu, "goodput": f"{o.goodput.share:.1%}",
        "healthy days": f"{o.healthy / DAY:.1f}", "layout": layout_text(o.estimate),
    }  # fmt: skip


def _three(value: float) -> str:
    """A number with three figures where it is small, whole where it is large."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def lead_sized(sizing: Sizing) -> Sized | None:
    """The hardware of the answer, else the first that has a plan."""
    best = sizing.best
    for s in sizing.sized:
        if best is not None and any(o is best for o in s.curve):
            return s
    return next((s for s in sizing.sized if s.curve), None)


def curve_rows(s: Sized) -> Rows:
    """Devices against days and money; ``scaling`` is the throughput of a device over that at the best count."""
    base = max(o.tokens_per_s / o.devices for o in s.curve)
    return [{
        "devices": o.devices, "global_batch": int(o.estimate.layout.global_batch[0]), "days": f"{o.days:.1f}",
        "90 %": span(o), "cost": money(o.usd), "scaling": f"{o.tokens_per_s / o.devices / base:.0%}", "mfu": o.mfu,
        "goodput": f"{o.goodput.share:.1%}", "interruptions": f"{o.interruptions:.1f}",
        "layout": layout_text(o.estimate),
    } for o in s.curve]  # fmt: skip


def curves(sizing: Sizing) -> Rows:
    """Every count of every kind of hardware, with everything."""
    return [{"id": s.hardware, **outlook_row(o, sizing.question.limits)} for s in sizing.sized for o in s.curve]


def binding(sizing: Sizing) -> list[str]:
    """What keeps the answer from being smaller or faster, a line each."""
    s, best, limits = lead_sized(sizing), sizing.best, sizing.question.limits
    if s is None or best is None:
        return []
    lines = []
    fewer = [o for o in s.curve if o.devices < best.devices]
    if fewer and limits.deadline is not None and not limits.on_time(fewer[-1]):
        near = fewer[-1]
        chance = f", {near.chance(limits.deadline):.0%} likely to make it" if limits.sure else ""
        lines.append(f"the deadline: {near.devices:,} devices take {days_text(near.days)}{chance}")
    more = [o for o in s.curve if o.devices > best.devices]
    if more and limits.budget is not None and not limits.affordable(more[0]):
        lines.append(f"the budget: {more[0].devices:,} devices cost {money(more[0].usd)}")
    smaller = [n for n in s.refused if n < best.devices]
    if smaller:
        lines.append(f"{max(smaller):,} devices: {s.refused[max(smaller)]}")
    step = max(best.estimate.time, key=lambda k: best.estimate.time[k])
    lines.append(f"a step spends most on {best.estimate.results['bound']} ({step})")
    return lines


def changes(sizing: Sizing, today: date) -> list[str]:
    """What would change the answer, a line each."""
    s, best, limits = lead_sized(sizing), sizing.best, sizing.question.limits
    if s is None or best is None:
        return []
    lines = []
    if limits.deadline is not None and best.chance(limits.deadline) < SURE:
        sure = next((o for o in s.curve if o.chance(limits.deadline) >= SURE), None)
        if sure is not None:
            lines.append(f"to be {sure.chance(limits.deadline):.0%} sure of the deadline: {sure.devices:,} devices, "
                         f"{days_text(sure.days)}, {money(sure.usd)}")  # fmt: skip
    if s.pays_to is not None:
        lines.append(f"past {s.pays_to:,} devices more stop paying: those added bring less than half of what each "
                     "did before")  # fmt: skip
    up = best.goodput
    lines.append(f"without failures: {best.healthy / DAY:.1f} days; {best.interruptions:.1f} are expected, at a "
                 f"goodput of {up.share:.1%} ({up.low:.1%} to {up.high:.1%})")  # fmt: skip
    low, high = reliability().spares
    if best.usd is not None and best.estimate.resolved.cluster.nodes > 1:
        dear = (money(best.usd * (1 + part)) for part in (low, high))
        lines.append(f"with {low:.0%} to {high:.0%} of the nodes as spares, as is usual: {' to '.join(dear)}")
    return [*lines, *_other_prices(best, today), *_other_hardware(sizing, best)]


def _other_prices(best: Outlook, today: date) -> list[str]:
    """The cost at spot prices, where they were observed; that spot devices are taken back is not reckoned with."""
    spot = cluster_price(best.estimate.resolved.cluster, today=today, tariff=Tariff("spot"))
    if best.price is None or best.usd is None or spot is None or best.price.observation.kind != "on-demand":
        return []
    usd = best.usd * spot.observation.usd_per_hour / best.price.observation.usd_per_hour
    return [f"at spot prices: {money(usd)} ({spot.basis}), before interruptions by the provider"]


def _other_hardware(sizing: Sizing, best: Outlook) -> list[str]:
    """The runner-up of another kind, where it keeps the limits."""
    limits = sizing.question.limits
    others = [best_of(s.curve, limits) for s in sizing.sized if not any(o is best for o in s.curve)]
    second = best_of([o for o in others if o is not None], limits)
    if second is None:
        return []
    return [f"next best: {system_text(second)}, {days_text(second.days)}, {money(second.usd)}"]


def assumed(sizing: Sizing) -> tuple[str, ...]:
    """What was assumed of the answer, once each; sizes that a search chose are not."""
    best = sizing.best or next((o for s in sizing.sized for o in s.curve), None)
    own: Sequence[str] = best.basis if best is not None else ()
    searched = {"micro_batch", "zero_stage", "sequence_parallel", "recompute", "global_batch"}
    return tuple(dict.fromkeys([*sizing.notes, *(a for a in own if a.split(" = ")[0] not in searched)]))


def sizing_json(sizing: Sizing, today: date) -> dict[str, Any]:
    """The answer as an object with best, rows, curve, binds, changes, assumed."""
    best = sizing.best
    return {
        "answer": lead(sizing), "best": outlook_row(best, sizing.question.limits) if best else None,
        "rows": pick_rows(sizing), "curve": curves(sizing), "binds": binding(sizing),
        "changes": changes(sizing, today), "assumed": list(assumed(sizing)),
        "pays_to": {s.hardware: s.pays_to for s in sizing.sized},
    }  # fmt: skip
