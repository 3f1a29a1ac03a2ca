"""Image processors with other values, and in the other library's words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from zoo.data.processor import Processor
from zoo.data.processor_folder import TIMM, Reader
from zoo.data.resizing import FILTERS, Filter
from zoo.errors import InputError


def changed(
    processor: Processor,
    where: str,
    image_size: int = 0,
    interpolation: Filter = "",
    crop_pct: float = 0.0,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> Processor:
    """A processor with other values, by the same words for both libraries; what is empty stays.

    Args:
        processor: of transformers or timm.
        where: its folder, for messages.
        image_size: height and width of every result; margins keep their share.
        interpolation: Pillow's filter.
        crop_pct: side of the result over the shorter side of the scaled picture it is cut from.
        mean, std: of each channel, whose values are from 0 to 1.

    Raises:
        InputError: values that cannot be, or that this processor has no setting for.
    """
    if not (any((image_size, interpolation, crop_pct)) or mean or std):
        return processor
    if image_size < 0 or not 0 <= crop_pct <= 1:
        raise InputError(
            f"{where}: image_size must not be negative and crop_pct be in 0..1, not {image_size} "
            f"and {crop_pct}"
        )
    if processor.name == TIMM:
        height, width = processor.shape[:2] if processor.shape else (0, 0)
        channels = len(mean) or processor.settings["input_size"][0]
        given: dict[str, Any] = {
            "input_size": [channels, image_size or height, image_size or width],
            "interpolation": interpolation, "crop_pct": crop_pct,
            "mean": list(mean), "std": list(std),
        }  # fmt: skip
        settings = processor.settings | {key: value for key, value in given.items() if value}
        return Processor(TIMM, settings, where)
    settings = dict(processor.settings)
    if interpolation:
        settings["resample"] = FILTERS[interpolation]
    for key, values in (("image_mean", mean), ("image_std", std)):
        if values:
            settings |= {key: list(values), "do_normalize": True}
    if image_size or crop_pct:
        settings |= _resized(processor, where, image_size, crop_pct)
    return Processor(processor.name, settings, where)


def _resized(processor: Processor, where: str, side: int, crop_pct: float) -> dict[str, Any]:
    """Settings of transformers that make squares of a side, or of the one there is."""
    settings, shape = processor.settings, processor.shape
    if not side:
        if shape is None or shape[0] != shape[1]:
            raise InputError(f"{where}: crop_pct needs an image_size; this one makes {shape}")
        side = shape[0]
    read = Reader(settings, where)
    window: dict[str, Any] = {"crop_size": {"height": side, "width": side}, "do_center_crop": True}
    cropped = bool(read.flag("do_center_crop"))
    if "crop_pct" in settings:  # ConvNeXT's own margin, which it has below 384 only
        if crop_pct and side >= 384:
            raise InputError(f"{where}: {processor.name} of {side} pixels has no crop_pct")
        own = {"crop_pct": crop_pct} if crop_pct else {}
        return (
            {"size": {"shortest_edge": side}, "do_resize": True} | own | (window if cropped else {})
        )
    if crop_pct:
        larger = math.floor(side / crop_pct)
        return {"size": {"shortest_edge": larger}, "do_resize": True} | window
    if not cropped:
        if shape is None:
            return {"size": {"shortest_edge": side}, "do_resize": True} | window
        return {"size": {"height": side, "width": side}, "do_resize": True}
    old = read.sides("size", read.flag("default_to_square"))
    scale = side / min(read.crop())
    return {"size": {key: max(1, round(value * scale)) for key, value in old.items()}} | window


def translated(processor: Processor, library: str) -> Processor | None:
    """The processor in the words of `transformers` or `timm`; None where that one cannot say it.

    A processor that comes from the other library may place its window one pixel beside, where what
    is cut off is an odd number of pixels, and timm does not turn pictures by their EXIF rotation.
    """
    if (processor.name == TIMM) == (library == TIMM):
        return processor
    return _to_transformers(processor) if processor.name == TIMM else _to_timm(processor)


def _to_transformers(processor: Processor) -> Processor | None:
    resize, crops = Reader(processor.settings, processor.name).timm_fitting()
    if resize.rule not in ("shortest", "exact"):
        return None
    height, width = resize.size
    exact = resize.rule == "exact"
    window = crops[-1].size
    return Processor(
        "ViTImageProcessor" if exact else "BitImageProcessor",
        {
            "size": {"height": height, "width": width} if exact else {"shortest_edge": height},
            "crop_size": {"height": window[0], "width": window[1]}, "do_center_crop": True,
            "resample": resize.filter, "do_convert_rgb": False,
            "image_mean": _numbers(processor, "mean"), "image_std": _numbers(processor, "std"),
        },
    )  # fmt: skip


def _to_timm(processor: Processor) -> Processor | None:
    read = Reader(processor.settings, processor.name)
    resize, crops = read.fitting()
    plain = read.flag("do_rescale") and math.isclose(read.number("rescale_factor"), 1 / 255)
    if resize is None or not plain or read.flag("include_top") or read.flag("rescale_offset"):
        return None
    height, width = crops[-1].size if crops else resize.size
    crop_pct = _share(height, resize.size[0])
    if resize.rule == "exact":
        same = crop_pct > 0 and math.floor(width / crop_pct) == resize.size[1]
    else:
        same = resize.rule == "shortest" and bool(crops) and height == width and crop_pct > 0
    if len(crops) > 1 or not same:
        return None
    mean, std = _numbers(processor, "image_mean"), _numbers(processor, "image_std")
    if not read.flag("do_normalize"):
        mean, std = [0.0] * len(mean), [1.0] * len(mean)
    return Processor(
        TIMM,
        {
            "input_size": [len(mean), height, width], "crop_pct": crop_pct,
            "crop_mode": "squash" if resize.rule == "exact" else "center",
            "interpolation": next(name for name, number in FILTERS.items()
                                  if number == resize.filter),
            "mean": mean, "std": std,
        },
    )  # fmt: skip


def _numbers(processor: Processor, key: str) -> list[float]:
    """A mean or deviation, a number for each channel."""
    value: Any = processor.settings[key]
    channels = processor.shape[2] if processor.shape else 3
    return list(value) if isinstance(value, list | tuple) else [value] * channels


def _share(side: int, larger: int) -> float:
    """The number by which timm divides a side to get the larger one; 0 where there is none."""
    share = side / larger
    for _ in range(4):
        if share <= 1 and math.floor(side / share) == larger:
            return share
        share = math.nextafter(share, 0)
    return 0.0
