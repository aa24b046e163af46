"""Roofline of a prefill: Llama 3.1 8B on one H100."""

from _gallery import estimate, roofline, write

prompt = estimate(task="prefill", model="llama-3.1-8b", hardware="h100-sxm5-80gb", devices=1, batch=1, input_len=4096)
figure = roofline(
    prompt,
    title="Prefill is compute bound: Llama 3.1 8B on one H100 SXM5 80GB",
    subtitle="bf16, one prompt of 4,096 tokens",
)
write(figure, "roofline_prefill")
