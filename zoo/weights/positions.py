"""Learned positions of patches, which fit images of other sizes when they are read."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.nn.patches import grid, resize_matrix
from zoo.weights.mapping import Rule


@dataclass(frozen=True)
class Positions(Rule):
    """Positions `[1, special + h * w, width]`, or the same without the first axis, the patches' row
    by row after those of the special tokens. Where those that were saved are of another grid than
    the one asked for, they are resized by bicubic interpolation, in at least float32.

    Attributes:
        special: number of special tokens.
        grid: height and width that are asked for, in patches.
        antialias: how it is done, as for `zoo.nn.patches.resize_matrix`.
        saved: height and width that were saved; None leaves the positions as they are.
    """

    special: int = 0
    grid: tuple[int, int] = (0, 0)
    antialias: bool = False
    saved: tuple[int, int] | None = None

    def read(self, arrays: Iterable[np.ndarray]) -> list[np.ndarray]:
        return super().read(self._fit(array) for array in arrays)

    def shapes(self, given: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
        return super().shapes(map(self._fitting, given))

    def _resized(self, shape: tuple[int, ...]) -> bool:
        if self.saved in (None, self.grid) or len(shape) < 2:
            return False
        return shape[-2] == self.special + self.saved[0] * self.saved[1]

    def _fitting(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if not self._resized(shape):
            return shape
        return (*shape[:-2], self.special + self.grid[0] * self.grid[1], shape[-1])

    def _fit(self, table: np.ndarray) -> np.ndarray:
        if not self._resized(table.shape):
            return table
        assert self.saved is not None
        first, places = np.split(table.reshape(table.shape[-2:]), [self.special])
        wide = places.astype(np.float64 if places.dtype == np.float64 else np.float32)
        down, across = (
            resize_matrix(new, old, self.antialias).astype(wide.dtype)
            for new, old in zip(self.grid, self.saved, strict=True)
        )
        made = np.einsum("Hh,Ww,hwd->HWd", down, across, wide.reshape(*self.saved, -1))
        made = made.reshape(-1, made.shape[-1]).astype(table.dtype)
        return np.concatenate([first, made]).reshape(self._fitting(table.shape))


def positions(theirs: str, cfg: Any, special: int) -> Positions:
    """The positions of a Config with `image_size`, `patch_size` and `antialias`."""
    asked, smooth = grid(cfg.image_size, cfg.patch_size), getattr(cfg, "antialias", False)
    return Positions(
        theirs, "tokens/positions", "1 t d -> t d", special=special, grid=asked, antialias=smooth
    )
