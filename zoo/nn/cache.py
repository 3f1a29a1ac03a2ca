"""What a causal Transformer remembers of the tokens it has seen, and what each token may look at.

B batch, T new tokens, L places of the cache (T where there is none), H heads, K features of a head.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from zoo.nn.attention import causal_mask, padding_mask


@flax.struct.dataclass
class Cache:
    """Keys and values of every layer; functions return a new one."""

    index: Int[Array, ""]
    """Tokens seen so far, padding included."""
    mask: Bool[Array, "B L"]
    """Places that hold a token that counts."""
    keys: tuple[Float[Array, "B H L K"], ...]
    """Of each layer."""
    values: tuple[Float[Array, "B H L K"], ...]
    """Likewise."""


def empty_cache(
    depth: int, batch: int, num_heads: int, length: int, head_dim: int, dtype: DTypeLike
) -> Cache:
    """A cache with room for ``length`` tokens, none of them seen."""
    zeros = tuple(jnp.zeros((batch, num_heads, length, head_dim), dtype) for _ in range(depth))
    return Cache(jnp.zeros((), jnp.int32), jnp.zeros((batch, length), bool), zeros, zeros)


def lengthen(cache: Cache, places: int) -> Cache:
    """The cache with so many more places behind its last. A cache also forgets: with a smaller
    ``index`` the next tokens take the places of those behind it."""

    def pad(x: Array, axis: int) -> Array:
        return jnp.pad(x, [(0, places if i == axis else 0) for i in range(x.ndim)])

    keys, values = jax.tree.map(lambda x: pad(x, 2), (cache.keys, cache.values))
    return Cache(cache.index, pad(cache.mask, 1), keys, values)


def look(
    shape: tuple[int, int],
    attention_mask: Int[Array, "B T"] | None,
    cache: Cache | None,
    window: int | None = None,
) -> tuple[Int[Array, "B T"], Bool[Array, "B 1 T L"], Bool[Array, "B L"]]:
    """Positions of the new tokens, what each may look at, and the places that count.

    A token's position is the number of counting tokens before it, so padding on either side
    changes nothing. It sees those up to itself, at most the last ``window`` places.

    Args:
        shape: B and T.
        attention_mask: 0 at padding among the new tokens.
        cache: the tokens before; None where there are none.
        window: of sliding attention; None sees all.
    """
    counts = jnp.ones(shape, bool) if attention_mask is None else attention_mask != 0
    first: Any = 0
    mask = counts
    if cache is not None:
        first = cache.index
        mask = lax.dynamic_update_slice(cache.mask, counts, (0, first))
    places = jnp.maximum(jnp.cumsum(mask, axis=1, dtype=jnp.int32) - 1, 0)
    positions = lax.dynamic_slice_in_dim(places, first, shape[1], axis=1)
    seen = causal_mask(shape[1], mask.shape[1], first) & padding_mask(mask)
    if window is not None:
        place = jnp.arange(shape[1])[:, None] + first
        seen &= (jnp.arange(mask.shape[1])[None, :] > place - window)[None, None]
    return positions, seen, mask


def extend(
    cache: Cache, layer: int, key: Float[Array, "B H T K"], value: Float[Array, "B H T K"]
) -> tuple[Float[Array, "B H L K"], Float[Array, "B H L K"]]:
    """The layer's keys and values with those of the new tokens at their places."""
    return jax.tree.map(
        lambda old, new: lax.dynamic_update_slice_in_dim(old, new, cache.index, axis=2),
        (cache.keys[layer], cache.values[layer]),
        (key, value),
    )
