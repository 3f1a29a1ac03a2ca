"""Precision, recall, F1, accuracy and the confusion matrix, from counts.

Equal to scikit-learn's functions of these names with `zero_division=0`, sample weights included.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from zoo.tasks.metrics.metric import Metric, Read, Scores, State, undefined

MATRIX_LIMIT = 100
"""Above so many classes the confusion matrix is not kept."""


def class_scores(num_classes: int, read: Read) -> Metric:
    """Scores of single-label classification.

    `accuracy`; `precision`, `recall` and `f1`, each with `_macro` (over the classes that occur
    among labels or predictions), `_micro` and `_weighted` (by the true counts), and
    `_per_class` (lists over all classes; absent ones score 0).

    Args:
        num_classes: C.
        read: gives predicted and true class indices of any shape, and their weights.
    """

    def measure(outputs: Any, batch: Mapping[str, Any]) -> State:
        predicted, label, weight = (x.reshape(-1) for x in read(outputs, batch))

        def count(index: Any, weight: Any) -> Any:
            return jnp.zeros((num_classes,), jnp.float32).at[index].add(weight, mode="drop")

        label = jnp.where(weight != 0, label, 0)
        return {
            "true": count(label, jnp.where(predicted == label, weight, 0)),
            "predicted": count(predicted, weight),
            "actual": count(label, weight),
        }

    def compute(state: State) -> Scores:
        true, predicted, actual = (_counts(state, key) for key in ("true", "predicted", "actual"))
        scores: Scores = {"accuracy": float(_ratio(true.sum(), actual.sum()))}
        occurs = (predicted > 0) | (actual > 0)
        scores |= averages(true, predicted, actual, occurs) | per_class(true, predicted, actual)
        return scores if actual.sum() else undefined(scores)

    return Metric(_zero("true", "predicted", "actual", shape=(num_classes,)), measure, compute)


def label_scores(num_classes: int, read: Read) -> Metric:
    """Scores of multilabel classification: every column is a class that is present or not.

    The scores of `class_scores`, averaged over all columns; `accuracy` is the share of examples
    with every column right (subset accuracy).

    Args:
        num_classes: C.
        read: gives predicted and true labels `[B, C]` of 0 and 1, and the weights `[B]`.
    """

    def measure(outputs: Any, batch: Mapping[str, Any]) -> State:
        predicted, label, weight = read(outputs, batch)

        def count(chosen: Any) -> Any:
            return jnp.sum(jnp.where(chosen, weight[:, None], 0), 0)

        return {
            "true": count((predicted == 1) & (label == 1)),
            "predicted": count(predicted == 1),
            "actual": count(label == 1),
            "right": jnp.sum(jnp.where(jnp.all(predicted == label, -1), weight, 0)),
            "weight": jnp.sum(weight),
        }

    def zero() -> State:
        counts = _zero("true", "predicted", "actual", shape=(num_classes,))()
        return counts | _zero("right", "weight", shape=())()

    def compute(state: State) -> Scores:
        true, predicted, actual = (_counts(state, key) for key in ("true", "predicted", "actual"))
        scores: Scores = {"accuracy": float(_ratio(state["right"], state["weight"]))}
        scores |= averages(true, predicted, actual, np.ones(num_classes, bool))
        scores |= per_class(true, predicted, actual)
        return scores if float(state["weight"]) else undefined(scores)

    return Metric(zero, measure, compute)


def confusion_matrix(num_classes: int, read: Read, binary: bool = False) -> Metric:
    """`confusion_matrix`: a list of rows, one per true class, of counts per predicted class.

    Args:
        num_classes: C.
        read: as in `class_scores`.
        binary: also `accuracy`, and `precision`, `recall` and `f1` of class 1.
    """

    def measure(outputs: Any, batch: Mapping[str, Any]) -> State:
        predicted, label, weight = (x.reshape(-1) for x in read(outputs, batch))
        label = jnp.where(weight != 0, label, 0)
        matrix = jnp.zeros((num_classes, num_classes), jnp.float32)
        return {"matrix": matrix.at[label, predicted].add(weight, mode="drop")}

    def compute(state: State) -> Scores:
        matrix = _counts(state, "matrix")
        whole = np.array_equal(matrix, np.rint(matrix))
        scores: Scores = {"confusion_matrix": (matrix.astype(int) if whole else matrix).tolist()}
        if binary:
            true, predicted, actual = np.diag(matrix), matrix.sum(0), matrix.sum(1)
            scores["accuracy"] = float(_ratio(true.sum(), actual.sum()))
            both = per_class(true, predicted, actual)
            scores |= {name.removesuffix("_per_class"): both[name][1] for name in both}
        return scores if matrix.sum() else undefined(scores)

    return Metric(_zero("matrix", shape=(num_classes, num_classes)), measure, compute)


def averages(
    true: np.ndarray, predicted: np.ndarray, actual: np.ndarray, occurs: np.ndarray
) -> Scores:
    """Macro, micro and weighted averages from the counts `[C]` of true positives, predictions and
    labels; the macro average is over the classes that occur."""
    scores: Scores = {}
    summed = per_class(*(np.sum(counts, keepdims=True) for counts in (true, predicted, actual)))
    for name, values in per_class(true, predicted, actual).items():
        score, values = name.removesuffix("_per_class"), np.asarray(values)
        scores[f"{score}_macro"] = float(_ratio(values[occurs].sum(), occurs.sum()))
        scores[f"{score}_micro"] = summed[name][0]
        scores[f"{score}_weighted"] = float(_ratio((values * actual).sum(), actual.sum()))
    return scores


def per_class(true: np.ndarray, predicted: np.ndarray, actual: np.ndarray) -> Scores:
    """Precision, recall and F1 of every class; 0 where nothing is there to divide by."""
    return {
        "precision_per_class": _ratio(true, predicted).tolist(),
        "recall_per_class": _ratio(true, actual).tolist(),
        "f1_per_class": _ratio(2 * true, predicted + actual).tolist(),
    }


def _ratio(above: Any, below: Any) -> np.ndarray:
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)


def _counts(state: State, key: str) -> np.ndarray:
    return np.asarray(state[key], np.float64)


def _zero(*keys: str, shape: tuple[int, ...]) -> Any:
    return lambda: {key: np.zeros(shape, np.float32) for key in keys}
