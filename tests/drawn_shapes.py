"""Pictures of one shape on a noisy ground: what a small model learns in seconds, and where one sees
whether it looks at the right place."""

from pathlib import Path

import numpy as np

SIDE, SHAPE = 48, 13
"""Pixels of a picture's side, and of a shape's."""
KINDS = ("disc", "ring", "cross", "frame")
COLOURS = np.array([[1, 1, -1], [1, -1, 1], [-1, 1, 1], [-1, -1, -1]])
"""By which `coloured` pictures tell the kind."""


def mask(kind: str) -> np.ndarray:
    """The pixels of a shape, `[SHAPE, SHAPE]`."""
    y, x = np.mgrid[:SHAPE, :SHAPE] - SHAPE // 2
    far, near = np.maximum(abs(x), abs(y)), np.minimum(abs(x), abs(y))
    distance = np.hypot(x, y)
    return {
        "disc": distance < 6.5, "ring": (distance < 6.5) & (distance > 3.5), "cross": near < 2,
        "frame": far > 3,
    }[kind]  # fmt: skip


def draw(
    kind: str, top: int, left: int, rng: np.random.Generator, coloured: bool = False
) -> np.ndarray:
    """A shape, `[SIDE, SIDE, 3]`; its upper left corner is given. Its colour is a random one, or
    says its kind, on a ground whose own colour says nothing."""
    image = rng.normal(size=(SIDE, SIDE, 3)) * 0.3
    colour = rng.choice([-1, 1]) * rng.uniform(0.8, 2, size=3)
    if coloured:
        image += rng.normal(size=3) * 0.5
        colour = COLOURS[KINDS.index(kind)] * rng.uniform(1, 2)
    image[top : top + SHAPE, left : left + SHAPE][mask(kind)] += colour
    return image.astype(np.float32)


def write(path: Path, count: int = 1200, coloured: bool = False) -> Path:
    """Shapes of all kinds at all places, as arrays for a run."""
    rng = np.random.default_rng(0)
    y = np.arange(count) % len(KINDS)
    places = rng.integers(0, SIDE - SHAPE + 1, (count, 2))
    x = [draw(KINDS[k], *place, rng, coloured) for k, place in zip(y, places, strict=True)]
    np.savez(path, x=np.stack(x), y=y)
    return path


def share(scores: np.ndarray, top: int, left: int, around: int = 3) -> float:
    """How much of the scores' strength lies on a shape, and so many pixels around it."""
    rows, columns = (slice(max(n - around, 0), n + SHAPE + around) for n in (top, left))
    return float(np.abs(scores[rows, columns]).sum() / np.abs(scores).sum())


def hottest(scores: np.ndarray) -> tuple[int, int]:
    """Upper left corner of the square of a shape's size that has most of the scores' strength."""
    windows = np.lib.stride_tricks.sliding_window_view(np.abs(scores), (SHAPE, SHAPE)).sum((2, 3))
    row, column = np.unravel_index(windows.argmax(), windows.shape)
    return int(row), int(column)
