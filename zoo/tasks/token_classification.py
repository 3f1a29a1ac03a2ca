"""Sequence labelling: one of C classes for every position of a sequence.

Batch: a primary input whose second axis is time, `label` int32 `[B, T]`, -100 where a position has
none. Outputs: logits `[B, T, C]`.

Where the classes are tags of entities (B-PER, I-PER, O: IOB1, IOB2 or BIOES), whole entities are
scored too. A long sentence takes several rows: a split of words says by `example_of` which.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from zoo.tasks.batch import (
    IGNORED,
    PRIMARY,
    Apply,
    Batch,
    expect_width,
    position_weights,
    run,
)
from zoo.tasks.bind import (
    ClassWeights,
    bound,
    check_options,
    classes_of,
    expect_label,
    fact,
    resolve_class_weights,
)
from zoo.tasks.check import Rows, check_classes, check_inputs, check_label
from zoo.tasks.losses import softmax, softmax_cross_entropy
from zoo.tasks.metrics import (
    MATRIX_LIMIT,
    Metric,
    class_scores,
    confusion_matrix,
    entities,
    entity_scores,
    marks_entities,
    mean,
    sequence_accuracy,
)


@dataclass(frozen=True)
class TokenClassification:
    """Trains class logits of every position by softmax cross-entropy, averaged over positions."""

    names: ClassVar[tuple[str, ...]] = ("token-classification",)
    best: ClassVar[tuple[str, str]] = ("accuracy", "max")

    label_smoothing: float = 0.0
    """Share of every target that is spread evenly over all classes."""
    class_weights: ClassWeights = None
    """A weight per class, or "balanced": inverse to its share in training."""
    z_loss: float = 0.0
    """Factor of the squared log-normaliser that keeps logits from drifting; PaLM uses 1e-4."""

    num_classes: int | None = field(default=None, init=False)
    """Number of classes, bound from the data."""
    weights: tuple[float, ...] | None = field(default=None, init=False)
    """Class weights in numbers, bound from the data."""
    tags: tuple[str, ...] = field(default=(), init=False)
    """Names of the classes, bound from the data."""

    def __post_init__(self) -> None:
        check_options(self)

    def bind(self, info: Any) -> "TokenClassification":
        """This task with the classes of the data; InputError when the labels are no classes."""
        count = classes_of(self, info)
        expect_label(self, info, "int32", (1,), "use Classification")
        weights = resolve_class_weights(self.class_weights, count, info)
        tags = tuple(getattr(info, "class_names", None) or ())
        best = ("entity_f1", "max") if marks_entities(tags) else self.best
        return bound(self, num_classes=count, weights=weights, tags=tags, best=best)

    @property
    def joins(self) -> bool:
        """Whether rows are joined to sentences: where tags mark entities."""
        return marks_entities(self.tags)

    def check(self, batch: Batch, info: Any, rows: Rows) -> None:
        """Host check of one batch; InputError names the record."""
        check_inputs(batch, info, rows)
        primary = next(name for name in PRIMARY if name in batch)
        label = check_label(batch, rows, np.int32, (2,), "int32 [B, T] of class indices", primary)
        check_classes(label, int(info.num_classes), rows, ignored=True)

    def objective(self, outputs: Any, batch: Batch) -> tuple[Any, Any]:
        """(sum of the cross-entropies over the labelled positions, sum of their weights)."""
        classes = fact("num_classes", self.num_classes)
        expect_width(outputs, 3, classes, "logits [B, T, C]", f"set its num_classes={classes}")
        return softmax_cross_entropy(
            outputs,
            batch["label"],
            position_weights(batch),
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
        """`loss`; over the labelled positions `accuracy`, precision, recall and F1 (macro, micro,
        weighted, per class) and, for up to `MATRIX_LIMIT` classes, `confusion_matrix`;
        `sequence_accuracy` (every position of a sequence right)."""
        classes = fact("num_classes", self.num_classes)
        metrics = {
            "loss": mean("loss", self.objective),
            "scores": class_scores(classes, self._decide),
            "sequence_accuracy": sequence_accuracy(self._decide),
        }
        if classes <= MATRIX_LIMIT:
            metrics["confusion_matrix"] = confusion_matrix(classes, self._decide)
        return metrics

    def predict(self, outputs: Any, batch: Batch | None = None) -> dict[str, Any]:
        """`label` int32 `[B, T]`, -100 at the padding that `attention_mask` of the batch names,
        and `probabilities` `[B, T, C]`."""
        label = jnp.argmax(outputs, -1).astype(jnp.int32)
        if batch is not None and "attention_mask" in batch:
            label = jnp.where(jnp.asarray(batch["attention_mask"]) != 0, label, IGNORED)
        return {"label": label, "probabilities": softmax(outputs)}

    def keep(self, outputs: Any, batch: Batch) -> dict[str, Any]:
        """`predicted` and `label` int32 `[B, T]`, and the probability of the former."""
        probabilities = softmax(outputs)
        return {
            "predicted": jnp.argmax(outputs, -1).astype(jnp.int32),
            "probability": jnp.max(probabilities, -1),
        } | ({"label": batch["label"]} if "label" in batch else {})

    def score(self, kept: dict[str, np.ndarray], split: Any) -> dict[str, Any]:
        """`entity_precision`, `entity_recall`, `entity_f1` and more, see `entity_scores`."""
        owners = getattr(split, "example_of", np.arange(len(kept["label"])))
        predicted: list[list[str]] = [[] for _ in range(int(owners[-1]) + 1)]
        true: list[list[str]] = [[] for _ in predicted]
        for row, owner in enumerate(owners):
            at = np.flatnonzero(kept["label"][row] != IGNORED)
            predicted[owner] += [self.tags[i] for i in kept["predicted"][row, at]]
            true[owner] += [self.tags[i] for i in kept["label"][row, at]]
        return entity_scores(predicted, true)

    def show(self, kept: dict[str, np.ndarray], split: Any) -> list[dict[str, Any]]:
        """Of every sentence: its words, their tags and the probabilities of these, and the entities
        that the tags mark. A word of which the tokenizer left nothing has no tag.

        Args:
            kept: see `keep`.
            split: of words: `examples` with `words`, `example_of`, and `words(row)`, the number of
                the word at each token, -1 for none.
        """
        rows = []
        for one in split.examples:
            empty = [None] * len(one.words)
            rows.append({"words": list(one.words), "tags": empty, "probabilities": [*empty]})
        for row, owner in enumerate(split.example_of):
            numbers = split.words(row)
            for at in np.flatnonzero(numbers >= 0):
                word, found = int(numbers[at]), rows[owner]
                found["tags"][word] = self.tags[kept["predicted"][row, at]]
                found["probabilities"][word] = float(kept["probability"][row, at])
        if marks_entities(self.tags):
            for row in rows:
                row["entities"] = [
                    {"type": kind, "text": " ".join(row["words"][start:stop])}
                    for kind, start, stop in entities([tag or "O" for tag in row["tags"]])
                ]
        return rows

    def _decide(self, outputs: Any, batch: Batch) -> tuple[Any, Any, Any]:
        return jnp.argmax(outputs, -1), batch["label"], position_weights(batch)
