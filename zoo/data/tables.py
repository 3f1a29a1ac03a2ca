"""The user's own tables: CSV, Parquet and JSON lines, for any kind of target.

The raw record that decides a split is the row: all its cells in order (see `Table.digests`),
unless a split column decides. Numbers are standardised by the training split; columns of strings
become one-hot categories. A column is numeric if more than half of its cells are numbers; the
others are then malformed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from zoo.data.assemble import Kind, assemble, malformed
from zoo.data.columns import (
    check_classes,
    encode_table,
    fit,
    is_numeric,
    matrix,
    numbers,
    parse,
    sorted_classes,
    texts,
)
from zoo.data.info import Batch, Data, Info
from zoo.data.readers import Table, read_csv, read_jsonl, read_parquet
from zoo.data.split import divide, split_name
from zoo.data.text import VOCABULARY, decode_bytes, pack
from zoo.errors import InputError

TRUTH = {"0": 0, "1": 1, "false": 0, "true": 1}


@dataclass(frozen=True)
class _Rows:
    """The fields that every table has."""

    path: str
    """The file."""
    target: tuple[str, ...] = ("label",)
    """Column to predict; several for multi-label (each 0 or 1) or for regression."""
    features: tuple[str, ...] = ()
    """Input columns; none named: all but target and split."""
    kind: Kind = "classification"
    """What the target is."""
    text: str | None = None
    """A column of text to be read byte by byte instead of features."""
    max_length: int = 256
    """Bytes kept of a text."""
    split: str | None = None
    """A column that says train, validation or test; a split that it never names is made by hash."""
    categorical: tuple[str, ...] = ()
    """Columns to be taken as categories although they hold numbers."""
    missing: Literal["error", "mean"] = "error"
    """A missing value is malformed, or becomes the training mean (a category: none)."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What a malformed row does: stop with its file and line, or be left out and counted."""

    def __post_init__(self):
        for name in ("target", "features", "categorical"):
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, (getattr(self, name),))
        if not self.target or self.max_length < 1:
            raise InputError(f"{self.path}: a target column and a positive max_length are needed")
        if len(self.target) > 1 and self.kind in ("classification", "binary"):
            raise InputError(f"{self.path}: kind={self.kind} takes one target column")
        if self.text and (self.features or self.categorical):
            raise InputError(f"{self.path}: choose either a text column or feature columns")

    def _read(self) -> Table:
        raise NotImplementedError

    def open(self) -> Data:
        """The splits.

        Raises:
            InputError: no such file or column, malformed rows, an empty split.
        """
        table = self._read()
        other = set(self.target) | {self.split}
        inputs = self.features or tuple(c for c in table.header if c not in other)
        inputs = () if self.text else inputs
        named = [*self.target, *inputs, *self.categorical, self.split, self.text]
        table.require([name for name in named if name])
        leaked = set(inputs) & other | ({self.text} & set(self.target))
        if leaked or not (inputs or self.text):
            raise InputError(
                f"{self.path}: no columns to predict from"
                + (f"; {', '.join(sorted(map(str, leaked)))} is target or split" if leaked else "")
            )
        columns = self._columns(table, inputs)
        bad: dict[int, str] = {}
        parse(table, columns, bad)
        self._labels(table, bad)
        given = self._given(table, bad)
        table.keep(bad)
        given = [name for i, name in enumerate(given) if i not in bad] if given else None
        skipped = malformed(self.path, table.problems, self.on_bad)
        if not table.rows:
            raise InputError(f"{self.path}: no rows")
        return self._assemble(table, columns, given, skipped)

    def _columns(self, table: Table, inputs: tuple[str, ...]) -> dict[str, Any]:
        specs = []
        for name in inputs:
            numeric = name not in self.categorical and is_numeric(table.column(name))
            specs.append({"name": name, "type": "numeric" if numeric else "category"})
        return {
            "inputs": specs,
            "text": self.text,
            "missing": self.missing,
            "target": list(self.target),
        }

    def _given(self, table: Table, bad: dict[int, str]) -> list[str | None] | None:
        if not self.split:
            return None
        given = [split_name(cell) for cell in table.column(self.split)]
        for i, (name, cell) in enumerate(zip(given, table.column(self.split), strict=True)):
            if name is None:
                bad.setdefault(i, f"column {self.split!r}: {str(cell)[:80]!r} names no split")
        return given

    def _labels(self, table: Table, bad: dict[int, str]) -> tuple[np.ndarray, list[str]]:
        """Labels of all rows and the class names; malformed ones go to `bad`."""
        cells = [table.column(name) for name in self.target]
        if self.kind == "regression":
            label = [numbers(c, n, "error", bad) for c, n in zip(cells, self.target, strict=True)]
            return (label[0] if len(label) == 1 else np.stack(label, 1)), []
        words = [texts(c, n, bad) for c, n in zip(cells, self.target, strict=True)]
        if self.kind == "multilabel":
            for name, column in zip(self.target, words, strict=True):
                for i, word in enumerate(column):
                    if word.lower() not in TRUTH:
                        bad.setdefault(i, f"column {name!r}: {word[:80]!r} is neither 0 nor 1")
            label = [[TRUTH.get(word.lower(), 0) for word in column] for column in words]
            return np.array(label, np.int32).T, list(self.target)
        classes = sorted_classes({word for i, word in enumerate(words[0]) if i not in bad})
        place = {name: i for i, name in enumerate(classes)}
        return np.array([place.get(word, -1) for word in words[0]], np.int32), classes

    def _assemble(
        self,
        table: Table,
        columns: dict[str, Any],
        given: list[str | None] | None,
        skipped: dict[str, Any],
    ) -> Data:
        digests = table.digests(self.split)
        train = divide(digests, self.path, given)["train"]
        parsed = parse(table, columns, {})
        label, classes = self._labels(table, {})
        if self.kind in ("classification", "binary"):
            check_classes(self.path, self.target[0], classes, len(label))
        known: dict[str, Any] = {"columns": columns, "skipped": skipped}
        if self.text:
            inputs = pack([text.encode() for text in parsed[self.text]], self.max_length)
            known |= {"vocab_size": VOCABULARY, "max_length": self.max_length, "pad": 0}
        else:
            fit(parsed, columns, train, self.path)
            inputs = {"features": matrix(parsed, columns)}
            if not inputs["features"].shape[1]:
                raise InputError(f"{self.path}: the input columns hold no value in training")
        return assemble(
            self.path,
            inputs,
            label,
            self.kind,
            digests,
            table.names,
            given,
            class_names=classes,
            normalise=None if self.text else "features",
            **known,
        )

    def encode(self, inputs: list[str], info: Info) -> tuple[list[str], Batch]:
        """See `encode_table`."""
        return encode_table(inputs, info)

    def decode(self, ids: Any, info: Info) -> str:
        """Text of byte ids (of a text column)."""
        return decode_bytes(ids)


@dataclass(frozen=True)
class Csv(_Rows):
    """A CSV file with a header line."""

    delimiter: str = ","
    """The character between cells."""

    def _read(self) -> Table:
        return read_csv(self.path, self.delimiter)

    def _columns(self, table: Table, inputs: tuple[str, ...]) -> dict[str, Any]:
        return super()._columns(table, inputs) | {"delimiter": self.delimiter}


@dataclass(frozen=True)
class Parquet(_Rows):
    """A Parquet file."""

    def _read(self) -> Table:
        return read_parquet(self.path)


@dataclass(frozen=True)
class Jsonl(_Rows):
    """A file with one JSON object per line."""

    def _read(self) -> Table:
        return read_jsonl(self.path)
