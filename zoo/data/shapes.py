"""Drawn shapes of any place, size, turn and colour: pictures for which nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.assemble import assemble
from zoo.data.decode import image_files, read_image
from zoo.data.image_files import own_processor
from zoo.data.info import Batch, Data, Info, normalised
from zoo.data.split import digest
from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.data.processor import Processor

KINDS = ("circle", "ring", "square", "triangle", "cross", "bars")
FINE = 3  # points a side of a pixel, so that edges are smooth
UNIT = 1024  # directions are whole numbers over this, so that every machine draws the same


@dataclass(frozen=True)
class Shapes:
    """One shape on a plain ground, with noise on all pixels; which shape it is is the class.

    Picture i follows from (seed, i) alone. The raw record that decides a split is its pixels.
    """

    kinds: tuple[str, ...] = KINDS
    """The classes: circle, ring, square, triangle, cross, bars."""
    count: int = 3000
    """Pictures, the classes in turn."""
    size: int = 32
    """Height and width in pixels."""
    noise: int = 12
    """Largest change of a pixel's values, of 255."""
    seed: int = 0
    """Another one draws others."""

    def open(self) -> Data:
        """The splits.

        Raises:
            InputError: fewer than two classes, an unknown one, or impossible numbers.
        """
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or len(set(self.kinds)) < 2 or len(set(self.kinds)) != len(self.kinds):
            raise InputError(f"shapes: kinds are two or more of {', '.join(KINDS)}, once each")
        if self.count < 1 or self.size < 8 or not 0 <= self.noise <= 255 or self.seed < 0:
            raise InputError(
                "shapes: needs count >= 1, size >= 8, noise in 0..255 and seed >= 0, not "
                f"{self.count}, {self.size}, {self.noise} and {self.seed}"
            )
        pixels = np.stack([self.draw(i) for i in range(self.count)])
        return assemble(
            "shapes", {"image": pixels}, np.arange(self.count) % len(self.kinds), "classification",
            [digest(one.tobytes()) for one in pixels], lambda i: f"shapes {i}",
            class_names=self.kinds, normalise="image",
        )  # fmt: skip

    def draw(self, index: int) -> np.ndarray:
        """Picture number `index`, uint8 `[size, size, 3]`."""
        rng = np.random.Generator(np.random.Philox([self.seed, index]))
        size, kind = self.size * FINE, self.kinds[index % len(self.kinds)]
        radius = int(rng.integers(size // 5, size // 3))
        place = rng.integers(radius, size - radius, 2)
        angle = rng.uniform(0, 2 * np.pi)
        cos, sin = (round(UNIT * float(turn)) for turn in (np.cos(angle), np.sin(angle)))
        grid = np.arange(size)
        y, x = grid[:, None] - place[0], grid[None, :] - place[1]
        inside = _inside(kind, cos * x + sin * y, cos * y - sin * x, radius * UNIT)
        share = inside.reshape(self.size, FINE, self.size, FINE).sum((1, 3))[..., None]
        ground = rng.integers(0, 256, 3)
        shift = rng.integers(70, 187, 3)  # each channel of the shape is far from the ground's
        colour = (ground + shift) % 256
        plain = (share * colour + (FINE**2 - share) * ground) // FINE**2
        noisy = plain + rng.integers(-self.noise, self.noise + 1, plain.shape)
        return np.clip(noisy, 0, 255).astype(np.uint8)

    def write(self, directory: str | Path) -> None:
        """The pictures as PNG files, a folder for each class, as `ImageFolder` reads them."""
        from PIL import Image

        for index in range(self.count):
            folder = Path(directory, self.kinds[index % len(self.kinds)])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(self.draw(index)).save(folder / f"{index:05}.png")

    def image_processor(self, info: Info) -> Processor:
        """What prepares pictures like these, for the folder of an exported model."""
        return own_processor(info)

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """Image files, and folders of them; the shorter side is scaled, the longer one cropped.

        Raises:
            InputError: a file that is missing or unreadable.
        """
        files = [file for text in inputs for file in image_files(text)]
        if not files:
            raise InputError("no image was given")
        pixels = np.stack([read_image(file, info.inputs["image"][0][0], 3) for file in files])
        x = normalised(pixels, info.statistics["mean"], info.statistics["std"])
        return [str(file) for file in files], {"image": x}


def _inside(kind: str, u: np.ndarray, v: np.ndarray, radius: int) -> np.ndarray:
    """Which points are inside a shape, whole numbers only.

    Args:
        kind: of `KINDS`.
        u, v: turned coordinates, int `[n, n]`.
        radius: of the circle about the shape.
    """
    across, along, distance = np.abs(u), np.abs(v), u * u + v * v
    if kind == "circle":
        return distance <= radius**2
    if kind == "ring":
        return (distance <= radius**2) & (4 * distance >= radius**2)
    if kind == "square":
        return np.maximum(across, along) * 10 <= radius * 7
    if kind == "triangle":  # the half planes of an equilateral one; 1774 / 1024 is the root of 3
        return (2 * v <= radius) & (1774 * across - UNIT * v <= UNIT * radius)
    if kind == "cross":
        return (np.minimum(across, along) * 4 <= radius) & (np.maximum(across, along) <= radius)
    return (np.maximum(across, along) * 10 <= radius * 8) & (across * 10 >= radius * 3)
