"""Splits of tokenized examples of which one may take several rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.info import Batch
from zoo.data.split import digest, fingerprint, split_name
from zoo.data.text import is_folder
from zoo.errors import InputError

KEYS = ("input_ids", "attention_mask", "token_type_ids")


class TokenRows:
    """Rows of tokens in memory, without their padding, and the example that each belongs to.

    Args:
        tokenizer: see `zoo.load_tokenizer`; says how rows are padded, and which keys they have.
        examples: what the rows come from; each has a `name`.
        owners: number of the example of every row, ascending.
        tokens: of every row, see `tokens_of`.
        max_length: tokens of a row at most; all are padded to it.
    """

    num_classes: int | None = None

    def __init__(
        self,
        tokenizer: Any,
        examples: Sequence[Any],
        owners: Sequence[int],
        tokens: Sequence[np.ndarray],
        max_length: int,
    ):
        self.examples = list(examples)
        self.example_of = np.array(owners, np.int32)
        self.keys = [key for key in KEYS if key in tokenizer.model_input_names]
        self._length, self._pad = max_length, tokenizer.pad_token_id or 0
        self._bounds = np.cumsum([0, *map(len, tokens)])
        self._ids, self._kinds = np.concatenate([*tokens, np.zeros((0, 2), np.int32)]).T.copy()
        self._kept = np.arange(len(owners))

    def __len__(self) -> int:
        return len(self.example_of)

    def place(self, row: int) -> slice:
        """Where the tokens of a row stand among those of all rows."""
        at = self._kept[row]
        return slice(self._bounds[at], self._bounds[at + 1])

    def rows(self, indices: np.ndarray) -> Batch:
        """See `Split.rows`."""
        indices = np.asarray(indices)
        found = {key: np.zeros((len(indices), self._length), np.int32) for key in self.keys}
        found["input_ids"][:] = self._pad
        for at, row in enumerate(indices):
            part = self.place(row)
            size = part.stop - part.start
            found["input_ids"][at, :size] = self._ids[part]
            for key, value in (("attention_mask", 1), ("token_type_ids", self._kinds[part])):
                if key in found:
                    found[key][at, :size] = value
        return found | {"label": self.label(indices)}

    def label(self, rows: np.ndarray) -> np.ndarray:
        """The labels of some rows, int32 `[n, ...]`."""
        raise NotImplementedError

    def names(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """See `Split.names`."""
        return [self.examples[self.example_of[int(row)]].name for row in indices]

    def labels(self) -> None:
        """Rows have no single class."""
        return None

    def leave_out(self, examples: Sequence[int]) -> None:
        """Removes examples and their rows."""
        gone = np.zeros(len(self.examples), bool)
        gone[list(examples)] = True
        stay = ~gone[self.example_of]
        self.examples = [one for one, left in zip(self.examples, gone, strict=True) if not left]
        self._kept = self._kept[stay]
        self.example_of = (np.cumsum(~gone) - 1)[self.example_of[stay]].astype(np.int32)

    def digests(self) -> list[bytes]:
        """SHA-256 of the tokens of every example."""
        found = [bytearray() for _ in self.examples]
        for row, owner in enumerate(self.example_of):
            found[owner] += self._ids[self.place(row)].tobytes() + b"\0"
        return [digest(bytes(tokens)) for tokens in found]


def tokens_of(encoding: Any) -> np.ndarray:
    """Id and type of every token of a row, int32 `[n, 2]`: what is kept of the tokenizers
    library's result, which takes far more memory."""
    return np.array([encoding.ids, encoding.type_ids], np.int32).T


def split_files(path: str, endings: tuple[str, ...]) -> list[tuple[str, str | None]]:
    """The files of a source and the split that each is: one file, which is cut by content, or the
    files of a folder, whose names begin with train, validation (dev) or test.

    Args:
        path: a file or a folder.
        endings: lower case; of files in a folder, others are left aside. None given takes all.

    Raises:
        InputError: a folder without training file, or with a file of another name.
    """
    if not is_folder(path):
        return [(path, None)]
    files = sorted(p for p in Path(path).iterdir() if p.is_file() and not p.name.startswith("."))
    files = [p for p in files if not endings or p.suffix.lower() in endings]
    found = [(str(file), split_name(re.split(r"[._-]", file.name)[0])) for file in files]
    for file, split in found:
        if split is None:
            raise InputError(f"{file}: its name must begin with train, validation (dev) or test")
    if "train" not in [split for _, split in found]:
        raise InputError(f"{path}: no file train{' or train'.join(endings)}")
    return found


def fingerprint_of(splits: dict[str, Any], labels: list[Any], form: object) -> str:
    """SHA-256 over every split's tokens and labels in order.

    Args:
        splits: `TokenRows` by name.
        labels: a JSON-able value per example, split after split.
        form: how an example becomes rows.
    """
    members, at = {}, 0
    for name, split in splits.items():
        members[name] = np.arange(at, at + len(split.examples))
        at += len(split.examples)
    digests = [one for split in splits.values() for one in split.digests()]
    return fingerprint(members, digests, labels, form)
