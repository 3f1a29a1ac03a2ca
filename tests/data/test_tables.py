"""CSV, Parquet and JSON lines: every kind of column and target, hostile rows."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo.data import Csv, Info, Jsonl, Parquet
from zoo.errors import InputError

RNG = np.random.default_rng(2)
N = 80


def columns():
    return {
        "height": [round(float(v), 3) for v in RNG.normal(170, 10, N)],
        "colour": [("red", "green", "blue")[i % 3] for i in range(N)],
        "age": list(range(N)),
        "label": [("no", "yes")[i % 2] for i in range(N)],
    }


def write_csv(path, table, delimiter=","):
    rows = [delimiter.join(table), *(delimiter.join(map(str, r)) for r in zip(*table.values()))]  # noqa: B905
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def write_jsonl(path, table):
    rows = [dict(zip(table, r, strict=True)) for r in zip(*table.values(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def write_parquet(path, table):
    pq.write_table(pa.table(table), path)
    return str(path)


FORMATS = [(Csv, write_csv, "t.csv"), (Jsonl, write_jsonl, "t.jsonl"),
           (Parquet, write_parquet, "t.parquet")]  # fmt: skip


def everything(split):
    return split.rows(np.arange(len(split)))


@pytest.mark.parametrize("source, write, name", FORMATS)
def test_typed_columns_from_every_format(source, write, name, tmp_path):
    table = columns()
    path = write(tmp_path / name, table)
    data = source(path, "label").open()
    info = data.info
    assert info.class_names == ("no", "yes") and sum(info.counts.values()) == N
    kinds = {c["name"]: c["type"] for c in info.columns["inputs"]}
    assert kinds == {"height": "numeric", "colour": "category", "age": "numeric"}
    assert info.inputs == {"features": ((5,), "float32")}
    mean, std = (np.array(info.statistics[k]) for k in ("mean", "std"))
    train = everything(data.splits["train"])["features"]
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(0), 1, atol=1e-5)
    test = data.splits["test"]
    raw = everything(test)["features"] * std + mean
    start = 1 if source is Parquet else 2 if source is Csv else 1
    rows = [
        int(n.replace("row ", ":").rsplit(":", 1)[1]) - start for n in test.names(range(len(test)))
    ]
    np.testing.assert_allclose(raw[:, 0], np.array(table["height"])[rows], rtol=1e-5)
    np.testing.assert_allclose(raw[:, 4], np.array(table["age"])[rows], atol=1e-4)
    for got, row in zip(raw[:, 1:4], rows, strict=True):
        assert ("blue", "green", "red")[int(got.round().argmax())] == table["colour"][row]
        assert np.allclose(np.sort(got), [0, 0, 1], atol=1e-5)
    np.testing.assert_array_equal(test.labels(), np.array(rows) % 2)
    read = Info.from_json(json.loads(json.dumps(info.to_json())))
    assert read == info
    names, batch = source("gone").encode([path], read)
    assert len(names) == N
    np.testing.assert_array_equal(batch["features"][rows], everything(test)["features"])


def test_statistics_and_categories_come_from_train_alone(tmp_path):
    table = columns()
    table["part"] = ["train"] * 60 + ["val"] * 10 + ["test"] * 10
    table["height"] = [1.0, 3.0] * 30 + [1000.0] * 20
    table["colour"] = ["a", "b"] * 30 + ["unseen"] * 20
    data = Csv(
        write_csv(tmp_path / "t.csv", table), "label", ("height", "colour"), split="part"
    ).open()
    assert data.info.counts == {"train": 60, "validation": 10, "test": 10}
    assert data.info.statistics["mean"] == (2.0, 0.5, 0.5)
    assert data.info.columns["inputs"][1]["values"] == ("a", "b")
    test = everything(data.splits["test"])["features"]
    np.testing.assert_allclose(test, np.tile([[998.0, -1, -1]], (10, 1)))


def test_a_split_that_the_column_never_names_is_made_by_hash(tmp_path):
    table = columns()
    table["part"] = ["train"] * 70 + ["test"] * 10
    counts = Csv(write_csv(tmp_path / "t.csv", table), "label", split="part").open().info.counts
    assert counts["test"] == 10 and counts["validation"] > 0 and sum(counts.values()) == N
    table["part"][3] = "somewhere"
    with pytest.raises(InputError, match=r"t.csv:5: column 'part': 'somewhere' names no split"):
        Csv(write_csv(tmp_path / "t.csv", table), "label", split="part").open()


def test_the_split_column_does_not_move_a_row_and_duplicates_stay_together(tmp_path):
    table = {"x": [i % 40 for i in range(N)], "label": [i % 2 for i in range(N)]}
    data = Csv(write_csv(tmp_path / "t.csv", table), "label").open()
    values = [set(everything(s)["features"].ravel().tolist()) for s in data.splits.values()]
    assert not values[0] & values[1] and not values[0] & values[2] and not values[1] & values[2]


@pytest.mark.parametrize("source, write, name", FORMATS)
def test_regression_and_several_targets(source, write, name, tmp_path):
    table = {"x": list(range(N)), "y": [float(i) * 3 for i in range(N)], "z": [5] * N}
    path = write(tmp_path / name, table)
    one = source(path, "y", kind="regression").open()
    assert one.info.label == ((), "float32") and one.info.num_classes is None
    two = source(path, ("y", "z"), ("x",), "regression").open()
    assert two.info.label == ((2,), "float32") and two.info.label_std[1] == 1.0
    label = everything(two.splits["test"])["label"] * two.info.label_std + two.info.label_mean
    x = everything(two.splits["test"])["features"] * two.info.statistics["std"]
    np.testing.assert_allclose(label[:, 0], 3 * (x[:, 0] + two.info.statistics["mean"]), atol=1e-3)
    assert two.splits["test"].labels() is None


def test_multilabel_binary_and_many_classes(tmp_path):
    table = {"x": list(range(N)), "a": [i % 2 for i in range(N)], "b": ["TRUE", "false"] * (N // 2)}
    path = write_csv(tmp_path / "t.csv", table)
    data = Csv(path, ("a", "b"), kind="multilabel").open()
    assert data.info.class_names == ("a", "b") and data.info.label == ((2,), "int32")
    assert (everything(data.splits["train"])["label"].sum(1) == 1).all()
    counts = everything(data.splits["train"])["label"].sum(0)
    assert data.info.class_counts == tuple(counts.tolist())
    assert Csv(path, "a", kind="binary").open().info.num_classes == 2
    assert Csv(path, "x").open().info.class_names == tuple(map(str, range(N)))
    with pytest.raises(InputError, match="2 classes, found 80"):
        Csv(path, "x", ("a",), "binary").open()
    with pytest.raises(InputError, match="one target"):
        Csv(path, ("a", "b"))


def test_text_column(tmp_path):
    table = {
        "review": [f"text number {i}, \u00e9" for i in range(N)],
        "label": [i % 3 for i in range(N)],
    }
    path = write_jsonl(tmp_path / "t.jsonl", table)
    source = Jsonl(path, text="review", max_length=16)
    data = source.open()
    info = data.info
    assert info.vocab_size == 256 and info.max_length == 16 and info.num_classes == 3
    batch = everything(data.splits["test"])
    assert batch["input_ids"].shape[1] == 16 and "features" not in batch
    name = data.splits["test"].names([0])[0]
    text = table["review"][int(name.split(":")[1]) - 1]
    assert source.decode(batch["input_ids"][0], info) == text.encode()[:16].decode(
        "utf-8", "replace"
    )
    plain = tmp_path / "new.txt"
    plain.write_text("one\ntwo\n")
    names, found = source.encode([path, str(plain), "three"], Info.from_json(info.to_json()))
    assert names[-3:] == [f"{plain}:1", f"{plain}:2", "text 1"]
    assert found["attention_mask"].sum(1)[-3:].tolist() == [3, 3, 5]


def test_missing_values(tmp_path):
    table = columns()
    table["height"] = ["", "NA", *table["height"][2:]]
    table["colour"][2] = ""
    path = write_csv(tmp_path / "t.csv", table)
    with pytest.raises(
        InputError, match=r"(?s)3 malformed.*t.csv:2: column 'height'.*t.csv:4: column 'col"
    ):
        Csv(path).open()
    assert Csv(path, on_bad="skip").open().info.skipped["count"] == 3
    data = Csv(path, missing="mean").open()
    fill = data.info.columns["inputs"][0]["fill"]
    names = {n: s for s, split in data.splits.items() for n in split.names(range(len(split)))}
    split = data.splits[names[f"{path}:2"]]
    row = split.names(range(len(split))).index(f"{path}:2")
    mean, std = (data.info.statistics[k][0] for k in ("mean", "std"))
    np.testing.assert_allclose(
        everything(split)["features"][row, 0], (fill - mean) / std, atol=1e-6
    )
    assert np.isfinite(everything(split)["features"]).all()
    with pytest.raises(InputError, match="'label'"):
        table["label"][5] = ""
        Csv(write_csv(tmp_path / "t.csv", table), missing="mean").open()


BAD_LINES = {
    "too few cells": "1.5,red",
    "too many": "1.5,red,7,yes,more",
    "not a number": "1.5x,red,7,yes",
    "infinite": "inf,red,7,yes",
    "overflow": "1e999,red,7,yes",
    "underscores": "1_0,red,7,yes",
    "blank": "",
    "no cells": ",,,",
    "zero byte": "1.5,re\0d,7,yes",
    "bad UTF-8": b"1.5,r\xffd,7,yes",
    "huge cell": "1.5," + "r" * 200000 + ",7,yes",
    "stray quote": '1.5,"red"x,7,yes',
    "no label": "1.5,red,7,",
}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES)
def test_malformed_rows_are_named_or_skipped(line, tmp_path):
    path = tmp_path / "t.csv"
    lines = write_csv(path, columns()) and path.read_bytes().split(b"\n")
    lines.insert(10, line if isinstance(line, bytes) else line.encode())
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(InputError, match=r"t\.csv: 1 malformed record:\n  .*t\.csv:11: "):
        Csv(str(path)).open()
    info = Csv(str(path), on_bad="skip").open().info
    assert info.skipped["count"] == 1 and "t.csv:11" in info.skipped["names"][0]
    assert sum(info.counts.values()) == N


BAD_JSON = ["{", "[1]", '"x"', "", "\0", '{"height": [1], "colour": "a", "age": 1, "label": "no"}',
            '{"height": NaN, "colour": "a", "age": 1, "label": "no"}', '{"height": 1}', "[" * 99999,
            '{"height": 1, "colour": "\\ud800", "age": 1, "label": "no"}',
            '{"height": ' + "9" * 400 + ', "colour": "a", "age": 1, "label": "no"}']  # fmt: skip


@pytest.mark.parametrize("line", BAD_JSON, ids=range(len(BAD_JSON)))
def test_malformed_json_lines_are_named_or_skipped(line, tmp_path):
    path = tmp_path / "t.jsonl"
    lines = write_jsonl(path, columns()) and path.read_text().split("\n")
    lines.insert(4, line)
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"(?s)1 malformed record.*t\.jsonl:5: "):
        Jsonl(str(path)).open()
    assert Jsonl(str(path), on_bad="skip").open().info.skipped["count"] == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"a,a\n1,2\n", b"a,,label\n1,2,3\n", b"\xff,label\n1,2\n", b"x,label\n",
     b"label\n1\n", b'"x,label\n1,2', b"x,label\n1,2\n2,3\n", b"x,label\n1,same\n2,same\n",
     b"x,label\n1,0.5\n2,0.7\n", b"PAR1", bytes(range(256)) * 40],
)  # fmt: skip
@pytest.mark.parametrize("source", [Csv, Jsonl, Parquet])
def test_hopeless_files_are_one_clear_error(source, content, tmp_path):
    path = tmp_path / "t.data"
    path.write_bytes(content)
    for on_bad in ("stop", "skip"):
        with pytest.raises(InputError, match=r"t\.data"):
            source(str(path), on_bad=on_bad).open()


DAMAGE = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_damage_is_an_input_error_or_no_damage(tmp_path, data):
    index = data.draw(st.integers(0, 2))
    source, write, name = FORMATS[index]
    path = tmp_path / name
    write(path, columns())
    content = bytearray(path.read_bytes())
    size = len(content)
    for place, byte in data.draw(DAMAGE):
        content[place % size] = byte
    path.write_bytes(content[: size - data.draw(st.integers(0, 1000)) * size // 2000])
    try:
        opened = source(str(path), on_bad="skip").open()
    except InputError:
        return
    for split in opened.splits.values():
        assert np.isfinite(everything(split)["features"]).all()


def test_prediction_names_the_wrong_line(tmp_path):
    data = Csv(write_csv(tmp_path / "t.csv", columns(), ";"), delimiter=";").open()
    new = tmp_path / "new.csv"
    new.write_text("age;colour;height\n1;violet;170\n2;red;tall\n")
    with pytest.raises(InputError, match=r"new\.csv:3: column 'height': 'tall'"):
        Csv("").encode([str(new)], data.info)
    new.write_text("age;colour;height\n1;violet;170\n")
    names, batch = Csv("").encode([str(new)], data.info)
    assert names == [f"{new}:2"] and np.isfinite(batch["features"]).all()
    for bad, message in (("age\n1\n", "no column"), ("age;colour;height\n", "no rows")):
        new.write_text(bad)
        with pytest.raises(InputError, match=message):
            Csv("").encode([str(new)], data.info)
    for missing in (str(tmp_path / "none.csv"), "a text", str(tmp_path)):
        with pytest.raises(InputError):
            Csv("").encode([missing], data.info)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"target": "wages"}, "no column 'wages'"),
        ({"features": ("height", "width")}, "no column 'width'"),
        ({"features": ("label",)}, "label is target"),
        ({"split": "part"}, "no column 'part'"),
        ({"target": ()}, "target"),
        ({"text": "colour", "features": ("age",)}, "either"),
        ({"delimiter": ",,"}, "delimiter"),
        ({"target": "height"}, "kind=regression"),
    ],
)
def test_impossible_requests(options, message, tmp_path):
    path = write_csv(tmp_path / "t.csv", columns())
    with pytest.raises(InputError, match=message):
        Csv(path, **options).open()


def test_numbers_as_categories(tmp_path):
    table = {"code": [i % 4 for i in range(N)], "x": range(N), "label": [0, 1] * 40}
    path = write_csv(tmp_path / "t.csv", table)
    assert Csv(path, categorical=("code",)).open().info.inputs == {"features": ((5,), "float32")}
    many = write_csv(
        tmp_path / "m.csv", {"id": [f"u{i}" for i in range(4000)], "label": [0, 1] * 2000}
    )
    with pytest.raises(InputError, match="'id' has .* different values"):
        Csv(many).open()
