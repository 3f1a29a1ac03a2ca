"""RoBERTa: a robustly optimized BERT pretraining approach (Liu et al., 2019,
https://arxiv.org/abs/1907.11692), with the heads of the reference implementation. XLM-RoBERTa
(Conneau et al., 2019, https://arxiv.org/abs/1911.02116) is the same model.

B batch, N choices, T tokens, D width, C classes, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int

from zoo.errors import InputError
from zoo.models.registry import Size, check_task
from zoo.nn.activation import activation
from zoo.nn.attention import padding_mask
from zoo.nn.dense import Embed
from zoo.nn.dropout import Dropout
from zoo.nn.encoder import (
    INIT,
    Embeddings,
    EncoderLayer,
    MaskedLanguageHead,
    PooledOutput,
    check_heads,
    dense,
    token_rows,
)
from zoo.nn.positions import check_length

TASKS = (
    "feature-extraction", "fill-mask", "text-classification", "token-classification",
    "question-answering", "multiple-choice",
)  # fmt: skip
POOLED = ("feature-extraction", "multiple-choice")
"""Tasks whose model has the pooler: a dense layer and tanh on the first token."""


@dataclass(frozen=True)
class Config:
    """Post-norm encoder whose positions count the tokens that are no padding."""

    vocab_size: int = 50_265
    """Number of token ids."""
    width: int = 768
    """Features of a token."""
    depth: int = 12
    """Layers."""
    num_heads: int = 12
    """Attention heads; they divide the width."""
    hidden: int = 3072
    """Features inside the feed-forward layers."""
    activation: str = "gelu"
    """Of the feed-forward layers."""
    epsilon: float = 1e-5
    """Of every layer norm."""
    max_length: int = 512
    """Longest sequence; the position table has ``pad_id + 1`` rows before those of tokens."""
    pad_id: int = 1
    """The token id that is padding, and its position."""
    token_types: int = 1
    """Number of token types."""
    dropout: float = 0.1
    """Rate on embeddings, on every sublayer's output and on a choice."""
    attention_dropout: float = 0.1
    """Rate on attention weights."""
    head_dropout: float = 0.1
    """Rate before a classifier."""
    tied: bool = True
    """Whether the masked-language head scores with the token embedding."""
    num_classes: int = 2
    """Outputs of the classification heads."""
    labels: tuple[str, ...] = ()
    """Names of the classes, where they have any."""

    def build(
        self,
        task: str | None = None,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
    ) -> "Roberta":
        """The module.

        Raises:
            InputError: unknown task or activation, heads that do not divide the width, or an id of
                padding that is none of the vocabulary.
        """
        task = check_task(task, TASKS)
        activation(self.activation)
        check_heads(self.num_heads, self.width)
        if not 0 <= self.pad_id < self.vocab_size:
            raise InputError(f"pad_id {self.pad_id} is no id of {self.vocab_size} tokens")
        return Roberta(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of an example batch; multiple choice takes `[B, N, T]` instead."""
        ids = jax.ShapeDtypeStruct((batch, min(self.max_length, 16)), jnp.int32)
        return {"input_ids": ids, "attention_mask": ids}


class Roberta(nn.Module):
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
    ) -> Array | PooledOutput:
        """Hidden states (``PooledOutput``), or logits: fill-mask ``[B, T, V]``, text-classification
        ``[B, C]``, token-classification ``[B, T, C]``, question-answering ``[B, T, 2]`` (start,
        end), multiple-choice ``[B, N]``.

        Args:
            input_ids: ``[B, T]``; for multiple choice ``[B, N, T]`` (or ``[N, T]``). Positions
                count the ids that are not ``pad_id``, whatever the mask says.
            attention_mask: 0 at padding; None shows every token, padding too.
            token_type_ids: None is all 0.
            train: whether dropout is active; needs ``rngs={"dropout": key}``.

        Raises:
            InputError: a sequence is longer than ``max_length``, or of the wrong rank.
        """
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        lead, (ids, mask, kinds) = token_rows(self.task, input_ids, attention_mask, token_type_ids)
        check_length(ids.shape[1], cfg.max_length)

        embed = Embed(cfg.vocab_size, cfg.width, **types, embedding_init=INIT, name="embed")
        x_BTD = Embeddings(
            cfg.max_length + cfg.pad_id + 1, cfg.token_types, cfg.epsilon, cfg.dropout, **types,
            name="embeddings",
        )(embed(ids), positions(ids, cfg.pad_id), kinds, train)  # fmt: skip
        visible = None if mask is None else padding_mask(mask)
        for i in range(cfg.depth):
            layer = EncoderLayer(
                cfg.num_heads, cfg.hidden, cfg.activation, cfg.epsilon,
                weight_dropout=cfg.attention_dropout, attention_dropout=cfg.dropout,
                mlp_dropout=cfg.dropout, **types, name=f"layer{i}",
            )  # fmt: skip
            x_BTD = layer(x_BTD, visible, train)

        if self.task in POOLED:
            pooled_BD = jnp.tanh(dense(cfg.width, types, "pooler")(x_BTD[:, 0]))
            if self.task == "feature-extraction":
                return PooledOutput(x_BTD, pooled_BD)
            y = Dropout(cfg.dropout, name="head_dropout")(pooled_BD, train)
            return dense(1, types, "head")(y).reshape(lead)
        if self.task == "fill-mask":
            head = MaskedLanguageHead("gelu", cfg.epsilon, cfg.tied, **types, name="head")
            return head(x_BTD, embed)
        if self.task == "text-classification":
            return ClassificationHead(cfg, **types, name="head")(x_BTD[:, 0], train)
        if self.task == "token-classification":
            x_BTD = Dropout(cfg.head_dropout, name="head_dropout")(x_BTD, train)
            return dense(cfg.num_classes, types, "head")(x_BTD)
        return dense(2, types, "head")(x_BTD)


def positions(ids: Int[Array, "B T"], pad_id: int) -> Int[Array, "B T"]:
    """``pad_id`` at padding; the n-th other token of a row stands at ``pad_id + n``."""
    real = ids != pad_id
    return pad_id + jnp.cumsum(real, axis=1, dtype=jnp.int32) * real


class ClassificationHead(nn.Module):
    """A dense layer, tanh and the scores of the classes, from the first token."""

    cfg: Config
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "B D"], train: bool) -> Float[Array, "B C"]:
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = Dropout(cfg.head_dropout, name="dropout")(x, train)
        x = jnp.tanh(dense(cfg.width, types, "dense")(x))
        x = Dropout(cfg.head_dropout, name="out_dropout")(x, train)
        return dense(cfg.num_classes, types, "out")(x)


SIZES = {
    "roberta-base": Size(
        Config(), 124_645_632,
        "https://arxiv.org/abs/1907.11692; transformers RobertaModel with pooler", "MIT",
        "MNLI 87.6, SST-2 94.8",
    ),
}  # fmt: skip

TENSOR_PARALLEL = (
    (r"(query|key|value|up)/kernel", P(None, "tensor")),
    (r"(query|key|value|up)/bias", P("tensor")),
    (r"attention/out/kernel", P("tensor", None)),
    (r"down/kernel", P("tensor", None)),
    (r"embed/embedding", P(None, "tensor")),
)
"""Path endings and partitions: heads and hidden features are split, so a sublayer needs one sum."""
