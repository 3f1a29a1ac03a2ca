"""ELECTRA: pre-training text encoders as discriminators rather than generators (Clark et al., 2020,
https://arxiv.org/abs/2003.10555), with the heads of the reference implementation.

B batch, N choices, T tokens, D width, E width of the embeddings, C classes, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int

from zoo.models.registry import Size, check_task
from zoo.nn.activation import activation, gelu
from zoo.nn.attention import padding_mask
from zoo.nn.dense import Embed
from zoo.nn.dropout import Dropout
from zoo.nn.encoder import (
    INIT,
    Embeddings,
    EncoderLayer,
    MaskedLanguageHead,
    check_heads,
    dense,
    token_rows,
)
from zoo.nn.positions import check_length

TASKS = (
    "feature-extraction", "fill-mask", "replaced-token-detection", "text-classification",
    "token-classification", "question-answering", "multiple-choice",
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Post-norm encoder whose embeddings may be narrower than its layers, without pooler."""

    vocab_size: int = 30_522
    """Number of token ids."""
    embedding: int = 768
    """Features of the tables of tokens, positions and token types."""
    width: int = 768
    """Features of a token in the layers; where they are others, a dense layer leads to them."""
    depth: int = 12
    """Layers."""
    num_heads: int = 12
    """Attention heads; they divide the width."""
    hidden: int = 3072
    """Features inside the feed-forward layers."""
    activation: str = "gelu"
    """Of the feed-forward layers and of the discriminator's head."""
    epsilon: float = 1e-12
    """Of every layer norm."""
    max_length: int = 512
    """Longest sequence: rows of the position table."""
    token_types: int = 2
    """Number of token types (sentence A and B)."""
    dropout: float = 0.1
    """Rate on embeddings and on every sublayer's output."""
    attention_dropout: float = 0.1
    """Rate on attention weights."""
    head_dropout: float = 0.1
    """Rate before the layers of a classifier."""
    choice_dropout: float = 0.1
    """Rate before the score of a choice."""
    tied: bool = True
    """Whether the generator's head scores with the token embedding."""
    num_classes: int = 2
    """Outputs of the classification heads."""
    labels: tuple[str, ...] = ()
    """Names of the classes, where they have any."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "Electra":
        """The module.

        Raises:
            InputError: unknown task or activation, or heads that do not divide the width.
        """
        task = check_task(task, TASKS)
        activation(self.activation)
        check_heads(self.num_heads, self.width)
        return Electra(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of an example batch; multiple choice takes `[B, N, T]` instead."""
        ids = jax.ShapeDtypeStruct((batch, min(self.max_length, 16)), jnp.int32)
        return {"input_ids": ids, "attention_mask": ids, "token_type_ids": ids}


class Electra(nn.Module):
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
        token_type_ids: Int[ArrayLike, "*B T"] | None = None,
        train: bool = False,
    ) -> Array:
        """Hidden states ``[B, T, D]``, or logits: fill-mask (the generator) ``[B, T, V]``,
        replaced-token-detection (the discriminator) ``[B, T]``, text-classification ``[B, C]``,
        token-classification ``[B, T, C]``, question-answering ``[B, T, 2]`` (start, end),
        multiple-choice ``[B, N]``.

        Args:
            input_ids: ``[B, T]``; for multiple choice ``[B, N, T]`` (or ``[N, T]``).
            attention_mask: 0 at padding.
            token_type_ids: 0 in the first sentence, 1 in the second; None is all 0.
            train: whether dropout is active; needs ``rngs={"dropout": key}``.

        Raises:
            InputError: a sequence is longer than ``max_length``, or of the wrong rank.
        """
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        lead, (ids, mask, kinds) = token_rows(self.task, input_ids, attention_mask, token_type_ids)
        check_length(ids.shape[1], cfg.max_length)

        embed = Embed(cfg.vocab_size, cfg.embedding, **types, embedding_init=INIT, name="embed")
        x = Embeddings(
            cfg.max_length, cfg.token_types, cfg.epsilon, cfg.dropout, **types, name="embeddings"
        )(embed(ids), jnp.arange(ids.shape[1])[None], kinds, train)
        x_BTD = x if cfg.embedding == cfg.width else dense(cfg.width, types, "project")(x)
        visible = None if mask is None else padding_mask(mask)
        for i in range(cfg.depth):
            layer = EncoderLayer(
                cfg.num_heads, cfg.hidden, cfg.activation, cfg.epsilon,
                weight_dropout=cfg.attention_dropout, attention_dropout=cfg.dropout,
                mlp_dropout=cfg.dropout, **types, name=f"layer{i}",
            )  # fmt: skip
            x_BTD = layer(x_BTD, visible, train)

        if self.task == "feature-extraction":
            return x_BTD
        if self.task == "fill-mask":
            head = MaskedLanguageHead("gelu", cfg.epsilon, cfg.tied, **types, name="head")
            return head(x_BTD, embed)
        if self.task == "replaced-token-detection":
            y = activation(cfg.activation)(dense(cfg.width, types, "pre_head")(x_BTD))
            return dense(1, types, "head")(y)[..., 0]
        if self.task == "text-classification":
            return ClassificationHead(cfg, **types, name="head")(x_BTD[:, 0], train)
        if self.task == "multiple-choice":
            y = gelu(dense(cfg.width, types, "pre_head")(x_BTD[:, 0]))
            y = Dropout(cfg.choice_dropout, name="head_dropout")(y, train)
            return dense(1, types, "head")(y).reshape(lead)
        if self.task == "token-classification":
            x_BTD = Dropout(cfg.head_dropout, name="head_dropout")(x_BTD, train)
            return dense(cfg.num_classes, types, "head")(x_BTD)
        return dense(2, types, "head")(x_BTD)


class ClassificationHead(nn.Module):
    """A dense layer, gelu and the scores of the classes, from the first token."""

    cfg: Config
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B D"], train: bool) -> Float[Array, "B C"]:
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = Dropout(cfg.head_dropout, name="dropout")(x, train)
        x = gelu(dense(cfg.width, types, "dense")(x))
        x = Dropout(cfg.head_dropout, name="out_dropout")(x, train)
        return dense(cfg.num_classes, types, "out")(x)


_PAPER = "https://arxiv.org/abs/2003.10555, table 6; transformers ElectraModel"
SIZES = {
    "electra-small-discriminator": Size(
        Config(embedding=128, width=256, num_heads=4, hidden=1024),
        13_483_008,
        _PAPER,
        "Apache-2.0",
        "GLUE 79.9",
    ),
    "electra-base-discriminator": Size(Config(), 108_891_648, _PAPER, "Apache-2.0", "GLUE 85.1"),
}

TENSOR_PARALLEL = (
    (r"(query|key|value|up)/kernel", P(None, "tensor")),
    (r"(query|key|value|up)/bias", P("tensor")),
    (r"attention/out/kernel", P("tensor", None)),
    (r"down/kernel", P("tensor", None)),
    (r"embed/embedding", P(None, "tensor")),
)
"""Path endings and partitions: heads and hidden features are split, so a sublayer needs one sum."""
