"""OPT: open pre-trained transformer language models (Zhang et al., 2022,
https://arxiv.org/abs/2205.01068).

B batch, T tokens, L places that are looked at, D width, E features of an embedding, H heads, K
features of a head, C classes, V vocabulary.
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
FIRST = 2  # row of the position table for a text's first token; row 1 is that of padding
EPSILON = 1e-5  # added to the variance in layer norms


@dataclass(frozen=True)
class Config:
    """A causal decoder with learned positions. The defaults are the 125M's."""

    vocab_size: int = 50_272
    """Number of token ids."""
    width: int = 768
    """Features of a token."""
    embed_width: int = 768
    """Features of an embedding; where they are not the width, they are projected to it and back."""
    depth: int = 12
    """Layers."""
    num_heads: int = 12
    """Attention heads; they divide the width."""
    hidden: int = 3072
    """Features inside the feed-forward layers."""
    activation: str = "relu"
    """Of the feed-forward layers."""
    max_length: int = 2048
    """Positions, so the longest sequence."""
    norm_first: bool = True
    """Whether a sublayer's input is normalised, or its sum with the input (350M alone)."""
    final_norm: bool = True
    """Whether, with ``norm_first``, the last layer's output is normalised."""
    use_bias: bool = True
    """Whether dense layers have biases."""
    norm_affine: bool = True
    """Whether norms scale and shift."""
    tied: bool = True
    """Whether the embedding is the output layer too."""
    attention_dropout: float = 0.0
    """Rate on attention weights."""
    dropout: float = 0.1
    """Rate on what a sublayer adds."""
    num_classes: int = 2
    """Outputs of the classification head."""
    labels: tuple[str, ...] = ()
    """Names of the classes, where they have any."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "OPT":
        """The module.

        Raises:
            InputError: unknown task or activation, or heads that do not divide the width.
        """
        task = check_task(task, TASKS)
        activation(self.activation)
        if self.num_heads < 1 or self.width % self.num_heads:
            raise InputError(f"{self.num_heads} heads do not divide a width of {self.width}")
        return OPT(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of an example batch."""
        return {"input_ids": jax.ShapeDtypeStruct((batch, min(self.max_length, 16)), jnp.int32)}


class OPT(nn.Module):
    """Token ids in. Out: logits ``[B, T, V]`` of the next token, hidden states ``[B, T, E]``
    (feature-extraction), or class logits ``[B, C]`` of the last token that counts."""

    cfg: Config
    task: str = TASKS[0]
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        input_ids: Int[ArrayLike, "B T"],
        attention_mask: Int[ArrayLike, "B T"] | None = None,
        cache: Cache | None = None,
        train: bool = False,
    ) -> Array | tuple[Array, Cache]:
        """The task's output; with a cache ``(output, cache)``.

        Args:
            input_ids: tokens; with a cache those that follow the ones seen.
            attention_mask: 0 at padding, on whichever side.
            cache: from ``init_cache``, or of the call before, with room for the tokens.
            train: whether dropout is active; needs ``rngs={"dropout": key}`` where its rate is
                above 0.

        Raises:
            InputError: the sequence is longer than ``max_length``.
        """
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        input_ids = jnp.asarray(input_ids)
        mask = None if attention_mask is None else jnp.asarray(attention_mask)
        batch, time = input_ids.shape
        check_length(time, self.cfg.max_length)
        places, seen, counts = look((batch, time), mask, cache)
        rows = places + FIRST if mask is None else jnp.where(mask != 0, places + FIRST, 1)

        def project(name: str, features: int) -> Dense:
            return Dense(features, use_bias=False, **types, kernel_init=INIT, name=name)

        embed = Embed(cfg.vocab_size, cfg.embed_width, **types, embedding_init=INIT, name="embed")
        position = Embed(
            cfg.max_length + FIRST, cfg.width, **types, embedding_init=INIT, name="position"
        )
        x_BTD = embed(input_ids)
        if cfg.embed_width != cfg.width:
            x_BTD = project("project_in", cfg.width)(x_BTD)
        x_BTD = x_BTD + position(rows)
        keys, values = [], []
        for i in range(cfg.depth):
            layer = Layer(cfg, i, **types, name=f"layer{i}")
            x_BTD, key, value = layer(x_BTD, seen, cache, train)
            keys.append(key)
            values.append(value)
        if cfg.norm_first and cfg.final_norm:
            x_BTD = _norm(cfg, types, "norm")(x_BTD)
        x_BTE = x_BTD
        if cfg.embed_width != cfg.width:
            x_BTE = project("project_out", cfg.embed_width)(x_BTD)

        if self.task == "text-classification":
            output = project("head", cfg.num_classes)(last_token(x_BTE, mask))
        elif self.task == "feature-extraction":
            output = x_BTE
        elif cfg.tied:
            output = embed.attend(x_BTE)
        else:
            output = project("head", cfg.vocab_size)(x_BTE)
        if cache is None:
            return output
        return output, Cache(cache.index + time, counts, tuple(keys), tuple(values))

    def init_cache(self, batch: int, length: int) -> Cache:
        """An empty cache for ``length`` tokens, padding included.

        Raises:
            InputError: ``length`` is above the config's ``max_length``.
        """
        cfg = self.cfg
        check_length(length, self.cfg.max_length)
        head_dim = cfg.width // cfg.num_heads
        return empty_cache(cfg.depth, batch, cfg.num_heads, length, head_dim, self.dtype)


