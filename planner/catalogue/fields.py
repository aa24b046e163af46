"""The fields of hardware files, as data: what ``hardware/README.md`` prints and what the reader checks."""

from __future__ import annotations

from collections.abc import Iterable

from planner.catalogue.reader import BASES, Field, field_table
from planner.precision import DTYPE_NAMES

CLASSES = (
    "nvidia-volta", "nvidia-turing", "nvidia-ampere", "nvidia-ampere-consumer", "nvidia-ada", "nvidia-hopper",
    "nvidia-blackwell", "nvidia-blackwell-consumer", "amd-cdna1", "amd-cdna2", "amd-cdna3", "amd-cdna4",
    "amd-rdna", "google-tpu", "aws-neuron", "intel-gaudi", "intel-gpu", "huawei-ascend", "apple-silicon",
)  # fmt: skip
TOPOLOGIES = ("switched", "mesh", "torus", "pcie", "ring", "none")
EVERYWHERE = 1_048_576  # devices a scale-out fabric joins where a file does not say

ID = Field("id", "text", "lower case, `<chip>-<form>-<memory>`; the file name without `.yaml`", required=True)
NAME = Field("name", "text", "for people", required=True)
ALIASES = Field(
    "aliases", "texts",
    "other names, on one line; none is needed for words in another order, nor for a part that is unique",
    default=(),
)  # fmt: skip
SOURCES = Field("sources", "table", "short citation of each source, by key", required=True, item=Field("", "text"))
CONFLICTS = Field("conflicts", "texts", "other values seen and where, a sentence each", default=())
PRICE_FIELDS = (
    Field("usd", "quantity", "for one device, as software sees one", unit="USD/hour", required=True),
    Field("provider", "text", "who asks it", required=True),
    Field(
        "kind",
        "choice",
        "how it is sold",
        required=True,
        keys=("on-demand", "spot", "reserved", "marketplace"),
    ),
    Field("region", "text", "where, if it depends on that", default=""),
    Field("date", "date", "when it was seen", required=True),
    Field("source", "source", "a key under `sources`", required=True),
)
PRICES = Field("prices", "sections", "dated observations", fields=PRICE_FIELDS, default=())

# above 1 where a clock exceeds its sheet, or a cache carries what is counted as memory traffic
HIGHEST_FRACTION = 2.0
# 1 adds the two times, 100 takes the larger; below 0.1 a sum of two equal times is a thousand of them
SHARPNESS = Field("sharpness", "number", "exponent r of the soft maximum", required=True, least=0.1, most=100)
KERNEL = Field(
    "", "section",
    fields=(
        Field("compute", "number", "fraction of peak FLOP/s", required=True, most=HIGHEST_FRACTION),
        Field("memory", "number", "fraction of peak bandwidth", required=True, most=HIGHEST_FRACTION),
        Field("overhead", "quantity", "launch term t_0", unit="s", required=True),
        SHARPNESS,
        Field("source", "source", "a key under `sources`", required=True),
        Field("basis", "choice", "measured or assumed, never mixed into the peak", keys=BASES, required=True),
        Field("note", "text", "conditions", default=""),
    ),
)  # fmt: skip
KERNELS = Field(
    "kernels", "table", "kernel class, then dtype (or `default`)",
    item=Field("", "table", keys=(*DTYPE_NAMES, "default"), item=KERNEL), default={},
)  # fmt: skip
EFFICIENCY = Field("efficiency", "section", "measured on this very part; else the class speaks", fields=(KERNELS,))

LINK_FIELDS = (
    Field("name", "text", "e.g. NVLink4", required=True),
    Field("bandwidth", "figure", "one way, all links of the device together", unit="byte/s", required=True),
    Field("per_peer", "figure", "one way, to one neighbour, where that is less", unit="byte/s"),
    Field("bidirectional", "figure", "both ways, as printed; twice `bandwidth`", unit="byte/s"),
    Field("links", "integer", "number of links"),
)
MEMORY_FIELDS = (
    Field("name", "text", "HBM3, L2, ...", required=True),
    Field("kind", "choice", "the device memory comes first", keys=("device", "cache"), required=True),
    Field("shared", "flag", "unified memory, of which the host keeps a part", default=False),
    Field("marketed", "figure", "capacity as printed", unit="byte", required=True),
    Field("capacity", "figure", "what a program can allocate; caches leave it out", unit="byte"),
    Field("bandwidth", "figure", "peak; required of the device memory", unit="byte/s"),
)
VECTOR_UNIT_FIELDS = (
    Field("lanes", "integer", "fp32 lanes of the device", required=True),
    Field("clock", "figure", "clock of the printed vector peak", unit="Hz", required=True),
    Field("flops_per_lane", "integer", "a clock; 2 for one fused multiply-add", default=2, most=64),
)
WAIVE_FIELDS = (
    Field("check", "text", "the name the check gives itself", required=True),
    Field("reason", "text", "why the chip truly breaks it", required=True),
)

