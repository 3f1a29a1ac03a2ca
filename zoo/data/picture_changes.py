"""Random changes of one picture of unsigned bytes, before it is normalised.

Each takes its own generator, keyed by (seed, step, row), so that a picture is the same whichever
thread or process prepares it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from zoo.data.resizing import FILTERS
from zoo.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

Box = tuple[int, int, int, int]
"""Top, left, height, width."""


@dataclass(frozen=True)
class ResizedCrop:
    """A random part of the picture, scaled to the whole size (Szegedy et al. 2014,
    arXiv:1409.4842)."""

    least: float = 0.0
    """Smallest share of the picture's area, usually 0.08; 0 for no crop."""
    most: float = 1.0
    """Largest share of the area."""
    aspect: float = 4 / 3
    """Largest ratio of width to height; the smallest is its inverse."""
    filter: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    """Filter of the scaling, antialiased as Pillow does it."""

    def __post_init__(self):
        if not (0 <= self.least <= self.most <= 1 and 1 <= self.aspect < math.inf):
            raise InputError(
                f"resized_crop: needs 0 <= least <= most <= 1 and 1 <= aspect, not {self}"
            )

    @property
    def active(self) -> bool:
        """Whether anything is changed."""
        return self.least > 0

    def box(self, rng: np.random.Generator, height: int, width: int) -> Box:
        """The part; after ten that do not fit, the largest one about the centre that does."""
        for _ in range(10):
            area = rng.uniform(self.least, self.most) * height * width
            found = _sides(rng, area, self.aspect)
            if found[0] <= height and found[1] <= width:
                return _place(rng, found, height, width)
        tall = min(height, max(1, round(width * self.aspect)))
        wide = min(width, max(1, round(height * self.aspect)))
        return (height - tall) // 2, (width - wide) // 2, tall, wide

    def __call__(self, picture: Image, rng: np.random.Generator, size: tuple[int, int]) -> Image:
        """The part at `size` (height, width)."""
        from PIL import Image as pil

        top, left, height, width = self.box(rng, picture.height, picture.width)
        part = picture.crop((left, top, left + width, top + height))
        return part.resize((size[1], size[0]), pil.Resampling(FILTERS[self.filter]))


@dataclass(frozen=True)
class ColourJitter:
    """Brightness, contrast, saturation and hue, changed in random order (Howard 2013,
    arXiv:1312.5402). Factors are drawn from [1 - x, 1 + x], not below 0."""

    brightness: float = 0.0
    """Width x of the factor of all values."""
    contrast: float = 0.0
    """Width x of the factor of the distance to the mean gray."""
    saturation: float = 0.0
    """Width x of the factor of the distance to the gray picture."""
    hue: float = 0.0
    """Hues are turned by up to this share of the circle, at most 0.5."""

    def __post_init__(self):
        widths = (self.brightness, self.contrast, self.saturation)
        if not (all(0 <= x < math.inf for x in widths) and 0 <= self.hue <= 0.5):
            raise InputError(f"jitter: widths must not be negative, hue at most 0.5: {self}")

    @property
    def active(self) -> bool:
        """Whether anything is changed."""
        return bool(self.brightness or self.contrast or self.saturation or self.hue)

    def __call__(self, picture: Image, rng: np.random.Generator) -> Image:
        """The picture in other colours."""
        from PIL import ImageEnhance as enhance

        kinds = (enhance.Brightness, enhance.Contrast, enhance.Color)
        widths = (self.brightness, self.contrast, self.saturation)
        order = rng.permutation(4)
        factors = [rng.uniform(max(0, 1 - x), 1 + x) for x in widths]
        turn = rng.uniform(-self.hue, self.hue)
        for which in order:
            if which == 3 and self.hue and picture.mode == "RGB":
                picture = _turn_hue(picture, turn)
            elif which < 3 and widths[which]:
                picture = kinds[which](picture).enhance(factors[which])
        return picture


@dataclass(frozen=True)
class RandAugment:
    """Some of fourteen operations, each at one strength (Cubuk et al. 2019, arXiv:1909.13719)."""

    operations: int = 0
    """Operations for each picture, usually 2; 0 for none."""
    magnitude: float = 9.0
    """Their strength, from 0 to 30."""

    def __post_init__(self):
        if self.operations < 0 or not 0 <= self.magnitude <= 30:
            raise InputError(f"randaugment: operations >= 0 and magnitude in 0..30, not {self}")

    @property
    def active(self) -> bool:
        """Whether anything is changed."""
        return self.operations > 0

    def __call__(self, picture: Image, rng: np.random.Generator) -> Image:
        """The picture after the operations, in the order they were drawn."""
        for which in rng.integers(0, len(OPERATIONS), self.operations):
            sign = 1 if rng.random() < 0.5 else -1
            picture = [*OPERATIONS.values()][which](picture, self.magnitude / 30, sign)
        return picture


