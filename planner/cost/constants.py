"""The global constants of the training model: few, physical, the same for every model, chip and source.

Those marked *fitted* were chosen together, by coordinate descent, on the published steps of ``planner/validation``,
every source weighing as the root of its rows. ``planner validate`` shows what they come to. None is of one model or
chip; comments name those that a figure was measured on.
"""

from __future__ import annotations

# Spread of the speed of equal devices, over its mean: a synchronous step waits for the slowest of n normal draws.
# Not fitted: of 222 A100s training a ResNet and of V100s in SGEMM the slowest of 64 lies 7 to 11 % below the mean, 9 in
# the middle, and the slowest of 64 normal draws 2.34 spreads (hal-uw/blox-pal@1a26bbf, aggregated_data). Their own
# spread is 0.020 and 0.016, with a tail heavier than normal. Left free, published steps choose 0.039.
DEVICE_SPREAD = 0.09 / 2.34
# CPU time an eager framework spends on one operator: Python, autograd bookkeeping, launches [s]. Fitted on small
# models that no roof explains.
LAUNCH_TIME = 55.0e-6
# Kernels that unfused attention launches beyond the one of flash: scores, mask, softmax, dropout, values, transposes.
EAGER_LAUNCHES = 6.0
# Share of launches left once a compiler fuses or a CUDA graph replays them. Assumption.
COMPILED_SHARE = 0.25
# Part of tensor-parallel traffic still exposed when matmuls are pipelined with it. Fitted.
OVERLAPPED_TP = 0.22
# Part of the time of hidden traffic that is paid all the same. Data-parallel exchange takes cores and bandwidth from
# compute for as long as it runs, comes in bursts, waits for late peers, and shows with its first and last bucket; so
# does what crosses domains. Fitted: steps of FSDP on one node exceed their compute much as on many. A tensor-parallel
# exchange inside a domain, behind a weight gradient, takes nothing: the fit puts its part at 0.
CONTENTION = 0.65
# Part of the time of expert exchange hidden behind compute that is taken from it: its kernels hold 20 of 132
# multiprocessors (DeepSeek-V3, https://arxiv.org/abs/2412.19437, section 3.2.2). Published, not fitted.
HIDDEN_EXCHANGE_SHARE = 20.0 / 132.0
# Modes of recomputation; a layout holds the index.
RECOMPUTE = ("none", "selective", "full")
# What is run.
TASKS = ("train", "prefill", "decode", "serve", "forward")
# What may live in host memory: optimizer state; weights, gradients and optimizer state (``parameters``), or those on
# disks (``nvme``); activations beside any of them.
OFFLOADS = ("none", "optimizer", "activations", "parameters", "nvme", "optimizer+activations", "parameters+activations",
            "nvme+activations")  # fmt: skip
