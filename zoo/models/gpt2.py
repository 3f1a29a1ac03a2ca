"""Language models are unsupervised multitask learners (Radford et al., 2019,
https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf):
GPT-2.

B batch, T tokens, L places of a cache, D width, H heads, K features of a head, C classes,
V vocabulary.
"""

import math
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
from zoo.nn.norm import LayerNorm
from zoo.nn.positions import check_length

TASKS = ("text-generation", "feature-extraction", "text-classification")


@dataclass(frozen=True)
class Config:
    """A stack of causal blocks between an embedding and a head."""

    vocab_size: int = 50_257
    """Number of token ids."""
    width: int = 768
    """Features of a token."""
    depth: int = 12
    """Blocks."""
    num_heads: int = 12
    """Attention heads; they divide the width."""
    hidden: int | None = None
    """Features inside the feed-forward layers; None is four times the width."""
    activation: str = "gelu_tanh"
    """Of the feed-forward layers."""
    epsilon: float = 1e-5
    """Added to the variance in layer norms."""
    max_length: int = 1024
    """Positions, so the longest sequence."""
    tied: bool = True
    """Whether the language model's output layer is the token embedding."""
    scale_by_width: bool = True
    """Whether attention scores are divided by the root of a head's features."""
    scale_by_depth: bool = False
    """Whether the scores of block i, counted from 1, are also divided by i."""
    embed_dropout: float = 0.1
    """Rate on the sum of the embeddings."""
    attention_dropout: float = 0.1
    """Rate on attention weights."""
    dropout: float = 0.1
    """Rate on what attention and feed-forward layers add to the residual stream."""
    num_classes: int = 2
    """Outputs of the classification head."""
    labels: tuple[str, ...] = ()
    """Names of the classes, where they have any."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "GPT2":
        """The module.

        Raises:
            InputError: unknown task or activation, or heads that do not divide the width.
        """
        task = check_task(task, TASKS)
        activation(self.activation)
        if self.num_heads < 1 or self.width % self.num_heads:
            raise InputError(f"{self.num_heads} heads do not divide a width of {self.width}")
        return GPT2(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of an example batch."""
        return {"input_ids": jax.ShapeDtypeStruct((batch, min(self.max_length, 16)), jnp.int32)}


