"""Language modelling windows, the standard library, lines, dates."""

import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data import Dates, Info, StdlibLines, StdlibText, TextFiles
from zoo.data.dates import FORMS, write
from zoo.data.stdlib import source_files
from zoo.data.text import decode_bytes, pack, text_lines
from zoo.data.windows import Windows
from zoo.errors import InputError


def everything(split):
    return split.rows(np.arange(len(split)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5), st.integers(1, 20))
def test_every_byte_is_predicted_once_from_those_before_it(contents, length):
    split = Windows([(f"f{i}", c) for i, c in enumerate(contents)], length)
    corpus = b"\0" + b"\0".join(contents) + b"\0"
    batch = everything(split)
    assert batch["input_ids"].dtype == batch["label"].dtype == np.int32
    kept = batch["label"] != -100
    assert bytes(batch["label"][kept].astype(np.uint8)) == corpus[1:]
    assert bytes(batch["input_ids"][kept].astype(np.uint8)) == corpus[:-1]
    assert kept[:-1].all() and kept[-1].any()
    for name, row in zip(split.names(range(len(split))), batch["input_ids"], strict=True):
        file, offset = name.split(": byte ")
        inside = (b"\0" + contents[int(file[1:])])[int(offset) :]
        n = min(length, len(inside))
        assert bytes(row[:n].astype(np.uint8)) == inside[:n] and n > 0


def test_evaluation_can_be_thinned_evenly():
    split = Windows([("a", bytes(range(1, 200)))], 10, 5)
    assert len(split) == 5
    assert split.names(range(5)) == [f"a: byte {b}" for b in (0, 40, 80, 120, 160)]
    assert len(Windows([("a", b"abc")], 10, 5)) == 1


def test_standard_library_windows():
    source = StdlibText(32, ("json", "email", "asyncio", "xml"), evaluation_windows=50)
    data = source.open()
    assert data.info.counts["validation"] == data.info.counts["test"] == 50
    assert data.info.vocab_size == 256 and data.info.inputs == {"input_ids": ((32,), "int32")}
    batch = data.splits["train"].rows(np.array([0, 7]))
    np.testing.assert_array_equal(batch["input_ids"][:, 1:], batch["label"][:, :-1])
    name = data.splits["train"].names([7])[0]
    assert name.split("/")[0] in source.modules and "/test" not in name
    assert data.splits["train"].labels() is None
    first = dict(source_files(source.modules))[data.splits["train"].names([0])[0].split(": ")[0]]
    assert source.decode(batch["input_ids"][0], data.info) == first[:31].decode()
    assert source.open().info.fingerprint == data.info.fingerprint


def test_the_standard_library_lines():
    source = StdlibLines(("argparse", "tarfile", "xml"), 40, 20)
    data = source.open()
    assert data.info.class_names == source.modules and min(data.info.class_counts) > 50
    seen = set()
    for split in data.splits.values():
        batch = everything(split)
        assert batch["input_ids"].shape == (len(split), 40)
        np.testing.assert_array_equal(batch["input_ids"] > 0, batch["attention_mask"] == 1)
        assert batch["attention_mask"].sum(1).min() >= 20
        for name, label in zip(split.names(range(5)), batch["label"][:5], strict=True):
            assert name.startswith(source.modules[label])
        seen |= set(split.names(range(len(split))))
    assert len(seen) == sum(data.info.counts.values())
    names, batch = source.encode(["def f(x):"], Info.from_json(data.info.to_json()))
    assert names == ["text 1"] and batch["attention_mask"].sum() == 9
    assert source.decode(batch["input_ids"][0], data.info) == "def f(x):"


@pytest.mark.parametrize(
    "source, message",
    [(StdlibText(modules=("no_such_module",)), "no_such_module"), (StdlibText(0), "length"),
     (StdlibLines(("xml",)), "two or more"), (StdlibLines(("xml", "xml")), "two or more"),
     (StdlibLines(min_length=99), "min_length"), (StdlibText(modules=("this",)), "empty"),
     (Dates(0), "count"), (Dates(10**9), "count"), (Dates(2), "empty"),
     (TextFiles("/no/such/folder"), "no such file")],
)  # fmt: skip
def test_impossible_sources(source, message):
    with pytest.raises(InputError, match=message):
        source.open()


