"""Crop, flip, cutout, mixup."""

import numpy as np
import pytest

from zoo.data import Arrays, Augment, Diabetes, Digits, Stream, Wine
from zoo.errors import InputError


def images(n=6, size=5):
    x = np.arange(1, n * size * size * 2 + 1, dtype=np.float32).reshape(n, size, size, 2)
    return Arrays({"image": x, "label": np.arange(n, dtype=np.int32)}, "abcdef", n)


def run(augment, step=0, **options):
    return Stream(images(), 6, 1, augment, **options)


def test_crop_shifts_each_image_by_at_most_its_padding():
    stream = run(Augment(crop=1))
    plain, seen = Stream(images(), 6, 1), set()
    for step in range(12):
        for got, image in zip(stream[step]["image"], plain[step]["image"], strict=True):
            padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
            fits = [
                (y, x)
                for y in range(3)
                for x in range(3)
                if np.array_equal(got, padded[y : y + 5, x : x + 5])
            ]
            assert len(fits) == 1
            seen.add(fits[0])
    assert len(seen) == 9


def test_flip_mirrors_about_half():
    stream, plain = run(Augment(flip=True)), Stream(images(), 6, 1)
    flipped = 0
    for step in range(20):
        for got, image in zip(stream[step]["image"], plain[step]["image"], strict=True):
            mirrored = np.array_equal(got, image[:, ::-1])
            assert mirrored or np.array_equal(got, image)
            flipped += mirrored
    assert 35 < flipped < 85


@pytest.mark.parametrize("side", [1, 2, 3])
def test_cutout_removes_one_square(side):
    stream, plain = run(Augment(cutout=side)), Stream(images(), 6, 1)
    areas = set()
    for step in range(10):
        for got, image in zip(stream[step]["image"], plain[step]["image"], strict=True):
            gone = (got == 0).all(-1)
            np.testing.assert_array_equal(got[~gone], image[~gone])
            rows, columns = gone.any(1), gone.any(0)
            np.testing.assert_array_equal(gone, rows[:, None] & columns[None])
            areas.add(int(gone.sum()))
    assert max(areas) == side**2


def test_mixup_mixes_inputs_and_labels_alike():
    stream = Stream(images(), 6, 1, Augment(mixup=0.5))
    base = images().rows(np.arange(6))["image"]
    batch = stream[3]
    assert batch["label"].shape == (6, 6) and batch["label"].dtype == np.float32
    np.testing.assert_allclose(batch["label"].sum(1), 1, rtol=1e-6)
    assert (np.count_nonzero(batch["label"], axis=1) <= 2).all()
    mixed = np.einsum("bk,khwc->bhwc", batch["label"], base)
    np.testing.assert_allclose(batch["image"], mixed, rtol=1e-4)


def test_mixup_of_features_and_of_regression():
    stream = Stream(Wine().open().splits["train"], 8, 0, Augment(mixup=1.0))
    assert stream[0]["label"].shape == (8, 3)
    split = Diabetes().open().splits["train"]
    mixed = Stream(split, 8, 0, Augment(mixup=1.0))[0]
    plain = Stream(split, 8, 0)[0]
    assert mixed["label"].shape == (8,) and not np.array_equal(mixed["label"], plain["label"])


def test_augmentation_is_a_function_of_seed_and_step():
    split = Digits().open().splits["train"]
    augment = Augment(crop=1, flip=True, cutout=2, mixup=0.2)
    one, two = Stream(split, 8, 5, augment), Stream(split, 8, 5, augment)
    late = two[40]["image"]
    np.testing.assert_array_equal(one[0]["image"], two[0]["image"])
    np.testing.assert_array_equal(one[40]["image"], late)
    assert not np.array_equal(one[0]["image"], Stream(split, 8, 6, augment)[0]["image"])
    chunk = one.chunk(39, 2)
    np.testing.assert_array_equal(chunk["image"][1], late)


def test_nothing_asked_changes_nothing():
    assert not Augment().active and Stream(images(), 6, 1, Augment()).augment is None


@pytest.mark.parametrize("bad", [{"crop": -1}, {"cutout": -2}, {"mixup": -0.1}, {"mixup": np.nan}])
def test_impossible_values(bad):
    with pytest.raises(InputError, match="augmentation"):
        Augment(**bad)


def test_tokens_cannot_be_mixed():
    ids = np.zeros((4, 3), np.int32)
    split = Arrays({"input_ids": ids, "label": np.zeros(4, np.int32)}, "abcd", 2)
    with pytest.raises(InputError, match="token ids"):
        Stream(split, 2, 0, Augment(mixup=1.0))
