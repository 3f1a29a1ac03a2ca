"""Metrics as sums that merge over batches and devices, equal to scikit-learn's and sacrebleu's."""

from zoo.tasks.metrics.answers import answer_scores
from zoo.tasks.metrics.confusion import (
    MATRIX_LIMIT,
    class_scores,
    confusion_matrix,
    label_scores,
)
from zoo.tasks.metrics.entities import entities, entity_scores, marks_entities
from zoo.tasks.metrics.metric import (
    Metric,
    likelihood,
    mean,
    position_accuracy,
    sequence_accuracy,
)
from zoo.tasks.metrics.ranking import roc_auc, top_k
from zoo.tasks.metrics.regression import regression_scores
from zoo.tasks.metrics.retrieval import recalls
from zoo.tasks.metrics.text import merge_text_counts, text_counts, text_scores

__all__ = [
    "MATRIX_LIMIT",
    "Metric",
    "answer_scores",
    "class_scores",
    "confusion_matrix",
    "entities",
    "entity_scores",
    "label_scores",
    "likelihood",
    "marks_entities",
    "mean",
    "merge_text_counts",
    "position_accuracy",
    "recalls",
    "regression_scores",
    "roc_auc",
    "sequence_accuracy",
    "text_counts",
    "text_scores",
    "top_k",
]
