"""Processors with other values, and in the other library's words."""

import json

import numpy as np
import pytest
from odd_pictures import picture
from PIL import Image
from processor_folders import TIMM, TRANSFORMERS, write

import zoo
from zoo.data import ImageFolder
from zoo.data.processor_changes import changed, translated
from zoo.errors import InputError

NAMES = [*TRANSFORMERS, *TIMM]


@pytest.mark.parametrize("name", NAMES)
def test_every_processor_takes_another_size(name, tmp_path):
    ours = zoo.load_processor(write(name, tmp_path))
    assert changed(ours, name) is ours
    other = changed(ours, name, 18, "bilinear", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    assert other.shape == (18, 18, 3)
    pixels = other(picture("RGB", 31, 44))
    assert pixels.shape == (1, 18, 18, 3) and np.isfinite(pixels).all()
    assert other.settings["interpolation" if name in TIMM else "resample"] in ("bilinear", 2)
    assert list(other.settings["mean" if name in TIMM else "image_mean"]) == [0.1, 0.2, 0.3]
    tight = changed(ours, name, 18, crop_pct=0.5)
    assert tight.shape == (18, 18, 3)


def test_margins_keep_their_share_or_are_those_asked_for(tmp_path):
    deit = zoo.load_processor(write("deit", tmp_path))  # 256 pixels, of which 224 are cut
    assert changed(deit, "deit", 112).settings["size"] == {"height": 128, "width": 128}
    one = picture("RGB", 40, 40)
    tight = changed(deit, "deit", 20, "bicubic", crop_pct=0.5, mean=(0, 0, 0), std=(1, 1, 1))
    wanted = np.asarray(one.resize((40, 40), Image.Resampling.BICUBIC))[10:30, 10:30]
    np.testing.assert_allclose(tight(one)[0] * 255, wanted, atol=1e-3)


@pytest.mark.parametrize(
    "values,words",
    [
        ({"image_size": -1}, "must not be negative"),
        ({"crop_pct": 1.5}, "in 0..1"),
        ({"image_size": 400, "crop_pct": 0.9}, "has no crop_pct"),
        ({"std": (0.0, 1.0, 1.0)}, "other than 0"),
    ],
)
def test_impossible_values(values, words, tmp_path):
    ours = zoo.load_processor(write("convnext", tmp_path))
    with pytest.raises(InputError, match=words):
        changed(ours, "convnext", **values)


@pytest.mark.parametrize("name", NAMES)
def test_the_other_librarys_words_mean_the_same_pixels(name, tmp_path):
    ours = zoo.load_processor(write(name, tmp_path))
    theirs = translated(ours, "transformers" if name in TIMM else "timm")
    assert translated(ours, "timm" if name in TIMM else "transformers") is ours
    told = ("vit", "vit-odd", "vit-old", "deit", "clip", "siglip", "convnext", "convnext-384",
            "mobilenet_v1", "timm", "timm-even", "timm-squash")  # fmt: skip
    if name not in told:
        return
    assert theirs is not None and theirs.shape == ours.shape
    side = 2 * ours.shape[0]
    one = picture("RGB", side, side)
    got, wanted = theirs(one)[0], ours(one)[0]
    if name in ("convnext", "timm"):  # an odd number of pixels is cut off: one pixel beside
        late, early = (wanted, got) if name == "timm" else (got, wanted)
        got, wanted = early[1:, 1:], late[:-1, :-1]
    np.testing.assert_allclose(got, wanted, atol=2e-6)
    theirs.save(tmp_path / "other")
    np.testing.assert_array_equal(zoo.load_processor(tmp_path / "other")(one), theirs(one))


def test_what_the_other_library_cannot_say(tmp_path):
    for name in ("vit-between", "vit-within", "efficientnet", "timm-wide", "timm-border"):
        ours = zoo.load_processor(write(name, tmp_path / name))
        assert translated(ours, "transformers" if name in TIMM else "timm") is None


def test_timms_file_keeps_what_it_says_of_the_weights(tmp_path):
    ours = zoo.load_processor(write("timm", tmp_path / "a"))
    ours.settings["num_classes"] = 1000
    config = tmp_path / "config.json"
    values = {"architecture": "resnet18", "pretrained_cfg": {"num_classes": 7, "classifier": "fc"}}
    config.write_text(json.dumps(values))
    ours.save(tmp_path)
    written = json.loads(config.read_text())["pretrained_cfg"]
    assert (written["num_classes"], written["classifier"]) == (7, "fc")
    assert written["crop_pct"] == 0.95
    np.testing.assert_array_equal(
        zoo.load_processor(tmp_path)(picture("RGB", 30, 40)), ours(picture("RGB", 30, 40))
    )


def test_a_folder_of_images_with_other_values(tmp_path):
    for name in "ab":
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(12):
            picture("RGB", 30 + i, 40).save(tmp_path / "pictures" / name / f"{name}{i}.png")
    home = str(write("vit-old", tmp_path / "vit"))

    def opened(**values):
        return ImageFolder(str(tmp_path / "pictures"), processor=home, **values).open().info

    assert opened().inputs["image"][0] == (20, 20, 3)
    info = opened(image_size=16, crop_pct=0.8, interpolation="nearest")
    assert info.inputs["image"][0] == (16, 16, 3) and info.columns["settings"]["resample"] == 0
    assert info.fingerprint != opened(image_size=16).fingerprint
    with pytest.raises(InputError, match="have 3 channels, not 1"):
        opened(channels=1)
    with pytest.raises(InputError, match="crop_pct, mean: for a processor, and there is none"):
        ImageFolder(str(tmp_path / "pictures"), crop_pct=0.9, mean=(0.5,)).open()
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="nothing says how .* --data.processor none"):
        ImageFolder(str(tmp_path / "pictures"), processor=str(tmp_path / "none")).open()
    plain = ImageFolder(str(tmp_path / "pictures"), image_size=8, processor="none")
    info = plain.open().info
    assert info.inputs["image"][0] == (8, 8, 3) and info.statistics
    exported, one = plain.image_processor(info), tmp_path / "one.png"
    picture("RGB", 16, 16).save(one)
    np.testing.assert_allclose(exported(one), plain.encode([str(one)], info)[1]["image"], atol=1e-5)
