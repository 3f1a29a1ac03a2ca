"""Table files to columns of cells: CSV, JSON lines, Parquet. Every row keeps its place's name."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.data.split import digest
from zoo.errors import InputError


@dataclass
class Table:
    """Rows of cells (strings, numbers, booleans, None) and what was wrong with other rows."""

    path: str
    header: list[str]
    rows: list[list[Any]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def column(self, name: str) -> list[Any]:
        """The cells of one column."""
        at = self.header.index(name)
        return [row[at] for row in self.rows]

    def keep(self, bad: dict[int, str]) -> None:
        """Turns rows into problems: row number -> what is wrong with it."""
        self.problems += [f"{self.names[i]}: {bad[i]}" for i in sorted(bad)]
        self.rows = [row for i, row in enumerate(self.rows) if i not in bad]
        self.names = [name for i, name in enumerate(self.names) if i not in bad]

    def require(self, columns: list[str]) -> None:
        """Raises InputError, naming them, where columns are missing."""
        missing = [name for name in columns if name not in self.header]
        if missing:
            raise InputError(
                f"{self.path}: no column {', '.join(map(repr, missing))}; "
                f"it has {', '.join(map(repr, self.header[:50]))}"
            )

    def digests(self, without: str | None) -> list[bytes]:
        """SHA-256 of each row: its cells in order, the split column left out, joined by 0x1f.

        A string is itself, any other cell its JSON text.
        """
        used = [i for i, name in enumerate(self.header) if name != without]
        return [digest("\x1f".join(_text(row[i]) for i in used).encode()) for row in self.rows]


def _text(cell: Any) -> str:
    return cell if isinstance(cell, str) else json.dumps(cell, default=str)


def read_bytes(path: str) -> bytes:
    """A file's bytes, or an InputError that names it."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read: {reason}") from None


def read_csv(path: str, delimiter: str = ",") -> Table:
    """A CSV file (RFC 4180, UTF-8) with a header; a row is named by the line it starts on.

    Raises:
        InputError: unreadable, empty, or without a proper header.
    """
    if len(delimiter) != 1:
        raise InputError(f"{path}: the delimiter must be one character, not {delimiter!r}")
    text = read_bytes(path).decode("utf-8-sig", "surrogateescape")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    table = Table(path, [])
    blank: list[str] = []  # malformed only if a row follows: files may end in blank lines
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            table.problems.append(f"{path}:{line}: {error}")
            continue
        if not table.header:
            table.header = [cell.strip() for cell in cells]
            _check_header(table)
            continue
        if not any(cell.strip() for cell in cells):
            blank.append(f"{path}:{line}: empty row")
            continue
        table.problems += blank
        blank, problem = [], None
        if len(cells) != len(table.header):
            problem = f"{len(cells)} cells, the header has {len(table.header)} columns"
        elif any(_strange(cell) for cell in cells):
            problem = "not UTF-8, or a zero byte"
        if problem is None:
            table.rows.append(cells)
            table.names.append(f"{path}:{line}")
        else:
            table.problems.append(f"{path}:{line}: {problem}")
    if not table.header:
        detail = f": {table.problems[0]}" if table.problems else ""
        raise InputError(f"{path}: empty, a header line with column names is needed{detail}")
    return table


def _strange(cell: str) -> bool:
    return not cell.isascii() and any("\ud800" <= c <= "\udfff" for c in cell) or "\0" in cell


def _check_header(table: Table) -> None:
    names = table.header
    if any(not name or _strange(name) for name in names) or len(set(names)) != len(names):
        raise InputError(
            f"{table.path}:1: the header needs a different, non-empty UTF-8 name per column, "
            f"found {', '.join(map(repr, names[:50]))}"
        )


def read_jsonl(path: str, nested: bool = False) -> Table:
    """One JSON object per line, UTF-8; a key that a line does not have is a missing value.

    Args:
        path: the file.
        nested: leave lists and objects in their cells, for a caller that checks what it uses.

    Raises:
        InputError: unreadable, or without any object.
    """
    objects, table = [], Table(path, [])
    lines = read_bytes(path).split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip() and number == len(lines):
            continue
        try:
            value = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            if not isinstance(value, dict):
                raise ValueError("not a JSON object")
            if any(isinstance(v, str) and _strange(v) for kv in value.items() for v in kv):
                raise ValueError("a lone surrogate or a zero byte")
            whole = [k for k, v in value.items() if isinstance(v, (dict, list))]
            if whole and not nested:
                raise ValueError(f"column {whole[0]!r} holds a list or an object, not one value")
        except (ValueError, RecursionError) as error:
            table.problems.append(f"{path}:{number}: {error or 'nested too deeply'}")
            continue
        objects.append(value)
        table.names.append(f"{path}:{number}")
    table.header = list(dict.fromkeys(key for value in objects for key in value))
    if not table.header:
        detail = f": {table.problems[0]}" if table.problems else ""
        raise InputError(f"{path}: holds no JSON object with columns{detail}")
    table.rows = [[value.get(key) for key in table.header] for value in objects]
    return table


def read_parquet(path: str, nested: bool = False) -> Table:
    """A Parquet file; rows are named by their number, counted from 1.

    Args:
        path: the file.
        nested: leave lists and structures in their cells, as in `read_jsonl`.

    Raises:
        InputError: unreadable, damaged, or with nested columns.
    """
    import pyarrow as arrow
    from pyarrow import parquet

    content = read_bytes(path)
    try:
        found = parquet.read_table(arrow.BufferReader(content))
        columns = [column.to_pylist() for column in found.columns]
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: not a readable Parquet file: {error}") from None
    whole = [f.name for f in found.schema if arrow.types.is_nested(f.type)]
    if whole and not nested:
        raise InputError(f"{path}: columns of lists or structures: {', '.join(whole)}")
    table = Table(path, list(found.column_names))
    _check_header(table)
    table.rows = [list(row) for row in zip(*columns, strict=True)]
    table.names = [f"{path}: row {i + 1}" for i in range(len(table.rows))]
    return table


READERS: dict[str, Callable[[str], Table]] = {
    ".csv": read_csv,
    ".tsv": lambda path: read_csv(path, "\t"),
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": read_parquet,
}
NESTED = {".jsonl": read_jsonl, ".ndjson": read_jsonl, ".parquet": read_parquet}
"""Kinds of files whose cells may be lists."""


def read_table(path: str, nested: bool = False) -> Table:
    """A table file of any known kind, told by its ending.

    Args:
        path: the file.
        nested: as in `read_jsonl`.

    Raises:
        InputError: an unknown ending; and as the readers.
    """
    ending = Path(path).suffix.lower()
    reader = READERS.get(ending)
    if reader is None:
        raise InputError(f"{path}: expected a table ending in {', '.join(READERS)}")
    return NESTED[ending](path, True) if nested and ending in NESTED else reader(path)
