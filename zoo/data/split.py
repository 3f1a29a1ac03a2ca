"""Which split a record belongs to: its own content decides, unless the data say otherwise.

`SHA-256(raw record)` read as a big-endian integer, modulo 5: 0 is test, 1 validation, the rest
train. Equal records therefore share a split, and adding records moves no other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

import numpy as np

from zoo.data.info import SPLITS
from zoo.errors import InputError

MODULUS = 5
RESIDUES = {"test": 0, "validation": 1}
ALIASES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""Names that folders and split columns may use, lower case."""


def digest(record: bytes) -> bytes:
    """SHA-256 of one raw record."""
    return hashlib.sha256(record).digest()


def residue(record_digest: bytes) -> int:
    """The digest as a big-endian integer, modulo 5."""
    return int.from_bytes(record_digest, "big") % MODULUS


def split_name(text: object) -> str | None:
    """`train`, `validation` or `test` for a folder's or cell's name for it; None for another."""
    return ALIASES.get(str(text).strip().lower())


def divide(
    digests: Sequence[bytes], what: str, given: Sequence[str | None] | None = None
) -> dict[str, np.ndarray]:
    """Sorts records into splits.

    Args:
        digests: SHA-256 of every record.
        what: the data's name, for messages.
        given: the split that the data state for each record; None or `train` where they leave it
            open. A split that no record states is taken by hash out of the `train` ones.

    Returns:
        Record numbers of each split, ascending.

    Raises:
        InputError: a split would be empty.
    """
    chosen = np.array([name or "train" for name in given or ["train"] * len(digests)], dtype="U10")
    open_ = np.flatnonzero(chosen == "train")
    if not {"validation", "test"} <= set(chosen.tolist()):
        residues = np.array([residue(digests[i]) for i in open_.tolist()], dtype=np.int64)
        for name, value in RESIDUES.items():
            if not (chosen == name).any():
                chosen[open_[residues == value]] = name
    splits = {name: np.flatnonzero(chosen == name) for name in SPLITS}
    empty = [name for name, members in splits.items() if not len(members)]
    if empty:
        counts = ", ".join(f"{name} {len(members)}" for name, members in splits.items())
        raise InputError(
            f"{what}: the split {' and '.join(empty)} is empty (examples: {counts}). Splits are "
            "made from the content of the records (about 1 in 5 is test, 1 in 5 validation): add "
            "examples, or say which ones they are by a split column or by folders named train, "
            "validation and test."
        )
    return splits


def fingerprint(
    splits: dict[str, np.ndarray], digests: Sequence[bytes], labels: Iterable[object], form: object
) -> str:
    """SHA-256 over every split's name, records and labels in order, and the form of an example.

    Args:
        splits: record numbers of each split.
        digests: SHA-256 of every record.
        labels: one JSON-able value or array per record.
        form: any JSON-able value (shapes, lengths) that says how a record becomes an example.
    """
    total = hashlib.sha256(json.dumps(form, sort_keys=True, default=str).encode())
    labels = [_label_bytes(label) for label in labels]
    for name, members in splits.items():
        total.update(f"\0{name}\0{len(members)}\0".encode())
        for i in members:
            total.update(digests[i])
            total.update(labels[i])
    return total.hexdigest()


def _label_bytes(label: object) -> bytes:
    if isinstance(label, (np.ndarray, np.generic)):
        label = label.tolist()
    return json.dumps(label).encode() + b"\0"
