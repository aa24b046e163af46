"""Operators of feed-forward blocks: dense and mixture of experts."""

from __future__ import annotations

from planner.catalogue.schema import Mlp, Moe
from planner.demand.ops import UNFUSED_GATE, Op

# Passes over the routed tokens of dispatch and combine: sort, gather, pad, scatter. SimuMax measures the permutation
# at 0.19 of bandwidth where an ordinary kernel reaches 0.91 (configs/system/a100_pcie.json), 4.8 passes; fused
# permutations, which newer releases run, need the 2 taken here. https://github.com/MooreThreads/SimuMax
PERMUTE_PASSES = 2.0


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

    Launches are those of Megatron-LM's all-to-all dispatcher (megatron/core/transformer/moe/, token_dispatcher.py and
    router.py, https://github.com/NVIDIA/Megatron-LM). Dispatch: 6 to permute, 2 exchanges, 4 to sort tokens and
    probabilities by expert, and a third of the 11 that count tokens, which have no gradient. Combine: 2 to sort, the
    exchange, 4 to add rows up. Router: gate, softmax, top k, two scatters, the balancing loss.

    A token makes ``top_k`` rows. Experts are divided over the ep ranks, rows over tp (experts are not split inside),
    the layout of Megatron-Core's parallel folding, https://arxiv.org/abs/2504.14960
    """
    width = moe.latent_dim or hidden
    up = moe.width * (2 if moe.gated else 1)
    rows, experts = float(moe.top_k), float(moe.experts)
    ops = [
        Op("moe.router", "mlp", "matmul", "sequence", k=hidden, n=moe.experts, bias=moe.router_parameters,
           saved_whole=hidden + 2 * moe.experts, launches=10),
    ]  # fmt: skip
    if moe.latent_dim:
        ops.append(Op("moe.latent_down", "mlp", "matmul", "sequence", k=hidden, n=width, saved_whole=hidden))
    ops += [
        Op("moe.dispatch", "mlp", "vector", "sequence", read=PERMUTE_PASSES * width * rows,
           write=PERMUTE_PASSES * width * rows, launches=16),
        Op("moe.up", "experts", "grouped_matmul", "expert", k=width, n=up, rows=rows, experts=experts,
           bias=moe.bias * up * experts, saved_whole=width * rows),
        Op("moe.act", "mlp", "vector", "sequence", read=up * rows, write=moe.width * rows,
           unfused=UNFUSED_GATE * moe.width * rows * moe.gated, saved_whole=up * rows),
        Op("moe.down", "experts", "grouped_matmul", "expert", k=moe.width, n=width, rows=rows, experts=experts,
           bias=moe.bias * width * experts, saved_whole=moe.width * rows),
        Op("moe.combine", "mlp", "vector", "sequence", read=PERMUTE_PASSES * width * rows,
           write=PERMUTE_PASSES * width, launches=7),
    ]  # fmt: skip
    if moe.latent_dim:
        ops.append(Op("moe.latent_up", "mlp", "matmul", "sequence", k=width, n=hidden, saved_whole=width))
    if moe.shared is not None:
        ops += mlp_ops(moe.shared, hidden=hidden, prefix="moe.shared")
    if moe.shared_gate:
        ops.append(Op("moe.shared_gate", "mlp", "matmul", "sequence", k=hidden, n=1.0))
    return ops
