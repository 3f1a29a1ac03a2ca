"""Adapters as PEFT keeps them (https://github.com/huggingface/peft): a folder with
adapter_config.json and adapter_model.safetensors, whose names are those of transformers' modules.

Where each adapter belongs follows from the tables of `zoo.weights`: what PEFT calls ``lora_B`` is a
weight of its layer with as many features in as the rank, so the layer's own rule turns and cuts it.
A fused projection there is several dense layers here; adapters on them that do not share one
``lora_a`` become one of the sum of their ranks, which computes the same.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from zoo.errors import InputError
from zoo.paths import fits, leaf_paths
from zoo.surgery.lora import MAGNITUDE, A, Adapted, B, LoRA
from zoo.surgery.peft_config import CONFIG, read_config, size
from zoo.surgery.peft_layers import Home, cut, family_of, fused, homes, rules_of
from zoo.weights import loading
from zoo.weights.files import Tensor, read_header
from zoo.weights.mapping import Rule, names

WEIGHTS = "adapter_model.safetensors"
BEFORE = "base_model.model."
"""Before every name in the file."""
TASK_TYPES = {
    "text-generation": "CAUSAL_LM", "feature-extraction": "FEATURE_EXTRACTION",
    "text-classification": "SEQ_CLS", "token-classification": "TOKEN_CLS",
    "question-answering": "QUESTION_ANS",
}  # fmt: skip
"""Ours and theirs; with the last three PEFT trains the head too."""


def load_adapter(
    folder: str | Path, model: nn.Module, variables: Mapping[str, Any]
) -> tuple[Adapted, dict[str, Any]]:
    """A model with the adapters of a folder that PEFT wrote.

    Args:
        folder: with adapter_config.json and adapter_model.safetensors.
        model: that they were trained on, from `from_pretrained`.
        variables: of the model; heads and biases that were trained too take their place.

    Raises:
        InputError: no such folder, a value that is not implemented, or tensors that do not fit;
            all of them are listed.
    """
    folder = Path(folder)
    values = read_config(folder)
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder} has no {WEIGHTS}")
    tensors = plain_names(read_header(folder / WEIGHTS))
    family = family_of(model)
    prefix = family.PREFIX if any(name.startswith(family.PREFIX) for name in tensors) else ""
    modules = {name.partition(".lora_")[0] for name in tensors if ".lora_" in name}
    spellings = [rules_of(model, prefix, as_files) for as_files in (False, True)]
    rules = min(spellings, key=lambda rules: len(modules - homes(rules).keys()))
    params = leaf_paths(variables["params"])
    placed, exceptions, left, wrong = _placed(values, homes(rules), tensors, params)
    replaced, unused = _replaced(rules, left, params)
    wrong += [f"{name} {left[name].shape}" for name in unused
              if not any(re.fullmatch(pattern, name) for pattern in family.IGNORED)]  # fmt: skip
    if wrong or not placed:
        told = f"{len(wrong)} do not: {', '.join(wrong)}" if wrong else "it holds none"
        raise InputError(f"{folder}: the adapters do not fit the model; {told}")
    lora = LoRA(
        tuple(placed), values["r"], values["lora_alpha"], values["use_rslora"],
        values["use_dora"], values["lora_dropout"], values["bias"],
        _whole(rules, values["modules_to_save"], replaced), exceptions,
    )  # fmt: skip
    lora.check()
    params |= replaced
    for path, adapter in placed.items():
        params |= {f"{path}/{name}": jnp.asarray(array) for name, array in adapter.items()}
    return Adapted(model, lora), {**variables, "params": unflatten_dict(params, sep="/")}


def save_adapter(
    directory: str | Path, model: Adapted, variables: Mapping[str, Any], base: str = ""
) -> None:
    """Writes a folder that PEFT opens on transformers' model.

    Args:
        directory: made where it does not exist.
        model: with adapters.
        variables: of it.
        base: the name or folder of the model below, as the config shall name it.

    Raises:
        InputError: transformers has no such model, or what is trained beside the adapters is no
            whole module there.
    """
    from safetensors.numpy import save_file

    lora, task = model.lora, model.task
    family = family_of(model)
    rules = rules_of(model, "" if task == loading.BARE else family.PREFIX)
    params = leaf_paths(variables["params"])
    tensors: dict[str, np.ndarray] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    held = {module: home for module, home in homes(rules).items()
            if any(f"{path}/{A}" in params for path in home.layers)}  # fmt: skip
    inside = {path for home in held.values() for path in home.layers}
    if lost := sorted({p.removesuffix(f"/{A}") for p in params if p.endswith(f"/{A}")} - inside):
        raise InputError(f"transformers' model has no single module for {', '.join(lost)}")
    for module, home in held.items():
        a, b, magnitude, scale = fused(lora, home, params)
        rank = len(a)
        alpha = scale * (math.sqrt(rank) if lora.rslora else rank)
        tensors |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
        if lora.dora:
            tensors[f"{module}.lora_magnitude_vector"] = magnitude
        ranks |= {module: rank} if rank != lora.rank else {}
        alphas |= {module: alpha} if not math.isclose(alpha, lora.alpha) else {}
    saved, modules = _beside(model, rules, params, held)
    values = {
        "peft_type": "LORA", "base_model_name_or_path": base or None, "inference_mode": True,
        "task_type": _task_type(model, params), "r": lora.rank, "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout, "use_rslora": lora.rslora, "use_dora": lora.dora,
        "bias": lora.bias, "fan_in_fan_out": any(home.turned for home in held.values()),
        "init_lora_weights": True, "target_modules": sorted(held), "modules_to_save": modules,
        "rank_pattern": ranks, "alpha_pattern": alphas,
    }  # fmt: skip
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {BEFORE + name: np.ascontiguousarray(x) for name, x in (tensors | saved).items()}
    save_file(arrays, folder / WEIGHTS, {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def plain_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The file's tensors by the names of transformers' modules."""
    found = {}
    for name, tensor in tensors.items():
        if ".original_module." in name:  # the head as it was before
            continue
        name = name.removeprefix(BEFORE).replace(".base_layer.bias", ".bias")
        name = name.replace(".modules_to_save.", ".").replace("_vector.weight", "_vector")
        found[name] = tensor
    return found


