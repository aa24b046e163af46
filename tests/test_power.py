"""Power and energy against measured nodes, each source left out in turn."""

from __future__ import annotations

from statistics import median

import pytest

from planner.catalogue.economics import grid_intensity, power
from planner.catalogue.loader import resolve_hardware
from planner.errors import BadInputError
from planner.scenario.names import cluster_of
from planner.supply.power import energy, mean_draw, power_share


def test_rated_power_is_the_catalogue_s() -> None:
    for m in power().measured:
        assert resolve_hardware(m.accelerator)[0].power == m.rated / 8


@pytest.mark.parametrize("regime", ["train", "infer"])
def test_measured_power_left_out_by_row(regime: str) -> None:
    """Power of each measured node from the others of its regime."""
    rows = [m for m in power().measured if m.regime == regime]
    errors = {}
    for m in rows:
        share = power_share(regime, [o for o in rows if o is not m])
        errors[m] = abs(share * m.rated / m.watts - 1)
    assert median(errors.values()) < 0.10  # capped nodes among them
    assert max(e for m, e in errors.items() if not m.capped) < 0.15


def test_energy_of_a_token_left_out_by_row() -> None:
    """J a token of measured inference nodes at the rate they ran at."""
    rows = [m for m in power().measured if m.tokens_per_s]
    errors = []
    for m in rows:
        share = power_share("infer", [o for o in rows if o is not m])
        errors.append(abs(share * m.rated / m.tokens_per_s / (m.watts / m.tokens_per_s) - 1))  # type: ignore[operator]
    assert len(rows) == 10 and median(errors) < 0.10


def test_measured_power_left_out_by_source() -> None:
    """Each source's training nodes from the other's: another chip, another laboratory."""
    rows = [m for m in power().measured if m.regime == "train"]
    errors = [
        abs(power_share("train", [o for o in rows if o.source != m.source]) * m.rated / m.watts - 1) for m in rows
    ]
    assert median(errors) < 0.15


def test_energy_of_measured_training_nodes() -> None:
    h100 = cluster_of("dgx-h100", 8)
    draw = mean_draw(h100, "train")
    assert draw is not None and draw.watts == pytest.approx(7752, rel=0.15)
    assert energy(draw.watts, 3600.0, 1.0) == pytest.approx(draw.watts / 1e3)
    assert energy(1000.0, 7200.0, 1.15) == pytest.approx(2.3)


def test_what_has_no_rated_power_has_no_draw() -> None:
    assert mean_draw(cluster_of("tpu-v6e-pod", 8), "train") is None


def test_grids() -> None:
    assert grid_intensity("fra") == 0.044
    with pytest.raises(BadInputError, match=r"unknown grid 'ATL'.*FRA"):
        grid_intensity("ATL")
