"""Evaluation: every example exactly once, sums on the device, merged in float64 on the host."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.parallel.compile import Parallel
from zoo.training.step import apply_function


class Evaluator:
    """Computes a task's metrics over a split.

    Args:
        module: the model.
        task: gives `loss` and `metrics()`; scores generated text, or joined rows, where it has any
            (see `zoo.tasks.Task`).
        parallel: how the evaluation is compiled.
        generate: `(variables, batch) -> token ids [B, L]`, for tasks that score generated text.
        decode: token ids of one example to text.
    """

    def __init__(
        self,
        module: Any,
        task: Any,
        parallel: Parallel,
        generate: Callable[..., Any] | None = None,
        decode: Callable[[Any], str] | None = None,
    ):
        self.task = task
        self.parallel = parallel
        self.metrics = task.metrics()
        self.generate, self.decode = generate, decode
        self.joins = bool(getattr(task, "joins", False))
        apply = apply_function(module)

        def sums(variables: Any, batch: Any) -> dict[str, Any]:
            loss_sum, weight_sum, aux = task.loss(apply, variables, batch, None, False)
            states = {
                name: self._combine(metric, metric.update(metric.zero(), aux["outputs"], batch))
                for name, metric in self.metrics.items()
            }
            loss, weight = self._add((loss_sum, weight_sum))
            kept = task.keep(aux["outputs"], batch) if self.joins else {}
            return {"loss": (loss, weight), "metrics": states, "kept": self._gather(kept)}

        self._sums = parallel.evaluate(sums)

    def __call__(
        self,
        variables: Any,
        batches: Iterable[dict[str, np.ndarray]],
        check: Callable[..., None],
        split: Any = None,
    ) -> dict[str, Any]:
        """Metrics over all batches, by name.

        Args:
            variables: what `model.apply` takes.
            batches: padded to one size, with a `weight` of 0 for rows that only pad.
            check: called with each host batch before it is used.
            split: what the batches hold, in its order; for tasks that join rows.

        Returns:
            Numbers, and lists for what a metric gives per class; `loss` is the mean loss.
            Numbers that are not finite become None.
        """
        loss = weight = 0.0
        states: dict[str, Any] = {}
        texts, kept = None, []
        for batch in batches:
            check(batch)
            placed = self.parallel.place_batch(batch)
            for found in self._sums(variables, placed):
                loss += float(found["loss"][0])
                weight += float(found["loss"][1])
                kept.append(found["kept"])
                for name, metric in self.metrics.items():
                    new = found["metrics"][name]
                    states[name] = metric.merge(states.get(name, metric.zero()), new)
            if self.generate:
                new = self._texts(variables, batch)
                texts = new if texts is None else self.task.merge_text(texts, new)
        results: dict[str, Any] = {"loss": loss / weight if weight else math.nan}
        for name, metric in self.metrics.items():
            results |= metric.compute(states.get(name, metric.zero()))
        if texts is not None:
            results |= self.task.compute_text(texts)
        if self.joins:
            results |= self.task.score(join_rows(kept, len(split)), split)
        return {name: _finite(value) for name, value in results.items()}

    def _texts(self, variables: Any, batch: dict[str, np.ndarray]) -> Any:
        assert self.generate and self.decode
        ids = np.asarray(self.generate(variables, batch))
        real = np.flatnonzero(batch["weight"] > 0)
        hypotheses = [self.decode(ids[row]) for row in real]
        references = [self.decode(np.maximum(batch["label"][row], 0)) for row in real]
        return self.task.text_metrics(hypotheses, references)

    def _add(self, tree: Any) -> Any:
        axis = self.parallel.axis
        return jax.lax.psum(tree, axis) if axis else tree

    def _combine(self, metric: Any, state: Any) -> Any:
        return self._add(state) if metric.reduce == "sum" else self._gather(state)

    def _gather(self, state: Any) -> Any:
        axis = self.parallel.axis
        if axis is None:
            return state
        return jax.tree.map(lambda leaf: jax.lax.all_gather(leaf, axis, tiled=True), state)


def join_rows(kept: list[dict[str, np.ndarray]], count: int) -> dict[str, np.ndarray]:
    """What a task keeps of the first `count` rows; those after them only pad the last batch."""
    return {key: np.concatenate([part[key] for part in kept])[:count] for key in kept[0]}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.ndarray):
        return _finite(value.tolist())
    if isinstance(value, float | np.floating | jnp.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
