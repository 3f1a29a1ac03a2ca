"""Scaled dot-product attention, its masks, and attention in several heads.

B batch, H heads, T queries, S keys, K features of a head, D = H * K.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from zoo.nn.activation import softmax
from zoo.nn.dense import Dense
from zoo.nn.dropout import Dropout


def split_heads(x: Float[Array, "B T D"], num_heads: int) -> Float[Array, "B H T K"]:
    """The last dimension as heads, each a matrix of its own in memory: XLA's CPU products over
    ``[B, H]`` are faster so than with the heads inside."""
    batch, time, width = x.shape
    return x.reshape(batch, time, num_heads, width // num_heads).transpose(0, 2, 1, 3)


def merge_heads(x: Float[Array, "B H T K"]) -> Float[Array, "B T D"]:
    """The inverse of ``split_heads``."""
    batch, heads, time, features = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, time, heads * features)


def attention(
    query: Float[Array, "B H T K"],
    key: Float[Array, "B H S K"],
    value: Float[Array, "B H S K"],
    mask: Bool[Array, "#B #H #T #S"] | None = None,
    dropout: Callable[[Array], Array] | None = None,
) -> Float[Array, "B H T K"]:
    """``softmax(Q K^T / sqrt(K)) V`` (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762,
    equation 1), the softmax in at least float32.

    Args:
        query: what asks.
        key: what is compared with it.
        value: what is averaged.
        mask: True where a query may see a key. A query that may see none gets zeros.
        dropout: applied to the weights ``[B, H, T, S]``.
    """
    scale = 1.0 / math.sqrt(query.shape[-1])
    scores = jnp.einsum("bhtk,bhsk->bhts", query * scale, key)
    weights = softmax(scores, where=mask)
    if dropout is not None:
        weights = dropout(weights)
    return jnp.einsum("bhts,bhsk->bhtk", weights, value)


def grouped_attention(
    query: Float[Array, "B H T K"],
    key: Float[Array, "B G S K"],
    value: Float[Array, "B G S K"],
    mask: Bool[Array, "#B 1 #T #S"] | None = None,
    dropout: Callable[[Array], Array] | None = None,
) -> Float[Array, "B H T K"]:
    """Attention in which H / G query heads, one after the other, share each key and value head
    (Ainslie et al., 2023, https://arxiv.org/abs/2305.13245).

    The queries of a group stand under each other in one product, so nothing is repeated. Arguments
    as for ``attention``.
    """
    batch, heads, time, features = query.shape
    groups, keys = key.shape[1:3]
    if groups == heads:
        return attention(query, key, value, mask, dropout)
    stacked = query.reshape(batch, groups, heads // groups * time, features)
    if mask is not None and mask.shape[2] > 1:
        shape = (mask.shape[0], 1, heads // groups, time, keys)
        mask = jnp.broadcast_to(mask[:, :, None], shape).reshape(mask.shape[0], 1, -1, keys)

    def drop(weights: Float[Array, "B G R S"]) -> Float[Array, "B G R S"]:
        assert dropout is not None
        return dropout(weights.reshape(batch, heads, time, keys)).reshape(weights.shape)

    y = attention(stacked, key, value, mask, drop if dropout else None)
    return y.reshape(query.shape)


def padding_mask(attention_mask: Int[Array, "B S"] | Bool[Array, "B S"]) -> Bool[Array, "B 1 1 S"]:
    """Hides the keys whose attention mask is 0 from every query."""
    return (attention_mask != 0)[:, None, None, :]


def causal_mask(
    queries: int, keys: int, first: Int[Array, ""] | int = 0
) -> Bool[Array, "1 1 {queries} {keys}"]:
    """Query t, which stands at place ``first + t``, sees the keys up to its own place."""
    place = jnp.arange(queries)[:, None] + first
    return (jnp.arange(keys)[None, :] <= place)[None, None]


class MultiHeadAttention(nn.Module):
    """Queries, keys and values projected, attended to in heads, projected back (Vaswani et al.,
    2017, section 3.2.2); every projection has a bias.

    Parameters: ``query``, ``key``, ``value``, ``out``, each ``kernel`` ``[D, D]`` and ``bias``
    ``[D]``.
    """

    width: int
    num_heads: int
    dropout: float
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        init = nn.initializers.xavier_uniform()
        self.query = Dense(self.width, **types, kernel_init=init)
        self.key = Dense(self.width, **types, kernel_init=init)
        self.value = Dense(self.width, **types, kernel_init=init)
        self.out = Dense(self.width, **types, kernel_init=init)
        self.weight_dropout = Dropout(self.dropout)

    def project(
        self, source: Float[Array, "B S D"]
    ) -> tuple[Float[Array, "B H S K"], Float[Array, "B H S K"]]:
        """Keys and values of what is attended to."""
        heads = self.num_heads
        return split_heads(self.key(source), heads), split_heads(self.value(source), heads)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        key: Float[Array, "B H S K"],
        value: Float[Array, "B H S K"],
        mask: Bool[Array, "#B #H #T #S"] | None = None,
        train: bool = False,
    ) -> Float[Array, "B T D"]:
        """What each token of ``x`` finds in the values; ``mask`` is True where it may look."""
        q_BHTK = split_heads(self.query(x), self.num_heads)
        y_BHTK = attention(q_BHTK, key, value, mask, lambda w: self.weight_dropout(w, train))
        return self.out(merge_heads(y_BHTK))
