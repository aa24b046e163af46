"""Best step time over tensor and pipeline parallel sizes: Llama 3.1 70B on 64 H100."""

from _gallery import write

from planner.planning.landscape import landscape
from planner.present.figures import heatmap_figure
from planner.scenario.keys import parse_scenario
from planner.scenario.resolve import resolve_run

scenario = parse_scenario(
    {
        "task": "train",
        "model": "llama-3.1-70b",
        "hardware": "h100-sxm5-80gb",
        "devices": 64,
        "global_batch": 256,
        "seq_len": 4096,
        "cp": 1,
        "zero_stage": 1,
    }
)
figure = heatmap_figure(
    landscape(resolve_run(scenario), scenario, by=("tp", "pp")),
    title="Llama 3.1 70B on 64 × H100 80GB: best step time",
    subtitle="dp fills the rest; best of all micro-batches, interleavings and recompute modes under ZeRO 1",
)
write(figure, "heatmap")
