"""Where the time of a decode step goes: Llama 3.1 70B on four H100."""

from _gallery import estimate, write

from planner.present.figures import waterfall_figure

step = estimate(
    task="decode",
    model="llama-3.1-70b",
    hardware="h100-sxm5-80gb",
    tp=4,
    batch=32,
    input_len=2048,
    output_len=512,
)
write(waterfall_figure(step, title="A decode step of Llama 3.1 70B on 4 × H100 SXM5 80GB"), "waterfall_decode")
