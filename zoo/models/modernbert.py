"""ModernBERT: smarter, better, faster, longer (Warner et al., 2024,
https://arxiv.org/abs/2412.13663), with the heads of the reference implementation.

B batch, N choices, T tokens, D width, H heads, K features of a head, F = K / 2, C classes,
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
from zoo.nn import rotary
from zoo.nn.activation import activation
from zoo.nn.attention import attention, merge_heads, padding_mask, split_heads
from zoo.nn.dense import Dense, Embed
from zoo.nn.dropout import Dropout
from zoo.nn.norm import LayerNorm, RMSNorm

TASKS = (
    "feature-extraction", "fill-mask", "text-classification", "token-classification",
    "question-answering", "multiple-choice",
)  # fmt: skip
POOLINGS = ("cls", "mean")


@dataclass(frozen=True)
class Config:
    """Pre-norm encoder with rotary positions; most layers look no farther than a window."""

    vocab_size: int = 50_368
    """Number of token ids."""
    width: int = 768
    """Features of a token."""
    depth: int = 22
    """Layers."""
    num_heads: int = 12
    """Attention heads; they divide the width into even parts."""
    hidden: int = 1152
    """Features inside the gated feed-forward layers."""
    activation: str = "gelu"
    """Of the feed-forward layers' gate."""
    head_activation: str = "gelu"
    """Of the dense layer before a classifier or decoder."""
    epsilon: float = 1e-5
    """Of every layer norm."""
    max_length: int = 8192
    """Longest sequence."""
    window: int = 64
    """Tokens to either side that a local layer sees."""
    global_layers: tuple[int, ...] | None = None
    """Layers, from 0, that see all tokens; None: every third, from the first."""
    rope_base: float = 160_000.0
    """Base of the rotary wavelengths in global layers."""
    local_rope_base: float = 10_000.0
    """Likewise in local layers."""
    norm_bias: bool = False
    """Whether layer norms have biases."""
    attention_bias: bool = False
    """Whether attention's projections have biases."""
    mlp_bias: bool = False
    """Whether the feed-forward layers have biases."""
    head_bias: bool = False
    """Whether the dense layer before a classifier or decoder has a bias."""
    decoder_bias: bool = True
    """Whether the scores of token ids have a bias."""
    tied: bool = True
    """Whether the masked-language head scores with the token embedding."""
    pooling: str = "cls"
    """What a text is classified by: the first token ("cls") or the "mean" of those that count."""
    embed_dropout: float = 0.0
    """Rate on the embeddings."""
    attention_dropout: float = 0.0
    """Rate on attention weights and on attention's output."""
    mlp_dropout: float = 0.0
    """Rate inside the feed-forward layers."""
    head_dropout: float = 0.0
    """Rate before a classifier."""
    num_classes: int = 2
    """Outputs of the classification heads."""
    labels: tuple[str, ...] = ()
    """Names of the classes, where they have any."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "ModernBert":
        """The module.

        Raises:
            InputError: unknown task, activation or pooling, or numbers that do not fit.
        """
        task = check_task(task, TASKS)
        for name in (self.activation, self.head_activation):
            activation(name)
        if self.num_heads < 1 or self.width % (2 * self.num_heads):
            raise InputError(
                f"{self.num_heads} heads do not divide a width of {self.width} into even parts"
            )
        if self.pooling not in POOLINGS:
            raise InputError(f"unknown pooling {self.pooling!r}; there are: {', '.join(POOLINGS)}")
        if self.window < 0:
            raise InputError(f"a window reaches 0 or more tokens to a side, not {self.window}")
        if outside := [i for i in self.global_layers or () if not 0 <= i < self.depth]:
            raise InputError(f"global_layers names {outside}; layers are 0 to {self.depth - 1}")
        return ModernBert(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of an example batch; multiple choice takes `[B, N, T]` instead."""
        ids = jax.ShapeDtypeStruct((batch, min(self.max_length, 16)), jnp.int32)
        return {"input_ids": ids, "attention_mask": ids}


