"""What a run is taken to be where its owner doesn't say, and why; an estimate says each of these."""

from __future__ import annotations

from planner.catalogue.classes import Execution
from planner.catalogue.dispatchers import Dispatcher, dispatcher
from planner.catalogue.frameworks import Framework, framework
from planner.demand.workload import Precision
from planner.precision import DTYPES
from planner.scenario.keys import Value

# Formats with a scale a block. Recipes in nvfp4 turn Transformer Engine's overlap off
# (https://github.com/NVIDIA-NeMo/Megatron-Bridge, perf_recipes of Qwen3). In mxfp8 it works with limits: scales go by
# blocking collectives, output gradients not behind weight gradients
# (https://github.com/NVIDIA/TransformerEngine/pull/1711); that it gains nothing is an assumption.
BLOCK_SCALED = ("mxfp8", "mxfp4", "nvfp4")


def default_framework(execution: Execution, zero_stage: int) -> Framework:
    """TPUs and Trainium run what XLA compiles; elsewhere FSDP, ZeRO 3, is PyTorch's and the other stages Megatron-LM's,
    whoever chose the stage."""
    if execution.compiled:
        return framework("jax")
    return framework("torch" if zero_stage == 3 else "megatron")


def default_expert_tensor(*, experts: int, tp: int, ep: int) -> int:
    """Ranks that share one expert where ``etp`` is not given: those of tensor parallelism, or one where experts are
    divided over ranks already.

    Without ep, experts are split like every other matrix: Megatron-LM (``--expert-tensor-parallel-size`` is
    ``--tensor-model-parallel-size`` unless given, https://github.com/NVIDIA/Megatron-LM, parallel_state.py), torchtitan
    (tensor parallelism where ``expert_parallel_degree`` is 1), MaxText (``mlp_moe`` lies on the tensor axis,
    configs/base.yml), vLLM (https://docs.vllm.ai/en/latest/serving/expert_parallel_deployment), SGLang, and
    TensorRT-LLM, where it is the default pattern (https://nvidia.github.io/TensorRT-LLM/0.21.0/advanced/expert-parallelism.html).
    With ep, experts are whole: torchtitan's ``expert_tensor_parallel_degree`` is 1, vLLM's expert parallelism leaves no
    tensor parallelism inside, and recipes for Megatron-LM set 1, though tp stays its own default. Replicas are engines
    of their own; vLLM's data-parallel attention, whose experts form one group of dp·tp ranks, is etp = dp·tp
    (https://docs.vllm.ai/en/latest/serving/data_parallel_deployment).
    """
    return tp if experts and ep == 1 else 1


def default_gradients(used: Framework, precision: Precision, *, masters: bool = True) -> str:
    """Dtype that gradients are accumulated and reduced in: as activations in fp16 and where no
    fp32 weights are kept, else fp32; beside 8- and 4-bit matmuls what the framework's recipes take."""
    if precision.activation == "fp16" or not masters:
        return precision.activation
    narrow = DTYPES[precision.compute].bytes < 2 and precision.activation == "bf16"
    return used.narrow_grad_dtype if narrow else "fp32"


def settings_of_layout(
    execution: Execution, used: Framework, compute: str, sequence_parallel: bool
) -> dict[str, Value | Framework | Dispatcher]:
    """What a framework does by default: Megatron-LM pipelines tensor-parallel traffic with its matmuls under sequence
    parallelism on chips whose library offers it, and elsewhere exchanges input gradients behind weight gradients (its
    asynchronous tensor-parallel all-reduce). PyTorch leaves it exposed unless asked
    (``enable_async_tensor_parallel``, https://github.com/pytorch/torchtitan), as do DeepSpeed and XLA. PyTorch is taken
    with fused kernels, by ``torch.compile`` or written so; Megatron-LM has the fused ones, and launches each."""
    pipelined = execution.pipelined_exchange and compute not in BLOCK_SCALED
    overlap = used.overlap_tp
    if overlap == "pipelined":
        overlap = "all" if pipelined and sequence_parallel else "backward"
    return {"framework": used, "overlap_tp": overlap, "compiled": used.compiled,
            "dispatcher": dispatcher(used.dispatcher)}  # fmt: skip
