"""Operators of feed-forward blocks: dense and mixture of experts."""

from __future__ import annotations

from planner.catalogue.schema import Mlp, Moe
from planner.demand.ops import UNFUSED_GATE, Op


def mlp_ops(mlp: Mlp, *, hidden: int, prefix: str = "mlp") -> list[Op]:
    """Dense feed-forward block; saved: its input (whole), the activation's inputs and the down input (over tp)."""
    up = mlp.width * (2 if mlp.gated else 1)
    return [
        Op(f"{prefix}.up", "mlp", "matmul", "column", k=hidden, n=up, bias=mlp.bias * up, saved_whole=hidden),
        Op(f"{prefix}.act", "mlp", "vector", "tensor", bias=mlp.extra_parameters, read=up, write=mlp.width,
           unfused=UNFUSED_GATE * mlp.width * (up > mlp.width), saved=up),
        Op(f"{prefix}.down", "mlp", "matmul", "row", k=mlp.width, n=hidden,
           bias=(mlp.bias or mlp.down_bias) * hidden, saved=mlp.width),
    ]  # fmt: skip


def moe_ops(moe: Moe, *, hidden: int) -> list[Op]:
    """Mixture of experts under balanced routing: router, dispatch, grouped matmuls, combine, shared block.

    Launches are the operators of Megatron-LM without its optional fusions (megatron/core/transformer/moe: router.py,
    moe_utils.py, legacy_a2a_token_dispatcher.py, https://github.com/NVIDIA/Megatron-LM), those without a gradient as a
    third, since a pass back is counted as two forward. Router, 11 + 14/3: gate, top k, softmax, cast, scatter and the
    balancing loss; its maps and counts. Dispatch, 9 + 14/3: gather tokens and probabilities, two exchanges, sort both
    by expert; count tokens for the host, sort the map. Combine, 4 + 1/3: sort, exchange, add up; an empty result.
    Fused kernels leave 4, 4 and 2 of them: gate, top k with scores, balancing loss and its counts; layout, dispatch,
    sort, counts; sort and combine (--moe-router-fusion, --moe-permute-fusion and the flex dispatcher, same place).

    A token makes ``top_k`` rows. Experts are divided over the ep ranks, an expert's inner width over the etp ranks that
    share it, and rows over the tp / etp groups of those, as Megatron-Core's parallel folding does,
    https://arxiv.org/abs/2504.14960
    """
    width = moe.latent_dim or hidden
    up = moe.width * (2 if moe.gated else 1)
    rows, experts = float(moe.top_k), float(moe.experts)
    router = moe.router or (("router", hidden, moe.experts),)
    ops = [Op(f"moe.{name}", "mlp", "matmul", "sequence", k=k, n=n) for name, k, n in router[:-1]]
    name, k, n = router[-1]
    ops.append(
        Op(f"moe.{name}", "mlp", "matmul", "sequence", k=k, n=n, bias=moe.router_parameters,
           saved_whole=hidden + 2 * moe.experts, launches=16, fused_launches=12)
    )  # fmt: skip
    if moe.latent_dim:
        ops.append(Op("moe.latent_down", "mlp", "matmul", "sequence", k=hidden, n=width, saved_whole=hidden))
    ops += [
        Op("moe.one_hot", "mlp", "matmul", "sequence", slots=rows, slot_width=width, launches=0),
        Op("moe.dispatch", "mlp", "vector", "routed", sorted_read=width * rows, sorted_write=width * rows, launches=14,
           fused_launches=10),
        Op("moe.up", "experts", "grouped_matmul", "expert_column", k=width, n=up, rows=rows, experts=experts,
           bias=moe.bias * up * experts, saved_whole=width * rows),
        Op("moe.act", "mlp", "vector", "routed_width", read=up * rows, write=moe.width * rows,
           unfused=UNFUSED_GATE * moe.width * rows * moe.gated, saved_whole=up * rows),
        Op("moe.down", "experts", "grouped_matmul", "expert_row", k=moe.width, n=width, rows=rows, experts=experts,
           bias=moe.bias * width * experts, saved_whole=moe.width * rows),
        Op("moe.combine", "mlp", "vector", "routed", sorted_read=width * rows, sorted_write=width, launches=4,
           fused_launches=2),
    ]  # fmt: skip
    if moe.idle:
        ops.append(
            Op(
                "moe.idle",
                "experts",
                "grouped_matmul",
                "expert_column",
                k=width,
                n=up,
                rows=0.0,
                experts=float(moe.idle),
            )
        )
    if moe.latent_dim:
        ops.append(Op("moe.latent_up", "mlp", "matmul", "sequence", k=width, n=hidden, saved_whole=width))
    if moe.shared is not None:
        ops += mlp_ops(moe.shared, hidden=hidden, prefix="moe.shared")
    if moe.shared_gate:
        ops.append(Op("moe.shared_gate", "mlp", "matmul", "sequence", k=hidden, n=1.0))
    return ops
