"""Attention is all you need (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762).

B batch, S source tokens, T target tokens, L places of a cache, D width, H heads, K features of a
head, C classes, V vocabulary.
"""

import math
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Int

from zoo.errors import InputError
from zoo.models.registry import Size, check_task
from zoo.nn.attention import MultiHeadAttention, causal_mask, padding_mask
from zoo.nn.dense import Dense, Embed
from zoo.nn.dropout import Dropout
from zoo.nn.norm import LayerNorm
from zoo.nn.positions import check_length, sinusoidal

TASKS = ("translation", "text-classification")


@dataclass(frozen=True)
class Config:
    """Encoder and decoder of equal depth; classification uses the encoder alone."""

    vocab_size: int = 37_000
    """Number of token ids, shared by source and target."""
    width: int = 512
    """Features of a token."""
    depth: int = 6
    """Layers of the encoder, and as many of the decoder."""
    num_heads: int = 8
    """Attention heads; they divide the width."""
    hidden: int = 2048
    """Features inside the feed-forward layers."""
    dropout: float = 0.1
    """Rate on embeddings, on every sublayer's output and on attention weights."""
    max_length: int = 512
    """Longest sequence."""
    num_classes: int = 2
    """Outputs of the classification head."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "Transformer":
        """The module.

        Raises:
            InputError: unknown task, or heads that do not divide the width.
        """
        task = check_task(task, TASKS)
        if self.num_heads < 1 or self.width % self.num_heads:
            raise InputError(f"{self.num_heads} heads do not divide a width of {self.width}")
        return Transformer(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of an example batch; classification leaves the decoder's out."""
        ids = jax.ShapeDtypeStruct((batch, min(self.max_length, 16)), jnp.int32)
        return {"input_ids": ids, "decoder_input_ids": ids}


@flax.struct.dataclass
class Cache:
    """What decoding remembers. The first call with it encodes the source and fills ``cross``."""

    index: Int[Array, ""]
    """Target tokens seen so far."""
    mask: Bool[Array, "B L"]
    """Target tokens that count."""
    keys: tuple[Float[Array, "B H L K"], ...]
    """Of each decoder layer's self-attention."""
    values: tuple[Float[Array, "B H L K"], ...]
    """Likewise."""
    cross: tuple[tuple[Float[Array, "B H S K"], Float[Array, "B H S K"]], ...] | None = None
    """Keys and values of the encoded source, for each decoder layer."""
    source_mask: Int[Array, "B S"] | None = None
    """The source's attention mask."""


