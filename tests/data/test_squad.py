"""Questions in SQuAD's JSON: windows, splits by context, records that are malformed."""

import json

import numpy as np
import pytest
import tokenizer_folders
from hypothesis import given, settings
from hypothesis import strategies as st
from question_data import questions, write_bert, write_squad

import zoo
from zoo.data import Info, Squad
from zoo.data.passages import Cut, Passages, Question
from zoo.data.squad import read_squad
from zoo.errors import InputError

CUT = {"max_length": 14, "stride": 3, "max_question": 4}


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    return str(write_bert(tmp_path_factory.mktemp("bert")))


@pytest.fixture
def source(tmp_path, tokenizer_folder):
    path = write_squad(tmp_path / "q.json", questions(60, impossible=True))
    return Squad(path, tokenizer_folder, **CUT)


def everything(split):
    return split.rows(np.arange(len(split)))


def test_rows_of_a_source(source):
    data = source.open()
    info = data.info
    keys = ("input_ids", "attention_mask", "token_type_ids")
    assert info.inputs == {key: ((14,), "int32") for key in keys} and info.label == ((2,), "int32")
    assert info.columns["unanswerable"] == 60 and info.num_classes is None
    assert Info.from_json(json.loads(json.dumps(info.to_json()))) == info
    tokenizer = zoo.load_tokenizer(source.tokenizer)
    for name, split in data.splits.items():
        batch = everything(split)
        assert len(split) == info.counts[name] == len(split.example_of) and not split.labels()
        assert all(batch[key].dtype == np.int32 for key in batch)
        for row, (first, last) in enumerate(batch["label"]):
            one, places = split.examples[split.example_of[row]], split.offsets(row)
            tokens = tokenizer.convert_ids_to_tokens(batch["input_ids"][row].tolist())
            assert tokens[0] == "[CLS]" and one.name in split.names([row])[0]
            assert batch["attention_mask"][row].sum() == len(places)
            inside = places[:, 1] > places[:, 0]
            np.testing.assert_array_equal(batch["token_type_ids"][row, : len(places)][inside], 1)
            text = one.context[places[first, 0] : places[last, 1]]
            assert (first == last == 0) or text == one.answers[0]


def test_every_answer_stands_in_a_window_and_nothing_else_has_one(source):
    for split in source.open().splits.values():
        held = set(split.example_of[everything(split)["label"].any(1)].tolist())
        assert held == {i for i, one in enumerate(split.examples) if one.answers}


def test_no_context_is_in_two_splits(tmp_path, tokenizer_folder):
    paragraphs = questions(80)
    found = Squad(write_squad(tmp_path / "q.json", paragraphs), tokenizer_folder, **CUT).open()
    contexts = [{one.context for one in split.examples} for split in found.splits.values()]
    assert all(contexts) and not set.intersection(contexts[0], contexts[1] | contexts[2])
    assert not contexts[1] & contexts[2]
    assert set.union(*contexts) == {one["context"] for one in paragraphs}


def test_a_folder_of_files(tmp_path, tokenizer_folder):
    folder = tmp_path / "squad"
    write_squad(folder / "train-v1.1.json", questions(40, 1))
    write_squad(folder / "dev-v1.1.json", questions(7, 2))
    data = Squad(str(folder), tokenizer_folder, **CUT).open()
    splits = {name: {one.name.split(":")[0] for one in split.examples}
              for name, split in data.splits.items()}  # fmt: skip
    assert splits["train"] == splits["test"] == {str(folder / "train-v1.1.json")}
    assert splits["validation"] == {str(folder / "dev-v1.1.json")}
    assert len(data.splits["validation"].examples) == 14
    write_squad(folder / "other.json", questions(1))
    with pytest.raises(InputError, match="other.json: its name must begin"):
        Squad(str(folder), tokenizer_folder, **CUT).open()


def test_the_fingerprint_tells_answers_tokens_and_windows(tmp_path, source):
    base = source.open().info.fingerprint
    assert source.open().info.fingerprint == base
    other = questions(60, impossible=True)
    other[3]["qas"][0]["answers"] *= 2
    changed = Squad(write_squad(tmp_path / "o.json", other), source.tokenizer, **CUT)
    wider = Squad(source.path, source.tokenizer, **(CUT | {"stride": 2}))
    assert len({base, changed.open().info.fingerprint, wider.open().info.fingerprint}) == 3


