"""Memory of GPT-3 175B on 64 A100 by what is recomputed in the backward pass."""

from _gallery import estimate, write

from planner.present.figures import memory_figure

runs = {
    label: estimate(
        task="train",
        model="gpt3-175b",
        hardware="a100-sxm4-80gb",
        devices=64,
        tp=8,
        pp=8,
        micro_batch=1,
        global_batch=64,
        seq_len=2048,
        recompute=recompute,
        attention="eager",
        compute_dtype="fp16",
    )
    for recompute, label in {"none": "no recompute", "selective": "selective", "full": "full"}.items()
}
figure = memory_figure(
    {label: run.memory for label, run in runs.items()},
    capacity=runs["no recompute"].resolved.cluster.accelerator.capacity,
    title="What recompute saves: GPT-3 175B on 64 × A100 80GB",
    subtitle="tp 8, pp 8, sequence parallel, unfused attention, one sequence of 2,048 tokens a micro-batch",
)
write(figure, "memory_recompute")
