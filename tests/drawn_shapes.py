"""Pictures of one shape on a noisy ground: what a small model learns in seconds, and where one sees
whether it looks at the right place."""

from pathlib import Path

import numpy as np

SIDE, SHAPE = 48, 13
"""Pixels of a picture's side, and of a shape's."""
KINDS = ("disc", "ring", "cross", "frame")


def mask(kind: str) -> np.ndarray:
    """The pixels of a shape, `[SHAPE, SHAPE]`."""
    y, x = np.mgrid[:SHAPE, :SHAPE] - SHAPE // 2
    far, near = np.maximum(abs(x), abs(y)), np.minimum(abs(x), abs(y))
    distance = np.hypot(x, y)
    return {
        "disc": distance < 6.5, "ring": (distance < 6.5) & (distance > 3.5), "cross": near < 2,
        "frame": far > 3,
    }[kind]  # fmt: skip


def draw(kind: str, top: int, left: int, rng: np.random.Generator) -> np.ndarray:
    """A shape of a random colour, `[SIDE, SIDE, 3]`; its upper left corner is given."""
    image = rng.normal(size=(SIDE, SIDE, 3)) * 0.4
    colour = rng.choice([-1, 1]) * rng.uniform(0.8, 2, size=3)
    image[top : top + SHAPE, left : left + SHAPE][mask(kind)] += colour
    return image.astype(np.float32)


def write(path: Path, count: int = 1200) -> Path:
    """Shapes of all kinds at all places, as arrays for a run."""
    rng = np.random.default_rng(0)
    y = np.arange(count) % len(KINDS)
    places = rng.integers(0, SIDE - SHAPE + 1, (count, 2))
    x = np.stack([draw(KINDS[k], *place, rng) for k, place in zip(y, places, strict=True)])
    np.savez(path, x=x, y=y)
    return path


def share(scores: np.ndarray, top: int, left: int, around: int = 3) -> float:
    """How much of the scores' strength lies on a shape, and so many pixels around it."""
    rows, columns = (slice(max(n - around, 0), n + SHAPE + around) for n in (top, left))
    return float(np.abs(scores[rows, columns]).sum() / np.abs(scores).sum())
