"""What the cells of a table mean: numbers, categories, text, targets.

The meaning is stored in `Info.columns`, so that a checkpoint alone can read a new table:
`{"inputs": [{"name": ..., "type": "numeric", "fill": mean} | {"name": ..., "type": "category",
"values": [...]}], "text": None or name, "missing": "error" or "mean", "delimiter": ...}`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from zoo.data.info import Batch, Info, normalised
from zoo.data.readers import READERS, Table, read_csv, read_table
from zoo.data.text import pack, text_lines
from zoo.errors import InputError

MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))
"""What stands for a missing number, lower case; a missing category or text is empty."""
MAX_CATEGORIES = 1000


def number(cell: Any) -> float:
    """A finite number; NaN for a missing one.

    Raises:
        ValueError: something else.
    """
    if cell is None or isinstance(cell, str) and cell.strip().lower() in MISSING:
        return math.nan
    if isinstance(cell, str) and "_" in cell:  # Python's float takes 1_000
        raise ValueError
    if isinstance(cell, float) and math.isnan(cell):
        return math.nan
    try:
        value = float(cell)
    except (TypeError, OverflowError):
        raise ValueError from None
    if not math.isfinite(value):
        raise ValueError
    return value


def is_numeric(cells: list[Any]) -> bool:
    """Whether more than half of the cells that are not missing are numbers."""
    good = bad = 0
    for cell in cells:
        try:
            good += not math.isnan(number(cell))
        except ValueError:
            bad += 1
    return good > bad


def numbers(cells: list[Any], column: str, missing: str, bad: dict[int, str]) -> np.ndarray:
    """A numeric column, float64 `[N]`; malformed cells are added to `bad` by row.

    Args:
        missing: `error` makes missing cells malformed, `mean` leaves NaN.
    """
    values = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        try:
            values[i] = number(cell)
        except ValueError:
            bad.setdefault(i, f"column {column!r}: {str(cell)[:80]!r} is not a finite number")
            continue
        if missing == "error" and math.isnan(values[i]):
            bad.setdefault(i, f"column {column!r}: the value is missing")
    return values


def texts(
    cells: list[Any], column: str, bad: dict[int, str], empty_is_bad: bool = True
) -> list[str]:
    """A column of categories, labels or text as stripped strings; 3.0 reads as 3."""
    found = []
    for i, cell in enumerate(cells):
        if isinstance(cell, list | dict):
            bad.setdefault(i, f"column {column!r} holds a list or an object, not one value")
            cell = None
        whole = isinstance(cell, float) and cell.is_integer()
        nan = isinstance(cell, float) and math.isnan(cell)
        text = "" if cell is None or nan else str(int(cell) if whole else cell).strip()
        if empty_is_bad and not text:
            bad.setdefault(i, f"column {column!r}: the value is missing")
        found.append(text)
    return found


def sorted_classes(classes: Collection[str]) -> list[str]:
    """Names of classes in order: as numbers where all are, else as text."""
    values = {name: _value(name) for name in classes}
    numeric = None not in values.values()
    return sorted(classes, key=lambda name: (values[name] or 0.0 if numeric else 0.0, name))


def check_classes(what: str, column: str, classes: Sequence[str], rows: int) -> None:
    """Checks that the values of a column can be classes.

    Raises:
        InputError: there is only one, they are measurements, or nearly every row has its own.
    """
    if len(classes) < 2:
        raise InputError(f"{what}: target {column!r} has only one value: {classes[0]!r}")
    values = [value for name in classes if (value := _value(name)) is not None]
    if len(values) == len(classes) and not all(map(float.is_integer, values)):
        raise InputError(
            f"{what}: target {column!r} holds numbers such as {classes[0]!r}, not "
            "classes; use kind=regression"
        )
    if len(classes) > 1000 and len(classes) > rows // 2:
        raise InputError(
            f"{what}: target {column!r} has {len(classes)} different values in {rows} "
            "rows; these are no classes"
        )


def _value(text: str) -> float | None:
    try:
        return float(text) if math.isfinite(float(text)) else None
    except ValueError:
        return None


def parse(table: Table, columns: dict[str, Any], bad: dict[int, str]) -> dict[str, Any]:
    """The input columns' cells: float64 arrays and lists of strings, by column."""
    missing = columns.get("missing", "error")
    found: dict[str, Any] = {}
    for spec in columns["inputs"]:
        cells = table.column(spec["name"])
        if spec["type"] == "numeric":
            found[spec["name"]] = numbers(cells, spec["name"], missing, bad)
        else:
            found[spec["name"]] = texts(cells, spec["name"], bad, missing == "error")
    if columns.get("text"):
        found[columns["text"]] = texts(table.column(columns["text"]), columns["text"], bad)
    return found


