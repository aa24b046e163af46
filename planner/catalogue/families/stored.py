"""The dtype that a checkpoint stores its weights in."""

from __future__ import annotations

from typing import Any

from planner.catalogue.families.config import Config

QUANTISED = {"fp8": "fp8", "mxfp4": "mxfp4", "fbgemm_fp8": "fp8", "awq": "int4", "gptq": "int4", "mxfp8": "mxfp8",
             "nvfp4": "nvfp4"}  # fmt: skip
DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "float": "fp32", "half": "fp16"}


def weight_dtype(c: Config, root: Config) -> str:
    """Dtype weights are stored in: from the quantisation if there is one, else the checkpoint's dtype."""
    for config in (root, c):
        config.read.update({"quantization_config", "compression_config"})
        found = _quantised(config.values.get("quantization_config") or config.values.get("compression_config"))
        if found:
            return found
    for config in (c, root):
        name = config.values.get("torch_dtype") or config.values.get("dtype")
        if isinstance(name, str) and name.removeprefix("torch.") in DTYPES:
            return DTYPES[name.removeprefix("torch.")]
    return "bf16"


def _quantised(section: Any) -> str:
    if not isinstance(section, dict):
        return ""
    method = section.get("quant_method")
    if method in ("awq", "gptq"):
        return "int8" if section.get("bits", section.get("w_bit", 4)) == 8 else "int4"
    if method == "bitsandbytes":
        return "int8" if section.get("load_in_8bit") else "int4"
    if method == "modelopt" or "quant_algo" in section:
        return {"NVFP4": "nvfp4", "FP8": "fp8"}.get(str(section.get("quant_algo")), "fp8")
    groups = section.get("config_groups")
    if isinstance(groups, dict) and groups:
        weights = next(iter(groups.values()))
        weights = weights.get("weights") if isinstance(weights, dict) else None
        if isinstance(weights, dict):
            bits, kind = str(weights.get("num_bits")), weights.get("type")
            return ({"8": "fp8", "4": "mxfp4"} if kind == "float" else {"8": "int8", "4": "int4"}).get(bits, "")
    return QUANTISED.get(str(method), "")
