"""The named axis of data parallelism, for the leaves whose result depends on the global batch."""

import jax
from jaxtyping import Array, Int

DATA_AXIS = "data"
"""Name of the mapped axis over which ``pmap`` (or ``shard_map``) splits the batch."""


def bound() -> bool:
    """Whether ``DATA_AXIS`` is a mapped axis here, so that arrays hold one device's rows.

    False under plain ``jit``, with a mesh as without: there, arrays hold the global batch.
    """
    try:
        jax.lax.axis_size(DATA_AXIS)
    except NameError:
        return False
    return True


def size() -> int:
    """Number of devices along the axis; 1 where it is not bound."""
    return jax.lax.axis_size(DATA_AXIS) if bound() else 1


def index() -> Int[Array, ""] | int:
    """This device's place along the axis; 0 where it is not bound."""
    return jax.lax.axis_index(DATA_AXIS) if bound() else 0


def total(x: Array) -> Array:
    """``x`` summed over the axis; ``x`` itself where it is not bound."""
    return jax.lax.psum(x, DATA_AXIS) if bound() else x