CONTEXT = "Anna lives in Paris."
GOOD = {"id": "x", "question": "Where?", "answers": [{"text": "Paris", "answer_start": 14}]}
BAD = {
    "answer_start": (GOOD | {"answers": [{"text": "Paris", "answer_start": 13}]},
                     "13 points at ' Pari', not at the answer 'Paris'; it stands at 14"),
    "another text": (GOOD | {"answers": [{"text": "paris", "answer_start": 14}]}, "not hold it"),
    "beyond the end": (GOOD | {"answers": [{"text": "Paris", "answer_start": 99}]}, "99 points at"),
    "negative": (GOOD | {"answers": [{"text": ".", "answer_start": -1}]}, "answer_start is -1"),
    "a fraction": (GOOD | {"answers": [{"text": "P", "answer_start": 14.0}]}, "is 14.0"),
    "no start": (GOOD | {"answers": [{"text": "Paris"}]}, "answer_start is None"),
    "no text": (GOOD | {"answers": [{"answer_start": 3}]}, "no answer's text"),
    "an empty answer": (GOOD | {"answers": [{"text": " ", "answer_start": 4}]}, "text is empty"),
    "no list": (GOOD | {"answers": {"text": ["Paris"]}}, 'no list "answers"'),
    "no answer": (GOOD | {"answers": []}, "needs is_impossible: true"),
    "contradiction": (GOOD | {"is_impossible": True}, "is_impossible, but has 1 answers"),
    "no truth": (GOOD | {"is_impossible": "no"}, "is_impossible is 'no'"),
    "no question": ({"id": "x", "answers": []}, "no question"),
    "empty question": (GOOD | {"question": "\n"}, "the question is empty"),
    "a number": (GOOD | {"question": 7}, "the question is 7, no text"),
    "a surrogate": (GOOD | {"question": "\ud800?"}, "surrogate"),
    "no object": ("Where?", r"qas\[1\] is no object"),
}  # fmt: skip


@pytest.mark.parametrize("entry, message", BAD.values(), ids=BAD)
def test_malformed_questions_are_named_or_counted(tmp_path, tokenizer_folder, entry, message):
    paragraphs = [*questions(30), {"context": CONTEXT, "qas": [GOOD | {"id": "good"}, entry]}]
    path = tmp_path / "q.json"
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    with pytest.raises(InputError, match=f"1 malformed record(?s:.*){message}"):
        Squad(str(path), tokenizer_folder, **CUT).open()
    info = Squad(str(path), tokenizer_folder, on_bad="skip", **CUT).open().info
    assert info.skipped["count"] == 1


@pytest.mark.parametrize(
    "value, message",
    [
        ({"data": [{"paragraphs": [{"context": " ", "qas": [GOOD]}]}]}, "the context is empty"),
        ({"data": [{"paragraphs": [{"qas": [GOOD]}]}]}, "no context"),
        ({"data": [{"paragraphs": [{"context": CONTEXT}]}]}, 'no list "qas"'),
        ({"data": [{"paragraphs": [7]}]}, "no context"),
        ({"data": [{}]}, 'no list "paragraphs"'),
        ({"data": [{"paragraphs": [{"context": CONTEXT, "qas": [GOOD, GOOD]}]}]}, "stands twice"),
        ({"data": {}}, "not of SQuAD's form"),
        ([GOOD], "not of SQuAD's form"),
        ({"data": []}, "holds no question"),
    ],
)
def test_malformed_files(tmp_path, tokenizer_folder, value, message):
    path = tmp_path / "q.json"
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match=message):
        Squad(str(path), tokenizer_folder, **CUT).open()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_files_that_are_no_json(tmp_path, tokenizer_folder, content):
    (tmp_path / "q.json").write_bytes(content)
    with pytest.raises(InputError, match="q.json: not JSON"):
        Squad(str(tmp_path / "q.json"), tokenizer_folder, **CUT).open()


def test_an_answer_that_no_window_holds_is_no_training_example(tmp_path, tokenizer_folder):
    long = "new, " * 20
    paragraphs = [
        {"context": f"{long}{number}", "qas": [{"id": str(number), "question": "Where?",
         "answers": [{"text": long.strip(), "answer_start": 0}]}]}
        for number in range(20)
    ]  # fmt: skip
    path = write_squad(tmp_path / "q.json", questions(40) + paragraphs)
    with pytest.raises(InputError, match="no window of 14 tokens .* holds the answer 'new, new"):
        Squad(path, tokenizer_folder, **CUT).open()
    data = Squad(path, tokenizer_folder, on_bad="skip", **CUT).open()
    train, test = data.splits["train"], data.splits["test"]
    assert 0 < data.info.skipped["count"] < 20 and not train.unreached()
    assert not any(long in one.context for one in train.examples)
    assert any(long in one.context for one in test.examples), "a test is not made easier"
    for row, name in enumerate(train.names(range(len(train)))):
        assert name.startswith(train.examples[train.example_of[row]].name)


