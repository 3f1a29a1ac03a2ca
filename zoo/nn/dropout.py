"""Dropout whose mask depends on the key and the element alone.

The usual way draws random bits for an array, which costs more than the layers around it and, on
several devices, either repeats the mask on each or depends on their number. Here the bits of an
element are a hash of (key, global row, position in the row): every device computes those of its own
rows, and one device, many under ``jit`` and many under ``pmap`` have the same mask.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, UInt32

from zoo.errors import InputError
from zoo.nn import axis


class Dropout(nn.Module):
    """Zeroes each element with probability ``rate`` and divides the others by ``1 - rate``
    (Srivastava et al., 2014, https://jmlr.org/papers/v15/srivastava14a.html).

    The first dimension is the batch. The key comes from the collection ``dropout``; rate 0 and
    ``train=False`` need none and change nothing.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "B *rest"], train: bool) -> Float[Array, "B *rest"]:
        if not 0.0 <= self.rate <= 1.0:
            raise InputError(f"a dropout rate is a number from 0 to 1, not {self.rate}")
        if not train or self.rate == 0.0:
            return x
        if self.rate == 1.0:
            return jnp.zeros_like(x)
        keep = keep_mask(self.make_rng("dropout"), self.rate, x.shape)
        return jnp.where(keep, x * (1.0 / (1.0 - self.rate)), jnp.zeros((), x.dtype))


def keep_mask(key: PRNGKeyArray, rate: float, shape: tuple[int, ...]) -> Bool[Array, "..."]:
    """True, with probability ``1 - rate``, for the elements that stay.

    Args:
        key: random key, typed or raw.
        rate: probability of False, at least 0 and below 1.
        shape: of this device's array; its first dimension is the batch.
    """
    bits = random_bits(key, shape)
    return bits >= jnp.uint32(min(round(rate * 2**32), 2**32 - 1))


def random_bits(key: PRNGKeyArray, shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """A word for each element of this device's array, whose first dimension is the batch."""
    words = jax.random.key_data(key).reshape(-1)
    k0, k1 = words[0], words[-1]
    row = jnp.arange(shape[0], dtype=jnp.uint32) + jnp.uint32(axis.index() * shape[0])
    # Two words per row, each of both key words: 64 bits tell rows, keys, layers and steps apart.
    a = mix(mix(row + k0) ^ k1)
    b = mix(mix(row ^ k1 ^ jnp.uint32(0x9E3779B9)) + k0)
    place = jnp.arange(math.prod(shape[1:]), dtype=jnp.uint32)
    return mix(mix(place + a[:, None]) ^ b[:, None]).reshape(shape)


def mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """A bijection of 32-bit words in which every input bit flips each output bit with probability
    very near one half: Chris Wellons' ``lowbias32`` (https://nullprogram.com/blog/2018/07/31/,
    https://github.com/skeeto/hash-prospector, public domain)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
