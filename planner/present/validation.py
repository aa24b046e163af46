"""The comparison with published runs as tables, a figure, the intervals the estimates use, and the README's section."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from planner.present.tables import render, to_csv, to_json
from planner.validation import groups, study
from planner.validation.deployments import Deployed, deployment_residuals, deployment_tables, deployments
from planner.validation.fragmentation import left_out_rows
from planner.validation.published import Case, Compared, layout_groups
from planner.validation.serving import served_kind, serving_logs, serving_residuals, serving_rows


def tables(
    compared: Sequence[Compared], inferred: Sequence[Compared], peaks: Sequence[Compared]
) -> dict[str, list[dict[str, Any]]]:
    """All tables of the comparison by name; adapter runs are counted apart."""
    whole = [c for c in compared if not c.case.scenario.get("lora_rank")]
    adapters = [c for c in compared if c.case.scenario.get("lora_rank")]
    return {
        "by source": study.error_rows(whole, lambda c: c.case.source, "source"),
        "by chip": study.error_rows(whole, study.chip, "chip"),
        "by lab": study.error_rows(whole, lambda c: groups.lab(c.case), "lab"),
        "by kind": study.error_rows(compared, groups.kind, "kind"),
        "by date of the software": study.error_rows(compared, lambda c: groups.quarter(c.case), "quarter"),
        "layouts measured side by side": groups.side_by_side(compared),
        "by regime": study.error_rows(whole, study.regime_of, "regime"),
        "prefill and decode of static batches, by engine": study.error_rows(
            inferred, lambda c: f"{c.case.scenario['task']}: {c.case.source}", "engine"
        ),
        "adapters": study.error_rows(adapters, lambda c: c.case.source, "source"),
        "layout choice": study.layout_rows(layout_groups()),
        "peak memory": study.memory_rows(peaks),
        "peak memory, by framework": study.memory_rows(peaks, study.trained_by, "framework"),
        "peak memory, by kind": study.memory_rows(peaks, study.trained_kind, "kind"),
        "peak memory, every source predicted from the others": left_out_rows(peaks),
        "what is said of runs that ran, and of those that did not": study.verdict_rows(peaks),
        "serving memory, by engine": serving_rows(serving_logs()),
        "serving memory, by kind": serving_rows(serving_logs(), by=served_kind, label="kind"),
        "interval coverage, every source predicted from the others": study.coverage_rows(
            study.residuals([*compared, *inferred])
        ),
    }


def text(
    compared: Sequence[Compared],
    inferred: Sequence[Compared],
    peaks: Sequence[Compared],
    *,
    fmt: str,
    looks: Callable[[str, str], dict[str, Any]],
    safe: bool = False,
) -> str:
    """The comparison in one of the formats; CSV has a row a run, the others a table a question.

    ``looks`` gives what :func:`planner.present.tables.render` takes besides, by format and title.
    """
    found = tables(compared, inferred, peaks)
    predicted, fit = sum(not c.error for c in compared), study.said_to_fit(compared)
    if fmt == "json":
        return to_json({"runs": len(compared), "refused": len(compared) - predicted, "fit": fit, **found})
    if fmt == "csv":
        return to_csv([run_row(c) for c in compared], safe=safe).rstrip("\n")
    parts = [f"{predicted} of {len(compared)} published runs predicted; {fit} said to fit the memory they ran in."]
    for name, rows in found.items():
        shown = render([_percent(r) for r in rows], fmt, **looks(fmt, name))
        parts.append(shown if fmt == "table" else f"**{name}**\n\n{shown}")
    return "\n\n".join(parts)


def served_text(*, fmt: str, looks: Callable[[str, str], dict[str, Any]], safe: bool = False) -> str:
    """Served deployments beside their predictions; CSV has a row a deployment, the others a table a question."""
    found = deployments()
    if fmt == "csv":
        return to_csv([{**d.row, **{f"{k}_over_measured": math.exp(v) for k, v in d.ratios.items()}, "chip": d.chip,
                        "error": d.error} for d in found], safe=safe).rstrip("\n")  # fmt: skip
    shown, refused = deployment_tables(found), sum(bool(d.error) for d in found)
    if fmt == "json":
        return to_json({"deployments": len(found), "refused": refused, **shown})
    parts = [f"{len(found) - refused} of {len(found)} served deployments predicted."]
    for name, rows in shown.items():
        text = render([_percent(r) for r in rows], fmt, **looks(fmt, name))
        parts.append(text if fmt == "table" else f"**{name}**\n\n{text}")
    return "\n\n".join(parts)


def _percent(row: Mapping[str, Any]) -> dict[str, Any]:
    shares = ("median_error", "p90_error", "bias", "regret", "covered", "right_or_tight")
    return {k: (f"{v:+.1%}" if k == "bias" else f"{v:.1%}") if k in shares else v for k, v in row.items()}


def run_row(c: Compared) -> dict[str, Any]:
    """One run as a row: what was measured, what is predicted."""
    e = c.estimate
    return {
        "id": c.case.id, "source": c.case.source, "name": c.case.name, **c.case.scenario,
        "measured_step_s": c.case.measured_s, "step_time_s": e.results["step_time_s"] if e else None,
        "step_time_low_s": e.results["step_time_low_s"] if e else None,
        "step_time_high_s": e.results["step_time_high_s"] if e else None,
        "fits": e.results["fits"] if e else None, "where": c.case.where, "error": c.error,
    }  # fmt: skip


def draw(compared: Sequence[Compared], path: str) -> Path:
    """Scatter of predicted against measured, by source."""
    from planner.present.figures.scatter import scatter_figure
    from planner.present.figures.style import save

    points: dict[str, list[tuple[float, float]]] = {}
    for c in compared:
        if c.estimate is not None and c.case.measured_s > 0:
            pair = (c.case.measured_s, float(c.estimate.results["step_time_s"]))  # type: ignore[arg-type]
            points.setdefault(c.case.source, []).append(pair)
    count = sum(len(v) for v in points.values())
    return save(scatter_figure(points, title="Published training steps, predicted and measured",
                               subtitle=f"{count} runs; no constant names a source, a model or a run"),
                path)  # fmt: skip


def interval_yaml(
    compared: Sequence[Compared], peaks: Sequence[Compared], served: Sequence[Deployed] = ()
) -> str:  # fmt: skip
    """The text of ``planner/validation/intervals.yaml``, made from the residuals."""
    lines = ["# Factors on a predicted time that hold 90 % (low, high) and 50 % (low50, high50) of published runs, by",
             "# regime; written by `python docs/generate.py`. The spread of a regime is widened by one factor, so",
             "# that intervals made without a run's own source cover it as often as they say.", "regimes:"]  # fmt: skip
    rows = [*study.interval_rows(study.residuals(compared)), *study.interval_rows(deployment_residuals(served))]
    for r in rows:
        lines.append(f"  {r['regime']}: {{runs: {r['runs']}, low: {r['low']:.3f}, high: {r['high']:.3f}, "
                     f"low50: {r['low50']:.3f}, high50: {r['high50']:.3f}}}")  # fmt: skip
    lines += ["# Quantiles of measured over predicted memory: 5 % (low), 25, 50 (middle), 75 and 95 % of published",
              "# peaks, by framework, and of what engines logged, widened in the same way.", "memory:"]  # fmt: skip
    for r in study.memory_interval_rows(peaks, serving_residuals(serving_logs())):
        lines.append(f"  {r['regime']}: {{runs: {r['runs']}, low: {r['low']:.3f}, low50: {r['low50']:.3f}, "
                     f"middle: {r['middle']:.3f}, high50: {r['high50']:.3f}, high: {r['high']:.3f}}}")  # fmt: skip
    return "\n".join(lines) + "\n"


def chips_yaml(cases: Sequence[Case], served: Sequence[Deployed]) -> str:
    """The text of ``planner/validation/chips.yaml``: the chips that intervals are said to be of."""
    lines = ["# Accelerators that published runs are of, by what was timed; written by `python docs/generate.py`."]
    for phase, ids in study.chips_by_phase(cases, (d.chip for d in served if not d.error)).items():
        lines += textwrap.wrap(f"{phase}: [{', '.join(ids)}]", 118, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def readme_section(
    compared: Sequence[Compared], inferred: Sequence[Compared], peaks: Sequence[Compared],
    served: Sequence[Deployed] = (),
) -> str:  # fmt: skip
    """The README's accuracy section, generated."""
    found = tables(compared, inferred, peaks)
    predicted = sum(c.estimate is not None for c in compared)
    parts = [f"{predicted} of {len(compared)} published training steps are predicted; the rest contradict themselves "
             "and are refused. The few global constants of `planner/cost/constants.py` were set on these runs, so the "
             "errors are those of the fit; the intervals are made without the source they are tested on. Of the "
             f"predicted, {study.said_to_fit(compared)} are said to fit the memory that they ran in."]  # fmt: skip
    for name in ("by kind", "by lab", "by date of the software", "by source", "by regime",
                 "prefill and decode of static batches, by engine", "layout choice", "layouts measured side by side",
                 "peak memory", "peak memory, by framework", "peak memory, by kind",
                 "peak memory, every source predicted from the others",
                 "what is said of runs that ran, and of those that did not",
                 "serving memory, by engine", "serving memory, by kind",
                 "interval coverage, every source predicted from the others"):  # fmt: skip
        parts.append(f"**{name.capitalize()}**\n\n{render([_percent(r) for r in found[name]], 'markdown')}")
    if served:
        rows = deployment_tables(served)["served deployments, by source and engine"]
        parts.append(f"**Served deployments, by source and engine**: all {len(served)} of the data, none left out\n\n"
                     f"{render([_percent(r) for r in rows], 'markdown')}")  # fmt: skip
        covered = study.coverage_rows(deployment_residuals(served))
        parts.append("**Interval coverage of served deployments, every model predicted from the others**\n\n"
                     f"{render([_percent(r) for r in covered], 'markdown')}")  # fmt: skip
    return "\n\n".join(parts)
