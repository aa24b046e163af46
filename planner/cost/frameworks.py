"""What a run that names no framework is taken to be, and what each framework does unless it is told otherwise."""

from __future__ import annotations

from planner.catalogue.hardware import Accelerator
from planner.demand.workload import Precision
from planner.precision import DTYPES
from planner.scenario.keys import Value

XLA_CLASSES = ("google-tpu", "aws-neuron")
# XLA compiles for Trainium too, but Neuron's training libraries derive from Megatron-LM: that selective recomputation
# repeats the attention core there too is an assumption.
MEGATRON_MODULES = ("aws-neuron",)
# Formats with a scale a block. Recipes in nvfp4 turn Transformer Engine's overlap off
# (https://github.com/NVIDIA-NeMo/Megatron-Bridge, perf_recipes of Qwen3). In mxfp8 it works with limits: scales go by
# blocking collectives, output gradients not behind weight gradients
# (https://github.com/NVIDIA/TransformerEngine/pull/1711); that it gains nothing is an assumption.
BLOCK_SCALED = ("mxfp8", "mxfp4", "nvfp4")
# What the estimate says of a framework that was not given.
WHY_FRAMEWORK = {
    "jax": "what compiles for the chip",
    "torch": "torch where zero_stage is 3",
    "megatron-deepspeed": "unfused attention beside ZeRO 1 or 2",
    "megatron": "torch where zero_stage is 3",
}


def default_framework(chip: Accelerator, zero_stage: int, attention: str = "flash") -> str:
    """TPUs and Trainium run what XLA compiles; elsewhere FSDP is PyTorch's and the other ZeRO stages Megatron-LM's.

    Unfused attention beside ZeRO 1 or 2 is taken for DeepSpeed's pipeline engine, as in BLOOM's and GPT-NeoX's runs: an
    assumption, which the estimate says.
    """
    if chip.efficiency_class in XLA_CLASSES:
        return "jax"
    if zero_stage == 3:
        return "torch"
    return "megatron-deepspeed" if attention == "eager" and zero_stage > 0 else "megatron"


def default_gradients(framework: str, precision: Precision) -> str:
    """Dtype that gradients are accumulated and reduced in: as activations in fp16, else fp32; Megatron Core beside
    8- and 4-bit matmuls bf16, as the recipes that NeMo and Megatron-Bridge benchmark with have it
    (``grad_reduce_in_fp32 = False``, https://github.com/NVIDIA-NeMo/Megatron-Bridge, scripts/performance)."""
    if precision.activation == "fp16":
        return "fp16"
    narrow = DTYPES[precision.compute].bytes < 2 and precision.activation == "bf16"
    return "bf16" if narrow and framework == "megatron" else "fp32"


def settings_of_layout(chip: Accelerator, framework: str, compute: str, sequence_parallel: bool) -> dict[str, Value]:
    """What a framework does by default: Megatron-LM pipelines tensor-parallel traffic with its matmuls under sequence
    parallelism on chips whose library offers it, and elsewhere exchanges input gradients behind weight gradients (its
    asynchronous tensor-parallel all-reduce). PyTorch leaves it exposed unless asked
    (``enable_async_tensor_parallel``, https://github.com/pytorch/torchtitan), as do DeepSpeed and XLA. PyTorch is taken
    with fused kernels, by ``torch.compile`` or written so; Megatron-LM has the fused ones, and launches each."""
    pipelined = chip.efficiency_class in ("nvidia-hopper", "nvidia-blackwell") and compute not in BLOCK_SCALED
    overlap = "none" if framework != "megatron" else "all" if pipelined and sequence_parallel else "backward"
    return {"framework": framework, "overlap_tp": overlap, "compiled": framework == "torch"}
