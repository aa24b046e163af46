"""The dtype in which a checkpoint keeps the weights that no quantiser touched."""

from __future__ import annotations

from planner.catalogue.families.config import Config

DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "float": "fp32", "half": "fp16"}


def weight_dtype(c: Config, root: Config) -> str:
    """Dtype of the weights that no quantiser touched: the checkpoint's."""
    for config in (root, c):
        config.read.update({"quantization_config", "compression_config"})
    for config in (c, root):
        name = config.values.get("torch_dtype") or config.values.get("dtype")
        if isinstance(name, str) and name.removeprefix("torch.") in DTYPES:
            return DTYPES[name.removeprefix("torch.")]
    return "bf16"
