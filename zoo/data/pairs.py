"""Splits whose examples are a picture and a text of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.info import Batch, Pictures
from zoo.data.text import VOCABULARY, pack

if TYPE_CHECKING:
    from PIL.Image import Image

END = VOCABULARY
"""Id that ends a text of bytes: the largest of them, as CLIP takes it."""


def pack_ended(texts: Sequence[bytes], max_length: int) -> Batch:
    """Bytes of each text, cut so that `END` still follows, padded with 0: `input_ids` and
    `attention_mask`, int32 `[N, max_length]` each."""
    packed = pack([text[: max_length - 1] for text in texts], max_length)
    rows = np.arange(len(texts))
    last = packed["attention_mask"].sum(axis=1)
    packed["input_ids"][rows, last] = END
    packed["attention_mask"][rows, last] = 1
    return packed


@dataclass(frozen=True)
class Pair:
    """A picture and a text.

    Attributes:
        name: where the pair came from.
        text: the text.
    """

    name: str
    text: str


class Pairs:
    """A split of pictures with texts; a picture may stand in several pairs.

    Args:
        images: the pictures.
        place: of the picture of each pair among `images`, int `[N]`.
        tokens: of the texts, arrays `[N, T]` by name.
        examples: name and text of each pair.
        image_of: number of the picture of each pair within the data, int32 `[N]`.
    """

    num_classes = None

    def __init__(
        self,
        images: Pictures,
        place: np.ndarray,
        tokens: Batch,
        examples: Sequence[Pair],
        image_of: np.ndarray,
    ):
        self._images, self._place, self._tokens = images, place, tokens
        self.examples, self.image_of = list(examples), image_of.astype(np.int32)
        self.text_of = np.unique([pair.text for pair in examples], return_inverse=True)[1]
        self.pictures = getattr(images, "pictures", False)

    def __len__(self) -> int:
        return len(self.examples)

    def rows(self, indices: np.ndarray) -> Batch:
        """See `Split.rows`."""
        return self._paired(self._images.rows(self._place.take(indices)), indices)

    def changed(
        self, indices: np.ndarray, change: Callable[[int, Image], np.ndarray], whole: bool
    ) -> Batch:
        """See `Pictures.changed`."""
        found = self._images.changed(self._place.take(indices), change, whole)
        return self._paired(found, indices)

    def names(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """See `Split.names`."""
        return [self.examples[int(i)].name for i in indices]

    def labels(self) -> None:
        """Pairs have no class."""

    def _paired(self, seen: Batch, indices: np.ndarray) -> Batch:
        tokens = {key: array.take(indices, axis=0) for key, array in self._tokens.items()}
        return {"image": seen["image"], **tokens, "label": self.image_of.take(indices)}
