"""Metrics of the order of scores: top-k accuracy and the area under the ROC curve."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from zoo.tasks.batch import where_counts
from zoo.tasks.losses import wide
from zoo.tasks.metrics.metric import Metric, Read, Scores, State, mean


def top_k(k: int, read: Read) -> Metric:
    """`top_{k}_accuracy`: the share of examples whose class is among the k highest scores.

    Of equal scores the higher class index comes first, as in scikit-learn's
    `top_k_accuracy_score`. A row with a NaN score is wrong.

    Args:
        k: how many scores.
        read: gives scores `[B, C]`, class indices `[B]` and weights `[B]`.
    """

    def measure(outputs: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        scores, label, weight = read(outputs, batch)
        label = jnp.where(weight != 0, label, 0)[:, None]
        own = jnp.take_along_axis(scores, label, axis=-1)
        behind = (scores == own) & (jnp.arange(scores.shape[-1]) > label)
        rank = jnp.sum((scores > own) | behind, -1)
        hit = (rank < k) & ~jnp.any(jnp.isnan(scores), -1)
        return jnp.sum(jnp.where(hit, weight, 0)), jnp.sum(weight)

    return mean(f"top_{k}_accuracy", measure)


def roc_auc(columns: int | None, read: Read) -> Metric:
    """`roc_auc`: the area under the ROC curve, exact, ties counted half.

    The state keeps every score. For several columns the areas are averaged (macro): column c
    of the labels against all others. None where a column has only one kind of label, or a score is
    NaN. Equal to scikit-learn's `roc_auc_score` on the same scores.

    Args:
        columns: number of columns C; None for a single one.
        read: gives scores and labels (0 or 1), `[B]` or `[B, C]`, and the weights `[B]`.
    """
    shape = (0,) if columns is None else (0, columns)

    def zero() -> State:
        return {
            "score": np.zeros(shape, np.float32),
            "label": np.zeros(shape, np.int32),
            "weight": np.zeros((0,), np.float32),
        }

    def measure(outputs: Any, batch: Mapping[str, Any]) -> State:
        scores, label, weight = read(outputs, batch)
        return {
            "score": where_counts(weight, wide(scores)),
            "label": where_counts(weight, label).astype(jnp.int32),
            "weight": weight,
        }

    def compute(state: State) -> Scores:
        counts = np.asarray(state["weight"]) > 0
        weight = np.asarray(state["weight"], np.float64)[counts]
        scores = np.asarray(state["score"])[counts].reshape(len(weight), columns or 1)
        labels = np.asarray(state["label"])[counts].reshape(len(weight), columns or 1)
        areas = [area(s, label, weight) for s, label in zip(scores.T, labels.T, strict=True)]
        defined = [each for each in areas if each is not None]
        whole = len(defined) == len(areas)
        return {"roc_auc": float(np.mean(defined)) if whole else None}

    return Metric(zero, measure, compute, reduce="concat")


def area(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float | None:
    """The weighted share of (positive, negative) pairs in the right order, ties counted half.

    Args:
        scores: `[N]`.
        labels: `[N]` of 0 and 1.
        weights: `[N]`, float64.

    Returns:
        The area; None where one of the labels is absent or a score is NaN.
    """
    positive, negative = weights * (labels == 1), weights * (labels != 1)
    if not positive.sum() or not negative.sum() or np.isnan(scores).any():
        return None
    _, group = np.unique(scores, return_inverse=True)
    positive, negative = np.bincount(group, positive), np.bincount(group, negative)
    below = np.cumsum(negative) - negative
    pairs = positive.sum() * negative.sum()
    return float((positive * (below + negative / 2)).sum() / pairs)