class Layer(nn.Module):
    """Attention, then feed-forward layers, each added to its input; the norms come before or, in
    one size, after the sums."""

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
        """Output, and the keys and values of all places."""
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        norm1, norm2 = _norm(cfg, types, "norm1"), _norm(cfg, types, "norm2")
        attend = Attention(cfg, self.index, **types, name="attention")
        y, key, value = attend(norm1(x) if cfg.norm_first else x, seen, cache, train)
        x = x + Dropout(cfg.dropout, name="dropout1")(y, train)
        x = x if cfg.norm_first else norm1(x)
        y = FeedForward(cfg, **types, name="mlp")(norm2(x) if cfg.norm_first else x)
        x = x + Dropout(cfg.dropout, name="dropout2")(y, train)
        return x if cfg.norm_first else norm2(x), key, value


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
        types: dict[str, Any] = {
            "dtype": self.dtype, "param_dtype": self.param_dtype, "use_bias": cfg.use_bias,
        }  # fmt: skip

        def project(name: str) -> Float[Array, "B H T K"]:
            return split_heads(Dense(cfg.width, **types, kernel_init=INIT, name=name)(x), heads)

        heads = cfg.num_heads
        query, key, value = project("query"), project("key"), project("value")
        if cache is not None:
            key, value = extend(cache, self.index, key, value)
        drop = Dropout(cfg.attention_dropout, name="weights")
        y = merge_heads(attention(query, key, value, seen, lambda weights: drop(weights, train)))
        return Dense(cfg.width, **types, kernel_init=INIT, name="out")(y), key, value


class FeedForward(nn.Module):
    """Two dense layers with the activation between."""

    cfg: Config
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        cfg = self.cfg
        types: dict[str, Any] = {
            "dtype": self.dtype, "param_dtype": self.param_dtype, "use_bias": cfg.use_bias,
        }  # fmt: skip
        x = Dense(cfg.hidden, **types, kernel_init=INIT, name="up")(x)
        x = activation(cfg.activation)(x)
        return Dense(cfg.width, **types, kernel_init=INIT, name="down")(x)


class PlainNorm(nn.Module):
    """Layer norm that neither scales nor shifts."""

    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        return (centred * jax.lax.rsqrt(variance + EPSILON)).astype(self.dtype)


def _norm(cfg: Config, types: dict[str, Any], name: str) -> nn.Module:
    if cfg.norm_affine:
        return LayerNorm(EPSILON, **types, name=name)
    return PlainNorm(types["dtype"], name=name)


SIZES = {
    "opt-125m": Size(
        Config(),
        125_239_296,
        "https://arxiv.org/abs/2205.01068; transformers OPTForCausalLM",
        "OPT-175B licence (research only)",
    ),
}

TENSOR_PARALLEL = (
    (r"(query|key|value|up)/kernel", P(None, "tensor")),
    (r"(out|down)/kernel", P("tensor", None)),
    (r"embed/embedding", P(None, "tensor")),
)
"""Path endings and partitions: heads and hidden features are split, so a sublayer needs one sum.
Biases, which not every config has, stay whole."""
