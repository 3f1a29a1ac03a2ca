"""Damaged data files: rows, or an InputError; never another exception, a hang or a write.

`ZOO_HOSTILE_DATA` sets how many changes are tried (default 200), `ZOO_SEED` which.
"""

import dataclasses
import gzip
import io
import json
import os
import random
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from question_data import (
    questions,
    sentences,
    write_columns,
    write_squad,
    write_tokenizer,
)
from question_data import write_jsonl as write_tag_lines

from zoo import data
from zoo.errors import InputError

from .watch import TooSlow, damaged, watched

COUNT = int(os.environ.get("ZOO_HOSTILE_DATA", "200"))
ROWS = 40
RNG = np.random.default_rng(0)


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def picture(size=12):
    return Image.fromarray(RNG.integers(0, 256, (size, size, 3), dtype=np.uint8))


def write_images(folder):
    forms = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "TGA")
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for number in range(ROWS):
            image, form = picture(), forms[number % len(forms)]
            if number % 7 == 1:
                image = image.convert(("L", "P", "1")[number % 3])
            form = "PNG" if form in ("JPEG", "PPM") and image.mode == "P" else form
            (folder / name / f"{number}.{form.lower()}").write_bytes(encoded(image, form))


def table():
    return {
        "height": [round(float(v), 3) for v in RNG.normal(170, 10, ROWS)],
        "colour": [("red", "grün", "blue")[i % 3] for i in range(ROWS)],
        "age": list(range(ROWS)),
        "label": [("no", "yes")[i % 2] for i in range(ROWS)],
    }


def write_csv(folder):
    columns = table()
    rows = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values()))]  # noqa: B905
    (folder / "t.csv").write_text("\n".join(rows) + "\n")


def write_jsonl(folder):
    columns = table()
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(folder):
    pq.write_table(pa.table(table()), folder / "t.parquet")


def write_npz(folder):
    x = RNG.normal(size=(ROWS, 5)).astype(np.float32)
    np.savez_compressed(folder / "d.npz", x=x, y=np.arange(ROWS) % 3)


def write_ids(folder):
    np.savez(folder / "d.npz", x=RNG.integers(0, 50, (ROWS, 7)), y=np.arange(ROWS) % 2)


def idx(array):
    return (
        bytes([0, 0, 8, array.ndim])
        + np.array(array.shape, ">i4").tobytes()
        + array.astype(np.uint8).tobytes()
    )


def write_mnist(folder):
    for part in ("train", "t10k"):
        images, labels = RNG.integers(0, 256, (ROWS, 6, 6)), np.arange(ROWS) % 10
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))


def write_cifar(folder):
    for name in ("data_batch_1.bin", "test_batch.bin"):
        rows = RNG.integers(0, 256, (ROWS, 3073), dtype=np.uint8)
        rows[:, 0] = np.arange(ROWS) % 10
        (folder / name).write_bytes(rows.tobytes())


def write_texts(folder):
    for number in range(ROWS):
        text = "".join(chr(int(c)) for c in RNG.integers(32, 0x250, 300))
        (folder / f"{number}.txt").write_text(text)


def write_questions(folder):
    write_squad(folder / "q.json", questions(ROWS, impossible=True))


def write_tags(folder):
    write_tag_lines(folder / "t.jsonl", sentences(ROWS))


def write_tag_columns(folder):
    write_columns(folder / "t.conll", sentences(ROWS))


SOURCES = {
    "image-folder": (write_images, lambda f: data.ImageFolder(str(f), 8)),
    "csv": (write_csv, lambda f: data.Csv(str(f / "t.csv"))),
    "jsonl": (write_jsonl, lambda f: data.Jsonl(str(f / "t.jsonl"))),
    "parquet": (write_parquet, lambda f: data.Parquet(str(f / "t.parquet"))),
    "npz": (write_npz, lambda f: data.Npz(str(f / "d.npz"))),
    "npz-ids": (write_ids, lambda f: data.Npz(str(f / "d.npz"), "input_ids", "binary")),
    "mnist-idx": (write_mnist, lambda f: data.MnistIdx(str(f))),
    "cifar10": (write_cifar, lambda f: data.Cifar10(str(f))),
    "text-files": (write_texts, lambda f: data.TextFiles(str(f), 16)),
    "squad": (
        write_questions, lambda f: data.Squad(str(f / "q.json"), tokenizer(f), 14, 3, 4),
    ),
    "tagged-words": (
        write_tags, lambda f: data.TaggedWords(str(f / "t.jsonl"), tokenizer(f), max_length=24),
    ),
    "tagged-columns": (
        write_tag_columns,
        lambda f: data.TaggedWords(str(f / "t.conll"), tokenizer(f), max_length=24),
    ),
}  # fmt: skip


def tokenizer(folder):
    """A tokenizer beside the data, which nothing damages."""
    place = folder.with_name("tokenizer")
    if not place.exists():
        place.mkdir()
        write_tokenizer(place)
    return str(place)


def read_everything(source):
    """Opens a source and reads every row; the arrays are whole and finite."""
    opened = source.open()
    json.dumps(opened.info.to_json())
    for split in opened.splits.values():
        for start in range(0, len(split), 16):
            rows = np.arange(start, min(start + 16, len(split)))
            batch = split.rows(rows)
            split.names(rows)
            for key, array in batch.items():
                assert len(array) == len(rows), key
                assert array.dtype.kind != "f" or np.isfinite(array).all(), key
                assert array.dtype.kind in "iuf", key


