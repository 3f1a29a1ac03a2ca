"""Image files as examples: read, decoded and prepared in threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.data.decode import decode, eight_bits, in_threads, open_picture
from zoo.data.info import Batch, Info, normalised
from zoo.data.resizing import FILTERS
from zoo.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

    from zoo.data.processor import Processor


@dataclass(frozen=True)
class Own:
    """Pictures prepared by a size and their own statistics; a `Processor` has the same methods."""

    size: int
    channels: int
    mean: Sequence[float] = ()
    std: Sequence[float] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.size, self.size, self.channels

    def decode(self, content: bytes) -> np.ndarray:
        """See `zoo.data.decode.decode`."""
        return decode(content, self.size, self.channels)

    def picture(self, content: bytes) -> Image:
        """The picture in its own size, of mode RGB or L."""
        return eight_bits(open_picture(content)).convert("RGB" if self.channels == 3 else "L")

    def scale(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 `[..., C]` normalised, float32 of the same shape."""
        return normalised(pixels, self.mean, self.std)


def own_processor(info: Info) -> Processor:
    """A processor of transformers in the place of `Own`, of images normalised by the statistics of
    their values from 0 to 255.

    It scales and crops in two steps what `Own` does in one: pixels of images that are not square
    may differ a little.
    """
    from zoo.data.processor import Processor

    size, _, channels = info.inputs["image"][0]
    mean, std = ([x / 255 for x in info.statistics[name]] for name in ("mean", "std"))
    return Processor(
        "BitImageProcessor",
        {
            "size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size},
            "resample": FILTERS["bilinear"], "do_convert_rgb": channels == 3,
            "image_mean": mean, "image_std": std,
        },
    )  # fmt: skip


class ImageFiles:
    """A split of image files, decoded in threads when rows are read unless they are cached.

    Args:
        paths: of every file.
        label: class of every file, int32 `[N]`.
        cache: decoded files, uint8 `[N, H, W, C]`, or None.
        prepare: how contents become pixels, and pixels inputs.
        num_classes: as in `Info`.
    """

    pictures = True

    def __init__(
        self,
        paths: Sequence[Path],
        label: np.ndarray,
        cache: np.ndarray | None,
        prepare: Own | Processor,
        num_classes: int | None,
    ):
        self.num_classes = num_classes
        self._paths, self._label, self._cache, self._prepare = paths, label, cache, prepare

    def __len__(self) -> int:
        return len(self._paths)

    def rows(self, indices: np.ndarray) -> Batch:
        """See `Split.rows`."""
        if self._cache is not None:
            pixels = self._cache.take(indices, axis=0)
        else:
            pixels = np.stack(_read([self._paths[i] for i in indices], self._prepare.decode))
        return {"image": self._prepare.scale(pixels), "label": self._label.take(indices)}

    def changed(
        self, indices: np.ndarray, change: Callable[[int, Image], np.ndarray], whole: bool
    ) -> Batch:
        """See `Pictures.changed`."""
        from PIL import Image as pil

        def one(content: bytes, position: int) -> np.ndarray:
            if whole:
                return change(position, self._prepare.picture(content))
            return change(position, _of_array(pil, self._prepare.decode(content)))

        if self._cache is None or whole:
            found = _read([self._paths[i] for i in indices], one, numbered=True)
        else:
            pixels = self._cache.take(indices, axis=0)
            found = in_threads(lambda i: change(i, _of_array(pil, pixels[i])), range(len(pixels)))
        pixels = self._prepare.scale(np.stack(found))
        return {"image": pixels, "label": self._label.take(indices)}

    def names(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """See `Split.names`."""
        return [str(self._paths[int(i)]) for i in indices]

    def labels(self) -> np.ndarray:
        """See `Split.labels`."""
        return self._label


def _of_array(pil: Any, pixels: np.ndarray) -> Image:
    return pil.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def attempts(
    paths: Sequence[Path], function: Callable[..., Any], numbered: bool = False
) -> list[Any]:
    """`function(content)` or `function(content, position)` of every file, in threads; of those
    that are missing or unreadable a line that says so."""

    def attempt(position: int) -> Any:
        try:
            content = paths[position].read_bytes()
            return function(content, position) if numbered else function(content)
        except (OSError, ValueError) as error:
            return f"{paths[position]}: {getattr(error, 'strerror', None) or error}"

    return in_threads(attempt, range(len(paths)))


def _read(paths: Sequence[Path], function: Callable[..., Any], numbered: bool = False) -> list[Any]:
    """As `attempts`.

    Raises:
        InputError: files that are missing or unreadable, each named.
    """
    found = attempts(paths, function, numbered)
    if problems := [text for text in found if isinstance(text, str)]:
        raise InputError(listed(problems))
    return found


def listed(problems: list[str]) -> str:
    """The first ten, and how many more there are."""
    more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
    return "\n  ".join(problems[:10]) + more
