"""Roofline of a decode step: Llama 3.1 8B on one H100."""

from _gallery import estimate, roofline, write

step = estimate(
    task="decode",
    model="llama-3.1-8b",
    hardware="h100-sxm5-80gb",
    devices=1,
    batch=16,
    input_len=2048,
    output_len=512,
)
figure = roofline(
    step,
    title="Decode is memory bound: Llama 3.1 8B on one H100 SXM5 80GB",
    subtitle="bf16, 16 sequences with 2,304 tokens each in the cache",
)
write(figure, "roofline_decode")