def attempt(source, told):
    """True when it was read, false when it was refused with a message."""
    try:
        with watched(), warnings.catch_warnings():
            read_everything(source)
        return True
    except InputError as error:
        assert str(error).strip(), told
        return False
    except TooSlow:
        raise AssertionError(f"{told}: more than 5 s") from None
    except BaseException as error:
        raise AssertionError(f"{told}: {error!r}") from error


@pytest.mark.parametrize("kind", SOURCES)
def test_any_damage_is_data_or_an_input_error(tmp_path, kind, seed, record_property):
    write, make = SOURCES[kind]
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder)
    read_everything(make(folder))
    names = list(SOURCES)
    rng = random.Random(f"{seed} {kind}")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    contents = {path: path.read_bytes() for path in files}
    count = COUNT // len(names) + (names.index(kind) < COUNT % len(names))
    outcomes = {"read": 0, "refused": 0}
    for number in range(count):
        hurt = rng.sample(files, min(len(files), rng.choice((1, 1, 1, 3))))
        for path in hurt:
            content, packed = contents[path], path.suffix == ".gz"
            if packed and rng.random() < 0.5:  # beneath the compression
                content = gzip.compress(damaged(gzip.decompress(content), rng))
            else:
                content = damaged(content, rng, contents[rng.choice(files)])
            path.write_bytes(content)
        source = make(folder)
        if any(part.name == "on_bad" for part in dataclasses.fields(source)):
            source = dataclasses.replace(source, on_bad=rng.choice(("stop", "skip", "skip")))
        read = attempt(source, f"{kind} {number}: {[path.name for path in hurt]}")
        outcomes["read" if read else "refused"] += 1
        for path in hurt:
            path.write_bytes(contents[path])
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == files
    for name, number in outcomes.items():
        record_property(name, number)


HOSTILE_PATHS = ["", "/", "..", "a\0b", "\n", "x" * 5000, "\ud800", "/dev/null", "/proc/self/mem",
                 "*" * 50, "[" * 50, "~", "/etc/shadow/x", "gs://bucket/x", "**/" * 20]  # fmt: skip


@pytest.mark.parametrize("kind", sorted(
    kind for kind, cls in data.REGISTRY.items()
    if any(part.name == "path" for part in dataclasses.fields(cls))
))  # fmt: skip
def test_hostile_paths(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    for path in HOSTILE_PATHS:
        if path in ("/", "..") and kind in ("text-files", "image-folder"):
            continue  # read as asked: everything below
        assert not attempt(data.REGISTRY[kind](path=path), f"{kind} {path[:50]!r}")


HOSTILE_IMAGES = {
    "nothing": b"",
    "zeros": bytes(3000),
    "half a JPEG": encoded(picture(64), "JPEG")[:900],
    "half a PNG": encoded(picture(64), "PNG")[:900],
    "CMYK": encoded(picture().convert("CMYK"), "JPEG"),
    "16 bits": encoded(Image.fromarray(RNG.integers(0, 65536, (9, 9)).astype(np.uint16)), "PNG"),
    "a float": encoded(Image.fromarray(np.full((9, 9), np.nan, np.float32)), "TIFF"),
    "a huge header": b"P6 60000 60000 255\n" + bytes(100),
    "a negative header": b"P6 -6 60 255\n" + bytes(100),
    "an animation": encoded(picture(), "GIF", save_all=True, append_images=[picture()] * 3),
    "text": b"not an image",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(true) system\n",
}


@pytest.mark.parametrize("content", HOSTILE_IMAGES.values(), ids=HOSTILE_IMAGES)
def test_hostile_images(tmp_path, content):
    write_images(tmp_path)
    (tmp_path / "cat" / "0.png").write_bytes(content)
    read = attempt(data.ImageFolder(str(tmp_path), 8), "stop")
    assert attempt(data.ImageFolder(str(tmp_path), 8, on_bad="skip"), "skip")
    if not read:
        with pytest.raises(InputError, match="0.png"):
            data.ImageFolder(str(tmp_path), 8).open()


@pytest.mark.parametrize("orientation", range(9))
def test_exif_rotation(tmp_path, orientation):
    write_images(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "cat" / "0.png").write_bytes(encoded(picture(), "JPEG", exif=exif))
    assert attempt(data.ImageFolder(str(tmp_path), 8), orientation)


def test_a_row_of_ten_megabytes(tmp_path):
    write_csv(tmp_path)
    write_jsonl(tmp_path)
    wide = "w" * 10_000_000
    with open(tmp_path / "t.csv", "a") as file:
        file.write(f"1.5,{wide},7,yes\n")
    with open(tmp_path / "t.jsonl", "a") as file:
        file.write(json.dumps({"height": 1, "colour": wide, "age": 7, "label": "yes"}) + "\n")
    attempt(data.Csv(str(tmp_path / "t.csv")), "csv")
    attempt(data.Csv(str(tmp_path / "t.csv"), on_bad="skip"), "csv")
    attempt(data.Jsonl(str(tmp_path / "t.jsonl")), "jsonl")


def test_wrong_labels_and_nan_are_named(tmp_path):
    write_npz(tmp_path)
    path = tmp_path / "d.npz"
    good = dict(np.load(path))
    for name, value, told in (("y", -1, r"x\[4\].*label -1"), ("x", np.nan, r"x\[4\].*finite")):
        arrays = {key: array.copy() for key, array in good.items()}
        arrays[name][4] = value
        np.savez(path, **arrays)
        with pytest.raises(InputError, match=f"(?s){told}"):
            data.Npz(str(path)).open()
