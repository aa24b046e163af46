"""Throughput over the number of devices: Llama 3.1 70B trained on H100, same batch."""

from _gallery import TODAY, write

from planner.planning.plan import make_plan
from planner.present.figures import scaling_figure

rows = []
for devices in (32, 64, 128, 256, 512, 1024, 2048):
    plan = make_plan(
        {
            "task": "train",
            "model": "llama-3.1-70b",
            "hardware": "h100-sxm5-80gb",
            "devices": devices,
            "cp": 1,
            "vpp": 1,
            "global_batch": 512,
            "seq_len": 4096,
        },
        top=1,
        today=TODAY,
    )
    if plan.best is not None:
        rows.append({"devices": devices, "tokens_per_s": plan.best.results["tokens_per_s"]})
figure = scaling_figure(
    rows,
    title="Strong scaling: Llama 3.1 70B on H100 SXM5 80GB",
    subtitle="512 sequences of 4,096 tokens a step at every size, the fastest layout that fits",
)
write(figure, "scaling")
