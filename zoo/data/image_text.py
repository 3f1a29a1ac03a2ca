"""The user's own pictures with texts: a table of file names and captions.

The raw record that decides a split is the picture's bytes, so that all texts of a picture are in
the same; unless a split column or the names of files and folders decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from zoo.data.assemble import malformed
from zoo.data.columns import texts
from zoo.data.image_files import (
    NO_PROCESSOR,
    OWN_SIZE,
    ImageFiles,
    Own,
    checked,
    exported_processor,
    fitted,
    look,
    named_processor,
    prepared_as,
)
from zoo.data.info import IN_MEMORY, SPLITS, Batch, Data, Info
from zoo.data.pairs import END, Pair, Pairs, pack_ended
from zoo.data.readers import READERS, Table, read_table
from zoo.data.split import divide, fingerprint, split_name
from zoo.data.text import is_folder
from zoo.data.tokenized import known, open_tokenizer, tokenize
from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.data.processor import Processor

SHORTEST = 4


@dataclass(frozen=True)
class _Row:
    """A line of a table: a picture and one of its texts."""

    file: Path
    text: str
    name: str
    split: str | None


@dataclass(frozen=True)
class ImageTextPairs:
    """Pictures with texts: a CSV, TSV, JSON-lines or Parquet file with a column of file names and
    one of captions, of which a cell may hold a list.

    File names are relative to the table's folder. A picture may stand in several rows. What fits
    into 256 MiB stays decoded in memory.
    """

    path: str
    """The table; or a folder that holds one, or tables named train, validation and test, or folders
    named so with a table each."""
    image: str = "image"
    """Column of the file name; a column file_name is taken too."""
    text: str = "text"
    """Column of the caption."""
    image_size: int = 0
    """Height and width in pixels; 0 is the processor's, or 32. Without processor the shorter side
    is scaled, the longer one cropped."""
    channels: Literal[0, 1, 3] = 0
    """1 for gray, 3 for RGB; 0 is the processor's, or 3."""
    processor: str = ""
    """Folder or hub name of a pretrained model whose image processor prepares the pictures; empty
    is that of init_from, and without one, as with none, their own mean and deviation do."""
    tokenizer: str = ""
    """Folder or hub name of the tokenizer; empty takes that of `init_from`, or without one the
    bytes of the texts, ended by id 256."""
    max_length: int = 77
    """Tokens of a text, special ones included; longer texts are cut."""
    split: str = ""
    """A column that says train, validation or test; a split that it never names is made by hash."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What a malformed row or an unreadable picture does: stop with its name, or be left out and
    counted."""

    def __post_init__(self):
        if self.max_length < SHORTEST:
            raise InputError(f"max_length is {self.max_length}; it must be {SHORTEST} or more")
        if self.image_size < 0:
            raise InputError(f"image_size must be at least 0, not {self.image_size}")
        if len({self.image, self.text, self.split}) < 3:
            raise InputError("image, text and split must be different columns")

    def open(self) -> Data:
        """The splits.

        Raises:
            InputError: no such file or column, malformed rows, unreadable pictures, an empty split.
        """
        problems: list[str] = []
        rows = [row for path, split in self._tables() for row in self._read(path, split, problems)]
        prepare, shape = self._preparation()
        files = list(dict.fromkeys(row.file for row in rows))
        keep = len(files) * int(np.prod(shape)) * 4 <= IN_MEMORY
        seen = dict(zip(files, look(files, prepare, keep), strict=True))
        problems += [
            f"{row.name}: {seen[row.file]}" for row in rows if isinstance(seen[row.file], str)
        ]
        skipped = malformed(self.path, problems, self.on_bad)
        rows = [row for row in rows if not isinstance(seen[row.file], str)]
        if not rows:
            raise InputError(f"{self.path}: no pair of a picture and a text")
        digests = [seen[row.file][0] for row in rows]
        splits = divide(digests, self.path, [row.split for row in rows])
        trained = dict.fromkeys(rows[i].file for i in splits["train"])
        prepare, stated = fitted(prepare, [seen[file] for file in trained])
        tokens, of_texts = self._tokens([row.text for row in rows])
        number = {one: i for i, one in enumerate(dict.fromkeys(digests))}
        image_of = np.array([number[one] for one in digests], np.int32)
        inputs = {"image": (shape, "float32")}
        inputs |= {key: (array.shape[1:], "int32") for key, array in tokens.items()}
        form = [shape, *stated.get("columns", {}).values(), self.max_length]
        ids = [row.tolist() for row in tokens["input_ids"]]
        info = Info(
            inputs=inputs,
            label=((), "int32"),
            counts={name: len(members) for name, members in splits.items()},
            skipped=skipped,
            fingerprint=fingerprint(splits, digests, ids, form),
            **stated,
            **of_texts,
        )
        opened = {}
        for name in SPLITS:
            members = splits[name]
            own = list(dict.fromkeys(rows[i].file for i in members))
            cache = np.stack([seen[file][2] for file in own]) if keep else None
            images = ImageFiles(own, np.zeros(len(own), np.int32), cache, prepare, None)
            opened[name] = _pairs(
                images, own, [rows[i] for i in members],
                {key: array[members] for key, array in tokens.items()}, image_of[members],
            )  # fmt: skip
        return Data(opened, info)

    def read(self, inputs: list[str], info: Info) -> Pairs:
        """Pairs to be looked at: tables, or folders of them, as for training.

        Raises:
            InputError: no such file or column, malformed rows; an unreadable picture is named when
                it is read.
        """
        problems: list[str] = []
        tables = [found for given in inputs for found in self._tables(given)]
        rows = [row for path, split in tables for row in self._read(path, split, problems)]
        malformed(", ".join(inputs), problems, "stop")
        if not rows:
            raise InputError(f"{', '.join(inputs)}: no pair of a picture and a text")
        files = list(dict.fromkeys(row.file for row in rows))
        images = ImageFiles(files, np.zeros(len(files), np.int32), None, prepared_as(info), None)
        place = {file: i for i, file in enumerate(files)}
        image_of = np.array([place[row.file] for row in rows])
        return _pairs(images, files, rows, self._tokens([row.text for row in rows])[0], image_of)

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """The rows of `read`, and their names."""
        split = self.read(inputs, info)
        every = np.arange(len(split))
        batch = split.rows(every)
        del batch["label"]
        return split.names(every), batch

    def _preparation(self) -> tuple[Own | Processor, tuple[int, int, int]]:
        """What prepares the pictures, and the shape of one."""
        if self.processor not in ("", NO_PROCESSOR):
            return checked(self.prepared(), self.processor, self.channels)
        prepare = Own(self.image_size or OWN_SIZE, self.channels or 3)
        return prepare, prepare.shape

    def prepared(self) -> Processor:
        """The processor that is named, of this size.

        Raises:
            InputError: no such folder, nothing in it that says how images are prepared, or a size
                that cannot be.
        """
        return named_processor(self.processor, self.image_size)

    def image_processor(self, info: Info) -> Processor:
        """What prepares the pictures, for the folder of an exported model."""
        return exported_processor(info)

    def _tokens(self, captions: list[str]) -> tuple[Batch, dict[str, Any]]:
        """Ids of the texts, and what `Info` holds of them."""
        if not self.tokenizer:
            tokens = pack_ended([text.encode() for text in captions], self.max_length)
            return tokens, {"vocab_size": END + 1, "max_length": self.max_length, "pad": 0}
        tokenizer = open_tokenizer(self.tokenizer)
        found = tokenize(tokenizer, captions, None, self.max_length)
        tokens = {key: found[key] for key in ("input_ids", "attention_mask") if key in found}
        return tokens, known(tokenizer, self.max_length)

    def _tables(self, path: str = "") -> list[tuple[str, str | None]]:
        """Every table with the split that its name states."""
        path = path or self.path
        if not is_folder(path):
            return [(path, None)]
        root = Path(path)
        inner = [folder for folder in sorted(root.iterdir()) if folder.is_dir()]
        found = [(file, split_name(file.stem)) for file in _in_folder(root)] + [
            (file, split) for folder in inner if (split := split_name(folder.name))
            for file in _in_folder(folder)
        ]  # fmt: skip
        if not found:
            raise InputError(f"{path}: no table ending in {', '.join(READERS)}")
        unnamed = [file for file, split in found if split is None]
        if unnamed and len(found) > 1:
            raise InputError(
                f"{unnamed[0]}: beside other tables, it must be named train, validation or test"
            )
        if not unnamed and "train" not in [split for _, split in found]:
            raise InputError(f"{path}: no table train with an ending of {', '.join(READERS)}")
        return [(str(file), split) for file, split in found]

    def _read(self, path: str, split: str | None, problems: list[str]) -> list[_Row]:
        """The rows of a table, one for each text; malformed ones go to the problems."""
        table = read_table(path, nested=True)
        image = self.image
        if image not in table.header and image == "image" and "file_name" in table.header:
            image = "file_name"
        table.require([name for name in (image, self.text, self.split) if name])
        bad: dict[int, str] = {}
        files = texts(table.column(image), image, bad)
        cells = table.column(self.text)
        captions = [_several(cell, self.text, i, bad) for i, cell in enumerate(cells)]
        splits = self._splits(table, split, bad)
        rows = [
            _Row(Path(path).parent / files[i], caption, table.names[i], splits[i])
            for i in range(len(files)) if i not in bad
            for caption in captions[i]
        ]  # fmt: skip
        table.keep(bad)
        problems += table.problems
        return rows

    def _splits(self, table: Table, split: str | None, bad: dict[int, str]) -> list[str | None]:
        if not self.split:
            return [split] * len(table.rows)
        found = []
        for i, cell in enumerate(table.column(self.split)):
            found.append(split_name(cell))
            if found[-1] is None:
                bad.setdefault(i, f"column {self.split!r}: {str(cell)[:80]!r} is no split")
        return found


def _pairs(
    images: ImageFiles, files: Sequence[Path], rows: Sequence[_Row], tokens: Batch,
    image_of: np.ndarray,
) -> Pairs:  # fmt: skip
    at = {file: i for i, file in enumerate(files)}
    place = np.array([at[row.file] for row in rows], np.int64)
    return Pairs(images, place, tokens, [Pair(row.name, row.text) for row in rows], image_of)


def _in_folder(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in READERS and path.is_file()
    )


def _several(cell: Any, column: str, row: int, bad: dict[int, str]) -> list[str]:
    """The texts of a cell, which may be a list of them."""
    cells = cell if isinstance(cell, list) else [cell]
    if not cells:
        bad.setdefault(row, f"column {column!r}: the value is missing")
    lacking: dict[int, str] = {}
    found = texts(cells, column, lacking)
    if lacking:
        bad.setdefault(row, next(iter(lacking.values())))
    return found
