"""The global constants of the training model: few, physical, the same for every model, chip and source.

Those marked *fitted* were chosen together, from a coarse grid, on the published steps of ``planner/validation``; chosen
without a source they change little, and that source's error grows from 8.5 to 9.9 % in the median. ``planner validate``
shows what they come to. Nothing here names a model, a chip or a source.
"""

from __future__ import annotations

# Synchronous devices wait for the slowest: GPUs of one node differ by 5 % and more in the same matmul
# (stas00/ml-engineering@744d01e, compute/accelerator), plus gaps between kernels and input. Fitted.
STRAGGLER = 1.1
# Passes element-wise operators make in PyTorch over what their fused form moves once: casts, copies, separate bias and
# residual kernels. Megatron-LM fuses them by hand and makes one. Fitted.
VECTOR_PASSES = 1.5
# CPU time an eager framework spends on one operator: Python, autograd bookkeeping, launches [s]. Fitted on small
# models that no roof explains.
LAUNCH_TIME = 52.0e-6
# Exponent of the soft maximum of launch time and device time. Fitted on the same models.
HOST_SHARPNESS = 5.0
# Kernels that unfused attention launches beyond the one of flash: scores, mask, softmax, dropout, values, transposes.
EAGER_LAUNCHES = 6.0
# Share of launches left once a compiler fuses or a CUDA graph replays them. Assumption.
COMPILED_SHARE = 0.25
# Part of tensor-parallel traffic still exposed when matmuls are pipelined with it. Fitted.
OVERLAPPED_TP = 0.15
# Traffic hidden behind compute takes SMs and bandwidth from it: the part of the hidden time that comes back. Fitted.
CONTENTION = 0.6
# Chips whose links are served by their own engines, beside the cores: there it comes back free.
DMA_CLASSES = ("google-tpu", "aws-neuron", "intel-gaudi")
