"""Pictures as a pretrained model takes them, from a folder that says how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.data.decode import in_threads, open_picture, readable
from zoo.data.folder_files import read_json, write_texts
from zoo.data.processor_folder import (
    FILE,
    MODEL,
    TIMM,
    TIMM_PIXELS,
    Reader,
    read_folder,
    settings_of,
)
from zoo.errors import InputError
from zoo.hub import find_folder

if TYPE_CHECKING:
    from PIL.Image import Image


def load_processor(path: str | Path, **changes: Any) -> Processor:
    """The image processor of a folder that transformers or timm wrote.

    Args:
        path: folder with `preprocessor_config.json`, or with timm's `config.json`; or a name on
            the hub.
        changes: other values for settings, by the names that the folder's file uses, such as
            `size={"height": 384, "width": 384}`, or `input_size=[3, 288, 288]` of timm's.

    Returns:
        A callable; `model.apply(variables, processor(["cat.jpg", "dog.png"]))`.

    Raises:
        InputError: no such folder or name, nothing in it that says how pictures are prepared, a
            setting that is damaged or not implemented.
    """
    folder = find_folder(path, ["*.json"])
    name, given = read_folder(folder)
    known = settings_of(name, {}, str(folder))
    for key in changes:
        if key not in known and key != "crop_size":
            raise InputError(f"{name} has no setting {key!r}; it has {', '.join(sorted(known))}")
    return Processor(name, given | changes, str(folder))


class Processor:
    """Pictures of any size and mode to float32 `[B, H, W, C]`.

    The pixels are those of transformers' processors by Pillow, or of timm's evaluation transform:

    - Image files are read as the reference reads them: EXIF rotation is applied for transformers
      and not for timm; transparency is dropped; 16-bit gray is cut at 255, as Pillow does it.
    - Pictures of Pillow are taken as they are, without EXIF rotation. Where `do_convert_rgb` is
      set, what is transparent becomes white.
    - All are made RGB, or gray where `image_mean` has one number.

    Attributes:
        name: class of the image processor, or `timm`.
        settings: every setting by the reference's name; a copy, `load_processor(path, ...)` takes
            others.
        shape: (height, width, channels) of every result; None where it follows the picture's.
    """

    def __init__(self, name: str, given: dict[str, Any], where: str = "the processor"):
        self.name, self.settings = name, settings_of(name, given, where)
        read, is_timm = Reader(self.settings, where), name == TIMM
        self._upright, self._on_white = not is_timm, read.flag("do_convert_rgb")
        self._resize, self._crops = read.timm_fitting() if is_timm else read.fitting()
        self._values = _timm_values(read) if is_timm else _values(read)
        channels = self._values.shape[1]
        if is_timm and self.settings["input_size"][0] != channels:
            raise InputError(f"{where}: input_size has other channels than mean: {self.settings}")
        if self._on_white and channels == 1:
            raise InputError(f"{where}: do_convert_rgb, but image_mean has one number")
        size = self._crops[-1].size if self._crops else None
        if size is None and self._resize and self._resize.rule == "exact":
            size = self._resize.size
        self.shape = None if size is None else (*size, channels)

    def __call__(self, pictures: Any) -> np.ndarray:
        """The input of a model.

        Args:
            pictures: paths, pictures of Pillow, uint8 arrays `[H, W]` or `[H, W, C]` of 1, 3 or 4
                channels (the fourth is opacity); one, a sequence of them, or an array
                `[B, H, W, C]`. Several are prepared in threads.

        Returns:
            float32 `[B, H, W, C]`, also for one picture.

        Raises:
            InputError: no picture; a file that is missing or unreadable, all of them named;
                results of different sizes.
        """
        pixels = self.pixels(pictures)
        sizes = {array.shape[:2] for array in pixels}
        if len(sizes) > 1:
            raise InputError(
                f"the pictures differ in size after preparing, {sorted(sizes)[:4]}; {self.name} "
                "neither crops nor makes sides equal: call it for each"
            )
        return self.scale(np.stack(pixels))

    def pixels(self, pictures: Any) -> list[np.ndarray]:
        """The pictures resized and cropped, each uint8 `[H, W, C]`; see `__call__`."""
        several = [pictures] if _is_one(pictures) else list(pictures)
        if not several:
            raise InputError("no picture was given")
        found = in_threads(self._attempt, list(enumerate(several)))
        problems = [text for text in found if isinstance(text, str)]
        if problems:
            more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
            listed = "\n  ".join(problems[:10])
            raise InputError(listed + more)
        return [array for array in found if not isinstance(array, str)]

    def scale(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 `[..., C]` rescaled and normalised, float32 of the same shape."""
        scaled = np.empty(pixels.shape, np.float32)
        for channel, values in enumerate(self._values.T):
            scaled[..., channel] = values[pixels[..., channel]]
        return scaled

    def decode(self, content: bytes) -> np.ndarray:
        """An image file's pixels, resized and cropped, uint8 `[H, W, C]`.

        Raises:
            ValueError: see `zoo.data.decode.open_picture`; or a size that leaves no pixel.
        """
        return self._fit(self.picture(content))

    def picture(self, content: bytes) -> Image:
        """An image file's picture in its own size, of mode RGB or L.

        Raises:
            ValueError: see `zoo.data.decode.open_picture`.
        """
        picture = open_picture(content, self._upright)
        with readable():  # the reference makes all files RGB before anything else sees them
            return self._opaque(picture.convert("RGB"))

    def _opaque(self, picture: Image) -> Image:
        picture = _on_white(picture) if self._on_white else picture
        return picture.convert("RGB" if self._values.shape[1] == 3 else "L")

    def _attempt(self, numbered: tuple[int, Any]) -> np.ndarray | str:
        number, picture = numbered
        if isinstance(picture, str | Path):
            try:
                return self.decode(Path(picture).read_bytes())
            except (OSError, ValueError) as error:
                return f"{picture}: {getattr(error, 'strerror', None) or error}"
        try:
            picture = _as_picture(picture)
            with readable():
                picture = self._opaque(picture)
            return self._fit(picture)
        except ValueError as error:
            return f"picture {number}: {error}"

    def _fit(self, picture: Image) -> np.ndarray:
        pixels = np.asarray(picture).reshape(picture.height, picture.width, -1)
        if self._resize:
            pixels = self._resize(pixels)
        for crop in self._crops:
            pixels = crop(pixels)
        return pixels

    def save(self, directory: str | Path) -> None:
        """Writes a folder that the reference and `load_processor` open: `preprocessor_config.json`,
        or timm's `config.json`, whose other values stay as they are where there is one.

        Raises:
            InputError: the directory cannot be written, or holds another library's model.
        """
        if self.name != TIMM:
            values = self.settings | {"image_processor_type": self.name}
            text = json.dumps(values, indent=2, sort_keys=True) + "\n"
            return write_texts(directory, {FILE: text})
        model = read_json(Path(directory) / MODEL) or {}
        if "model_type" in model:
            raise InputError(
                f"{directory}: holds a model of transformers, which has no processor like timm's; "
                "save the model in timm's format"
            )
        known = {"architecture": "", "num_classes": 0}
        stated = {key: self.settings.get(key, value) for key, value in known.items()}
        source = model.get("pretrained_cfg")  # it tells of the weights too, which are another's
        kept = {key: value for key, value in self.settings.items() if key in TIMM_PIXELS}
        cfg = source | kept if isinstance(source, dict) else self.settings
        model = stated | model | {"pretrained_cfg": cfg}
        write_texts(directory, {MODEL: json.dumps(model, indent=2) + "\n"})

    def __repr__(self) -> str:
        return f"Processor({self.name}, {self.shape or 'any size'})"


