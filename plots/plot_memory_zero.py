"""Memory of Llama 3.1 70B on 64 A100 under the four ZeRO stages."""

from _gallery import estimate, write

from planner.present.figures import memory_figure

STAGES = {0: "no ZeRO", 1: "ZeRO 1: optimizer", 2: "ZeRO 2: + gradients", 3: "ZeRO 3: + weights"}
runs = {
    label: estimate(
        task="train",
        model="llama-3.1-70b",
        hardware="a100-sxm4-80gb",
        devices=64,
        tp=8,
        zero_stage=stage,
        framework="megatron",  # one framework's activations under every stage
        recompute="selective",
        micro_batch=1,
        global_batch=64,
        seq_len=4096,
    )
    for stage, label in STAGES.items()
}
figure = memory_figure(
    {label: run.memory for label, run in runs.items()},
    capacity=runs["no ZeRO"].resolved.cluster.accelerator.capacity,
    title="What ZeRO saves: Llama 3.1 70B on 64 × A100 80GB",
    subtitle="tp 8, dp 8, Megatron-LM, selective recompute, micro-batches of one sequence of 4,096 tokens, AdamW",
)
write(figure, "memory_zero")
