"""What a run is, apart from its layout: one type for training, one for inference; a job joins it with all the rest."""

from __future__ import annotations

from dataclasses import dataclass

from planner.catalogue.dispatchers import Dispatcher
from planner.catalogue.engines import Engine
from planner.catalogue.frameworks import Framework
from planner.cost.layouts import Layouts
from planner.cost.schedules import SCHEDULES, Schedule
from planner.demand.costs import AttentionKind
from planner.demand.ops import Array
from planner.demand.optimizer import Optimizer
from planner.demand.transformer import Demand
from planner.demand.workload import Precision
from planner.supply.cluster import Cluster

Terms = dict[str, Array]
ONCE_A_RANK = Dispatcher("", "a token once a rank")  # where no framework says
HEADROOM = 0.75  # of four runs that a search takes to fit, one may run out of memory: a choice, not a figure


@dataclass(frozen=True)
class TrainingRun:
    """Everything about a training run that is not the layout.

    Attributes
    ----------
    seq_len, precision, optimizer
    framework : whose kernels, checkpointing and pipeline sends
    attention : flash, a generation of it, cudnn or eager
    schedule : of the pipeline
    offload : what lives in host memory, one of ``OFFLOADS``
    overlap_dp : whether data-parallel communication hides behind compute
    overlap_tp : which part of tensor-parallel communication does: none, backward or all
    overlap_ep : whether the exchange with experts hides behind the compute of another micro-batch
    context_exchange : how context parallelism moves keys and values: ring, all_gather or all_to_all
    compiled : whether kernels are fused by a compiler, or replayed
    imbalance : load of the busiest expert rank over the mean
    capacity_factor : rows that every expert computes over the mean, padded or dropped to it; 0 drops nothing
    dispatcher : how tokens reach experts
    moe_kernels : generation of the kernels around experts: unfused, permute or fused
    encoder_len : tokens of the encoder's sequence
    lora_rank : of the adapters that are trained instead of the weights, 0 for none
    lora_targets : weights that have adapters: all matrices but experts, or those of attention
    recompute_modules : what selective recomputation repeats, names of ``recompute.MODULES``
    modules_named : whether they were asked for; else frameworks with a policy of their own follow that
    loss : eager, fused or chunked cross-entropy, which decides what logits take
    headroom : chance of fitting that a search asks of a layout
    expandable_segments : whether the allocator's segments serve blocks of every size
    first_stage_layers, last_stage_layers : of a pipeline, 0 where layers are dealt evenly
    """

    seq_len: int
    precision: Precision
    optimizer: Optimizer
    framework: Framework
    dispatcher: Dispatcher = ONCE_A_RANK
    moe_kernels: str = "permute"
    attention: AttentionKind = "flash"
    schedule: Schedule = SCHEDULES["1f1b"]
    offload: str = "none"
    overlap_dp: bool = True
    overlap_tp: str = "none"
    overlap_ep: bool = False
    context_exchange: str = "ring"
    compiled: bool = False
    imbalance: float = 1.0
    capacity_factor: float = 0.0
    encoder_len: int = 0
    lora_rank: int = 0
    lora_targets: str = "all"
    recompute_modules: tuple[str, ...] = ("core_attn",)
    modules_named: bool = False
    loss: str = "eager"
    headroom: float = HEADROOM
    expandable_segments: bool = False
    first_stage_layers: int = 0
    last_stage_layers: int = 0

    @property
    def end_layers(self) -> tuple[int, int]:
        """Layers of the first and the last stage, 0 where they are dealt evenly."""
        return self.first_stage_layers, self.last_stage_layers

    @property
    def offloads_activations(self) -> bool:
        """Whether activations live in host memory between the passes."""
        return self.offload.endswith("activations")

    @property
    def offloads_parameters(self) -> bool:
        """Whether weights, gradients and optimizer state live off the device."""
        return self.offload.startswith(("parameters", "nvme"))

    @property
    def offloads_optimizer(self) -> bool:
        """Whether optimizer state lives off the device."""
        return self.offload.startswith("optimizer") or self.offloads_parameters


@dataclass(frozen=True)
class InferenceRun:
    """Everything about an inference run that is not the layout; lengths in tokens, ``batch`` sequences in all.

    ``phase`` is the pass whose time answers: prefill, or decode for one more token over the cache. ``steady`` is
    serving: requests arrive as others end, and a step pays for their prefill too. ``memory_fraction`` is the share
    that the engine manages; ``token_budget``, ``max_num_seqs`` bound a step and ``max_model_len`` a sequence, 0 where
    nothing does; ``request_slots`` bounds the requests in flight of a replica.
    ``latent_cache`` says how latent attention is cached, absorbed or expanded. ``rate`` requests a second
    arrive on their own, 0 where ``batch`` clients ask again and again, ``requests`` in all (0: without end).
    ``admission_steps`` decode steps a prompt is held back in the mean.
    """

    precision: Precision
    batch: int
    input_len: int
    output_len: int
    engine: Engine
    phase: str = "decode"
    steady: bool = False
    attention: AttentionKind = "flash"
    imbalance: float = 1.0
    encoder_len: int = 0
    memory_fraction: float = 1.0
    token_budget: int = 0
    max_model_len: int = 0
    max_num_seqs: int = 0
    latent_cache: str = "absorbed"
    rate: float = 0.0
    requests: int = 0
    admission_steps: float = 0.0
    request_slots: int = 0
    headroom: float = HEADROOM

    @property
    def mean_context(self) -> float:
        """Cached tokens that a decode step reads on average: in the middle of the output."""
        return self.input_len + self.output_len / 2.0

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that must have room."""
        return self.max_model_len or self.input_len + self.output_len


@dataclass(frozen=True)
class Job:
    """A typed run of a model on a cluster, in one layout or in many: all that the cost model takes."""

    demand: Demand
    cluster: Cluster
    layout: Layouts
    run: TrainingRun | InferenceRun
