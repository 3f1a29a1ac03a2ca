"""What a pretrained folder says about its pictures: `preprocessor_config.json` of transformers, or
`pretrained_cfg` in timm's `config.json`. Nothing of a folder is executed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.folder_files import read_json
from zoo.data.resizing import FILTERS, Crop, Resize, Rule
from zoo.errors import InputError

FILE, JOINT, MODEL = "preprocessor_config.json", "processor_config.json", "config.json"
TIMM = "timm"
TIMM_PIXELS = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")
"""What of timm's pretrained_cfg decides the pixels."""

_HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
_CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_SMALL = {"crop_size": {"height": 224, "width": 224}, "do_center_crop": True}
_ALL = {
    "do_resize": True, "do_center_crop": False, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "do_convert_rgb": False, "default_to_square": True, "resample": 3,
    **_HALF,
}  # fmt: skip
CLASSES: dict[str, dict[str, Any]] = {
    "ViTImageProcessor": {"size": 224, "resample": 2},
    "DeiTImageProcessor": {"size": 256, **_SMALL},
    "SiglipImageProcessor": {"size": {"height": 224, "width": 224}, "default_to_square": False,
                             "do_convert_rgb": True},
    "BitImageProcessor": {"size": {"shortest_edge": 224}, "default_to_square": False,
                          "do_convert_rgb": True, **_SMALL, **_CLIP},
    "CLIPImageProcessor": {"size": {"shortest_edge": 224}, "default_to_square": False,
                           "do_convert_rgb": True, **_SMALL, **_CLIP},
    "ConvNextImageProcessor": {"size": {"shortest_edge": 384}, "default_to_square": False,
                               "crop_pct": 224 / 256},
    "EfficientNetImageProcessor": {"size": 346, "crop_size": 289, "include_top": True,
                                   "rescale_offset": False},
    "MobileNetV1ImageProcessor": {"size": {"shortest_edge": 256}, "default_to_square": False,
                                  "resample": 2, **_SMALL},
    "MobileNetV2ImageProcessor": {"size": {"shortest_edge": 256}, "default_to_square": False,
                                  "resample": 2, **_SMALL},
}  # fmt: skip
"""Defaults of each image processor of transformers, beside those that all have."""

_OF_MODELS = {
    "ViTImageProcessor": ("vit", "swin", "swinv2", "vit_mae", "vit_msn", "ijepa"),
    "DeiTImageProcessor": ("deit",),
    "SiglipImageProcessor": ("siglip",),
    "BitImageProcessor": ("bit", "dinov2", "dinov2_with_registers", "focalnet"),
    "CLIPImageProcessor": ("clip", "clip_vision_model"),
    "ConvNextImageProcessor": ("convnext", "convnextv2", "resnet", "regnet", "cvt"),
    "EfficientNetImageProcessor": ("efficientnet",),
    "MobileNetV1ImageProcessor": ("mobilenet_v1",),
    "MobileNetV2ImageProcessor": ("mobilenet_v2",),
}
_RULES: dict[Rule, tuple[str, ...]] = {
    "exact": ("height", "width"),
    "shortest": ("shortest_edge",),
    "between": ("shortest_edge", "longest_edge"),
    "within": ("max_height", "max_width"),
}
"""Keys of `size` that choose a rule."""
_NO_PIXELS = (
    "_processor_class", "_valid_processor_keys", "auto_map", "backend", "do_reduce_labels",
    "device", "disable_grouping", "feature_extractor_type", "image_processor_type",
    "image_seq_length", "input_data_format", "processor_class", "return_tensors",
)  # fmt: skip
"""Keys that change no pixel of a picture."""
_NOT_HERE = ("data_format", "do_pad", "pad_size", "use_square_size", "reducing_gap")
"""Keys that do, and are not implemented; so are unknown ones that switch a step on."""


