"""Position encodings, and how long a sequence may be."""

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.errors import InputError


def check_length(length: int, longest: int) -> None:
    """Raises InputError where a sequence has more tokens than a model has positions."""
    if length > longest:
        raise InputError(
            f"a sequence of {length} tokens is longer than the model's {longest} positions; "
            "shorten it or raise max_length"
        )


def sinusoidal(
    length: int, width: int, dtype: DTypeLike = jnp.float32
) -> Float[Array, "{length} {width}"]:
    """Sines (even columns) and cosines (odd columns) of wavelengths from ``2 pi`` to
    ``10000 * 2 pi``: ``PE[p, 2i] = sin(p / 10000**(2i / width))`` (Vaswani et al., 2017,
    https://arxiv.org/abs/1706.03762, section 3.5).

    Args:
        length: number of positions.
        width: number of columns.
        dtype: of the result; the table is computed in float64.
    """
    column = np.arange(width)
    angle = np.arange(length)[:, None] / 10_000.0 ** ((column - column % 2) / width)
    return jnp.asarray(np.where(column % 2 == 0, np.sin(angle), np.cos(angle)), dtype)
