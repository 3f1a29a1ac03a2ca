"""What is inside a model: the outputs of its modules, by path."""

import difflib
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import flax.linen as nn
import jax

from zoo.errors import InputError
from zoo.paths import fits, unfit


def features(
    model: nn.Module, variables: Any, inputs: Any, paths: str | Sequence[str] = "*"
) -> dict[str, Any]:
    """Outputs of the modules whose path matches, in inference.

    Args:
        model: unbound module.
        variables: its collections, as ``zoo.init`` returns them.
        inputs: the primary input, a tuple of positional inputs, or a dict of inputs by name.
        paths: one or several glob patterns such as ``"conv*"`` or ``"block*/attn"``; ``*`` matches
            slashes too, and what fits a pattern after ``!`` is left out.

    Returns:
        Output by path, such as ``{"conv1": [B, H, W, C]}``, sorted by path. A module called
        several times gives ``path``, ``path#2``, ... in the order of its calls. Arrays a module
        puts into the collection ``intermediates`` itself are found under its path and their name.

    Raises:
        InputError: a pattern matches nothing; the message lists the paths there are.
    """
    args, keywords = arguments(inputs)

    def run(variables: Any, args: tuple, keywords: dict) -> Any:
        _, updates = model.apply(
            variables, *args, **keywords, capture_intermediates=True, mutable=["intermediates"]
        )
        return updates["intermediates"]

    patterns = [paths] if isinstance(paths, str) else list(paths)
    check_patterns(patterns, named(jax.eval_shape(run, variables, args, keywords)))

    # Compiled with the asked-for outputs only, so that the others are not kept in memory.
    def chosen(*everything: Any) -> dict[str, Any]:
        found = named(run(*everything))
        return {name: value for name, value in sorted(found.items()) if fits(name, patterns)}

    return jax.jit(chosen)(variables, args, keywords)


def arguments(inputs: Any) -> tuple[tuple, dict[str, Any]]:
    """Positional and named arguments of a call, of an input, a tuple of them, or a dict by name."""
    if isinstance(inputs, dict):
        return (), inputs
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def check_patterns(patterns: Collection[str], there: Iterable[str]) -> None:
    """Raises:
    InputError: a pattern matches none of the paths there are; the message lists them.
    """
    there = list(there)
    if wrong := unfit(there, patterns):
        near = difflib.get_close_matches(wrong[0], there, n=3)
        hint = f" (nearest: {', '.join(near)})" if near else ""
        raise InputError(
            f"no module matches {', '.join(map(repr, wrong))}{hint}; there are: {', '.join(there)}"
        )


def named(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The collection of intermediates by path; the top module itself is left out."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}/{key}" if prefix else key
        if isinstance(value, dict):
            found |= named(value, path)
        elif path != "__call__":
            path = path.removesuffix("/__call__")
            for i, item in enumerate(value, start=1):
                found[path if i == 1 else f"{path}#{i}"] = item
    return found
