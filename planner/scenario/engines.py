"""How an engine is set up where the scenario doesn't say: its own defaults, which depend on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.catalogue.engines import Engine
from planner.catalogue.hardware import Accelerator
from planner.catalogue.schema import Model
from planner.demand.cache import caches_latents
from planner.demand.transformer import demand
from planner.errors import BadInputError
from planner.scenario.keys import Value


def engine_settings(
    given: Mapping[str, Value], task: str, model: Model, chip: Accelerator, engine: Engine, length: int
) -> dict[str, Any]:
    """Fields of an inference run that say how the engine divides memory; ``length`` [tokens] is the run's sequence.

    ``max_model_len`` follows the run, not the longest that the model allows, which is what engines take by default.
    """
    if task == "forward":
        return {"memory_fraction": 1.0}
    memory = engine.memory
    tier = memory.tier(chip.id, chip.capacity)
    longest = int(given.get("max_model_len", length))
    if longest < length:
        raise BadInputError(f"max_model_len: {longest} given, but input_len + output_len is {length}")
    tokens, sequences = (tier.token_budget, tier.max_num_seqs) if tier else (0, 0)
    tokens = int(given.get("token_budget", max(tokens, longest) if longest <= memory.whole_prompts else tokens))
    sequences = int(given.get("max_num_seqs", sequences))
    ranks = int(given.get("tp", 1)) * int(given.get("pp", 1))
    fraction = memory.default_fraction(chip.capacity, tokens=tokens, sequences=sequences, ranks=ranks)
    return {
        "memory_fraction": float(given.get("memory_fraction", fraction)), "token_budget": tokens,
        "max_num_seqs": sequences,
        "request_slots": int(given.get("max_num_seqs", 0 if engine.steps.unbounded else sequences)),
        "max_model_len": longest, "latent_cache": _latent_cache(given, model),
    }  # fmt: skip


def _latent_cache(given: Mapping[str, Value], model: Model) -> str:
    kind = str(given.get("latent_cache", "absorbed"))
    if kind == "expanded" and not caches_latents(demand(model)):
        raise BadInputError(f"latent_cache: expanded given, but {model.id} has no latent that an engine expands; "
                            "allowed: absorbed")  # fmt: skip
    return kind
