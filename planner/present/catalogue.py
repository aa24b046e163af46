"""The catalogues as rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.catalogue.class_files import load_class
from planner.catalogue.hardware import Accelerator, KernelEfficiency, System
from planner.catalogue.loader import accelerator_ids, load_accelerator, load_system, system_ids
from planner.catalogue.models import load_model, model_ids
from planner.catalogue.schema import Model
from planner.demand.transformer import demand
from planner.supply.efficiency import GLOBAL_DEFAULT, KERNELS, kernel_efficiency
from planner.units import format_gib
from planner.units import format_quantity as q

Rows = list[dict[str, Any]]


def accelerator_rows(dirs: Sequence[str]) -> Rows:
    """Accelerators, a row each, in base units."""
    rows: Rows = []
    for name in accelerator_ids(dirs or None):
        a = load_accelerator(name, dirs or None)
        rows.append({
            "id": a.id, "name": a.name, "vendor": a.vendor, "year": a.year, "bf16_flops": a.peak_flops.get("bf16"),
            "fp16_flops": a.peak_flops.get("fp16"), "fp8_flops": a.peak_flops.get("fp8"),
            "memory_bytes": a.capacity, "bandwidth": a.bandwidth, "link": a.scale_up.bandwidth if a.scale_up else None,
            "power": a.power, "default_system": a.default_system,
        })  # fmt: skip
    return rows


def system_rows(dirs: Sequence[str]) -> Rows:
    """Systems, a row each, in base units."""
    rows: Rows = []
    for name in system_ids(dirs or None):
        s = load_system(name, dirs or None)
        rows.append({
            "id": s.id, "name": s.name, "accelerator": s.accelerator, "devices_per_node": s.devices_per_node,
            "scale_up": s.scale_up.name if s.scale_up else None,
            "scale_up_bandwidth": s.scale_up.bandwidth if s.scale_up else None,
            "scale_up_domain": s.scale_up.domain if s.scale_up else None,
            "scale_out": s.scale_out.name if s.scale_out else None,
            "scale_out_bandwidth": s.scale_out.bandwidth if s.scale_out else None,
        })  # fmt: skip
    return rows


def figure_rows(a: Accelerator) -> Rows:
    """Every figure of one accelerator with its source, a row each."""
    rows: Rows = [{"figure": f"peak_flops.{d}", "value": q(v, "FLOP/s", digits=4)} for d, v in a.peak_flops.items()]
    rows += [{"figure": f"sparse_factor.{d}", "value": f"x {v:g}"} for d, v in a.sparse_factor.items()]
    if a.vector_flops:
        rows.append({"figure": "vector_flops", "value": q(a.vector_flops, "FLOP/s", digits=4)})
    named: dict[str, str] = {}  # a figure's name here to its path in the file
    for i, level in enumerate(a.memory):
        capacity = "capacity" if f"memory[{i}].capacity" in a.provenance else "marketed"
        named |= {f"memory.{level.name}.capacity": f"memory[{i}].{capacity}",
                  f"memory.{level.name}.bandwidth": f"memory[{i}].bandwidth"}  # fmt: skip
        rows.append({"figure": f"memory.{level.name}.capacity", "value": format_gib(level.capacity)})
        if level.bandwidth:
            rows.append({"figure": f"memory.{level.name}.bandwidth", "value": q(level.bandwidth, "byte/s", digits=4)})
    for name, link in (("scale_up", a.scale_up), ("host", a.host)):
        if link is not None:
            rows.append({"figure": f"links.{name}.bandwidth", "value": q(link.bandwidth, "byte/s", digits=4)})
    if a.power:
        rows.append({"figure": "power", "value": q(a.power, "W")})
    for r in rows:
        p = a.provenance.get(named.get(str(r["figure"]), str(r["figure"])))
        if p is not None:
            r |= {"basis": p.basis, "source": p.source, "note": p.note}
    for price in a.prices:
        rows.append({"figure": "price", "value": f"{price.usd_per_hour:.2f} USD/h", "basis": price.kind,
                     "source": f"{price.provider} {price.region} {price.date}; {price.source}"})  # fmt: skip
    return rows


def efficiency_rows(a: Accelerator, dirs: Sequence[str] = ()) -> Rows:
    """The efficiencies that estimates on one accelerator take, by kernel and dtype: measured on this chip, of its
    class, or assumed of all. Dtypes that share a figure share a row."""
    defaults = load_class(a.efficiency_class, dirs or None)
    rows: Rows = []
    for kernel in KERNELS:
        shared: dict[KernelEfficiency, list[str]] = {}
        for dtype in a.peak_flops:
            shared.setdefault(kernel_efficiency(a, kernel, dtype, defaults=defaults), []).append(dtype)
        for e, dtypes in shared.items():
            own = any(e in table.values() for table in a.kernels.values())
            whose = "this chip" if own else f"class {defaults.id}" if e is not GLOBAL_DEFAULT else "all chips"
            rows.append({
                "figure": f"{kernel} {', '.join(dtypes)}",
                "value": f"compute {e.compute:.2f}, memory {e.memory:.2f}, t_0 {q(e.overhead, 's')}, "
                         f"r {e.sharpness:.2g}",
                "basis": f"{e.provenance.basis}, {whose}",
                "source": "; ".join(t for t in (e.provenance.source, e.provenance.note) if t),
            })  # fmt: skip
    return rows


def system_figure_rows(s: System) -> Rows:
    """Every figure of one system with its source, a row each."""
    rows: Rows = [{"figure": "devices_per_node", "value": str(s.devices_per_node)}]
    for name, f in (("scale_up", s.scale_up), ("scale_out", s.scale_out)):
        if f is not None:
            rows += [
                {"figure": f"{name}.bandwidth", "value": q(f.bandwidth, "byte/s", digits=4)},
                {"figure": f"{name}.topology", "value": f.topology + (f" {f.axes}" if f.axes else "")},
                {"figure": f"{name}.domain", "value": str(f.domain)},
            ]
    for r in rows:
        p = s.provenance.get(str(r["figure"]))
        if p is not None:
            r |= {"basis": p.basis, "source": p.source, "note": p.note}
    return rows


def model_rows() -> Rows:
    """Models, a row each."""
    return [model_row(load_model(name)) for name in model_ids()]


def model_row(m: Model) -> dict[str, Any]:
    """One model: our count beside the published size."""
    d = demand(m)
    return {
        "id": m.id, "name": m.name, "family": m.family, "layers": m.layers, "hidden": m.hidden,
        "parameters": d.total_parameters, "active": d.active_parameters,
        "published": round(m.published_parameters) if m.published_parameters else None,
        "weight_dtype": m.weight_dtype, "source": m.source,
    }  # fmt: skip
