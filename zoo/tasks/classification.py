"""Classification: every example is of exactly one of C classes.

Batch: a primary input, `label` int32 `[B]`, or float32 `[B, C]` of shares that add up to 1 (mixed
examples). Outputs: logits `[B, C]`.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from zoo.errors import InputError
from zoo.tasks.batch import Apply, Batch, example_weights, expect_width, label_index, run
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
    check_classes,
    check_inputs,
    check_label,
    check_shares,
    is_soft,
)
from zoo.tasks.losses import softmax, softmax_cross_entropy
from zoo.tasks.metrics import (
    MATRIX_LIMIT,
    Metric,
    class_scores,
    confusion_matrix,
    mean,
    roc_auc,
    top_k,
)


@dataclass(frozen=True)
class Classification:
    """Trains class logits by softmax cross-entropy."""

    names: ClassVar[tuple[str, ...]] = (
        "image-classification",
        "text-classification",
        "tabular-classification",
        "audio-classification",
    )
    best: ClassVar[tuple[str, str]] = ("accuracy", "max")

    label_smoothing: float = 0.0
    """Share of every target that is spread evenly over all classes."""
    class_weights: ClassWeights = None
    """A weight per class, or "balanced": inverse to its share in training."""
    z_loss: float = 0.0
    """Factor of the squared log-normaliser that keeps logits from drifting; PaLM uses 1e-4."""
    top_k: int = 5
    """Also report how often the class is among so many highest scores, where there are more."""

    num_classes: int | None = field(default=None, init=False)
    """Number of classes, bound from the data."""
    weights: tuple[float, ...] | None = field(default=None, init=False)
    """Class weights in numbers, bound from the data."""

    def __post_init__(self) -> None:
        check_options(self)
        if self.top_k < 1:
            raise InputError(f"top_k is {self.top_k}; it must be 1 or more")

    def bind(self, info: Any) -> "Classification":
        """This task with the classes of the data; InputError when the labels are no classes."""
        count = classes_of(self, info)
        expect_label(self, info, "int32", (0,), "use Multilabel or TokenClassification")
        weights = resolve_class_weights(self.class_weights, count, info)
        return bound(self, num_classes=count, weights=weights)

    def check(self, batch: Batch, info: Any, rows: Rows) -> None:
        """Host check of one batch; InputError names the record."""
        check_inputs(batch, info, rows)
        if is_soft(batch):
            check_shares(batch["label"], int(info.num_classes), rows)
        else:
            label = check_label(batch, rows, np.int32, (1,), "int32 [B] of class indices")
            check_classes(label, int(info.num_classes), rows)

    def objective(self, outputs: Any, batch: Batch) -> tuple[Any, Any]:
        """(sum of the cross-entropies, sum of the weights)."""
        classes = fact("num_classes", self.num_classes)
        expect_width(outputs, 2, classes, "logits [B, C]", f"set its num_classes={classes}")
        return softmax_cross_entropy(
            outputs,
            batch["label"],
            example_weights(batch, len(outputs)),
            label_smoothing=self.label_smoothing,
            class_weights=self.weights,
            z_loss=self.z_loss,
        )

    def loss(
        self, apply: Apply, variables: Any, batch: Batch, rngs: Any = None, train: bool = False
    ) -> tuple[Any, Any, dict[str, Any]]:
        """(loss sum, weight sum, {"outputs", "updates"}); see `zoo.tasks.batch.run`."""
        return run(self.objective, apply, variables, batch, rngs, train)

    def metrics(self) -> dict[str, Metric]:
        """`loss`, `accuracy`, precision, recall and F1 (macro, micro, weighted, per class), and,
        for up to `MATRIX_LIMIT` classes, `confusion_matrix` and `roc_auc` (each class against the
        others, macro); for more than `top_k` classes `top_{k}_accuracy`."""
        classes = fact("num_classes", self.num_classes)
        metrics = {
            "loss": mean("loss", self.objective),
            "scores": class_scores(classes, self._decide),
        }
        if classes > self.top_k:
            metrics["top_k"] = top_k(self.top_k, self._scores)
        if classes <= MATRIX_LIMIT:
            metrics["confusion_matrix"] = confusion_matrix(classes, self._decide)
            metrics["roc_auc"] = roc_auc(classes, self._one_against_rest)
        return metrics

    def predict(self, outputs: Any, batch: Batch | None = None) -> dict[str, Any]:
        """`label` int32 `[B]` and `probabilities` `[B, C]`."""
        return {
            "label": jnp.argmax(outputs, -1).astype(jnp.int32),
            "probabilities": softmax(outputs),
        }

    def _scores(self, outputs: Any, batch: Batch) -> tuple[Any, Any, Any]:
        return outputs, label_index(batch["label"]), example_weights(batch, len(outputs))

    def _decide(self, outputs: Any, batch: Batch) -> tuple[Any, Any, Any]:
        _, label, weight = self._scores(outputs, batch)
        return jnp.argmax(outputs, -1), label, weight

    def _one_against_rest(self, outputs: Any, batch: Batch) -> tuple[Any, Any, Any]:
        _, label, weight = self._scores(outputs, batch)
        return softmax(outputs), label[:, None] == jnp.arange(outputs.shape[-1]), weight
