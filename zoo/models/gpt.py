"""Improving language understanding by generative pre-training (Radford et al., 2018,
https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf): GPT.

B batch, T tokens, L places of a cache, D width, H heads, K features of a head, C classes,
V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Int

from zoo.errors import InputError
from zoo.models.registry import Size, check_task
from zoo.nn.activation import activation
from zoo.nn.attention import attention, merge_heads, split_heads
from zoo.nn.cache import Cache, empty_cache, extend, look
from zoo.nn.dense import Dense, Embed
from zoo.nn.dropout import Dropout
from zoo.nn.last_token import last_token
from zoo.nn.norm import LayerNorm
from zoo.nn.positions import check_length

TASKS = ("text-generation", "feature-extraction", "text-classification")
INIT = nn.initializers.normal(0.02)


@dataclass(frozen=True)
class Config:
    """A stack of causal post-norm blocks between an embedding and a head."""

    vocab_size: int = 40_478
    """Number of token ids."""
    width: int = 768
    """Features of a token; the feed-forward layers have four times as many inside."""
    depth: int = 12
    """Blocks."""
    num_heads: int = 12
    """Attention heads; they divide the width."""
    activation: str = "gelu_tanh"
    """Of the feed-forward layers."""
    epsilon: float = 1e-5
    """Added to the variance in layer norms."""
    max_length: int = 512
    """Positions, so the longest sequence."""
    tied: bool = True
    """Whether the language model's output layer is the token embedding."""
    embed_dropout: float = 0.1
    """Rate on the sum of the embeddings."""
    attention_dropout: float = 0.1
    """Rate on attention weights."""
    dropout: float = 0.1
    """Rate on the outputs of attention and feed-forward layers."""
    num_classes: int = 2
    """Outputs of the classification head."""
    labels: tuple[str, ...] = ()
    """Names of the classes, where they have any."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "GPT":
        """The module.

        Raises:
            InputError: unknown task or activation, or heads that do not divide the width.
        """
        task = check_task(task, TASKS)
        activation(self.activation)
        if self.num_heads < 1 or self.width % self.num_heads:
            raise InputError(f"{self.num_heads} heads do not divide a width of {self.width}")
        return GPT(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of an example batch."""
        return {"input_ids": jax.ShapeDtypeStruct((batch, min(self.max_length, 16)), jnp.int32)}


class GPT(nn.Module):
    """Token ids in; logits of the next token ``[B, T, V]``, the last block's hidden states
    ``[B, T, D]``, or class logits ``[B, C]`` out."""

    cfg: Config
    task: str = TASKS[0]
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        input_ids: Int[ArrayLike, "B T"],
        attention_mask: Int[ArrayLike, "B T"] | None = None,
        token_type_ids: Int[ArrayLike, "B T"] | None = None,
        cache: Cache | None = None,
        train: bool = False,
    ) -> Array | tuple[Array, Cache]:
        """Runs the blocks and the task's head.

        Args:
            input_ids: the text, or with a cache the tokens that follow those seen.
            attention_mask: 0 at padding, which may be on either side; of the new tokens only.
            token_type_ids: further ids to look up in the token embedding and to add.
            cache: from ``init_cache``, or of the call before; the result is then
                ``(output, cache)``. There must be room for the tokens in it.
            train: whether dropout is active; needs ``rngs={"dropout": key}``.

        Returns:
            The task's array. A classification is read off the last token that counts.

        Raises:
            InputError: the sequence is longer than ``max_length``.
        """
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        ids = jnp.asarray(input_ids)
        mask = None if attention_mask is None else jnp.asarray(attention_mask)
        batch, time = ids.shape
        check_length(time, self.cfg.max_length)
        places, seen, counts = look((batch, time), mask, cache)

        embed = Embed(cfg.vocab_size, cfg.width, **types, embedding_init=INIT, name="embed")
        position = Embed(cfg.max_length, cfg.width, **types, embedding_init=INIT, name="position")
        x_BTD = embed(ids) + position(places)
        if token_type_ids is not None:
            x_BTD = x_BTD + embed(jnp.asarray(token_type_ids))
        x_BTD = Dropout(cfg.embed_dropout, name="embed_dropout")(x_BTD, train)
        keys, values = [], []
        for i in range(cfg.depth):
            x_BTD, key, value = Block(cfg, i, **types, name=f"block{i}")(x_BTD, seen, cache, train)
            keys.append(key)
            values.append(value)

        if self.task == "text-classification":
            result = _dense(cfg.num_classes, types, "head", False)(last_token(x_BTD, mask))
        elif self.task == "feature-extraction":
            result = x_BTD
        elif cfg.tied:
            result = embed.attend(x_BTD)
        else:
            result = _dense(cfg.vocab_size, types, "head", False)(x_BTD)
        if cache is None:
            return result
        return result, Cache(cache.index + time, counts, tuple(keys), tuple(values))

    def init_cache(self, batch: int, length: int) -> Cache:
        """An empty cache for ``length`` tokens, padding included.

        Raises:
            InputError: ``length`` is above the config's ``max_length``.
        """
        cfg = self.cfg
        check_length(length, self.cfg.max_length)
        head_dim = cfg.width // cfg.num_heads
        return empty_cache(cfg.depth, batch, cfg.num_heads, length, head_dim, self.dtype)


