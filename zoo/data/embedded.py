"""Real data inside scikit-learn's wheel: no download.

The raw record that decides a split: for digits the 64 pixels as unsigned bytes in C order, for
the tables the features of the row as little-endian float64 in C order. Labels take no part.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zoo.data.assemble import Kind, assemble
from zoo.data.columns import encode_table
from zoo.data.decode import image_files, read_image
from zoo.data.info import Batch, Data, Info, normalised
from zoo.data.split import digest
from zoo.errors import InputError


def _load(name: str) -> Any:
    from sklearn import datasets

    return getattr(datasets, f"load_{name}")()


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Bilinear resizing with pixel centres at half integers, borders repeated.

    Args:
        images: `[N, H, W]`.
        size: the new height and width.

    Returns:
        float32 `[N, size, size]`.
    """
    images = images.astype(np.float32)
    for axis in (1, 2):
        old = images.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        low = np.minimum(at.astype(np.int64), max(old - 2, 0))
        high = np.minimum(low + 1, old - 1)
        share = (at - low).astype(np.float32)
        share = share[:, None] if axis == 1 else share
        images = images.take(low, axis) * (1 - share) + images.take(high, axis) * share
    return images


@dataclass(frozen=True)
class Digits:
    """1,797 handwritten digits of 8x8 pixels (UCI optdigits test set), values 0 to 16."""

    view: Literal["image", "features", "rows"] = "image"
    """Image [size, size, 1], one vector [size * size], or a sequence of rows [size, size]."""
    size: int = 8
    """Height and width; other than 8, the images are resized bilinearly."""
    target: Literal["digit", "parity"] = "digit"
    """Ten classes, or even (0) against odd (1)."""

    def __post_init__(self):
        if self.size < 1:
            raise InputError(f"digits: size must be at least 1, not {self.size}")

    def open(self) -> Data:
        """The splits: 1,098 train, 345 validation, 354 test."""
        bunch = _load("digits")
        pixels = bunch.images.astype(np.uint8)
        key, x = self._view(pixels)
        parity = self.target == "parity"
        return assemble(
            "digits",
            {key: x},
            bunch.target % 2 if parity else bunch.target,
            "binary" if parity else "classification",
            [digest(image.tobytes()) for image in pixels],
            lambda i: f"digits row {i}",
            class_names=("even", "odd") if parity else [str(i) for i in range(10)],
            normalise=key,
            each="all",
        )

    def _view(self, pixels: np.ndarray) -> tuple[str, np.ndarray]:
        x = pixels if self.size == 8 else resize(pixels, self.size)
        x = x.astype(np.float32)
        if self.view == "image":
            return "image", x[..., None]
        return "features", x if self.view == "rows" else x.reshape(len(x), -1)

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """Images (bright ink on black, made gray and 8x8), or CSV files of 64 values a row.

        Raises:
            InputError: a file that is missing or unreadable, a row without 64 values of 0 to 16.
        """
        names: list[str] = []
        pixels: list[np.ndarray] = []
        for text in inputs:
            if Path(text).suffix.lower() == ".csv":
                for name, values in _csv_pixels(Path(text)):
                    names.append(name)
                    pixels.append(values.reshape(8, 8))
                continue
            for path in image_files(text):
                names.append(str(path))
                pixels.append(read_image(path, 8, 1)[..., 0].astype(np.float32) * (16 / 255))
        if not names:
            raise InputError("digits: nothing to predict in the files given")
        key, x = self._view(np.stack(pixels))
        return names, {key: normalised(x, info.statistics["mean"], info.statistics["std"])}


def _csv_pixels(path: Path) -> list[tuple[str, np.ndarray]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    found = []
    for number, cells in enumerate(csv.reader(lines), 1):
        try:
            values = np.array([float(cell) for cell in cells], np.float32)
        except ValueError:
            if number == 1:  # a header
                continue
            raise InputError(f"{path}:{number}: not a row of numbers") from None
        if values.shape != (64,) or not ((values >= 0) & (values <= 16)).all():
            raise InputError(f"{path}:{number}: expected 64 values from 0 to 16 (8x8 pixels)")
        found.append((f"{path}:{number}", values))
    return found


def _open_table(name: str, kind: Kind, columns: int | None = None) -> Data:
    bunch = _load(name)
    x = np.ascontiguousarray(bunch.data, "<f8")
    features = [str(f) for f in bunch.feature_names]
    records = [digest(row.tobytes()) for row in x]
    if columns is not None:
        if not 1 <= columns <= x.shape[1]:
            raise InputError(f"{name}: columns must be from 1 to {x.shape[1]}, not {columns}")
        x, features = x[:, :columns], features[:columns]
    return assemble(
        name,
        {"features": x},
        bunch.target,
        kind,
        records,
        lambda i: f"{name} row {i}",
        class_names=() if kind == "regression" else [str(c) for c in bunch.target_names],
        normalise="features",
        columns={"inputs": [{"name": f, "type": "numeric"} for f in features]},
    )


@dataclass(frozen=True)
class BreastCancer:
    """569 breast tumours (Wisconsin diagnostic), 30 measurements, malignant (0) or benign (1)."""

    columns: int | None = None
    """Only the first so many measurements; None for all 30."""

    def open(self) -> Data:
        """The splits, features standardised."""
        return _open_table("breast_cancer", "binary", self.columns)

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """Tables (CSV, JSON lines or Parquet) with the measurements' columns; see `Csv`."""
        return encode_table(inputs, info)


@dataclass(frozen=True)
class Wine:
    """178 wines of three growers, 13 chemical measurements."""

    def open(self) -> Data:
        """The splits, features standardised."""
        return _open_table("wine", "classification")

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """Tables (CSV, JSON lines or Parquet) with the measurements' columns; see `Csv`."""
        return encode_table(inputs, info)


@dataclass(frozen=True)
class Diabetes:
    """442 diabetes patients, 10 measurements; the disease's progression after a year."""

    def open(self) -> Data:
        """The splits, features and target standardised."""
        return _open_table("diabetes", "regression")

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """Tables (CSV, JSON lines or Parquet) with the measurements' columns; see `Csv`."""
        return encode_table(inputs, info)
