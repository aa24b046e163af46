"""The columns of an answer, in their order, with their units and what they hold: the one list that files, tables and
the glossary are made from."""

from __future__ import annotations

from dataclasses import dataclass

from planner.scenario.keys import KEYS

MEMORY_PARTS = (
    "weights", "gradients", "optimizer", "activations", "working", "kv_cache", "logits", "fragmentation", "graphs",
    "communicators", "context", "unused",
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A result: its name, its unit (empty for text, counts and flags) and its definition."""

    name: str
    unit: str
    meaning: str


BESIDE = (
    Column("accelerator", "", "id of the chip that `hardware` stands for"),
    Column("resolved_model", "", "what `model` was understood as: an id, or an absolute path"),
    Column("resolved_hardware", "", "what `hardware` was understood as: the id of a system, or of a chip without one"),
)
RESULT_COLUMNS = (
    Column("step_time_s", "s", "one optimizer step; one forward pass (prefill, forward); one output token of every "
           "sequence (decode, serve)"),
    Column("step_time_low_s", "s", "lower end of its 90 % interval"),
    Column("step_time_high_s", "s", "upper end of its 90 % interval"),
    Column("tokens_per_s", "token/s", "tokens trained, read or generated, all devices"),
    Column("tokens_per_s_per_device", "token/s", "the same over the number of devices"),
    Column("model_flops_per_step", "FLOP", "model FLOPs of what `step_time_s` times"),
    Column("mfu", "share", "model FLOPs over time times peak"),
    Column("hfu", "share", "hardware FLOPs over time times peak"),
    Column("ttft_s", "s", "time to the first token; while serving with the wait for its turn, in the mean"),
    Column("ttft_low_s", "s", "lower end of its 90 % interval (serve)"),
    Column("ttft_high_s", "s", "upper end of its 90 % interval (serve)"),
    Column("ttft_p95_s", "s", "time to the first token that 95 % of the requests keep within (serve)"),
    Column("tpot_s", "s", "time per output token; while serving with its part of the prefills of arriving requests, in "
           "the mean"),
    Column("tpot_low_s", "s", "lower end of its 90 % interval (serve)"),
    Column("tpot_high_s", "s", "upper end of its 90 % interval (serve)"),
    Column("tpot_p95_s", "s", "time per output token that 95 % of the requests keep within (serve)"),
    Column("request_time_s", "s", "from the prompt to the last token: the first, and a step at the mean context for "
           "each other"),
    Column("requests_per_s", "request/s", "requests served, all replicas"),
    Column("requests_per_s_most", "request/s", "requests that could be served with every slot taken, all replicas"),
    Column("output_tokens_per_s", "token/s", "tokens generated, all sequences"),
    Column("output_tokens_per_s_low", "token/s", "lower end of its 90 % interval (serve)"),
    Column("output_tokens_per_s_high", "token/s", "upper end of its 90 % interval (serve)"),
    Column("tokens_per_s_per_user", "token/s", "tokens a second of one request once it has its first, one over "
           "`tpot_s`"),
    Column("in_flight", "request", "requests that hold a slot, all replicas"),
    Column("utilisation", "share", "of slots with clients, of `requests_per_s_most` at a rate; 1 and more is "
           "saturated"),
    Column("kv_use", "share", "part of the KV cache that requests in flight fill at half of their output"),
    Column("kv_cache_tokens", "token", "tokens that the pool has room for in sequences of `max_model_len`, all "
           "replicas"),
    Column("kv_cache_sequences", "sequence", "sequences of `max_model_len` that the pool has room for, all replicas"),
    Column("kv_pool_bytes", "byte", "the pool for the KV cache on the device with the least room"),
    Column("memory_peak_bytes", "byte", "what the fullest device holds"),
    *(Column(f"memory_{p}_bytes", "byte", f"the memory term `{p}`") for p in MEMORY_PARTS),
    Column("fits", "", "`yes`, `tight` or `no`: whether the peak fits a device, with a chance of 95 %, between, or "
           "below 5 %"),
    Column("fits_chance", "share", "the chance that it fits, by how far published peaks lay from their prediction"),
    Column("starts", "", "whether one sequence of `max_model_len` has room, without which an engine does not start"),
    Column("bound", "", "what the step spends most of, as below"),
    Column("usd_per_hour", "USD/h", "dated price of a device times the devices"),
    Column("usd_per_million_tokens", "USD", "that over the tokens of an hour"),
    Column("watts", "W", "rated power of the devices"),
    Column("joules_per_million_tokens", "J", "that over the output tokens of a second (serve)"),
    Column("error", "", "why there is no answer; empty where there is one"),
)  # fmt: skip
LAST = (
    Column("price_basis", "", "whose price it is, of which kind, seen when, and how old; empty where none is listed"),
    Column("assumed", "", "what was not given and had to be chosen, sentences joined by `; `"),
)
COLUMNS = tuple(c.name for c in RESULT_COLUMNS)
# What every answer has more than nothing of; other figures may be zero.
POSITIVE = ("mfu", "hfu", "memory_peak_bytes",
            *(c.name for c in RESULT_COLUMNS if c.unit in ("s", "token/s", "request/s", "FLOP")))  # fmt: skip
FIXED = (*KEYS, *(c.name for c in BESIDE), *(c for c in COLUMNS if c != "error"), *(c.name for c in LAST), "error")


def column_types() -> dict[str, str]:
    """``number``, ``flag`` or ``text`` of every fixed column, for files that have types."""
    kinds = {"int": "number", "float": "number", "bool": "flag"}
    keys = {k.name: kinds.get(k.kind, "text") for k in KEYS.values()}
    results = {c.name: "number" if c.unit else "text" for c in (*BESIDE, *RESULT_COLUMNS, *LAST)}
    return keys | results | {"starts": "flag"}
