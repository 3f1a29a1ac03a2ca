"""Sentences of words, each word with a tag, in tokens.

The label of a word stands at its first token; the others have none. A sentence that is longer than
a row goes on in the next; the label of each word stands in the first row that holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.data.text import IGNORED
from zoo.data.token_rows import TokenRows, tokens_of

CHUNK = 512
"""Sentences that are cut into tokens at once."""


@dataclass(frozen=True)
class Sentence:
    """Words, and the tag of each."""

    name: str
    """File and line."""
    words: tuple[str, ...]
    tags: tuple[str, ...] = ()
    """One per word; none where they are to be predicted."""


class Sentences(TokenRows):
    """A split whose rows are sentences, or pieces of long ones.

    Args:
        tokenizer: see `zoo.load_tokenizer`.
        examples: the sentences.
        classes: number of every tag.
        max_length: tokens of a row.
        stride: tokens that the pieces of a long sentence share.
    """

    def __init__(
        self,
        tokenizer: Any,
        examples: Sequence[Sentence],
        classes: dict[str, int],
        max_length: int,
        stride: int,
    ):
        spaced = _space_matters(tokenizer)
        owners: list[int] = []
        tokens: list[np.ndarray] = []
        words: list[np.ndarray] = []
        for start in range(0, len(examples), CHUNK):
            part = examples[start : start + CHUNK]
            encoded = tokenizer(
                [[" " + word if spaced else word for word in one.words] for one in part],
                is_split_into_words=True,
                truncation="longest_first",
                truncation_side="right",
                padding=False,
                max_length=max_length,
                stride=stride,
                return_overflowing_tokens=True,
            )
            owner, seen = -1, set()
            for at, encoding in zip(
                encoded["overflow_to_sample_mapping"], encoded.encodings, strict=True
            ):
                first_row = at != owner
                if first_row:
                    owner, seen = at, set()
                new = _first_tokens(encoding.word_ids, seen)
                if first_row or (new >= 0).any():
                    owners.append(start + at)
                    tokens.append(tokens_of(encoding))
                    words.append(new)
        super().__init__(tokenizer, examples, owners, tokens, max_length)
        self._words = np.concatenate(words)
        self._classes = np.full(len(self._words), IGNORED, np.int32)
        for row, owner in enumerate(owners):
            tags, part = examples[owner].tags, self.place(row)
            if tags:
                self._classes[part] = [
                    classes[tags[word]] if word >= 0 else IGNORED for word in self._words[part]
                ]

    def words(self, row: int) -> np.ndarray:
        """Number of the word whose label stands at each token of a row, int32 `[n]`; -1: none."""
        return self._words[self.place(row)]

    def label(self, rows: np.ndarray) -> np.ndarray:
        """Class of every token `[n, max_length]`, -100 where a token has none."""
        found = np.full((len(rows), self._length), IGNORED, np.int32)
        for at, row in enumerate(rows):
            part = self._classes[self.place(row)]
            found[at, : len(part)] = part
        return found

    def without_token(self) -> dict[int, str]:
        """The first word that has no token, by number of its sentence."""
        found: dict[int, str] = {}
        edges = np.searchsorted(self.example_of, np.arange(len(self.examples) + 1))
        for number, one in enumerate(self.examples):
            rows = range(edges[number], edges[number + 1])
            held = {int(word) for row in rows for word in self.words(row)}
            missing = [word for i, word in enumerate(one.words) if i not in held]
            if missing:
                found[number] = missing[0]
        return found

    def counts(self, classes: int) -> tuple[int, ...]:
        """Words of each class."""
        rows = [self._classes[self.place(row)] for row in range(len(self))]
        flat = np.concatenate(rows)
        return tuple(np.bincount(flat[flat != IGNORED], minlength=classes).tolist())


def _first_tokens(word_ids: Sequence[int | None], seen: set[int]) -> np.ndarray:
    """The word of each token that is the first of a word not `seen` before, else -1."""
    found = np.full(len(word_ids), -1, np.int32)
    for at, word in enumerate(word_ids):
        if word is not None and word not in seen:
            seen.add(word)
            found[at] = word
    return found


def _space_matters(tokenizer: Any) -> bool:
    """Whether a word's tokens depend on the space before it, which a list of words has not.

    Byte-level tokenizers have such tokens; the first word of a text then is no model for others.
    """
    plain, spaced = (
        tokenizer([[word]], is_split_into_words=True, add_special_tokens=False)["input_ids"]
        for word in ("a", " a")
    )
    return plain != spaced
