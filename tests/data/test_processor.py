"""Image processors of transformers and timm: pixels, refusals, hostile pictures."""

import json
import warnings

import numpy as np
import pytest
from golden_processors import FILE, chosen, sample
from odd_pictures import pattern, picture
from PIL import Image
from processor_folders import TIMM, TRANSFORMERS, write

import zoo
from zoo.data.processor_folder import CLASSES
from zoo.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


@pytest.mark.parametrize("name", [*TRANSFORMERS, *TIMM])
def test_pixels_are_the_references(name, folder, tmp_path):
    processor = zoo.load_processor(write(name, tmp_path))
    with np.load(FILE) as goldens:
        expected = goldens[name]
    paths = chosen(folder, name)
    assert len(paths) == len(expected) >= 47
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    level = np.diff(processor.scale(ramp), axis=0).max() * (1 + 1e-6)  # of 255
    for path, row in zip(paths, expected, strict=True):
        if np.isnan(row).any():
            with pytest.raises(InputError, match="would be resized to"):
                processor(path)
        else:
            np.testing.assert_allclose(
                sample(processor(path)[0]), row, atol=level, rtol=0, err_msg=path.name
            )


def test_one_many_and_arrays(folder, tmp_path):
    processor = zoo.load_processor(write("clip", tmp_path))
    paths = [path for path in chosen(folder, "clip") if "turned" in path.name]
    batch = processor(paths)
    assert batch.shape == (8, *processor.shape) and batch.dtype == np.float32
    np.testing.assert_array_equal(batch, np.concatenate([processor(str(p)) for p in paths]))
    upright = np.asarray(Image.open(paths[0]))  # its EXIF tag says: as it is
    for same in (upright, [upright], upright[None], Image.fromarray(upright), (paths[0],)):
        np.testing.assert_array_equal(processor(same), batch[:1])
    gray = pattern(20, 30, 1)
    np.testing.assert_array_equal(processor(gray), processor(gray[..., 0]))
    np.testing.assert_array_equal(processor(gray), processor(np.repeat(gray, 3, 2)))
    mixed = processor([gray, paths[0], Image.fromarray(upright)])
    np.testing.assert_array_equal(mixed[1], mixed[2])
    np.testing.assert_array_equal(processor.scale(np.stack(processor.pixels(paths))), batch)
    clear = picture("RGBA", 30, 30)
    clear.putalpha(0)
    np.testing.assert_array_equal(processor(clear), processor(np.full((30, 30, 3), 255, np.uint8)))


def test_any_model_takes_it(tmp_path):
    import jax

    processor = zoo.load_processor(write("deit", tmp_path))
    model = zoo.create_model("alexnet", num_classes=3)
    images = processor([picture("RGB", 30, 40), picture("L", 9, 7)])
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    assert jax.eval_shape(model.apply, variables, images).shape == (2, 3)


def test_settings_can_be_changed(tmp_path):
    write("vit", tmp_path)
    assert zoo.load_processor(tmp_path).shape == (224, 224, 3)
    assert zoo.load_processor(tmp_path, size={"height": 9, "width": 8}).shape == (9, 8, 3)
    assert zoo.load_processor(tmp_path, image_mean=[0.5], image_std=[0.5]).shape == (224, 224, 1)
    assert zoo.load_processor(tmp_path, do_resize=False).shape is None
    with pytest.raises(InputError, match="no setting 'sise'"):
        zoo.load_processor(tmp_path, sise=3)
    write("timm", tmp_path / "timm")
    assert zoo.load_processor(tmp_path / "timm", input_size=[3, 30, 20]).shape == (30, 20, 3)
    assert "timm, (224, 224, 3)" in repr(zoo.load_processor(tmp_path / "timm"))


@pytest.mark.parametrize("name", ["convnext-crop", "efficientnet-odd", "timm-wide"])
def test_saved_and_opened_again(name, tmp_path):
    processor = zoo.load_processor(write(name, tmp_path / "a"))
    processor.save(tmp_path / "b" / "deep")
    again = zoo.load_processor(tmp_path / "b" / "deep")
    one = picture("RGB", 40, 37)
    np.testing.assert_array_equal(again(one), processor(one))
    assert (again.name, again.settings) == (processor.name, processor.settings)


def test_timms_goes_into_the_models_config(tmp_path):
    processor = zoo.load_processor(write("timm", tmp_path))
    config = tmp_path / "model" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"architecture": "x", "num_classes": 7}))
    processor.save(config.parent)
    written = json.loads(config.read_text())
    assert (written["architecture"], written["num_classes"]) == ("x", 7)
    config.write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(InputError, match="a model of transformers"):
        processor.save(config.parent)


def test_where_folders_say_it(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "resnet"}))
    with pytest.raises(InputError, match="nothing says how pictures are prepared"):
        zoo.load_processor(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 17, "crop_pct": 0.9}))
    processor = zoo.load_processor(tmp_path)
    assert processor.name == "ConvNextImageProcessor" and processor.shape == (17, 17, 3)
    joint = {"image_processor": {"image_processor_type": "ViTImageProcessorPil", "size": 11}}
    (tmp_path / "processor_config.json").write_text(json.dumps(joint))
    assert zoo.load_processor(tmp_path).shape == (11, 11, 3)
    flat = {"architecture": "resnet18", "input_size": [3, 12, 14], "crop_pct": None}
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text(json.dumps(flat))
    assert zoo.load_processor(tmp_path / "old").shape == (12, 14, 3)


