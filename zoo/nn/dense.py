"""Dense layer and embedding table.

Both contract one two-dimensional matrix product whatever the leading dimensions are: XLA's CPU
product is faster on ``[B*T, D]`` than on ``[B, T, D]``.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int


class Dense(nn.Module):
    """``y = x @ kernel + bias`` over the last dimension.

    Parameters: ``kernel`` ``[in, out]``, ``bias`` ``[out]``. ``dtype`` None computes in the widest
    dtype of input and parameters.
    """

    features: int
    use_bias: bool = True
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "*lead in"]) -> Float[Array, "*lead out"]:
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, shape[1:], self.param_dtype)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = self.product(x, kernel)
        return y if bias is None else y + bias

    def product(
        self, x: Float[Array, "*lead in"], kernel: Float[Array, "in out"]
    ) -> Float[Array, "*lead out"]:
        """``x @ kernel``: a method of its own, so that an interceptor can compute it otherwise."""
        return matmul(x, kernel)


class Embed(nn.Module):
    """Table of vectors: ``ids -> embedding[ids]``.

    Parameter: ``embedding`` ``[num_embeddings, features]``, by default normal with variance
    ``1 / features``. An id at or above ``num_embeddings`` gives NaN, not the last row.
    """

    num_embeddings: int
    features: int
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    embedding_init: Initializer = nn.initializers.variance_scaling(
        1.0, "fan_in", "normal", out_axis=0
    )

    def setup(self) -> None:
        shape = (self.num_embeddings, self.features)
        self.embedding = self.param("embedding", self.embedding_init, shape, self.param_dtype)

    def __call__(self, ids: Int[Array, "*lead"]) -> Float[Array, "*lead D"]:
        (table,) = promote_dtype(self.embedding, dtype=self.dtype)
        return jnp.take(table, ids, axis=0, mode="fill", fill_value=jnp.nan)

    def attend(self, x: Float[Array, "*lead D"]) -> Float[Array, "*lead V"]:
        """Scores of every row of the table: ``x @ embedding.T``, the tied output layer of
        Press and Wolf (2017, https://arxiv.org/abs/1608.05859)."""
        x, table = promote_dtype(x, self.embedding, dtype=self.dtype)
        return matmul(x, table.T)


def matmul(
    x: Float[Array, "*lead in"],
    kernel: Float[Array, "in out"],
    dot: Callable[[Array, Array], Array] = jnp.dot,
) -> Array:
    """``x @ kernel`` as one product of two matrices, computed by ``dot``; result
    ``[*lead, out]``."""
    y = dot(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), kernel)
    return y.reshape(*x.shape[:-1], kernel.shape[-1])
