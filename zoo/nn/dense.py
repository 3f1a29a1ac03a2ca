"""Dense layer and embedding table.

Both contract one two-dimensional matrix product whatever the leading dimensions are: XLA's CPU
product is faster on ``[B*T, D]`` than on ``[B, T, D]``.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

FEW = 32
"""Rows up to which `Embed.attend` takes them for columns."""


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
        y = matmul(x, kernel)
        return y if bias is None else y + bias


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
        rows = math.prod(x.shape[:-1])
        if not 1 <= rows <= FEW:
            return matmul(x, table.T)
        # Decoding: the time is that of reading the table. XLA's CPU product of few rows with a
        # transposed table takes several times as long as that of the table with few columns; and
        # it would be fused with what made the rows, which are then made anew for every token id.
        x_RD = jax.lax.optimization_barrier(x.reshape(rows, x.shape[-1]))
        return jnp.dot(table, x_RD.T).T.reshape(*x.shape[:-1], table.shape[0])


def matmul(x: Float[Array, "*lead in"], kernel: Float[Array, "in out"]) -> Array:
    """``x @ kernel`` as one product of two matrices; result ``[*lead, out]``."""
    rows = math.prod(x.shape[:-1])
    y = jnp.dot(x.reshape(rows, x.shape[-1]), kernel)
    if rows == 1:
        # Decoding: XLA's CPU would fuse the product with what follows, and do both in one thread.
        y = jax.lax.optimization_barrier(y)
    return y.reshape(*x.shape[:-1], kernel.shape[-1])
