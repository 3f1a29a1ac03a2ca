"""Exact match and F1 of answers, as the official scorers of SQuAD 1.1 and 2.0 define them."""

import re
import string
from collections import Counter
from collections.abc import Sequence

from zoo.errors import InputError
from zoo.tasks.metrics.metric import Scores

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(answer: str) -> str:
    """Lower case, without ASCII punctuation and articles, words joined by one space."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


def exact(answer: str, gold: str) -> float:
    """1 where both are the same once normalised, else 0."""
    return float(normalised(answer) == normalised(gold))


def overlap(answer: str, gold: str, no_answer: bool = False) -> float:
    """F1 of the words that both have in common, counted with repetition.

    Args:
        answer: what was predicted.
        gold: what was wanted.
        no_answer: two texts without a word agree (SQuAD 2.0), or do not (1.1).
    """
    ours, theirs = normalised(answer).split(), normalised(gold).split()
    if no_answer and not (ours and theirs):
        return float(ours == theirs)
    same = sum((Counter(ours) & Counter(theirs)).values())
    # 2 p r / (p + r), with p and r of the words; written so that no digit is lost.
    return 2 * same / (len(ours) + len(theirs)) if same else 0.0


def answer_score(answer: str, golds: Sequence[str], no_answer: bool) -> tuple[float, float]:
    """(exact match, F1) of one answer, each the best over the accepted answers.

    Args:
        answer: what was predicted; empty for none.
        golds: accepted answers; none where the question has no answer.
        no_answer: score as SQuAD 2.0 does: no answer is an answer, and accepted answers without a
            word do not count. Otherwise a question without accepted answers scores 0.
    """
    if no_answer:
        golds = [gold for gold in golds if normalised(gold)] or [""]
    if not golds:
        return 0.0, 0.0
    return (
        max(exact(answer, gold) for gold in golds),
        max(overlap(answer, gold, no_answer) for gold in golds),
    )


def answer_scores(
    answers: Sequence[str], golds: Sequence[Sequence[str]], no_answer: bool
) -> Scores:
    """Means over the questions; times 100 they are what the official scorers print.

    `exact_match` and `f1`; with `no_answer` also both of the questions that have an answer
    (`has_answer_exact_match`, `has_answer_f1`) and the share of the others that were left without
    (`no_answer_accuracy`). None where there is no such question.

    Raises:
        InputError: the lists differ in length.
    """
    if len(answers) != len(golds):
        raise InputError(f"{len(answers)} answers to {len(golds)} questions")
    found = [
        (bool(accepted), *answer_score(answer, accepted, no_answer))
        for answer, accepted in zip(answers, golds, strict=True)
    ]
    scores: Scores = {
        "exact_match": _mean([match for _, match, _ in found]),
        "f1": _mean([f1 for _, _, f1 in found]),
    }
    if no_answer:
        scores["has_answer_exact_match"] = _mean([match for has, match, _ in found if has])
        scores["has_answer_f1"] = _mean([f1 for has, _, f1 in found if has])
        scores["no_answer_accuracy"] = _mean([match for has, match, _ in found if not has])
    return scores


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
