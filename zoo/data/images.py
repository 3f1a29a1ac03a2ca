"""A folder of the user's images, one directory per class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from zoo.data.assemble import malformed
from zoo.data.decode import decode, eight_bits, hidden, image_files, in_threads, open_picture
from zoo.data.info import IN_MEMORY, SPLITS, Batch, Data, Info, normalised
from zoo.data.split import digest, divide, fingerprint, split_name
from zoo.data.text import is_folder
from zoo.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

    from zoo.data.processor import Processor


@dataclass(frozen=True)
class _Own:
    """Pictures as this source prepares them itself; a `Processor` has the same methods."""

    size: int
    channels: int
    mean: Sequence[float] = ()
    std: Sequence[float] = ()

    def decode(self, content: bytes) -> np.ndarray:
        return decode(content, self.size, self.channels)

    def picture(self, content: bytes) -> Image:
        return eight_bits(open_picture(content)).convert("RGB" if self.channels == 3 else "L")

    def scale(self, pixels: np.ndarray) -> np.ndarray:
        return normalised(pixels, self.mean, self.std)


class ImageFiles:
    """A split of image files, decoded in threads when rows are read unless they are cached.

    Args:
        paths: of every file.
        label: class of every file, int32 `[N]`.
        cache: decoded files, uint8 `[N, H, W, C]`, or None.
        prepare: how contents become pixels, and pixels inputs.
        num_classes: as in `Info`.
    """

    pictures = True

    def __init__(
        self,
        paths: Sequence[Path],
        label: np.ndarray,
        cache: np.ndarray | None,
        prepare: _Own | Processor,
        num_classes: int | None,
    ):
        self.num_classes = num_classes
        self._paths, self._label, self._cache, self._prepare = paths, label, cache, prepare

    def __len__(self) -> int:
        return len(self._paths)

    def rows(self, indices: np.ndarray) -> Batch:
        """See `Split.rows`."""
        if self._cache is not None:
            pixels = self._cache.take(indices, axis=0)
        else:
            pixels = np.stack(_read([self._paths[i] for i in indices], self._prepare.decode))
        return {"image": self._prepare.scale(pixels), "label": self._label.take(indices)}

    def changed(
        self, indices: np.ndarray, change: Callable[[int, Image], np.ndarray], whole: bool
    ) -> Batch:
        """See `Pictures.changed`."""
        from PIL import Image as pil

        def one(content: bytes, position: int) -> np.ndarray:
            if whole:
                return change(position, self._prepare.picture(content))
            return change(position, _of_array(pil, self._prepare.decode(content)))

        if self._cache is None or whole:
            found = _read([self._paths[i] for i in indices], one, numbered=True)
        else:
            pixels = self._cache.take(indices, axis=0)
            found = in_threads(lambda i: change(i, _of_array(pil, pixels[i])), range(len(pixels)))
        pixels = self._prepare.scale(np.stack(found))
        return {"image": pixels, "label": self._label.take(indices)}

    def names(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """See `Split.names`."""
        return [str(self._paths[int(i)]) for i in indices]

    def labels(self) -> np.ndarray:
        """See `Split.labels`."""
        return self._label


def _of_array(pil: Any, pixels: np.ndarray) -> Image:
    return pil.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _read(paths: Sequence[Path], function: Callable[..., Any], numbered: bool = False) -> list[Any]:
    """`function(content)` or `function(content, position)` of every file, in threads.

    Raises:
        InputError: files that are missing or unreadable, each named.
    """

    def attempt(position: int) -> Any:
        try:
            content = paths[position].read_bytes()
            return function(content, position) if numbered else function(content)
        except (OSError, ValueError) as error:
            return f"{paths[position]}: {error}"

    found = in_threads(attempt, range(len(paths)))
    if problems := [text for text in found if isinstance(text, str)]:
        more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise InputError("\n  ".join(problems[:10]) + more)
    return found


def look(files: Sequence[Path], prepare: _Own | Processor, keep: bool) -> list[Any]:
    """Reads and decodes every file once, in threads.

    Returns:
        Of each file (SHA-256, sums of its pixels and of their squares, pixels where `keep`), or a
        line that says why it cannot be read.
    """

    def one(file: Path) -> tuple[Any, ...] | str:
        try:
            content = file.read_bytes()
            image = prepare.decode(content)
        except (OSError, ValueError) as error:
            return f"{file}: {error}"
        flat = image.reshape(-1, image.shape[-1]).astype(np.int64)
        total = (flat.sum(0), (flat**2).sum(0))
        return digest(content), total, image if keep else None

    return in_threads(one, files)


def preparation(
    image_size: int, channels: int, processor: str
) -> tuple[_Own | Processor, tuple[int, int, int]]:
    """What prepares images, and the shape of one: a pretrained model's processor, where one is
    named.

    Raises:
        InputError: a processor whose results differ in size.
    """
    if not processor:
        return _Own(image_size, channels), (image_size, image_size, channels)
    from zoo.data.processor import load_processor

    found = load_processor(processor)
    if found.shape is None:
        raise InputError(
            f"{processor}: its images differ in size, since it neither crops nor makes "
            "sides equal; a batch needs one size"
        )
    return found, found.shape


def fitted(
    prepare: _Own | Processor, train: Sequence[tuple[Any, ...]]
) -> tuple[_Own | Processor, dict[str, Any]]:
    """What prepares images, with the mean and deviation of the training images where it is our own,
    and what `Info` holds of it.

    Args:
        prepare: from `preparation`.
        train: what `look` gives of the training images.
    """
    if not isinstance(prepare, _Own):
        return prepare, {"columns": {"processor": prepare.name, "settings": prepare.settings}}
    sums, count = np.array([totals for _, totals, _ in train]).sum(0), len(train)
    mean = sums[0] / (count * prepare.size**2)
    std = np.sqrt(np.maximum(sums[1] / (count * prepare.size**2) - mean**2, 0))
    std = np.where(std <= 1e-6, 1.0, std)
    statistics = {"mean": tuple(mean.tolist()), "std": tuple(std.tolist())}
    return _Own(prepare.size, prepare.channels, **statistics), {"statistics": statistics}


def prepared_as(info: Info) -> _Own | Processor:
    """What prepared the images of these data."""
    if "processor" in info.columns:
        from zoo.data.processor import Processor

        return Processor(info.columns["processor"], dict(info.columns["settings"]))
    size, _, channels = info.inputs["image"][0]
    return _Own(size, channels, **info.statistics)


@dataclass(frozen=True)
class ImageFolder:
    """Images in one directory per class, which may lie below train, validation and test folders.

    Files outside the class directories are ignored.
    The raw record that decides a split is the file's bytes. One pass at opening reads and decodes
    every file, in threads; what fits into 256 MiB stays decoded in memory.
    """

    path: str
    """The folder."""
    image_size: int = 32
    """Height and width in pixels: the shorter side is scaled, the longer one cropped."""
    channels: Literal[1, 3] = 3
    """1 for gray, 3 for RGB."""
    processor: str = ""
    """Folder or hub name of a pretrained model whose image processor prepares the images, in place
    of image_size, channels and the mean and deviation of these images; empty for none."""
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
        prepare, shape = preparation(self.image_size, self.channels, self.processor)
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
        form: Any = shape
        if "columns" in known:
            form = [shape, *known["columns"].values()]
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
            InputError: files that are missing or unreadable, each named.
        """
        prepare = prepared_as(info)
        files = [file for text in inputs for file in image_files(text)]
        if not files:
            raise InputError("no image was given")
        pixels = np.stack(_read(files, prepare.decode))
        return [str(file) for file in files], {"image": prepare.scale(pixels)}