def read_folder(folder: Path) -> tuple[str, dict[str, Any]]:
    """Class of the image processor (or `timm`) and what the files state, unchecked.

    Raises:
        InputError: no such file, a damaged one, a class that is not implemented.
    """
    model = read_json(folder / MODEL) or {}
    values = (read_json(folder / JOINT) or {}).get("image_processor")
    values = read_json(folder / FILE) if values is None else values
    if values is None:
        cfg = model.get("pretrained_cfg", model if "architecture" in model else None)
        if isinstance(cfg, dict):
            return TIMM, {k: model[k] for k in ("architecture", "num_classes") if k in model} | cfg
        raise InputError(
            f"{folder}: no {FILE} in it, and no {MODEL} of timm; nothing says how pictures are "
            "prepared"
        )
    if not isinstance(values, dict):
        raise InputError(f"{folder}: image_processor is {values!r:.60}, expected an object")
    stated = values.get("image_processor_type") or values.get("feature_extractor_type")
    if stated is None:
        kind = model.get("model_type")
        stated = next((name for name, kinds in _OF_MODELS.items() if kind in kinds), None)
        if stated is None:
            raise InputError(f"{folder}: {FILE} names no image_processor_type")
    name = str(stated).replace("FeatureExtractor", "ImageProcessor")
    name = name.removesuffix("Fast").removesuffix("Pil")
    if name not in CLASSES:
        raise InputError(
            f"{folder}: image processor {stated} is not implemented; known are {', '.join(CLASSES)}"
        )
    return name, values


