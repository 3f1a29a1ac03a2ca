"""Splits by content, fingerprints, Info."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data import REGISTRY, Arrays, Digits, Info, Split, Wine
from zoo.data.assemble import moments
from zoo.data.split import digest, divide, fingerprint, split_name
from zoo.errors import InputError

records = st.lists(st.binary(max_size=8), min_size=40, max_size=80, unique=True)


@settings(max_examples=40, deadline=None)
@given(records, st.randoms())
def test_the_content_alone_decides(contents, random):
    digests = [digest(c) for c in contents]
    try:
        splits = divide(digests, "data")
    except InputError:
        return
    for name, remainders in (("test", {0}), ("validation", {1}), ("train", {2, 3, 4})):
        for i in splits[name]:
            assert int(hashlib.sha256(contents[i]).hexdigest(), 16) % 5 in remainders
    together = np.concatenate(list(splits.values()))
    assert sorted(together.tolist()) == list(range(len(contents)))
    order = list(range(len(contents)))
    random.shuffle(order)
    moved = divide([digests[i] for i in order], "data")
    for name in splits:
        assert {contents[i] for i in splits[name]} == {contents[order[i]] for i in moved[name]}


def test_equal_records_share_a_split():
    digests = [digest(bytes([i % 50])) for i in range(200)]
    splits = divide(digests, "data")
    sides = [{digests[i] for i in members} for members in splits.values()]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]


def test_stated_splits_are_kept_and_missing_ones_made_from_the_rest():
    digests = [digest(bytes([i])) for i in range(100)]
    official = ["test" if i < 10 else "train" for i in range(100)]
    splits = divide(digests, "data", official)
    assert splits["test"].tolist() == list(range(10))
    by_hash = [i for i in range(10, 100) if int.from_bytes(digests[i], "big") % 5 == 1]
    assert splits["validation"].tolist() == by_hash
    every = ["test"] * 3 + ["validation"] * 3 + ["train"] * 94
    assert divide(digests, "data", every)["train"].tolist() == list(range(6, 100))


def test_an_empty_split_is_named_with_counts_and_advice():
    with pytest.raises(
        InputError, match=r"little: the split .*(test|validation).*train \d.*column"
    ):
        divide([digest(b"a"), digest(b"b")], "little")


@pytest.mark.parametrize("word, name", [("Train ", "train"), ("dev", "validation"), ("x", None)])
def test_names_of_splits(word, name):
    assert split_name(word) == name


def test_fingerprint_depends_on_content_labels_order_and_form():
    digests = [digest(bytes([i])) for i in range(6)]
    splits = {"train": np.arange(4), "test": np.arange(4, 6)}
    base = fingerprint(splits, digests, range(6), {"size": 8})
    assert base == fingerprint(splits, digests, np.arange(6), {"size": 8})
    other = [
        fingerprint(splits, digests[::-1], range(6), {"size": 8}),
        fingerprint(splits, digests, [1, *range(1, 6)], {"size": 8}),
        fingerprint(splits, digests, range(6), {"size": 9}),
        fingerprint(splits | {"train": np.arange(4)[::-1]}, digests, range(6), {"size": 8}),
        fingerprint({"train": np.arange(6), "test": np.arange(0)}, digests, range(6), {"size": 8}),
    ]
    assert len({base, *other}) == 6


@pytest.mark.parametrize("source", [Digits(), Wine()])
def test_info_survives_json(source):
    info = source.open().info
    assert Info.from_json(json.loads(json.dumps(info.to_json()))) == info
    assert Info.from_json(info.to_json() | {"of a later version": 1}) == info


def test_moments_are_of_the_rows_named_and_constants_divide_by_one():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (9000, 3))
    x[:, 2] = 0.1
    rows = np.arange(5, 8990)
    mean, std = moments(x, rows)
    np.testing.assert_allclose(mean, x[rows].mean(0), rtol=1e-12)
    np.testing.assert_allclose(std[:2], x[rows, :2].std(0), rtol=1e-12)
    assert std[2] == 1.0
    one = moments(x, rows, "all")
    np.testing.assert_allclose(one, [[x[rows].mean()], [x[rows].std()]], rtol=1e-12)


def test_arrays_read_rows_normalised_with_names():
    x = np.arange(12, dtype=np.uint8).reshape(6, 2)
    label = np.arange(6, dtype=np.int32)
    split = Arrays({"features": x, "label": label}, "abcdef", 6, "features", (1, 2), (2, 4))
    assert isinstance(split, Split) and len(split) == 6
    batch = split.rows(np.array([5, 0]))
    np.testing.assert_array_equal(batch["features"], np.float32([[4.5, 2.25], [-0.5, -0.25]]))
    assert batch["features"].dtype == np.float32 and batch["label"].tolist() == [5, 0]
    assert split.names([5, 0]) == ["f", "a"]


def test_large_arrays_are_normalised_when_read(monkeypatch):
    x = np.random.default_rng(0).integers(0, 255, (6, 4, 4, 3), dtype=np.uint8)

    def make():
        return Arrays({"image": x, "label": np.zeros(6)}, "abcdef", 2, "image", [9] * 3, [3] * 3)

    small = make().rows(np.arange(6))["image"]
    monkeypatch.setattr("zoo.data.info.IN_MEMORY", 10)
    np.testing.assert_array_equal(small, make().rows(np.arange(6))["image"])


def test_registry_names_every_source():
    assert len(REGISTRY) == len(set(REGISTRY.values())) == 22
    for source in REGISTRY.values():
        assert callable(source.open) and callable(source.encode)
