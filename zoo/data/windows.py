"""Windows of a corpus of bytes, for language modelling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.data.info import Batch, Data, Info, Split
from zoo.data.split import digest, divide, fingerprint
from zoo.data.text import IGNORED, SEPARATOR, VOCABULARY, is_file, pack
from zoo.errors import InputError


class Windows:
    """A corpus in windows of `length` bytes; every byte after the first is predicted once.

    Args:
        files: `(name, content)` of every document; a separator stands before each and at the end.
        length: bytes of a window.
        keep: at most so many windows, evenly spaced; 0 keeps all.
    """

    num_classes: int | None = None

    def __init__(self, files: Sequence[tuple[str, bytes]], length: int, keep: int = 0):
        separator = bytes([SEPARATOR])
        text = separator + separator.join(content for _, content in files) + separator
        corpus = np.frombuffer(text, np.uint8)
        total = -(-(len(corpus) - 1) // length)
        padded = np.zeros(total * length + 1, np.uint8)
        padded[: len(corpus)] = corpus
        self._inputs = padded[:-1].reshape(total, length)
        self._labels = padded[1:].reshape(total, length)
        self._rest = len(corpus) - 1 - (total - 1) * length
        self._files = [name for name, _ in files]
        self._starts = np.cumsum([0] + [len(content) + 1 for _, content in files[:-1]])
        kept = min(keep, total) if keep else total
        self._kept = np.arange(kept) * total // kept
        self.length = length

    def __len__(self) -> int:
        return len(self._kept)

    def rows(self, indices: np.ndarray) -> Batch:
        """`input_ids` and `label` (the next byte), int32 `[n, length]`; -100 after the end."""
        at = self._kept[indices]
        label = self._labels.take(at, axis=0).astype(np.int32)
        label[at == len(self._labels) - 1, self._rest :] = IGNORED
        return {"input_ids": self._inputs.take(at, axis=0).astype(np.int32), "label": label}

    def names(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """File and offset where each window starts."""
        offsets = self._kept[np.asarray(indices, np.int64)] * self.length
        files = np.searchsorted(self._starts, offsets, side="right") - 1
        return [
            f"{self._files[f]}: byte {offset - self._starts[f]}"
            for f, offset in zip(files, offsets, strict=True)
        ]

    def labels(self) -> None:
        """Windows have no class."""
        return None


def open_corpus(
    what: str,
    files: Sequence[tuple[str, bytes]],
    length: int,
    evaluation_windows: int = 0,
    given: Sequence[str | None] | None = None,
) -> Data:
    """Splits of documents, decided by their content, in windows.

    Raises:
        InputError: a bad length, an empty split.
    """
    if length < 1 or evaluation_windows < 0:
        raise InputError(f"{what}: length must be at least 1 and evaluation_windows not negative")
    digests = [digest(content) for _, content in files]
    splits = divide(digests, what, given)
    opened: dict[str, Split] = {
        name: Windows(
            [files[i] for i in members], length, 0 if name == "train" else evaluation_windows
        )
        for name, members in splits.items()
    }
    form = {"length": length, "evaluation_windows": evaluation_windows}
    info = Info(
        inputs={"input_ids": ((length,), "int32")},
        label=((length,), "int32"),
        vocab_size=VOCABULARY,
        max_length=length,
        counts={name: len(split) for name, split in opened.items()},
        fingerprint=fingerprint(splits, digests, [0] * len(files), form),
        pad=SEPARATOR,
    )
    return Data(opened, info)


def encode_windows(inputs: Sequence[str], info: Info) -> tuple[list[str], Batch]:
    """Windows of text files as in training, or of the literal text given.

    Returns:
        Names and `input_ids`, `attention_mask` `[N, T]`, T the longest window.

    Raises:
        InputError: an empty text or file, no text.
    """
    length = int(info.max_length or 1)
    names, texts = [], []
    for number, text in enumerate(inputs, 1):
        from_file = is_file(text)
        content = Path(text).read_bytes() if from_file else text.encode("utf-8", "replace")
        name = text if from_file else f"text {number}"
        if not content:
            raise InputError(f"{name}: holds no text")
        for start in range(0, len(content), length):
            names.append(f"{name}: byte {start}")
            texts.append(content[start : start + length])
    if not texts:
        raise InputError("no text was given")
    return names, pack(texts, max(len(text) for text in texts))
