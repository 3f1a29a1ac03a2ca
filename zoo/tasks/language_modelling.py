"""Language modelling: every position predicts the next token.

Batch: `input_ids` int32 `[B, T]`, `label` int32 `[B, T]`, the token that follows each position,
-100 where there is none. Outputs: logits `[B, T, V]`.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from zoo.errors import InputError
from zoo.tasks.batch import Apply, Batch, expect_width, position_weights, run, where_counts
from zoo.tasks.bind import bound, check_options, expect_label, fact
from zoo.tasks.check import Rows, check_classes, check_inputs, check_label
from zoo.tasks.losses import log_softmax, softmax, softmax_cross_entropy
from zoo.tasks.metrics import Metric, likelihood, mean, position_accuracy


@dataclass(frozen=True)
class LanguageModelling:
    """Trains next-token logits by softmax cross-entropy, averaged over tokens."""

    names: ClassVar[tuple[str, ...]] = ("text-generation",)
    best: ClassVar[tuple[str, str]] = ("bits_per_byte", "min")

    label_smoothing: float = 0.0
    """Share of every target that is spread evenly over the vocabulary."""
    z_loss: float = 0.0
    """Factor of the squared log-normaliser that keeps logits from drifting; PaLM uses 1e-4."""
    bytes_per_token: float = 1.0
    """Mean length of a token in bytes, for bits per byte; 1 where every token is a byte."""

    vocab_size: int | None = field(default=None, init=False)
    """Number of tokens, bound from the data."""

    def __post_init__(self) -> None:
        check_options(self)
        if not 0 < self.bytes_per_token < float("inf"):
            raise InputError(f"bytes_per_token is {self.bytes_per_token}; it must be above 0")

    def bind(self, info: Any) -> "LanguageModelling":
        """This task with the vocabulary of the data; InputError when they are no plain text."""
        vocab_size = getattr(info, "vocab_size", None)
        if vocab_size is None:
            raise InputError("LanguageModelling needs tokens; these data have no vocabulary")
        if getattr(info, "num_classes", None) is not None:
            raise InputError(
                f"LanguageModelling predicts tokens; the labels of these data are "
                f"{info.num_classes} classes: use Classification or "
                "TokenClassification"
            )
        if "decoder_input_ids" in (getattr(info, "inputs", None) or {}):
            raise InputError(
                "LanguageModelling needs single texts; these data are pairs: use Translation"
            )
        expect_label(self, info, "int32", (1,), "it needs the next token of every position")
        return bound(self, vocab_size=int(vocab_size))

    def check(self, batch: Batch, info: Any, rows: Rows) -> None:
        """Host check of one batch; InputError names the record."""
        check_inputs(batch, info, rows)
        if "input_ids" not in batch:
            raise InputError(f"language modelling needs input_ids; a batch has {sorted(batch)}")
        label = check_label(batch, rows, np.int32, (2,), "int32 [B, T] of next tokens", "input_ids")
        check_classes(label, int(info.vocab_size), rows, ignored=True, what="token id")

    def objective(self, outputs: Any, batch: Batch) -> tuple[Any, Any]:
        """(sum of the cross-entropies over the tokens, their number)."""
        expect_vocabulary(outputs, fact("vocab_size", self.vocab_size))
        return softmax_cross_entropy(
            outputs,
            batch["label"],
            position_weights(batch),
            label_smoothing=self.label_smoothing,
            z_loss=self.z_loss,
        )

    def loss(
        self, apply: Apply, variables: Any, batch: Batch, rngs: Any = None, train: bool = False
    ) -> tuple[Any, Any, dict[str, Any]]:
        """(loss sum, weight sum, {"outputs", "updates"}); see `zoo.tasks.batch.run`."""
        return run(self.objective, apply, variables, batch, rngs, train)

    def metrics(self) -> dict[str, Metric]:
        """`loss` (the objective), `perplexity` and `bits_per_byte` (of the bare likelihood,
        without smoothing or z-loss), `accuracy` of the tokens."""
        return {
            "loss": mean("loss", self.objective),
            "likelihood": likelihood(token_nats, self.bytes_per_token),
            "accuracy": position_accuracy(decide_tokens),
        }

    def predict(self, outputs: Any, batch: Batch | None = None) -> dict[str, Any]:
        """The token after each text, and how well the texts were predicted.

        Args:
            outputs: logits `[B, T, V]`.
            batch: where it has `attention_mask`, the token after the last position that counts is
                predicted; where it has `label`, `bits_per_byte` is given too.

        Returns:
            `label` int32 `[B]`, `probabilities` `[B, V]` and, with labels, `bits_per_byte` `[B]`
            (0 where a row has no label).
        """
        batch = batch or {}
        last = jnp.full((outputs.shape[0],), outputs.shape[1] - 1)
        if "attention_mask" in batch:
            mask = jnp.asarray(batch["attention_mask"]) != 0
            last = jnp.max(jnp.where(mask, jnp.arange(outputs.shape[1]), 0), -1)
        logits = jnp.take_along_axis(jnp.asarray(outputs), last[:, None, None], axis=1)[:, 0]
        predicted = {
            "label": jnp.argmax(logits, -1).astype(jnp.int32),
            "probabilities": softmax(logits),
        }
        if "label" in batch:
            weight = position_weights({"label": batch["label"]})
            nats = jnp.sum(token_costs(outputs, batch["label"], weight), -1)
            tokens = jnp.maximum(jnp.sum(weight, -1), 1)
            predicted["bits_per_byte"] = nats / (tokens * math.log(2) * self.bytes_per_token)
        return predicted


def expect_vocabulary(outputs: Any, vocab_size: int) -> None:
    """InputError unless outputs are logits `[B, T, V]` of at least `vocab_size` tokens."""
    advice = f"set its vocab_size={vocab_size}"
    expect_width(outputs, 3, None, "logits [B, T, V]", advice)
    if outputs.shape[-1] < vocab_size:
        expect_width(outputs, 3, vocab_size, "logits [B, T, V]", advice)


def token_costs(outputs: Any, label: Any, weight: Any) -> Float[Array, "B T"]:
    """-log p of the true token in nats, times its weight; 0 where the weight is."""
    logp = log_softmax(where_counts(weight, jnp.asarray(outputs)))
    index = where_counts(weight, jnp.asarray(label))[..., None]
    return -weight * jnp.take_along_axis(logp, index, axis=-1)[..., 0]


def token_nats(outputs: Any, batch: Batch) -> tuple[Any, Any]:
    """(sum of -log p of the true tokens in nats, their number), example weights included."""
    weight = position_weights(batch)
    return jnp.sum(token_costs(outputs, batch["label"], weight)), jnp.sum(weight)


def decide_tokens(outputs: Any, batch: Batch) -> tuple[Any, Any, Any]:
    """(most likely tokens, true tokens, weights), each `[B, T]`."""
    return jnp.argmax(outputs, -1), batch["label"], position_weights(batch)
