"""Surgery on trees of parameters by path pattern: select, freeze, take over, average.

Every function is pure and takes any nested dict of arrays; patterns are those of `zoo.paths`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict

from zoo.errors import InputError
from zoo.paths import leaf_paths, map_leaves, mask

Patterns = str | Sequence[str]


def chosen(params: Any, patterns: Patterns) -> Any:
    """A tree of booleans for `optax.masked` and its like: whether the patterns choose a leaf, or a
    part that holds it.

    Raises:
        InputError: a pattern fits nothing.
    """
    return mask(params, _several(patterns), "surgery")


def split(params: Any, patterns: Patterns) -> tuple[dict[str, Any], dict[str, Any]]:
    """The leaves that the patterns choose, and all others; `join` makes one tree of both.

    Raises:
        InputError: a pattern fits nothing.
    """
    flat, which = leaf_paths(params), leaf_paths(chosen(params, patterns))
    first = {path: leaf for path, leaf in flat.items() if which[path]}
    rest = {path: leaf for path, leaf in flat.items() if not which[path]}
    return unflatten_dict(first, sep="/"), unflatten_dict(rest, sep="/")


def select(params: Any, patterns: Patterns) -> dict[str, Any]:
    """The leaves that the patterns choose, under their names.

    Raises:
        InputError: a pattern fits nothing.
    """
    return split(params, patterns)[0]


def join(*trees: Any) -> dict[str, Any]:
    """One tree of several that have no leaf in common.

    Raises:
        InputError: they have; the message lists all such paths.
    """
    joined: dict[str, Any] = {}
    for tree in trees:
        flat = leaf_paths(tree)
        if twice := sorted(path for path in flat if path in joined):
            raise InputError(f"join: {len(twice)} in more than one tree: {', '.join(twice)}")
        joined |= flat
    return unflatten_dict(joined, sep="/")


def freeze(params: Any, patterns: Patterns) -> Any:
    """The parameters, those that the patterns choose as constants: inside a function that is
    differentiated their gradients are zeros. An optimizer's weight decay would still move them:
    mask it by `chosen`. A run freezes by `Optimizer.freeze`.

    Raises:
        InputError: a pattern fits nothing.
    """
    return jax.tree.map(
        lambda leaf, still: jax.lax.stop_gradient(leaf) if still else leaf,
        params, chosen(params, patterns),
    )  # fmt: skip


def transplant(variables: Any, donor: Any, patterns: Patterns) -> Any:
    """Variables with the donor's leaves in the place of those that the patterns choose: the
    backbone of one model, the head of another.

    Args:
        variables: collections, as `zoo.init` returns them; each keeps its leaves' dtypes.
        donor: variables of a model that names these parts alike.
        patterns: of paths inside a collection, such as `("*", "!head")`; statistics move with the
            layer that keeps them.

    Raises:
        InputError: a pattern fits nothing, or the donor lacks a leaf or has it in another shape;
            all of it is listed.
    """
    wanted = _several(patterns)
    inside = {path.partition("/")[2]: 0 for path in leaf_paths(variables)}
    which = leaf_paths(mask(unflatten_dict(inside, sep="/"), wanted, "transplant"))
    theirs = leaf_paths(donor)
    missing, wrong = [], []

    def take(path: str, leaf: Any) -> Any:
        if not which[path.partition("/")[2]]:
            return leaf
        if path not in theirs:
            missing.append(path)
            return leaf
        if theirs[path].shape != leaf.shape:
            wrong.append(f"{path} {theirs[path].shape}, not {leaf.shape}")
            return leaf
        return jnp.asarray(theirs[path]).astype(leaf.dtype)

    taken = map_leaves(take, variables)
    if missing or wrong:
        told = ((missing, "not in the donor"), (wrong, "of another shape there"))
        parts = [f"{len(paths)} {what}: {', '.join(paths)}" for paths, what in told if paths]
        raise InputError("transplant: the donor does not fit; " + "; ".join(parts))
    return taken


def average(trees: Iterable[Any], weights: Sequence[float] | None = None) -> Any:
    """The mean of the variables of several trainings: a soup (Wortsman et al., 2022,
    https://arxiv.org/abs/2203.05482), or with weights an interpolation.

    Args:
        trees: of one structure; a generator that opens one run folder after the other keeps but
            one of them in memory.
        weights: one for each tree, scaled to a sum of 1; None counts all alike.

    Returns:
        A tree of the first one's dtypes; sums are made in at least float32. Statistics of batch
        norm are averaged too; those of the averaged parameters are better computed anew.

    Raises:
        InputError: no tree, another number of weights, or trees of different leaves; all of them
            are listed.
    """
    total: dict[str, Any] = {}
    first: dict[str, Any] = {}
    scale = 0.0
    count = 0
    for tree in trees:
        flat = leaf_paths(tree)
        first = first or flat
        differing = [path for path in sorted(first.keys() | flat.keys())
                     if _shape(first.get(path)) != _shape(flat.get(path))]  # fmt: skip
        if differing:
            raise InputError(f"average: tree {count} differs from the first in {differing}")
        if whole := [p for p, leaf in flat.items() if not jnp.issubdtype(leaf.dtype, jnp.inexact)]:
            raise InputError(f"average: {', '.join(whole)} are no floating-point numbers")
        if weights is not None and count == len(weights):
            raise InputError(f"average: {len(weights)} weights for more trees")
        weight = 1.0 if weights is None else float(weights[count])
        for path, leaf in flat.items():
            part = weight * jnp.asarray(leaf, jnp.promote_types(leaf.dtype, jnp.float32))
            total[path] = total[path] + part if path in total else part
        scale, count = scale + weight, count + 1
    if not count or (weights is not None and count != len(weights)) or not scale:
        told = "" if weights is None else f" for {len(weights)} weights of sum {sum(weights)}"
        raise InputError(f"average: {count} trees{told}")
    mean = {path: (leaf / scale).astype(first[path].dtype) for path, leaf in total.items()}
    return unflatten_dict(mean, sep="/")


def _several(patterns: Patterns) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def _shape(leaf: Any) -> Any:
    return None if leaf is None else leaf.shape
