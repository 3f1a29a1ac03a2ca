"""Sequence to sequence: a text is read, another is written token by token.

Batch: `input_ids` and `attention_mask` int32 `[B, S]`; `decoder_input_ids` (begins with BOS) and
`decoder_attention_mask` int32 `[B, T]`; `label` int32 `[B, T]`, the token that follows each decoder
position, the last one EOS, -100 for padding. Outputs: logits `[B, T, V]`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from zoo.errors import InputError, require
from zoo.tasks.batch import Apply, Batch, position_weights, run
from zoo.tasks.bind import bound, check_options, expect_label, fact
from zoo.tasks.check import Rows, check_classes, check_inputs, check_label
from zoo.tasks.language_modelling import decide_tokens, expect_vocabulary, token_nats
from zoo.tasks.losses import softmax_cross_entropy
from zoo.tasks.metrics import (
    Metric,
    likelihood,
    mean,
    merge_text_counts,
    position_accuracy,
    sequence_accuracy,
    text_counts,
    text_scores,
)

INPUTS = ("input_ids", "decoder_input_ids")


@dataclass(frozen=True)
class Translation:
    """Trains the tokens of the target by softmax cross-entropy, averaged over tokens."""

    names: ClassVar[tuple[str, ...]] = ("translation", "summarization")
    best: ClassVar[tuple[str, str]] = ("exact_match", "max")
    generates: ClassVar[bool] = True

    label_smoothing: float = 0.0
    """Share of every target that is spread evenly over the vocabulary; the paper uses 0.1."""
    z_loss: float = 0.0
    """Factor of the squared log-normaliser that keeps logits from drifting; PaLM uses 1e-4."""
    bleu: bool = True
    """Also report corpus BLEU of the generated texts, which needs sacrebleu."""

    vocab_size: int | None = field(default=None, init=False)
    """Number of tokens, bound from the data."""

    def __post_init__(self) -> None:
        check_options(self)

    def bind(self, info: Any) -> "Translation":
        """This task with the vocabulary of the data; InputError when they are no pairs of texts,
        or when `bleu` is asked for and sacrebleu is not installed."""
        inputs = getattr(info, "inputs", None) or {}
        lacking = [name for name in INPUTS if name not in inputs]
        if lacking or getattr(info, "vocab_size", None) is None:
            raise InputError(
                f"Translation needs pairs of texts; these data lack "
                f"{', '.join(lacking) or 'a vocabulary'} (they have "
                f"{', '.join(inputs) or 'nothing'})"
            )
        if self.bleu:
            require("sacrebleu", "text")
        expect_label(self, info, "int32", (1,), "it needs the next token of every position")
        return bound(self, vocab_size=int(info.vocab_size))

    def check(self, batch: Batch, info: Any, rows: Rows) -> None:
        """Host check of one batch; InputError names the record."""
        check_inputs(batch, info, rows)
        for name in INPUTS:
            if name not in batch:
                raise InputError(f"translation needs {name}; a batch has {sorted(batch)}")
        label = check_label(
            batch, rows, np.int32, (2,), "int32 [B, T] of target tokens", "decoder_input_ids"
        )
        check_classes(label, int(info.vocab_size), rows, ignored=True, what="token id")

    def objective(self, outputs: Any, batch: Batch) -> tuple[Any, Any]:
        """(sum of the cross-entropies over the target tokens, their number)."""
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
        """Given the true target so far: `loss`, `perplexity`, `accuracy` of the tokens and
        `sequence_accuracy` (every token of a target right)."""
        return {
            "loss": mean("loss", self.objective),
            "likelihood": likelihood(token_nats, None),
            "accuracy": position_accuracy(decide_tokens),
            "sequence_accuracy": sequence_accuracy(decide_tokens),
        }

    def predict(self, outputs: Any, batch: Batch | None = None) -> dict[str, Any]:
        """`label` int32 `[B, T]`: the most likely token after each decoder position."""
        return {"label": jnp.argmax(outputs, -1).astype(jnp.int32)}

    def text_metrics(self, hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        """State of `exact_match` and `bleu` of generated texts against their references."""
        return dict(text_counts(hypotheses, references, self.bleu))

    def merge_text(self, a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
        """The state of the texts of both."""
        return dict(merge_text_counts(a, b))

    def compute_text(self, state: dict[str, Any]) -> dict[str, Any]:
        """`exact_match` in [0, 1] and, where asked for, `bleu` in [0, 100]; None for no texts."""
        return text_scores(state)
