"""Layers of a stack left out, repeated, put in another order, or taken from another model."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from flax.traverse_util import unflatten_dict

from zoo.errors import InputError
from zoo.models import registry
from zoo.paths import leaf_paths
from zoo.surgery.wrapped import Wrapped

LAYER = re.compile(r"(layer|block)(\d+)/(.*)")
"""A path inside a layer of the one stack."""


def with_layers(
    model: nn.Module, variables: Mapping[str, Any], order: Sequence[int]
) -> tuple[nn.Module, dict[str, Any]]:
    """A model of other depth, Config and variables together.

    Args:
        model: whose layers are one stack: ``layer0``, ``layer1``, ... or ``block0``, ...
        variables: of it.
        order: which layers there shall be, by their present numbers: ``[0, 1, 3]`` leaves out
            layer 2, ``[0, 1, 1, 2]`` has layer 1 twice.

    Raises:
        InputError: layers that are no single stack, a number that there is not, or layers that
            compute something else in their new place.
    """
    cfg, params = getattr(model, "cfg", None), leaf_paths(variables["params"])
    if isinstance(model, Wrapped) or cfg is None:
        raise InputError("with_layers takes a model as it was built; merge its adapters first")
    depth = getattr(cfg, "depth", None)
    numbers = {int(match[2]) for path in params if (match := LAYER.fullmatch(path))}
    if depth is None or numbers != set(range(depth)):
        raise InputError(f"the layers of {registry.family(cfg)} are not one stack")
    if not order or not set(order) <= numbers:
        raise InputError(f"layers {list(order)}: there are 0 to {depth - 1}, and one must stay")
    if getattr(cfg, "scale_by_depth", False) and list(order) != list(range(len(order))):
        raise InputError("scale_by_depth: a layer computes something else in another place")
    cfg = dataclasses.replace(cfg, depth=len(order), **_moved(cfg, order))
    new = cfg.build(model.task, model.dtype, model.param_dtype)  # type: ignore[attr-defined]
    changed = {}
    for name, tree in variables.items():
        flat = leaf_paths(tree)
        kept = {path: leaf for path, leaf in flat.items() if not LAYER.fullmatch(path)}
        inside = [(m, leaf) for path, leaf in flat.items() if (m := LAYER.fullmatch(path))]
        for new_number, number in enumerate(order):
            kept |= {
                f"{m[1]}{new_number}/{m[3]}": leaf for m, leaf in inside if int(m[2]) == number
            }
        changed[name] = unflatten_dict(kept, sep="/")
    wanted = jax.eval_shape(lambda: registry.init(new, jax.random.key(0)))["params"]
    if differing := sorted(leaf_paths(wanted).keys() ^ leaf_paths(changed["params"]).keys()):
        raise InputError(f"layers {list(order)}: {', '.join(differing)} cannot be in that place")
    return new, changed


def replace_layer(
    variables: Mapping[str, Any], number: int, donor: Mapping[str, Any], donor_number: int
) -> dict[str, Any]:
    """Variables with a layer of the donor in the place of one of their own, in their dtypes.

    Args:
        variables: of a model whose layers are one stack.
        number: of the layer that goes.
        donor: variables of a model with layers of the same parameters.
        donor_number: of the layer that comes.

    Raises:
        InputError: there is no such layer, or their parameters differ; all of them are listed.
    """
    changed = {}
    for name, tree in variables.items():
        flat = leaf_paths(tree)
        ours, theirs = _inside(flat, number), _inside(leaf_paths(donor.get(name, {})), donor_number)
        differing = sorted(
            key for key in ours.keys() | theirs.keys()
            if key not in ours or key not in theirs or ours[key][1].shape != theirs[key][1].shape
        )  # fmt: skip
        if differing or (name == "params" and not ours):
            raise InputError(
                f"layer {donor_number} of the donor is not like layer {number}: "
                f"{', '.join(differing) or 'there are none'}"
            )
        flat |= {path: theirs[key][1].astype(leaf.dtype) for key, (path, leaf) in ours.items()}
        changed[name] = unflatten_dict(flat, sep="/")
    return changed


def _inside(flat: Mapping[str, Any], number: int) -> dict[str, tuple[str, Any]]:
    """A layer's leaves and their paths, by the path inside the layer."""
    return {m[3]: (path, leaf) for path, leaf in flat.items()
            if (m := LAYER.fullmatch(path)) and int(m[2]) == number}  # fmt: skip


def _moved(cfg: Any, order: Sequence[int]) -> dict[str, Any]:
    """Fields that name layers by their numbers, such as those that see all tokens."""
    moved = {}
    for field in ("global_layers", "full_layers"):
        if hasattr(cfg, field):
            named = getattr(cfg, field)
            named = range(0, cfg.depth, 3) if named is None else named  # ModernBERT's default
            moved[field] = tuple(new for new, old in enumerate(order) if old in named)
    return moved
