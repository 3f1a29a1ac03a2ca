"""From arrays in memory to an opened source: splits, normalisation from train, counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from zoo.data.info import Arrays, Batch, Data, Info
from zoo.data.split import divide, fingerprint
from zoo.errors import InputError

Kind = Literal["classification", "binary", "multilabel", "regression"]
CHUNK = 4096


def moments(
    x: np.ndarray, rows: np.ndarray, each: Literal["last", "all"] = "last"
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of `x[rows]`, two passes in float64.

    Args:
        each: one pair per entry of the last axis (feature, channel), or one for everything.

    Returns:
        `(mean, std)`; a constant feature has standard deviation 1.
    """

    def total(function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        parts = (x[rows[i : i + CHUNK]].astype(np.float64) for i in range(0, len(rows), CHUNK))
        return sum((function(part.reshape(-1, width)).sum(0) for part in parts), np.zeros(width))

    width = x.shape[-1] if each == "last" else 1
    n = len(rows) * (int(np.prod(x.shape[1:], dtype=np.int64)) // width)
    mean = total(lambda part: part) / n
    std = np.sqrt(total(lambda part: (part - mean) ** 2) / n)
    std = np.where(std <= 1e-12 * np.maximum(np.abs(mean), 1e-300), 1.0, std)
    return tuple(mean.tolist()), tuple(std.tolist())


def assemble(
    what: str,
    inputs: Batch,
    label: np.ndarray,
    kind: Kind,
    digests: Sequence[bytes],
    names: Sequence[str] | Callable[[int], str],
    given: Sequence[str | None] | None = None,
    class_names: Sequence[str] = (),
    normalise: str | None = None,
    each: Literal["last", "all"] = "last",
    **known: Any,
) -> Data:
    """An opened source from arrays of all records.

    Args:
        what: the data's name, for messages.
        inputs: arrays `[N, ...]` of every key but `label`.
        label: int `[N]` (classification, binary), int `[N, C]` (multilabel), float `[N]` or
            `[N, K]` (regression, standardised here by the training split).
        kind: what the label is.
        digests: SHA-256 of every raw record.
        names: a name per record, or a function from its number to its name.
        given: the split the data state for each record, see `divide`.
        class_names: of every class or label.
        normalise: the key of `inputs` to normalise by the training split.
        each: see `moments`.
        known: further fields of `Info`.

    Raises:
        InputError: a split is empty, or a binary target has not two classes.
    """
    splits = divide(digests, what, given)
    train = splits["train"]
    statistics: dict[str, tuple[float, ...]] = {}
    if normalise:
        mean, std = moments(inputs[normalise], train, each)
        statistics = {"mean": mean, "std": std}
    raw = label
    if kind == "regression":
        label_mean, label_std = moments(label.reshape(len(label), -1), train)
        shifted = label.reshape(len(label), -1) - np.asarray(label_mean)
        label = (shifted / np.asarray(label_std)).astype(np.float32).reshape(label.shape)
        known |= {"label_mean": label_mean, "label_std": label_std}
        num_classes, counts = None, ()
    else:
        label = label.astype(np.int32)
        num_classes = len(class_names)
        if kind == "binary" and num_classes != 2:
            raise InputError(
                f"{what}: a binary target has 2 classes, found {num_classes}: "
                f"{', '.join(map(str, class_names[:10]))}; use kind=classification"
            )
        if kind == "multilabel":
            counts = tuple(label[train].sum(0).tolist())
        else:
            counts = tuple(np.bincount(label[train], minlength=num_classes).tolist())
    forms = {
        key: (tuple(x.shape[1:]), "float32" if np.issubdtype(x.dtype, np.floating) else "int32")
        for key, x in inputs.items()
    }
    if normalise:
        forms[normalise] = (forms[normalise][0], "float32")
    info = Info(
        inputs=forms,
        label=(tuple(label.shape[1:]), label.dtype.name),
        num_classes=num_classes,
        class_names=tuple(str(name) for name in class_names),
        class_counts=counts,
        statistics=statistics,
        counts={name: len(members) for name, members in splits.items()},
        fingerprint=fingerprint(splits, digests, raw, forms),
        **known,
    )
    opened = {}
    for split, members in splits.items():
        arrays = {key: x[members] for key, x in (inputs | {"label": label}).items()}
        opened[split] = Arrays(
            arrays,
            _pick(names, members),
            num_classes,
            normalise,
            statistics.get("mean", ()),
            statistics.get("std", ()),
        )
    return Data(opened, info)


def _pick(names: Sequence[str] | Callable[[int], str], members: np.ndarray) -> Callable[[int], str]:
    find = names if callable(names) else names.__getitem__
    return lambda i: find(int(members[i]))


def malformed(what: str, problems: Sequence[str], on_bad: str) -> dict[str, Any]:
    """What becomes of malformed records: the value of `Info.skipped`, or an error.

    Args:
        what: the data's name.
        problems: a line `name: what is wrong` per record.
        on_bad: `stop` raises if there is any; `skip` counts them.

    Raises:
        InputError: there are some and `on_bad` is `stop`; the first ten are listed.
    """
    if problems and on_bad == "stop":
        listed = "\n  ".join(problems[:10])
        more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise InputError(
            f"{what}: {len(problems)} malformed record{'s' * (len(problems) > 1)}:\n  {listed}"
            f"{more}\nCorrect or remove them, or leave them out with on_bad=skip."
        )
    return {"count": len(problems), "names": tuple(problems[:20])}
