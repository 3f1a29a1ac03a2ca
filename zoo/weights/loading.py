"""Parameters from a reference's tensors, and back: strict, with one complete error."""

import dataclasses
import functools
import importlib
import math
import pkgutil
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from zoo import weights
from zoo.errors import InputError
from zoo.weights.configs import write_labels
from zoo.weights.files import Tensor, write_files
from zoo.weights.mapping import STATISTICS, FirstConv, Rule, at_prefix, names, under
from zoo.weights.positions import Positions, RelativePositions
from zoo.weights.torch_zip import TorchTensor

MAX_SHARD = 5 * 10**9  # bytes of a file, as transformers cuts them
BARE = "feature-extraction"  # the model without head, whose names have no prefix
CLASSIFIERS = ("text-classification", "token-classification", "image-classification")

Shapes = Mapping[str, tuple[int, ...]]
Tensors = Mapping[str, Tensor | TorchTensor]


@functools.cache
def families() -> dict[str, types.ModuleType]:
    """The tables of all formats, by their file's name, which is that of the model's file."""
    found = {}
    for info in sorted(pkgutil.iter_modules(weights.__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{weights.__name__}.{info.name}")
        if hasattr(module, "MODEL_TYPES"):
            found[info.name] = module
    return found


def family_of(values: Mapping[str, Any]) -> types.ModuleType:
    """The table for a config.json, by its `model_type`.

    Raises:
        InputError: the model is not known.
    """
    kinds = {kind: module for module in families().values() for kind in module.MODEL_TYPES}
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in kinds:
        raise InputError(f"config.json: no model_type {kind!r} here; there are {_listed(kinds)}")
    return kinds[kind]


def task_of(family: types.ModuleType, values: Mapping[str, Any]) -> str:
    """The task of the model that was saved, by its `architectures`; the bare model without any.

    Raises:
        InputError: it is a head that is not known.
    """
    given = values.get("architectures")
    if not given:
        return BARE
    known = isinstance(given, list) and isinstance(given[0], str)
    if not known or given[0] not in family.ARCHITECTURES:
        raise InputError(
            f"config.json: no architecture {given} here; there are {_listed(family.ARCHITECTURES)}"
        )
    return family.ARCHITECTURES[given[0]]


@dataclass(frozen=True)
class Plan:
    """Which tensors fill which parameters; nothing is read yet.

    Attributes:
        rules: those that apply.
        tensors: where their tensors lie, by the names of the rules.
        fresh: paths of parameters that the file does not have, to be initialised.
        dropped: names of tensors of another head.
    """

    rules: list[Rule]
    tensors: Tensors
    fresh: list[str]
    dropped: list[str]

    def read(self, place: Callable[[str, np.ndarray], Any]) -> dict[str, Any]:
        """Reads tensor by tensor; `place(path, array)` copies an array that lies in a file.

        The largest come first: what a copy takes beside the parameters is least at the end.
        """

        def size(rule: Rule) -> int:
            return sum(math.prod(self.tensors[name].shape) for name in names(rule.theirs))

        found = {}
        for rule in sorted(self.rules, key=size, reverse=True):
            arrays = rule.read(self.tensors[name].map() for name in names(rule.theirs))
            for path, array in zip(names(rule.ours), arrays, strict=True):
                found[path] = place(path, array)
        return found


def plan(
    family: types.ModuleType,
    cfg: Any,
    task: str,
    saved_task: str,
    tensors: Tensors,
    shapes: Shapes,
    new_head: bool = False,
    new_channels: bool = False,
    saved_grid: tuple[int, int] | None = None,
    saved_cfg: Any = None,
) -> Plan:
    """Matches tensors and parameters.

    Args:
        family: the table's module.
        cfg: of the model to be filled.
        task: its task.
        saved_task: of the model that was saved; a head of another task is left out, and what the
            asked one needs beside is initialised.
        tensors: of the files.
        shapes: of all parameters and statistics by path.
        new_head: whether a head of other shapes is initialised anew too.
        new_channels: whether the first convolution is made to fit images of other channels.
        saved_grid: of the patches whose positions were saved, where they are made to fit another.
        saved_cfg: of the model that was saved, whose windows' positions are made to fit others.

    Raises:
        InputError: anything is missing, left over, or of the wrong shape or dtype; all of it is
            listed.
    """
    named = {_modern(name, getattr(family, "LEGACY", ())): t for name, t in tensors.items()}
    if hasattr(family, "full_name"):
        named = {family.full_name(name, saved_task): t for name, t in named.items()}
    prefix = getattr(family, "PREFIX", "")
    prefix = prefix if any(name.startswith(prefix) for name in named) else ""
    head = at_prefix(prefix, family.head(cfg, task))
    rules, fresh, wrong, missing = [], [], [], []
    saved_rules = [] if saved_cfg is None else under(prefix, backbone_of(family, saved_cfg, task))
    before = {r.theirs: r.window for r in saved_rules if isinstance(r, RelativePositions)}
    for rule in under(prefix, backbone_of(family, cfg, task)) + head:
        if isinstance(rule, FirstConv) and not new_channels:
            rule = dataclasses.replace(rule, channels=None)
        if isinstance(rule, Positions):
            rule = dataclasses.replace(rule, saved=saved_grid)
        if isinstance(rule, RelativePositions):
            rule = dataclasses.replace(rule, saved=before.get(rule.theirs))
        absent = [name for name in names(rule.theirs) if name not in named]
        fitting = [] if absent else _misfits(rule, named, shapes)
        other = rule in head and (
            (task != saved_task and len(absent) == len(names(rule.theirs)))
            or (new_head and bool(fitting))
        )
        if other:
            fresh += names(rule.ours)
            continue
        missing += absent
        wrong += fitting
        rules.append(rule)
    used = {name for rule in rules for name in names(rule.theirs)}
    left = sorted(named.keys() - used)
    left = [name for name in left if not any(re.fullmatch(p, name) for p in family.IGNORED)]
    saved = {n for r in at_prefix(prefix, family.head(cfg, saved_task)) for n in names(r.theirs)}
    if hasattr(family, "towers"):
        saved |= {n for r in family.towers(cfg, saved_task) for n in names(r.theirs)}
    saved |= {name for rule in head for name in names(rule.theirs)} if new_head else set()
    dropped = [name for name in left if name in saved]
    left = [name for name in left if name not in saved]
    filled = {path for rule in rules for path in names(rule.ours)}
    missing += [f"(parameter) {path}" for path in sorted(shapes.keys() - filled - {*fresh})]
    if missing or left or wrong:
        told = (("missing", missing), ("unexpected", left), ("wrong", wrong))
        parts = [f"{len(found)} {kind}: {_listed(found, 20)}" for kind, found in told if found]
        raise InputError("the tensors do not fit the model; " + "; ".join(parts))
    return Plan(rules, named, fresh, dropped)


def _misfits(rule: Rule, tensors: Tensors, shapes: Shapes) -> list[str]:
    """What is wrong with the tensors of a rule."""
    given = [tensors[name] for name in names(rule.theirs)]
    what = f"{', '.join(names(rule.theirs))} {' '.join(_shape(t.shape) for t in given)}"
    if any(np.dtype(t.dtype).kind not in "fV" for t in given):  # V: bfloat16
        return [f"{what} is of type {np.dtype(given[0].dtype).name}, not a float"]
    if len({t.dtype for t in given}) > 1:
        return [f"{what} have different dtypes"]
    needed = [shapes.get(path) for path in names(rule.ours)]
    try:
        found = rule.shapes(t.shape for t in given)
    except ValueError as error:
        return [f"{what} ({error})"]
    if found != needed:
        wanted = " ".join("nothing" if s is None else _shape(s) for s in needed)
        made = " ".join(map(_shape, found))
        return [
            f"{what} makes {', '.join(names(rule.ours))} {made}, which the model has as {wanted}"
        ]
    return []


def rules_of(family: types.ModuleType, cfg: Any, task: str) -> list[Rule]:
    """All rules for a model, with the names that are written."""
    prefix = "" if task == BARE else getattr(family, "PREFIX", "")
    head = at_prefix(prefix, family.head(cfg, task))
    return under(prefix, backbone_of(family, cfg, task)) + head


def backbone_of(family: types.ModuleType, cfg: Any, task: str) -> list[Rule]:
    """The rules of everything but the head, without the prefix; a family whose tasks look at
    different parts of the model says which, by `towers(cfg, task)`."""
    return family.towers(cfg, task) if hasattr(family, "towers") else family.backbone(cfg)


def write_folder(
    directory: Path, family: types.ModuleType, cfg: Any, task: str, flat: Mapping[str, np.ndarray]
) -> None:
    """Writes config.json and model.safetensors (or shards and their index) for transformers.

    Args:
        directory: made where it does not exist.
        family: the table's module.
        cfg, task: of the model.
        flat: parameters and statistics by path, on the host.

    Raises:
        InputError: the reference has no such head, or a parameter is missing.
    """
    if task not in family.ARCHITECTURES.values():
        raise InputError(f"transformers has no {family.MODEL_TYPES[0]} for {task}")
    tensors = write_tensors(rules_of(family, cfg, task), flat)
    values = family.write_config(cfg, task)
    if task in CLASSIFIERS:
        values |= write_labels(cfg.num_classes, getattr(cfg, "labels", ()))
    values["dtype"] = np.dtype(_first_dtype(flat)).name
    write_files(directory, tensors, values, MAX_SHARD)


def write_tensors(rules: list[Rule], flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Their tensors by name, from parameters and statistics by path.

    All are of one dtype, as in a PyTorch model; our statistics are wider than half precision. Its
    batch norms count their batches, which is of use to none of them: 0 is written.

    Raises:
        InputError: one is missing or left over.
    """
    if absent := sorted({p for r in rules for p in names(r.ours)} ^ flat.keys()):
        raise InputError(f"the parameters do not fit the model: {_listed(absent)}")
    kind = _first_dtype(flat)
    tensors: dict[str, np.ndarray] = {}
    for rule in rules:
        made = rule.write(flat[path] for path in names(rule.ours))
        if names(rule.ours)[0].startswith(STATISTICS):
            made = [array.astype(kind) for array in made]
        arrays = [np.asarray(array, order="C") for array in made]  # save_file writes a view wrongly
        tensors.update(zip(names(rule.theirs), arrays, strict=True))
        for name in names(rule.theirs):
            if name.endswith(".running_var"):
                tensors[name.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    return tensors


def flatten(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters and statistics by path, as the rules name them."""
    statistics = flatten_dict(variables.get("batch_stats", {}), sep="/")
    parameters: dict[str, Any] = flatten_dict(variables["params"], sep="/")
    return parameters | {f"{STATISTICS}{path}": leaf for path, leaf in statistics.items()}


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The way back: `params`, and `batch_stats` where there are any."""
    parts: dict[str, dict[str, Any]] = {"params": {}}
    for path, leaf in flat.items():
        if path.startswith(STATISTICS):
            parts.setdefault("batch_stats", {})[path.removeprefix(STATISTICS)] = leaf
        else:
            parts["params"][path] = leaf
    return {of: unflatten_dict(part, sep="/") for of, part in parts.items()}


def kept_dtype(path: str, dtype: Any) -> Any:
    """The dtype in which an array is kept: statistics are at least float32."""
    return jnp.promote_types(dtype, jnp.float32) if path.startswith(STATISTICS) else dtype


def _first_dtype(flat: Mapping[str, np.ndarray]) -> Any:
    return next(leaf.dtype for path, leaf in flat.items() if not path.startswith(STATISTICS))


def _modern(name: str, legacy: Any) -> str:
    for pattern, new in legacy:
        name = re.sub(pattern, new, name)
    return name


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{'x'.join(map(str, shape))}]"


def _listed(found: Any, most: int = 10) -> str:
    found = [str(item) for item in found]
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more
