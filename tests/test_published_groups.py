"""Published runs put together: labs, dates, and layouts measured side by side."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from planner.validation import groups, study
from planner.validation.published import Case, cases

CASE = Case("x", "somebody", "there", "A", "m", {"devices": "8", "seq_len": "1024", "global_batch": "8"}, {}, 1.0,
            group="g")  # fmt: skip


def row(measured: float, predicted: float, batch: str = "8") -> Any:
    case = replace(CASE, measured_s=measured, scenario={**CASE.scenario, "global_batch": batch})
    return SimpleNamespace(case=case, log_ratio=float(np.log(predicted / measured)))


def test_labs_name_sources_that_are_published() -> None:
    assert set(groups._labs()) <= {c.source for c in cases()} | {"MLPerf v5.1 AMD", "ROCm/rocm-blogs"}
    nvidia = {c.source for c in cases() if groups.lab(c) == "NVIDIA"}
    assert {"NVIDIA-NeMo/Megatron-Bridge", "NVIDIA/dgxc-benchmarking", "NVIDIA-NeMo/Automodel"} <= nvidia
    assert groups.lab(CASE) == "somebody"


def test_a_quarter_is_that_of_the_software() -> None:
    dates = ("2026-04-17", "2025-11", "2024-12-02", "")
    assert [groups.quarter(replace(CASE, released=d)) for d in dates] == ["2026 Q2", "2025 Q4", *[groups.OLDER] * 2]


def test_regret_is_by_time_of_a_token_on_a_device() -> None:
    """The first takes twice the time for four times the tokens, and is said to be the slowest a token."""
    found = groups.side_by_side([row(2.0, 9.0, "32"), row(1.0, 1.0), row(1.2, 1.1)])  # type: ignore[list-item]
    assert found[0]["regret"] == pytest.approx(1.0) and found[0]["layouts"] == 3


def test_runs_that_keys_do_not_tell_apart_are_one_layout() -> None:
    assert groups.side_by_side([row(1.0, 1.0), row(2.0, 1.0)]) == []  # type: ignore[list-item]
    tied = groups.side_by_side([row(1.0, 1.0), row(3.0, 1.0), row(1.5, 2.0)])  # type: ignore[list-item]
    assert tied[0]["layouts"] == 2 and tied[0]["regret"] == pytest.approx(1.0)


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    left, right = np.array([1.0, 1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0])
    assert study.rank_correlation(left, right) == pytest.approx(0.948683298)
    assert np.isnan(study.rank_correlation(np.ones(4), right))