def _placed(
    values: dict[str, Any],
    known: Mapping[str, Home],
    tensors: dict[str, Tensor],
    params: Mapping[str, Any],
) -> tuple[dict[str, Any], tuple[tuple[str, int, float], ...], dict[str, Tensor], list[str]]:
    """Our adapters by the path of their layer, those of another rank or alpha, the tensors that
    are left, and what does not fit."""
    kinds = ["lora_A.weight", "lora_B.weight"] + ["lora_magnitude_vector"] * values["use_dora"]
    placed: dict[str, Any] = {}
    exceptions: list[tuple[str, int, float]] = []
    wrong: list[str] = []
    left = dict(tensors)
    for first in sorted(name for name in tensors if name.endswith(f".{kinds[0]}")):
        module = first.removesuffix(f".{kinds[0]}")
        parts = [left.pop(f"{module}.{kind}", None) for kind in kinds]
        whole = [part for part in parts if part is not None]
        if module not in known or len(whole) < len(parts):
            wrong.append(f"{module} ({'incomplete' if module in known else 'no dense layer here'})")
            continue
        rank, alpha = size(values, module)
        found = cut(known[module], [np.array(part.map()) for part in whole])
        if not found or not all(_fits(rank, found[path], params, path) for path in found):
            wrong.append(f"{module} (rank {rank}, {', '.join(str(part.shape) for part in whole)})")
            continue
        placed |= found
        if (rank, alpha) != (values["r"], values["lora_alpha"]):
            exceptions += [(path, rank, alpha) for path in found]
    return placed, tuple(exceptions), left, wrong


