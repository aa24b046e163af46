"""What each command shows: it calls the core once and hands rows to the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from planner.errors import BadInputError, CatalogueError, InfeasibleError, PlannerError
from planner.plan.estimate import COLUMNS, Estimate, estimate_rows, estimate_scenario
from planner.plan.scenario import KEYS
from planner.present.tables import check_format, render, to_csv, to_json

Say = Callable[[str], None]
Style = Mapping[str, Any]


def named(model: str | None, hardware: str | None, scenario: Mapping[str, Any]) -> dict[str, Any]:
    """Positional names and flags as one scenario."""
    out = dict(scenario)
    out |= {k: v for k, v in (("model", model), ("hardware", hardware)) if v is not None}
    return out


def show_hardware(id: str | None, *, systems: bool, fmt: str, dirs: Sequence[str], style: Style) -> str:
    """The list of accelerators or systems, or all figures of one with their sources."""
    from planner.catalogue.loader import load_accelerator, resolve_hardware
    from planner.present import catalogue

    check_format(fmt)
    if id is None:
        rows = catalogue.system_rows(dirs) if systems else catalogue.accelerator_rows(dirs)
        return render([_with_units(r) if fmt in ("table", "markdown") else r for r in rows], fmt, **_only(fmt, style))
    chip, system = resolve_hardware(id, dirs or None)
    figures = catalogue.figure_rows(load_accelerator(chip.id, dirs or None))
    joined = catalogue.system_figure_rows(system)
    if fmt == "json":
        return to_json([{"id": chip.id, "name": chip.name, "aliases": chip.aliases, "device_is": chip.device_is,
                         "figures": figures, "conflicts": chip.conflicts,
                         "system": {"id": system.id, "name": system.name, "figures": joined}}])  # fmt: skip
    if fmt == "csv":
        return to_csv([{"of": chip.id, **r} for r in figures] + [{"of": system.id, **r} for r in joined])
    parts = [f"{chip.name} ({chip.id}): a device is a {chip.device_is}; system {system.id} ({system.name}).",
             render(figures, fmt, ["figure", "value", "basis", "source"], **_only(fmt, style)),
             render(joined, fmt, ["figure", "value", "basis", "source"], title=system.id, **_only(fmt, style))
             if joined else ""]  # fmt: skip
    if chip.conflicts:
        parts.append("Other values seen:\n" + "\n".join(f"  {c}" for c in chip.conflicts))
    return "\n\n".join(p for p in parts if p)


def _only(fmt: str, style: Style) -> dict[str, Any]:
    return dict(style) if fmt == "table" else {}


def _with_units(row: Mapping[str, Any]) -> dict[str, Any]:
    from planner.units import format_quantity as q

    out = dict(row)
    for k, v in row.items():
        if v is not None and (k.endswith("bandwidth") or k == "link"):
            out[k] = q(float(v), "byte/s")
        elif v is not None and k.endswith("_flops"):
            out[k] = q(float(v), "FLOP/s", digits=4)
        elif v is not None and k == "power":
            out[k] = q(float(v), "W")
    return {k: "" if v is None else v for k, v in out.items()}


def show_models(id: str | None, *, fmt: str, style: Style) -> str:
    """The list of models, or one with its published size and what was assumed."""
    from planner.catalogue.models import load_model
    from planner.present.catalogue import model_row, model_rows

    check_format(fmt)
    if id is None:
        shown = ["id", "family", "layers", "hidden", "parameters", "active", "published", "weight_dtype"]
        return render(model_rows(), fmt, shown, **_only(fmt, style))
    m = load_model(id)
    row = model_row(m)
    if fmt in ("json", "csv"):
        return render([row | {"assumed": list(m.assumed), "notes": list(m.notes)}], fmt)
    ours, published = row["parameters"], row["published"]
    lines = [f"{m.name}: {ours:,} parameters, {row['active']:,} active a token."]
    if published:
        lines.append(f"Published: {published:,.0f} ({(ours - published) / published:+.2%}).")
    lines += [f"Source: {m.source}"] + [f"Assumed: {a}" for a in m.assumed] + [f"Note: {n}" for n in m.notes]
    return "\n".join(lines)


def show_supported(*, fmt: str, style: Style) -> str:
    """Every ``model_type`` and its classes, with the version of the reference they were last checked against."""
    from planner.catalogue.families.checked import supported_rows

    check_format(fmt)
    return render(supported_rows(), fmt, ["id", "exact", "refused", "reference", "checked"], **_only(fmt, style))


def show_summary(
    model: str, *, batch: int, seq_len: int | None, fmt: str, style: Style, class_name: str | None = None
) -> str:
    """Layer table of a model with its totals."""
    from planner.catalogue.models import load_model
    from planner.demand.counts import summary

    check_format(fmt)
    m = load_model(model, class_name=class_name)
    length = seq_len or m.text.tokens or min(m.max_positions or 2048, 2048)
    data = summary(m, batch=batch, seq_len=length)
    if fmt == "json":
        return to_json({"class": m.class_name or None, **data})
    rows = data["layers"]
    if fmt == "csv":
        return to_csv(rows)
    p, f = data["parameters"], data["forward_flops"]
    total = {"name": "total", "count": "", **{
        k: sum(r.get(k) or 0 for r in rows)
        for k in ("parameters", "forward_flops", "weight_bytes", "activation_bytes", "saved_activation_bytes",
                  "kv_cache_bytes_per_token")}}  # fmt: skip
    counted = f", counted as {m.class_name}" if m.class_name else ""
    head = (f"{m.name}{counted}: {p['total']:,} parameters ({p['active']:,} active); one forward pass of {batch} x "
            f"{length} tokens is {f['total'] / 1e9:,.2f} GFLOP, {f['causal_total'] / 1e9:,.2f} with causal attention "
            "halved.")  # fmt: skip
    notes = [f"Assumed: {a}" for a in m.assumed]
    shown = ["name", "count", "parameters_per_layer", "parameters", "forward_flops", "weight_bytes", "activation_bytes",
             "saved_activation_bytes", "kv_cache_bytes_per_token", "arithmetic_intensity"]  # fmt: skip
    return "\n".join([head, "", render([*rows, total], fmt, shown, **_only(fmt, style)), *notes])


def show_estimate(
    given: Mapping[str, Any], *, fmt: str, dirs: Sequence[str], figure: str | None, style: Style, say: Say
) -> str:
    """One layout: the answer, the ledgers, what was assumed."""
    from planner.present.plans import answer, estimate_json, memory_rows, time_rows

    check_format(fmt)
    e = estimate_scenario(given, dirs=tuple(dirs), folder=None, today=date.today())
    if figure is not None:
        say(f"figure: {draw_estimate(e, figure)}")
    if fmt == "json":
        return to_json([{"id": e.inputs["model"], **estimate_json(e)}])
    if fmt == "csv":
        return to_csv([e.row | {"error": ""}])
    return "\n".join([
        answer(e), "", render(time_rows(e), fmt, title="Time", **_only(fmt, style)), "",
        render(memory_rows(e), fmt, title="Memory of the fullest device", **_only(fmt, style)), "",
        *_assumed(e.assumed),
    ])  # fmt: skip


def _assumed(notes: Sequence[str]) -> list[str]:
    return ["Assumed:", *(f"  {n}" for n in notes)] if notes else []


def draw_estimate(e: Estimate, path: str) -> str:
    """Memory stack or waterfall, by what the file is called: ``memory`` in its name, else the waterfall."""
    from planner.present.figures.ledgers import memory_figure, waterfall_figure
    from planner.present.figures.style import save
    from planner.present.plans import layout_text

    if "memory" in Path(path).stem:
        label = layout_text(e)
        figure = memory_figure({label: e.memory}, capacity=e.resolved.cluster.accelerator.capacity, **titles(e))
        return str(save(figure, path))
    return str(save(waterfall_figure(e), path))


def run_scenarios(path: str, *, output: str | None, fmt: str, dirs: Sequence[str], say: Say) -> str:
    """A file of scenarios in, a row each out, in order; bad rows carry their error."""
    from planner.present.export import check_writable, progress, read_scenarios, write_csv, write_text

    check_format(fmt)
    rows = read_scenarios(path)
    if output is not None:
        check_writable(output)
    folder = str(Path(path).resolve().parent)
    results = estimate_rows(rows, dirs=tuple(dirs), folder=folder, today=date.today())
    done = list(progress(results, len(rows), "estimating"))
    inputs = [k for k in dict.fromkeys(k for r in (*rows, *done) for k in r) if k not in COLUMNS]
    columns = [*[k for k in KEYS if k in inputs], *[k for k in inputs if k not in KEYS], *COLUMNS]
    failed = sum(bool(r["error"]) for r in done)
    say(f"{len(done) - failed} of {len(done)} scenarios estimated" + (f", {failed} with an error" if failed else ""))
    if output is not None and fmt in ("csv", "table"):
        write_csv(output, done, columns)
        return f"{output}: {len(done)} rows"
    if fmt == "json":
        text = to_json([{"id": i, **r} for i, r in enumerate(done)])
    else:
        text = to_csv(done, columns).rstrip("\n") if fmt in ("csv", "table") else render(done, fmt, columns)
    if output is None:
        return text
    write_text(output, text)
    return f"{output}: {len(done)} rows"


def show_plan(
    given: Mapping[str, Any],
    *,
    compress: bool,
    top: int,
    fmt: str,
    dirs: Sequence[str],
    style: Style,
    say: Say,
) -> tuple[str, str]:
    """The search: data to show, and why nothing fits where that is so."""
    from planner.plan.planning import make_plan
    from planner.present.plans import infeasible, plan_json, plan_rows

    check_format(fmt)
    with searching() as report:
        found = make_plan(given, compress=compress, top=top, dirs=tuple(dirs), today=date.today(), progress=report)
    failure = "" if found.best else infeasible(found)
    if fmt == "json":
        return to_json(plan_json(found)), failure
    if fmt == "csv":
        return to_csv(plan_rows(found.rows)) if found.rows else "", failure
    return _plan_text(found, fmt, style), failure


def _plan_text(found: Any, fmt: str, style: Style) -> str:
    from planner.present import plans

    looks = _only(fmt, style)
    parts: list[str] = []
    if found.best is not None:
        shown = plans.plan_columns(found.rows)
        parts += [
            f"Best: {plans.answer(found.best)}", "",
            render(plans.shown_rows(found.rows), fmt, shown, title=f"Best {len(found.rows)} of {found.fitting:,} that "
                   f"fit, {found.considered:,} considered" if fmt == "table" else "", **looks), "",
            render(plans.time_rows(found.best), fmt, **({"title": "Time of the best", **looks} if looks else {})), "",
            render(plans.memory_rows(found.best), fmt,
                   **({"title": "Memory of its fullest device", **looks} if looks else {})), "",
        ]  # fmt: skip
    others = plans.alternative_rows(found)
    if others:
        parts += [render(others, fmt, **({"title": "Best of every other tp, and what makes it slower", **looks}
                                         if looks else {})), ""]  # fmt: skip
    if found.choices:
        parts += [render(plans.choice_rows(found.choices)[:40], fmt,
                         **({"title": "Compression choices: leanest layout against capacity", **looks}
                            if looks else {})),
                  ""]  # fmt: skip
    if found.refused and found.best is not None:
        parts += [
            render(plans.refusal_rows(found.refused), fmt, **({"title": "Refused", **looks} if looks else {})),
            "",
        ]
    return "\n".join([*parts, *_assumed(found.assumed)])


class searching:
    """A counter of layouts on stderr while a search runs, where that is a terminal."""

    def __enter__(self) -> Callable[[int, int], None] | None:
        import sys

        self.status: Any = None
        if not sys.stderr.isatty():
            return None
        from rich.console import Console

        self.status = Console(stderr=True).status("searching")
        self.status.start()

        def report(considered: int, fitting: int) -> None:
            self.status.update(f"searching: {considered:,} layouts, {fitting:,} fit")

        return report

    def __exit__(self, *_: object) -> None:
        if self.status is not None:
            self.status.stop()


def show_compare(
    model: str, names: Sequence[str], scenario: Mapping[str, Any], *, fmt: str, dirs: Sequence[str], style: Style,
    say: Say,
) -> str:  # fmt: skip
    """Best plan of one model on each hardware; one that cannot says why and the others are kept."""
    from planner.plan.planning import make_plan
    from planner.present.plans import infeasible, layout_text

    check_format(fmt)
    rows: list[dict[str, Any]] = []
    faults: list[PlannerError] = []
    for name in names:
        try:
            found = make_plan({**scenario, "model": model, "hardware": name}, top=1, dirs=tuple(dirs),
                              today=date.today())  # fmt: skip
        except PlannerError as error:
            faults.append(error)
            rows.append({"id": name, "error": str(error)})
            continue
        if found.best is None:
            rows.append({"id": name, "error": infeasible(found)})
            continue
        rows.append({"id": name, **found.best.row, "layout": layout_text(found.best), "error": ""})
    if len(faults) == len(names):
        raise faults[0]
    if all(r["error"] for r in rows):
        raise InfeasibleError("; ".join(f"{r['id']}: {r['error']}" for r in rows))
    shown = ["id", "layout", "step_time_s", "tokens_per_s", "mfu", "memory_peak_bytes", "usd_per_hour",
             "usd_per_million_tokens", "bound", "error"]  # fmt: skip
    return render(rows, fmt, [c for c in shown if c != "error" or any(r.get("error") for r in rows)],
                  **_only(fmt, style))  # fmt: skip


def show_roofline(
    given: Mapping[str, Any], *, output: str | None, fmt: str, dirs: Sequence[str], style: Style, say: Say
) -> str:
    """Operators against the roofs as a table, and with ``output`` as a figure."""
    from planner.plan.points import points, violations
    from planner.plan.roofs import roofs

    check_format(fmt)
    e = estimate_scenario(given, dirs=tuple(dirs), folder=None, today=date.today())
    found = points(e)
    lines = roofs(e.resolved.cluster, e.resolved.precision)
    for p in violations(found, lines):
        say(f"warning: {p.name} lies above its roof; please report this")
    if output is not None:
        from planner.present.figures.roofline import roofline_figure
        from planner.present.figures.style import save

        say(f"figure: {save(roofline_figure(found, lines, **titles(e)), output)}")
    rows = [{"id": f"{p.phase}.{p.name}", **vars(p)} for p in sorted(found, key=lambda p: -p.share)]
    if fmt == "json":
        return to_json(rows)
    shown = ["phase", "name", "kernel", "dtype", "intensity", "flops", "bytes", "time_s", "share", "achieved", "bound",
             "count"]  # fmt: skip
    from planner.units import format_quantity as q

    if fmt != "csv":
        rows = [{**r, "time_s": r["time"], "achieved": q(r["achieved_flops"], "FLOP/s")} for r in rows]
    return render(rows, fmt, shown if fmt != "csv" else None, **_only(fmt, style))


def titles(e: Estimate) -> dict[str, Any]:
    """Title and subtitle of an estimate's figure."""
    from planner.present.plans import layout_text

    c = e.resolved.cluster
    work = {k: e.inputs[k] for k in ("batch", "concurrency", "seq_len", "input_len", "output_len", "global_batch")
            if k in e.inputs}  # fmt: skip
    shape = ", ".join(f"{k} {v:,}" for k, v in work.items() if isinstance(v, int))
    return {"title": f"{e.resolved.model.name}: {e.resolved.task} on {c.devices} x {c.accelerator.name}",
            "subtitle": f"{layout_text(e)}; {shape}; {e.resolved.precision.compute}"}  # fmt: skip


