"""How much is to be trained: tokens as given, as steps of a batch, or as a scaling law has it for the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from planner.catalogue.economics import ScalingLaw, scaling_law
from planner.errors import BadInputError
from planner.scenario.keys import Value

# Tokens of a step where no batch is given: "global batch-size of 4M tokens", Touvron et al. 2023, Llama 2, table 1,
# https://arxiv.org/abs/2307.09288
DEFAULT_BATCH_TOKENS = 4 * 2**20


@dataclass(frozen=True)
class Amount:
    """What was asked for: exactly one of tokens, steps (of the largest batch) and a scaling law's name."""

    tokens: float | None = None
    steps: float | None = None
    law: str | None = None

    def __post_init__(self) -> None:
        given = [k for k, v in vars(self).items() if v is not None]
        if len(given) != 1:
            names = "tokens, steps and compute_optimal"
            said = " and ".join("compute_optimal" if g == "law" else g for g in given) or "none"
            raise BadInputError(f"{names}: {said} given; one of them is due, because each says how much is trained")
        if 0 in (self.tokens, self.steps):
            raise BadInputError(f"{given[0]}: 0 given; a run trains on something")


def refuse_inference(scenario: Mapping[str, Value], hardware: str) -> None:
    """Sizes are of training; the error has the command that answers for another task."""
    task = scenario["task"]
    if task == "train":
        return
    given = {k: v for k, v in scenario.items() if k not in ("model", "hardware", "devices")}
    words = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in given.items())
    raise BadInputError(f"task: {task} given, but size is for training; what so many devices do in {task} is said by: "
                        f"planner plan {scenario.get('model', 'MODEL')} {hardware} {words} --devices N")  # fmt: skip


def optimal_tokens(law: ScalingLaw, parameters: float) -> float:
    """Tokens on which a model of so many parameters is trained where compute is spent best.

    (β·B·N^α/(α·A))^(1/β), where the loss falls as fast by parameters as by tokens, or a constant a parameter.
    """
    if law.tokens_per_parameter:
        return law.tokens_per_parameter * parameters
    return float((law.beta * law.B * parameters**law.alpha / (law.alpha * law.A)) ** (1.0 / law.beta))


def tokens_of(amount: Amount, *, parameters: float, batch: int, seq_len: int) -> tuple[float, str]:
    """Tokens that are to be trained on, and where they are from; ``batch`` [sequences] is what ``steps`` are of."""
    if amount.tokens is not None:
        return amount.tokens, ""
    if amount.steps is not None:
        return amount.steps * batch * seq_len, f"{amount.steps:,.0f} steps of {batch:,} sequences of {seq_len:,}"
    law = scaling_law(str(amount.law))
    size = f"{parameters / 1e9:.3g} billion parameters a token"
    return optimal_tokens(law, parameters), f"compute-optimal for {size} by {law.name} ({law.source})"


def steps_for(tokens: float, *, batch: int, seq_len: int) -> int:
    """Whole steps that train on at least so many tokens."""
    return ceil(tokens / (batch * seq_len))
