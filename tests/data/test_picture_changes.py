"""Changes of single pictures, cutmix and erasing: their distributions, and that bits repeat."""

import math

import numpy as np
import pytest
from odd_pictures import pattern, picture
from PIL import Image

from zoo.data import Arrays, Augment, Diabetes, ImageFolder, Stream
from zoo.data.picture_changes import OPERATIONS, ColourJitter, Erase, RandAugment, ResizedCrop
from zoo.data.stream import generator, load
from zoo.errors import InputError

EVERYTHING = Augment(
    flip=True,
    mixup=0.2,
    cutmix=1.0,
    resized_crop=ResizedCrop(0.08),
    jitter=ColourJitter(0.4, 0.4, 0.4, 0.1),
    randaugment=RandAugment(2, 9),
    erase=Erase(0.5, noise=True),
)


def rng(number=0):
    return generator(3, number)


def held(n=8, size=12, channels=3):
    """Pictures in memory, normalised as `assemble` does it."""
    pixels = np.stack([pattern(size, size + 2, channels) + i for i in range(n)])
    label = np.arange(n, dtype=np.int32) % 4
    mean, std = (100.0,) * channels, (50.0,) * channels
    return Arrays({"image": pixels, "label": label}, str, 4, "image", mean, std)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    for split in ("train", "val", "test"):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            for i in range(4):
                one = Image.fromarray(pattern(20 + i, 31 - i, 3) + (9 * i + 50 * (name == "b")))
                one.save(root / split / name / f"{i}.png")
    return str(root)


def test_resized_crops_have_the_areas_and_aspects_asked_for():
    crop = ResizedCrop(0.1, 0.3)
    boxes = np.array([crop.box(rng(i), 200, 300) for i in range(400)])
    top, left, tall, wide = boxes.T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + tall <= 200).all() and (left + wide <= 300).all()
    share, aspect = tall * wide / 60000, wide / tall
    assert 0.098 < share.min() < 0.11 and 0.29 < share.max() < 0.302
    assert abs(share.mean() - 0.2) < 0.01
    assert 0.74 < aspect.min() < 0.78 and 1.29 < aspect.max() < 1.35
    assert abs(np.log(aspect).mean()) < 0.03
    # What never fits becomes the largest part about the centre.
    assert ResizedCrop(1.0).box(rng(), 10, 100) == (0, 43, 10, 13)
    assert ResizedCrop(1.0).box(rng(), 100, 1) == (49, 0, 1, 1)


def test_a_resized_crop_of_all_is_the_resized_picture():
    one = picture("RGB", 30, 30)
    got = ResizedCrop(1.0, aspect=1.0, filter="bicubic")(one, rng(), (7, 9))
    expected = one.resize((9, 7), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


def test_jitter_changes_what_it_says():
    one = picture("RGB", 16, 16)
    values = np.asarray(one).astype(float)
    ratios = []
    for i in range(60):
        dark = np.asarray(ColourJitter(brightness=0.5)(one, rng(i))).astype(float)
        near = (values > 80) & (dark < 255)
        if near.any():
            ratios.append(float(np.median(dark[near] / values[near])))
    assert 0.49 < min(ratios) < 0.65 and 1.2 < max(ratios) < 1.51
    gray = picture("L", 16, 16).convert("RGB")
    for jitter in (ColourJitter(saturation=0.9), ColourJitter(hue=0.5)):
        np.testing.assert_array_equal(np.asarray(jitter(gray, rng())), np.asarray(gray))
        assert (np.asarray(jitter(one, rng(1))) != np.asarray(one)).any()
    alone = picture("L", 16, 16)
    assert ColourJitter(0.3, 0.3, 0.3, 0.3)(alone, rng()).mode == "L"


def test_turning_hues_all_the_way_round_is_nothing():
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    seen = {ColourJitter(hue=0.5)(red, rng(i)).getpixel((0, 0)) for i in range(40)}
    assert len(seen) > 30 and all(max(c) == 255 and min(c) == 0 for c in seen)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_operation_of_randaugment(name, mode):
    one, operation = picture(mode, 24, 30), OPERATIONS[name]
    for sign in (1, -1):
        strong = operation(one, 1.0, sign)
        assert (strong.mode, strong.size) == (mode, one.size)
        if name not in ("identity", "autocontrast") and (name, mode) != ("color", "L"):
            assert (np.asarray(strong) != np.asarray(one)).any()
        weak = operation(one, 0.0, sign)
        if name not in ("autocontrast", "equalize", "solarize"):
            np.testing.assert_array_equal(np.asarray(weak), np.asarray(one))


def test_randaugment_draws_all_operations_alike(monkeypatch):
    seen = []
    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, lambda p, s, sign, n=name: seen.append((n, s)) or p)
    for i in range(700):
        RandAugment(2, 15)(picture("RGB", 2, 2), rng(i))
    counts = np.array([sum(n == name for n, _ in seen) for name in OPERATIONS])
    assert counts.sum() == 1400 and (abs(counts - 100) < 40).all()
    assert {strength for _, strength in seen} == {0.5}


