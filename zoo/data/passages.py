"""Windows of contexts, each after the question that is asked of it, in tokens.

A context that does not fit beside its question is cut into windows that share `stride` tokens; each
is a row of its own, and `example_of` says whose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.data.token_rows import TokenRows, tokens_of
from zoo.errors import InputError

CHUNK = 256
"""Questions that are cut into tokens at once."""


@dataclass(frozen=True)
class Question:
    """A question, the text that may answer it, and accepted answers."""

    name: str
    """File and id."""
    question: str
    context: str
    answers: tuple[str, ...] = ()
    """Accepted answers, pieces of the context; none where there is none."""
    starts: tuple[int, ...] = ()
    """First character of each in the context."""


@dataclass(frozen=True)
class Cut:
    """How a question and its context become rows of tokens."""

    max_length: int
    """Tokens of a row."""
    stride: int
    """Tokens of the context that a row shares with the next."""
    max_question: int
    """Tokens kept of a question."""

    def check(self, special: int) -> None:
        """Raises InputError where a row has no room for a context beside `special` tokens."""
        room = self.max_length - special - self.max_question
        if self.max_question < 1 or self.stride < 0 or room <= self.stride:
            raise InputError(
                f"max_length {self.max_length} leaves {room} tokens for the context, beside "
                f"{special} special ones and max_question {self.max_question}; they must be more "
                f"than the stride, {self.stride}"
            )


class Passages(TokenRows):
    """A split whose rows are the windows of questions' contexts.

    Args:
        tokenizer: see `zoo.load_tokenizer`.
        examples: the questions.
        cut: how long the windows are.
    """

    def __init__(self, tokenizer: Any, examples: Sequence[Question], cut: Cut):
        cut.check(len(tokenizer("", "a")["input_ids"]) - len(_bare(tokenizer, "a")))
        owners: list[int] = []
        tokens: list[np.ndarray] = []
        offsets: list[np.ndarray] = []
        for start in range(0, len(examples), CHUNK):
            for owner, encoding in _windows(tokenizer, examples[start : start + CHUNK], cut):
                inside = np.array([of == 1 for of in encoding.sequence_ids])
                places = np.array(encoding.offsets, np.int32).reshape(-1, 2)
                owners.append(start + owner)
                tokens.append(tokens_of(encoding))
                offsets.append(np.where(inside[:, None], places, 0))
        super().__init__(tokenizer, examples, owners, tokens, cut.max_length)
        self._offsets = np.concatenate(offsets)
        self._spans = np.array([self._span(row) for row in range(len(owners))], np.int32)

    def offsets(self, row: int) -> np.ndarray:
        """First character in the context, and the one after the last, of every token of a row:
        int32 `[n, 2]`, (0, 0) where a token is none of the context."""
        return self._offsets[self.place(row)]

    def label(self, rows: np.ndarray) -> np.ndarray:
        """First and last token of the (first) answer, `[n, 2]`; (0, 0) where a window does not
        hold all of it."""
        return self._spans[self._kept[rows]]

    def names(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """File, id of the question, and the window's first character."""
        found = []
        for row, name in zip(indices, super().names(indices), strict=True):
            places = self.offsets(int(row))
            first = places[places[:, 1] > 0, 0]
            later = len(first) and first[0] > 0
            found.append(f"{name}, from character {first[0]}" if later else name)
        return found

    def unreached(self) -> list[int]:
        """Examples with an answer that no window holds."""
        held = np.zeros(len(self.examples), bool)
        held[self.example_of[self._spans[self._kept].any(1)]] = True
        return [i for i, one in enumerate(self.examples) if one.answers and not held[i]]

    def _span(self, row: int) -> tuple[int, int]:
        example = self.examples[self.example_of[row]]
        if not example.answers:
            return 0, 0
        text, start = example.answers[0], example.starts[0]
        start += len(text) - len(text.lstrip())
        end = start + len(text.strip())
        places = self.offsets(row)
        inside = np.flatnonzero(places[:, 1] > places[:, 0])
        if not len(inside) or places[inside[0], 0] > start or places[inside[-1], 1] < end:
            return 0, 0
        over = inside[(places[inside, 1] > start) & (places[inside, 0] < end)]
        return (int(over[0]), int(over[-1])) if len(over) else (0, 0)


def _windows(tokenizer: Any, examples: Sequence[Question], cut: Cut) -> list[tuple[int, Any]]:
    """(example, encoding) of every window, in order."""
    encoded = tokenizer(
        [_shortened(tokenizer, one.question, cut.max_question) for one in examples],
        [one.context for one in examples],
        truncation="only_second",
        truncation_side="right",
        padding=False,
        max_length=cut.max_length,
        stride=cut.stride,
        return_overflowing_tokens=True,
    )
    owners = encoded["overflow_to_sample_mapping"]
    return list(zip(owners, encoded.encodings, strict=True))


def _shortened(tokenizer: Any, question: str, length: int) -> str:
    """A question without what stands after its first `length` tokens."""
    question = question.strip()
    while len(question) > length:  # a token has a character at least
        encoding = _bare(tokenizer, question)
        if len(encoding) <= length:
            break
        question = question[: min(encoding.offsets[length - 1][1], len(question) - 1)].rstrip()
    return question


def _bare(tokenizer: Any, text: str) -> Any:
    """The encoding of a text alone."""
    return tokenizer(text, add_special_tokens=False, truncation=False).encodings[0]