class Transformer(nn.Module):
    """Token ids in; logits ``[B, T, V]`` of the next target token, or of classes ``[B, C]``, out.

    The embedding serves source, target and output layer (section 3.4). Norms follow the residual
    sum, as in the paper.
    """

    cfg: Config
    task: str = TASKS[0]
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        input_ids: Int[ArrayLike, "B S"] | None,
        attention_mask: Int[ArrayLike, "B S"] | None = None,
        decoder_input_ids: Int[ArrayLike, "B T"] | None = None,
        decoder_attention_mask: Int[ArrayLike, "B T"] | None = None,
        cache: Cache | None = None,
        train: bool = False,
    ) -> Array | tuple[Array, Cache]:
        """Next-token logits, or for text-classification class logits of the mean token.

        Args:
            input_ids: source; None where the cache holds it already.
            attention_mask: 0 at the source's padding.
            decoder_input_ids: target, shifted right: it starts with the beginning token.
            decoder_attention_mask: 0 at the target's padding.
            cache: from ``init_cache``, or of the call before. Then ``decoder_input_ids`` holds only
                the tokens that follow those seen, and the result is ``(logits, cache)``. There
                must be room for them in the cache.
            train: whether dropout is active; needs ``rngs={"dropout": key}``.

        Raises:
            InputError: a sequence is longer than ``max_length``, or source or target is missing.
        """
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        arrays: list[Array | None] = jax.tree.map(
            jnp.asarray, [input_ids, attention_mask, decoder_input_ids, decoder_attention_mask]
        )
        input_ids, attention_mask, decoder_input_ids, decoder_attention_mask = arrays
        embed = Embed(cfg.vocab_size, cfg.width, **types, name="embed")
        sources = None if cache is None else cache.cross  # for each decoder layer
        source_mask = attention_mask if cache is None or sources is None else cache.source_mask
        if sources is None:
            if input_ids is None:
                raise InputError("transformer needs input_ids")
            hidden = None if attention_mask is None else padding_mask(attention_mask)
            x_BSD = self._embed(embed, input_ids, 0, train, "encoder_dropout")
            for i in range(cfg.depth):
                x_BSD = EncoderLayer(cfg, **types, name=f"encoder{i}")(x_BSD, hidden, train)
            if self.task == "text-classification":
                return Dense(cfg.num_classes, **types, name="head")(_mean(x_BSD, attention_mask))
            sources = (x_BSD,) * cfg.depth

        if decoder_input_ids is None:
            raise InputError("translation needs decoder_input_ids")
        batch, time = decoder_input_ids.shape
        counts = jnp.ones((batch, time), bool)
        if decoder_attention_mask is not None:
            counts = decoder_attention_mask != 0
        first, mask = 0, counts
        if cache is not None:
            first = cache.index
            mask = lax.dynamic_update_slice(cache.mask, counts, (0, first))
        y_BTD = self._embed(embed, decoder_input_ids, first, train, "decoder_dropout")
        seen = causal_mask(time, mask.shape[1], first) & padding_mask(mask)
        visible = None if source_mask is None else padding_mask(source_mask)
        keys, values, cross = [], [], []
        for i in range(cfg.depth):
            past = None if cache is None else (cache.keys[i], cache.values[i], cache.index)
            layer = DecoderLayer(cfg, **types, name=f"decoder{i}")
            y_BTD, k, v, kv = layer(y_BTD, seen, sources[i], visible, past, train)
            keys.append(k)
            values.append(v)
            cross.append(kv)
        logits = embed.attend(y_BTD)
        if cache is None:
            return logits
        attended = (tuple(keys), tuple(values), tuple(cross))
        return logits, Cache(cache.index + time, mask, *attended, source_mask)

    def init_cache(self, batch: int, length: int) -> Cache:
        """An empty cache for ``length`` target tokens.

        Raises:
            InputError: ``length`` is above the config's ``max_length``.
        """
        cfg = self.cfg
        check_length(length, self.cfg.max_length)
        shape = (batch, cfg.num_heads, length, cfg.width // cfg.num_heads)
        zeros = tuple(jnp.zeros(shape, self.dtype) for _ in range(cfg.depth))
        return Cache(jnp.zeros((), jnp.int32), jnp.zeros((batch, length), bool), zeros, zeros)

    def _embed(
        self, embed: Embed, ids: Int[Array, "B T"], first: Array | int, train: bool, name: str
    ) -> Float[Array, "B T D"]:
        """Embeddings times ``sqrt(D)``, plus the positions from ``first`` on."""
        cfg, time = self.cfg, ids.shape[1]
        check_length(time, self.cfg.max_length)
        places = sinusoidal(cfg.max_length, cfg.width, self.dtype)
        places = lax.dynamic_slice_in_dim(places, first, time)
        x = embed(ids) * math.sqrt(cfg.width) + places
        return Dropout(cfg.dropout, name=name)(x, train)


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward, each added to its input and normalised."""

    cfg: Config
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "B S D"], mask: Bool[Array, "B 1 1 S"] | None, train: bool
    ) -> Float[Array, "B S D"]:
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        heads = (cfg.width, cfg.num_heads, cfg.dropout)
        attend = MultiHeadAttention(*heads, **types, name="attention")
        y = attend(x, *attend.project(x), mask, train)
        x = Residual(cfg, **types, name="norm1")(x, y, train)
        y = FeedForward(cfg, **types, name="mlp")(x)
        return Residual(cfg, **types, name="norm2")(x, y, train)


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the source, feed-forward."""

    cfg: Config
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        mask: Bool[Array, "B 1 T L"],
        source: Float[Array, "B S D"] | tuple[Float[Array, "B H S K"], Float[Array, "B H S K"]],
        source_mask: Bool[Array, "B 1 1 S"] | None,
        past: tuple[Float[Array, "B H L K"], Float[Array, "B H L K"], Int[Array, ""]] | None,
        train: bool,
    ) -> tuple[Array, Array, Array, tuple[Array, Array]]:
        """Output, keys and values of the target, and the source's keys and values."""
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        heads = (cfg.width, cfg.num_heads, cfg.dropout)
        attend = MultiHeadAttention(*heads, **types, name="attention")
        k, v = attend.project(x)
        if past is not None:
            keys, values, first = past
            k = lax.dynamic_update_slice_in_dim(keys, k, first, axis=2)
            v = lax.dynamic_update_slice_in_dim(values, v, first, axis=2)
        x = Residual(cfg, **types, name="norm1")(x, attend(x, k, v, mask, train), train)
        cross = MultiHeadAttention(*heads, **types, name="cross")
        kv = source if isinstance(source, tuple) else cross.project(source)
        x = Residual(cfg, **types, name="norm2")(x, cross(x, *kv, source_mask, train), train)
        y = FeedForward(cfg, **types, name="mlp")(x)
        return Residual(cfg, **types, name="norm3")(x, y, train), k, v, kv


class FeedForward(nn.Module):
    """Two dense layers with relu between (equation 2)."""

    cfg: Config
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        init = nn.initializers.xavier_uniform()
        x = jax.nn.relu(Dense(self.cfg.hidden, **types, kernel_init=init, name="up")(x))
        return Dense(self.cfg.width, **types, kernel_init=init, name="down")(x)


class Residual(nn.Module):
    """``LayerNorm(x + Dropout(y))``."""

    cfg: Config
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], y: Float[Array, "B T D"], train: bool
    ) -> Float[Array, "B T D"]:
        x = x + Dropout(self.cfg.dropout, name="dropout")(y, train)
        return LayerNorm(1e-5, dtype=self.dtype, param_dtype=self.param_dtype, name="norm")(x)


def _mean(
    x: Float[Array, "B S D"], attention_mask: Int[Array, "B S"] | None
) -> Float[Array, "B D"]:
    """Mean of the tokens that count; zeros where none does."""
    if attention_mask is None:
        return jnp.mean(x, axis=1)
    counts = (attention_mask != 0).astype(x.dtype)[..., None]
    return jnp.sum(x * counts, axis=1) / jnp.maximum(jnp.sum(counts, axis=1), 1)


SIZES = {
    "transformer-base": Size(
        Config(), 63_082_496, "https://arxiv.org/abs/1706.03762, vocabulary 37,000 (paper: 65M)"
    ),
    "transformer-big": Size(
        Config(width=1024, num_heads=16, hidden=4096, dropout=0.3),
        214_245_376,
        "https://arxiv.org/abs/1706.03762, vocabulary 37,000 (paper: 213M)",
    ),
}

TENSOR_PARALLEL = (
    (r"(query|key|value|up)/kernel", P(None, "tensor")),
    (r"(query|key|value|up)/bias", P("tensor")),
    (r"(out|down)/kernel", P("tensor", None)),
    (r"embed/embedding", P(None, "tensor")),
)
"""Path endings and partitions: heads and hidden features are split, so a sublayer needs one sum."""
