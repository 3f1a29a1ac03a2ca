"""Feed-forward layers of which each token takes some.

B batch, T tokens, D width, X experts, E experts of a token, M hidden features of an expert,
N = B * T * E rows: a token stands once for each of its experts.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from zoo.nn.activation import activation
from zoo.nn.dropout import random_bits


class Experts(nn.Module):
    """The weighted sum of ``down(activation(gate(x)) * up(x))`` over each token's experts.

    Exact for any choice: rows are sorted by expert and every product is one over all rows in groups
    of any size, also of none, so no token is dropped and nothing is padded to a capacity. Where the
    backend has no kernel for groups (CPU) that costs as much as all experts on all rows; a step of
    generation, with no more rows than there are experts, reads only the experts that are asked for.

    Parameters: ``gate`` and ``up``, each ``kernel`` ``[X, D, M]``, ``down``: ``kernel``
    ``[X, M, D]``.
    """

    num_experts: int
    hidden: int
    activation: str
    kernel_init: Initializer
    dtype: DTypeLike = "float32"
    param_dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        chosen: Int[Array, "B T E"],
        weights: Float[Array, "B T E"],
    ) -> Float[Array, "B T D"]:
        """Args:
        x: tokens.
        chosen: numbers of their experts.
        weights: of what these compute.
        """
        shared: dict[str, Any] = {
            "num_experts": self.num_experts,
            "kernel_init": self.kernel_init,
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
        }
        expert = chosen.reshape(-1)
        order = jnp.argsort(expert)
        expert = expert[order]
        rows_ND = x.reshape(-1, x.shape[-1])[order // chosen.shape[-1]]
        gate = ExpertDense(self.hidden, **shared, name="gate")(rows_ND, expert)
        y_NM = activation(self.activation)(gate)
        y_NM = y_NM * ExpertDense(self.hidden, **shared, name="up")(rows_ND, expert)
        y_ND = ExpertDense(x.shape[-1], **shared, name="down")(y_NM, expert)
        y_BTED = y_ND[jnp.argsort(order)].reshape(*chosen.shape, x.shape[-1])
        return jnp.sum(y_BTED * weights[..., None], axis=2).astype(y_ND.dtype)


class ExpertDense(nn.Module):
    """``y[n] = x[n] @ kernel[expert[n]]`` for rows in the order of their experts.

    Parameter: ``kernel`` ``[X, in, out]``.
    """

    features: int
    num_experts: int
    kernel_init: Initializer
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "N in"], expert: Int[Array, "N"]) -> Float[Array, "N out"]:
        shape = (self.num_experts, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        if x.shape[0] <= self.num_experts:
            return jnp.einsum("ni,nio->no", x, kernel[expert])
        counts = jnp.bincount(expert, length=self.num_experts).astype(jnp.int32)
        return jax.lax.ragged_dot(x, kernel, counts)


class Jitter(nn.Module):
    """In training, each element times a number drawn evenly from ``1 - rate`` to ``1 + rate``
    (Fedus et al., 2021, https://arxiv.org/abs/2101.03961, appendix B), the same on any number of
    devices. The key comes from the collection ``dropout``; rate 0 needs none."""

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "B *rest"], train: bool) -> Float[Array, "B *rest"]:
        if not train or self.rate == 0.0:
            return x
        bits = random_bits(self.make_rng("dropout"), x.shape)
        return x * (1 + self.rate * (bits.astype(jnp.float32) * 2.0**-31 - 1)).astype(x.dtype)
