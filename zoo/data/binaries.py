"""The two classic binary formats of image sets: MNIST's IDX and CIFAR-10's batches.

The raw record that decides between train and validation is the image's bytes as stored; the
official test file is the test split.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.data.assemble import assemble
from zoo.data.decode import image_files, read_image
from zoo.data.info import Batch, Data, Info, normalised
from zoo.data.readers import read_bytes
from zoo.data.split import digest
from zoo.data.text import is_file, is_folder
from zoo.errors import InputError

CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()
CIFAR_RECORD = 1 + 3 * 32 * 32


def read_idx(path: Path, axes: int) -> np.ndarray:
    """An IDX file of unsigned bytes, plain or gzip: `[N]` or `[N, H, W]`.

    Format: http://yann.lecun.com/exdb/mnist/ (zero, zero, type 8, number of axes, then each axis'
    length as big-endian int32, then the bytes).

    Raises:
        InputError: unreadable, another type, or not as long as its header says.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    head = 4 + 4 * axes
    expected = bytes([0, 0, 8, axes])
    if content[:4] != expected or len(content) < head:
        raise InputError(
            f"{path}: not an IDX file of unsigned bytes with {axes} axes: it starts with "
            f"{content[:4].hex()}, expected {expected.hex()}"
        )
    shape = np.frombuffer(content, ">i4", axes, 4).tolist()
    size = int(np.prod(shape, dtype=object))
    if min(shape) < 1 or len(content) - head != size:
        raise InputError(
            f"{path}: truncated or damaged: the header says {'x'.join(map(str, shape))} bytes, "
            f"the file holds {len(content) - head}"
        )
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def _idx_file(folder: Path, part: str, what: str, axes: int) -> Path:
    names = [f"{part}-{what}{dot}idx{axes}-ubyte{gz}" for dot in "-." for gz in ("", ".gz")]
    for name in names:
        if is_file(str(folder / name)):
            return folder / name
    raise InputError(f"{folder}: no file {names[0]} (or .gz) in this folder")


@dataclass(frozen=True)
class MnistIdx:
    """The four IDX files of MNIST, or of a set in its format (Fashion-MNIST, KMNIST)."""

    path: str
    """Folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-..., plain or .gz."""

    def open(self) -> Data:
        """The splits: t10k is test, of the rest about 1 in 5 is validation.

        Raises:
            InputError: a file is missing, damaged or does not fit its partner.
        """
        folder = Path(self.path)
        images, labels = [], []
        for part in ("train", "t10k"):
            file = _idx_file(folder, part, "images", 3)
            images.append(read_idx(file, 3))
            labels.append(read_idx(_idx_file(folder, part, "labels", 1), 1))
            if len(images[-1]) != len(labels[-1]):
                raise InputError(f"{file}: {len(images[-1])} images, {len(labels[-1])} labels")
        if images[0].shape[1:] != images[1].shape[1:]:
            raise InputError(f"{folder}: train and t10k images differ in size")
        cut = len(images[0])
        classes = int(max(label.max() for label in labels)) + 1
        return _assemble(
            str(folder),
            np.concatenate(images)[..., None],
            np.concatenate(labels),
            ["train"] * cut + ["test"] * len(images[1]),
            lambda i: (
                f"{folder}: train image {i}" if i < cut else f"{folder}: t10k image {i - cut}"
            ),
            [str(i) for i in range(classes)],
        )

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """Image files or folders of them (bright ink on black), gray, at the set's size."""
        return _encode(inputs, info)


@dataclass(frozen=True)
class Cifar10:
    """CIFAR-10's binary version: data_batch_1.bin ... data_batch_5.bin and test_batch.bin."""

    path: str
    """The folder cifar-10-batches-bin."""

    def open(self) -> Data:
        """The splits: test_batch is test, of the rest about 1 in 5 is validation.

        Raises:
            InputError: a file is missing, truncated or has a label above 9.
        """
        folder = Path(self.path)
        files = sorted(folder.glob("data_batch_*.bin")) if is_folder(self.path) else []
        test = folder / "test_batch.bin"
        if not files or not test.is_file():
            raise InputError(f"{folder}: data_batch_*.bin and test_batch.bin must lie here")
        parts, names, given = [], [], []
        for file in [*files, test]:
            content = read_bytes(str(file))
            if not content or len(content) % CIFAR_RECORD:
                raise InputError(
                    f"{file}: truncated or damaged: {len(content)} bytes are not a multiple of "
                    f"{CIFAR_RECORD} (label and 3x32x32 pixels)"
                )
            records = np.frombuffer(content, np.uint8).reshape(-1, CIFAR_RECORD)
            bad = np.flatnonzero(records[:, 0] > 9)
            if len(bad):
                raise InputError(f"{file}: record {bad[0]}: label {records[bad[0], 0]} is above 9")
            parts.append(records)
            names += [(file, i) for i in range(len(records))]
            given += ["test" if file == test else "train"] * len(records)
        records = np.concatenate(parts)
        meta = folder / "batches.meta.txt"
        classes = meta.read_text(encoding="utf-8").split() if meta.is_file() else CIFAR10
        images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return _assemble(
            str(folder),
            np.ascontiguousarray(images),
            records[:, 0],
            given,
            lambda i: f"{names[i][0]}: record {names[i][1]}",
            classes if len(classes) == 10 else CIFAR10,
            stored=records[:, 1:],
        )

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """Image files or folders of them, RGB, at 32x32."""
        return _encode(inputs, info)


def _assemble(what, images, labels, given, names, classes, stored=None) -> Data:
    stored = images if stored is None else stored
    return assemble(
        what,
        {"image": images},
        labels,
        "classification",
        [digest(image.tobytes()) for image in stored],
        names,
        given,
        class_names=classes,
        normalise="image",
    )


def _encode(inputs: list[str], info: Info) -> tuple[list[str], Batch]:
    height, width, channels = info.inputs["image"][0]
    if height != width:
        raise InputError(f"images of {height}x{width} pixels cannot be made from image files")
    files = [file for text in inputs for file in image_files(text)]
    if not files:
        raise InputError("no image was given")
    pixels = np.stack([read_image(file, height, channels) for file in files])
    mean, std = info.statistics["mean"], info.statistics["std"]
    return [str(file) for file in files], {"image": normalised(pixels, mean, std)}
