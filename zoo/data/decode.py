"""Image files of any common kind to unsigned bytes of one shape."""

from __future__ import annotations

import functools
import io
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from zoo.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = (
    "JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "MPO", "JPEG2000", "AVIF", "ICO",
    "TGA",
)  # fmt: skip
"""Kinds of files that are read. Pillow knows more, some by running another program (EPS)."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`[function(item) for item in items]` on all cores; Pillow decodes and resizes unlocked."""
    count = min(os.cpu_count() or 1, len(items))
    if count < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(function, items))


def read_image(path: Path, size: int, channels: int) -> np.ndarray:
    """Reads one image file; see `decode`.

    Raises:
        InputError: missing or unreadable, naming the file.
    """
    try:
        return decode(path.read_bytes(), size, channels)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None


def decode(content: bytes, size: int, channels: int) -> np.ndarray:
    """An image's pixels, upright, at one size.

    The shorter side is scaled to `size` (bilinear, antialiased), the longer one cropped about the
    centre. EXIF rotation is applied; palette, CMYK, 16-bit and black-and-white images become 8-bit
    gray or RGB; transparent parts become white.

    Args:
        content: the file's bytes.
        size: height and width of the result.
        channels: 1 (gray) or 3 (RGB).

    Returns:
        uint8 `[size, size, channels]`.

    Raises:
        ValueError: not an image, truncated, too large, or of floating-point pixels.
    """
    from PIL import Image as pil
    from PIL import ImageOps as ops

    image = open_picture(content)
    with readable():
        image = eight_bits(image).convert("RGB" if channels == 3 else "L")
        if image.size != (size, size):
            image = ops.fit(image, (size, size), pil.Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(size, size, channels)


def open_picture(content: bytes, upright: bool = True) -> Image:
    """The picture of an image file, decoded; of several frames the first.

    Args:
        content: the file's bytes.
        upright: apply EXIF rotation.

    Raises:
        ValueError: not an image, truncated, or of more pixels than Pillow holds for harmless
            (`PIL.Image.MAX_IMAGE_PIXELS`).
    """
    if not content:
        raise ValueError("unreadable image: the file is empty")
    from PIL import Image as pil
    from PIL import ImageOps as ops

    with readable():
        image = pil.open(io.BytesIO(content), formats=_formats())
        most, (width, height) = pil.MAX_IMAGE_PIXELS, image.size
        if most is not None and width * height > most:
            raise ValueError(f"{width} x {height} pixels are too many; at most {most} are read")
        image.load()
        return ops.exif_transpose(image) if upright else image


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow reads."""
    from PIL import Image as pil

    pil.init()
    return tuple(name for name in FORMATS if name in pil.OPEN)


@contextmanager
def readable() -> Iterator[None]:
    """Whatever Pillow raises on a hostile picture becomes one ValueError; it warns of nothing."""
    from PIL import UnidentifiedImageError

    try:
        with _QUIET:
            yield
    except UnidentifiedImageError:
        raise ValueError("unreadable image: no image of a known kind") from None
    except Exception as error:  # Pillow's readers raise nearly every type on hostile files
        text = str(error) or type(error).__name__
        raise ValueError(f"unreadable image: {text.removeprefix('unreadable image: ')}") from None


class _Quiet:
    """No warnings while any thread is inside.

    Filters belong to the process: threads that each save and restore them would leave one
    another's behind.
    """

    def __init__(self):
        self._lock, self._inside = threading.Lock(), 0
        self._saved = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._saved.__exit__(None, None, None)


_QUIET = _Quiet()


def eight_bits(image: Image) -> Image:
    """A picture of 8-bit pixels on white, of whatever mode.

    Raises:
        ValueError: floating-point pixels, or integers beyond 16 bits.
    """
    from PIL import Image as pil

    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        if wide.size and (wide.min() < 0 or wide.max() > 65535):
            raise ValueError("integer pixels beyond 16 bits")
        return pil.fromarray((wide // 257).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = pil.new("RGBA", image.size, (255, 255, 255, 255))
        return pil.alpha_composite(white, image)
    return image


def image_files(text: str) -> list[Path]:
    """The file named, or every file below the folder named, sorted; hidden ones left out.

    Raises:
        InputError: there is no such file or folder, or the folder holds no file.
    """
    path = Path(text)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    found = sorted(p for p in path.rglob("*") if p.is_file() and not hidden(p, path))
    if not found:
        raise InputError(f"{path}: the folder holds no files")
    return found


def hidden(path: Path, root: Path) -> bool:
    """Whether a part of the path below root starts with a dot, or is what file managers leave."""
    parts = path.relative_to(root).parts
    return any(part.startswith(".") for part in parts) or path.name in ("Thumbs.db", "desktop.ini")
