"""What the facts of a framework come to in a training run: widths on the network, copies of logits, ZeRO as it is held.

The facts themselves are data, ``planner/catalogue/frameworks.yaml``; no name of a framework stands in the cost model.
"""

from __future__ import annotations

import numpy as np

from planner.cost.adapters import FUSED, STEPWISE, Adapters
from planner.cost.layouts import Layouts
from planner.cost.runs import TrainingRun
from planner.demand.costs import Routing
from planner.demand.ops import Array, Op

# Passes over routed tokens of a sort in separate kernels over those of a fused one: SimuMax measures the permutation
# around an all-to-all at 0.19 of bandwidth where an ordinary kernel reaches 0.91 (configs/system/a100_pcie.json), 4.8
# passes and not 2. https://github.com/MooreThreads/SimuMax
UNFUSED_SORT = 0.91 / 0.19 / 2.0


def routing(run: TrainingRun) -> Routing:
    """How routed tokens are moved beside the exchange."""
    passes = run.dispatcher.permutes * (UNFUSED_SORT if run.moe_kernels == "unfused" else 1.0)
    return Routing(passes, one_hot=run.dispatcher.one_hot, fused_experts=run.moe_kernels == "fused")


def plain_experts(run: TrainingRun) -> bool:
    """Whether experts run at the rate of a plain matmul: slots of fixed capacity are a batched one, and fused kernels
    keep the rate for all experts of a rank, gate and cast included (fused GEMM + SwiGLU grouped MLP,
    https://github.com/NVIDIA/TransformerEngine/releases/tag/v2.14)."""
    return run.moe_kernels == "fused" or run.dispatcher.one_hot


def expert_load(run: TrainingRun) -> float:
    """Rows of the busiest expert rank over the mean: what capacity pads every expert to, where there is one."""
    return run.capacity_factor or run.imbalance


def adapters(run: TrainingRun) -> Adapters | None:
    """The adapters that a run trains, or none."""
    if not run.lora_rank:
        return None
    groups = ("attention",) if run.lora_targets == "attention" else ("attention", "mlp")
    return Adapters(groups, STEPWISE if unfused(run) else FUSED)


def attention_kernels(run: TrainingRun) -> str:
    """Generation of attention kernels: the one named, else the framework's."""
    named = {"flash-2": "flash-2", "flash-3": "native", "cudnn": "native"}
    return named.get(run.attention, run.framework.attention_kernels)


def unfused(run: TrainingRun) -> bool:
    """Whether vector operators run step by step."""
    return run.framework.unfused_vectors and not run.compiled


def gathered_bytes(run: TrainingRun, width: float) -> float:
    """Width of a weight or an activation that a matmul's ranks gather [byte], ``width`` where nothing is said."""
    return min(1.0, width) if run.precision.compute in run.framework.gathers_in else width


def exchanged_gradient_bytes(run: TrainingRun) -> float:
    """Width of a gradient on the network [byte]: the accumulator's, or the activation's where gradients are reduced as
    matmuls wrote them and widened after."""
    wide = run.precision.bytes_of("grad")
    return min(wide, run.precision.bytes_of("activation")) if run.framework.reduces_in_activation_dtype else wide


def logit_bytes(run: TrainingRun) -> float:
    """What one logit takes with its copies and gradients [byte]; a fused loss keeps it and its gradient."""
    width = run.precision.bytes_of("activation")
    if run.loss == "fused":
        return 2.0 * width
    return run.framework.logit_copies * width + run.framework.fp32_logit_copies * 4.0


def accumulation_bytes(run: TrainingRun) -> float:
    """What adding a micro-batch's gradient to the accumulator moves in a kernel of its own [byte a parameter].

    Matmuls that accumulate as they write have none. Else what autograd wrote is written, read, and the accumulator
    read and written.
    """
    moved = 2.0 * run.precision.bytes_of("activation") + 2.0 * run.precision.bytes_of("grad")
    return moved * run.framework.accumulates_apart


def copied_weight_bytes(run: TrainingRun) -> float:
    """What narrow copies of a trained weight take beyond the 16 bits it counts with [byte a parameter].

    Matmuls read a weight by row forward and by column backward; two 8-bit copies stand in its place, two of 4 bits
    beside it.
    """
    width = run.precision.bytes_of("compute")
    if not run.framework.holds_both_usages or width >= 2.0 or run.lora_rank:
        return 0.0
    return max(2.0 * width - (2.0 if width >= 1.0 else 0.0), 0.0)


def saved_input_width(run: TrainingRun) -> float:
    """Width of a matmul's saved input over the activation's."""
    narrow = run.precision.bytes_of("compute") / run.precision.bytes_of("activation")
    return min(narrow, 1.0) if run.framework.saves_compute_width else 1.0


def repeats_modules(run: TrainingRun) -> bool:
    """Whether selective recomputation repeats modules, and not whatever a policy has not saved."""
    return run.modules_named or not run.framework.saved_matmuls


def saved_share(op: Op, run: TrainingRun) -> float:
    """Part of a matmul's outputs that the policy of the framework saves, 0 to 1."""
    return run.framework.saved_matmuls["attention" if op.group == "attention" else "mlp"]


def held_zero_stage(x: Layouts, run: TrainingRun) -> Array:
    """ZeRO stage by which a rank holds weights and gradients during the step, shape (n,).

    Under a pipeline gradients are kept whole from the first micro-batch to the last, so that they are exchanged once a
    step: stage 2 is stage 1 (DeepSpeed refuses it, https://github.com/deepspeedai/DeepSpeed/issues/823). Frameworks
    that keep weights gathered too make stage 3 stage 1.
    """
    whole = (x.zero_stage == 2) | ((x.zero_stage == 3) & run.framework.keeps_gathered_under_pipeline)
    return np.where((x.pp > 1) & whole, 1, x.zero_stage)
