"""A folder of the user's images, one directory per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from zoo.data.assemble import malformed
from zoo.data.decode import decode, hidden, image_files, read_image
from zoo.data.info import IN_MEMORY, SPLITS, Batch, Data, Info, normalised
from zoo.data.split import digest, divide, fingerprint, split_name
from zoo.data.text import is_folder
from zoo.errors import InputError


class ImageFiles:
    """A split of image files, decoded when rows are read unless they are cached.

    Args:
        paths: of every file.
        label: class of every file, int32 `[N]`.
        cache: decoded files, uint8 `[N, S, S, C]`, or None.
        info: of the whole source.
    """

    def __init__(
        self, paths: Sequence[Path], label: np.ndarray, cache: np.ndarray | None, info: Info
    ):
        self.num_classes = info.num_classes
        self._paths, self._label, self._cache, self._info = paths, label, cache, info

    def __len__(self) -> int:
        return len(self._paths)

    def rows(self, indices: np.ndarray) -> Batch:
        """See `Split.rows`."""
        if self._cache is not None:
            pixels = self._cache.take(indices, axis=0)
        else:
            size, _, channels = self._info.inputs["image"][0]
            pixels = np.stack([read_image(self._paths[i], size, channels) for i in indices])
        return {"image": _scale(pixels, self._info), "label": self._label.take(indices)}

    def names(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """See `Split.names`."""
        return [str(self._paths[int(i)]) for i in indices]

    def labels(self) -> np.ndarray:
        """See `Split.labels`."""
        return self._label


def _scale(pixels: np.ndarray, info: Info) -> np.ndarray:
    return normalised(pixels, info.statistics["mean"], info.statistics["std"])


@dataclass(frozen=True)
class ImageFolder:
    """Images in one directory per class, which may lie below train, validation and test folders.

    Files outside the class directories are ignored.
    The raw record that decides a split is the file's bytes. One pass at opening reads and decodes
    every file; what fits into 256 MiB stays decoded in memory.
    """

    path: str
    """The folder."""
    image_size: int = 32
    """Height and width in pixels: the shorter side is scaled, the longer one cropped."""
    channels: Literal[1, 3] = 3
    """1 for gray, 3 for RGB."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What an unreadable image does: stop with its name, or be left out and counted."""

    def open(self) -> Data:
        """The splits, normalised per channel.

        Raises:
            InputError: no such folder, fewer than two classes, an unreadable image, an empty split.
        """
        files = self._files()
        names = sorted({label for _, label, _ in files})
        if len(names) < 2:
            raise InputError(
                f"{self.path}: expected a folder per class with images inside, found "
                f"{len(names)} class{'es' * (not names)} {', '.join(names)}"
            )
        shape = (self.image_size, self.image_size, self.channels)
        keep = len(files) * int(np.prod(shape)) * 4 <= IN_MEMORY
        kept, digests, pixels, sums, problems = [], [], [], [], []
        for path, label, split in files:
            try:
                content = path.read_bytes()
                image = decode(content, self.image_size, self.channels)
            except (OSError, ValueError) as error:
                problems.append(f"{path}: {error}")
                continue
            flat = image.reshape(-1, self.channels).astype(np.int64)
            sums.append((flat.sum(0), (flat**2).sum(0)))
            kept.append((path, label, split))
            digests.append(digest(content))
            if keep:
                pixels.append(image)
        skipped = malformed(str(self.path), problems, self.on_bad)
        if not kept:
            raise InputError(f"{self.path}: no readable image")
        splits = divide(digests, str(self.path), [split for _, _, split in kept])
        label = np.array([names.index(name) for _, name, _ in kept], np.int32)
        train = splits["train"]
        total = np.array(sums)[train].sum(0) / (len(train) * self.image_size**2)
        std = np.sqrt(np.maximum(total[1] - total[0] ** 2, 0))
        info = Info(
            inputs={"image": (shape, "float32")},
            label=((), "int32"),
            num_classes=len(names),
            class_names=tuple(names),
            class_counts=tuple(np.bincount(label[train], minlength=len(names)).tolist()),
            statistics={
                "mean": tuple(total[0].tolist()),
                "std": tuple(np.where(std <= 1e-6, 1.0, std).tolist()),
            },
            counts={name: len(members) for name, members in splits.items()},
            skipped=skipped,
            fingerprint=fingerprint(splits, digests, label, shape),
        )
        opened = {}
        for name in SPLITS:
            members = splits[name]
            cache = np.stack([pixels[i] for i in members]) if keep else None
            paths = [kept[i][0] for i in members]
            opened[name] = ImageFiles(paths, label[members], cache, info)
        return Data(opened, info)

    def _files(self) -> list[tuple[Path, str, str | None]]:
        """Every file with its class and the split that its folder states."""
        root = Path(self.path)
        if self.image_size < 1:
            raise InputError(f"image_size must be at least 1, not {self.image_size}")
        if not is_folder(self.path):
            raise InputError(f"{root}: no such folder")
        folders = sorted(p for p in root.iterdir() if p.is_dir() and not hidden(p, root))
        stated = [split_name(folder.name) for folder in folders]
        parts = list(zip(folders, stated, strict=True))
        if "train" not in stated or (None in stated and {*stated} == {"train", None}):
            parts = [(root, None)]  # at most a class that is called train
        elif None in stated:
            strange = ", ".join(f.name for f, name in parts if name is None)
            raise InputError(f"{root}: beside train and test folders there is: {strange}")
        found = []
        for part, split in parts:
            for folder in sorted(p for p in part.iterdir() if p.is_dir() and not hidden(p, part)):
                for file in sorted(p for p in folder.rglob("*") if p.is_file()):
                    if not hidden(file, folder):
                        found.append((file, folder.name, split))
        return found

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """Image files, and folders of them, prepared as in training.

        Raises:
            InputError: a file that is missing or unreadable.
        """
        size, _, channels = info.inputs["image"][0]
        files = [file for text in inputs for file in image_files(text)]
        if not files:
            raise InputError("no image was given")
        pixels = np.stack([read_image(file, size, channels) for file in files])
        return [str(file) for file in files], {"image": _scale(pixels, info)}