def test_erasing_takes_rectangles_of_the_area_asked_for():
    erase = Erase(0.6, 0.1, 0.3)
    boxes = np.array([erase.box(rng(i), 40, 50) for i in range(500)])
    area = boxes[:, 2] * boxes[:, 3] / 2000
    assert abs((area > 0).mean() - 0.6) < 0.07
    assert 0.09 < area[area > 0].min() and area.max() < 0.32
    images = np.ones((6, 8, 9, 2), np.float32)
    for noise in (False, True):
        augment = Augment(erase=Erase(1.0, 0.2, 0.4, noise=noise))
        values = augment.draw(rng(), 6, (8, 9, 2))
        got = augment.move(images, values, np.arange(6))
        for image, (top, left, tall, wide) in zip(got, values["erased"], strict=True):
            gone = np.zeros((8, 9), bool)
            gone[top : top + tall, left : left + wide] = True
            assert (image[~gone] == 1).all() and gone.any()
            assert (image[gone] != 1).all() if noise else (image[gone] == 0).all()
    assert (images == 1).all()


def test_cutmix_labels_are_the_shares_of_the_area():
    split = held()
    base = split.rows(np.arange(8))
    stream = Stream(split, 8, 1, Augment(cutmix=1.0))
    shares = []
    for step in range(30):
        batch, order = stream[step], stream.indices(step)
        assert batch["label"].shape == (8, 4) and batch["label"].dtype == np.float32
        np.testing.assert_allclose(batch["label"].sum(1), 1, rtol=1e-6)
        for image, label, own in zip(batch["image"], batch["label"], order, strict=True):
            mine = (image == base["image"][own]).all(-1)
            rows, columns = (~mine).any(1), (~mine).any(0)
            inside = rows[:, None] & columns[None]
            share = 1 - inside.mean()
            if label[base["label"][own]] < 1 - 1e-6:  # the partner is of another class
                assert label[base["label"][own]] == pytest.approx(share, abs=0.02)
                shares.append(share)
    assert 0.3 < np.mean(shares) < 0.7 and min(shares) < 0.2 and max(shares) > 0.8


def test_mixup_and_cutmix_share_the_batch():
    augment = Augment(mixup=0.8, cutmix=1.0)
    values = augment.draw(rng(), 400, (10, 10, 3))
    assert 0.42 < values["is_cut"].mean() < 0.58
    cut = values["cut"]
    assert (cut[~values["is_cut"], :2] == cut[~values["is_cut"], 2:]).all()
    alone = Augment(mixup=0.8).draw(rng(), 400, (10, 10, 3))
    keep = ~values["is_cut"]
    np.testing.assert_array_equal(alone["weight"][keep], values["weight"][keep])


