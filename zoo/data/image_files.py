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
from zoo.data.split import digest
from zoo.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

    from zoo.data.processor import Processor

OWN_SIZE = 32
NO_PROCESSOR = "none"
"""In the place of a processor's name: the images' own mean and deviation."""


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


def named_processor(name: str, image_size: int = 0, *changes: Any) -> Processor:
    """The image processor of a folder or hub name, with other values (`changes` as `changed` of
    `zoo.data.processor_changes` takes them).

    Raises:
        InputError: no such folder, nothing in it that says how images are prepared, or values that
            cannot be.
    """
    from zoo.data.processor import load_processor
    from zoo.data.processor_changes import changed

    try:
        processor = load_processor(name)
    except InputError as error:
        raise InputError(
            f"{error}. --data.processor {NO_PROCESSOR} prepares images by their own mean and "
            "deviation"
        ) from None
    return changed(processor, name, image_size, *changes)


def checked(
    processor: Processor, name: str, channels: int
) -> tuple[Processor, tuple[int, int, int]]:
    """A processor and the shape of its images.

    Raises:
        InputError: they differ in size, or have other channels than were asked for (0: any).
    """
    if processor.shape is None:
        raise InputError(
            f"{name}: its images differ in size, since it neither crops nor makes sides equal; a "
            "batch needs one size: --data.image-size"
        )
    if channels not in (0, processor.shape[2]):
        raise InputError(f"{name}: its images have {processor.shape[2]} channels, not {channels}")
    return processor, processor.shape


def look(files: Sequence[Path], prepare: Own | Processor, keep: bool) -> list[Any]:
    """Reads and decodes every file once, in threads.

    Returns:
        Of each file (SHA-256, sums of its pixels and of their squares, pixels where `keep`), or a
        line that says why it cannot be read.
    """

    def one(content: bytes) -> tuple[Any, ...]:
        image = prepare.decode(content)
        flat = image.reshape(-1, image.shape[-1]).astype(np.int64)
        total = (flat.sum(0), (flat**2).sum(0))
        return digest(content), total, image if keep else None

    return attempts(files, one)


def fitted(
    prepare: Own | Processor, train: Sequence[tuple[Any, ...]]
) -> tuple[Own | Processor, dict[str, Any]]:
    """What prepares images, with the mean and deviation of the training images where no processor
    does, and what `Info` holds of it.

    Args:
        prepare: without mean and deviation.
        train: what `look` gives of the training images.
    """
    if not isinstance(prepare, Own):
        return prepare, {"columns": {"processor": prepare.name, "settings": prepare.settings}}
    sums = np.array([totals for _, totals, _ in train]).sum(0)
    area = len(train) * prepare.size**2
    mean = sums[0] / area
    std = np.sqrt(np.maximum(sums[1] / area - mean**2, 0))
    std = np.where(std <= 1e-6, 1.0, std)
    statistics = {"mean": tuple(mean.tolist()), "std": tuple(std.tolist())}
    return Own(*prepare.shape[1:], **statistics), {"statistics": statistics}


def prepared_as(info: Info) -> Own | Processor:
    """What prepared the images of these data."""
    if "processor" in info.columns:
        from zoo.data.processor import Processor

        return Processor(info.columns["processor"], dict(info.columns["settings"]))
    size, _, channels = info.inputs["image"][0]
    return Own(size, channels, **info.statistics)


def exported_processor(info: Info) -> Processor:
    """What prepared the images of these data, for the folder of an exported model."""
    found = prepared_as(info)
    return own_processor(info) if isinstance(found, Own) else found


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
