"""Words with tags: alignment with tokens, JSON lines and columns, sentences that are malformed."""

import json

import numpy as np
import pytest
import tokenizer_folders
from hypothesis import given, settings
from hypothesis import strategies as st
from question_data import sentences, write_bert, write_columns, write_jsonl

import zoo
from zoo.data import Info, TaggedWords
from zoo.data.sentences import Sentence, Sentences
from zoo.data.tagged import split_words
from zoo.errors import InputError

TAGS = ("O", "B-LOC", "B-PER", "I-LOC")


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    return str(write_bert(tmp_path_factory.mktemp("bert")))


def everything(split):
    return split.rows(np.arange(len(split)))


def test_rows_of_a_source(tmp_path, tokenizer_folder):
    path = write_jsonl(tmp_path / "t.jsonl", sentences(60))
    data = TaggedWords(path, tokenizer_folder, max_length=14, stride=3).open()
    info = data.info
    assert info.class_names == TAGS and info.num_classes == 4
    assert info.label == ((14,), "int32") and info.max_length == 14
    assert Info.from_json(json.loads(json.dumps(info.to_json()))) == info
    tokenizer = zoo.load_tokenizer(tokenizer_folder)
    counts = np.zeros(4, int)
    for name, split in data.splits.items():
        assert len(split) == info.counts[name] and split.labels() is None
        batch = everything(split)
        for row, one in enumerate(split.examples):
            at = np.flatnonzero(batch["label"][row] != -100)
            assert [info.class_names[i] for i in batch["label"][row, at]] == list(one.tags)
            firsts = [tokenizer.tokenize(word)[0] for word in one.words]
            ids = batch["input_ids"][row]
            assert tokenizer.convert_ids_to_tokens(ids[at].tolist()) == firsts
            assert ids[0] == 2 and batch["attention_mask"][row].sum() == (ids > 0).sum()
            counts += np.bincount(batch["label"][row, at], minlength=4) * (name == "train")
    assert info.class_counts == tuple(counts)


@pytest.mark.parametrize("between", [" ", "\t", "  \t"])
def test_columns_are_the_same_as_json_lines(tmp_path, tokenizer_folder, between):
    rows = sentences(50)
    lines = TaggedWords(write_jsonl(tmp_path / "t.jsonl", rows), tokenizer_folder).open()
    path = write_columns(tmp_path / "t.conll", rows, between)
    columns = TaggedWords(path, tokenizer_folder).open()
    assert lines.info == columns.info
    (tmp_path / "t.conll").write_bytes((tmp_path / "t.conll").read_bytes().replace(b"\n", b"\r\n"))
    assert TaggedWords(path, tokenizer_folder).open().info == columns.info
    third = TaggedWords(path, tokenizer_folder, tag_column=1).open()
    assert third.info.class_names == ("NN",)


def test_comments_and_hashes_in_columns(tmp_path, tokenizer_folder):
    text = "# id = 1\n# text = a b\n1\tbob\tB-PER\n2\t#\tO\n\n#\tbob\tB-PER\n\n\n# end\n"
    (tmp_path / "t.conllu").write_text(text * 20)
    source = TaggedWords(str(tmp_path / "t.conllu"), tokenizer_folder, word_column=1)
    found = source._read(source.path, [])
    assert [(one.words, one.tags) for one in found[:2]] == [
        (("bob", "#"), ("B-PER", "O")), (("bob",), ("B-PER",)),
    ]  # fmt: skip
    assert len(found) == 40 and found[0].name.endswith("t.conllu:3")


def test_a_folder_of_files_and_numbers_as_tags(tmp_path, tokenizer_folder):
    rows = [(words, [len(tag) % 11 for tag in tags]) for words, tags in sentences(30)]
    folder = tmp_path / "tags"
    folder.mkdir()
    for name, part in (("train", rows[:20]), ("valid", rows[20:25]), ("test", rows[25:])):
        write_jsonl(folder / f"{name}.jsonl", part, "words", "ner")
    source = TaggedWords(str(folder), tokenizer_folder, words="words", tags="ner")
    info = source.open().info
    assert info.class_names == ("1", "5") and info.counts == {
        "train": 20,
        "validation": 5,
        "test": 5,
    }


def test_the_same_sentence_is_in_one_split(tmp_path, tokenizer_folder):
    data = TaggedWords(write_jsonl(tmp_path / "t.jsonl", sentences(200)), tokenizer_folder).open()
    parts = [{one.words for one in split.examples} for split in data.splits.values()]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])


BAD = {
    "lengths": ({"tokens": ["a", "b"], "tags": ["O"]}, "2 words and 1 tags"),
    "no tags": ({"tokens": ["a"]}, "no list 'tags'; it has tokens"),
    "no words": ({"tokens": [], "tags": []}, "no words"),
    "a text": ({"tokens": "a b", "tags": ["O", "O"]}, "no list 'tokens'"),
    "an empty word": ({"tokens": ["a", " "], "tags": ["O", "O"]}, "word 2 is ' '"),
    "a number": ({"tokens": [3], "tags": ["O"]}, "word 1 is 3"),
    "no tag": ({"tokens": ["a"], "tags": [None]}, "tag 1 is None"),
    "truth": ({"tokens": ["a"], "tags": [True]}, "tag 1 is True"),
    "an empty tag": ({"tokens": ["a"], "tags": [""]}, "tag 1 is ''"),
    "a surrogate": ({"tokens": ["\ud800"], "tags": ["O"]}, "surrogate"),
    "nothing left": ({"tokens": ["a", "\u200b"], "tags": ["O", "O"]}, "leaves nothing of the word"),
    "no object": ([1], "not a JSON object"),
}


