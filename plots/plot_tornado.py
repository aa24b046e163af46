"""What a decode step hangs on: Llama 3.1 70B on eight H100."""

from _gallery import estimate, write

from planner.planning.sensitivity import sensitivity
from planner.present.figures import tornado_figure

step = estimate(
    task="decode",
    model="llama-3.1-70b",
    hardware="h100-sxm5-80gb",
    tp=8,
    batch=16,
    input_len=2048,
    output_len=512,
)
figure = tornado_figure(
    sensitivity(step),
    title="What the time of a decode step hangs on",
    subtitle="Llama 3.1 70B on 8 × H100 SXM5 80GB, tp 8, 16 sequences; each figure changed by 20 %",
)
write(figure, "tornado")
