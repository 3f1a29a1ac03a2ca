"""scikit-learn's data: counts, shapes, normalisation from train, prediction inputs."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

from zoo.data import BreastCancer, Diabetes, Digits, Info, Wine
from zoo.data.embedded import resize
from zoo.errors import InputError


def everything(split):
    return split.rows(np.arange(len(split)))


def test_digits_splits_are_those_of_the_pixels():
    data = Digits().open()
    assert data.info.counts == {"train": 1098, "validation": 345, "test": 354}
    assert sum(data.info.class_counts) == 1098 and data.info.num_classes == 10
    pixels = load_digits().images
    first = data.splits["test"].names([0])[0]
    row = int(first.split()[-1])
    mean, std = (data.info.statistics[k][0] for k in ("mean", "std"))
    got = data.splits["test"].rows(np.array([0]))
    np.testing.assert_allclose(got["image"][0, ..., 0] * std + mean, pixels[row], atol=1e-5)
    assert got["label"][0] == load_digits().target[row]


@pytest.mark.parametrize(
    "source, key, shape, classes",
    [
        (Digits(), "image", (8, 8, 1), 10),
        (Digits(size=28), "image", (28, 28, 1), 10),
        (Digits("features"), "features", (64,), 10),
        (Digits("rows"), "features", (8, 8), 10),
        (Digits("rows", 10, "parity"), "features", (10, 10), 2),
        (BreastCancer(), "features", (30,), 2),
        (BreastCancer(8), "features", (8,), 2),
        (Wine(), "features", (13,), 3),
        (Diabetes(), "features", (10,), None),
    ],
)
def test_every_view_fits_its_info_and_is_normalised_by_train_alone(source, key, shape, classes):
    data = source.open()
    info = data.info
    assert info.inputs == {key: (shape, "float32")} and info.num_classes == classes
    for split in data.splits.values():
        batch = everything(split)
        assert batch[key].shape == (len(split), *shape) and batch[key].dtype == np.float32
        assert batch["label"].dtype == info.label[1] and np.isfinite(batch[key]).all()
    train = everything(data.splits["train"])[key]
    axes = tuple(range(train.ndim)) if isinstance(source, Digits) else (0,)
    np.testing.assert_allclose(train.mean(axes, dtype=float), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(axes, dtype=float), 1, atol=1e-5)
    assert abs(everything(data.splits["test"])[key].mean()) > 1e-5
    assert sum(info.counts.values()) == sum(map(len, data.splits.values()))
    if classes:
        counts = np.bincount(data.splits["train"].labels(), minlength=classes)
        assert info.class_counts == tuple(counts.tolist())


def test_the_split_does_not_depend_on_the_view_or_the_columns():
    names = [d.splits["test"].names(range(5)) for d in (Digits().open(), Digits("rows", 9).open())]
    assert names[0] == names[1]
    assert BreastCancer(8).open().info.counts == BreastCancer().open().info.counts


def test_opening_twice_gives_the_same_fingerprint_and_another_view_another():
    prints = [s.open().info.fingerprint for s in (Digits(), Digits(), Digits(size=9), Wine())]
    assert prints[0] == prints[1] and len(set(prints)) == 3


def test_parity_is_the_digit_modulo_two():
    digit, parity = Digits().open().splits, Digits(target="parity").open().splits
    np.testing.assert_array_equal(digit["train"].labels() % 2, parity["train"].labels())


def test_regression_targets_return_to_their_units():
    data = Diabetes().open()
    train = everything(data.splits["train"])["label"]
    assert abs(train.mean()) < 1e-5 and abs(train.std() - 1) < 1e-5
    test = data.splits["test"]
    rows = [int(name.split()[-1]) for name in test.names(range(len(test)))]
    original = everything(test)["label"] * data.info.label_std[0] + data.info.label_mean[0]
    np.testing.assert_allclose(original, load_diabetes().target[rows], rtol=1e-4)


def test_resize_is_bilinear():
    ramp = np.arange(8, dtype=np.float32)[None, None] * np.ones((1, 8, 1), np.float32)
    wide = resize(ramp, 16)[0, 0]
    np.testing.assert_allclose(wide, np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7), atol=1e-6)
    np.testing.assert_array_equal(resize(ramp, 8), ramp)
    assert resize(np.ones((2, 1, 1)), 3).tolist() == np.ones((2, 3, 3)).tolist()


@pytest.mark.parametrize("source", [Digits(), Digits("rows", 10), Digits("features")])
def test_digits_are_predicted_from_images_and_tables_as_they_were_trained(source, tmp_path):
    data = source.open()
    info = Info.from_json(data.info.to_json())
    name = data.splits["test"].names([3])[0]
    pixels = load_digits().images[int(name.split()[-1])]
    Image.fromarray(np.round(pixels * 255 / 16).astype(np.uint8)).save(tmp_path / "a.png")
    header = ",".join(f"p{i}" for i in range(64))
    cells = ",".join(str(v) for v in pixels.reshape(-1))
    (tmp_path / "b.csv").write_text(f"{header}\n{cells}\n{cells}\n")
    names, batch = source.encode([str(tmp_path / "a.png"), str(tmp_path / "b.csv")], info)
    assert [n.rsplit("/", 1)[1] for n in names] == ["a.png", "b.csv:2", "b.csv:3"]
    expected = data.splits["test"].rows(np.array([3]))
    (key,) = batch
    np.testing.assert_allclose(batch[key][1:], np.repeat(expected[key], 2, 0), atol=1e-6)
    np.testing.assert_allclose(batch[key][:1], expected[key], atol=0.01)


@pytest.mark.parametrize(
    "text, message",
    [("1,2\n", ":1: expected 64"), ("x\n" + ",".join(["1"] * 63 + ["99"]), ":2: expected 64"),
     (",".join(["1"] * 64) + "\nnan?\n", ":2: not a row"), ("x\n", "nothing to predict")],
)  # fmt: skip
def test_bad_digit_tables_are_named_by_line(text, message, tmp_path):
    path = tmp_path / "d.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        Digits().encode([str(path)], Digits().open().info)
    with pytest.raises(InputError, match="no such file"):
        Digits().encode([str(tmp_path / "none.png")], Digits().open().info)


def test_table_sets_are_predicted_from_a_csv_with_their_columns(tmp_path):
    data = BreastCancer(8).open()
    bunch = load_breast_cancer()
    row = int(data.splits["test"].names([0])[0].split()[-1])
    path = tmp_path / "c.csv"
    order = list(range(8))[::-1]  # another order, and a column more
    head = ",".join(["id", *(bunch.feature_names[i] for i in order)])
    path.write_text(
        head + "\n" + ",".join(["7", *(repr(float(bunch.data[row, i])) for i in order)])
    )
    names, batch = BreastCancer(8).encode([str(path)], Info.from_json(data.info.to_json()))
    assert names == [f"{path}:2"]
    np.testing.assert_array_equal(
        batch["features"], data.splits["test"].rows(np.array([0]))["features"]
    )
    path.write_text("mean radius\n1\n")
    with pytest.raises(InputError, match="no column 'mean texture'"):
        BreastCancer(8).encode([str(path)], data.info)


@pytest.mark.parametrize("make", [lambda: BreastCancer(0).open(), lambda: BreastCancer(31).open(),
                                  lambda: Digits(size=0)])  # fmt: skip
def test_impossible_sizes(make):
    with pytest.raises(InputError):
        make()