@pytest.mark.parametrize("record, message", BAD.values(), ids=BAD)
def test_malformed_sentences_are_named_or_counted(tmp_path, tokenizer_folder, record, message):
    path = tmp_path / "t.jsonl"
    write_jsonl(path, sentences(40))
    path.write_text(json.dumps(record) + "\n" + path.read_text())
    with pytest.raises(InputError, match=f"1 malformed record(?s:.*)t.jsonl:1: .*{message}"):
        TaggedWords(str(path), tokenizer_folder).open()
    info = TaggedWords(str(path), tokenizer_folder, on_bad="skip").open().info
    assert info.skipped["count"] == 1 and info.class_names == TAGS


@pytest.mark.parametrize(
    "text, message",
    [
        ("a O\nb\n", r"t.txt:2: 1 columns, the lines before have 2"),
        ("a O\n\nb X O\n", r"t.txt:3: 3 columns"),
        ("a\nb\n", r"no column 1 of 1"),
    ],
)
def test_malformed_columns(tmp_path, tokenizer_folder, text, message):
    (tmp_path / "t.txt").write_text(text)
    column = 1 if "no column" in message else -1
    with pytest.raises(InputError, match=message):
        TaggedWords(str(tmp_path / "t.txt"), tokenizer_folder, tag_column=column).open()


@pytest.mark.parametrize(
    "content, message", [(b"", "no sentence"), (b"\n\n", "no sentence"), (b"\xff O", "not UTF-8")]
)
def test_files_without_sentences(tmp_path, tokenizer_folder, content, message):
    for name in ("t.txt", "t.jsonl"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message if name == "t.txt" else "no sentence|malform"):
            TaggedWords(str(tmp_path / name), tokenizer_folder).open()


@pytest.fixture(scope="module", params=["bert", "roberta_whole", "gpt2_ends", "unigram"])
def tokenizer(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    getattr(tokenizer_folders, request.param)(folder)
    return zoo.load_tokenizer(folder)


WORDS = st.lists(
    st.sampled_from(["the", "tokenization", "unaffable", "café", "日本", "\u200b", "zzz", "🙂"]),
    min_size=1, max_size=25,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=3), st.integers(6, 20), st.integers(0, 2))
def test_each_word_is_labelled_once_at_its_first_token(tokenizer, texts, length, stride):
    examples = [Sentence(str(i), tuple(w), ("A",) * len(w)) for i, w in enumerate(texts)]
    split = Sentences(tokenizer, examples, {"A": 7}, length, stride)
    batch = everything(split)
    lost = split.without_token()
    for number, words in enumerate(texts):
        rows = np.flatnonzero(split.example_of == number)
        found = [int(word) for row in rows for word in split.words(row) if word >= 0]
        assert found == sorted(set(found)) and len(rows)
        assert {words[i] for i in range(len(words)) if i not in found} <= {"\u200b"}
        assert (number in lost) == (len(found) < len(words))
        labels = batch["label"][rows]
        assert (labels[labels != -100] == 7).all() and (labels != -100).sum() == len(found)
        for row in rows:
            at = np.flatnonzero(batch["label"][row] != -100)
            assert (split.words(row)[at] >= 0).all()
            assert (batch["attention_mask"][row, at] == 1).all()


@pytest.mark.parametrize("length, stride, message", [(7, 0, "8 or more"), (12, 10, "stride=10")])
def test_rows_need_room(tmp_path, tokenizer_folder, length, stride, message):
    path = write_jsonl(tmp_path / "t.jsonl", sentences(40))
    with pytest.raises(InputError, match=message):
        TaggedWords(path, tokenizer_folder, max_length=length, stride=stride).open()


def test_a_space_stands_before_a_word_where_tokens_tell(tmp_path):
    tokenizer_folders.roberta_whole(tmp_path)
    tokenizer = zoo.load_tokenizer(tmp_path)
    split = Sentences(tokenizer, [Sentence("n", ("the", "dog"))], {}, 12, 0)
    ids = everything(split)["input_ids"][0].tolist()
    assert "".join(tokenizer.convert_ids_to_tokens(ids)).startswith("<s>ĠtheĠdog</s>")


@pytest.mark.parametrize(
    "text, words",
    [
        ("Anna lives in Paris.", "Anna lives in Paris ."),
        ("“Don't,” (he said)...", "“ Don't , ” ( he said ) . . ."),
        ("U.S.A. 3.5%", "U.S.A . 3.5 %"),
        ("...", ". . ."),
        ("日本 🙂!", "日本 🙂 !"),
    ],
)
def test_words_of_a_sentence(text, words):
    assert split_words(text) == tuple(words.split())


def test_what_is_read_to_be_tagged(tmp_path, tokenizer_folder):
    source = TaggedWords(write_jsonl(tmp_path / "t.jsonl", sentences(40)), tokenizer_folder)
    info = source.open().info
    (tmp_path / "s.txt").write_text("Bob works.\n\nIn Rome\n")
    found = source.read([str(tmp_path / "s.txt"), "Carl", source.path], info)
    assert [one.words for one in found.examples[:3]] == [
        ("Bob", "works", "."), ("In", "Rome"), ("Carl",),
    ]  # fmt: skip
    assert len(found.examples) == 43 and (everything(found)["label"] == -100).all()
    names, batch = source.encode(["Bob"], info)
    assert names == ["text 1"] and "label" not in batch
    with pytest.raises(InputError, match="no sentence"):
        source.read([], info)
