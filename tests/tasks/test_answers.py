"""Exact match and F1 of answers, by hand and beside a second, plainer scorer."""

import itertools
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import InputError
from zoo.tasks.metrics.answers import answer_score, answer_scores, normalised


@pytest.mark.parametrize(
    "text, expected",
    [
        ("The  Eiffel-Tower!", "eiffeltower"),
        ("a cat, an owl and the dog", "cat owl and dog"),
        ("theatre", "theatre"),
        ("A.", ""),
        ("U.S.A.", "usa"),
        ("don't", "dont"),
        ("“quotes” stay", "“quotes” stay"),
        ("ÉCOLE\u00a0de\tParis", "école de paris"),
        ("the-the", "thethe"),
        ("", ""),
    ],
)
def test_normalised(text, expected):
    assert normalised(text) == expected


@pytest.mark.parametrize(
    "answer, golds, old, new",
    [
        ("Denver Broncos", ["the Denver Broncos!"], (1, 1), (1, 1)),
        ("Denver", ["Denver Broncos"], (0, 2 / 3), (0, 2 / 3)),
        ("in the city of Paris", ["Paris", "city of Paris"], (0, 6 / 7), (0, 6 / 7)),
        ("to be or not to be", ["be be be"], (0, 2 * 2 / 9), (0, 2 * 2 / 9)),
        ("London", ["Paris"], (0, 0), (0, 0)),
        ("", ["Paris"], (0, 0), (0, 0)),
        ("London", [], (0, 0), (0, 0)),
        ("", [], (0, 0), (1, 1)),
        ("the", ["a"], (1, 0), (1, 1)),  # without a word: equal, and F1 told apart by the version
        ("the", ["a", "Paris"], (1, 0), (0, 0)),  # 2.0 does not count the first answer
    ],
)
def test_known_scores(answer, golds, old, new):
    assert answer_score(answer, golds, False) == pytest.approx(old)
    assert answer_score(answer, golds, True) == pytest.approx(new)


def test_means_over_questions():
    answers, golds = ["Paris", "", "Rome", "it"], [["paris"], [], ["Rome, Italy", "Milan"], []]
    assert answer_scores(answers, golds, True) == {
        "exact_match": 2 / 4,
        "f1": pytest.approx((1 + 1 + 2 / 3 + 0) / 4),
        "has_answer_exact_match": 1 / 2,
        "has_answer_f1": pytest.approx((1 + 2 / 3) / 2),
        "no_answer_accuracy": 1 / 2,
    }
    assert answer_scores(answers, golds, False).keys() == {"exact_match", "f1"}
    assert set(answer_scores([], [], True).values()) == {None}
    with pytest.raises(InputError, match="1 answers to 2"):
        answer_scores(["a"], [[], []], False)


def plain_scores(answer, golds, second_version):
    """Written from the description alone, character by character and word by word."""

    def words(text):
        kept = "".join(c for c in text.lower() if c not in string.punctuation)
        spaced, word = [], ""
        for char in kept + " ":
            if char.isalnum() or char == "_":
                word += char
            else:
                spaced += [" " if word in ("a", "an", "the") else word, char]
                word = ""
        return "".join(spaced).split()

    def f1(ours, theirs):
        if second_version and (not ours or not theirs):
            return 1.0 if ours == theirs else 0.0
        left, same = list(theirs), 0
        for word in ours:
            if word in left:
                left.remove(word)
                same += 1
        if not same:
            return 0.0
        precision, recall = same / len(ours), same / len(theirs)
        return 2 * precision * recall / (precision + recall)

    wanted = [words(gold) for gold in golds]
    if second_version:
        wanted = [gold for gold in wanted if gold] or [[]]
    best = [(float(words(answer) == gold), f1(words(answer), gold)) for gold in wanted]
    return (max(m for m, _ in best), max(f for _, f in best)) if best else (0.0, 0.0)


TEXTS = st.lists(
    st.sampled_from(["the", "The", "a", "an", "cat", "Cat", "cat's", "!", "-", "x,", "é", "\t"]),
    max_size=5,
).map(" ".join) | st.text("aTHEn .'é\u0301_-", max_size=8)


@settings(max_examples=400, deadline=None)
@given(TEXTS, st.lists(TEXTS, max_size=3), st.booleans())
def test_scores_equal_a_plainer_scorer(answer, golds, second_version):
    found = answer_score(answer, golds, second_version)
    assert found == pytest.approx(plain_scores(answer, golds, second_version), abs=1e-12)


def test_the_best_accepted_answer_counts_whatever_their_order():
    for golds in itertools.permutations(["Paris", "Paris, France", "France"]):
        assert answer_score("France", golds, False) == (1, 1)
