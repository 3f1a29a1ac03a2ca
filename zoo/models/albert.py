"""ALBERT: a lite BERT for self-supervised learning of language representations (Lan et al., 2019,
https://arxiv.org/abs/1909.11942), with the heads of the reference implementation.

B batch, N choices, T tokens, D width, E width of the embeddings, C classes, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Int

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
POOLED = ("feature-extraction", "text-classification", "multiple-choice")
"""Tasks whose model has the pooler: a dense layer and tanh on the first token."""


@dataclass(frozen=True)
class Config:
    """Post-norm encoder with narrow embeddings, whose layers share their parameters."""

    vocab_size: int = 30_000
    """Number of token ids."""
    embedding: int = 128
    """Features of the tables of tokens, positions and token types."""
    width: int = 768
    """Features of a token in the layers."""
    depth: int = 12
    """How often a group of layers is gone through."""
    groups: int = 1
    """Groups of layers with parameters of their own, at most ``depth``."""
    group_depth: int = 1
    """Layers of a group, each with parameters of its own."""
    num_heads: int = 12
    """Attention heads; they divide the width."""
    hidden: int = 3072
    """Features inside the feed-forward layers."""
    activation: str = "gelu_tanh"
    """Of the feed-forward layers and of the masked-language head."""
    epsilon: float = 1e-12
    """Of every layer norm."""
    max_length: int = 512
    """Longest sequence: rows of the position table."""
    token_types: int = 2
    """Number of token types (sentence A and B)."""
    dropout: float = 0.0
    """Rate on embeddings and on the attention's output; the feed-forward layers have none."""
    attention_dropout: float = 0.0
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
    ) -> "Albert":
        """The module.

        Raises:
            InputError: unknown task or activation, heads that do not divide the width, or groups
                that no layer would use.
        """
        task = check_task(task, TASKS)
        activation(self.activation)
        check_heads(self.num_heads, self.width)
        if not 1 <= self.groups <= self.depth or self.group_depth < 1:
            raise InputError(
                f"{self.groups} groups of {self.group_depth} layers do not serve a depth of "
                f"{self.depth}"
            )
        return Albert(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of an example batch; multiple choice takes `[B, N, T]` instead."""
        ids = jax.ShapeDtypeStruct((batch, min(self.max_length, 16)), jnp.int32)
        return {"input_ids": ids, "attention_mask": ids, "token_type_ids": ids}


class Albert(nn.Module):
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
        x_BTD = dense(cfg.width, types, "project")(x)
        visible = None if mask is None else padding_mask(mask)
        groups = [
            [
                EncoderLayer(
                    cfg.num_heads, cfg.hidden, cfg.activation, cfg.epsilon,
                    weight_dropout=cfg.attention_dropout, attention_dropout=cfg.dropout,
                    mlp_dropout=0.0, **types, name=f"group{g}_layer{i}",
                )
                for i in range(cfg.group_depth)
            ]
            for g in range(cfg.groups)
        ]  # fmt: skip
        for i in range(cfg.depth):
            # The reference divides in this order, which decides where groups do not divide depth.
            for layer in groups[int(i / (cfg.depth / cfg.groups))]:
                x_BTD = layer(x_BTD, visible, train)

        if self.task in POOLED:
            pooled_BD = jnp.tanh(dense(cfg.width, types, "pooler")(x_BTD[:, 0]))
            if self.task == "feature-extraction":
                return PooledOutput(x_BTD, pooled_BD)
            outputs = 1 if self.task == "multiple-choice" else cfg.num_classes
            y = Dropout(cfg.head_dropout, name="head_dropout")(pooled_BD, train)
            y = dense(outputs, types, "head")(y)
            return y.reshape(lead) if self.task == "multiple-choice" else y
        if self.task == "fill-mask":
            head = MaskedLanguageHead(cfg.activation, cfg.epsilon, cfg.tied, **types, name="head")
            return head(x_BTD, embed)
        if self.task == "token-classification":
            x_BTD = Dropout(cfg.head_dropout, name="head_dropout")(x_BTD, train)
            return dense(cfg.num_classes, types, "head")(x_BTD)
        return dense(2, types, "head")(x_BTD)


SIZES = {
    "albert-base-v2": Size(
        Config(), 11_683_584,
        "https://arxiv.org/abs/1909.11942; transformers AlbertModel with pooler", "Apache-2.0",
        "MNLI 84.6, SQuAD 1.1 F1 90.2",
    ),
}  # fmt: skip

TENSOR_PARALLEL = (
    (r"(query|key|value|up)/kernel", P(None, "tensor")),
    (r"(query|key|value|up)/bias", P("tensor")),
    (r"(out|down)/kernel", P("tensor", None)),
    (r"embed/embedding", P(None, "tensor")),
)
"""Path endings and partitions: heads and hidden features are split, so a sublayer needs one sum."""