class GPT2(nn.Module):
    """Token ids in; logits of the next token ``[B, T, V]``, the last block's normalised hidden
    states ``[B, T, D]``, or class logits ``[B, C]`` out."""

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
        arrays: list[Array | None] = jax.tree.map(
            jnp.asarray, [input_ids, attention_mask, token_type_ids]
        )
        ids, attention_mask, type_ids = arrays
        assert ids is not None
        check_length(ids.shape[1], self.cfg.max_length)
        places, seen, mask = look((ids.shape[0], ids.shape[1]), attention_mask, cache)

        embed = Embed(cfg.vocab_size, cfg.width, **types, embedding_init=_normal(), name="embed")
        position = Embed(
            cfg.max_length, cfg.width, **types, embedding_init=_normal(), name="position"
        )
        x_BTD = embed(ids) + position(places)
        if type_ids is not None:
            x_BTD = x_BTD + embed(type_ids)
        x_BTD = Dropout(cfg.embed_dropout, name="embed_dropout")(x_BTD, train)
        keys, values = [], []
        for i in range(cfg.depth):
            x_BTD, key, value = Block(cfg, i, **types, name=f"block{i}")(x_BTD, seen, cache, train)
            keys.append(key)
            values.append(value)
        x_BTD = LayerNorm(cfg.epsilon, **types, name="norm")(x_BTD)

        if self.task == "text-classification":
            head = Dense(
                cfg.num_classes, use_bias=False, **types, kernel_init=_normal(), name="head"
            )
            result = head(_last(x_BTD, attention_mask))
        elif self.task == "feature-extraction":
            result = x_BTD
        elif cfg.tied:
            result = embed.attend(x_BTD)
        else:
            head = Dense(
                cfg.vocab_size, use_bias=False, **types, kernel_init=_normal(), name="head"
            )
            result = head(x_BTD)
        if cache is None:
            return result
        return result, Cache(cache.index + ids.shape[1], mask, tuple(keys), tuple(values))

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
    """Attention, then feed-forward layers; each sees a normalised copy of the residual stream and
    adds to it (section 2.3)."""

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
        """The stream, and the keys and values of all tokens up to here."""
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        y = LayerNorm(cfg.epsilon, **types, name="norm1")(x)
        attend = Attention(cfg, self.index, **types, name="attention")
        y, key, value = attend(y, seen, cache, train)
        x = x + Dropout(cfg.dropout, name="dropout1")(y, train)
        y = LayerNorm(cfg.epsilon, **types, name="norm2")(x)
        y = FeedForward(cfg, **types, name="mlp")(y)
        return x + Dropout(cfg.dropout, name="dropout2")(y, train), key, value


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

        def project(name: str) -> Float[Array, "B H T K"]:
            y = Dense(cfg.width, **types, kernel_init=_normal(), name=name)(x)
            return split_heads(y, cfg.num_heads)

        query, key, value = project("query"), project("key"), project("value")
        if cache is not None:
            key, value = extend(cache, self.index, key, value)
        # `attention` divides by the root of a head's features; what else scales goes to the query.
        factor = 1.0 / (self.index + 1) if cfg.scale_by_depth else 1.0
        factor *= 1.0 if cfg.scale_by_width else math.sqrt(cfg.width // cfg.num_heads)
        query = query if factor == 1.0 else query * factor
        dropout = Dropout(cfg.attention_dropout, name="weights")
        y = merge_heads(attention(query, key, value, seen, lambda w: dropout(w, train)))
        out = Dense(cfg.width, **types, kernel_init=_normal(cfg.depth), name="out")
        return out(y), key, value


class FeedForward(nn.Module):
    """Two dense layers with the activation between."""

    cfg: Config
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        hidden = 4 * cfg.width if cfg.hidden is None else cfg.hidden
        x = Dense(hidden, **types, kernel_init=_normal(), name="up")(x)
        x = activation(cfg.activation)(x)
        return Dense(cfg.width, **types, kernel_init=_normal(cfg.depth), name="down")(x)


def _normal(depth: int | None = None) -> nn.initializers.Initializer:
    """Deviation 0.02; where the result is added to the residual stream, smaller by the root of the
    number of such additions, two a block (section 2.3)."""
    return nn.initializers.normal(0.02 if depth is None else 0.02 / math.sqrt(2 * depth))


def _last(
    x: Float[Array, "B T D"], attention_mask: Int[Array, "B T"] | None
) -> Float[Array, "B D"]:
    """The last token that counts; the first where none does."""
    if attention_mask is None:
        return x[:, -1]
    last = jnp.argmax(jnp.arange(x.shape[1]) * (attention_mask != 0), axis=1)
    return jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]


_SOURCE = "https://github.com/huggingface/transformers, GPT2LMHeadModel with a tied head"
SIZES = {
    "gpt2": Size(Config(), 124_439_808, _SOURCE, "MIT", "WikiText-103 perplexity 37.5"),
    "gpt2-medium": Size(
        Config(width=1024, depth=24, num_heads=16),
        354_823_168,
        _SOURCE,
        "MIT",
        "WikiText-103 perplexity 26.4",
    ),
    "gpt2-large": Size(
        Config(width=1280, depth=36, num_heads=20),
        774_030_080,
        _SOURCE,
        "MIT",
        "WikiText-103 perplexity 22.1",
    ),
    "gpt2-xl": Size(
        Config(width=1600, depth=48, num_heads=25),
        1_557_611_200,
        _SOURCE,
        "MIT",
        "WikiText-103 perplexity 17.5",
    ),
    "distilgpt2": Size(Config(depth=6), 81_912_576, _SOURCE, "Apache-2.0"),
}

TENSOR_PARALLEL = (
    (r"(query|key|value|up)/kernel", P(None, "tensor")),
    (r"(query|key|value|up)/bias", P("tensor")),
    (r"(out|down)/kernel", P("tensor", None)),
    (r"embed/embedding", P(None, "tensor")),
)
"""Path endings and partitions: heads and hidden features are split, so a sublayer needs one sum."""