def _is_one(pictures: Any) -> bool:
    if isinstance(pictures, str | Path) or not hasattr(pictures, "__iter__"):
        return True
    return getattr(pictures, "ndim", 4) < 4


def _values(read: Reader) -> np.ndarray:
    """What each of the 256 values of a pixel becomes, float32 `[256, C]`.

    Every operation rounds as the reference's: rescaling is in float64, the rest in float32.
    """
    values = np.repeat(np.arange(256)[:, None], 3, axis=1)
    normalise, top = read.flag("do_normalize"), read.flag("include_top")
    if read.flag("do_rescale"):
        values = (values.astype(np.float64) * read.number("rescale_factor")).astype(np.float32)
        if read.flag("rescale_offset"):
            values = values - np.float32(1)
    values = values.astype(np.float32)
    if normalise or top:
        mean, std = read.moments("image_mean", "image_std")
        values = values[:, : len(mean)]
        values = (values - mean) / std if normalise else values
        values = values / std if top else values  # EfficientNet divides once more
    return values


def _timm_values(read: Reader) -> np.ndarray:
    mean, std = read.moments("mean", "std")
    return (np.arange(256, dtype=np.float32)[:, None] / np.float32(255) - mean) / std


def _on_white(picture: Image) -> Image:
    if "A" not in picture.getbands() and picture.info.get("transparency") is None:
        return picture
    from PIL import Image as pil

    picture = picture.convert("RGBA")
    white = pil.new("RGBA", picture.size, (255, 255, 255, 255))
    return pil.alpha_composite(white, picture)


def _as_picture(value: Any) -> Image:
    """A picture of Pillow, from one or from an array.

    Raises:
        ValueError: neither.
    """
    from PIL import Image as pil

    if isinstance(value, pil.Image):
        if 0 in value.size:
            raise ValueError(f"it has no pixels, its size is {value.size}")
        return value
    if not hasattr(value, "__array__"):
        raise ValueError(f"{type(value).__name__}: expected a path, a picture or a uint8 array")
    array = np.asarray(value)
    if array.dtype != np.uint8:
        raise ValueError(f"{array.dtype} pixels: expected uint8 from 0 to 255")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        raise ValueError(f"shape {array.shape}: expected [H, W] or [H, W, C] of 1, 3 or 4 channels")
    return pil.fromarray(array[..., 0] if array.shape[2] == 1 else array)
