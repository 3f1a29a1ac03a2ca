"""MSE, MAE and R2 in the labels' own units, from sums about the mean of the training labels."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from zoo.tasks.batch import where_counts
from zoo.tasks.losses import wide
from zoo.tasks.metrics.metric import Metric, Read, Scores, State, undefined

SUMS = ("squared_error", "absolute_error", "label", "squared_label")


def regression_scores(std: tuple[float, ...], read: Read) -> Metric:
    """`mse`, `mae` and `r2`, averaged over the K values of an example.

    Equal to scikit-learn's `mean_squared_error`, `mean_absolute_error` and `r2_score`. R2 needs
    two examples, else it is None; where the labels are all equal it is 1 if the predictions are
    perfect, else 0.

    Args:
        std: what the labels were divided by after their mean was subtracted, for each of the K.
            The sums are of these standardised labels, so large means lose no digits.
        read: gives predictions and labels `[B, K]`, standardised, and the weights `[B]`.
    """
    scale = np.asarray(std, np.float64)

    def zero() -> State:
        sums = {key: np.zeros(scale.shape, np.float32) for key in SUMS}
        return sums | {"weight": np.zeros((), np.float32), "count": np.zeros((), np.int32)}

    def measure(outputs: Any, batch: Mapping[str, Any]) -> State:
        predicted, label, weight = read(outputs, batch)
        error = where_counts(weight, wide(predicted) - label)
        label, each = where_counts(weight, label), weight[:, None]
        terms = (error**2, jnp.abs(error), label, label**2)
        sums = {key: jnp.sum(each * x, 0) for key, x in zip(SUMS, terms, strict=True)}
        return sums | {"weight": jnp.sum(weight), "count": jnp.sum(weight != 0, dtype=jnp.int32)}

    def compute(state: State) -> Scores:
        weight = float(state["weight"])
        squared, absolute, label, squared_label = (
            np.asarray(state[key], np.float64) / (weight or 1) for key in SUMS
        )
        variance = squared_label - label**2
        constant = variance <= 1e-6 * squared_label  # the noise of float32 sums
        r2 = np.where(constant, squared == 0, 1 - squared / np.where(constant, 1, variance))
        scores: Scores = {
            "mse": float(np.mean(squared * scale**2)),
            "mae": float(np.mean(absolute * scale)),
            "r2": float(np.mean(r2)) if int(state["count"]) >= 2 else None,
        }
        return scores if weight else undefined(scores)

    return Metric(zero, measure, compute)
