"""The user's own texts with labels, in the tokens of a pretrained model.

The raw record that decides a split is the text, and its pair after 0x1f; unless a split column or
the names of the files decide.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zoo.data.assemble import Kind, assemble, malformed
from zoo.data.columns import check_classes, numbers, sorted_classes, texts
from zoo.data.info import Batch, Data, Info
from zoo.data.readers import READERS, Table, read_table
from zoo.data.split import digest, split_name
from zoo.data.text import is_folder, text_lines
from zoo.data.tokenized import known, open_tokenizer, sealed, tokenize
from zoo.errors import InputError

SHORTEST = 8


@dataclass
class _Records:
    """Texts and labels of all files, in order."""

    texts: list[str] = field(default_factory=list)
    pairs: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    given: list[str | None] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LabelledText:
    """Texts, or pairs of texts, with labels: JSON lines, CSV, TSV or Parquet."""

    path: str
    """A file ending in .jsonl, .csv, .tsv or .parquet, or a folder with files named train,
    validation and test."""
    text: str = "text"
    """Column of the text."""
    pair: str = ""
    """Column of the second text of a pair; empty for single texts."""
    label: str = "label"
    """Column of the label: a name, several in a list or with commas between, or a number."""
    kind: Kind = "classification"
    """What the label is: a class, one of two, several, or a number."""
    tokenizer: str = ""
    """Folder or hub name of the tokenizer; empty takes that of `init_from`."""
    max_length: int = 128
    """Tokens of an example, special ones included; longer texts are cut."""
    split: str = ""
    """A column that says train, validation or test; a split that it never names is made by hash."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What a malformed row does: stop with its file and line, or be left out and counted."""

    def __post_init__(self):
        if self.max_length < SHORTEST:
            raise InputError(f"max_length is {self.max_length}; it must be {SHORTEST} or more")
        if self.label in (self.text, self.pair, self.split) or self.text == self.pair:
            raise InputError("text, pair, label and split must be different columns")

    def open(self) -> Data:
        """The splits.

        Raises:
            InputError: no such file or column, malformed rows, an empty split, no tokenizer.
        """
        tokenizer = open_tokenizer(self.tokenizer)
        records = _Records()
        for path, split in self._files():
            self._read(read_table(path, nested=True), split, records)
        skipped = malformed(self.path, records.problems, self.on_bad)
        if not records.texts:
            raise InputError(f"{self.path}: no rows")
        label, classes = self._labels(records)
        pairs = records.pairs if self.pair else None
        inputs = tokenize(tokenizer, records.texts, pairs, self.max_length)
        seconds = pairs or [""] * len(records.texts)
        raw = [
            digest(f"{text}\x1f{pair}".encode() if pairs else text.encode())
            for text, pair in zip(records.texts, seconds, strict=True)
        ]
        data = assemble(
            self.path, inputs, label, self.kind, raw, records.names, records.given,
            class_names=classes, skipped=skipped, **known(tokenizer, self.max_length),
        )  # fmt: skip
        return sealed(data, inputs)

    def _files(self) -> list[tuple[str, str | None]]:
        if not is_folder(self.path):
            return [(self.path, None)]
        paths = sorted(p for p in Path(self.path).iterdir() if p.suffix.lower() in READERS)
        found = [(str(path), split_name(path.stem)) for path in paths]
        if unnamed := [path for path, split in found if split is None]:
            raise InputError(f"{unnamed[0]}: the name of a file must be train, validation or test")
        if "train" not in [split for _, split in found]:
            raise InputError(f"{self.path}: no file train with an ending of {', '.join(READERS)}")
        return found

    def _read(self, table: Table, split: str | None, records: _Records) -> None:
        """Adds the rows of a table; malformed ones go to the problems."""
        columns = [self.text, self.pair, self.label, self.split]
        table.require([name for name in columns if name])
        bad: dict[int, str] = {}
        found = self._texts(table, bad)
        cells = table.column(self.label)
        if self.kind == "regression":
            labels: Any = numbers(cells, self.label, "error", bad)
        elif self.kind == "multilabel":
            labels = [_several(cell, self.label, i, bad) for i, cell in enumerate(cells)]
        else:
            labels = texts(cells, self.label, bad)
        given = [split] * len(cells)
        if self.split:
            stated = table.column(self.split)
            given = [split_name(cell) for cell in stated]
            for i, name in enumerate(given):
                if name is None:
                    bad.setdefault(i, f"column {self.split!r}: {str(stated[i])[:80]!r} is no split")
        good = [i for i in range(len(cells)) if i not in bad]
        records.texts += [found[0][i] for i in good]
        records.pairs += [found[1][i] for i in good] if self.pair else []
        records.labels += [labels[i] for i in good]
        records.given += [given[i] for i in good]
        records.names += [table.names[i] for i in good]
        table.keep(bad)
        records.problems += table.problems

    def _texts(self, table: Table, bad: dict[int, str]) -> list[list[str]]:
        named = [self.text, *([self.pair] if self.pair else [])]
        return [texts(table.column(name), name, bad) for name in named]

    def _labels(self, records: _Records) -> tuple[np.ndarray, list[str]]:
        if self.kind == "regression":
            return np.asarray(records.labels, np.float64), []
        several = self.kind == "multilabel"
        rows = records.labels if several else [(name,) for name in records.labels]
        classes = sorted_classes({name for row in rows for name in row})
        place = {name: i for i, name in enumerate(classes)}
        if not several:
            check_classes(self.path, self.label, classes, len(rows))
            return np.array([place[name] for (name,) in rows], np.int32), classes
        if len(classes) < 2:
            raise InputError(f"{self.path}: column {self.label!r} names {len(classes)} labels")
        label = np.zeros((len(rows), len(classes)), np.int32)
        for i, row in enumerate(rows):
            label[i, [place[name] for name in row]] = 1
        return label, classes

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """Texts to predict: tables with the text columns, files with a text per line, or the text
        itself; the two texts of a pair are separated by a tab.

        Raises:
            InputError: malformed rows, an empty text, half of a pair.
        """
        names: list[str] = []
        found: list[list[str]] = [[], []]
        for given in inputs:
            if Path(given).suffix.lower() in READERS:
                self._encode_table(given, names, found)
                continue
            for name, line in text_lines([given]):
                first, tab, second = line.partition("\t") if self.pair else (line, "", "")
                if self.pair and not (first.strip() and second.strip()):
                    raise InputError(f"{name}: a pair is two texts with a tab between them")
                names.append(name)
                found[0].append(first.strip())
                found[1].append(second.strip())
        if not names:
            raise InputError("nothing to predict: no rows in the files given")
        length = int(info.max_length or self.max_length)
        tokenizer = open_tokenizer(self.tokenizer)
        return names, tokenize(tokenizer, found[0], found[1] if self.pair else None, length)

    def _encode_table(self, path: str, names: list[str], found: list[list[str]]) -> None:
        table = read_table(path, nested=True)
        table.require([name for name in (self.text, self.pair) if name])
        bad: dict[int, str] = {}
        columns = self._texts(table, bad)
        table.keep(bad)
        if table.problems:
            listed = "\n  ".join(table.problems[:10])
            raise InputError(f"cannot predict malformed rows:\n  {listed}")
        names += table.names
        for known_, column in zip(found, columns, strict=False):
            known_ += column


def _several(cell: Any, column: str, row: int, bad: dict[int, str]) -> tuple[str, ...]:
    """The names of a cell: of a list, or of a text with commas; none where it is empty."""
    if cell is None:
        bad.setdefault(row, f"column {column!r}: the value is missing")
        return ()
    parts = cell if isinstance(cell, list) else str(cell).split(",")
    if isinstance(cell, dict) or any(isinstance(part, list | dict | float) for part in parts):
        bad.setdefault(row, f"column {column!r}: {str(cell)[:80]!r} is no list of names")
        return ()
    names = ["" if part is None else str(part).strip() for part in parts]
    if names == [""] and not isinstance(cell, list):
        return ()
    if "" in names or any("\ud800" <= c <= "\udfff" or c == "\0" for n in names for c in n):
        bad.setdefault(row, f"column {column!r}: {str(cell)[:80]!r} has a label without a name")
        return ()
    return tuple(dict.fromkeys(names))