def test_a_folder_of_text_keeps_stated_splits_and_duplicates_together(tmp_path):
    for i in range(60):
        (tmp_path / f"{i}.txt").write_bytes(bytes([i % 30 + 65]) * 25)
    data = TextFiles(str(tmp_path), 8).open()
    sides = [set(everything(s)["label"].ravel().tolist()) - {0, -100} for s in data.splits.values()]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    stated = tmp_path / "stated"
    stated.mkdir()
    for word in ("train", "valid", "test"):
        (stated / f"wiki.{word}.tokens").write_text(word * 9)
    data = TextFiles(str(stated), 100).open()
    text = {k: decode_bytes(everything(s)["label"][0]) for k, s in data.splits.items()}
    assert text == {"train": "train" * 9, "validation": "valid" * 9, "test": "test" * 9}
    assert TextFiles(str(stated / "*.tokens"), 100).open().info == data.info


def test_one_file_is_split_by_blocks(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("".join(f"line {i} of the book\n" for i in range(2000)))
    data = TextFiles(str(path), 64).open()
    assert all(data.info.counts.values())
    total = sum((everything(s)["label"] > 0).sum() for s in data.splits.values())
    assert total == path.stat().st_size
    path.write_text("short")
    with pytest.raises(InputError, match="empty"):
        TextFiles(str(path)).open()
    path.write_text("")
    with pytest.raises(InputError, match="no text"):
        TextFiles(str(path)).open()


def test_any_bytes_are_text(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(np.random.default_rng(0).bytes(60000))
    data = TextFiles(str(path), 50).open()
    assert everything(data.splits["train"])["input_ids"].max() == 255
    names, batch = TextFiles(str(path), 50).encode([str(path), "h\u00e9llo"], data.info)
    assert len(names) == 1201 and names[:2] == [f"{path}: byte 0", f"{path}: byte 50"]
    assert names[-1] == "text 2: byte 0" and batch["attention_mask"][-1].sum() == 6
    with pytest.raises(InputError, match="no text"):
        TextFiles(str(path)).encode([""], data.info)


def test_lines_to_predict(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes(b"\xef\xbb\xbfone\n\n  two \r\n")
    assert text_lines([str(path), "three"]) == [
        (f"{path}:1", "one"), (f"{path}:3", "two"), ("text 2", "three")]  # fmt: skip
    path.write_bytes(b"fine\n\xff\xfe\n")
    with pytest.raises(InputError, match=r"lines.txt:2: not UTF-8"):
        text_lines([str(path)])
    path.write_bytes(b"\n \n")
    for bad in ([str(path)], ["  "], [], ["\udcff"]):
        with pytest.raises(InputError):
            text_lines(bad)


def test_pack_cuts_and_pads():
    batch = pack([b"abc", b"abcdef", b"a\0b"], 4)
    assert batch["attention_mask"].sum(1).tolist() == [3, 4, 3]
    assert batch["input_ids"][1].tolist() == [97, 98, 99, 100]


@given(st.dates(datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)), st.integers(0, FORMS - 1))
def test_a_written_date_fits_the_vocabulary(day, form):
    names, batch = Dates().encode([write(day, form)], Dates(100).open().info)
    assert Dates().decode(batch["input_ids"][0], None) == write(day, form)


def test_the_longest_and_the_special_dates():
    day = datetime.date(1953, 9, 23)
    assert write(day, 5) == "wednesday the twenty-third of september 1953"
    assert write(datetime.date(2011, 1, 12), 3) == "12th of january 2011"
    assert write(datetime.date(2005, 5, 1), 7) == "may 1 '05"


def test_dates_are_pairs_for_an_encoder_and_a_decoder():
    source = Dates(400, 3)
    data = source.open()
    info = data.info
    assert sum(info.counts.values()) == 400 and (info.pad, info.bos, info.eos) == (0, 1, 2)
    for split in data.splits.values():
        batch = everything(split)
        assert {
            k: (v.shape[1:], str(v.dtype)) for k, v in batch.items() if k != "label"
        } == info.inputs
        np.testing.assert_array_equal(batch["attention_mask"] == 1, batch["input_ids"] != info.pad)
        assert (batch["decoder_input_ids"][:, 0] == info.bos).all()
        np.testing.assert_array_equal(batch["decoder_input_ids"][:, 1:], batch["label"][:, :-1])
        assert (batch["label"][:, -1] == info.eos).all()
        assert batch["label"].max() < info.vocab_size
        for name, label in zip(split.names(range(9)), batch["label"], strict=False):
            day = datetime.date.fromisoformat(source.decode(label, info))
            assert name[8:-1] in [write(day, form) for form in range(FORMS)]
    assert source.open().info == info != Dates(400, 4).open().info


@pytest.mark.parametrize("text, message", [("3 m\u00e4rz 1999", "character"), ("1" * 49, "49")])
def test_sentences_that_are_no_dates(text, message):
    with pytest.raises(InputError, match=message):
        Dates().encode([text], Dates(100).open().info)
