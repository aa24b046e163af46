"""How the weights of a run are stored: the model's own quantization, the one that is asked for, or a plain dtype."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from planner.catalogue.formats import Quantization, find_format, requantized
from planner.catalogue.models import load_model
from planner.catalogue.schema import Model
from planner.errors import BadInputError
from planner.precision import DTYPES
from planner.scenario.keys import Value

OWN, PLAIN = "checkpoint", "none"


def model_name(given: Mapping[str, Value]) -> str:
    """The model's name, a GGUF repository's with the format that ``quantization`` or ``weight_dtype`` says."""
    name, dtype = str(given["model"]), given.get("weight_dtype")
    asked = given.get("quantization") or (None if dtype in DTYPES else dtype)
    bare = name.lower().endswith("-gguf") and asked is not None
    return f"{name}:{asked}" if bare else name


def stored_model(name: str, quantization: str | None, class_name: str | None = None) -> Model:
    """A model by name or path with its weights as ``quantization`` says, or as it carries them."""
    given: dict[str, Value] = {"model": name}
    if quantization:
        given["quantization"] = quantization
    return stored_as(load_model(model_name(given), class_name=class_name), given, "forward")[0]


def stored_as(model: Model, given: Mapping[str, Value], task: str) -> tuple[Model, dict[str, Value]]:
    """The model with its weights as the run stores them, and the scenario with the dtype that its matmuls see.

    ``quantization`` is a name of ``formats.yaml``, ``checkpoint`` (as the model carries it) or ``none``;
    ``weight_dtype`` may say a GGUF format too. A plain ``weight_dtype`` other than the checkpoint's own takes its
    place, and 2:4 sparsity thins plain weights. Training without adapters updates 16-bit weights, whatever the
    checkpoint.

    Raises
    ------
    BadInputError
        An unknown format, two that contradict each other, a quantization of weights that are trained or sparse.
    """
    own, dtype = model.quantization, given.get("weight_dtype")
    asked = str(given["quantization"]).strip().lower() if "quantization" in given else None
    if dtype is not None and dtype not in DTYPES:
        if asked is not None and (asked in (OWN, PLAIN) or find_format(asked) != find_format(str(dtype))):
            raise BadInputError(f"weight_dtype: {dtype} given beside quantization {asked}; say one of them")
        asked, dtype = str(dtype), None
    chosen = own
    if asked is not None:
        chosen = _asked(asked, model, own)
    elif own is not None and (task == "train" or dtype not in (None, own.dtype) or _sparse(given)):
        chosen = None
    if chosen is None:
        plain = own.wide if own is not None and asked is not None else model.weight_dtype
        told = _in_place_of(own, "16-bit weights are trained" if task == "train" else "plain weights")
        return replace(model, quantization=None, weight_dtype=plain, assumed=(*model.assumed, *told)), dict(given)
    _refuse(chosen, given, task, dtype)
    told = _in_place_of(own, f"weights as {chosen.name}") if chosen != own else ()
    return (replace(model, quantization=chosen, weight_dtype=chosen.dtype, assumed=(*model.assumed, *told)),
            {**given, "weight_dtype": chosen.dtype, "quantization": chosen.name})  # fmt: skip


def _in_place_of(own: Quantization | None, what: str) -> tuple[str, ...]:
    return (f"{what}, in place of the checkpoint's own {own.name}",) if own is not None else ()


def _asked(name: str, model: Model, own: Quantization | None) -> Quantization | None:
    if name == PLAIN:
        return None
    if name == OWN:
        if own is None:
            raise BadInputError(f"quantization: {model.id} carries none of its own; say a format, as in q4_k_m or fp8")
        return own
    return requantized(find_format(name), own, model.weight_dtype)


def _refuse(chosen: Quantization, given: Mapping[str, Value], task: str, dtype: Value | None) -> None:
    if task == "train" and not int(given.get("lora_rank", 0)):
        raise BadInputError(f"quantization: {chosen.name} weights are not trained; give lora_rank, or compute_dtype")
    if dtype not in (None, chosen.dtype):
        raise BadInputError(f"weight_dtype: {dtype} given beside quantization {chosen.name}, which is {chosen.dtype}")
    if _sparse(given):
        raise BadInputError(f"sparsity: {given['sparsity']} weights are stored plain, not as {chosen.name}; "
                            "give weight_dtype, or quantization none")  # fmt: skip


def _sparse(given: Mapping[str, Value]) -> bool:
    return given.get("sparsity", "none") != "none"


def said(model: Model) -> str:
    """The quantization of a run as it can be given again."""
    q = model.quantization
    if q is None:
        return PLAIN
    try:
        named = find_format(q.name)
    except BadInputError:
        return OWN
    return q.name if q.mix or replace(named, wide=q.wide) == q else OWN
