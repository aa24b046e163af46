"""Where the time of a training step goes: GPT-3 175B on 512 A100."""

from _gallery import estimate, write

from planner.present.figures import waterfall_figure

step = estimate(
    task="train",
    model="gpt3-175b",
    hardware="a100-sxm4-80gb",
    devices=512,
    tp=8,
    pp=8,
    global_batch=512,
    seq_len=2048,
    recompute="selective",
)
write(waterfall_figure(step, title="A training step of GPT-3 175B on 512 × A100 80GB"), "waterfall_train")
