"""Roofs of several accelerators in bf16: peak, memory bandwidth and the ridge between them."""

from _gallery import write

from planner.cost.roofs import device_roofs
from planner.demand.workload import Precision
from planner.present.figures import roofs_figure
from planner.scenario.names import cluster_of

CHIPS = (
    "b200-sxm-180gb",
    "mi355x-288gb",
    "h100-sxm5-80gb",
    "mi300x-192gb",
    "tpu-v5p-95gb",
    "a100-sxm4-80gb",
    "l40s-48gb",
)
clusters = {chip: cluster_of(chip, 1) for chip in CHIPS}
figure = roofs_figure(
    {c.accelerator.name: device_roofs(c, Precision()) for c in clusters.values()},
    title="Where each chip turns from memory bound to compute bound",
    subtitle="datasheet values of one device: dense bf16 and device memory",
)
write(figure, "roofs_compared")
