"""What a source hands over: its splits, and what only the data know about themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

Batch = dict[str, np.ndarray]
"""Stacked examples: each array's first axis counts the examples."""

SPLITS = ("train", "validation", "test")
IN_MEMORY = 256 * 2**20
"""Bytes of float32 up to which a split is normalised once instead of at every gather."""


@dataclass(frozen=True)
class Info:
    """What training, prediction and a checkpoint must know about the data. Plain JSON values."""

    inputs: dict[str, tuple[tuple[int, ...], str]]
    """Shape and dtype of one example, per key other than `label`."""
    label: tuple[tuple[int, ...], str]
    """Shape and dtype of one example's label."""
    num_classes: int | None = None
    """Classes, or labels of a multi-label problem; None for regression and token labels."""
    class_names: tuple[str, ...] = ()
    """Name of every class, in the order of the label numbers."""
    class_counts: tuple[int, ...] = ()
    """Training examples of every class (multi-label: positives)."""
    vocab_size: int | None = None
    """Token ids lie in [0, vocab_size)."""
    max_length: int | None = None
    """Tokens of the longest input (and, for translation, at least of the longest output)."""
    label_mean: tuple[float, ...] | None = None
    """Mean of each regression target over the training split, in original units."""
    label_std: tuple[float, ...] | None = None
    """Standard deviation of each regression target over the training split."""
    statistics: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """`mean` and `std` that the inputs were normalised with, from the training split alone."""
    columns: dict[str, Any] = field(default_factory=dict)
    """What the columns of a table mean (see zoo/data/columns.py), or of images their processor."""
    counts: dict[str, int] = field(default_factory=dict)
    """Examples in each split."""
    skipped: dict[str, Any] = field(default_factory=lambda: {"count": 0, "names": ()})
    """Malformed records left out: how many, and the first names."""
    fingerprint: str = ""
    """SHA-256 of every record, its label and its split, in order."""
    bos: int | None = None
    """Id that starts an output sequence."""
    eos: int | None = None
    """Id that ends an output sequence."""
    pad: int | None = None
    """Id of padding."""

    def __post_init__(self):
        for name in ("columns", "skipped"):  # tuples, as what from_json reads
            object.__setattr__(self, name, _tuples(getattr(self, name)))

    def to_json(self) -> dict[str, Any]:
        """The value as plain dicts, lists, numbers and strings."""
        return _plain(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Info:
        """The inverse of `to_json`; fields this version does not know are left out."""
        known = {f.name for f in dataclasses.fields(cls)}
        value = {k: _tuples(v) for k, v in value.items() if k in known}
        value["inputs"] = {k: (tuple(s), str(d)) for k, (s, d) in value["inputs"].items()}
        return cls(**value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, (list, tuple)) else value


@runtime_checkable
class Split(Protocol):
    """Examples addressed by number."""

    num_classes: int | None
    """As in `Info`; mixup turns class numbers into rows of this width."""

    def __len__(self) -> int: ...

    def rows(self, indices: np.ndarray) -> Batch:
        """The examples `indices` (int `[n]`), stacked, normalised, `label` included."""
        ...

    def names(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """Where each of the examples came from, to be used in messages."""
        ...

    def labels(self) -> np.ndarray | None:
        """Class number of every example `[len]`; None where examples have no single class."""
        ...


class Pictures(Split, Protocol):
    """Examples whose `image` comes from pictures of 8 bits, which may change before they are
    normalised."""

    pictures: bool
    """False where the images are no such pictures after all."""

    def changed(
        self, indices: np.ndarray, change: Callable[[int, Image], np.ndarray], whole: bool
    ) -> Batch:
        """As `rows`, of changed pictures.

        Args:
            indices: int `[n]`.
            change: position in `indices` and picture to uint8 `[H, W, C]`; called in threads.
            whole: give pictures in their own size; otherwise in that of the examples.
        """
        ...


@dataclass(frozen=True)
class Data:
    """An opened source."""

    splits: dict[str, Split]
    """`train`, `validation` and `test`."""
    info: Info


def normalised(x: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """`(x - mean) / std` along the last axis as float32; float64 input is subtracted in float64."""
    wide = np.float64 if x.dtype == np.float64 else np.float32
    return np.asarray((x - np.asarray(mean, wide)) / np.asarray(std, wide), np.float32)


class Arrays:
    """A split held in memory.

    Args:
        arrays: one array per key, `label` included, all of the same length.
        names: a name per example, or a function from its index to its name.
        num_classes: as in `Info`.
        mean, std: normalise the key `normalise` with these when rows are read.
    """

    def __init__(
        self,
        arrays: Batch,
        names: Sequence[str] | Callable[[int], str],
        num_classes: int | None = None,
        normalise: str | None = None,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
    ):
        self.num_classes = num_classes
        self._arrays = dict(arrays)
        self._names = names
        self.pictures = (
            normalise == "image" and arrays["image"].dtype == np.uint8 and arrays["image"].ndim == 4
        )
        self._normalise = normalise
        self._mean, self._std = tuple(mean), tuple(std)
        if normalise and self._arrays[normalise].size * 4 <= IN_MEMORY:
            self._arrays[normalise] = normalised(self._arrays[normalise], mean, std)
            self._normalise = None
        self._length = len(self._arrays["label"])

    def __len__(self) -> int:
        return self._length

    def rows(self, indices: np.ndarray) -> Batch:
        """See `Split.rows`."""
        batch = {key: array.take(indices, axis=0) for key, array in self._arrays.items()}
        if self._normalise:
            batch[self._normalise] = normalised(batch[self._normalise], self._mean, self._std)
        return batch

    def changed(
        self, indices: np.ndarray, change: Callable[[int, Image], np.ndarray], whole: bool
    ) -> Batch:
        """See `Pictures.changed`."""
        from PIL import Image as pil

        del whole  # all are of one size
        batch = {key: array.take(indices, axis=0) for key, array in self._arrays.items()}
        pixels = batch["image"]
        if pixels.dtype != np.uint8:  # normalised already, which lost nothing
            pixels = pixels * np.asarray(self._std, np.float32)
            pixels = np.rint(pixels + np.asarray(self._mean, np.float32))
            pixels = pixels.astype(np.uint8)
        found = [
            change(i, pil.fromarray(one[..., 0] if one.shape[-1] == 1 else one))
            for i, one in enumerate(pixels)
        ]
        return batch | {"image": normalised(np.stack(found), self._mean, self._std)}

    def names(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """See `Split.names`."""
        find = self._names if callable(self._names) else self._names.__getitem__
        return [find(int(i)) for i in indices]

    def labels(self) -> np.ndarray | None:
        """See `Split.labels`."""
        label = self._arrays["label"]
        return label if label.ndim == 1 and np.issubdtype(label.dtype, np.integer) else None
