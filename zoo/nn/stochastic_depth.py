"""Stochastic depth: residual branches left out at random."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from zoo.errors import InputError
from zoo.nn.dropout import keep_mask


class StochasticDepth(nn.Module):
    """Zeroes a whole example of a branch with probability ``rate`` and divides the others by
    ``1 - rate`` (Huang et al., 2016, https://arxiv.org/abs/1603.09382, scaled while training).

    The first dimension is the batch. The key comes from the collection ``dropout``; rate 0 and
    ``train=False`` need none and change nothing.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "B *rest"], train: bool) -> Float[Array, "B *rest"]:
        if not 0.0 <= self.rate <= 1.0:
            raise InputError(f"a rate of stochastic depth is a number from 0 to 1, not {self.rate}")
        if not train or self.rate == 0.0:
            return x
        if self.rate == 1.0:
            return jnp.zeros_like(x)
        keep = keep_mask(self.make_rng("dropout"), self.rate, x.shape[:1])
        keep = keep.reshape(-1, *(1,) * (x.ndim - 1))
        return jnp.where(keep, x * (1.0 / (1.0 - self.rate)), jnp.zeros((), x.dtype))


def rising_rate(rate: float, layer: int, depth: int) -> float:
    """The rate of a layer where rates rise evenly from 0 in the first layer to ``rate`` in the last
    (section 4 of the paper, which starts at ``rate / depth``; as here in later networks)."""
    return rate * layer / max(depth - 1, 1)
