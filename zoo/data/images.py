"""A folder of the user's images, one directory per class."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from zoo.data.assemble import malformed
from zoo.data.decode import hidden, image_files
from zoo.data.image_files import (
    NO_PROCESSOR,
    OWN_SIZE,
    ImageFiles,
    Own,
    attempts,
    checked,
    exported_processor,
    fitted,
    listed,
    look,
    named_processor,
    prepared_as,
)
from zoo.data.info import IN_MEMORY, SPLITS, Batch, Data, Info
from zoo.data.resizing import Filter
from zoo.data.split import divide, fingerprint, split_name
from zoo.data.text import is_folder
from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.data.processor import Processor


@dataclass(frozen=True)
class ImageFolder:
    """Images in one directory per class, which may lie below train, validation and test folders.

    Files outside the class directories are ignored.
    The raw record that decides a split is the file's bytes. One pass at opening reads and decodes
    every file, in threads; what fits into 256 MiB stays decoded in memory.
    """

    path: str
    """The folder."""
    image_size: int = 0
    """Height and width in pixels; 0 is the processor's, or 32. Without processor the shorter side
    is scaled, the longer one cropped."""
    channels: Literal[0, 1, 3] = 0
    """1 for gray, 3 for RGB; 0 is the processor's, or 3."""
    processor: str = ""
    """Folder or hub name of a pretrained model whose image processor prepares the images; empty is
    that of init_from, and without one, as with none, the images' own mean and deviation do."""
    interpolation: Filter = ""
    """Filter of the processor's scaling; empty is its own."""
    crop_pct: float = 0.0
    """Side of the processor's crop over the shorter side of the scaled image; 0 is its own."""
    mean: tuple[float, ...] = ()
    """What the processor subtracts from each channel, of values from 0 to 1; empty is its own."""
    std: tuple[float, ...] = ()
    """What it then divides by; empty is its own."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What an unreadable image does, in training, evaluation and prediction: stop with its name, or
    be left out and counted."""

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
        prepare, shape = self._preparation()
        keep = len(files) * int(np.prod(shape)) * 4 <= IN_MEMORY
        seen = look([file for file, _, _ in files], prepare, keep)
        problems = [text for text in seen if isinstance(text, str)]
        kept = [file for file, one in zip(files, seen, strict=True) if not isinstance(one, str)]
        records = [one for one in seen if not isinstance(one, str)]
        digests = [one[0] for one in records]
        skipped = malformed(str(self.path), problems, self.on_bad)
        if not kept:
            raise InputError(f"{self.path}: no readable image")
        splits = divide(digests, str(self.path), [split for _, _, split in kept])
        label = np.array([names.index(name) for _, name, _ in kept], np.int32)
        train = splits["train"]
        prepare, known = fitted(prepare, [records[i] for i in train])
        form: Any = [shape, *known["columns"].values()] if "columns" in known else shape
        info = Info(
            inputs={"image": (shape, "float32")},
            label=((), "int32"),
            num_classes=len(names),
            class_names=tuple(names),
            class_counts=tuple(np.bincount(label[train], minlength=len(names)).tolist()),
            counts={name: len(members) for name, members in splits.items()},
            skipped=skipped,
            fingerprint=fingerprint(splits, digests, label, form),
            **known,
        )
        opened = {}
        for name in SPLITS:
            members = splits[name]
            cache = np.stack([records[i][2] for i in members]) if keep else None
            paths = [kept[i][0] for i in members]
            opened[name] = ImageFiles(paths, label[members], cache, prepare, len(names))
        return Data(opened, info)

    def _preparation(self) -> tuple[Own | Processor, tuple[int, int, int]]:
        """What prepares the images, and the shape of one."""
        if self.processor not in ("", NO_PROCESSOR):
            return checked(self.prepared(), self.processor, self.channels)
        own = ("interpolation", "crop_pct", "mean", "std")
        if given := [name for name in own if getattr(self, name)]:
            raise InputError(f"{', '.join(given)}: for a processor, and there is none")
        prepare = Own(self.image_size or OWN_SIZE, self.channels or 3)
        return prepare, prepare.shape

    def prepared(self) -> Processor:
        """The processor that is named, with the values that are given here.

        Raises:
            InputError: no such folder, nothing in it that says how images are prepared, or values
                that cannot be.
        """
        return named_processor(
            self.processor, self.image_size, self.interpolation, self.crop_pct, self.mean, self.std
        )

    def image_processor(self, info: Info) -> Processor:
        """What prepares the images, for the folder of an exported model."""
        return exported_processor(info)

    def _files(self) -> list[tuple[Path, str, str | None]]:
        """Every file with its class and the split that its folder states."""
        root = Path(self.path)
        if self.image_size < 0:
            raise InputError(f"image_size must be at least 0, not {self.image_size}")
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
        """Image files, and folders of them, prepared as in training; with `on_bad` skip a warning
        names those that are left out.

        Raises:
            InputError: files that are missing or unreadable, each named; or none that is readable.
        """
        prepare = prepared_as(info)
        files = [file for text in inputs for file in image_files(text)]
        if not files:
            raise InputError("no image was given")
        found = attempts(files, prepare.decode)
        problems = [text for text in found if isinstance(text, str)]
        if problems and (self.on_bad == "stop" or len(problems) == len(files)):
            raise InputError(listed(problems))
        if problems:
            told = f"{len(problems)} of {len(files)} images skipped:\n  {listed(problems)}"
            warnings.warn(told, stacklevel=2)
        names, pixels = zip(
            *((str(file), one) for file, one in zip(files, found, strict=True)
              if not isinstance(one, str)),
            strict=True,
        )  # fmt: skip
        return list(names), {"image": prepare.scale(np.stack(pixels))}
