"""Generated pictures with texts: a shape, and a sentence that says which and where it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from zoo.data.assemble import moments
from zoo.data.image_text import ImageTextPairs
from zoo.data.info import Arrays, Batch, Data, Info
from zoo.data.pairs import END, Pair, Pairs, pack_ended
from zoo.data.split import digest, divide, fingerprint
from zoo.errors import InputError

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {
    "red": (220, 40, 40), "green": (40, 190, 60), "blue": (50, 80, 230),
    "yellow": (230, 220, 50), "white": (240, 240, 240), "purple": (170, 50, 200),
}  # fmt: skip
SIZES = {"small": 0.11, "large": 0.19}
"""Half of the height, as a share of the picture's."""
PLACES = {
    "top left": (0.25, 0.25), "top right": (0.25, 0.75), "centre": (0.5, 0.5),
    "bottom left": (0.75, 0.25), "bottom right": (0.75, 0.75),
}  # fmt: skip
"""Where the middle is, from above and from the left, as shares."""
LONGEST = len("small purple triangle, bottom right") + 1
"""Bytes of a text, its end included."""
DARKEST, LIGHTEST = 0, 90
"""Grey of the ground."""


class Drawing(NamedTuple):
    """What is to be seen on a picture."""

    size: str
    colour: str
    shape: str
    place: str

    def text(self) -> str:
        """Such as `small red circle, top left`."""
        return f"{self.size} {self.colour} {self.shape}, {self.place}"


def draw(drawing: Drawing, side: int, rng: np.random.Generator) -> np.ndarray:
    """A picture, uint8 `[side, side, 3]`: place, size, colour and ground vary a little, and all
    is noisy."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    (down, right), radius = PLACES[drawing.place], SIZES[drawing.size]
    dy = y - down - rng.uniform(-0.05, 0.05)
    dx = x - right - rng.uniform(-0.05, 0.05)
    radius *= rng.uniform(0.9, 1.1)
    inside = {
        "circle": dx**2 + dy**2 <= radius**2,
        "square": np.maximum(abs(dx), abs(dy)) <= 0.85 * radius,
        "triangle": (abs(dy) <= radius) & (abs(dx) <= (dy + radius) / 2),
        "cross": (np.minimum(abs(dx), abs(dy)) <= 0.3 * radius)
        & (np.maximum(abs(dx), abs(dy)) <= radius),
    }[drawing.shape]
    colour = np.array(COLOURS[drawing.colour]) + rng.integers(-15, 16, 3)
    picture = np.where(inside[..., None], colour, rng.integers(DARKEST, LIGHTEST + 1))
    noisy = picture + rng.integers(-10, 11, (side, side, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class CaptionedShapes:
    """Pictures of one shape each with sentences such as `small red circle, top left`, as bytes that
    id 256 ends: 240 different ones, of 2 sizes, 6 colours, 4 shapes and 5 places.

    The raw record that decides a split is the picture's bytes.
    """

    count: int = 3000
    """Pictures to draw."""
    image_size: int = 32
    """Height and width in pixels."""
    seed: int = 0
    """Which ones."""

    def open(self) -> Data:
        """The splits, normalised per channel.

        Raises:
            InputError: a count or size that is not positive, an empty split.
        """
        for name in ("count", "image_size"):
            if getattr(self, name) < 1:
                raise InputError(f"captioned shapes: {name} must be at least 1")
        rng = np.random.default_rng(self.seed)
        parts = [list(SIZES), list(COLOURS), list(SHAPES), list(PLACES)]
        drawings = [
            Drawing(*(part[rng.integers(len(part))] for part in parts)) for _ in range(self.count)
        ]
        pixels = np.stack([draw(one, self.image_size, rng) for one in drawings])
        captions = [one.text() for one in drawings]
        tokens = pack_ended([text.encode() for text in captions], LONGEST)
        digests = [digest(picture.tobytes()) for picture in pixels]
        splits = divide(digests, "captioned shapes")
        mean, std = moments(pixels, splits["train"])
        info = Info(
            inputs={
                "image": (pixels.shape[1:], "float32"),
                **{key: ((LONGEST,), "int32") for key in tokens},
            },
            label=((), "int32"),
            vocab_size=END + 1,
            max_length=LONGEST,
            pad=0,
            statistics={"mean": mean, "std": std},
            counts={name: len(members) for name, members in splits.items()},
            fingerprint=fingerprint(splits, digests, captions, [pixels.shape[1:], LONGEST]),
        )
        opened = {}
        for name, members in splits.items():
            found = {"image": pixels[members], "label": members.astype(np.int32)}
            named = [f"captioned shapes {i}" for i in members]
            images = Arrays(found, named, None, "image", mean, std)
            pairs = [Pair(named[row], captions[i]) for row, i in enumerate(members)]
            own = {key: array[members] for key, array in tokens.items()}
            opened[name] = Pairs(images, np.arange(len(members)), own, pairs, found["label"])
        return Data(opened, info)

    def read(self, inputs: list[str], info: Info) -> Pairs:
        """The user's own pairs, as `ImageTextPairs` reads them."""
        return self._own().read(inputs, info)

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """The rows of `read`, and their names."""
        return self._own().encode(inputs, info)

    def _own(self) -> ImageTextPairs:
        return ImageTextPairs("", image_size=self.image_size, max_length=LONGEST)
