"""The user's own text files, for language modelling."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.data.decode import hidden
from zoo.data.info import Batch, Data, Info
from zoo.data.readers import read_bytes
from zoo.data.split import split_name
from zoo.data.text import decode_bytes, is_file, is_folder
from zoo.data.windows import encode_windows, open_corpus
from zoo.errors import InputError

BLOCK = 4096


@dataclass(frozen=True)
class TextFiles:
    """The user's own text for language modelling, byte by byte.

    The raw record that decides a split is a file's bytes (with `block`, a block's). Files that lie
    in, or all bear in their names, train, validation (valid, val) and test belong there.
    """

    path: str
    """A file, a folder (with all below it) or a pattern such as `books/*.txt`."""
    length: int = 128
    """Bytes of one example."""
    block: int = 0
    """Cut files at line ends into blocks of at least so many bytes; 0: whole (one file: 4096)."""
    evaluation_windows: int = 0
    """At most so many examples in validation and in test, evenly spaced; 0 keeps all."""

    def open(self) -> Data:
        """The splits.

        Raises:
            InputError: no such file, no text, an empty split.
        """
        root = Path(self.path)
        if is_folder(self.path):
            paths = sorted(p for p in root.rglob("*") if p.is_file() and not hidden(p, root))
        elif is_file(self.path):
            paths = [root]
        else:
            paths = sorted(
                p for p in map(Path, glob.glob(self.path, recursive=True)) if p.is_file()
            )
        files = [(str(path), read_bytes(str(path))) for path in paths]
        files = [(name, content) for name, content in files if content]
        if not files:
            raise InputError(f"{self.path}: no such file, or no text in it")
        given = [_stated(Path(name), root) for name, _ in files]
        given = given if all(given) and "train" in given else [None] * len(files)
        block = self.block or (BLOCK if len(files) == 1 else 0)
        pieces = [
            (piece, split)
            for file, split in zip(files, given, strict=True)
            for piece in _blocks(*file, block)
        ]
        return open_corpus(
            self.path,
            [piece for piece, _ in pieces],
            self.length,
            self.evaluation_windows,
            [split for _, split in pieces],
        )

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """See `encode_windows`."""
        return encode_windows(inputs, info)

    def decode(self, ids: Sequence[int] | np.ndarray, info: Info) -> str:
        """Text of byte ids."""
        return decode_bytes(ids)


def _stated(path: Path, root: Path) -> str | None:
    words = re.split(r"[._-]", path.name)
    if path.is_relative_to(root) and path != root:
        words = [*path.relative_to(root).parts[:-1][:1], *words]
    return next((name for name in map(split_name, words) if name), None)


def _blocks(name: str, content: bytes, block: int) -> list[tuple[str, bytes]]:
    if not block:
        return [(name, content)]
    found, start = [], 0
    while start < len(content):
        end = content.find(b"\n", start + block - 1) + 1 or len(content)
        found.append((f"{name} from byte {start}", content[start:end]))
        start = end
    return found
