"""What Vision Transformers are made of (Dosovitskiy et al., 2020,
https://arxiv.org/abs/2010.11929).

B batch, T tokens, D width, H heads, K features of a head.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from zoo.errors import InputError
from zoo.nn.activation import activation
from zoo.nn.attention import attention, merge_heads, split_heads
from zoo.nn.dense import Dense
from zoo.nn.dropout import Dropout
from zoo.nn.norm import LayerNorm
from zoo.nn.stochastic_depth import StochasticDepth

INIT = nn.initializers.normal(0.02)
"""Of every kernel."""


def dense(features: int, types: dict[str, Any], name: str, use_bias: bool = True) -> Dense:
    """A dense layer that starts as these models do; ``types`` are its dtypes."""
    return Dense(features, use_bias, **types, kernel_init=INIT, name=name)


def check_classes(task: str, num_classes: int) -> None:
    """Raises InputError where the task is classification without classes."""
    if task == "image-classification" and num_classes < 1:
        raise InputError(f"image-classification needs num_classes of 1 or more, not {num_classes}")


def check_mean(global_pool: str) -> None:
    """Raises InputError where ``global_pool`` is neither the patches' mean nor all of them."""
    if global_pool not in ("avg", ""):
        raise InputError(f"no global_pool {global_pool!r}; there are 'avg' and ''")


class SelfAttention(nn.Module):
    """Every token looks at every token that ``mask`` lets it see.

    Parameters: ``query``, ``key``, ``value``, ``out``, each ``kernel`` ``[D, D]`` and ``bias``
    ``[D]``; the first three without bias where not ``qkv_bias``.
    """

    num_heads: int
    qkv_bias: bool
    dropout: float
    """Rate on attention weights."""
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], mask: Bool[Array, "#B 1 #T T"] | None, train: bool
    ) -> Float[Array, "B T D"]:
        width = x.shape[-1]
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        q_BHTK, k_BHTK, v_BHTK = (
            split_heads(dense(width, types, name, self.qkv_bias)(x), self.num_heads)
            for name in ("query", "key", "value")
        )
        drop = Dropout(self.dropout, name="weights")
        y_BHTK = attention(q_BHTK, k_BHTK, v_BHTK, mask, lambda weights: drop(weights, train))
        return dense(width, types, "out")(merge_heads(y_BHTK))


class FeedForward(nn.Module):
    """Two dense layers. Parameters: ``up``, ``down``."""

    hidden: int
    activation: str
    dropout: float
    """Rate after the activation."""
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], train: bool) -> Float[Array, "B T D"]:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        y = activation(self.activation)(dense(self.hidden, types, "up")(x))
        y = Dropout(self.dropout, name="dropout")(y, train)
        return dense(x.shape[-1], types, "down")(y)


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward, each of the normalised input and added to it (figure 1).

    Parameters: ``attention_norm``, ``attention``, ``mlp_norm``, ``mlp``.
    """

    num_heads: int
    hidden: int
    activation: str
    epsilon: float
    qkv_bias: bool
    attention_dropout: float
    """Rate on attention weights."""
    mlp_dropout: float
    """Rate after the activation."""
    dropout: float
    """Rate on what attention and feed-forward add."""
    stochastic_depth: float
    """Rate at which an example skips attention or feed-forward."""
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        train: bool,
        mask: Bool[Array, "#B 1 #T T"] | None = None,
    ) -> Float[Array, "B T D"]:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        y = LayerNorm(self.epsilon, **types, name="attention_norm")(x)
        attend = SelfAttention(
            self.num_heads, self.qkv_bias, self.attention_dropout, **types, name="attention"
        )
        y = Dropout(self.dropout, name="attention_dropout")(attend(y, mask, train), train)
        x = x + StochasticDepth(self.stochastic_depth, name="attention_depth")(y, train)
        y = LayerNorm(self.epsilon, **types, name="mlp_norm")(x)
        feed = FeedForward(self.hidden, self.activation, self.mlp_dropout, **types, name="mlp")
        y = Dropout(self.dropout, name="mlp_dropout")(feed(y, train), train)
        return x + StochasticDepth(self.stochastic_depth, name="mlp_depth")(y, train)
