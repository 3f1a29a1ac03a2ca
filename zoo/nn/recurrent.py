"""Recurrent layers: Elman, LSTM and GRU over time.

T time, B batch, D input width, H features, G = gates * H.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.nn.cells import CELLS, State
from zoo.nn.dense import Dense
from zoo.nn.recur import recur


class Recurrent(nn.Module):
    """One layer in one direction. Time comes first, so that a step's rows lie together.

    Parameters: ``input/kernel`` ``[D, G]`` and ``input/bias`` ``[G]``, ``recurrent_kernel``
    ``[H, G]``, with two biases also ``recurrent_bias`` ``[G]``. The LSTM's forget gate starts with
    bias 1 (Jozefowicz et al., 2015, https://proceedings.mlr.press/v37/jozefowicz15.html).
    """

    cell: str
    features: int
    num_biases: int = 1
    reverse: bool = False
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "T B D"],
        mask: Bool[Array, "T B"] | None = None,
        state: State | None = None,
    ) -> tuple[Float[Array, "T B H"], State]:
        """Outputs of all steps and the state after the last.

        Args:
            x: inputs.
            mask: False at padding: it changes neither state nor output, which stay as they were.
            state: before the first step (``initial_state`` has the shapes); None is zeros.
        """
        width = CELLS[self.cell].gates * self.features
        dense = Dense(
            width,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            bias_init=self._bias,
            name="input",
        )
        kernel = self.param(
            "recurrent_kernel", _orthogonal, (self.features, width), self.param_dtype
        )
        bias = None
        if self.num_biases == 2:
            shape = (width,)
            bias = self.param("recurrent_bias", nn.initializers.zeros, shape, self.param_dtype)
            bias = bias.astype(self.dtype)
        if state is None:
            state = initial_state(self.cell, x.shape[1], self.features, self.dtype)
        mask = None if mask is None else mask[..., None]
        return recur(
            self.cell, self.reverse, dense(x), kernel.astype(self.dtype), bias, state, mask
        )

    def _bias(
        self, key: Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None
    ) -> Array:
        gate = jnp.arange(shape[0]) // self.features
        return jnp.where((gate == 1) & (self.cell == "lstm"), 1, 0).astype(dtype)


def initial_state(cell: str, batch: int, features: int, dtype: DTypeLike = jnp.float32) -> State:
    """Zeros, in at least float32: one array ``[batch, features]``, for the LSTM two."""
    wide = jnp.promote_types(dtype, jnp.float32)
    return tuple(jnp.zeros((batch, features), wide) for _ in range(CELLS[cell].states))


def _orthogonal(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """One orthogonal matrix ``[H, H]`` per gate (Saxe et al., 2013,
    https://arxiv.org/abs/1312.6120)."""
    keys = jax.random.split(key, shape[1] // shape[0])
    wide = jnp.promote_types(dtype, jnp.float32)
    one = functools.partial(nn.initializers.orthogonal(), shape=(shape[0], shape[0]), dtype=wide)
    gates = jax.vmap(one)(keys)  # [gates, H, H]
    return gates.transpose(1, 0, 2).reshape(shape).astype(dtype)
