"""Text as bytes: packing, reading lines to predict, decoding.

Ids are the bytes themselves, 0 to 255. Byte 0 separates documents and pads.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.data.info import Batch
from zoo.errors import InputError

VOCABULARY = 256
SEPARATOR = 0
IGNORED = -100


def pack(texts: Sequence[bytes], max_length: int) -> Batch:
    """Bytes of each text, cut after max_length, padded with 0: `input_ids`, `attention_mask`.

    Returns:
        int32 `[N, max_length]` each.
    """
    ids = np.zeros((len(texts), max_length), np.int32)
    mask = np.zeros_like(ids)
    for i, text in enumerate(texts):
        text = text[:max_length]
        ids[i, : len(text)] = np.frombuffer(text, np.uint8)
        mask[i, : len(text)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def text_lines(inputs: Sequence[str]) -> list[tuple[str, str]]:
    """Texts to predict: every non-empty line of a file, or the argument itself if no file.

    Returns:
        `(name, text)` pairs; a line's name is `file:line`.

    Raises:
        InputError: a file that is empty or not UTF-8, an empty text, no text.
    """
    found = []
    for number, text in enumerate(inputs, 1):
        if not is_file(text):
            if not text.strip():
                raise InputError(f"text {number} is empty")
            if any("\ud800" <= char <= "\udfff" for char in text):
                raise InputError(f"text {number} is not UTF-8")
            found.append((f"text {number}", text.strip()))
            continue
        lines = Path(text).read_bytes().splitlines()
        before = len(found)
        for n, line in enumerate(lines, 1):
            try:
                decoded = line.decode("utf-8-sig" if n == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise InputError(f"{text}:{n}: not UTF-8: {error.reason}") from None
            if decoded:
                found.append((f"{text}:{n}", decoded))
        if len(found) == before:
            raise InputError(f"{text}: the file holds no text")
    if not found:
        raise InputError("no text was given")
    return found


def is_file(text: str) -> bool:
    """Whether an argument names a file rather than being the text itself."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # longer than a path may be, or with a zero byte
        return False


def is_folder(text: str) -> bool:
    """Whether a path names a folder; not when it can be no path at all."""
    try:
        return Path(text).is_dir()
    except (OSError, ValueError):
        return False


def decode_bytes(ids: Sequence[int] | np.ndarray) -> str:
    """Text of byte ids; padding, separators and ignored positions left out."""
    kept = bytes(int(i) for i in ids if 0 < int(i) < VOCABULARY)
    return kept.decode("utf-8", "replace")
