"""adapter_config.json: what PEFT says of its adapters."""

import json
import re
from pathlib import Path
from typing import Any

from zoo.errors import InputError

CONFIG = "adapter_config.json"
STARTS = (True, False, "gaussian", "eva")
"""Of `init_lora_weights`: those that leave the model's own weights as they are."""
PASSED_OVER = {
    "auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode",
    "peft_version", "megatron_core", "qalora_group_size", "eva_config", "layers_to_transform",
    "layers_pattern", "exclude_modules", "fan_in_fan_out", "target_modules", "runtime_config",
}  # fmt: skip
"""Values that change nothing of what the saved tensors compute."""
READ = {
    "peft_type", "r", "lora_alpha", "use_rslora", "use_dora", "lora_dropout", "bias",
    "modules_to_save", "rank_pattern", "alpha_pattern", "init_lora_weights",
}  # fmt: skip


def read_config(folder: Path) -> dict[str, Any]:
    """The values that count, each of its type.

    Raises:
        InputError: no such file, a damaged one, or values that change the computation and are not
            implemented; all of them are listed.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(f"{folder} has no {CONFIG}; it is no folder of PEFT")
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict):
            raise ValueError("it holds no object")
        kept = {
            "r": int(values.get("r", 8)), "lora_alpha": float(values.get("lora_alpha", 8)),
            "lora_dropout": float(values.get("lora_dropout", 0.0)),
            "use_rslora": bool(values.get("use_rslora")), "use_dora": bool(values.get("use_dora")),
            "bias": str(values.get("bias", "none")),
            "modules_to_save": list(values.get("modules_to_save") or ()),
            "rank_pattern": {str(k): int(v) for k, v in (values.get("rank_pattern") or {}).items()},
            "alpha_pattern": {
                str(k): float(v) for k, v in (values.get("alpha_pattern") or {}).items()
            },
        }  # fmt: skip
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {str(error)[:200]}") from None
    wrong = [f"{name} {value!r}" for name, value in sorted(values.items())
             if value and name not in PASSED_OVER | READ]  # fmt: skip
    if values.get("peft_type") != "LORA":
        wrong.append(f"peft_type {values.get('peft_type')!r}")
    if values.get("init_lora_weights", True) not in STARTS:
        wrong.append(f"init_lora_weights {values['init_lora_weights']!r}")
    if kept["bias"] not in ("none", "lora_only", "all"):
        wrong.append(f"bias {kept['bias']!r}")
    if wrong:
        raise InputError(f"{path}: not implemented here: {', '.join(wrong)}")
    return kept


def size(values: dict[str, Any], module: str) -> tuple[int, float]:
    """Rank and alpha of a module, by the first pattern that fits it, as PEFT reads them."""

    def first(patterns: dict[str, Any], default: Any) -> Any:
        for pattern, value in patterns.items():
            try:
                if re.search(r"\)[*+?{]", pattern):  # may take forever
                    raise re.error("a repeated group")
                if re.match(rf"(.*\.)?({pattern})$", module):
                    return value
            except re.error:
                raise InputError(f"{CONFIG}: {pattern!r} is no pattern of modules") from None
        return default

    return first(values["rank_pattern"], values["r"]), first(
        values["alpha_pattern"], values["lora_alpha"]
    )
