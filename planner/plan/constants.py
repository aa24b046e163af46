"""The global constants of the training model: few, physical, the same for every model, chip and source.

Those marked *fitted* were found together on the published steps of ``planner/validation`` (median absolute log
error, whole sources left out in turn); ``planner validate`` shows what they come to. Nothing here names a model,
a chip or a source.
"""

from __future__ import annotations

# Synchronous devices wait for the slowest: GPUs of one node differ by 5 % and more in the same matmul
# (stas00/ml-engineering@744d01e, compute/accelerator), plus gaps between kernels and input. Fitted.
STRAGGLER = 1.05
# Passes element-wise operators make over what their fused form would move once: casts, copies, separate bias,
# dropout and residual kernels; fewer in Megatron-LM, which fuses them by hand. Fitted.
VECTOR_PASSES = 1.25
VECTOR_PASSES_TORCH = 2.0
# CPU time an eager framework spends on one operator: Python, autograd bookkeeping, launches [s]. Fitted on small
# models that no roof explains.
LAUNCH_TIME = 52.0e-6
# Kernels that unfused attention launches beyond the one of flash: scores, mask, softmax, dropout, values, transposes.
EAGER_LAUNCHES = 6.0
# Share of launches left once a compiler fuses or a CUDA graph replays them. Assumption.
COMPILED_SHARE = 0.25
# Part of tensor-parallel traffic still exposed when matmuls are pipelined with it. Fitted.
OVERLAPPED_TP = 0.3
# Traffic hidden behind compute takes SMs and bandwidth from it: the part of the hidden time that comes back. Fitted.
CONTENTION = 0.4
# Chips whose links are served by their own engines, beside the cores: there it comes back free.
DMA_CLASSES = ("google-tpu", "aws-neuron", "intel-gaudi")