def run_check(folders: Sequence[str]) -> str:
    """Validate hardware folders and, for the built-in catalogue, the models too."""
    from planner.catalogue.check import check_hardware
    from planner.catalogue.loader import accelerator_ids, system_ids

    for folder in folders:
        if not Path(folder).is_dir():
            raise BadInputError(f"check: folder {folder!r} does not exist")
        if not any(Path(folder).rglob("*.yaml")):
            raise BadInputError(f"check: folder {folder!r} holds no .yaml profile")
    faults = list(check_hardware(list(folders) or None))
    count = 0
    if not folders:
        from planner.catalogue.models import load_model, model_ids

        for name in model_ids():
            count += 1
            try:
                load_model(name)
            except PlannerError as error:
                faults.append(str(error))
    if faults:
        raise CatalogueError([*faults, f"{len(faults)} faults"])
    what = (
        f"{len(accelerator_ids(list(folders) or None))} accelerators, {len(system_ids(list(folders) or None))} systems"
    )
    return f"ok: {what}" + (f", {count} models" if count else "")


def run_calibrate(path: str, *, dirs: Sequence[str]) -> str:
    """Fit a CSV of measured matmuls and write the ``efficiency`` blocks of a profile."""
    import csv

    from planner.calibrate import fit_kernels
    from planner.catalogue.loader import load_accelerator

    source = Path(path)
    if not source.is_file():
        raise BadInputError(f"calibrate: file {path!r} does not exist")
    with source.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "gpu" not in rows[0]:
        raise BadInputError(f"{path}: rows with the columns gpu, dtype, m, n, k and time_us are due")
    chips = {str(r.get("gpu")): load_accelerator(str(r.get("gpu")), dirs or None) for r in rows}
    fits = fit_kernels(rows, accelerators=chips)
    lines = []
    for gpu, by_dtype in fits.items():
        lines += [f"# {chips[gpu].id}: {source.name}", "efficiency:", "  kernels:", "    matmul:"]
        for dtype, f in by_dtype.items():
            lines.append(f"      {dtype}: {{compute: {f.compute:.3f}, memory: {f.memory:.3f}, overhead: "
                         f"{f.overhead * 1e6:.2f} us, sharpness: {f.sharpness:.2f}, source: own, "
                         "basis: measured}")  # fmt: skip
        lines.append(f'# and under sources:  own: "{source.name}"')
    return "\n".join(lines)