def fit(parsed: dict[str, Any], columns: dict[str, Any], train: np.ndarray, what: str) -> None:
    """Fills in, from the training rows alone, the categories and what replaces missing numbers.

    Raises:
        InputError: a category column with more than 1,000 values.
    """
    for spec in columns["inputs"]:
        cells = parsed[spec["name"]]
        if spec["type"] == "numeric":
            known = cells[train][~np.isnan(cells[train])]
            spec["fill"] = float(known.mean()) if len(known) else 0.0
            continue
        spec["values"] = sorted({cells[i] for i in train} - {""})
        if len(spec["values"]) > MAX_CATEGORIES:
            raise InputError(
                f"{what}: column {spec['name']!r} has {len(spec['values'])} different values, too "
                "many for categories; leave it out by naming the others in features, or use it as "
                "text"
            )


def matrix(parsed: dict[str, Any], columns: dict[str, Any]) -> np.ndarray:
    """Numbers as they are, categories one-hot: float64 `[N, F]`, not yet normalised.

    A category that training did not have is all zeros.
    """
    parts = []
    for spec in columns["inputs"]:
        cells = parsed[spec["name"]]
        if spec["type"] == "numeric":
            parts.append(np.where(np.isnan(cells), spec.get("fill", 0.0), cells)[:, None])
        else:
            place = {value: i for i, value in enumerate(spec["values"])}
            one_hot = np.eye(len(place) + 1)[:, :-1]
            parts.append(one_hot[[place.get(cell, len(place)) for cell in cells]])
    return np.concatenate(parts, axis=1)


def encode_table(inputs: list[str], info: Info) -> tuple[list[str], Batch]:
    """New rows from table files, with the meaning and statistics of the training data.

    Args:
        inputs: CSV, JSON lines or Parquet files with the input columns (others are ignored); for a
            text column also plain text files (a line each) or the text itself.
        info: of the checkpoint.

    Raises:
        InputError: missing columns, malformed rows (by file and line), no rows.
    """
    columns = info.columns
    names: list[str] = []
    parts: list[Batch] = []
    for path in inputs:
        ending = path[path.rfind(".") :].lower() if "." in path else ""
        if columns.get("text") and ending not in READERS:
            lines = text_lines([path])
            names += [name for name, _ in lines]
            parts.append(pack([text.encode() for _, text in lines], int(info.max_length or 1)))
            continue
        comma = columns.get("delimiter", ",")
        table = read_csv(path, comma) if ending == ".csv" else read_table(path)
        wanted = [spec["name"] for spec in columns["inputs"]]
        table.require(wanted + ([columns["text"]] if columns.get("text") else []))
        bad: dict[int, str] = {}
        parsed = parse(table, columns, bad)
        problems = table.problems + [f"{table.names[i]}: {bad[i]}" for i in sorted(bad)]
        if problems:
            raise InputError("cannot predict malformed rows:\n  " + "\n  ".join(problems[:10]))
        names += table.names
        if columns.get("text"):
            cells = [text.encode() for text in parsed[columns["text"]]]
            parts.append(pack(cells, int(info.max_length or 1)))
        else:
            mean, std = info.statistics["mean"], info.statistics["std"]
            parts.append({"features": normalised(matrix(parsed, columns), mean, std)})
    if not names:
        raise InputError("nothing to predict: no rows in the files given")
    return names, {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
