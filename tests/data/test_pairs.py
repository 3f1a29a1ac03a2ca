"""Pictures with texts: tables of file names and captions, and generated ones."""

import json

import numpy as np
import pytest
from PIL import Image

from zoo.data import CaptionedShapes, ImageTextPairs, Stream
from zoo.data.augment import Augment
from zoo.data.captioned_shapes import COLOURS, PLACES, SHAPES, SIZES, Drawing, draw
from zoo.data.pairs import END, pack_ended
from zoo.errors import InputError


def write_pictures(folder, count=12):
    """Different small pictures, and their names."""
    rng, names = np.random.default_rng(0), []
    (folder / "pictures").mkdir(parents=True)
    for number in range(count):
        names.append(f"pictures/{number}.png")
        Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8)).save(folder / names[-1])
    return names


def write_table(path, rows, header=("image", "text")):
    """Rows as CSV, TSV or JSON lines, by the ending."""
    if path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(header, row, strict=True))) for row in rows]
    else:
        mark = {".csv": ",", ".tsv": "\t"}[path.suffix]
        lines = [mark.join(row) for row in [header, *rows]]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def opened(source):
    data = source.open()
    return data, {name: split.examples for name, split in data.splits.items()}


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl"])
def test_a_table(tmp_path, ending):
    names = write_pictures(tmp_path)
    rows = [(name, f"number {i}") for i, name in enumerate(names)] + [(names[0], "once more")]
    path = write_table(tmp_path / f"captions{ending}", rows)
    data, examples = opened(ImageTextPairs(path, image_size=6, max_length=11))
    assert sum(len(split) for split in examples.values()) == 13 == sum(data.info.counts.values())
    both = [name for name, found in examples.items() if "number 0" in [p.text for p in found]]
    assert "once more" in [pair.text for pair in examples[both[0]]]  # a picture is in one split
    split = data.splits[both[0]]
    batch = split.rows(np.arange(len(split)))
    assert {key: (x.shape[1:], x.dtype.name) for key, x in batch.items() if key != "label"} == {
        key: tuple(form) for key, form in data.info.inputs.items()
    }
    place = [pair.text for pair in split.examples].index("number 0")
    again = [pair.text for pair in split.examples].index("once more")
    assert batch["label"][place] == batch["label"][again] == split.image_of[place]
    np.testing.assert_array_equal(batch["image"][place], batch["image"][again])
    assert bytes(batch["input_ids"][place, :8].astype(np.uint8)) == b"number 0"
    assert batch["input_ids"][place, 8:].tolist() == [END, 0, 0]
    assert batch["attention_mask"][place].tolist() == [1] * 9 + [0] * 2
    assert data.info.vocab_size == 257 and data.info.pad == 0 and data.info.num_classes is None
    assert ":2" in split.names([place])[0] or ":1" in split.names([place])[0]
    train = data.splits["train"]
    pixels = train.rows(np.arange(len(train)))["image"]
    assert abs(pixels.mean()) < 0.1 and abs(pixels.std() - 1) < 0.1


def test_lists_of_texts_and_folders_of_splits(tmp_path):
    write_pictures(tmp_path / "train")
    names = write_pictures(tmp_path / "test", 3)
    rows = [(name, [f"a {i}", f"b {i}"]) for i, name in enumerate(names)]
    header = ("file_name", "text")
    train = [(f"pictures/{i}.png", [f"a {i}"]) for i in range(12)]
    write_table(tmp_path / "train/metadata.jsonl", train, header)
    write_table(tmp_path / "test/metadata.jsonl", rows, header)
    data, examples = opened(ImageTextPairs(str(tmp_path), image_size=4))
    assert [pair.text for pair in examples["test"]] == ["a 0", "b 0", "a 1", "b 1", "a 2", "b 2"]
    assert data.splits["test"].image_of.tolist() == sorted(data.splits["test"].image_of.tolist())
    assert len(set(data.splits["test"].image_of.tolist())) == 3
    pairs = ImageTextPairs(str(tmp_path), image_size=4).read(
        [str(tmp_path / "test/metadata.jsonl")], data.info
    )
    np.testing.assert_array_equal(
        pairs.rows(np.arange(6))["image"], data.splits["test"].rows(np.arange(6))["image"]
    )


