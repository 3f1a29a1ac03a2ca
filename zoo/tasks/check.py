"""Checks of a batch on the host, before a program sees it.

Compiled programs clamp or drop an index that is out of range and say nothing; so every batch is
checked here first. Each function raises one `InputError` that names the record and the value.
All are numpy and take a fraction of a millisecond for millions of values.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from zoo.errors import InputError
from zoo.tasks.batch import IGNORED, KEYWORDS, PRIMARY, primary_names

TOKENS = ("input_ids", "decoder_input_ids")
MASKS = ("attention_mask", "decoder_attention_mask")

Arrays = Mapping[str, np.ndarray]


class Rows(Protocol):
    """Names of the records of a batch, looked up only for a message."""

    def __getitem__(self, row: int, /) -> str:
        """The name of the record in a row."""
        ...


def check_inputs(batch: Arrays, info: Any, rows: Rows) -> None:
    """Checks everything but the label.

    Args:
        batch: arrays `[B, ...]`.
        info: what is known of the data; `inputs` (shape and dtype of one example by name) and
            `vocab_size` are used where they are there.
        rows: names of the records, `rows[i]`; looked up only for a message.

    Raises:
        InputError: a key is missing or unknown; a shape or dtype is not the data's; a feature is
            not finite; a token id is outside the vocabulary; a mask holds anything but 0 and 1; a
            weight is negative or not finite.
    """
    known = (*PRIMARY, *KEYWORDS, "label", "weight")
    unknown = sorted(set(batch) - set(known))
    if unknown:
        raise InputError(f"a batch holds unknown {unknown}; known are {', '.join(known)}")
    if not primary_names(batch):
        raise InputError(
            f"a batch needs exactly one of {', '.join(PRIMARY)}, or an image and input_ids; has "
            f"{sorted(batch)}"
        )
    expected = getattr(info, "inputs", None) or {}
    missing = [name for name in expected if name in (*PRIMARY, *KEYWORDS) and name not in batch]
    if missing:
        raise InputError(f"a batch lacks {missing}; it has {sorted(batch)}")

    size = len(next(batch[name] for name in PRIMARY if name in batch))
    for name, array in batch.items():
        if np.ndim(array) < 1 or len(array) != size:
            raise InputError(f"{name} has shape {np.shape(array)} in a batch of {size} records")
        if name in expected:
            shape, got = tuple(expected[name][0]), array.shape[1:]
            if len(shape) != len(got) or any(
                want is not None and want != have for want, have in zip(shape, got, strict=True)
            ):
                raise InputError(f"{name} of {rows[0]} has shape {got}; the data have {shape}")
        if name == "label":
            continue
        if name in ("image", "features", "weight"):
            check_dtype(name, array, np.float32)
            refuse(name, array, ~np.isfinite(array), rows, "a finite number")
        else:
            check_dtype(name, array, np.int32)
    if "weight" in batch:
        refuse("weight", batch["weight"], batch["weight"] < 0, rows, "0 or more")
    for name in MASKS:
        if name in batch:
            check_range(name, batch[name], 2, rows, "0 (padding) or 1")
    if "token_type_ids" in batch:
        check_range("token_type_ids", batch["token_type_ids"], None, rows, "0 or more")
    for name in TOKENS:
        if name in batch:
            vocab = getattr(info, "vocab_size", None)
            allowed = "0 or more" if vocab is None else f"0 to {vocab - 1} (vocabulary)"
            check_range(name, batch[name], vocab, rows, allowed)


def check_label(
    batch: Arrays,
    rows: Rows,
    dtype: Any,
    ndims: tuple[int, ...],
    axes: str,
    like: str | None = None,
) -> np.ndarray:
    """Checks that `label` is there, of the dtype and number of axes, and returns it.

    Args:
        batch: arrays `[B, ...]`.
        rows: the name of every record.
        dtype: the numpy dtype it must have.
        ndims: the numbers of axes it may have.
        axes: the expected label in words.
        like: an input of the batch whose first two axes it must share.

    Raises:
        InputError: one of these fails.
    """
    if "label" not in batch:
        raise InputError(f"a batch lacks its label ({axes}); it has {sorted(batch)}")
    label = batch["label"]
    if label.dtype != dtype or label.ndim not in ndims:
        raise InputError(
            f"label of {rows[0]} is {label.dtype} with {label.ndim} axes {label.shape}; "
            f"this task needs {axes}"
        )
    if like is not None and label.shape[:2] != batch[like].shape[:2]:
        raise InputError(
            f"label of {rows[0]} has shape {label.shape}, {like} has {batch[like].shape}: "
            "they must agree in their first two axes"
        )
    return label


def check_classes(
    label: np.ndarray, num_classes: int, rows: Rows, ignored: bool = False, what: str = "class"
) -> None:
    """Checks that labels are in `[0, num_classes)`, or `IGNORED` where `ignored`.

    Raises:
        InputError: one is not.
    """
    allowed = f"a {what} from 0 to {num_classes - 1}"
    if ignored:
        allowed += f", or {IGNORED} for no label"
    check_range("label", label, num_classes, rows, allowed, ignored)


def check_range(
    name: str, array: np.ndarray, stop: int | None, rows: Rows, allowed: str, ignored: bool = False
) -> None:
    """Checks that integers are in `[0, stop)`, or `IGNORED` where `ignored`.

    Raises:
        InputError: one is not.
    """
    if array.size == 0 or (array.min() >= 0 and (stop is None or array.max() < stop)):
        return
    bad = array < 0
    if stop is not None:
        bad |= array >= stop
    if ignored:
        bad &= array != IGNORED
    refuse(name, array, bad, rows, allowed)


def check_shares(label: np.ndarray, num_classes: int, rows: Rows) -> None:
    """Checks soft labels `[B, C]`: shares of 0 or more that add up to 1.

    Raises:
        InputError: they do not.
    """
    check_columns(label, num_classes, rows)
    refuse("label", label, ~((label >= 0) & (label <= 1)), rows, "a share in [0, 1]")
    sums = label.sum(-1)
    refuse("the sum of the soft label", sums, np.abs(sums - 1) > 1e-3, rows, "1")


def check_columns(label: np.ndarray, num_classes: int, rows: Rows) -> None:
    """Checks that labels `[B, C]` have one column per class.

    Raises:
        InputError: they have not.
    """
    if label.shape[1] != num_classes:
        raise InputError(
            f"label of {rows[0]} has {label.shape[1]} columns; the data have {num_classes} classes"
        )


def is_soft(batch: Arrays) -> bool:
    """Whether the batch has soft labels: floating, with two axes."""
    label = batch.get("label")
    return label is not None and label.dtype == np.float32 and label.ndim == 2


def check_dtype(name: str, array: np.ndarray, dtype: Any) -> None:
    """Checks the dtype exactly, since another one would compile another program.

    Raises:
        InputError: it differs.
    """
    if array.dtype != dtype:
        raise InputError(
            f"{name} is {array.dtype}; it must be {np.dtype(dtype).name}: convert it in the source"
        )


def refuse(name: str, array: np.ndarray, bad: np.ndarray, rows: Rows, allowed: str) -> None:
    """Names the first value of `array` where `bad` is true.

    Raises:
        InputError: there is one; the message says what is `allowed`.
    """
    if not bad.any():
        return
    row, *rest = (int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
    place = f"{rest}" if rest else ""
    more = int(bad.sum()) - 1
    others = f" ({more} more in this batch)" if more else ""
    value = array[(row, *rest)]
    raise InputError(f"{rows[row]}: {name}{place} is {value}; it must be {allowed}{others}")