class ModernBert(nn.Module):
    """Token ids in; what the task asks for out (see ``__call__``)."""

    cfg: Config
    task: str = TASKS[0]
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        input_ids: Int[ArrayLike, "*B T"],
        attention_mask: Int[ArrayLike, "*B T"] | None = None,
        train: bool = False,
    ) -> Array:
        """Hidden states ``[B, T, D]`` (feature-extraction), or logits: fill-mask ``[B, T, V]``,
        text-classification ``[B, C]``, token-classification ``[B, T, C]``, question-answering
        ``[B, T, 2]`` (start, end), multiple-choice ``[B, N]``.

        Args:
            input_ids: ``[B, T]``; for multiple choice ``[B, N, T]`` (or ``[N, T]``).
            attention_mask: 0 at padding. On the left it would move the place of the token by which
                a text is classified; multiple choice takes the first that counts.
            train: whether dropout is active; needs ``rngs={"dropout": key}`` where a rate is above
                0.

        Raises:
            InputError: a sequence is longer than ``max_length``, or of the wrong rank.
        """
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        ids = jnp.asarray(input_ids)
        ranks = (2, 3) if self.task == "multiple-choice" else (2,)
        if ids.ndim not in ranks:
            raise InputError(f"{self.task} takes input_ids of rank {ranks[-1]}, not {ids.shape}")
        lead, time = ids.shape[:-1], ids.shape[-1]
        if time > cfg.max_length:
            raise InputError(
                f"a sequence of {time} tokens is longer than the model's {cfg.max_length}; "
                "truncate it or raise max_length"
            )
        ids = ids.reshape(-1, time)
        counts = jnp.ones_like(ids) if attention_mask is None else jnp.asarray(attention_mask)
        real_BT = counts.reshape(-1, time) != 0

        place = jnp.arange(time)
        near = jnp.abs(place[:, None] - place[None, :]) <= min(cfg.window, cfg.max_length)
        everywhere, nearby = padding_mask(real_BT), padding_mask(real_BT) & near

        def turn(base: float) -> tuple[Array, Array]:
            rates = rotary.frequencies(cfg.width // cfg.num_heads, base, "default", time)
            return rotary.angles(place[None], rates)

        far_turn, near_turn = turn(cfg.rope_base), turn(cfg.local_rope_base)

        embed = Embed(cfg.vocab_size, cfg.width, **types, embedding_init=_normal(), name="embed")
        x_BTD = _norm(cfg, types, "embed_norm", embed(ids))
        x_BTD = Dropout(cfg.embed_dropout, name="embed_dropout")(x_BTD, train)
        global_layers = range(0, cfg.depth, 3) if cfg.global_layers is None else cfg.global_layers
        for i in range(cfg.depth):
            layer = Layer(cfg, i, **types, name=f"layer{i}")
            if i in global_layers:
                x_BTD = layer(x_BTD, far_turn, everywhere, train)
            else:
                x_BTD = layer(x_BTD, near_turn, nearby, train)
        x_BTD = _norm(cfg, types, "norm", x_BTD)
        if self.task == "feature-extraction":
            return x_BTD

        small = 1 / math.sqrt(2 * cfg.depth)
        if self.task in ("text-classification", "multiple-choice"):
            first_B = jnp.argmax(real_BT, axis=1) * (self.task == "multiple-choice")
            x_BTD = _pool(x_BTD, real_BT, first_B if cfg.pooling == "cls" else None)
        x_BTD = _dense(cfg.width, cfg.head_bias, types, "head", small)(x_BTD)
        x_BTD = _norm(cfg, types, "head_norm", activation(cfg.head_activation)(x_BTD))
        if self.task == "fill-mask":
            if not cfg.tied:
                return _dense(cfg.vocab_size, cfg.decoder_bias, types, "decoder", small)(x_BTD)
            y_BTV = embed.attend(x_BTD)
            if not cfg.decoder_bias:
                return y_BTV
            shape = (cfg.vocab_size,)
            bias = self.param("decoder_bias", nn.initializers.zeros, shape, self.param_dtype)
            return y_BTV + bias.astype(self.dtype)
        outputs = {"question-answering": 2, "multiple-choice": 1}.get(self.task, cfg.num_classes)
        x_BTD = Dropout(cfg.head_dropout, name="head_dropout")(x_BTD, train)
        y_BTC = _dense(outputs, True, types, "classifier", 50 / math.sqrt(cfg.width))(x_BTD)
        if self.task == "multiple-choice":
            return y_BTC.reshape(lead)
        return y_BTC[:, 0] if self.task == "text-classification" else y_BTC


class Layer(nn.Module):
    """Attention, then a gated feed-forward (Shazeer, 2020, https://arxiv.org/abs/2002.05202), each
    of the normalised input and added to it. The first attention's input is normalised already."""

    cfg: Config
    index: int
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        turn: tuple[Float[Array, "1 T F"], Float[Array, "1 T F"]],
        seen: Bool[Array, "B 1 #T T"],
        train: bool,
    ) -> Float[Array, "B T D"]:
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        y = x if self.index == 0 else _norm(cfg, types, "attention_norm", x)
        x = x + Attention(cfg, **types, name="attention")(y, turn, seen, train)
        y = _norm(cfg, types, "mlp_norm", x)
        gate = activation(cfg.activation)(_dense(cfg.hidden, cfg.mlp_bias, types, "gate")(y))
        y = gate * _dense(cfg.hidden, cfg.mlp_bias, types, "up")(y)
        y = Dropout(cfg.mlp_dropout, name="mlp_dropout")(y, train)
        small = 1 / math.sqrt(2 * cfg.depth)
        return x + _dense(cfg.width, cfg.mlp_bias, types, "down", small)(y)


