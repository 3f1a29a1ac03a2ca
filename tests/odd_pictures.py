"""Pictures of odd sizes and modes, computed, and written as files."""

import functools
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = (
    (1, 1), (1, 9), (9, 1), (1, 300), (300, 1), (2, 3), (7, 5), (16, 16), (17, 31), (31, 17),
    (24, 90), (101, 20), (40, 41), (64, 64), (120, 160), (233, 51),
)  # fmt: skip
"""Height and width."""


def pattern(height: int, width: int, channels: int) -> np.ndarray:
    """uint8 `[H, W, C]` with edges, slopes and fine texture."""
    y, x, c = np.ogrid[:height, :width, :channels]
    slope = (x * 255 // max(width - 1, 1) + y * 85 // max(height - 1, 1)) * (c + 1)
    return ((slope + 70 * ((x // 3 + y // 5) % 2) + 37 * ((x * y + c) % 5)) % 256).astype(np.uint8)


def picture(mode: str, height: int, width: int) -> Image.Image:
    """A picture of a mode of Pillow, or of `P-alpha` (some palette entries are transparent),
    `P-key` and `RGB-key` (one colour is)."""
    if mode == "I;16":
        wide = pattern(height, width, 1)[..., 0].astype(np.uint16)
        return Image.fromarray(wide * 7)
    if mode in ("P", "P-alpha", "P-key"):
        found = Image.fromarray(pattern(height, width, 3)).quantize(16, dither=0)
        if mode != "P":
            found.info["transparency"] = bytes(range(0, 256, 16)) if mode == "P-alpha" else 2
        return found
    if mode == "RGB-key":
        found = picture("RGB", height, width)
        found.info["transparency"] = found.getpixel((0, 0))
        return found
    if mode == "1":
        return picture("L", height, width).convert("1")
    channels = len(mode)
    array = pattern(height, width, channels)
    return Image.frombytes(mode, (width, height), array.tobytes())


LOSSY = (".jpg", "lossy.webp")
"""Endings of names whose pixels depend on the version of the codec."""


@functools.cache
def files(folder: Path) -> list[Path]:
    """Over 50 image files: every size as RGB, and every mode, format and rotation."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []

    def write(name: str, image: Image.Image, **options) -> None:
        image.save(folder / name, **options)
        found.append(folder / name)

    for height, width in SIZES:
        write(f"{height}x{width}.png", picture("RGB", height, width))
    for mode in ("L", "LA", "RGBA", "1", "P", "P-alpha", "P-key", "RGB-key", "I;16"):
        for height, width in ((37, 50), (50, 20)):
            image = picture(mode, height, width)
            name = f"{mode.replace(';', '')}-{height}.png"
            write(name, image, **{k: v for k, v in image.info.items() if k == "transparency"})
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        write(f"turned-{turn}.png", picture("RGB", 45, 28), exif=exif)
        if turn % 3 == 0:
            write(f"turned-{turn}.jpg", picture("RGB", 45, 28), exif=exif, quality=95)
    for mode in ("CMYK", "L", "RGB"):
        write(f"{mode}.jpg", picture(mode, 33, 44), quality=90)
    write("progressive.jpg", picture("RGB", 44, 33), progressive=True)
    for mode in ("RGB", "RGBA"):
        write(f"{mode}.webp", picture(mode, 30, 40), lossless=True)
    write("lossy.webp", picture("RGB", 40, 30), quality=60)
    for mode in ("CMYK", "RGB", "I;16", "L"):
        write(f"{mode.replace(';', '')}.tiff", picture(mode, 21, 34))
    write("P.gif", picture("P", 25, 35))
    write("moving.gif", picture("P", 25, 35), save_all=True, append_images=[picture("P", 25, 35)])
    write("RGB.bmp", picture("RGB", 26, 35))
    return found
