"""Resizing and cropping as the reference pipelines do it, rounding included.

transformers 5 (its processors by Pillow) and timm (torchvision's transforms of Pillow pictures)
agree on the filters, which are Pillow's, and differ in how halves of pixels are rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
"""Pillow's number of each filter."""
Filter = Literal["", "nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
"""Name of a filter, or empty where another value decides."""
Rule = Literal["exact", "shortest", "between", "within", "cover", "contain"]


@dataclass(frozen=True)
class Resize:
    """A rule for the new size, and a filter."""

    rule: Rule
    """`exact`: (height, width). `shortest`: the shorter side becomes size[0]. `between`: it does,
    but the longer at most size[1]. `within`: as large as fits into (height, width). `cover` and
    `contain`: as small as covers it, as large as it contains, to the nearest pixel."""
    size: tuple[int, int]
    """What the rule takes, in pixels."""
    filter: int
    """Pillow's number of the filter."""

    def target(self, height: int, width: int) -> tuple[int, int]:
        """New height and width of a picture."""
        first, second = self.size
        if self.rule == "exact":
            return self.size
        if self.rule == "within":
            scale = min(first / height, second / width)
            return int(height * scale), int(width * scale)
        if self.rule in ("cover", "contain"):
            ratios = height / first, width / second
            ratio = max(ratios) if self.rule == "contain" else min(ratios)
            return round(height / ratio), round(width / ratio)
        short, long = sorted((height, width))
        raw: float = first
        if self.rule == "between" and long / short * first > second:
            raw = second * short / long
        new = round(raw)
        if self.rule == "between" and short == new:
            return height, width
        other = int(raw * long / short)
        return (other, new) if width <= height else (new, other)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 `[H, W, C]` resized.

        Raises:
            ValueError: a side becomes 0, or the picture would be larger than Pillow holds for
                harmless.
        """
        from PIL import Image as pil

        height, width, channels = pixels.shape
        new_height, new_width = self.target(height, width)
        if min(new_height, new_width) < 1 or new_height * new_width > (
            pil.MAX_IMAGE_PIXELS or math.inf
        ):
            raise ValueError(
                f"{height} x {width} pixels would be resized to {new_height} x {new_width}"
            )
        picture = pil.fromarray(pixels[..., 0] if channels == 1 else pixels)
        resized = picture.resize((new_width, new_height), pil.Resampling(self.filter))
        return np.asarray(resized).reshape(new_height, new_width, channels)


@dataclass(frozen=True)
class Crop:
    """A window about the centre; what is too small is padded."""

    size: tuple[int, int]
    """Height and width in pixels."""
    halves: Literal["transformers", "timm"]
    """Where the odd pixel goes."""
    fill: tuple[int, ...] = (0,)
    """Value of padding, one or one per channel."""

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 `[H, W, C]` cropped or padded to `size`."""
        source, place = [], []
        for old, new in zip(pixels.shape, self.size, strict=False):
            extra = old - new
            if self.halves == "timm":
                start = round(extra / 2) if extra > 0 else -(-extra // 2)
            else:
                start = extra // 2
            source.append(slice(max(start, 0), max(start, 0) + min(old, new)))
            place.append(slice(max(-start, 0), max(-start, 0) + min(old, new)))
        if all(old >= new for old, new in zip(pixels.shape, self.size, strict=False)):
            return pixels[tuple(source)]
        canvas = np.empty((*self.size, pixels.shape[2]), np.uint8)
        canvas[:] = self.fill
        canvas[tuple(place)] = pixels[tuple(source)]
        return canvas
