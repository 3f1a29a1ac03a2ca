"""Entities of tags, by hand and beside a definition that asks every span."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.tasks.metrics.entities import entities, entity_scores, marks_entities


@pytest.mark.parametrize(
    "tags, expected",
    [
        ("B-X I-X O B-Y", [("X", 0, 2), ("Y", 3, 4)]),
        ("I-X I-X B-X I-Y", [("X", 0, 2), ("X", 2, 3), ("Y", 3, 4)]),  # IOB1
        ("S-X B-X I-X E-X O E-X", [("X", 0, 1), ("X", 1, 4), ("X", 5, 6)]),  # BIOES
        ("U-X B-X L-X", [("X", 0, 1), ("X", 1, 3)]),  # BILOU
        ("E-X E-X I-X", [("X", 0, 1), ("X", 1, 2), ("X", 2, 3)]),
        ("B-X I-Y I-X", [("X", 0, 1), ("Y", 1, 2), ("X", 2, 3)]),
        ("B-new-type I-new-type", [("new-type", 0, 2)]),
        ("B I O I", [("", 0, 2), ("", 3, 4)]),
        ("O O", []),
        ("", []),
    ],
)
def test_entities(tags, expected):
    assert entities(tags.split()) == expected


TAGS = ["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in "XY")]


def every_span(tags):
    """All (type, start, stop) such that an entity begins at start, none does inside, it ends."""

    def begins(at):
        prefix, _, kind = tags[at].partition("-")
        if prefix in ("O", "B", "S") or at == 0:
            return prefix != "O"
        last, _, last_kind = tags[at - 1].partition("-")
        return last in ("O", "E", "S") or kind != last_kind

    found = []
    for start in range(len(tags)):
        for stop in range(start + 1, len(tags) + 1):
            inside = all(tags[at] != "O" for at in range(start, stop))
            whole = not any(begins(at) for at in range(start + 1, stop))
            ended = stop == len(tags) or tags[stop] == "O" or begins(stop)
            if inside and begins(start) and whole and ended:
                found.append((tags[start].partition("-")[2], start, stop))
    return found


def test_entities_equal_a_search_over_every_span():
    for length in range(1, 5):
        for tags in product(TAGS, repeat=length):
            assert entities(tags) == every_span(tags), tags


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS))), max_size=5))
def test_scores_count_the_same_spans(sentences):
    ours = [[a for a, _ in sentence] for sentence in sentences]
    theirs = [[b for _, b in sentence] for sentence in sentences]
    found = entity_scores(ours, theirs)
    if not sentences:
        assert found["entity_f1"] is None
        return
    guessed = [(i, *span) for i, tags in enumerate(ours) for span in every_span(tags)]
    wanted = [(i, *span) for i, tags in enumerate(theirs) for span in every_span(tags)]
    right = [span for span in guessed if span in wanted]
    precision = len(right) / len(guessed) if guessed else 0
    recall = len(right) / len(wanted) if wanted else 0
    assert found["entity_precision"] == pytest.approx(precision)
    assert found["entity_recall"] == pytest.approx(recall)
    both = precision + recall
    assert found["entity_f1"] == pytest.approx(2 * precision * recall / both if both else 0)
    for kind, f1 in found["entity_f1_per_type"].items():
        n = [sum(span[1] == kind for span in spans) for spans in (right, guessed, wanted)]
        assert f1 == pytest.approx(2 * n[0] / (n[1] + n[2]))


@pytest.mark.parametrize(
    "names, expected",
    [
        (["O", "B-PER", "I-PER"], True),
        (["I-PER", "O"], True),
        (["S-A", "E-A", "B-A", "I-A"], True),
        (["O"], False),
        (["NOUN", "VERB"], False),
        (["B-", "O"], False),
        (["0", "1"], False),
        ([], False),
    ],
)
def test_which_tags_mark_entities(names, expected):
    assert marks_entities(names) == expected
