"""Metrics of generated text: exact match and corpus BLEU, as sums that merge."""

from collections.abc import Sequence

import numpy as np

from zoo.errors import InputError, require
from zoo.tasks.metrics.metric import Scores, State

ORDERS = 4


def text_counts(hypotheses: Sequence[str], references: Sequence[str], bleu: bool) -> State:
    """Counts of a list of generated texts against their references, all int64.

    Args:
        hypotheses: what was generated, one text per example.
        references: what was wanted, in the same order.
        bleu: also count the n-grams, which needs sacrebleu.

    Raises:
        InputError: the lists differ in length, or sacrebleu is not installed.
    """
    if len(hypotheses) != len(references):
        raise InputError(f"{len(hypotheses)} texts against {len(references)} references")
    pairs = zip(hypotheses, references, strict=True)
    state = {
        "exact": np.int64(sum(ours == theirs for ours, theirs in pairs)),
        "count": np.int64(len(references)),
    }
    if not bleu:
        return state
    correct = total = np.zeros(ORDERS, np.int64)
    lengths = np.zeros(2, np.int64)
    if hypotheses:
        score = require("sacrebleu", "text").corpus_bleu(
            list(hypotheses), [list(references)], force=True
        )
        correct, total = np.array(score.counts, np.int64), np.array(score.totals, np.int64)
        lengths = np.array([score.sys_len, score.ref_len], np.int64)
    return state | {"correct": correct, "total": total, "lengths": lengths}


def merge_text_counts(a: State, b: State) -> State:
    """The counts of both lists together."""
    return {key: np.asarray(a[key] + b[key], np.int64) for key in a}


def text_scores(state: State) -> Scores:
    """`exact_match` in [0, 1] and, where n-grams were counted, `bleu` in [0, 100].

    BLEU equals `sacrebleu.corpus_bleu` on the whole list (13a tokens, exponential smoothing).
    Both are None when there are no texts.
    """
    count = int(state["count"])
    scores: Scores = {"exact_match": int(state["exact"]) / count if count else None}
    if "correct" in state and not count:
        scores["bleu"] = None
    elif "correct" in state:
        score = require("sacrebleu.metrics", "text").BLEU.compute_bleu(
            state["correct"].tolist(),
            state["total"].tolist(),
            *state["lengths"].tolist(),
            smooth_method="exp",
            max_ngram_order=ORDERS,
        )
        scores["bleu"] = float(score.score)
    return scores
