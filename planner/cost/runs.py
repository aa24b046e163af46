"""What a training run is, apart from its layout."""

from __future__ import annotations

from dataclasses import dataclass

from planner.cost.schedules import SCHEDULES, Schedule
from planner.demand.costs import AttentionKind
from planner.demand.ops import Array
from planner.demand.optimizer import Optimizer
from planner.demand.workload import Precision

Terms = dict[str, Array]


@dataclass(frozen=True)
class TrainingRun:
    """Everything about a training run that is not the layout.

    Attributes
    ----------
    seq_len, precision, optimizer
    attention : flash, flash-1 or eager
    schedule : of the pipeline
    offload : none, optimizer or activations
    overlap_dp : whether data-parallel communication hides behind compute
    overlap_tp : which part of tensor-parallel communication does: none, backward or all
    overlap_ep : whether the exchange with experts hides behind the compute of another micro-batch
    context_exchange : how context parallelism moves keys and values: ring, all_gather or all_to_all
    compiled : whether kernels are fused by a compiler, or replayed
    imbalance : load of the busiest expert rank over the mean
    encoder_len : tokens of the encoder's sequence
    framework : megatron, megatron-deepspeed, torch or jax: whose kernels, checkpointing and pipeline sends
    lora_rank : of the adapters that are trained instead of the weights, 0 for none
    recompute_modules : what selective recomputation repeats, names of ``recompute.MODULES``
    modules_named : whether they were asked for; else frameworks with a policy of their own follow that
    loss : eager, fused or chunked cross-entropy, which decides what logits take
    """

    seq_len: int
    precision: Precision
    optimizer: Optimizer
    attention: AttentionKind = "flash"
    schedule: Schedule = SCHEDULES["1f1b"]
    offload: str = "none"
    overlap_dp: bool = True
    overlap_tp: str = "none"
    overlap_ep: bool = False
    context_exchange: str = "ring"
    compiled: bool = False
    imbalance: float = 1.0
    encoder_len: int = 0
    framework: str = "megatron"
    lora_rank: int = 0
    recompute_modules: tuple[str, ...] = ("core_attn",)
    modules_named: bool = False
    loss: str = "eager"

    @property
    def unfused(self) -> bool:
        """Whether vector operators run step by step: eager PyTorch. Megatron-LM and XLA have them fused."""
        return self.framework == "torch" and not self.compiled


def gathered_bytes(run: TrainingRun, width: float) -> float:
    """Width of a weight or an activation that a matmul's ranks gather [byte], ``width`` where nothing is said.

    torchao casts to float8 first, weights for FSDP as activations for tensor parallelism
    (https://github.com/pytorch/torchtitan, docs/float8.md). Megatron-LM gathers 16 bits unless asked
    (``--fp8-param-gather``).
    """
    return min(1.0, width) if run.framework == "torch" and run.precision.compute == "fp8" else width