@pytest.mark.parametrize(
    "values,words",
    [
        ({"image_processor_type": "OwlViTImageProcessor"}, "not implemented"),
        ({}, "names no image_processor_type"),
        ({"do_pad": True, "pad_size": 9}, "do_pad"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order"),
        ({"data_format": "channels_last"}, "data_format"),
        ({"use_square_size": True}, "use_square_size"),
        ({"size": {"longest_edge": 9}}, "size is"),
        ({"size": {"min_pixels": 9, "max_pixels": 20}}, "size is"),
        ({"size": {"height": 0, "width": 9}}, "sides in pixels"),
        ({"size": "large"}, "sides in pixels"),
        ({"size": True}, "sides in pixels"),
        ({"size": None}, "sides in pixels"),
        ({"resample": 6}, "resample is 6"),
        ({"resample": None}, "resample is None"),
        ({"do_resize": "yes"}, "true or false"),
        ({"do_center_crop": True, "crop_size": {"shortest_edge": 3}}, "a height and a width"),
        ({"do_center_crop": True}, "crop_size is None"),
        ({"rescale_factor": 0}, "a positive number"),
        ({"image_mean": [0.5, 0.5]}, "one or three numbers"),
        ({"image_mean": [0.5]}, "as many numbers as image_mean"),
        ({"image_std": [0.5, 0, 0.5]}, "other than 0"),
        ({"image_mean": None}, "one or three numbers"),
        ({"do_convert_rgb": True, "image_mean": [0.5], "image_std": [0.5]}, "do_convert_rgb"),
    ],
)  # fmt: skip
def test_what_is_not_implemented_is_refused(values, words, tmp_path):
    if values and "image_processor_type" not in values:
        values = {"image_processor_type": "ViTImageProcessor"} | values
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=words):
        zoo.load_processor(tmp_path)


@pytest.mark.parametrize(
    "values,words",
    [
        ({"crop_mode": "random"}, "crop_mode"),
        ({"interpolation": "random"}, "interpolation"),
        ({"input_size": [3, 224]}, "input_size"),
        ({"input_size": [1, 24, 24]}, "other channels than mean"),
        ({"crop_pct": -1.0}, "crop_pct"),
        ({"std": [0.5, 0.0, 0.5]}, "std"),
    ],
)
def test_of_timm_too(values, words, tmp_path):
    config = {"architecture": "resnet18", "pretrained_cfg": values}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=words):
        zoo.load_processor(tmp_path)


def test_a_margin_needs_a_shorter_edge(tmp_path):
    values = {"image_processor_type": "ConvNextImageProcessor", "size": {"height": 9, "width": 9}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="a shortest_edge"):
        zoo.load_processor(tmp_path)


def test_every_class_has_defaults(tmp_path):
    for name in CLASSES:
        values = {"image_processor_type": name}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
        assert zoo.load_processor(tmp_path).shape is not None


def test_hostile_files_are_all_named(folder, tmp_path, monkeypatch):
    processor = zoo.load_processor(write("clip", tmp_path))
    good = chosen(folder, "clip")[0]
    content = good.with_name("64x64.png").read_bytes()
    for name, bad in {"cut.png": content[:-40], "empty.jpg": b"", "text.png": b"text"}.items():
        (tmp_path / name).write_bytes(bad)
    (tmp_path / "wrong.jpg").write_bytes(content)  # a PNG all the same
    assert processor(tmp_path / "wrong.jpg").shape == (1, 17, 17, 3)
    names = [tmp_path / name for name in ("cut.png", "empty.jpg", "none.png", "text.png", ".")]
    with pytest.raises(InputError) as stop:
        processor([good, *names])
    message = str(stop.value)
    assert all(f"{name}: " in message for name in names) and str(good) not in message
    assert message.count("\n") == 4 and "the file is empty" in message
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    with pytest.raises(InputError, match="64 x 64 pixels are too many; at most 3000"):
        processor(good.with_name("64x64.png"))
    with pytest.raises(InputError, match="picture 0: 1 x 300 pixels would be resized to 17 x 5100"):
        processor(pattern(1, 300, 3))


@pytest.mark.parametrize(
    "bad,words",
    [
        ([], "no picture"),
        (None, "NoneType"),
        ([b"bytes"], "picture 0: bytes"),
        (np.zeros((4, 4, 3)), "float64 pixels"),
        (np.zeros((3, 8, 8), np.uint8), "expected .H, W"),
        (np.zeros((2, 0, 8, 3), np.uint8), "picture 1: shape"),
        (np.zeros(5, np.uint8), "expected .H, W"),
    ],
)
def test_what_is_no_picture(bad, words, tmp_path):
    with pytest.raises(InputError, match=words):
        zoo.load_processor(write("clip", tmp_path))(bad)


def test_pictures_of_different_sizes_cannot_be_a_batch(tmp_path):
    processor = zoo.load_processor(write("clip", tmp_path), do_center_crop=False)
    assert processor(pattern(20, 40, 3)).shape == (1, 17, 34, 3)
    with pytest.raises(InputError, match="differ in size"):
        processor([pattern(20, 40, 3), pattern(20, 60, 3)])


def test_warnings_stay_as_they_were(folder, tmp_path):
    processor = zoo.load_processor(write("clip", tmp_path))
    before = list(warnings.filters)
    processor(chosen(folder, "clip") * 3)
    assert warnings.filters == before
