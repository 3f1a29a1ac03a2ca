"""Rotary positions in a config.json, in the words of several releases of transformers."""

import math
from collections.abc import Mapping
from typing import Any

from zoo.nn import rotary


def read_rope(given: Mapping[str, Any], max_length: int, wrong: list[str]) -> tuple[float, str]:
    """Base and scaling, of `rope_parameters` or the older `rope_theta` and `rope_scaling`.

    Args:
        given: config.json without its nulls.
        max_length: its `max_position_embeddings`.
        wrong: gets a line for each value that is not implemented.
    """
    rope = given.get("rope_scaling") or given.get("rope_parameters") or {}
    rope = {key: value for key, value in rope.items() if value is not None}
    name = rope.get("rope_type", rope.get("type", "default"))
    base = float(rope.get("rope_theta", given.get("rope_theta", 10_000.0)))
    for key in ("full_attention", "sliding_attention"):
        if key in rope:
            wrong.append(f"rope_parameters of {key} alone")
    if (part := rope.get("partial_rotary_factor", given.get("partial_rotary_factor", 1))) != 1:
        wrong.append(f"partial_rotary_factor {part}")
    if name not in rotary.SCALINGS:
        wrong.append(f"rope_type {name!r} (known: {', '.join(rotary.SCALINGS)})")
        return base, "default"
    trained = given.get("original_max_position_embeddings") or rope.get(
        "original_max_position_embeddings", max_length
    )
    numbers = {"factor": rope.get("factor"), "trained": trained}
    if name == "dynamic":
        numbers["trained"] = max_length
    elif name == "llama3":
        numbers |= {"low": rope.get("low_freq_factor"), "high": rope.get("high_freq_factor")}
    elif name == "yarn":
        factor = numbers["factor"] = rope.get("factor", max_length / trained)
        one, other = rope.get("mscale"), rope.get("mscale_all_dim")
        usual = _gain(factor, one) / _gain(factor, other) if one and other else _gain(factor, 1)
        numbers["gain"] = rope.get("attention_factor", usual)
        numbers |= {"low": rope.get("beta_slow") or 1, "high": rope.get("beta_fast") or 32}
        if not rope.get("truncate", True):
            wrong.append("truncate false of rope_type 'yarn'")
    wanted = rotary.SCALINGS[name]
    if missing := [key for key in wanted if numbers[key] is None]:
        wrong.append(f"rope_type {name!r} without {' and '.join(missing)}")
        return base, "default"
    return base, " ".join([name, *(f"{key}={_short(numbers[key])}" for key in wanted)])


def write_rope(base: float, scaling: str) -> dict[str, Any]:
    """The `rope_parameters` of a base and a scaling."""
    name, numbers = rotary.parse(scaling)
    rope: dict[str, Any] = {"rope_type": name, "rope_theta": base}
    if name != "default":
        rope["factor"] = numbers["factor"]
    if name in ("llama3", "yarn"):
        rope["original_max_position_embeddings"] = int(numbers["trained"])
    if name == "llama3":
        rope |= {"low_freq_factor": numbers["low"], "high_freq_factor": numbers["high"]}
    if name == "yarn":
        rope |= {"beta_slow": numbers["low"], "beta_fast": numbers["high"]}
        rope["attention_factor"] = numbers["gain"]
    return rope


def _gain(factor: float, scale: float) -> float:
    """YaRN's attention factor (its equation 15, with DeepSeek's ``mscale``)."""
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def _short(number: float) -> float:
    """Whole numbers without a point."""
    return int(number) if number == int(number) else number