@pytest.mark.parametrize(
    "cut, message",
    [
        ({"max_length": 8}, "leaves 1 tokens for the context"),
        ({"stride": 7}, "more than the stride, 7"),
        ({"max_question": 0}, "max_question 0"),
        ({"stride": -1}, "the stride, -1"),
    ],
)
def test_windows_need_room(source, cut, message):
    with pytest.raises(InputError, match=message):
        Squad(source.path, source.tokenizer, **(CUT | cut)).open()


def test_no_tokenizer(source):
    with pytest.raises(InputError, match="need a tokenizer"):
        Squad(source.path).open()


@pytest.fixture(scope="module", params=["bert", "roberta_whole", "gpt2", "unigram"])
def tokenizer(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    getattr(tokenizer_folders, request.param)(folder)
    return zoo.load_tokenizer(folder)


@settings(max_examples=25, deadline=None)
@given(
    st.text("the dogs café日本🙂\u0301\u200b\n.,", min_size=1, max_size=60),
    st.integers(0, 60), st.integers(1, 9), st.integers(0, 4), st.integers(1, 6),
)  # fmt: skip
def test_windows_of_any_text(tokenizer, context, start, length, stride, room):
    """Every token of the context is in a window; spans lead back to the answer's text."""
    context += "."
    start = min(start, len(context) - 1)
    answer = context[start : start + length]
    question = Question("n", "the dogs? " * 9, context, (answer,), (start,))
    special = len(tokenizer("", "a")["input_ids"]) - len(
        tokenizer("a", add_special_tokens=False)["input_ids"]
    )
    split = Passages(tokenizer, [question], Cut(special + 5 + stride + room, stride, 5))
    batch = everything(split)
    whole = tokenizer(context, add_special_tokens=False, return_offsets_mapping=True)
    seen = {tuple(place) for row in range(len(split)) for place in split.offsets(row).tolist()}
    assert {tuple(place) for place in whole["offset_mapping"] if place[0] < place[1]} <= seen
    for row, (first, last) in enumerate(batch["label"]):
        places = split.offsets(row)
        assert 0 <= first <= last < len(places) <= batch["input_ids"].shape[1]
        if last:
            text = context[places[first, 0] : places[last, 1]]
            assert answer.strip() in text or text.strip() in answer


def test_long_questions_are_cut_and_short_ones_are_not(tokenizer):
    for words in (1, 30):
        one = Question("n", " the quick brown fox" * words, "dogs jump.")
        split = Passages(tokenizer, [one], Cut(40, 3, 6))
        ids = everything(split)["input_ids"][0].tolist()
        wanted = tokenizer(one.question.strip(), add_special_tokens=False)["input_ids"]
        places = split.offsets(0)
        kept = int(np.flatnonzero(places[:, 1] > 0)[0])
        asked = [i for i in ids[:kept] if i not in tokenizer.all_special_ids]
        assert asked[:5] == wanted[: min(5, len(asked))] and 0 < len(asked) <= 6


def test_what_is_read_to_be_answered(tmp_path, source):
    info = source.open().info
    (tmp_path / "q.jsonl").write_text('{"question": "Who?", "context": "Bob works."}\n')
    (tmp_path / "q.txt").write_text("Who?\tDora lives.\n\nWhere?\tIn Oslo\tor Rome.\n")
    asked = [str(tmp_path / "q.jsonl"), str(tmp_path / "q.txt"), "Who?\tAnna", source.path]
    found = source.read(asked, info)
    texts = [(one.question, one.context) for one in found.examples[:4]]
    assert texts == [("Who?", "Bob works."), ("Who?", "Dora lives."),
                     ("Where?", "In Oslo\tor Rome."), ("Who?", "Anna")]  # fmt: skip
    assert len(found.examples) == 4 + 180 and found.examples[1].name.endswith("q.txt:1")
    names, batch = source.encode(asked, info)
    assert len(names) == len(found) == len(batch["input_ids"]) and "label" not in batch
    for wrong, message in (
        (["Who is it?"], "a question, a tab"),
        (["Who?\t "], "a question, a tab"),
        ([], "holds no question"),
    ):
        with pytest.raises(InputError, match=message):
            source.read(wrong, info)
    (tmp_path / "bad.jsonl").write_text('{"question": "Who?"}\n{\n')
    with pytest.raises(InputError, match="2 malformed records(?s:.*)no context"):
        source.read([str(tmp_path / "bad.jsonl")], info)


def test_questions_without_answers_can_be_read(tmp_path):
    path = write_squad(tmp_path / "q.json", [
        {"context": CONTEXT, "qas": [{"id": 7, "question": "Who?"}, {"question": "Where?"}]}
    ])  # fmt: skip
    problems: list[str] = []
    found = read_squad(path, problems, answers=False)
    assert [one.name for one in found] == [
        f"{path}: question 7", f"{path}: question data[0].paragraphs[0].qas[1]",
    ]  # fmt: skip
    assert not problems
