"""Binary classification: one logit per example, labels 0 and 1.

Batch: a primary input, `label` int32 `[B]`, or float32 `[B, 2]` of shares that add up to 1 (mixed
examples). Outputs: logits `[B]` or `[B, 1]`.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from zoo.errors import InputError
from zoo.tasks.batch import Apply, Batch, example_weights, label_index, run
from zoo.tasks.bind import (
    ClassWeights,
    bound,
    check_options,
    classes_of,
    expect_label,
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
from zoo.tasks.losses import binary_cross_entropy, softmax
from zoo.tasks.metrics import Metric, confusion_matrix, mean, roc_auc


@dataclass(frozen=True)
class Binary:
    """Trains a single logit by sigmoid cross-entropy."""

    names: ClassVar[tuple[str, ...]] = (
        "image-classification",
        "text-classification",
        "tabular-classification",
        "audio-classification",
    )
    best: ClassVar[tuple[str, str]] = ("accuracy", "max")

    label_smoothing: float = 0.0
    """Share of every target that is spread evenly over both classes."""
    class_weights: ClassWeights = None
    """Weights of class 0 and class 1, or "balanced": inverse to their share in training."""
    threshold: float = 0.5
    """Probability above which an example is taken for class 1."""

    weights: tuple[float, ...] | None = field(default=None, init=False)
    """Class weights in numbers, bound from the data."""

    def __post_init__(self) -> None:
        check_options(self)
        if not 0 < self.threshold < 1:
            raise InputError(f"threshold is {self.threshold}; it must be between 0 and 1")

    def bind(self, info: Any) -> "Binary":
        """This task with the class weights of the data; InputError unless there are 2 classes."""
        num_classes = classes_of(self, info)
        expect_label(self, info, "int32", (0,), "use Multilabel or TokenClassification")
        if num_classes != 2:
            raise InputError(
                f"Binary needs two classes; the data have {num_classes}: use Classification"
            )
        return bound(self, weights=resolve_class_weights(self.class_weights, 2, info))

    def check(self, batch: Batch, info: Any, rows: Rows) -> None:
        """Host check of one batch; InputError names the record."""
        check_inputs(batch, info, rows)
        if is_soft(batch):
            check_shares(batch["label"], 2, rows)
        else:
            label = check_label(batch, rows, np.int32, (1,), "int32 [B], 0 or 1")
            check_classes(label, 2, rows)

    def objective(self, outputs: Any, batch: Batch) -> tuple[Any, Any]:
        """(sum of the cross-entropies, sum of the weights)."""
        if self.class_weights is not None and self.weights is None:
            raise InputError("class_weights are not known yet: bind the task to its data first")
        logits = binary_logits(outputs)
        return binary_cross_entropy(
            logits,
            positive_share(batch["label"]),
            example_weights(batch, len(logits)),
            label_smoothing=self.label_smoothing,
            class_weights=self.weights,
        )

    def loss(
        self, apply: Apply, variables: Any, batch: Batch, rngs: Any = None, train: bool = False
    ) -> tuple[Any, Any, dict[str, Any]]:
        """(loss sum, weight sum, {"outputs", "updates"}); see `zoo.tasks.batch.run`."""
        return run(self.objective, apply, variables, batch, rngs, train)

    def metrics(self) -> dict[str, Metric]:
        """`loss`, `accuracy`, `precision`, `recall` and `f1` of class 1, `confusion_matrix`,
        `roc_auc`."""
        return {
            "loss": mean("loss", self.objective),
            "confusion_matrix": confusion_matrix(2, self._decide, binary=True),
            "roc_auc": roc_auc(None, self._scores),
        }

    def predict(self, outputs: Any, batch: Batch | None = None) -> dict[str, Any]:
        """`label` int32 `[B]` and `probabilities` `[B, 2]` of class 0 and class 1."""
        logits = binary_logits(outputs)
        both = softmax(jnp.stack([jnp.zeros_like(logits), logits], -1))
        return {"label": self._label(logits), "probabilities": both}

    def _label(self, logits: Any) -> Any:
        return (logits > math.log(self.threshold / (1 - self.threshold))).astype(jnp.int32)

    def _scores(self, outputs: Any, batch: Batch) -> tuple[Any, Any, Any]:
        logits = binary_logits(outputs)
        return logits, label_index(batch["label"]), example_weights(batch, len(logits))

    def _decide(self, outputs: Any, batch: Batch) -> tuple[Any, Any, Any]:
        logits, label, weight = self._scores(outputs, batch)
        return self._label(logits), label, weight


def positive_share(label: Any) -> Any:
    """Labels `[B]`, of soft ones `[B, 2]` the share of class 1."""
    return label[:, 1] if label.ndim == 2 else label


def binary_logits(outputs: Any) -> Float[Array, " B"]:
    """Logits `[B]` from outputs `[B]` or `[B, 1]`; InputError for any other shape."""
    shape = getattr(outputs, "shape", None)
    if shape is None or len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
        got = type(outputs).__name__ if shape is None else str(tuple(shape))
        raise InputError(
            f"the model returns {got}; Binary needs one logit per example: set the "
            "model's num_classes=1, or use Classification"
        )
    return jnp.asarray(outputs).reshape(-1)
