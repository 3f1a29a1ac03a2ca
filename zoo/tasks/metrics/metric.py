"""A metric: sums that merge over batches and devices, and what to make of them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from zoo.tasks.batch import where_counts

State = Mapping[str, Any]
Scores = dict[str, Any]
Read = Callable[[Any, Mapping[str, Any]], tuple[Any, ...]]
"""How a task reads (prediction or score, label, weight) out of a model's outputs and a batch."""


@dataclass(frozen=True)
class Metric:
    """One or more numbers computed from a state that batches add to.

    Update one state per batch on the device, where it is float32 and counts to 2^24 exactly, and
    merge the states of batches on the host, in float64. `compute` always returns the same
    names; a number that is not defined, because no example counts or a class is missing, is None
    (null in JSON); one that is defined but not finite (the model returned NaN) is as it is.

    Attributes:
        zero: the state of no examples.
        measure: `(outputs, batch) -> state` of one batch; jnp, traced.
        compute: `state -> {name: number, list of numbers per class, or None}`; on the host.
        reduce: how states combine, over batches and over devices: added, or put one after the
            other along axis 0.
    """

    zero: Callable[[], State]
    measure: Callable[[Any, Mapping[str, Any]], State]
    compute: Callable[[State], Scores]
    reduce: Literal["sum", "concat"] = "sum"

    def update(self, state: State, outputs: Any, batch: Mapping[str, Any]) -> State:
        """`state` with a batch added, inside a compiled program."""
        new = self.measure(outputs, batch)
        join = jnp.add if self.reduce == "sum" else lambda a, b: jnp.concatenate([a, b])
        return jax.tree.map(join, dict(state), dict(new))

    def merge(self, a: State, b: State) -> State:
        """The state of the examples of both, on the host: sums in int64 and float64."""
        if self.reduce == "concat":
            return jax.tree.map(
                lambda a, b: np.concatenate([np.asarray(a), np.asarray(b)]), dict(a), dict(b)
            )
        return jax.tree.map(lambda a, b: _widest(a) + _widest(b), dict(a), dict(b))


def _widest(leaf: Any) -> np.ndarray:
    leaf = np.asarray(leaf)
    return leaf.astype(np.int64 if np.issubdtype(leaf.dtype, np.integer) else np.float64)


def mean(name: str, measure: Callable[[Any, Mapping[str, Any]], tuple[Any, Any]]) -> Metric:
    """The metric `name`: a sum divided by a weight, `measure(outputs, batch) -> (sum, weight)`."""

    def compute(state: State) -> Scores:
        weight = float(state["weight"])
        return {name: float(state["sum"]) / weight if weight else None}

    return Metric(_zero_mean, _named(measure), compute)


def likelihood(
    measure: Callable[[Any, Mapping[str, Any]], tuple[Any, Any]], bytes_per_token: float | None
) -> Metric:
    """`perplexity` and, given the length of a token, `bits_per_byte`.

    Args:
        measure: `(outputs, batch) -> (sum of -log p of the true tokens in nats, their number)`.
        bytes_per_token: mean length of a token in bytes; None leaves out `bits_per_byte`.

    Perplexity is exp(mean), infinite beyond float64; bits per byte is
    mean / (ln 2 x bytes per token).
    """

    def compute(state: State) -> Scores:
        weight = float(state["weight"])
        nats = float(state["sum"]) / weight if weight else math.nan
        scores: Scores = {"perplexity": math.inf if nats > 700 else math.exp(nats)}
        if bytes_per_token is not None:
            scores["bits_per_byte"] = nats / (math.log(2) * bytes_per_token)
        return scores if weight else undefined(scores)

    return Metric(_zero_mean, _named(measure), compute)


def sequence_accuracy(read: Read) -> Metric:
    """`sequence_accuracy`: the share of sequences in which every position is predicted right.

    Args:
        read: gives predictions and labels `[B, T]` and the weight `[B, T]` of the positions; a
            sequence in which none counts is left out, and each counts with its largest weight.
    """

    def measure(outputs: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        predicted, label, weight = read(outputs, batch)
        right = jnp.all((predicted == label) | (weight == 0), -1)
        weight = jnp.max(weight, -1)
        return jnp.sum(jnp.where(right, weight, 0)), jnp.sum(weight)

    return mean("sequence_accuracy", measure)


def position_accuracy(read: Read) -> Metric:
    """`accuracy`: the share of positions predicted right; `read` as in `sequence_accuracy`."""

    def measure(outputs: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        predicted, label, weight = read(outputs, batch)
        return jnp.sum(where_counts(weight, weight * (predicted == label))), jnp.sum(weight)

    return mean("accuracy", measure)


def undefined(scores: Scores) -> Scores:
    """The same names, every number None."""
    return dict.fromkeys(scores)


def _zero_mean() -> State:
    return {"sum": np.zeros((), np.float32), "weight": np.zeros((), np.float32)}


def _named(measure: Callable[[Any, Mapping[str, Any]], tuple[Any, Any]]) -> Any:
    return lambda outputs, batch: dict(zip(("sum", "weight"), measure(outputs, batch), strict=True))
