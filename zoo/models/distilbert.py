"""DistilBERT: a distilled version of BERT (Sanh et al., 2019, https://arxiv.org/abs/1910.01108),
with the heads of the reference implementation.

B batch, N choices, T tokens, D width, C classes, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Int

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
    check_heads,
    dense,
    token_rows,
)
from zoo.nn.positions import check_length

TASKS = (
    "feature-extraction", "fill-mask", "text-classification", "token-classification",
    "question-answering", "multiple-choice",
)  # fmt: skip
EPSILON = 1e-12
"""Of every layer norm."""


@dataclass(frozen=True)
class Config:
    """Post-norm encoder with learned positions, without token types and pooler."""

    vocab_size: int = 30_522
    """Number of token ids."""
    width: int = 768
    """Features of a token."""
    depth: int = 6
    """Layers."""
    num_heads: int = 12
    """Attention heads; they divide the width."""
    hidden: int = 3072
    """Features inside the feed-forward layers."""
    activation: str = "gelu"
    """Of the feed-forward layers and of the masked-language head."""
    max_length: int = 512
    """Longest sequence: rows of the position table."""
    dropout: float = 0.1
    """Rate on embeddings, on the feed-forward layers' output and before the scores of tokens."""
    attention_dropout: float = 0.1
    """Rate on attention weights."""
    head_dropout: float = 0.2
    """Rate before the scores of classes and choices."""
    answer_dropout: float = 0.1
    """Rate before the scores of an answer's start and end."""
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
    ) -> "DistilBert":
        """The module.

        Raises:
            InputError: unknown task or activation, or heads that do not divide the width.
        """
        task = check_task(task, TASKS)
        activation(self.activation)
        check_heads(self.num_heads, self.width)
        return DistilBert(self, task, dtype, param_dtype)

    def inputs(self, batch: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of an example batch; multiple choice takes `[B, N, T]` instead."""
        ids = jax.ShapeDtypeStruct((batch, min(self.max_length, 16)), jnp.int32)
        return {"input_ids": ids, "attention_mask": ids}


class DistilBert(nn.Module):
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
        """Hidden states ``[B, T, D]``, or logits: fill-mask ``[B, T, V]``, text-classification
        ``[B, C]``, token-classification ``[B, T, C]``, question-answering ``[B, T, 2]`` (start,
        end), multiple-choice ``[B, N]``.

        Args:
            input_ids: ``[B, T]``; for multiple choice ``[B, N, T]`` (or ``[N, T]``).
            attention_mask: 0 at padding.
            train: whether dropout is active; needs ``rngs={"dropout": key}``.

        Raises:
            InputError: a sequence is longer than ``max_length``, or of the wrong rank.
        """
        cfg = self.cfg
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        lead, (ids, mask) = token_rows(self.task, input_ids, attention_mask)
        check_length(ids.shape[1], cfg.max_length)

        embed = Embed(cfg.vocab_size, cfg.width, **types, embedding_init=INIT, name="embed")
        x_BTD = Embeddings(cfg.max_length, 0, EPSILON, cfg.dropout, **types, name="embeddings")(
            embed(ids), jnp.arange(ids.shape[1])[None], None, train
        )
        visible = None if mask is None else padding_mask(mask)
        for i in range(cfg.depth):
            layer = EncoderLayer(
                cfg.num_heads, cfg.hidden, cfg.activation, EPSILON,
                weight_dropout=cfg.attention_dropout, attention_dropout=0.0,
                mlp_dropout=cfg.dropout, **types, name=f"layer{i}",
            )  # fmt: skip
            x_BTD = layer(x_BTD, visible, train)

        if self.task == "feature-extraction":
            return x_BTD
        if self.task == "fill-mask":
            head = MaskedLanguageHead(cfg.activation, EPSILON, cfg.tied, **types, name="head")
            return head(x_BTD, embed)
        if self.task in ("text-classification", "multiple-choice"):
            outputs = 1 if self.task == "multiple-choice" else cfg.num_classes
            y = nn.relu(dense(cfg.width, types, "pre_head")(x_BTD[:, 0]))
            y = Dropout(cfg.head_dropout, name="head_dropout")(y, train)
            y = dense(outputs, types, "head")(y)
            return y.reshape(lead) if self.task == "multiple-choice" else y
        tokens = self.task == "token-classification"
        rate = cfg.dropout if tokens else cfg.answer_dropout
        x_BTD = Dropout(rate, name="head_dropout")(x_BTD, train)
        return dense(cfg.num_classes if tokens else 2, types, "head")(x_BTD)


SIZES = {
    "distilbert-base-uncased": Size(
        Config(), 66_362_880,
        "https://arxiv.org/abs/1910.01108; transformers DistilBertModel", "Apache-2.0", "GLUE 77.0",
    ),
}  # fmt: skip

TENSOR_PARALLEL = (
    (r"(query|key|value|up)/kernel", P(None, "tensor")),
    (r"(query|key|value|up)/bias", P("tensor")),
    (r"(out|down)/kernel", P("tensor", None)),
    (r"embed/embedding", P(None, "tensor")),
)
"""Path endings and partitions: heads and hidden features are split, so a sublayer needs one sum."""
