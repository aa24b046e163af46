"""The roofs over a roofline: what one device and its links offer at most, and what kernels reach of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.cost.kernels import attention_dtype, rates
from planner.cost.runs import InferenceRun, Job
from planner.demand.ops import KERNELS
from planner.demand.workload import Precision
from planner.supply.accelerator import vector_flops
from planner.supply.cluster import Cluster, fabric_kind
from planner.supply.collectives import collective_efficiency
from planner.supply.efficiency import kernel_efficiency

VECTOR = "vector"


@dataclass(frozen=True)
class Roof:
    """One ceiling.

    Attributes
    ----------
    name : str                      what is written on the line: ``bf16``, ``HBM3``, ``NVLink4``
    kind : str                      compute (horizontal), memory, cache or link (slopes)
    value : float                   datasheet value, [FLOP/s] or [byte/s]; links one way per device
    achievable : float or None      what kernels reach of it; None where nothing is known
    main : bool                     whether the run in question uses it
    dtype : str                     dtype of a compute roof, else empty
    """

    name: str
    kind: str
    value: float
    achievable: float | None
    main: bool
    dtype: str = ""


def roofs(job: Job) -> list[Roof]:
    """Ceilings over a job's points: what a long run holds for training and prefill, what a burst reaches for decode.

    Serving has points of both, and where the two differ a roof in prefill beside each that it uses.
    """
    run = job.run
    if not isinstance(run, InferenceRun) or run.phase != "decode":
        return device_roofs(job.cluster, run.precision)
    found = device_roofs(job.cluster, run.precision, sustained=False)
    if not run.steady:
        return found
    held = device_roofs(job.cluster, run.precision)
    return found + [replace(r, name=f"{r.name} in prefill") for r in held
                    if r.kind == "compute" and r.main and r not in found]  # fmt: skip


def device_roofs(cluster: Cluster, precision: Precision, *, sustained: bool = True) -> list[Roof]:
    """Ceilings of one device of a cluster.

    Parameters
    ----------
    cluster : Cluster
    precision : Precision           whose compute and attention dtypes are the main roofs
    sustained : bool                hold compute to what the power limit lets a long run reach

    Returns
    -------
    list of Roof                    compute roofs, highest first, then memory, caches and links

    Notes
    -----
    Achievable values are those of matmuls; the kernel model's own value is used for each point.
    """
    return [
        *_compute_roofs(cluster, precision, sustained),
        *_memory_roofs(cluster, precision),
        *_link_roofs(cluster),
    ]


def _compute_roofs(cluster: Cluster, precision: Precision, sustained: bool) -> list[Roof]:
    chip = cluster.accelerator
    used = {precision.compute, attention_dtype(precision, cluster)}
    out = []
    for dtype, peak in chip.peak_flops.items():
        plain = replace(precision, compute=dtype, sparsity="none")
        found = rates(cluster, plain, direction="forward", sustained=sustained)
        reach = float(found.compute[KERNELS.index("matmul")])
        sparse = precision.sparsity == "2:4" and dtype == precision.compute
        if sparse:
            factor = chip.sparse_factor.get(dtype, 1.0)
            out.append(Roof(f"{dtype} 2:4", "compute", peak * factor, peak * factor * reach, True, f"{dtype} 2:4"))
        main = dtype in used and not (sparse and dtype != attention_dtype(precision, cluster))
        out.append(Roof(dtype, "compute", peak, peak * reach, main, dtype))
    name = "vector units" if chip.vector_flops is not None else "vector units (assumed)"
    out.append(Roof(name, "compute", vector_flops(chip), None, False, VECTOR))
    return sorted(out, key=lambda r: -r.value)


def _memory_roofs(cluster: Cluster, precision: Precision) -> list[Roof]:
    chip = cluster.accelerator
    reach = kernel_efficiency(chip, "matmul", precision.compute, defaults=cluster.efficiency).memory
    device, *caches = chip.memory
    out = [Roof(device.name, "memory", chip.bandwidth, chip.bandwidth * reach, True)]
    out += [Roof(c.name, "cache", c.bandwidth, None, False) for c in caches if c.bandwidth is not None]
    return out


def _link_roofs(cluster: Cluster) -> list[Roof]:
    """Slopes of the links that a device drives: FLOPs of a pass per byte it sends one way."""
    out = []
    for fabric, inside in ((cluster.system.scale_up, True), (cluster.system.scale_out, False)):
        if fabric is None:
            continue
        kind = fabric_kind(fabric, inside=inside)
        reach = collective_efficiency("all_gather", efficiency=cluster.efficiency, kind=kind).bandwidth
        used = cluster.devices > (1 if inside else cluster.domain)
        out.append(Roof(fabric.name, "link", fabric.bandwidth, fabric.bandwidth * reach, used))
    return out
