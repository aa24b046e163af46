"""Parallel axes as groups of ranks: how many, how far apart, and how many scale-up domains they reach over.

Ranks are placed innermost first: tp, cp, dp, pp. Experts fold over the tp·cp·dp ranks of a stage, the ranks that share
one innermost (https://arxiv.org/abs/2504.14960). Whatever is exchanged along an axis asks here which ranks exchange it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.cost.layouts import Layouts
from planner.demand.ops import Array
from planner.supply.cluster import Cluster, domains_spanned, ranks_inside


@dataclass(frozen=True)
class Group:
    """Members r, r + stride, r + 2·stride, … of every layout, shape (n,)."""

    ranks: Array
    stride: Array

    def inside(self, cluster: Cluster) -> Array:
        """Members that share one scale-up domain, shape (n,)."""
        return ranks_inside(self.ranks, self.stride, domain=cluster.domain)

    def domains(self, cluster: Cluster) -> Array:
        """Scale-up domains that the group reaches over, shape (n,)."""
        return domains_spanned(self.ranks, self.stride, domain=cluster.domain)

    def span(self) -> Array:
        """Devices from the first member to the last, shape (n,)."""
        return (self.ranks - 1) * self.stride + 1

    def spread(self, like: Array) -> Group:
        """The group as columns beside an array of shape (n, m)."""
        return Group(self.ranks[:, None] + 0 * like, self.stride[:, None] + 0 * like)


def tensor_group(x: Layouts) -> Group:
    """Ranks that share a layer's matrices."""
    return Group(x.tp, np.ones(len(x)))


def context_group(x: Layouts) -> Group:
    """Ranks that share a sequence."""
    return Group(x.cp, x.tp)


def data_group(x: Layouts) -> Group:
    """Ranks that see other sequences, one of each replica."""
    return Group(x.dp, x.tp * x.cp)


def expert_group(x: Layouts) -> Group:
    """Ranks that hold different experts of a layer."""
    return Group(x.ep, x.etp)


def shared_expert_group(x: Layouts) -> Group:
    """Ranks that share each expert of a layer."""
    return Group(x.etp, np.ones(len(x)))


def shares_experts_apart(x: Layouts) -> Array:
    """Layouts whose experts are shared by other ranks than those that share the rest of a layer, shape (n,)."""
    return np.asarray((x.etp > 1) & (x.etp != x.tp))


def stage_group(x: Layouts) -> Group:
    """Ranks that hold the stages of a pipeline."""
    return Group(x.pp, x.tp * x.cp * x.dp)


def gradient_group(x: Layouts, *, copies: int = 1) -> Group:
    """Ranks that hold the same dense parameters: data and context parallel ones, times the ``copies`` of a schedule."""
    return Group(copies * x.dp * x.cp, x.tp)


def expert_gradient_group(x: Layouts, *, copies: int = 1) -> Group:
    """Ranks that hold the same experts, times the ``copies`` of a schedule."""
    return Group(np.floor(copies * x.expert_dp), x.etp * x.ep)


AXES = {"tp": tensor_group, "cp": context_group, "dp": data_group, "pp": stage_group, "ep": expert_group,
        "etp": shared_expert_group}  # fmt: skip
