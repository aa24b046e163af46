"""Days and cost over the number of devices: Llama 2 13B on 2 T tokens, within 30 days, on three kinds of hardware."""

from _gallery import TODAY, write

from planner.planning.asked import asked
from planner.planning.outlook import DAY
from planner.planning.size import size_training
from planner.present.figures import size_figure
from planner.present.sizing import outlook_row

question = asked({"tokens": "2T", "deadline": "30d", "budget": "500k", "devices": "32..8192"})
found = size_training(
    {"model": "llama-2-13b", "vpp": 1, "cp": 1}, ["dgx-h100", "dgx-b200", "mi300x-platform"], question, today=TODAY
)
limits = question.limits
assert limits.deadline is not None
figure = size_figure(
    {s.hardware: [outlook_row(o, limits) for o in s.curve] for s in found.sized},
    picked={s.hardware: s.cheapest.devices for s in found.sized if s.cheapest is not None},
    deadline=limits.deadline / DAY,
    budget=limits.budget,
    title="How many devices: Llama 2 13B on 2 T tokens",
    subtitle="at most 4M tokens a step; the best layout of every count, failures included, 90 % of runs shaded",
)
write(figure, "size")