ACCELERATOR_FIELDS = (
    ID,
    NAME,
    Field("vendor", "text", "the name of the folder", required=True),
    ALIASES,
    Field("efficiency_class", "choice", "asked for what nobody measured here", keys=CLASSES, required=True),
    Field("device_is", "choice", "what software sees", keys=("package", "die", "core"), required=True),
    Field("devices_per_package", "integer", "devices of a package as sold; 1 unless stated", default=1, most=64),
    Field("year", "integer", "first shipped", least=1990, most=2100),
    Field("status", "choice", "released unless stated", keys=("released", "announced"), default="released"),
    Field("default_system", "text", "the system meant where only the chip is named"),
    Field(
        "peak_flops", "table", "dense, matrix unit, fp32 accumulate; what is absent is unsupported",
        required=True, keys=DTYPE_NAMES, item=Field("", "figure", unit="FLOP/s"),
    ),
    Field("vector_flops", "figure", "fp32 outside the matrix unit", unit="FLOP/s"),
    Field("vector_unit", "section", "for the check against `vector_flops`", fields=VECTOR_UNIT_FIELDS),
    Field(
        "sparse_factor", "table", "sparse peak over the dense one",
        keys=DTYPE_NAMES, item=Field("", "number", least=1, most=16), default={},
    ),
    Field("memory", "sections", "device memory, then caches", fields=MEMORY_FIELDS, required=True),
    Field(
        "links", "section", "the device's own attachments",
        fields=(
            Field("scale_up", "section", "to its peers", fields=LINK_FIELDS),
            Field("host", "section", "to the host", fields=LINK_FIELDS),
        ),
        default={},
    ),
    Field("power", "figure", "board or module limit of one device", unit="W"),
    EFFICIENCY,
    CONFLICTS,
    Field(
        "checks", "section", "for `planner check`",
        fields=(Field("waive", "sections", "checks it breaks", fields=WAIVE_FIELDS, default=()),),
    ),
    PRICES,
    SOURCES,
)  # fmt: skip

FABRIC_FIELDS = (
    Field("name", "text", "e.g. NVLink4 + NVSwitch", required=True),
    Field("topology", "choice", "what joins them", keys=TOPOLOGIES, required=True),
    Field("bandwidth", "figure", "one way per device, all its links", unit="byte/s", required=True),
    Field("per_peer", "figure", "one way to a single peer", unit="byte/s"),
    Field("domain", "integer", "devices it joins; a scale-out fabric may leave it out", default=EVERYWHERE),
    Field("axes", "integers", "torus axes", default=()),
    Field("in_network_reduction", "flag", "the switch sums (NVLink SHARP)", default=False),
)
SYSTEM_FIELDS = (
    ID,
    NAME,
    ALIASES,
    Field("accelerator", "text", "id of an accelerator", required=True),
    Field("devices_per_node", "integer", "devices that share a host", required=True),
    Field("scale_up", "section", "joins the devices of a domain", fields=FABRIC_FIELDS),
    Field("scale_out", "section", "joins domains; without it one domain is all", fields=FABRIC_FIELDS),
    Field("host_memory", "figure", "of a node", unit="byte"),
    Field("provider", "text", "the cloud that rents it, as in `prices`; only its prices are then taken", default=""),
    CONFLICTS,
    PRICES,
    SOURCES,
)


def markdown_table(fields: Iterable[Field]) -> str:
    """The fields as the Markdown table of ``hardware/README.md``."""
    columns = ("field", "type", "unit", "range", "required", "description")
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in field_table(fields):
        cells = [f"`{row['field']}`", *(row[c].replace("|", "\\|") for c in columns[1:])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def filled(readme: str) -> str:
    """``hardware/README.md`` with its field tables as the schema has them."""
    for name, fields in (("accelerator", ACCELERATOR_FIELDS), ("system", SYSTEM_FIELDS)):
        start = f"<!-- {name} fields -->\n"
        before, _, rest = readme.partition(start)
        _, end, after = rest.partition("<!-- end -->")
        readme = before + start + markdown_table(fields) + end + after
    return readme
