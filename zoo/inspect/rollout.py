"""Attention followed through all layers of a Transformer.

B batch, H heads, T tokens.
"""

import re
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from zoo.errors import InputError
from zoo.inspect.features import check_patterns, features
from zoo.inspect.patching import outputs

WEIGHTS = re.compile(r"(?!decoder).*(?:^|/)attention/(?:weights|weight_dropout)(?:#\d+)?")
"""Where models give their attention weights; a decoder looks at what is not its input."""


def attention_rollout(
    model: nn.Module, variables: Any, inputs: Any, paths: Sequence[str] = ()
) -> Float[Array, "B T T"]:
    """How much of each token reaches each place of the last layer, were attention all that moves
    it: the product over the layers of ``(A + I) / 2``, with A the mean over the heads (Abnar and
    Zuidema, 2020, https://arxiv.org/abs/2005.00928).

    Args:
        model: unbound module.
        variables: its collections.
        inputs: the primary input, a tuple of positional inputs, or a dict of inputs by name.
        paths: of the attention weights ``[B, H, T, T]``, from the first layer on; empty finds them.

    Returns:
        Row t tells where place t comes from; rows sum to 1.

    Raises:
        InputError: there are no attention weights, or they are not all between the same tokens.
    """
    shapes = outputs(model, variables, inputs)
    chosen = list(paths) or [path for path in shapes if WEIGHTS.fullmatch(path)]
    if not chosen:
        raise InputError("this model has no attention weights; name them by paths, see features")
    check_patterns(chosen, shapes)
    sides = {(shape[0], *shape[-2:]) for shape in (shapes[path].shape for path in chosen)}
    if len(sides) != 1 or any(queries != keys for _, queries, keys in sides):
        found = ", ".join(f"{path} {shapes[path].shape}" for path in chosen)
        raise InputError(f"attention rollout needs weights between the same tokens; got: {found}")
    found = features(model, variables, inputs, chosen)
    total = None
    for path in chosen:
        mean = found[path].mean(1).astype(jnp.promote_types(found[path].dtype, jnp.float32))
        mixed = mean + jnp.eye(mean.shape[-1])
        # A token that sees nothing stays where it is.
        mixed = mixed / mixed.sum(-1, keepdims=True)
        total = mixed if total is None else mixed @ total
    assert total is not None
    return total
