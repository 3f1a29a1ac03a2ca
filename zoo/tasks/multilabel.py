"""Multilabel classification: any of C classes may be present in an example.

Batch: a primary input, `label` int32 `[B, C]` of 0 and 1, or float32 between them (mixed examples).
Outputs: logits `[B, C]`.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from zoo.errors import InputError
from zoo.tasks.batch import Apply, Batch, example_weights, expect_width, run
from zoo.tasks.bind import (
    ClassWeights,
    bound,
    check_options,
    classes_of,
    expect_label,
    fact,
    resolve_class_weights,
)
from zoo.tasks.check import (
    Rows,
    check_columns,
    check_inputs,
    check_label,
    check_range,
    is_soft,
    refuse,
)
from zoo.tasks.losses import binary_cross_entropy, softmax
from zoo.tasks.metrics import MATRIX_LIMIT, Metric, label_scores, mean, roc_auc


@dataclass(frozen=True)
class Multilabel:
    """Trains one logit per class by sigmoid cross-entropy."""

    names: ClassVar[tuple[str, ...]] = (
        "image-classification",
        "text-classification",
        "tabular-classification",
        "audio-classification",
    )
    best: ClassVar[tuple[str, str]] = ("f1_macro", "max")

    label_smoothing: float = 0.0
    """Share by which every target is pulled towards one half."""
    class_weights: ClassWeights = None
    """A weight per class, or "balanced": inverse to its share of the training labels."""
    threshold: float = 0.5
    """Probability above which a class is taken to be present."""

    num_classes: int | None = field(default=None, init=False)
    """Number of classes, bound from the data."""
    weights: tuple[float, ...] | None = field(default=None, init=False)
    """Class weights in numbers, bound from the data."""

    def __post_init__(self) -> None:
        check_options(self)
        if not 0 < self.threshold < 1:
            raise InputError(f"threshold is {self.threshold}; it must be between 0 and 1")

    def bind(self, info: Any) -> "Multilabel":
        """This task with the classes of the data; InputError when the labels are no classes."""
        count = classes_of(self, info)
        expect_label(self, info, "int32", (1,), "use Classification")
        weights = resolve_class_weights(self.class_weights, count, info)
        return bound(self, num_classes=count, weights=weights)

    def check(self, batch: Batch, info: Any, rows: Rows) -> None:
        """Host check of one batch; InputError names the record."""
        check_inputs(batch, info, rows)
        if is_soft(batch):
            label = batch["label"]
            refuse("label", label, ~((label >= 0) & (label <= 1)), rows, "a share in [0, 1]")
        else:
            label = check_label(batch, rows, np.int32, (2,), "int32 [B, C] of 0 and 1")
            check_range("label", label, 2, rows, "0 or 1")
        check_columns(label, int(info.num_classes), rows)

    def objective(self, outputs: Any, batch: Batch) -> tuple[Any, Any]:
        """(sum over the examples of the mean cross-entropy of the classes, sum of the weights).

        With class weights the mean over the classes is weighted.
        """
        logits = self._logits(outputs)
        classes = logits.shape[1]
        weights = jnp.broadcast_to(example_weights(batch, len(logits))[:, None], logits.shape)
        if self.weights is not None:
            weights = weights * jnp.asarray(self.weights, weights.dtype)
        total, weight = binary_cross_entropy(
            logits, batch["label"], weights, label_smoothing=self.label_smoothing
        )
        norm = classes if self.weights is None else sum(self.weights)
        return total / norm, weight / norm

    def loss(
        self, apply: Apply, variables: Any, batch: Batch, rngs: Any = None, train: bool = False
    ) -> tuple[Any, Any, dict[str, Any]]:
        """(loss sum, weight sum, {"outputs", "updates"}); see `zoo.tasks.batch.run`."""
        return run(self.objective, apply, variables, batch, rngs, train)

    def metrics(self) -> dict[str, Metric]:
        """`loss`, `accuracy` (every class of an example right), precision, recall and F1 (macro,
        micro, weighted, per class), and for up to `MATRIX_LIMIT` classes `roc_auc` (macro)."""
        classes = fact("num_classes", self.num_classes)
        metrics = {
            "loss": mean("loss", self.objective),
            "scores": label_scores(classes, self._decide),
        }
        if classes <= MATRIX_LIMIT:
            metrics["roc_auc"] = roc_auc(classes, self._scores)
        return metrics

    def predict(self, outputs: Any, batch: Batch | None = None) -> dict[str, Any]:
        """`label` int32 `[B, C]` of 0 and 1, and `probabilities` `[B, C]` of each class."""
        both = softmax(jnp.stack([jnp.zeros_like(outputs), outputs], -1))
        return {"label": self._label(outputs), "probabilities": both[..., 1]}

    def _logits(self, outputs: Any) -> Any:
        classes = fact("num_classes", self.num_classes)
        expect_width(outputs, 2, classes, "logits [B, C]", f"set its num_classes={classes}")
        return outputs

    def _label(self, logits: Any) -> Any:
        return (logits > math.log(self.threshold / (1 - self.threshold))).astype(jnp.int32)

    def _scores(self, outputs: Any, batch: Batch) -> tuple[Any, Any, Any]:
        return outputs, hard(batch["label"]), example_weights(batch, len(outputs))

    def _decide(self, outputs: Any, batch: Batch) -> tuple[Any, Any, Any]:
        logits, label, weight = self._scores(outputs, batch)
        return self._label(logits), label, weight


def hard(label: Any) -> Any:
    """Labels of 0 and 1; of soft ones 1 where the share is above one half."""
    floating = jnp.issubdtype(label.dtype, jnp.floating)
    return (label > 0.5).astype(jnp.int32) if floating else label
