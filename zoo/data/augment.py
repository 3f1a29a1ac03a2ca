"""Augmentation of a batch, keyed by (seed, step) and drawn for the rows of the global batch.

Sources: padded crop and flip, He et al. 2015 (arXiv:1512.03385, 4.2); cutout, DeVries and Taylor
2017 (arXiv:1708.04552); mixup, Zhang et al. 2017 (arXiv:1710.09412). Inputs are normalised
already, so what is padded or cut out takes the value 0, the mean of the training split.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.data.info import Batch
from zoo.errors import InputError


@dataclass(frozen=True)
class Augment:
    """Changes that training batches undergo; every default leaves them as they are."""

    crop: int = 0
    """Pixels of padding on every side before a random crop to the old size."""
    flip: bool = False
    """Mirror half of the images left to right."""
    cutout: int = 0
    """Side in pixels of a square set to the mean at a random place; 0 for none."""
    mixup: float = 0.0
    """Both parameters of the Beta distribution of the mixing weight; 0 for no mixup."""

    def __post_init__(self):
        if self.crop < 0 or self.cutout < 0 or not 0 <= self.mixup < float("inf"):
            raise InputError(f"augmentation: crop, cutout and mixup must not be negative: {self}")

    @property
    def geometric(self) -> bool:
        """Whether pixels move or vanish, which needs images."""
        return bool(self.crop or self.flip or self.cutout)

    @property
    def active(self) -> bool:
        """Whether anything is changed at all."""
        return self.geometric or self.mixup > 0

    def check(self, example: Batch, num_classes: int | None) -> None:
        """Refuses data that these changes do not fit.

        Args:
            example: any batch of the data.
            num_classes: classes of its label, if it has classes.

        Raises:
            InputError: crop, flip or cutout without images, mixup of token ids.
        """
        if self.geometric and "image" not in example:
            raise InputError("augmentation: crop, flip and cutout need images, not other inputs")
        if self.mixup and not {"image", "features"} & set(example):
            raise InputError("augmentation: mixup needs images or features, not token ids")
        label = example["label"]
        if self.mixup and label.ndim == 1 and label.dtype.kind == "i" and not num_classes:
            raise InputError("augmentation: mixup needs classes, a regression or many labels")

    def draw(self, rng: np.random.Generator, batch_size: int, shape: tuple[int, ...]) -> Batch:
        """The random values of every row of the global batch.

        Args:
            rng: keyed by (seed, step).
            batch_size: rows of the global batch.
            shape: of one example's image (or features, for mixup alone).
        """
        values: Batch = {"partner": np.arange(batch_size)}
        if self.crop:
            values["shift"] = rng.integers(0, 2 * self.crop + 1, (batch_size, 2))
        if self.flip:
            values["flip"] = rng.random(batch_size) < 0.5
        if self.cutout:
            values["centre"] = rng.integers(0, shape[:2], (batch_size, 2))
        if self.mixup:
            values["partner"] = rng.permutation(batch_size)
            values["weight"] = rng.beta(self.mixup, self.mixup, batch_size).astype(np.float32)
        return values

    def move(self, images: np.ndarray, values: Batch, rows: np.ndarray) -> np.ndarray:
        """Crop, flip and cutout.

        Args:
            images: float32 `[n, H, W, C]`.
            values: what `draw` returned.
            rows: the global row of each image, int `[n]`.
        """
        n, height, width, _ = images.shape
        y, x = np.arange(height)[None], np.arange(width)[None]
        if self.flip:
            x = np.where(values["flip"][rows, None], width - 1 - x, x)
        if self.crop:
            y, x = (grid + values["shift"][rows, i, None] for i, grid in enumerate((y, x)))
            border = (self.crop, self.crop)
            images = np.pad(images, ((0, 0), border, border, (0, 0)))
        if self.crop or self.flip:
            y = np.broadcast_to(y, (n, height))
            images = images[np.arange(n)[:, None, None], y[:, :, None], x[:, None, :]]
        if self.cutout:
            near = []
            for i, size in enumerate((height, width)):
                first = values["centre"][rows, i, None] - self.cutout // 2
                near.append((np.arange(size) >= first) & (np.arange(size) < first + self.cutout))
            images = np.where((near[0][:, :, None] & near[1][:, None])[..., None], 0, images)
        return images.astype(np.float32, copy=False)

    def mix(self, own: Batch, other: Batch, weight: np.ndarray, num_classes: int | None) -> Batch:
        """Mixup of two batches.

        Args:
            own, other: batches of n rows; float inputs are mixed, others are taken from `own`.
            weight: share of `own`, float32 `[n]`.
            num_classes: width of the soft labels that class numbers become.

        Returns:
            `own` with mixed `image`, `features` and `label`; the label of classes becomes float32
            `[n, num_classes]`.
        """
        mixed = dict(own)
        labels = [_soft(batch["label"], num_classes) for batch in (own, other)]
        for key, a, b in (
            *((key, own[key], other[key]) for key in ("image", "features") if key in own),
            ("label", *labels),
        ):
            share = weight.reshape((-1,) + (1,) * (a.ndim - 1))
            mixed[key] = (share * a + (1 - share) * b).astype(np.float32)
        return mixed


def _soft(label: np.ndarray, num_classes: int | None) -> np.ndarray:
    if label.ndim == 1 and label.dtype.kind == "i" and num_classes:
        return np.eye(num_classes, dtype=np.float32)[label]
    return label.astype(np.float32)
