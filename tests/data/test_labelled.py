"""Labelled texts in a pretrained model's tokens: formats, pairs, kinds of labels, hostile rows."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizer_folders
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo import data
from zoo.data import LabelledText
from zoo.data.tokenizer import load_tokenizer
from zoo.errors import InputError

WORDS = "the dog and dogs token one line".split()
ROWS = [
    {
        "text": f"{WORDS[i % 7]} {WORDS[i * 3 % 7]} {i}", "second": f"{WORDS[i * 5 % 7]} {i}",
        "label": ("bad", "good", "odd")[i % 3], "many": ["a", "b", "c"][: i % 4],
        "score": i / 7, "split": ("train", "train", "dev", "test")[i % 4],
    }
    for i in range(60)
]  # fmt: skip


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A WordPiece folder. Read only."""
    return str(tokenizer_folders.bert(tmp_path_factory.mktemp("bert")))


def write(path, rows=ROWS):
    """The rows in the format of the path's ending."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        comma = "," if path.suffix == ".csv" else "\t"
        kept = [k for k in rows[0] if not isinstance(rows[0][k], list)]
        lines = [comma.join(kept), *(comma.join(str(row[k]) for k in kept) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    return str(path)


def everything(split):
    return split.rows(np.arange(len(split)))


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
def test_every_format_gives_the_same_examples(ending, tmp_path, bert):
    opened = LabelledText(write(tmp_path / f"t.{ending}"), tokenizer=bert, max_length=9).open()
    first = LabelledText(write(tmp_path / "u.jsonl"), tokenizer=bert, max_length=9).open()
    assert opened.info.fingerprint == first.info.fingerprint
    assert opened.info.class_names == ("bad", "good", "odd") and opened.info.max_length == 9
    assert opened.info.vocab_size == len(load_tokenizer(bert)) and opened.info.pad is not None
    for split in opened.splits:
        ours, theirs = everything(opened.splits[split]), everything(first.splits[split])
        assert ours.keys() == {"input_ids", "attention_mask", "token_type_ids", "label"}
        for key in ours:
            np.testing.assert_array_equal(ours[key], theirs[key])
            assert ours[key].dtype == np.int32


@pytest.mark.parametrize("pair", ["", "second"])
def test_rows_are_what_the_tokenizer_gives(pair, tmp_path, bert):
    source = LabelledText(
        write(tmp_path / "t.jsonl"), pair=pair, tokenizer=bert, max_length=8, split="split"
    )
    opened = source.open()
    wanted = [row for row in ROWS if row["split"] == "dev"]
    found = everything(opened.splits["validation"])
    again = load_tokenizer(bert)(
        [row["text"] for row in wanted], [row[pair] for row in wanted] if pair else None,
        padding="max_length", truncation=True, max_length=8, return_tensors="np",
    )  # fmt: skip
    for key in again:
        np.testing.assert_array_equal(found[key], again[key])
    assert [("bad", "good", "odd")[i] for i in found["label"]] == [row["label"] for row in wanted]
    assert found["token_type_ids"].any() == bool(pair)
    names, batch = source.encode(
        [f"{ROWS[2]['text']}\t{ROWS[2]['second']}" if pair else ROWS[2]["text"]], opened.info
    )
    assert names == ["text 1"]
    for key in batch:
        np.testing.assert_array_equal(batch[key][0], found[key][0])


def test_several_labels_in_lists_and_after_commas(tmp_path, bert):
    options = {"kind": "multilabel", "label": "many", "tokenizer": bert, "max_length": 8}
    lists = LabelledText(write(tmp_path / "t.jsonl"), **options).open()
    parquet = LabelledText(write(tmp_path / "t.parquet"), **options).open()
    commas = [row | {"many": ", ".join(row["many"])} for row in ROWS]
    joined = LabelledText(write(tmp_path / "c.jsonl", commas), **options).open()
    assert lists.info.class_names == ("a", "b", "c")
    assert lists.info.fingerprint == joined.info.fingerprint == parquet.info.fingerprint
    label = everything(lists.splits["train"])["label"]
    assert label.shape[1] == 3 and set(map(tuple, label.tolist())) == {
        (0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1)
    }  # fmt: skip


def test_numbers_are_standardised_by_the_training_split(tmp_path, bert):
    opened = LabelledText(
        write(tmp_path / "t.csv"), label="score", kind="regression", tokenizer=bert,
        max_length=8, split="split",
    ).open()  # fmt: skip
    scores = np.array([row["score"] for row in ROWS if row["split"] == "train"])
    np.testing.assert_allclose(opened.info.label_mean, scores.mean(), rtol=1e-6)
    label = everything(opened.splits["train"])["label"]
    np.testing.assert_allclose(label, (scores - scores.mean()) / scores.std(), rtol=1e-5)


def test_a_folder_of_files_says_which_split(tmp_path, bert):
    for name in ("train", "valid", "test"):
        write(tmp_path / f"{name}.jsonl", ROWS[{"train": 0, "valid": 1, "test": 2}[name] :: 3])
    opened = LabelledText(str(tmp_path), label="split", tokenizer=bert, max_length=8).open()
    assert opened.info.counts == {"train": 20, "validation": 20, "test": 20}
    write(tmp_path / "more.jsonl")
    with pytest.raises(InputError, match="more.jsonl: the name of a file must be train"):
        LabelledText(str(tmp_path), tokenizer=bert).open()


def test_equal_texts_share_a_split(tmp_path, bert):
    rows = [row | {"label": label} for row in ROWS for label in ("good", "bad")]
    opened = LabelledText(write(tmp_path / "t.jsonl", rows), tokenizer=bert, max_length=12).open()
    for split in opened.splits.values():
        lines = [int(name.rpartition(":")[2]) - 1 for name in split.names(range(len(split)))]
        assert sorted(lines) == sorted({line ^ 1 for line in lines})  # two lines for each text


def test_another_tokenizer_makes_other_data(tmp_path, bert):
    other = tmp_path / "other"
    other.mkdir()
    tokenizer_folders.bert_whole(other)
    path = write(tmp_path / "t.jsonl")
    ours = LabelledText(path, tokenizer=bert, max_length=9).open().info.fingerprint
    assert LabelledText(path, tokenizer=str(other), max_length=9).open().info.fingerprint != ours
    assert LabelledText(path, tokenizer=bert, max_length=10).open().info.fingerprint != ours
    moved = shutil.copytree(bert, tmp_path / "moved")
    assert LabelledText(path, tokenizer=str(moved), max_length=9).open().info.fingerprint == ours


BAD = [
    ({"text": None}, {}, "column 'text': the value is missing"),
    ({"text": "  "}, {}, "column 'text': the value is missing"),
    ({"text": ["a"]}, {}, "column 'text' holds a list or an object"),
    ({"label": None}, {}, "column 'label': the value is missing"),
    ({"score": "much"}, {"label": "score", "kind": "regression"}, "'much' is not a finite number"),
    ({"many": ["a", ""]}, {"label": "many", "kind": "multilabel"}, "a label without a name"),
    ({"many": [0.5]}, {"label": "many", "kind": "multilabel"}, "is no list of names"),
    ({"many": None}, {"label": "many", "kind": "multilabel"}, "the value is missing"),
    ({"split": "later"}, {"split": "split"}, "'later' is no split"),
    ({"second": ""}, {"pair": "second"}, "column 'second': the value is missing"),
]


@pytest.mark.parametrize("change, options, told", BAD)
def test_a_malformed_row_is_named_or_left_out(change, options, told, tmp_path, bert):
    rows = [*ROWS[:5], ROWS[5] | change, *ROWS[6:]]
    source = {"path": write(tmp_path / "t.jsonl", rows), "tokenizer": bert, "max_length": 8}
    with pytest.raises(InputError, match=r"1 malformed record:\n.*t.jsonl:6: ") as found:
        LabelledText(**source, **options).open()
    assert told in str(found.value)
    opened = LabelledText(**source, **options, on_bad="skip").open()
    assert opened.info.skipped["count"] == 1 and sum(opened.info.counts.values()) == 59


@pytest.mark.parametrize(
    "options, told",
    [
        ({"tokenizer": ""}, "the data need a tokenizer"),
        ({"tokenizer": "nowhere"}, "nowhere: no such folder"),
        ({"text": "words"}, "no column 'words'"),
        ({"label": "second", "kind": "binary"}, "a binary target has 2 classes"),
        ({"label": "score"}, "use kind=regression"),
        ({"path": "t.xlsx"}, "expected a table ending in .csv, .tsv, .jsonl"),
    ],
)
def test_what_cannot_be_read_is_refused(options, told, tmp_path, bert):
    given = {"path": write(tmp_path / "t.jsonl"), "tokenizer": bert} | options
    with pytest.raises(InputError, match=told):
        LabelledText(**given).open()


def test_options_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="max_length is 3"):
        LabelledText("t.jsonl", max_length=3)
    with pytest.raises(InputError, match="must be different columns"):
        LabelledText("t.jsonl", pair="text")


def test_what_is_predicted_comes_from_texts_lines_and_tables(tmp_path, bert):
    source = LabelledText(write(tmp_path / "t.jsonl"), pair="second", tokenizer=bert, max_length=8)
    info = source.open().info
    (tmp_path / "lines.txt").write_text("the dog\tbarks\n\ncats\tand dogs\n")
    table = write(tmp_path / "new.csv", [{"text": "dogs", "second": "bark", "other": 1}])
    names, batch = source.encode(["the dog\tbarks", str(tmp_path / "lines.txt"), table], info)
    assert names == ["text 1", f"{tmp_path}/lines.txt:1", f"{tmp_path}/lines.txt:3", f"{table}:2"]
    assert all(array.shape == (4, 8) for array in batch.values())
    np.testing.assert_array_equal(batch["input_ids"][0], batch["input_ids"][1])
    with pytest.raises(InputError, match="text 1: a pair is two texts with a tab between them"):
        source.encode(["only one"], info)
    with pytest.raises(InputError, match="malformed rows"):
        source.encode([write(tmp_path / "b.jsonl", [{"text": "a", "second": None}])], info)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    content=st.binary(max_size=200), lead=st.booleans(), ending=st.sampled_from(["jsonl", "csv"])
)
def test_any_bytes_are_read_or_refused(content, lead, ending, tmp_path, bert):
    path = tmp_path / f"any.{ending}"
    write(path)
    path.write_bytes((path.read_bytes() if lead else b"") + content)
    try:
        opened = LabelledText(str(path), tokenizer=bert, max_length=8, on_bad="skip").open()
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert sum(opened.info.counts.values()) >= 3


def test_pieces_of_the_standard_library(bert):
    source = data.StdlibSnippets(
        modules=("turtle", "argparse"), per_module=40, tokenizer=bert, max_length=16
    )
    opened = source.open()
    assert sum(opened.info.counts.values()) == 80 and opened.info.class_names[0] == "turtle"
    rows = everything(opened.splits["train"])
    assert rows["input_ids"].shape[1] == 16 and set(rows["label"].tolist()) == {0, 1}
    assert opened.splits["train"].names([0])[0].startswith("turtle.py:")
    assert source.open().info.fingerprint == opened.info.fingerprint
    with pytest.raises(InputError, match="two or more modules"):
        data.StdlibSnippets(modules=("turtle",), tokenizer=bert).open()
