"""Learned positions, which fit other sizes when they are read: of patches in images, and of tokens
relative to each other in a window."""

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


@dataclass(frozen=True)
class RelativePositions(Rule):
    """What the distance of two tokens of a window adds to their score, `[(2p - 1) * (2q - 1),
    heads]`. Where those that were saved are of another window than the one asked for, they are
    interpolated as timm does it, in at least float32: linearly, over old places whose gaps grow
    outwards by a constant factor, so that both tables end at about the same distance.

    Attributes:
        window: height and width that are asked for.
        saved: height and width that were saved; None leaves the table as it is.
    """

    window: tuple[int, int] = (0, 0)
    saved: tuple[int, int] | None = None

    def read(self, arrays: Iterable[np.ndarray]) -> list[np.ndarray]:
        return super().read(self._fit(array) for array in arrays)

    def shapes(self, given: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
        return super().shapes(map(self._fitting, given))

    def _resized(self, shape: tuple[int, ...]) -> bool:
        if self.saved in (None, self.window) or len(shape) != 2:
            return False
        return shape[0] == _places(self.saved)

    def _fitting(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (_places(self.window), shape[1]) if self._resized(shape) else shape

    def _fit(self, table: np.ndarray) -> np.ndarray:
        if not self._resized(table.shape):
            return table
        assert self.saved is not None
        wide = table.astype(np.float64 if table.dtype == np.float64 else np.float32)
        wide = wide.reshape(2 * self.saved[0] - 1, 2 * self.saved[1] - 1, -1)
        down, across = (
            growing_matrix(2 * new - 1, 2 * old - 1).astype(wide.dtype)
            for new, old in zip(self.window, self.saved, strict=True)
        )
        made = np.einsum("Hh,Ww,hwk->HWk", down, across, wide)
        return made.reshape(_places(self.window), -1).astype(table.dtype)


def _places(window: tuple[int, int]) -> int:
    return (2 * window[0] - 1) * (2 * window[1] - 1)


def growing_matrix(new: int, old: int) -> np.ndarray:
    """`[new, old]`: each new distance, from `-(new // 2)` on, as a mean of the nearest old ones,
    which lie at 0 and at partial sums of 1, g, g**2, ... to both sides. The factor g, between 1.01
    and 1.5, is the largest by bisection with which the last sum is not beyond the new distances."""
    low, high, factor = 1.01, 1.5, 1.01
    while high - low > 1e-6:
        factor = (low + high) / 2
        beyond = (1 - factor ** (old // 2)) / (1 - factor) > new // 2
        low, high = (low, factor) if beyond else (factor, high)
    side = np.cumsum(factor ** np.arange(old // 2))
    places = np.concatenate([-side[::-1], [0.0], side])
    wanted = np.arange(new) - new // 2
    return np.stack([np.interp(wanted, places, row) for row in np.eye(old)], axis=1)


def positions(theirs: str, cfg: Any, special: int) -> Positions:
    """The positions of a Config with `image_size`, `patch_size` and `antialias`."""
    asked, smooth = grid(cfg.image_size, cfg.patch_size), getattr(cfg, "antialias", False)
    return Positions(
        theirs, "tokens/positions", "1 t d -> t d", special=special, grid=asked, antialias=smooth
    )
