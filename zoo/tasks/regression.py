"""Regression: one or more numbers per example.

Batch: a primary input, `label` float32 `[B]` or `[B, K]`, standardised by the data (mean
subtracted, divided by the standard deviation of the training split). Outputs: `[B, K]`, or `[B]`.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from zoo.errors import InputError
from zoo.tasks.batch import Apply, Batch, example_weights, run
from zoo.tasks.bind import bound, expect_label
from zoo.tasks.check import Rows, check_inputs, check_label, refuse
from zoo.tasks.losses import mean_squared_error, wide
from zoo.tasks.metrics import Metric, mean, regression_scores


@dataclass(frozen=True)
class Regression:
    """Trains numbers by mean squared error on standardised labels.

    The metric `loss` is of the standardised labels; `mse`, `mae` and `r2` are in the labels' own
    units.
    """

    names: ClassVar[tuple[str, ...]] = ("regression", "text-classification")
    best: ClassVar[tuple[str, str]] = ("mse", "min")

    label_mean: tuple[float, ...] = field(default=(0.0,), init=False)
    """What was subtracted from each of the K labels, bound from the data."""
    label_std: tuple[float, ...] = field(default=(1.0,), init=False)
    """What each of the K labels was divided by, bound from the data."""

    def bind(self, info: Any) -> "Regression":
        """This task with the units of the labels; InputError when the labels are classes.

        Data that do not standardise their labels (`label_mean` None) have mean 0 and deviation 1.
        """
        if getattr(info, "num_classes", None) is not None:
            raise InputError(
                f"Regression needs numbers; the labels of these data are "
                f"{info.num_classes} classes: use Classification, Binary or "
                "Multilabel"
            )
        expect_label(self, info, "float32", (0, 1), "it needs float32 numbers, one or K")
        mean_, std = getattr(info, "label_mean", None), getattr(info, "label_std", None)
        if mean_ is None and std is None:
            return self
        if mean_ is None or std is None:
            raise InputError("the data give only one of label_mean and label_std")
        means, stds = (tuple(float(x) for x in np.atleast_1d(values)) for values in (mean_, std))
        if (
            len(means) != len(stds)
            or not all(np.isfinite(means))
            or not all(0 < std < float("inf") for std in stds)
        ):
            raise InputError(f"label_mean {means} and label_std {stds} do not fit")
        return bound(self, label_mean=means, label_std=stds)

    def check(self, batch: Batch, info: Any, rows: Rows) -> None:
        """Host check of one batch; InputError names the record."""
        check_inputs(batch, info, rows)
        label = check_label(batch, rows, np.float32, (1, 2), "float32 [B] or [B, K]")
        width = 1 if label.ndim == 1 else label.shape[1]
        if width != len(self.label_mean):
            raise InputError(
                f"label of {rows[0]} has {width} values; the data have {len(self.label_mean)}"
            )
        refuse("label", label, ~np.isfinite(label), rows, "a finite number")

    def objective(self, outputs: Any, batch: Batch) -> tuple[Any, Any]:
        """(sum of the squared errors of the standardised labels, sum of the weights)."""
        return mean_squared_error(*self._read(outputs, batch))

    def loss(
        self, apply: Apply, variables: Any, batch: Batch, rngs: Any = None, train: bool = False
    ) -> tuple[Any, Any, dict[str, Any]]:
        """(loss sum, weight sum, {"outputs", "updates"}); see `zoo.tasks.batch.run`."""
        return run(self.objective, apply, variables, batch, rngs, train)

    def metrics(self) -> dict[str, Metric]:
        """`loss`, and in the labels' own units `mse`, `mae` and `r2`."""
        return {
            "loss": mean("loss", self.objective),
            "scores": regression_scores(self.label_std, self._read),
        }

    def predict(self, outputs: Any, batch: Batch | None = None) -> dict[str, Any]:
        """`value` `[B, K]`, or `[B]` where K is 1, in the labels' own units."""
        values = wide(columns(outputs))
        std, mean_ = (jnp.asarray(x, values.dtype) for x in (self.label_std, self.label_mean))
        values = values * std + mean_
        return {"value": values[:, 0] if values.shape[1] == 1 else values}

    def _read(self, outputs: Any, batch: Batch) -> tuple[Any, Any, Any]:
        outputs, label = columns(outputs), columns(batch["label"])
        if outputs.shape != label.shape:
            raise InputError(
                f"the model returns {outputs.shape[1]} values per example, the data "
                f"have {label.shape[1]}: set its num_classes={label.shape[1]}"
            )
        return outputs, label, example_weights(batch, len(outputs))


def columns(values: Any) -> Float[Array, "B K"]:
    """`[B]` as `[B, 1]`, `[B, K]` as it is; InputError for any other shape."""
    values = jnp.asarray(values)
    if values.ndim not in (1, 2):
        raise InputError(f"Regression needs [B] or [B, K]; got shape {values.shape}")
    return values[:, None] if values.ndim == 1 else values
