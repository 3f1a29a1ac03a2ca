"""Image folders and hostile image files."""

import io
import json
import warnings

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.data import ImageFolder, Info
from zoo.data.decode import decode, in_threads
from zoo.errors import InputError

RNG = np.random.default_rng(0)


def encoded(array, form="PNG", **options):
    file = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(file, form, **options)
    return file.getvalue()


def pixels(size=8, channels=3):
    shape = (size, size, channels) if channels > 1 else (size, size)
    return RNG.integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    for name, base in (("cat", 40), ("dog", 200)):
        (tmp_path / name / "deep").mkdir(parents=True)
        for i in range(30):
            image = np.clip(pixels() // 8 + base, 0, 255).astype(np.uint8)
            where = tmp_path / name / ("deep" if i % 2 else ".") / f"{i}.png"
            where.write_bytes(encoded(image))
    (tmp_path / "dog" / ".DS_Store").write_bytes(b"x")
    return tmp_path


def test_a_folder_per_class(folder, monkeypatch):
    source = ImageFolder(str(folder), 8)
    data = source.open()
    info = data.info
    assert info.class_names == ("cat", "dog") and sum(info.counts.values()) == 60
    assert info.inputs == {"image": ((8, 8, 3), "float32")}
    train = data.splits["train"]
    batch = train.rows(np.arange(len(train)))
    np.testing.assert_allclose(batch["image"].mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(batch["image"].std((0, 1, 2)), 1, atol=1e-5)
    for name, label in zip(train.names(range(len(train))), batch["label"], strict=True):
        assert f"/{info.class_names[label]}/" in name
    np.testing.assert_array_equal(np.bincount(train.labels()), info.class_counts)
    monkeypatch.setattr("zoo.data.images.IN_MEMORY", 0)
    lazy = source.open()
    assert lazy.info == info
    again = lazy.splits["train"].rows(np.array([4, 0, 4]))
    np.testing.assert_array_equal(again["image"], batch["image"][[4, 0, 4]])
    assert again["label"].tolist() == batch["label"][[4, 0, 4]].tolist()


def test_prediction_prepares_images_as_training_did(folder):
    source = ImageFolder(str(folder), 8)
    data = source.open()
    files = data.splits["test"].names(range(3))
    expected = data.splits["test"].rows(np.arange(3))["image"]
    info = Info.from_json(data.info.to_json())
    names, batch = source.encode(files, info)
    assert names == files and list(batch) == ["image"]
    np.testing.assert_array_equal(batch["image"], expected)
    assert len(source.encode([str(folder / "cat")], info)[0]) == 30
    for bad in ([], [str(folder / "none.png")]):
        with pytest.raises(InputError):
            source.encode(bad, info)


def test_a_processor_prepares_the_images(folder, monkeypatch, tmp_path_factory):
    home = tmp_path_factory.mktemp("processor")
    values = {"image_processor_type": "ViTImageProcessor", "size": 6, "image_std": [0.2, 0.3, 0.4]}
    (home / "preprocessor_config.json").write_text(json.dumps(values))
    source = ImageFolder(str(folder), processor=str(home))
    data = source.open()
    assert data.info.inputs == {"image": ((6, 6, 3), "float32")} and not data.info.statistics
    assert data.info.fingerprint != ImageFolder(str(folder), 6).open().info.fingerprint
    train = data.splits["train"]
    processor = zoo.load_processor(home)
    names = train.names(range(5))
    expected = processor(names)
    np.testing.assert_array_equal(train.rows(np.arange(5))["image"], expected)
    monkeypatch.setattr("zoo.data.images.IN_MEMORY", 0)
    lazy = source.open()
    np.testing.assert_array_equal(lazy.splits["train"].rows(np.arange(5))["image"], expected)
    # What a run folder keeps is enough: the processor's folder may go.
    info = Info.from_json(json.loads(json.dumps(data.info.to_json())))
    (home / "preprocessor_config.json").unlink()
    np.testing.assert_array_equal(source.encode(names, info)[1]["image"], expected)
    (home / "preprocessor_config.json").write_text(json.dumps(values | {"do_resize": False}))
    with pytest.raises(InputError, match="a batch needs one size"):
        source.open()


def test_all_unreadable_files_of_a_prediction_are_named(folder):
    for name in ("x.png", "y.png"):
        (folder / "cat" / name).write_bytes(b"no image")
    info = ImageFolder(str(folder), 8, on_bad="skip").open().info
    with pytest.raises(InputError, match=r"x\.png: unreadable[^\n]*\n  .*y\.png: unreadable"):
        ImageFolder(str(folder), 8).encode([str(folder / "cat")], info)


def test_threads_leave_warnings_as_they_were():
    content = encoded(pixels(64))
    before = list(warnings.filters)
    assert len(in_threads(lambda _: decode(content, 8, 3), range(64))) == 64
    assert warnings.filters == before


def test_split_folders_are_respected_and_missing_ones_made(tmp_path):
    for split, count in (("train", 40), ("val", 3), ("test", 4)):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                (tmp_path / split / name / f"{i}.png").write_bytes(encoded(pixels()))
    data = ImageFolder(str(tmp_path), 8).open()
    assert data.info.counts == {"train": 80, "validation": 6, "test": 8}
    for name in "ab":
        for file in (tmp_path / "val" / name).iterdir():
            file.unlink()
        (tmp_path / "val" / name).rmdir()
    (tmp_path / "val").rmdir()
    counts = ImageFolder(str(tmp_path), 8).open().info.counts
    assert counts["test"] == 8 and counts["train"] + counts["validation"] == 80
    (tmp_path / "notes").mkdir()
    with pytest.raises(InputError, match="beside train and test folders there is: notes"):
        ImageFolder(str(tmp_path), 8).open()


def test_a_class_may_be_called_train(folder):
    (folder / "cat").rename(folder / "train")
    assert ImageFolder(str(folder), 8).open().info.class_names == ("dog", "train")


def test_bad_images_stop_with_their_names_or_are_skipped(folder):
    good = encoded(pixels())
    bad = {"cut.png": good[:-60], "empty.png": b"", "text.jpg": b"no image", "half.png": good[:60]}
    for name, content in bad.items():
        (folder / "cat" / name).write_bytes(content)
    with pytest.raises(InputError, match="4 malformed records") as stop:
        ImageFolder(str(folder), 8).open()
    assert all(f"{name}: unreadable image" in str(stop.value) for name in bad)
    info = ImageFolder(str(folder), 8, on_bad="skip").open().info
    assert info.skipped["count"] == 4 and sum(info.counts.values()) == 60
    with pytest.raises(InputError, match=r"cut\.png"):
        ImageFolder(str(folder), 8).encode([str(folder / "cat" / "cut.png")], info)


def test_a_file_lost_after_the_indexing_pass_is_named(folder, monkeypatch):
    monkeypatch.setattr("zoo.data.images.IN_MEMORY", 0)
    train = ImageFolder(str(folder), 8).open().splits["train"]
    (name,) = train.names([2])
    open(name, "wb").close()
    with pytest.raises(InputError, match=name):
        train.rows(np.array([1, 2]))


@pytest.mark.parametrize("make", [lambda p: p / "none", lambda p: p])
def test_folders_without_classes(make, tmp_path):
    with pytest.raises(InputError):
        ImageFolder(str(make(tmp_path))).open()


def test_gray_rgb_palette_alpha_and_one_bit():
    gray = pixels(6, 1)
    assert (decode(encoded(gray), 6, 3) == gray[..., None]).all()
    np.testing.assert_array_equal(decode(encoded(gray), 6, 1)[..., 0], gray)
    colour = Image.fromarray(pixels(6)).quantize(16)
    shown = np.asarray(colour.convert("RGB"))
    np.testing.assert_array_equal(decode(encoded(colour), 6, 3), shown)
    np.testing.assert_array_equal(decode(encoded(colour, "GIF"), 6, 3), shown)
    rgba = np.dstack([pixels(6), np.full((6, 6), 255, np.uint8)])
    np.testing.assert_array_equal(decode(encoded(rgba), 6, 3), rgba[..., :3])
    rgba[..., 3] = 0
    assert (decode(encoded(rgba), 6, 3) == 255).all()
    bits = Image.fromarray(gray).convert("1")
    assert set(decode(encoded(bits), 6, 1).ravel()) == {0, 255}


def test_sixteen_bits_cmyk_and_rotation():
    wide = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040
    np.testing.assert_array_equal(decode(encoded(wide), 8, 1)[..., 0], wide // 257)
    np.testing.assert_array_equal(decode(encoded(wide, "TIFF"), 8, 3)[..., 1], wide // 257)
    with pytest.raises(ValueError, match="floating-point"):
        decode(encoded(np.zeros((4, 4), np.float32), "TIFF"), 4, 1)
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = decode(encoded(cmyk, "JPEG"), 8, 3)
    assert (red[..., 0] > 200).all() and (red[..., 1:] < 60).all()
    left = np.zeros((8, 8), np.uint8)
    left[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter clockwise
    top = decode(encoded(left, exif=exif), 8, 1)[..., 0]
    assert top[:4].min() == 255 and top[4:].max() == 0


def test_shorter_side_is_scaled_and_the_rest_cropped():
    wide = np.zeros((4, 12), np.uint8)
    wide[:, 4:8] = 255
    assert (decode(encoded(wide), 4, 1) == 255).all()
    assert (decode(encoded(wide), 2, 1) > 200).all()


def test_a_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for size, words in ((4, "4 x 4 pixels are too many"), (5, "decompression bomb")):
        with pytest.raises(ValueError, match=f"unreadable image: .*{words}"):
            decode(encoded(pixels(size)), 4, 3)


def test_damaged_files_are_refused_or_read_but_never_crash():
    contents = [encoded(pixels(), f) for f in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")]
    refused = 0
    for trial in range(150):
        content = bytearray(contents[trial % len(contents)])
        for _ in range(3):
            content[RNG.integers(len(content))] = RNG.integers(256)
        content = bytes(content[: RNG.integers(1, len(content) + 1)])
        try:
            assert decode(content, 8, 3).shape == (8, 8, 3)
        except ValueError as error:
            refused += 1
            assert "unreadable" in str(error)
    assert refused > 50


def test_no_other_program_is_run_to_read_a_picture(monkeypatch):
    """Pillow gives EPS to Ghostscript, which may run for ever."""
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a program was run"))
    content = encoded(pixels(20), "EPS")
    with pytest.raises(ValueError, match="no image of a known kind"):
        decode(content, 8, 3)
