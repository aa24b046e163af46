"""Keys that stand in place of the hardware's own figures, and the words that say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields

from planner.scenario.keys import Value, amount
from planner.supply.cluster import Cluster
from planner.supply.overrides import Overrides
from planner.units import format_gib, format_quantity

OVERRIDES = tuple(f.name for f in fields(Overrides))


def overrides(given: Mapping[str, Value]) -> Overrides:
    """What a scenario gives of the hardware, in base units."""
    return Overrides(
        network_bandwidth=amount(given, "network_bandwidth"),
        network_latency=amount(given, "network_latency"),
        oversubscription=float(given["oversubscription"]) if "oversubscription" in given else None,
        domain=int(given["domain"]) if "domain" in given else None,
        memory_capacity=amount(given, "memory_capacity"),
        price=amount(given, "price"),
        price_kind=str(given["price_kind"]) if "price_kind" in given else None,
    )


def override_notes(given: Mapping[str, Value], own: Cluster, devices: int, domain: int) -> Iterator[str]:
    """Each figure that is given beside that of the hardware's ``own``; the price is told with its use.

    ``domain`` is that of the cluster as given, of ``devices``.
    """
    network = own.system.scale_out
    unused = "" if devices > domain else f"; {devices} devices in a domain of {domain} do not use it"
    joined = f"{own.system.id} has " + (format_quantity(network.bandwidth, "byte/s") if network else "no network")
    words = {
        "network_bandwidth": joined + unused,
        "network_latency": f"a message, in place of the fitted steps{unused}",
        "oversubscription": f"divides the network's bandwidth beyond a domain{unused}",
        "domain": f"{own.system.id} has {own.domain}",
        "memory_capacity": f"{own.accelerator.id} has {format_gib(own.accelerator.capacity)}",
    }
    for key, instead in words.items():
        if key in given:
            yield f"{key} = {given[key]} (given; {instead})"
