"""Step time against memory: layouts of Llama 3.1 70B on 64 H100."""

from _gallery import write

from planner.planning.landscape import landscape
from planner.present.figures import pareto_figure
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
    }
)
rows = landscape(resolve_run(scenario), scenario, by=("tp", "pp", "zero_stage", "recompute", "micro_batch"))
figure = pareto_figure(
    rows,
    title="What speed costs in memory: Llama 3.1 70B on 64 × H100 80GB",
    subtitle="256 sequences of 4,096 tokens a step; a dot is the best interleaving; mb: micro-batch",
)
write(figure, "pareto")
