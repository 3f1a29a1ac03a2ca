"""Checksums of arrays where they lie: the same for every way of cutting them up."""

from typing import Any

import jax
import jax.numpy as jnp

# 2**32 over the golden ratio, made odd, gives neighbours unlike weights; the other is as good.
MULTIPLIERS = (0x9E3779B1, 0x85EBCA6B)


def leaf_sums(tree: Any, multiplier: int = MULTIPLIERS[0]) -> jax.Array:
    """One uint32 for each leaf `[L]`: its bits times odd weights by position, modulo 2**32.

    An odd weight makes every changed value change the sum, and unlike weights tell exchanged values
    apart. Sums of whole numbers do not depend on their order, so neither does the result on how
    the leaves are cut up or on the number of devices.
    """
    return jnp.asarray([_leaf_sum(leaf, multiplier) for leaf in jax.tree.leaves(tree)], jnp.uint32)


def _leaf_sum(leaf: jax.Array, multiplier: int) -> jax.Array:
    bits = _bits(leaf)
    position, stride = jnp.zeros(bits.shape, jnp.uint32), 1
    for axis in reversed(range(bits.ndim)):  # no reshape, which would gather a leaf in shards
        along = jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
        position += along * jnp.uint32(stride % 2**32)
        stride *= bits.shape[axis]
    mixed = position * jnp.uint32(multiplier)
    weights = (mixed ^ (mixed >> 15)) | jnp.uint32(1)
    values = bits.astype(jnp.uint32)
    values ^= values >> 16  # else only the sum's highest bit saw signs, and two changes no more
    return jnp.sum(values * weights, dtype=jnp.uint32)


def _bits(leaf: jax.Array) -> jax.Array:
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint8)
    if jnp.iscomplexobj(leaf):
        leaf = jnp.stack([leaf.real, leaf.imag], -1)
    return jax.lax.bitcast_convert_type(leaf, f"uint{8 * min(leaf.dtype.itemsize, 4)}")


@jax.jit
def long_sums(leaves: list[Any]) -> jax.Array:
    """Two sums for each leaf `[L, 2]`, by unlike weights: 64 bits."""
    return jnp.stack([leaf_sums(leaves, multiplier) for multiplier in MULTIPLIERS], axis=-1)
