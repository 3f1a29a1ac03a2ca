"""Image files of any common kind to unsigned bytes of one shape."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np

from zoo.errors import InputError


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
    if not content:
        raise ValueError("unreadable image: the file is empty")
    from PIL import Image as pil
    from PIL import ImageOps as ops
    from PIL import UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", pil.DecompressionBombWarning)
            image = ops.exif_transpose(pil.open(io.BytesIO(content)))
            image.load()
        image = _eight_bits(image, pil).convert("RGB" if channels == 3 else "L")
        if image.size != (size, size):
            image = ops.fit(image, (size, size), pil.Resampling.BILINEAR)
    except UnidentifiedImageError:
        raise ValueError("unreadable image: no image of a known kind") from None
    except Exception as error:  # Pillow's readers raise nearly every type on hostile files
        raise ValueError(f"unreadable image: {error or type(error).__name__}") from None
    return np.asarray(image, np.uint8).reshape(size, size, channels)


def _eight_bits(image, pil):
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