def settings_of(name: str, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Every setting by the reference's name, defaults filled in.

    What is null is off for transformers, and not stated for timm.

    Raises:
        InputError: a setting that changes pixels and is not implemented.
    """
    if name == TIMM:  # takes whatever is empty for not stated
        stated = {key: value for key, value in given.items() if value}
        defaults = {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.875,
                    "crop_mode": "center"}  # fmt: skip
        return defaults | _IMAGENET | stated
    settings = _ALL | CLASSES[name]
    for key, value in given.items():
        if key in settings:
            settings[key] = value
        elif key in _NOT_HERE or (key not in _NO_PIXELS and key.startswith("do_")):
            if value not in (None, False) and not (
                key == "data_format" and value == "channels_first"
            ):
                raise InputError(f"{where}: {key}={value!r} changes pixels and is not implemented")
        elif key == "crop_size":
            settings[key] = value
    return settings


class Reader:
    """Settings to steps, each value checked.

    Args:
        settings: see `settings_of`.
        where: the folder, for messages.
    """

    def __init__(self, settings: Mapping[str, Any], where: str):
        self._settings, self._where = settings, where

    def flag(self, key: str) -> bool:
        """True or false."""
        value: Any = self._settings.get(key)
        return bool(value) if value in (None, False, True) else self._wrong(key, "true or false")

    def number(self, key: str) -> float:
        """A positive number."""
        value: Any = self._settings.get(key)
        return value if _number(value) and value > 0 else self._wrong(key, "a positive number")

    def moments(self, mean: str, std: str) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each channel, float32 `[C]`, of one or three channels; a
        number without list is that of all."""
        found = []
        for key in (mean, std):
            value: Any = self._settings.get(key)
            numbers = list(value) if isinstance(value, list | tuple) else [value]
            if len(numbers) not in (1, 3) or not all(map(_number, numbers)):
                self._wrong(key, "one or three numbers")
            found.append(
                np.array(numbers if isinstance(value, list | tuple) else value, np.float32)
            )
        if not found[1].all():
            self._wrong(std, "numbers other than 0")
        widths = {array.size for array in found if array.ndim}
        if len(widths) > 1:
            self._wrong(std, f"as many numbers as {mean}")
        width = widths.pop() if widths else 3
        return np.broadcast_to(found[0], (width,)), np.broadcast_to(found[1], (width,))

    def filter(self, key: str) -> int:
        """Pillow's number of a filter, from that number or its name."""
        value: Any = self._settings.get(key)
        if isinstance(value, str) and value in FILTERS:
            return FILTERS[value]
        if isinstance(value, int) and not isinstance(value, bool) and value in FILTERS.values():
            return value
        return self._wrong(key, f"one of {FILTERS}")

    def sides(self, key: str, square: bool = True) -> dict[str, int]:
        """A size as a mapping: a number is both sides (or the shorter), a list height and width."""
        value: Any = self._settings.get(key)
        if isinstance(value, int):
            value = {"height": value, "width": value} if square else {"shortest_edge": value}
        elif isinstance(value, list | tuple) and len(value) == 2:
            value = {"height": value[0], "width": value[1]}
        if not isinstance(value, dict) or not all(
            isinstance(x, int) and not isinstance(x, bool) and x > 0 for x in value.values()
        ):
            self._wrong(key, "sides in pixels")
        return dict(value)

    def crop(self, key: str = "crop_size") -> tuple[int, int]:
        """Height and width of a window."""
        size = self.sides(key)
        if set(size) != {"height", "width"}:
            self._wrong(key, "a height and a width")
        return size["height"], size["width"]

    def resize(self) -> Resize:
        """The rule that the keys of `size` choose."""
        size = self.sides("size", self.flag("default_to_square"))
        for rule, keys in _RULES.items():
            if set(size) == set(keys):
                return Resize(rule, (size[keys[0]], size[keys[-1]]), self.filter("resample"))
        return self._wrong(
            "size",
            "height and width, shortest_edge (and longest_edge), or max_height and max_width",
        )

    def fitting(self) -> tuple[Resize | None, tuple[Crop, ...]]:
        """How a processor of transformers makes sizes equal."""
        crops: tuple[Crop, ...] = ()
        resize = self.resize() if self.flag("do_resize") else None
        if resize and "crop_pct" in self._settings:  # ConvNeXT: the margin is in the resizing
            side = resize.size[0]
            if resize.rule != "shortest":
                self._wrong("size", "a shortest_edge")
            if side < 384:
                larger = int(side / self.number("crop_pct"))
                resize = Resize("shortest", (larger, larger), resize.filter)
                crops = (Crop((side, side), "transformers"),)
            else:
                resize = Resize("exact", (side, side), resize.filter)
        if self.flag("do_center_crop"):
            crops = (*crops, Crop(self.crop(), "transformers"))
        return resize, crops

    def timm_fitting(self) -> tuple[Resize, tuple[Crop, ...]]:
        """How timm's evaluation transform makes sizes equal."""
        size = self._settings["input_size"]
        if not (
            isinstance(size, list | tuple)
            and len(size) == 3
            and all(isinstance(x, int) and x > 0 for x in size)
        ):
            self._wrong("input_size", "channels, height and width")
        height, width = window = (size[1], size[2])
        mode, kind = self._settings["crop_mode"], self.filter("interpolation")
        larger = tuple(math.floor(side / self.number("crop_pct")) for side in window)
        scaled = (larger[0], larger[1])
        if mode == "squash":
            return Resize("exact", scaled, kind), (Crop(window, "timm"),)
        if mode == "border":
            mean = self._settings["mean"]
            if not isinstance(mean, list | tuple) or not all(map(_number, mean)):
                self._wrong("mean", "a number for each channel")
            fill = tuple(round(255 * value) for value in mean)
            return Resize("contain", scaled, kind), (Crop(window, "timm", fill),)
        if mode != "center":
            self._wrong("crop_mode", "center, squash or border")
        rule = "shortest" if scaled[0] == scaled[1] else "cover"
        return Resize(rule, scaled, kind), (Crop(window, "timm"),)

    def _wrong(self, key: str, expected: str) -> Any:
        value: Any = self._settings.get(key)
        raise InputError(f"{self._where}: {key} is {value!r}, expected {expected}")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