def test_a_column_of_splits_and_malformed_rows(tmp_path):
    names = write_pictures(tmp_path, 8)
    (tmp_path / "empty.png").write_bytes(b"")
    parts = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    rows = [(name, "a picture", part) for name, part in zip(names, parts, strict=True)]
    rows += [("no.png", "x", "train"), ("empty.png", "x", "train"), (names[0], "", "train"),
             (names[0], "x", "never")]  # fmt: skip
    path = write_table(tmp_path / "all.csv", rows, ("image", "text", "part"))
    with pytest.raises(InputError, match="4 malformed records") as error:
        ImageTextPairs(path, split="part").open()
    for told in ("all.csv:10: .*no.png", "the file is empty", "column 'text': the value is mis",
                 "'never' is no split"):  # fmt: skip
        assert error.match(told)
    data = ImageTextPairs(path, split="part", on_bad="skip").open()
    assert data.info.counts == {"train": 4, "validation": 2, "test": 2}
    assert data.info.skipped["count"] == 4


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected a table ending in"):
        ImageTextPairs(str(tmp_path / "captions.doc")).open()
    with pytest.raises(InputError, match="no table ending in .csv"):
        ImageTextPairs(str(tmp_path)).open()
    path = write_table(tmp_path / "train.csv", [("a.png", "b")], ("picture", "text"))
    with pytest.raises(InputError, match="no column 'image'; it has 'picture', 'text'"):
        ImageTextPairs(path).open()
    write_table(tmp_path / "captions.csv", [("a.png", "b")])
    with pytest.raises(InputError, match="captions.csv: beside other tables"):
        ImageTextPairs(str(tmp_path)).open()
    for changes, message in (
        ({"max_length": 3}, "max_length is 3"), ({"image_size": -1}, "image_size must be"),
        ({"image": "text"}, "must be different columns"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            ImageTextPairs("somewhere", **changes)


def test_shapes_and_their_sentences():
    data = CaptionedShapes(count=60, image_size=16).open()
    again = CaptionedShapes(count=60, image_size=16).open()
    assert data.info == again.info and sum(data.info.counts.values()) == 60
    train = data.splits["train"]
    batch, same = train.rows(np.arange(4)), again.splits["train"].rows(np.arange(4))
    for key, array in batch.items():
        np.testing.assert_array_equal(array, same[key])
    assert data.info != CaptionedShapes(count=60, image_size=16, seed=1).open().info
    for row, pair in enumerate(train.examples[:4]):
        ids = batch["input_ids"][row]
        assert bytes(ids[: len(pair.text)].astype(np.uint8)).decode() == pair.text
        assert ids[len(pair.text)] == END and ids.max() == END
        size, colour, shape, *_ = pair.text.replace(",", "").split()
        assert (size in SIZES, colour in COLOURS, shape in SHAPES) == (True,) * 3
        assert pair.text.split(", ")[1] in PLACES
    stream = Stream(train, 8, 0, Augment(flip=True, crop=1))
    assert stream[0]["image"].shape == (8, 16, 16, 3)
    assert stream[0]["input_ids"].shape == (8, data.info.max_length)
    with pytest.raises(InputError, match="count must be at least 1"):
        CaptionedShapes(count=0).open()


def test_a_shape_is_where_and_what_its_sentence_says():
    rng = np.random.default_rng(0)
    for place, (down, right) in PLACES.items():
        picture = draw(Drawing("large", "red", "circle", place), 40, rng).astype(int)
        red = picture[..., 0] - picture[..., 2] > 100
        y, x = np.argwhere(red).mean(0) / 40
        assert abs(y - down) < 0.1 and abs(x - right) < 0.1
    shares = {
        (size, shape): (draw(Drawing(size, "white", shape, "centre"), 64, rng).min(2) > 180).mean()
        for size in SIZES for shape in SHAPES
    }  # fmt: skip
    for shape in SHAPES:
        assert shares["large", shape] > 1.8 * shares["small", shape] > 0


def test_bytes_that_end():
    found = pack_ended([b"abc", b"", b"abcdef"], 4)
    assert found["input_ids"].tolist() == [[97, 98, 99, END], [END, 0, 0, 0], [97, 98, 99, END]]
    assert found["attention_mask"].tolist() == [[1] * 4, [1, 0, 0, 0], [1] * 4]
