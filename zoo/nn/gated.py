"""Gated feed-forward layer."""

from typing import Any

import flax.linen as nn
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from zoo.nn.activation import activation
from zoo.nn.dense import Dense


class GatedMLP(nn.Module):
    """``down(activation(gate(x)) * up(x))`` (Shazeer, 2020, https://arxiv.org/abs/2002.05202).

    Parameters: ``gate`` and ``up``, each ``kernel`` ``[D, hidden]``, ``down`` with ``kernel``
    ``[hidden, D]``, and a ``bias`` each where ``use_bias``.
    """

    hidden: int
    activation: str
    use_bias: bool
    kernel_init: Initializer
    dtype: DTypeLike = "float32"
    param_dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "*lead D"]) -> Float[Array, "*lead D"]:
        shared: dict[str, Any] = {
            "use_bias": self.use_bias,
            "kernel_init": self.kernel_init,
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
        }
        gate = activation(self.activation)(Dense(self.hidden, **shared, name="gate")(x))
        y = gate * Dense(self.hidden, **shared, name="up")(x)
        return Dense(x.shape[-1], **shared, name="down")(y)