class Attention(nn.Module):
    """Self-attention with rotary positions."""

    cfg: Config
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        turn: tuple[Float[Array, "1 T F"], Float[Array, "1 T F"]],
        seen: Bool[Array, "B 1 #T T"],
        train: bool,
    ) -> Float[Array, "B T D"]:
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        q_BHTK, k_BHTK, v_BHTK = (
            split_heads(_dense(cfg.width, cfg.attention_bias, types, name)(x), cfg.num_heads)
            for name in ("query", "key", "value")
        )
        q_BHTK, k_BHTK = rotary.rotate(q_BHTK, *turn), rotary.rotate(k_BHTK, *turn)
        drop = Dropout(cfg.attention_dropout, name="weights")
        y_BHTK = attention(q_BHTK, k_BHTK, v_BHTK, seen, lambda weights: drop(weights, train))
        small = 1 / math.sqrt(2 * cfg.depth)
        y = _dense(cfg.width, cfg.attention_bias, types, "out", small)(merge_heads(y_BHTK))
        return Dropout(cfg.attention_dropout, name="dropout")(y, train)


def _dense(
    features: int, use_bias: bool, types: dict[str, Any], name: str, factor: float = 1.0
) -> Dense:
    return Dense(features, use_bias, **types, kernel_init=_normal(factor), name=name)


def _norm(cfg: Config, types: dict[str, Any], name: str, x: Float[Array, "*lead D"]) -> Array:
    """Layer norm, with a bias only where the config says so."""
    if cfg.norm_bias:
        return LayerNorm(cfg.epsilon, **types, name=name)(x)
    # Without bias it is the root-mean-square norm of the centred vector.
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    return RMSNorm(cfg.epsilon, **types, name=name)(centred)


def _pool(
    x: Float[Array, "B T D"], real: Bool[Array, "B T"], place: Int[Array, "B"] | None
) -> Float[Array, "B 1 D"]:
    """The token at that place; without one the mean of those that count, zeros where none does."""
    if place is not None:
        return jnp.take_along_axis(x, place[:, None, None], axis=1)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    total = jnp.sum(wide, axis=1, where=real[..., None])
    return (total / jnp.maximum(real.sum(axis=1, keepdims=True), 1)).astype(x.dtype)[:, None]


def _normal(factor: float = 1.0) -> nn.initializers.Initializer:
    """Deviation 0.02 times ``factor``, cut off at twice that, as the reference's."""
    return nn.initializers.truncated_normal(0.02 * factor)


SIZES = {
    "modernbert-base": Size(
        Config(), 149_014_272,
        "https://arxiv.org/abs/2412.13663; transformers ModernBertModel", "Apache-2.0", "GLUE 88.4",
    ),
}  # fmt: skip

TENSOR_PARALLEL = (
    (r"(query|key|value|gate|up)/kernel", P(None, "tensor")),
    (r"(out|down)/kernel", P("tensor", None)),
    (r"embed/embedding", P(None, "tensor")),
)
"""Path endings and partitions: heads and hidden features are split, so a sublayer needs one sum.
Biases, which not every config has, stay whole."""
