"""What a training run comes to on so many devices: days with failures and without, money, energy, and how sure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from math import copysign, exp, hypot, log, sqrt

import numpy as np

from planner.catalogue.economics import grid_intensity, power
from planner.cost.doubt import SCORES, chance_below
from planner.cost.runs import TrainingRun
from planner.planning.estimate import Estimate
from planner.planning.goodput import NORMAL_90, FailureModel, Goodput, checkpoint_bytes, failure_model, goodput
from planner.planning.uncertainty import Interval
from planner.planning.work import steps_for
from planner.supply.cost import LISTED, ChosenPrice, Tariff, cluster_price
from planner.supply.power import energy, mean_draw

DAY, HOUR = 86400.0, 3600.0
QUANTILES = ("low", "low50", "high50", "high")


@dataclass(frozen=True)
class Terms:
    """What money, energy and failures are reckoned by: a tariff, PUE, a country's grid, failures, spares.

    ``spares`` is the part of the devices that is paid for beside those that train.
    """

    tariff: Tariff = LISTED
    pue: float | None = None
    grid: str = ""
    failures: FailureModel = field(default_factory=failure_model)
    spares: float = 0.0


@dataclass(frozen=True)
class Outlook:
    """A run on so many devices. None where a price or a rated power is not known, or no grid was named.

    Attributes
    ----------
    estimate : of the best layout;  steps, tokens : of the run
    healthy, seconds : wall clock [s] without failures and with them
    factors : of ``seconds``, at the quantiles of its interval
    goodput : effective part of the time
    price : of a device;  usd : of the run;  kwh : into the building;  kg_co2e : of that electricity
    watts : wall power of the nodes [W]
    basis : what was assumed, a line each
    """

    estimate: Estimate
    steps: int
    tokens: float
    healthy: float
    seconds: float
    factors: dict[str, float]
    goodput: Goodput
    price: ChosenPrice | None
    usd: float | None
    watts: float | None
    kwh: float | None
    kg_co2e: float | None
    basis: tuple[str, ...]

    @property
    def devices(self) -> int:
        return self.estimate.resolved.cluster.devices

    @property
    def days(self) -> float:
        return self.seconds / DAY

    @property
    def mfu(self) -> float:
        return float(self.estimate.results["mfu"])  # type: ignore[arg-type]

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second of the wall clock, failures included."""
        return self.tokens / self.seconds

    @property
    def interruptions(self) -> float:
        return self.goodput.interruptions(self.seconds)

    @property
    def joules_per_token(self) -> float | None:
        """Energy of the nodes a token [J], failures included."""
        return None if self.watts is None else self.watts / self.tokens_per_s

    @property
    def usd_per_million_tokens(self) -> float | None:
        return None if self.usd is None else self.usd / self.tokens * 1e6

    def chance(self, deadline: float) -> float:
        """Chance that the run takes no longer than ``deadline`` [s]."""
        if self.seconds == float("inf"):
            return 0.0  # failures leave nothing
        return float(chance_below(np.array(log(deadline / self.seconds)), self.factors))


def outlook(e: Estimate, tokens: float, terms: Terms, *, today: date) -> Outlook:
    """What training on so many tokens comes to with an estimate's layout.

    Parameters
    ----------
    e : Estimate of a training step
    tokens : to be trained on, rounded up to whole steps
    """
    run, cluster = e.resolved.run, e.resolved.cluster
    assert isinstance(run, TrainingRun)
    steps = steps_for(tokens, batch=int(e.layout.global_batch[0]), seq_len=run.seq_len)
    healthy = steps * float(e.results["step_time_s"])  # type: ignore[arg-type]
    up = goodput(checkpoint_bytes(e.resolved.demand, run), cluster.devices, terms.failures)
    seconds = healthy / up.share if up.share else float("inf")
    draw = mean_draw(cluster, "train")
    watts = None if draw is None else draw.watts
    each = None if draw is None else draw.watts / cluster.devices
    price = cluster_price(cluster, today=today, tariff=terms.tariff, watts=each)
    paid = cluster.devices * (1.0 + terms.spares)
    pue = power().pue if terms.pue is None else terms.pue
    own = [a for a in e.assumed if not a.startswith("price ")]
    kwh = None if watts is None else energy(watts, seconds, pue)
    return Outlook(
        estimate=e, steps=steps, tokens=tokens, healthy=healthy, seconds=seconds, factors=wall_factors(e.interval, up),
        goodput=up, price=price, watts=watts, kwh=kwh,
        usd=None if price is None else price.observation.usd_per_hour * paid * seconds / HOUR,
        kg_co2e=kwh * grid_intensity(terms.grid) if kwh is not None and terms.grid else None,
        basis=(*own, *terms.failures.basis, *_basis(terms, draw.basis if draw else "", pue, price)),
    )  # fmt: skip


def _basis(terms: Terms, drawn: str, pue: float, price: ChosenPrice | None) -> list[str]:
    """Where money and energy are from, a line each."""
    lines = [drawn] if drawn else ["power: no source gives the accelerator's rated power, so no energy is told"]
    lines.append(f"PUE {pue:g}" + (f" ({power().pue_source})" if terms.pue is None else " (given)"))
    if terms.grid:
        found = grid_intensity(terms.grid)
        lines.append(f"grid {terms.grid.upper()}: {found:g} kgCO2e/kWh ({power().grid_source})")
    if price is None:
        lines.append(f"price: none is known ({terms.tariff.words}), so no cost is told")
    else:
        lines.append(f"price {price.observation.usd_per_hour:.2f} USD/h a device: {price.basis}")
    if terms.spares:
        lines.append(f"spares: {terms.spares:.0%} more devices are paid for than train")
    return lines


def wall_factors(step: Interval, up: Goodput) -> dict[str, float]:
    """Factors of the wall clock at the quantiles of a step's interval, the doubt about failures in them.

    The two are taken as independent: deviations from the middle add in squares, in logarithms.
    """
    middle = log(sqrt(step.low50 * step.high50))
    out = {}
    for name in QUANTILES:
        score = SCORES[name]
        end = up.high if score < 0 else up.low
        failures = abs(log(up.share / end)) * abs(score) / NORMAL_90 if end > 0 and up.share > 0 else 0.0
        out[name] = exp(middle + copysign(hypot(log(getattr(step, name)) - middle, failures), score))
    return out