@dataclass(frozen=True)
class Erase:
    """A rectangle replaced at random (Zhong et al. 2017, arXiv:1708.04896)."""

    probability: float = 0.0
    """Share of the pictures that lose a rectangle."""
    least: float = 0.02
    """Smallest share of the area."""
    most: float = 1 / 3
    """Largest share of the area."""
    aspect: float = 10 / 3
    """Largest ratio of width to height; the smallest is its inverse."""
    noise: bool = False
    """Fill with normal noise; otherwise with the mean."""

    def __post_init__(self):
        if not (
            0 <= self.probability <= 1
            and 0 < self.least <= self.most <= 1
            and 1 <= self.aspect < math.inf
        ):
            raise InputError(
                "erase: needs 0 <= probability <= 1, 0 < least <= most <= 1 and 1 <= aspect, "
                f"not {self}"
            )

    @property
    def active(self) -> bool:
        """Whether anything is changed."""
        return self.probability > 0

    def box(self, rng: np.random.Generator, height: int, width: int) -> Box:
        """The rectangle; an empty one where none is erased, or ten did not fit."""
        if rng.random() < self.probability:
            for _ in range(10):
                area = rng.uniform(self.least, self.most) * height * width
                found = _sides(rng, area, self.aspect)
                if found[0] < height and found[1] < width:
                    return _place(rng, found, height, width)
        return 0, 0, 0, 0


def _sides(rng: np.random.Generator, area: float, aspect: float) -> tuple[int, int]:
    ratio = math.exp(rng.uniform(-math.log(aspect), math.log(aspect)))
    return max(1, round(math.sqrt(area / ratio))), max(1, round(math.sqrt(area * ratio)))


def _place(rng: np.random.Generator, sides: tuple[int, int], height: int, width: int) -> Box:
    top = int(rng.integers(0, height - sides[0] + 1))
    return top, int(rng.integers(0, width - sides[1] + 1)), *sides


def _turn_hue(picture: Image, turn: float) -> Image:
    from PIL import Image as pil

    hue, saturation, value = picture.convert("HSV").split()
    turned = (np.asarray(hue).astype(np.int64) + round(turn * 256)) % 256
    hue = pil.fromarray(turned.astype(np.uint8))
    return pil.merge("HSV", (hue, saturation, value)).convert("RGB")


def _affine(picture: Image, matrix: tuple[float, ...]) -> Image:
    from PIL import Image as pil

    gray = 128 if picture.mode == "L" else (128, 128, 128)
    return picture.transform(picture.size, pil.Transform.AFFINE, matrix, fillcolor=gray)


def _rotate(picture: Image, strength: float, sign: int) -> Image:
    gray = 128 if picture.mode == "L" else (128, 128, 128)
    return picture.rotate(sign * strength * 30, fillcolor=gray)


def _enhance(kind: str) -> Callable[[Image, float, int], Image]:
    def change(picture: Image, strength: float, sign: int) -> Image:
        from PIL import ImageEnhance

        return getattr(ImageEnhance, kind)(picture).enhance(1 + sign * strength * 0.9)

    return change


def _point(name: str, *arguments: Callable[[float], int]) -> Callable[[Image, float, int], Image]:
    def change(picture: Image, strength: float, sign: int) -> Image:
        from PIL import ImageOps

        return getattr(ImageOps, name)(picture, *(argument(strength) for argument in arguments))

    return change


OPERATIONS: dict[str, Callable[[Image, float, int], Image]] = {
    "identity": lambda p, strength, sign: p,
    "shear_x": lambda p, strength, sign: _affine(p, (1, sign * strength * 0.3, 0, 0, 1, 0)),
    "shear_y": lambda p, strength, sign: _affine(p, (1, 0, 0, sign * strength * 0.3, 1, 0)),
    "translate_x": lambda p, strength, sign: _affine(
        p, (1, 0, sign * strength * p.width * 150 / 331, 0, 1, 0)
    ),
    "translate_y": lambda p, strength, sign: _affine(
        p, (1, 0, 0, 0, 1, sign * strength * p.height * 150 / 331)
    ),
    "rotate": _rotate,
    "brightness": _enhance("Brightness"),
    "color": _enhance("Color"),
    "contrast": _enhance("Contrast"),
    "sharpness": _enhance("Sharpness"),
    "posterize": _point("posterize", lambda strength: 8 - round(4 * strength)),
    "solarize": _point("solarize", lambda strength: round(255 * (1 - strength))),
    "autocontrast": _point("autocontrast"),
    "equalize": _point("equalize"),
}
"""RandAugment's operations: (picture, strength in 0..1, sign) to a picture of the same size."""
