"""Paths `a/b/c` of what lies in trees and models, and the patterns that choose among them.

A pattern is a glob in which ``*`` also stands for ``/``. After a ``!`` it takes out what the others
choose: ``("*", "!head")`` is all but the head.
"""

import fnmatch
from collections.abc import Callable, Collection, Iterable
from typing import Any

import jax

from zoo.errors import InputError


def path_of(keys: Any) -> str:
    """The path of a leaf, from the keys that jax gives."""
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def leaf_paths(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by their path `a/b/c`."""
    return {path_of(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def map_leaves(change: Callable[[str, Any], Any], tree: Any) -> Any:
    """The tree with `change(path, leaf)` for each leaf."""
    return jax.tree_util.tree_map_with_path(lambda keys, leaf: change(path_of(keys), leaf), tree)


def fits(path: str, patterns: Collection[str], parts: bool = False) -> bool:
    """Whether the patterns choose a path.

    Args:
        path: such as ``layer0/query/kernel``.
        patterns: globs, as this module's docstring has them.
        parts: whether a pattern also chooses what lies in a part that it fits, as ``layer0`` does
            with ``layer0/query/kernel``.
    """
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")]
    unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    return _any(path, wanted, parts) and not _any(path, unwanted, parts)


def unfit(paths: Iterable[str], patterns: Collection[str], parts: bool = False) -> list[str]:
    """The patterns that fit none of the paths, sorted: what a user has misspelt."""
    paths = list(paths)
    return sorted(
        pattern
        for pattern in set(patterns)
        if not any(_any(path, [pattern.removeprefix("!")], parts) for path in paths)
    )


def mask(tree: Any, patterns: Collection[str], where: str) -> Any:
    """A tree of booleans: whether the patterns choose a leaf, or a part that holds it.

    Args:
        tree: of parameters.
        patterns: globs, as this module's docstring has them.
        where: the start of the error message: whose patterns these are.

    Raises:
        InputError: a pattern fits nothing; the message lists the parts that there are.
    """
    paths = leaf_paths(tree)
    if wrong := unfit(paths, patterns, parts=True):
        parts = sorted({path.partition("/")[0] for path in paths})
        raise InputError(
            f"{where}: no parameter fits {', '.join(wrong)}; the model has {', '.join(parts)}"
        )
    return map_leaves(lambda path, _: fits(path, patterns, parts=True), tree)


def _any(path: str, patterns: Iterable[str], parts: bool) -> bool:
    names = [path]
    while parts and "/" in path:
        path = path.rpartition("/")[0]
        names.append(path)
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)
