"""Pipeline stages: which layers each holds, and how a layer's terms become a stage's.

Stages of the same content are one: ledgers have a column for each *kind* of stage, and remember how many there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.cost.kernels import slowest_of
from planner.cost.schedules import Placement, loop_placement
from planner.demand.ops import Array
from planner.demand.transformer import Demand
from planner.supply.cluster import Cluster


@dataclass(frozen=True)
class Stages:
    """Kinds of stages of a pipeline.

    Attributes
    ----------
    layers : (kind, section)        layers of each section on a stage
    first : (kind,)                 the earliest stage of each kind
    share : (kind,)                 part of the stages that are of a kind
    pace : (kind,)                  compute time over that on the slowest device of all, which kernels are timed at
    """

    layers: Array
    first: Array
    share: Array
    pace: Array

    def of(self, terms: Array) -> Array:
        """Terms of a layer of each section, (n, section), as terms of each kind of stage, (n, kind)."""
        return np.asarray(terms @ self.layers.T)

    def computed(self, terms: Array) -> Array:
        """The same of compute time, at the pace of a stage's own slowest device."""
        return np.asarray(terms @ (self.layers.T * self.pace))


def stages(
    d: Demand, cluster: Cluster, *, pp: int, vpp: int, placement: Placement = loop_placement,
    ends: tuple[int, int] = (0, 0),
) -> Stages:  # fmt: skip
    """The kinds of stages of a pipeline of ``pp`` stages of ``vpp`` chunks; ``ends`` as :func:`stage_sections` takes.

    A stage waits for the slowest of its own devices only, which matters where one stage is longer than the others.
    """
    counts = stage_counts(d, pp=pp, vpp=vpp, placement=placement, ends=ends)
    kinds, first, multiplicity = np.unique(counts, axis=0, return_index=True, return_counts=True)
    execution, n = cluster.efficiency.execution, cluster.devices
    own = [slowest_of(round(k * n / multiplicity.sum()), execution) for k in multiplicity]
    pace = np.array(own) / slowest_of(n, execution)
    return Stages(kinds, first, multiplicity / multiplicity.sum(), pace)


def stage_counts(
    d: Demand, *, pp: int, vpp: int, placement: Placement = loop_placement, ends: tuple[int, int] = (0, 0)
) -> Array:
    """Layers of each section on each stage, shape (pp, section); inputs with the first chunk, outputs with the last.

    A tower that is held but not run sits with the first chunk.
    """
    order = running_layers(d)
    counts = stage_sections(order, sections=len(d.sections), pp=pp, vpp=vpp, placement=placement, ends=ends)
    outer = placement(np.arange(pp)[:, None], np.array([0, pp * vpp - 1]), pp)
    running = set(order)
    for i, s in enumerate(d.sections):
        if s.role == "input":
            counts[:, i] = outer[:, 0]
        elif s.role == "output":
            counts[:, i] = outer[:, -1]
        elif i not in running:
            counts[:, i] = s.count * outer[:, 0]
    return counts


def running_layers(d: Demand) -> tuple[int, ...]:
    """Section of each layer that runs in the token path, in order; towers are held but not run."""
    return tuple(i for i in d.layer_sections if d.runs(d.sections[i]))


def stage_sections(
    order: tuple[int, ...], *, sections: int, pp: int, vpp: int, placement: Placement = loop_placement,
    ends: tuple[int, int] = (0, 0),
) -> Array:  # fmt: skip
    """Layers of each section on each stage, shape (pp, section).

    Layers are dealt in order to pp·vpp chunks as evenly as they go; a remainder goes to the middle chunks first,
    because the first and last chunk stand beside the embedding and the head. ``placement`` shares the chunks out. Where
    ``ends`` names the layers of the first or the last stage, the other stages are dealt what is left.
    """
    chunks = max(1, min(pp * vpp, len(order))) if vpp > 1 else pp
    stage = np.arange(chunks) % pp
    held_apart = {s: n for s, n in zip((0, pp - 1), ends, strict=True) if n}
    free = np.flatnonzero(~np.isin(stage, list(held_apart)))
    base, extra = divmod(len(order) - sum(held_apart.values()), max(len(free), 1))
    sizes = np.zeros(chunks, dtype=np.int64)
    sizes[free] = base
    for s, n in held_apart.items():
        sizes[stage == s] = n // vpp
    middle_first = free[np.argsort(np.abs(free - (chunks - 1) / 2.0), kind="stable")]
    sizes[middle_first[:extra]] += 1
    held = np.zeros((chunks, sections))
    np.add.at(held, (np.repeat(np.arange(chunks), sizes), np.asarray(order, dtype=np.int64)), 1.0)
    return np.asarray(placement(np.arange(pp)[:, None], np.arange(chunks), pp) @ held)
