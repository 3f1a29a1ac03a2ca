"""One file per task: batch contract, loss, metrics, decoding of predictions.

A task is a frozen dataclass of its options; `Task` is what the trainer asks of it.
"""

from typing import Any, ClassVar, Protocol

from zoo.tasks.batch import IGNORED, Apply, Batch, example_weights, split_inputs
from zoo.tasks.binary import Binary
from zoo.tasks.check import Rows, check_inputs
from zoo.tasks.classification import Classification
from zoo.tasks.image_text import ImageTextContrastive
from zoo.tasks.language_modelling import LanguageModelling
from zoo.tasks.metrics import Metric
from zoo.tasks.multilabel import Multilabel
from zoo.tasks.question_answering import QuestionAnswering
from zoo.tasks.regression import Regression
from zoo.tasks.token_classification import TokenClassification
from zoo.tasks.translation import Translation

REGISTRY: dict[str, type] = {
    "binary": Binary,
    "classification": Classification,
    "multilabel": Multilabel,
    "regression": Regression,
    "token-classification": TokenClassification,
    "question-answering": QuestionAnswering,
    "image-text-contrastive": ImageTextContrastive,
    "language-modelling": LanguageModelling,
    "translation": Translation,
}
"""Task by the name under which a run folder writes it."""

__all__ = [
    "IGNORED",
    "REGISTRY",
    "Binary",
    "Classification",
    "ImageTextContrastive",
    "LanguageModelling",
    "Metric",
    "Multilabel",
    "QuestionAnswering",
    "Regression",
    "Task",
    "TokenClassification",
    "Translation",
    "check_inputs",
    "example_weights",
    "split_inputs",
]


class Task(Protocol):
    """What the trainer asks of a task, a user's own included.

    A task that also has `generates = True` is evaluated by generating: it gives `text_metrics`,
    `merge_text` and `compute_text`.

    A task that has `global_batch = True` compares the examples of a batch with each other: its loss
    is no sum over them, so a batch can be neither accumulated nor reproduced in virtual shards.

    A task that has `joins = True` finds what it predicts once all rows of a split are there, since
    an example may take several: `keep(outputs, batch)`, traced, gives arrays `[B, ...]` of what is
    needed of each row; `score(kept, split)` the numbers of all rows together, and
    `show(kept, split)` what a prediction shows, a dict per example.
    """

    names: ClassVar[tuple[str, ...]]
    """Hub task names of the models' heads it can train."""
    best: ClassVar[tuple[str, str]]
    """Name of the number that picks the best checkpoint, and "max" or "min"."""

    def bind(self, info: Any) -> "Task":
        """A copy that holds what only the data know; InputError when they do not fit."""
        ...

    def check(self, batch: Batch, info: Any, rows: Rows) -> None:
        """Checks one batch of numpy arrays; InputError names the record, one of `rows`."""
        ...

    def loss(
        self, apply: Apply, variables: Any, batch: Batch, rngs: Any, train: bool
    ) -> tuple[Any, Any, dict[str, Any]]:
        """(loss sum, weight sum, {"outputs", "updates"}), sums over the examples of the batch."""
        ...

    def metrics(self) -> dict[str, Metric]:
        """The metrics; their numbers have distinct names, among them `loss`."""
        ...

    def predict(self, outputs: Any, batch: Batch | None = None) -> dict[str, Any]:
        """What a prediction shows, arrays with a row per example."""
        ...
