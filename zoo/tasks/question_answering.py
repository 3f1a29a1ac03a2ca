"""Extractive question answering: where in a context does the answer to a question stand?

Batch: `input_ids` `[B, T]` of a question and a window of its context, with `attention_mask` and
`token_type_ids`; `label` int32 `[B, 2]`, the first and last token of the answer, both 0 (the first
token) where the window does not hold it. Outputs: scores `[B, T, 2]` of starting and of ending at
each token.

A long context takes several rows. Answers are therefore found, and scored, once all rows of a split
are there; the split says which rows belong together (see `Windows`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import jax.numpy as jnp
import numpy as np

from zoo.errors import InputError
from zoo.tasks.batch import Apply, Batch, example_weights, expect_width, run
from zoo.tasks.bind import check_options, expect_label
from zoo.tasks.check import Rows, check_inputs, check_label, check_range
from zoo.tasks.losses import softmax_cross_entropy, wide
from zoo.tasks.metrics import Metric, answer_scores, mean


class Example(Protocol):
    """A question as the task reads it."""

    name: str
    """Where it came from."""
    question: str
    context: str
    answers: tuple[str, ...]
    """Accepted answers; none where there is none, or where it is not known."""


class Windows(Protocol):
    """A split whose rows are windows of contexts."""

    example_of: np.ndarray
    """Number of the example of every row, ascending."""
    examples: Sequence[Example]

    def offsets(self, row: int) -> np.ndarray:
        """Start and end in the context of every token of a row, int `[n, 2]`; empty (0, 0) where
        a token is none of the context."""
        ...


@dataclass(frozen=True)
class Span:
    """An answer: a piece of the context, or none."""

    score: float
    """Score of its start and of its end, added."""
    start: int
    """First character in the context."""
    end: int
    """The one after its last; equal to `start` for no answer."""


@dataclass(frozen=True)
class QuestionAnswering:
    """Trains the start and the end of the answer by softmax cross-entropy over the tokens."""

    names: ClassVar[tuple[str, ...]] = ("question-answering",)
    best: ClassVar[tuple[str, str]] = ("f1", "max")
    joins: ClassVar[bool] = True

    label_smoothing: float = 0.0
    """Share of every target that is spread evenly over all tokens."""
    max_answer_length: int = 30
    """Tokens of an answer at most."""
    n_best: int = 20
    """Candidates that are kept of each window, and shown by a prediction."""
    no_answer: bool = False
    """A question may have no answer, and is scored so (SQuAD 2.0)."""
    threshold: float = 0.0
    """With no_answer: the score of the first token must exceed the best answer's by so much for no
    answer."""

    def __post_init__(self) -> None:
        check_options(self)
        for name in ("max_answer_length", "n_best"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 1 or more")

    def bind(self, info: Any) -> "QuestionAnswering":
        """This task, for these data; InputError when they are no questions, or when some have no
        answer and `no_answer` is not set."""
        if "input_ids" not in (getattr(info, "inputs", None) or {}):
            raise InputError("QuestionAnswering needs questions and contexts as input_ids")
        expect_label(self, info, "int32", (1,), "it needs the first and last token of the answer")
        shape, _ = getattr(info, "label", None) or ((2,), "")
        if tuple(shape) != (2,):
            raise InputError(
                f"QuestionAnswering needs labels of shape (2,), start and end; these have {shape}"
            )
        without = (getattr(info, "columns", None) or {}).get("unanswerable", 0)
        if without and not self.no_answer:
            raise InputError(
                f"{without} questions have no answer: set no_answer=True (--task.no-answer) to "
                "train and score them so, as SQuAD 2.0 does"
            )
        return self

    def check(self, batch: Batch, info: Any, rows: Rows) -> None:
        """Host check of one batch; InputError names the record."""
        check_inputs(batch, info, rows)
        label = check_label(batch, rows, np.int32, (2,), "int32 [B, 2]: first and last token")
        if label.shape[1] != 2:
            raise InputError(f"label of {rows[0]} has {label.shape[1]} columns, not start and end")
        time = batch["input_ids"].shape[1]
        check_range("label", label, time, rows, f"a token from 0 to {time - 1}")

    def objective(self, outputs: Any, batch: Batch) -> tuple[Any, Any]:
        """(sum of the mean cross-entropies of start and end, sum of the weights)."""
        expect_width(outputs, 3, 2, "scores [B, T, 2]", "give it the question-answering head")
        scores_B2T = jnp.swapaxes(outputs, 1, 2)
        weights = example_weights(batch, len(outputs))[:, None] / 2
        return softmax_cross_entropy(
            scores_B2T,
            batch["label"],
            jnp.broadcast_to(weights, (len(outputs), 2)),
            label_smoothing=self.label_smoothing,
        )

    def loss(
        self, apply: Apply, variables: Any, batch: Batch, rngs: Any = None, train: bool = False
    ) -> tuple[Any, Any, dict[str, Any]]:
        """(loss sum, weight sum, {"outputs", "updates"}); see `zoo.tasks.batch.run`."""
        return run(self.objective, apply, variables, batch, rngs, train)

    def metrics(self) -> dict[str, Metric]:
        """`loss` of the windows; `score` gives `exact_match` and `f1` of the answers."""
        return {"loss": mean("loss", self.objective)}

    def predict(self, outputs: Any, batch: Batch | None = None) -> dict[str, Any]:
        """`label` int32 `[B, 2]`: the likeliest first and last token, each for itself."""
        return {"label": jnp.argmax(outputs, 1).astype(jnp.int32)}

    def keep(self, outputs: Any, batch: Batch) -> dict[str, Any]:
        """`scores` `[B, T, 2]`, in at least float32."""
        return {"scores": wide(outputs)}

    def score(self, kept: dict[str, np.ndarray], split: Windows) -> dict[str, Any]:
        """`exact_match`, `f1` and more of the answers, see `answer_scores`."""
        found = [best[0] for best in self.answers(kept["scores"], split)]
        texts = [
            example.context[span.start : span.end]
            for example, span in zip(split.examples, found, strict=True)
        ]
        golds = [example.answers for example in split.examples]
        return answer_scores(texts, golds, self.no_answer)

    def show(self, kept: dict[str, np.ndarray], split: Windows) -> list[dict[str, Any]]:
        """Of every example: the question, the answer, its probability among the candidates, its
        place in the context, and the candidates, likeliest first."""
        rows = []
        found = self.answers(kept["scores"], split)
        for example, spans in zip(split.examples, found, strict=True):
            chosen, spans = spans[0], sorted(spans, key=_order)
            shares = np.exp([span.score - spans[0].score for span in spans])
            candidates = [
                {
                    "answer": example.context[span.start : span.end],
                    "probability": float(share),
                    "start": span.start,
                    "end": span.end,
                }
                for span, share in zip(spans, shares / shares.sum(), strict=True)
            ]
            answer = candidates[spans.index(chosen)]
            rows.append({"question": example.question, **answer, "candidates": candidates})
        return rows

    def answers(self, scores: np.ndarray, split: Windows) -> list[list[Span]]:
        """Candidates of every example, the chosen answer first.

        Args:
            scores: of start and end, `[rows, T, 2]`, for every row of the split.
            split: says which rows make an example.
        """
        edges = np.searchsorted(split.example_of, np.arange(len(split.examples) + 1))
        found = []
        for first, stop in zip(edges[:-1], edges[1:], strict=True):
            windows = [(scores[row], split.offsets(row)) for row in range(first, stop)]
            found.append(
                choose(
                    windows, self.max_answer_length, self.n_best,
                    self.threshold if self.no_answer else None,
                )
            )  # fmt: skip
        return found


def choose(
    windows: Sequence[tuple[np.ndarray, np.ndarray]],
    max_answer_length: int,
    n_best: int,
    threshold: float | None,
) -> list[Span]:
    """The best answers of one example over all its windows, the chosen one first.

    Args:
        windows: scores `[T, 2]` and offsets `[n, 2]` of each, as in `best_spans`.
        max_answer_length: tokens at most.
        n_best: answers at most, beside that of no answer.
        threshold: None: there is always an answer where a context has a token; else no answer is a
            candidate too. It scores what the first token does, in the window where that is least,
            and is chosen where it exceeds the best answer by more than this.

    Returns:
        At least one; an answer found in two windows stands once, with its higher score.
    """
    best: dict[tuple[int, int], float] = {}
    for scores, offsets in windows:
        for score, first, last in best_spans(scores, offsets, max_answer_length, n_best):
            place = int(offsets[first, 0]), int(offsets[last, 1])
            best[place] = max(score, best.get(place, score))
    spans = sorted((Span(score, *place) for place, score in best.items()), key=_order)[:n_best]
    nothing = Span(min((float(s[0].sum(dtype=np.float64)) for s, _ in windows), default=0.0), 0, 0)
    if not spans:
        return [nothing]
    if threshold is None:
        return spans
    none_first = nothing.score - spans[0].score > threshold
    return [nothing, *spans] if none_first else [spans[0], nothing, *spans[1:]]


def best_spans(
    scores: np.ndarray, offsets: np.ndarray, max_answer_length: int, n_best: int
) -> list[tuple[float, int, int]]:
    """The spans of one window that score highest, exactly: (score, first token, last token).

    Args:
        scores: of starting and ending at each token, `[T, 2]`.
        offsets: of each token in the context, `[n, 2]`, n <= T; empty where it is none of it.
        max_answer_length: tokens of a span at most.
        n_best: spans at most.

    Returns:
        In falling order of score, of equal ones the earlier and shorter first.
    """
    inside = np.flatnonzero(offsets[:, 1] > offsets[:, 0])
    if not len(inside):
        return []
    low, high = int(inside[0]), int(inside[-1]) + 1
    usable = (offsets[low:high, 1] > offsets[low:high, 0])[:, None]
    window = np.where(usable, np.asarray(scores[low:high], np.float64), -np.inf)
    window = np.where(np.isnan(window), -np.inf, window)
    length = min(max_answer_length, high - low)
    ends = np.concatenate([window[:, 1], np.full(length - 1, -np.inf)])
    total = window[:, :1] + np.lib.stride_tricks.sliding_window_view(ends, length)
    flat = total.reshape(-1)
    least = np.partition(flat, -n_best)[-n_best] if len(flat) > n_best else -np.inf
    chosen = np.flatnonzero((flat >= least) & (flat > -np.inf))
    chosen = chosen[np.argsort(-flat[chosen], kind="stable")][:n_best]
    return [
        (float(flat[i]), low + int(i) // length, low + int(i) // length + int(i) % length)
        for i in chosen
    ]


def _order(span: Span) -> tuple[float, int, int]:
    return -span.score, span.start, span.end