def _fits(rank: int, adapter: Any, params: Mapping[str, Any], path: str) -> bool:
    kernel = params.get(f"{path}/kernel")
    if kernel is None or any(array.dtype.kind not in "fV" for array in adapter.values()):
        return False  # V: bfloat16
    wanted = {A: (kernel.shape[0], rank), B: (rank, kernel.shape[1]), MAGNITUDE: kernel.shape[1:]}
    return all(array.shape == wanted[name] for name, array in adapter.items())


def _replaced(
    rules: list[Rule], tensors: Mapping[str, Tensor], params: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """What was trained without adapters, by our paths, and the tensors that do not fit."""
    found: dict[str, Any] = {}
    left = set(tensors)
    for rule in rules:
        theirs = names(rule.theirs)
        if not left.issuperset(theirs):
            continue
        try:
            arrays = rule.read(tensors[name].map() for name in theirs)
        except ValueError:
            continue
        paths = names(rule.ours)
        if all(x.shape == params[path].shape for path, x in zip(paths, arrays, strict=True)):
            found |= {p: jnp.asarray(np.array(x)) for p, x in zip(paths, arrays, strict=True)}
            left -= set(theirs)
    return found, sorted(left)


def _whole(rules: list[Rule], modules: Any, replaced: Mapping[str, Any]) -> tuple[str, ...]:
    """Our parts that are among their modules to save."""
    found = set()
    for rule in rules:
        parts = [f".{name}." for name in names(rule.theirs)]
        if any(f".{module}." in part for module in modules for part in parts):
            found |= {path.rpartition("/")[0] or path for path in names(rule.ours)}
    return tuple(sorted(part for part in found if any(fits(p, (part,), True) for p in replaced)))


def _beside(
    model: Adapted, rules: list[Rule], params: Mapping[str, Any], held: Mapping[str, Home]
) -> tuple[dict[str, np.ndarray], list[str] | None]:
    """Tensors that are trained without adapters, by their names in the file, and the modules that
    are trained whole."""
    lora = model.lora
    trained = leaf_paths(lora.trained(unflatten_dict(dict(params), sep="/")))
    found: dict[str, np.ndarray] = {}
    modules: dict[str, bool] = {}
    for rule in rules:
        ours = names(rule.ours)
        whole = [fits(path, lora.whole, parts=True) for path in ours]
        for name in names(rule.theirs):
            module = name.rpartition(".")[0]
            modules[module] = modules.get(module, True) and all(whole)
        if not any(trained[path] for path in ours):
            continue
        if any(whole) and any(p.endswith("/embedding") for p in ours) and _tied(model):
            raise InputError("PEFT does not tie an embedding that is trained to the output layer")
        arrays = rule.write(np.asarray(params[path]) for path in ours)
        for name, array in zip(names(rule.theirs), arrays, strict=True):
            module, _, last = name.rpartition(".")
            inside = module in held and not any(whole)
            found[f"{module}.base_layer.{last}" if inside else name] = array
    full = {module for module, all_of_it in modules.items() if all_of_it}
    saved = sorted(m for m in full if not any(m.startswith(f"{other}.") for other in full))
    partly = [rule.theirs for rule in rules for path in names(rule.ours)
              if fits(path, lora.whole, parts=True)
              and not all(modules[n.rpartition(".")[0]] for n in names(rule.theirs))]  # fmt: skip
    if partly:
        raise InputError(f"lora.whole: only a part of transformers' modules of {partly} is trained")
    return found, saved or None


def _tied(model: Adapted) -> bool:
    return getattr(model.cfg, "tied", False) and model.task in ("fill-mask", "text-generation")


def _task_type(model: Adapted, params: Mapping[str, Any]) -> str | None:
    """Theirs, unless PEFT would take it for a sign that the head was trained."""
    kind = TASK_TYPES.get(model.task)
    heads = [path for path in params if path.startswith("head/")]
    trained = all(fits(path, model.lora.whole, parts=True) for path in heads)
    return kind if trained or kind in ("CAUSAL_LM", "FEATURE_EXTRACTION") else None
