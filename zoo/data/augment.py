"""Augmentation of a batch, keyed by (seed, step) and drawn for the rows of the global batch.

Sources: padded crop and flip, He et al. 2015 (arXiv:1512.03385, 4.2); cutout, DeVries and Taylor
2017 (arXiv:1708.04552); mixup, Zhang et al. 2017 (arXiv:1710.09412); cutmix, Yun et al. 2019
(arXiv:1905.04899). These see normalised inputs, so what is padded or cut out takes the value 0, the
mean of the training split. Changes of single pictures come first: see `picture_changes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.info import Batch
from zoo.data.picture_changes import ColourJitter, Erase, RandAugment, ResizedCrop
from zoo.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image


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
    cutmix: float = 0.0
    """Likewise of the area that stays when a rectangle comes from another image; 0 for no cutmix.
    Beside mixup, each example undergoes one of the two."""
    resized_crop: ResizedCrop = ResizedCrop()
    """Random part of the picture, scaled to the whole size."""
    jitter: ColourJitter = ColourJitter()
    """Random brightness, contrast, saturation and hue."""
    randaugment: RandAugment = RandAugment()
    """Some random operations."""
    erase: Erase = Erase()
    """Random rectangle that is replaced."""

    def __post_init__(self):
        mixing = 0 <= self.mixup < float("inf") and 0 <= self.cutmix < float("inf")
        if self.crop < 0 or self.cutout < 0 or not mixing:
            raise InputError(
                f"augmentation: crop, cutout, mixup and cutmix must not be negative: {self}"
            )

    @property
    def geometric(self) -> bool:
        """Whether pixels move or vanish, which needs images."""
        return bool(self.crop or self.flip or self.cutout or self.erase.active)

    @property
    def pictorial(self) -> bool:
        """Whether pictures change before they are normalised, which needs 8-bit pixels."""
        return self.resized_crop.active or self.jitter.active or self.randaugment.active

    @property
    def mixing(self) -> bool:
        """Whether an example takes something of another one."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def active(self) -> bool:
        """Whether anything is changed at all."""
        return self.geometric or self.pictorial or self.mixing

    def check(self, example: Batch, num_classes: int | None) -> None:
        """Refuses data that these changes do not fit.

        Args:
            example: any batch of the data.
            num_classes: classes of its label, if it has classes.

        Raises:
            InputError: crop, flip, cutout, erasing or cutmix without images, mixup of token ids.
        """
        if (self.geometric or self.cutmix or self.pictorial) and "image" not in example:
            raise InputError(
                "augmentation: all but mixup need images, such as crop, flip and cutout; these "
                "are other inputs"
            )
        if self.mixup and not {"image", "features"} & set(example):
            raise InputError("augmentation: mixup needs images or features, not token ids")
        label = example["label"]
        if self.mixing and label.ndim == 1 and label.dtype.kind == "i" and not num_classes:
            raise InputError("augmentation: mixing needs classes, a regression or many labels")

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
        if self.mixing:
            values["partner"] = rng.permutation(batch_size)
            values["weight"] = np.ones(batch_size, np.float32)
        if self.mixup:
            values["weight"] = rng.beta(self.mixup, self.mixup, batch_size).astype(np.float32)
        if self.cutmix:
            self._draw_cuts(rng, values, *shape[:2])
        if self.erase.active:
            values["erased"] = np.array(
                [self.erase.box(rng, *shape[:2]) for _ in range(batch_size)], np.int64
            )
            values["noise"] = rng.integers(0, 2**63, batch_size)
        return values

    def _draw_cuts(self, rng: np.random.Generator, values: Batch, height: int, width: int) -> None:
        """`cut`: top, left, bottom, right of what comes from the partner; `weight` follows."""
        count = len(values["weight"])
        share = np.sqrt(1 - rng.beta(self.cutmix, self.cutmix, count))[:, None]
        sides = np.array([height, width])
        centre = rng.integers(0, sides, (count, 2))
        half = (share * sides / 2).round().astype(np.int64)
        first, last = np.maximum(centre - half, 0), np.minimum(centre + half, sides)
        chosen = rng.random(count) < 0.5 if self.mixup else np.ones(count, bool)
        last = np.where(chosen[:, None], last, first)
        values["cut"] = np.concatenate([first, last], axis=1)
        stays = 1 - (last - first).prod(1) / (height * width)
        values["weight"] = np.where(chosen, stays, values["weight"]).astype(np.float32)
        values["is_cut"] = chosen

    def change(self, picture: Image, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        """One picture's changes before it is normalised.

        Args:
            picture: of mode RGB or L.
            rng: keyed by (seed, step, row).
            size: height and width of the result.

        Returns:
            uint8 `[H, W, C]`.
        """
        if self.resized_crop.active:
            picture = self.resized_crop(picture, rng, size)
        if self.randaugment.active:
            picture = self.randaugment(picture, rng)
        if self.jitter.active:
            picture = self.jitter(picture, rng)
        return np.asarray(picture, np.uint8).reshape(*size, -1)

    def move(self, images: np.ndarray, values: Batch, rows: np.ndarray) -> np.ndarray:
        """Crop, flip, cutout and erasing.

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
        images = images.astype(np.float32, copy=False)
        if self.erase.active:
            images = images.copy()
            for image, row in zip(images, rows, strict=True):
                top, left, tall, wide = values["erased"][row]
                part = image[top : top + tall, left : left + wide]
                noise = np.random.Generator(np.random.Philox(values["noise"][row]))
                part[:] = noise.standard_normal(part.shape) if self.erase.noise else 0
        return images

    def mix(
        self, own: Batch, other: Batch, values: Batch, rows: np.ndarray, num_classes: int | None
    ) -> Batch:
        """Mixup or cutmix of two batches.

        Args:
            own, other: batches of n rows; float inputs are mixed, others are taken from `own`.
            values: what `draw` returned.
            rows: the global row of each example of `own`, int `[n]`.
            num_classes: width of the soft labels that class numbers become.

        Returns:
            `own` with mixed `image`, `features` and `label`; the label of classes becomes float32
            `[n, num_classes]`.
        """
        mixed, weight = dict(own), values["weight"][rows]
        labels = [_soft(batch["label"], num_classes) for batch in (own, other)]
        for key, a, b in (
            *((key, own[key], other[key]) for key in ("image", "features") if key in own),
            ("label", *labels),
        ):
            share = weight.reshape((-1,) + (1,) * (a.ndim - 1))
            if self.cutmix and key == "image":
                share = self._shares(values, rows, share, *a.shape[1:3])
            mixed[key] = (share * a + (1 - share) * b).astype(np.float32)
        return mixed

    def _shares(
        self, values: Batch, rows: np.ndarray, share: np.ndarray, height: int, width: int
    ) -> np.ndarray:
        """Share of the own image at every pixel, float32 `[n, H, W, 1]`."""
        inside = []
        for axis, size in enumerate((height, width)):
            first, last = (values["cut"][rows, i, None] for i in (axis, axis + 2))
            inside.append((np.arange(size) >= first) & (np.arange(size) < last))
        kept = ~(inside[0][:, :, None] & inside[1][:, None])[..., None]
        return np.where(values["is_cut"][rows, None, None, None], kept, share).astype(np.float32)


def _soft(label: np.ndarray, num_classes: int | None) -> np.ndarray:
    if label.ndim == 1 and label.dtype.kind == "i" and num_classes:
        return np.eye(num_classes, dtype=np.float32)[label]
    return label.astype(np.float32)
