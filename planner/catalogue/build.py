"""Checked values of a hardware file to the frozen dataclasses, and a system where no node is known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from planner.catalogue.hardware import (
    Accelerator,
    Fabric,
    KernelEfficiency,
    Link,
    MemoryLevel,
    Price,
    Provenance,
    System,
)
from planner.catalogue.reader import Figure
from planner.errors import CatalogueError

GENERIC_NODE = 8  # devices of a node made by rule
Values = Mapping[str, Any]


def provenance(values: Any, prefix: str = "") -> Iterator[tuple[str, Provenance]]:
    """Field path and origin of every figure below ``values``."""
    if isinstance(values, Figure):
        yield prefix, values.provenance
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield from provenance(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from provenance(value, f"{prefix}[{index}]")


def _number(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value


def _prices(values: Values) -> tuple[Price, ...]:
    return tuple(
        Price(p["usd"], p["provider"], p["kind"], p["region"], p["date"], p["source"]) for p in values["prices"]
    )


def kernels(table: Values) -> dict[str, dict[str, KernelEfficiency]]:
    """Kernel class to dtype to parameters, from an ``efficiency.kernels`` table."""
    return {
        kernel: {
            dtype: KernelEfficiency(
                k["compute"], k["memory"], k["overhead"], k["sharpness"],
                Provenance(k["source"], k["basis"], k["note"]),
            )
            for dtype, k in by_dtype.items()
        }
        for kernel, by_dtype in table.items()
    }  # fmt: skip


def _link(values: Values | None) -> Link | None:
    if values is None:
        return None
    return Link(values["name"], values["bandwidth"].value, _number(values["per_peer"]), values["links"])


def _memory(values: Values) -> MemoryLevel:
    marketed = values["marketed"].value
    return MemoryLevel(
        name=values["name"],
        kind=values["kind"],
        capacity=values["capacity"].value if values["capacity"] else marketed,
        bandwidth=_number(values["bandwidth"]),
        marketed_capacity=marketed,
    )


def _only_if(path: Path, faults: list[str]) -> None:
    if faults:
        raise CatalogueError(f"{path}:1: {fault}" for fault in faults)


def accelerator_faults(values: Values, path: Path) -> list[str]:
    """What no single field can tell: the file's name, and a device memory that is complete."""
    faults = []
    if values["id"] != path.stem:
        faults.append(f"id {values['id']!r} is not the file name {path.stem!r}")
    first = values["memory"][0] if values["memory"] else None
    if first is None or first["kind"] != "device" or not first["capacity"] or not first["bandwidth"]:
        faults.append("memory must begin with the device memory, with capacity and bandwidth")
    if not values["peak_flops"]:
        faults.append("peak_flops lists no dtype")
    return faults


def accelerator(values: Values, path: Path) -> Accelerator:
    """An accelerator from the checked values of its file."""
    _only_if(path, accelerator_faults(values, path))
    links = values["links"]
    efficiency = values["efficiency"] or {"kernels": {}}
    return Accelerator(
        id=values["id"],
        name=values["name"],
        vendor=values["vendor"],
        efficiency_class=values["efficiency_class"],
        device_is=values["device_is"],
        devices_per_package=values["devices_per_package"],
        peak_flops={dtype: figure.value for dtype, figure in values["peak_flops"].items()},
        vector_flops=_number(values["vector_flops"]),
        sparse_factor=dict(values["sparse_factor"]),
        memory=tuple(_memory(level) for level in values["memory"]),
        scale_up=_link(links.get("scale_up")),
        host=_link(links.get("host")),
        power=_number(values["power"]),
        year=values["year"],
        status=values["status"],
        default_system=values["default_system"],
        aliases=values["aliases"],
        kernels=kernels(efficiency["kernels"]),
        prices=_prices(values),
        conflicts=values["conflicts"],
        provenance=dict(provenance(values)),
    )


def _fabric(values: Values | None) -> Fabric | None:
    if values is None:
        return None
    return Fabric(
        name=values["name"],
        topology=values["topology"],
        bandwidth=values["bandwidth"].value,
        per_peer=_number(values["per_peer"]),
        domain=values["domain"],
        axes=values["axes"],
        in_network_reduction=values["in_network_reduction"],
    )


def system_faults(values: Values, path: Path) -> list[str]:
    """What no single field of a system can tell."""
    faults = []
    if values["id"] != path.stem:
        faults.append(f"id {values['id']!r} is not the file name {path.stem!r}")
    up = values["scale_up"]
    if up and up["topology"] == "torus" and not up["axes"]:
        faults.append("scale_up: a torus needs axes")
    if up and up["axes"] and math.prod(up["axes"]) != up["domain"]:
        faults.append(f"scale_up.axes multiply to {math.prod(up['axes'])}, domain is {up['domain']}")
    for name in ("scale_up", "scale_out"):
        fabric = values[name]
        if fabric and fabric["per_peer"] and fabric["per_peer"].value > fabric["bandwidth"].value:
            faults.append(f"{name}.per_peer exceeds the whole bandwidth")
    return faults


def system(values: Values, path: Path) -> System:
    """A system from the checked values of its file."""
    _only_if(path, system_faults(values, path))
    return System(
        id=values["id"],
        name=values["name"],
        accelerator=values["accelerator"],
        devices_per_node=values["devices_per_node"],
        scale_up=_fabric(values["scale_up"]),
        scale_out=_fabric(values["scale_out"]),
        host_memory=_number(values["host_memory"]),
        provider=values["provider"],
        aliases=values["aliases"],
        prices=_prices(values),
        conflicts=values["conflicts"],
        provenance=dict(provenance(values)),
    )


def generic_system(chip: Accelerator) -> System:
    """A node of eight made by rule: joined by the chip's own links, else by its host link; no fabric beyond.

    Everything about it but the link's rate is an assumption, and ``provenance`` says so.
    """
    assumed = Provenance("rule for chips without a described node", "assumed", "eight devices a node, one node")
    own, host = chip.scale_up, chip.host
    fabric = None
    if own is not None:
        fabric = Fabric(own.name, "mesh" if own.per_peer else "switched", own.bandwidth, own.per_peer, GENERIC_NODE)
    elif host is not None:
        fabric = Fabric(host.name, "pcie", host.bandwidth, host.bandwidth, GENERIC_NODE)
    return System(
        id=f"generic-{chip.id}",
        name=f"{chip.name}, {GENERIC_NODE if fabric else 1} a node (assumed)",
        accelerator=chip.id,
        devices_per_node=GENERIC_NODE if fabric else 1,
        scale_up=fabric,
        scale_out=None,
        provenance={"scale_up": assumed, "devices_per_node": assumed},
    )
