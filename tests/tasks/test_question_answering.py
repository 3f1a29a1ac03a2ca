"""The span loss, and the best spans of one window and of several, against a search over all."""

import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data import Info
from zoo.errors import InputError
from zoo.tasks import QuestionAnswering
from zoo.tasks.question_answering import best_spans, choose

INFO = Info(
    inputs={"input_ids": ((6,), "int32")}, label=((2,), "int32"), vocab_size=9,
    columns={"unanswerable": 0},
)  # fmt: skip


def batch(label, weight=None):
    label = np.array(label, np.int32)
    given = {"input_ids": np.ones((len(label), 6), np.int32), "label": label}
    return given | ({} if weight is None else {"weight": np.array(weight, np.float32)})


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_mean_of_both_ends(smoothing):
    scores = np.random.default_rng(0).normal(size=(3, 6, 2)).astype(np.float32)
    label, weight = [(0, 0), (2, 4), (5, 5)], [1.0, 0.0, 2.0]
    task = QuestionAnswering(label_smoothing=smoothing).bind(INFO)
    total, count = task.objective(scores, batch(label, weight))
    log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    target = np.full((3, 6, 2), smoothing / 6)
    for row, ends in enumerate(label):
        for end, token in enumerate(ends):
            target[row, token, end] += 1 - smoothing
    expected = -(target * log_p).sum(1).mean(1)
    assert float(total) == pytest.approx(np.dot(expected, weight), rel=1e-6)
    assert float(count) == 3.0


def all_spans(scores, offsets, longest):
    """Every allowed span, the best first."""
    inside = [a < b for a, b in offsets]
    found = [
        (float(scores[i, 0]) + float(scores[j, 1]), i, j)
        for i in range(len(offsets))
        for j in range(i, min(i + longest, len(offsets)))
        if inside[i] and inside[j]
    ]
    return sorted(found, key=lambda span: (-span[0], span[1], span[2]))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 12), st.booleans())
def test_best_spans_equal_a_search_over_all(seed, longest, n_best, ties):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(14, 2))
    scores = np.round(scores) if ties else scores
    offsets = np.zeros((int(rng.integers(0, 13)), 2), np.int32)
    for token in range(int(rng.integers(0, 4)), len(offsets)):
        offsets[token] = (3 * token, 3 * token + (2 if rng.random() < 0.9 else 0))
    found = best_spans(scores, offsets, longest, n_best)
    assert found == all_spans(scores, offsets, longest)[:n_best]


def window(first, count, **scores):
    """Scores of a window on `count` tokens of one character from `first`, after two of no text."""
    values = np.zeros((count + 3, 2))
    for name, value in scores.items():
        kind, _, token = name.partition("_")
        values[int(token) - first + 2 if token else 0, "se".index(kind)] = value
    places = [(i, i + 1) for i in range(first, first + count)]
    return values, np.array([(0, 0), (0, 0), *places, (0, 0)], np.int32)


def test_one_answer_out_of_several_windows():
    windows = [window(0, 4, s_1=3.0, e_2=2.0), window(2, 4, s_4=4.0, e_5=5.0, s_2=1.0)]
    spans = choose(windows, 3, 4, None)
    assert (spans[0].score, spans[0].start, spans[0].end) == (9.0, 4, 6)
    assert len({(s.start, s.end) for s in spans}) == len(spans) == 4
    same = [window(0, 4, s_3=1.0, e_3=1.0), window(2, 4, s_3=2.0, e_3=5.0)]
    best = choose(same, 3, 20, None)
    assert (best[0].score, best[0].start, best[0].end) == (7.0, 3, 4)
    assert sum((s.start, s.end) == (3, 4) for s in best) == 1


@pytest.mark.parametrize("threshold, none_first", [(-2.5, True), (0.0, False), (1.0, False)])
def test_no_answer_by_its_least_score(threshold, none_first):
    windows = [window(0, 3, s=5.0, e=4.0, s_1=2.0, e_1=2.0), window(1, 3, s=1.0, e=1.0)]
    first, second, *_ = choose(windows, 3, 5, threshold)
    none, answer = (first, second) if none_first else (second, first)
    assert (none.score, none.start, none.end) == (2.0, 0, 0)
    assert (answer.score, answer.start, answer.end) == (4.0, 1, 2)


def test_scores_that_are_no_numbers_and_windows_without_text():
    empty = (np.zeros((4, 2)), np.zeros((4, 2), np.int32))
    assert [(s.start, s.end) for s in choose([empty], 3, 5, None)] == [(0, 0)]
    values, offsets = window(0, 3, s_1=1.0)
    values[3] = np.nan
    assert all(span.start != 1 for span in choose([(values, offsets)], 3, 20, None))


def example(context, *answers):
    return types.SimpleNamespace(name="n", question="q", context=context, answers=answers)


def split(*windows_of):
    """A split from (example, windows) pairs."""
    owners = [i for i, (_, windows) in enumerate(windows_of) for _ in windows]
    rows = [one for _, windows in windows_of for one in windows]
    scores = np.zeros((len(rows), 9, 2), np.float32)
    for row, (values, _) in enumerate(rows):
        scores[row, : len(values)] = values
    return {"scores": scores}, types.SimpleNamespace(
        example_of=np.array(owners),
        examples=[one for one, _ in windows_of],
        offsets=lambda row: rows[row][1],
    )


def test_examples_are_scored_and_shown():
    kept, rows = split(
        (example("abcdef", "de"), [window(0, 4, s_1=3.0), window(2, 4, s_3=4.0, e_4=4.0)]),
        (example("xyz"), [window(0, 3, s=9.0, e_1=1.0)]),
    )
    task = QuestionAnswering(no_answer=True, n_best=3).bind(INFO)
    found = task.score(kept, rows)
    assert found["exact_match"] == found["no_answer_accuracy"] == 1.0
    assert QuestionAnswering().bind(INFO).score(kept, rows)["exact_match"] == 0.5
    first, second = task.show(kept, rows)
    assert (first["answer"], first["start"], first["end"]) == ("de", 3, 5)
    assert first["probability"] == max(c["probability"] for c in first["candidates"])
    assert sum(c["probability"] for c in first["candidates"]) == pytest.approx(1)
    assert second["answer"] == "" and len(second["candidates"]) == 4


@pytest.mark.parametrize(
    "options, info, message",
    [
        ({}, {"columns": {"unanswerable": 3}}, "3 questions have no answer"),
        ({}, {"label": ((3,), "int32")}, r"shape \(2,\)"),
        ({}, {"label": ((), "int32")}, "first and last token"),
        ({}, {"inputs": {"image": ((2,), "float32")}}, "questions and contexts"),
    ],
)
def test_data_that_do_not_fit(options, info, message):
    values = {"inputs": INFO.inputs, "label": INFO.label} | info
    with pytest.raises(InputError, match=message):
        QuestionAnswering(**options).bind(Info(**values))


def test_bad_batches_and_options_are_refused():
    task = QuestionAnswering().bind(INFO)
    task.check(batch([(0, 5)]), INFO, ["a"])
    with pytest.raises(InputError, match=r"b: label\[1\] is 6; .* 0 to 5"):
        task.check(batch([(0, 5), (0, 6)]), INFO, ["a", "b"])
    with pytest.raises(InputError, match="3 columns"):
        task.check(batch([(0, 5, 1)]), INFO, ["a"])
    for options in ({"n_best": 0}, {"max_answer_length": 0}, {"label_smoothing": 1.0}):
        with pytest.raises(InputError):
            QuestionAnswering(**options)