class Block(nn.Module):
    """Attention, then feed-forward layers, each added to its input and normalised (figure 1)."""

    cfg: Config
    index: int
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        seen: Bool[Array, "B 1 T L"],
        cache: Cache | None,
        train: bool,
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B H L K"], Float[Array, "B H L K"]]:
        """The output, and the keys and values of all tokens up to here."""
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        attend = Attention(cfg, self.index, **types, name="attention")
        y, key, value = attend(x, seen, cache, train)
        y = Dropout(cfg.dropout, name="attention_dropout")(y, train)
        x = LayerNorm(cfg.epsilon, **types, name="attention_norm")(x + y)
        y = activation(cfg.activation)(_dense(4 * cfg.width, types, "up")(x))
        y = Dropout(cfg.dropout, name="mlp_dropout")(_dense(cfg.width, types, "down")(y), train)
        return LayerNorm(cfg.epsilon, **types, name="mlp_norm")(x + y), key, value


class Attention(nn.Module):
    """Causal self-attention in heads, after the tokens that a cache holds."""

    cfg: Config
    index: int
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        seen: Bool[Array, "B 1 T L"],
        cache: Cache | None,
        train: bool,
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B H L K"], Float[Array, "B H L K"]]:
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        query, key, value = (
            split_heads(_dense(cfg.width, types, name)(x), cfg.num_heads)
            for name in ("query", "key", "value")
        )
        if cache is not None:
            key, value = extend(cache, self.index, key, value)
        drop = Dropout(cfg.attention_dropout, name="weights")
        y = attention(query, key, value, seen, lambda weights: drop(weights, train))
        return _dense(cfg.width, types, "out")(merge_heads(y)), key, value


def _dense(features: int, types: dict[str, Any], name: str, use_bias: bool = True) -> Dense:
    return Dense(features, use_bias, **types, kernel_init=INIT, name=name)


SIZES = {
    "openai-gpt": Size(
        Config(), 116_534_784,
        "https://github.com/huggingface/transformers, OpenAIGPTLMHeadModel with a tied head", "MIT",
        "GLUE 72.8",
    ),
}  # fmt: skip

TENSOR_PARALLEL = (
    (r"(query|key|value|up)/kernel", P(None, "tensor")),
    (r"(query|key|value|up)/bias", P("tensor")),
    (r"(out|down)/kernel", P("tensor", None)),
    (r"embed/embedding", P(None, "tensor")),
)
"""Path endings and partitions: heads and hidden features are split, so a sublayer needs one sum."""
