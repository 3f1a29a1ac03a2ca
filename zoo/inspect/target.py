"""What of a model's output is looked into: one number for each example.

B batch, T tokens, C classes.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from zoo.errors import InputError
from zoo.inspect.features import arguments
from zoo.nn.last_token import last_token

Target = int | Int[Array, "B"] | Callable[[Any], Array] | None
"""A class, one class for each example, or a function from the output to scores ``[B]``; None is the
class that scores highest."""


def scores(output: Any, inputs: Any, target: Target) -> Callable[[Any], Float[Array, "B"]]:
    """The function from an output to the scores that ``target`` means.

    Of outputs ``[B, C]`` a class is a column; of ``[B, T, C]`` it is that column at the last token
    that counts; of ``[B]`` there is nothing to choose.

    Args:
        output: the model's, for the inputs; it decides where the target is None.
        inputs: of the call.
        target: see ``Target``.

    Raises:
        InputError: there is no such class, or the output needs a function.
    """
    if callable(target):
        return target
    rows = _rows(output, inputs)
    classes = rows.shape[1]
    if target is None:
        chosen = jnp.argmax(rows, axis=1)
    else:
        if isinstance(target, int) and not 0 <= target < classes:
            raise InputError(f"there is no class {target}; classes are 0 to {classes - 1}")
        chosen = jnp.broadcast_to(jnp.asarray(target), rows.shape[:1])
    return lambda output: jnp.take_along_axis(_rows(output, inputs), chosen[:, None], axis=1)[:, 0]


def _rows(output: Any, inputs: Any) -> Float[Array, "B C"]:
    rank = getattr(output, "ndim", None)
    if rank == 1:
        return output[:, None]
    if rank == 2:
        return output
    if rank == 3:
        mask = arguments(inputs)[1].get("attention_mask")
        return last_token(output, None if mask is None else jnp.asarray(mask))
    got = type(output).__name__ if rank is None else output.shape
    raise InputError(f"the model gives {got}; as target give a function from it to scores [B]")
