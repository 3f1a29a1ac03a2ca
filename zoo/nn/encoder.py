"""What BERT and its kin are made of (Devlin et al., 2018, https://arxiv.org/abs/1810.04805).

B batch, N choices, T tokens, D width, E width of the embeddings, H heads, K features of a head,
V vocabulary.
"""

from typing import Any

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Int

from zoo.errors import InputError
from zoo.nn.activation import activation
from zoo.nn.attention import attention, merge_heads, split_heads
from zoo.nn.dense import Dense, Embed
from zoo.nn.dropout import Dropout
from zoo.nn.norm import LayerNorm

INIT = nn.initializers.normal(0.02)
"""Of every kernel and table."""


@flax.struct.dataclass
class PooledOutput:
    """Of a model with pooler and without head."""

    last_hidden_state: Any
    """``[B, T, D]``, of every token."""
    pooler_output: Any
    """``[B, D]``, the first token's, through a dense layer and tanh."""


def token_rows(
    task: str, input_ids: ArrayLike | None, *others: ArrayLike | None
) -> tuple[tuple[int, ...], list[Any]]:
    """What a model is given as arrays ``[rows, T]``, after the shape that the rows had; the choices
    of a question are rows.

    Args:
        task: ``multiple-choice`` takes ``[B, N, T]`` or ``[N, T]``, any other ``[B, T]``.
        input_ids: of that shape.
        others: of the same shape, or None.

    Raises:
        InputError: the ids are of another rank, or others of another shape.
    """
    arrays = [None if x is None else jnp.asarray(x) for x in (input_ids, *others)]
    ids, ranks = arrays[0], (2, 3) if task == "multiple-choice" else (2,)
    if ids is None or ids.ndim not in ranks:
        shape = "nothing" if ids is None else ids.shape
        raise InputError(f"{task} takes input_ids of rank {ranks[-1]}, not {shape}")
    for x in arrays[1:]:
        if x is not None and x.shape != ids.shape:
            raise InputError(f"input_ids are {ids.shape}, what goes with them is {x.shape}")
    rows = [None if x is None else x.reshape(-1, x.shape[-1]) for x in arrays]
    return ids.shape[:-1], rows


def check_heads(num_heads: int, width: int) -> None:
    """Raises InputError where the heads do not divide a model's width."""
    if num_heads < 1 or width % num_heads:
        raise InputError(f"{num_heads} heads do not divide a width of {width}")


def dense(features: int, types: dict[str, Any], name: str) -> Dense:
    """A dense layer that starts as these models do; ``types`` are its dtypes."""
    return Dense(features, **types, kernel_init=INIT, name=name)


class Embeddings(nn.Module):
    """Tokens, positions and token types added, then layer norm (figure 2).

    Parameters: ``positions`` ``[num_positions, E]``, ``types`` ``[token_types, E]`` (none where
    there are 0 token types), ``norm``.
    """

    num_positions: int
    token_types: int
    epsilon: float
    dropout: float
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        tokens: Float[Array, "B T E"],
        positions: Int[Array, "#B T"],
        token_types: Int[Array, "#B #T"] | None,
        train: bool,
    ) -> Float[Array, "B T E"]:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        table: dict[str, Any] = {**types, "embedding_init": INIT}
        x, width = tokens, tokens.shape[-1]
        if self.token_types:
            kinds = jnp.zeros((1, 1), jnp.int32) if token_types is None else token_types
            x = x + Embed(self.token_types, width, **table, name="types")(kinds)
        x = x + Embed(self.num_positions, width, **table, name="positions")(positions)
        x = LayerNorm(self.epsilon, **types, name="norm")(x)
        return Dropout(self.dropout, name="dropout")(x, train)


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward, each added to its input and normalised.

    Parameters: ``attention``, ``attention_norm``, ``up``, ``down``, ``mlp_norm``.
    """

    num_heads: int
    hidden: int
    activation: str
    epsilon: float
    weight_dropout: float
    """Rate on attention weights."""
    attention_dropout: float
    """Rate on what the attention adds."""
    mlp_dropout: float
    """Rate on what the feed-forward layer adds."""
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], mask: Bool[Array, "#B 1 1 T"] | None, train: bool
    ) -> Float[Array, "B T D"]:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        attend = SelfAttention(self.num_heads, self.weight_dropout, **types, name="attention")
        y = Dropout(self.attention_dropout, name="attention_dropout")(attend(x, mask, train), train)
        x = LayerNorm(self.epsilon, **types, name="attention_norm")(x + y)
        y = activation(self.activation)(dense(self.hidden, types, "up")(x))
        y = dense(x.shape[-1], types, "down")(y)
        y = Dropout(self.mlp_dropout, name="mlp_dropout")(y, train)
        return LayerNorm(self.epsilon, **types, name="mlp_norm")(x + y)


class SelfAttention(nn.Module):
    """Every token looks at every token that counts.

    Parameters: ``query``, ``key``, ``value``, ``out``, each ``kernel`` ``[D, D]`` and ``bias``
    ``[D]``.
    """

    num_heads: int
    dropout: float
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], mask: Bool[Array, "#B 1 1 T"] | None, train: bool
    ) -> Float[Array, "B T D"]:
        width = x.shape[-1]
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        q_BHTK, k_BHTK, v_BHTK = (
            split_heads(dense(width, types, name)(x), self.num_heads)
            for name in ("query", "key", "value")
        )
        drop = Dropout(self.dropout, name="weights")
        y_BHTK = attention(q_BHTK, k_BHTK, v_BHTK, mask, lambda weights: drop(weights, train))
        return dense(width, types, "out")(merge_heads(y_BHTK))


class MaskedLanguageHead(nn.Module):
    """A dense layer to the width of the embeddings and layer norm, then the score of every token.

    Parameters: ``dense``, ``norm``, and ``bias`` ``[V]`` where the head is tied, else ``decoder``.
    """

    activation: str
    epsilon: float
    tied: bool
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], embed: Embed) -> Float[Array, "B T V"]:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = activation(self.activation)(dense(embed.features, types, "dense")(x))
        x = LayerNorm(self.epsilon, **types, name="norm")(x)
        if not self.tied:
            return dense(embed.num_embeddings, types, "decoder")(x)
        shape = (embed.num_embeddings,)
        bias = self.param("bias", nn.initializers.zeros, shape, self.param_dtype)
        return embed.attend(x) + bias.astype(self.dtype)