@pytest.mark.parametrize("cached", [True, False])
def test_bits_follow_from_seed_and_step_alone(folder, cached, monkeypatch):
    if not cached:
        monkeypatch.setattr("zoo.data.images.IN_MEMORY", 0)
    split = ImageFolder(folder, 16).open().splits["train"]
    for augment in (EVERYTHING, Augment(randaugment=RandAugment(2)), Augment(cutmix=0.5)):
        stream = Stream(split, 6, 11, augment)
        batches = [stream[n] for n in range(4)]
        threads = list(load(Stream(split, 6, 11, augment), 0, 4, threads=4))
        monkeypatch.setattr("os.cpu_count", lambda: 1)
        alone = [Stream(split, 6, 11, augment)[n] for n in (3, 2, 1, 0)][::-1]
        monkeypatch.undo()
        if not cached:
            monkeypatch.setattr("zoo.data.images.IN_MEMORY", 0)
        halves = [
            [Stream(split, 6, 11, augment, first_row=f, num_rows=3)[n] for f in (0, 3)]
            for n in range(4)
        ]
        for key in ("image", "label"):
            for n in range(4):
                np.testing.assert_array_equal(threads[n][key], batches[n][key])
                np.testing.assert_array_equal(alone[n][key], batches[n][key])
                both = np.concatenate([half[key] for half in halves[n]])
                np.testing.assert_array_equal(both, batches[n][key])
        assert not np.array_equal(batches[0]["image"], Stream(split, 6, 12, augment)[0]["image"])


def test_crops_come_from_the_whole_picture(folder):
    """Half of a picture of 31 x 20 has more detail at 16 x 16 than half of its thumbnail."""
    split = ImageFolder(folder, 4).open().splits["train"]
    fine = Stream(split, 8, 0, Augment(resized_crop=ResizedCrop(0.1, 0.15)))[0]["image"]
    assert fine.shape == (8, 4, 4, 3)
    seen = []
    split.changed(
        np.arange(8), lambda i, p: seen.append(p.size) or np.zeros((4, 4, 3), np.uint8), True
    )
    assert {size[1] for size in seen} == {20, 21, 22, 23}


@pytest.mark.parametrize("normalised_once", [True, False])
def test_pictures_in_memory_change_too(normalised_once, monkeypatch):
    if not normalised_once:
        monkeypatch.setattr("zoo.data.info.IN_MEMORY", 0)
    split = held()
    same = Augment(randaugment=RandAugment(1, 0.0))  # most operations of no strength
    expected, kept = Stream(split, 2, 0), 0
    for step in range(40):
        got = Stream(split, 2, 0, same)[step]["image"]
        kept += np.array_equal(got, expected[step]["image"])
    assert kept > 15
    gray = held(channels=1)
    assert Stream(gray, 4, 0, EVERYTHING)[0]["image"].shape == (4, 12, 14, 1)


def test_what_they_do_not_fit_is_refused():
    plain = Arrays(
        {"image": np.zeros((4, 3, 3, 1), np.float32), "label": np.zeros(4, np.int32)}, "abcd", 2
    )
    with pytest.raises(InputError, match="pictures of 8 bits"):
        Stream(plain, 2, 0, Augment(jitter=ColourJitter(0.4)))
    features = Diabetes().open().splits["train"]
    for augment in (Augment(cutmix=1.0), Augment(erase=Erase(0.5)), EVERYTHING):
        with pytest.raises(InputError, match="need images"):
            Stream(features, 2, 0, augment)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ResizedCrop(-0.1),
        lambda: ResizedCrop(0.5, 0.4),
        lambda: ResizedCrop(0.1, aspect=0.5),
        lambda: ResizedCrop(math.nan),
        lambda: ColourJitter(-1),
        lambda: ColourJitter(hue=0.6),
        lambda: RandAugment(-1),
        lambda: RandAugment(2, 31),
        lambda: Erase(1.5),
        lambda: Erase(0.5, 0.4, 0.3),
        lambda: Erase(0.5, aspect=math.inf),
        lambda: Augment(cutmix=-1),
    ],
)
def test_impossible_values(make):
    with pytest.raises(InputError):
        make()


def test_defaults_change_nothing():
    assert not Augment().active
    for part in (ResizedCrop(), ColourJitter(), RandAugment(), Erase()):
        assert not part.active
