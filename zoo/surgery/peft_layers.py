"""Where an adapter of PEFT belongs: their dense layers beside ours, by the tables of `zoo.weights`.

What PEFT calls ``lora_B`` is a weight of its layer with as many features in as the rank, so the
layer's own rule turns and cuts it.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.errors import InputError
from zoo.models import registry
from zoo.surgery.lora import MAGNITUDE, A, B, LoRA, lengths
from zoo.weights import loading
from zoo.weights.mapping import Names, Rule, at_prefix, names, under


@dataclass(frozen=True)
class Home:
    """A dense layer of theirs and the one or several of ours that it is."""

    rule: Rule
    """Of its weight."""
    turned: bool
    """Whether that is ``[in, out]``, as GPT-2's `Conv1D` has it."""

    @property
    def layers(self) -> list[str]:
        """Paths of ours."""
        return [path.removesuffix("/kernel") for path in names(self.rule.ours)]

    def read(self, weight: np.ndarray) -> list[np.ndarray]:
        """Ours ``[in, out]`` of theirs ``[out, in]``, for any number of features in."""
        return self.rule.read([weight.T if self.turned else weight])

    def write(self, kernels: list[np.ndarray]) -> np.ndarray:
        """Theirs ``[out, in]`` of ours ``[in, out]``."""
        (weight,) = self.rule.write(kernels)
        return weight.T if self.turned else weight


def family_of(model: Any) -> Any:
    """The table of a model's format.

    Raises:
        InputError: transformers has no such model.
    """
    family = loading.families().get(registry.family(model.cfg))
    if family is None:
        raise InputError(f"{registry.family(model.cfg)} is no model of transformers")
    return family


def rules_of(model: Any, prefix: str, as_files: bool = False) -> list[Rule]:
    """All rules of a model and its head, the backbone's names with that prefix; by the names of
    transformers' modules, which in few models are others than those in its files (`MODULES` of the
    table): adapters of its version 4 have those."""
    family = family_of(model)
    head = at_prefix(prefix, family.head(model.cfg, model.task))
    rules = under(prefix, loading.backbone_of(family, model.cfg, model.task)) + head
    for old, new in () if as_files else getattr(family, "MODULES", ()):
        rules = [dataclasses.replace(rule, theirs=_renamed(rule.theirs, old, new))
                 for rule in rules]  # fmt: skip
    return rules


def _renamed(side: Names, old: str, new: str) -> Names:
    made = tuple(re.sub(old, new, name) for name in names(side))
    return made[0] if isinstance(side, str) else made


def homes(rules: list[Rule]) -> dict[str, Home]:
    """Their dense layers by name."""
    found = {}
    for rule in rules:
        dense = all(path.endswith("/kernel") for path in names(rule.ours))
        if not isinstance(rule.theirs, str) or not rule.theirs.endswith(".weight") or not dense:
            continue
        left, right = (
            re.findall(r"\([^)]*\)|\S+", side)
            for side in (rule.axes or "i o -> i o").split("->")
        )  # fmt: skip
        if len(left) == 2:
            home = Home(rule, turned=left[0] == right[-2])
            found[rule.theirs.removesuffix(".weight")] = home
    return found


def cut(home: Home, arrays: list[np.ndarray]) -> dict[str, dict[str, np.ndarray]] | None:
    """Our adapters by the path of their layer, of theirs; None where the shapes do not fit."""
    a, b, *magnitude = arrays
    try:
        kernels = home.read(b)
        columns = home.read(magnitude[0][:, None]) if magnitude else []
    except (ValueError, IndexError):
        return None
    found = {path: {A: a.T, B: kernel} for path, kernel in zip(home.layers, kernels, strict=True)}
    for path, column in zip(home.layers, columns, strict=False):
        found[path][MAGNITUDE] = column[0]
    return found


def fused(
    lora: LoRA, home: Home, params: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Their ``lora_A`` ``[R, in]``, ``lora_B`` ``[out, R]``, magnitude ``[out]``, and the scale."""

    def get(path: str) -> np.ndarray:
        return np.asarray(params[path])

    with_one = [path for path in home.layers if f"{path}/{A}" in params]
    scales = {path: lora.size(path)[1] for path in with_one}
    scale = scales[with_one[0]]
    first = get(f"{with_one[0]}/{A}")
    same = len(with_one) == len(home.layers) and all(
        scales[path] == scale and np.array_equal(get(f"{path}/{A}"), first) for path in with_one
    )
    if same:
        a, b = first, [get(f"{path}/{B}") for path in home.layers]
    else:
        a, b, start = np.concatenate([get(f"{path}/{A}") for path in with_one], axis=1), [], 0
        for path in home.layers:
            rows = np.zeros((a.shape[1], params[f"{path}/kernel"].shape[1]), first.dtype)
            if path in scales:
                part = get(f"{path}/{B}") * np.asarray(scales[path] / scale, first.dtype)
                rows[start : start + len(part)] = part
                start += len(part)
            b.append(rows)
    magnitude = np.zeros(0)
    if lora.dora:
        columns = [
            get(f"{path}/{MAGNITUDE}") if path in scales
            else np.asarray(lengths(params[f"{path}/kernel"])).astype(first.dtype)
            for path in home.layers
        ]  # fmt: skip
        magnitude = home.write([column[None] for column in columns])[:, 0]
    return a.T, home.write(b), magnitude, scale
