"""Predictions of a trained run for a user's own files, and how they are shown."""

import dataclasses
from typing import Any

import jax
import numpy as np

from zoo.assemble import text_generator
from zoo.data import evaluation_batches
from zoo.errors import InputError
from zoo.runs import OpenedRun
from zoo.tasks import Multilabel, check_inputs, split_inputs
from zoo.training.evaluator import join_rows

MANY = 20  # classes above which only the likeliest are printed


def predict(opened: OpenedRun, inputs: list[str], batch_size: int) -> list[dict[str, Any]]:
    """One row per example found in `inputs`, in their order.

    Args:
        opened: a run folder, opened.
        inputs: paths of images, tables or text files, or literal text for models of text.
        batch_size: examples computed at once.

    Returns:
        Plain values: `input` (file and line), and what the task predicts: `label`,
        `probabilities` by class, `value`, `text`.

    Raises:
        InputError: an input cannot be read, or does not fit the model.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    if hasattr(opened.run.data, "read") and hasattr(opened.task, "show"):
        return _joined(opened, opened.run.data.read(inputs, opened.info), batch_size)
    names, batch = opened.run.data.encode(inputs, opened.info)
    if not names:
        raise InputError(f"nothing to predict in {', '.join(inputs)}")
    # Shapes may differ from training's: a shorter text, a source without its target.
    check_inputs(batch, dataclasses.replace(opened.info, inputs={}), names)
    generate, decode = text_generator(opened.module, opened.task, opened.run.data, opened.info)
    rows: list[dict[str, Any]] = []
    forward = jax.jit(lambda variables, batch: _forward(opened, variables, batch))
    for start in range(0, len(names), batch_size):
        part = {key: array[start : start + batch_size] for key, array in batch.items()}
        count = len(names[start : start + batch_size])
        padded = {key: _pad(array, batch_size) for key, array in part.items()}
        if generate:
            ids = np.asarray(generate(opened.variables, padded))[:count]
            rows += [{"text": decode(row)} for row in ids]
        else:
            found = jax.tree.map(np.asarray, forward(opened.variables, padded))
            rows += [_row(opened, {k: v[i] for k, v in found.items()}) for i in range(count)]
    return [{"input": name} | row for name, row in zip(names, rows, strict=True)]


def _joined(opened: OpenedRun, split: Any, batch_size: int) -> list[dict[str, Any]]:
    """Predictions for examples of which each may take several rows."""

    def keep(variables: Any, batch: dict[str, Any]) -> dict[str, Any]:
        primary, keywords = split_inputs(batch)
        return opened.task.keep(opened.module.apply(variables, primary, **keywords), batch)

    compiled, kept = jax.jit(keep), []
    for batch in evaluation_batches(split, batch_size):
        del batch["label"], batch["weight"]
        kept.append(jax.device_get(compiled(opened.variables, batch)))
    shown = opened.task.show(join_rows(kept, len(split)), split)
    return [{"input": one.name} | row for one, row in zip(split.examples, shown, strict=True)]


def likeliest(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The rows with their `count` likeliest classes, in falling order; 0 leaves them as they are.

    Raises:
        InputError: a negative number.
    """
    if count < 0:
        raise InputError(f"top must be at least 0, got {count}")
    if not count:
        return rows
    return [
        {
            key: dict(_by_share(value)[:count]) if key == "probabilities" else value
            for key, value in row.items()
        }
        for row in rows
    ]


def as_table(rows: list[dict[str, Any]]) -> Any:
    """The rows as a rich table; of many classes the three likeliest, and no lists of candidates."""
    from rich.table import Table
    from rich.text import Text

    columns = list(dict.fromkeys(key for row in rows for key in row if not _nested(row[key])))
    table = Table(*columns)
    for row in rows:
        table.add_row(*[Text(_cell(row.get(column))) for column in columns])
    return table


def _forward(opened: OpenedRun, variables: Any, batch: dict[str, Any]) -> dict[str, Any]:
    inputs = {key: array for key, array in batch.items() if key != "label"}
    primary, keywords = split_inputs(inputs)
    return opened.task.predict(opened.module.apply(variables, primary, **keywords), batch)


def _pad(array: np.ndarray, size: int) -> np.ndarray:
    """Repeats the last row up to `size` rows, so that one compiled program serves every batch."""
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])


def _row(opened: OpenedRun, found: dict[str, Any]) -> dict[str, Any]:
    info, row = opened.info, {}
    names = list(info.class_names)
    for key, value in found.items():
        if key == "probabilities" and value.ndim == 1:
            labels = (
                names
                if len(names) == len(value)
                else [_token(opened, i) for i in range(len(value))]
            )
            row[key] = {label: float(p) for label, p in zip(labels, value, strict=True)}
        elif key == "label" and value.ndim == 0:
            row[key] = names[int(value)] if names else _token(opened, int(value))
        elif key == "label" and isinstance(opened.task, Multilabel):
            row[key] = [name for name, on in zip(names, value, strict=True) if on]
        else:
            row[key] = value.tolist()
    return row


def _token(opened: OpenedRun, index: int) -> str:
    decode = getattr(opened.run.data, "decode", None)
    if opened.info.vocab_size and decode and opened.info.num_classes is None:
        return decode(np.asarray([index]), opened.info) or str(index)
    return str(index)


def _nested(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _by_share(probabilities: Any) -> list[tuple[str, float]]:
    """Classes and probabilities in falling order; of binary tasks it is a single number."""
    return sorted(probabilities.items(), key=lambda item: -item[1])


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        shown = _by_share(value)[:3] if len(value) > MANY else value.items()
        return "  ".join(f"{name} {share:.3f}" for name, share in shown)
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, list):
        return ", ".join(f"{x:.4f}" if isinstance(x, float) else str(x) for x in value)
    return "" if value is None else str(value)
