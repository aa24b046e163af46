"""Roofline of a training step: Llama 3.1 8B on eight H100, ZeRO 3."""

from _gallery import estimate, roofline, write

step = estimate(
    task="train",
    model="llama-3.1-8b",
    hardware="h100-sxm5-80gb",
    devices=8,
    zero_stage=3,
    global_batch=16,
    seq_len=8192,
)
figure = roofline(
    step,
    title="Training is compute bound: Llama 3.1 8B on 8 × H100 SXM5 80GB",
    subtitle="bf16, ZeRO 3, 16 sequences of 8,192 tokens a step",
)
write(figure, "roofline_train")
