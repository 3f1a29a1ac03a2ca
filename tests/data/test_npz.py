"""NumPy archives."""

import numpy as np
import pytest

from zoo.data import Info, Npz
from zoo.errors import InputError

RNG = np.random.default_rng(3)
N = 60


def save(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def everything(split):
    return split.rows(np.arange(len(split)))


@pytest.mark.parametrize(
    "form, x, shape",
    [
        ("features", RNG.normal(5, 2, (N, 4)), (4,)),
        ("features", RNG.normal(5, 2, (N, 3, 4)).astype(np.float32), (3, 4)),
        ("image", RNG.integers(0, 256, (N, 5, 5), dtype=np.uint8), (5, 5, 1)),
        ("image", RNG.integers(0, 256, (N, 5, 5, 3), dtype=np.uint8), (5, 5, 3)),
        ("features", RNG.integers(0, 2, (N, 40)).astype(bool), (40,)),
    ],
)
def test_inputs_are_normalised_by_train_and_predicted_alike(form, x, shape, tmp_path):
    path = save(tmp_path / "d.npz", x=x, y=np.arange(N) % 3)
    data = Npz(path, form).open()
    assert data.info.inputs == {form: (shape, "float32")} and data.info.num_classes == 3
    train = everything(data.splits["train"])[form]
    np.testing.assert_allclose(train.reshape(-1, shape[-1]).mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(train.reshape(-1, shape[-1]).std(0), 1, atol=1e-5)
    rows = [int(n.split("[")[1][:-1]) for n in data.splits["test"].names(range(3))]
    np.save(tmp_path / "new.npy", x[rows])
    info = Info.from_json(data.info.to_json())
    names, batch = Npz("", form).encode([str(tmp_path / "new.npy"), path], info)
    assert names[0] == f"{tmp_path}/new.npy: x[0]" and len(names) == 3 + N
    np.testing.assert_array_equal(batch[form][:3], everything(data.splits["test"])[form][:3])


def test_token_ids_and_their_vocabulary(tmp_path):
    x = RNG.integers(0, 50, (N, 7))
    x[0, 0] = 49
    path = save(tmp_path / "d.npz", x=x, y=np.arange(N) % 2)
    info = Npz(path, "input_ids", "binary").open().info
    assert (info.vocab_size, info.max_length, info.statistics) == (50, 7, {})
    x[4, 2] = 50
    with pytest.raises(InputError, match=r"x\[4\]: id 50 is not below 50"):
        Npz("").encode([save(tmp_path / "new.npz", x=x)], info)


def test_given_parts_and_split_array(tmp_path):
    x, y = RNG.normal(size=(N, 2)), np.arange(N) % 2
    parts = {"x_train": x[:40], "y_train": y[:40], "x_test": x[40:], "y_test": y[40:]}
    info = Npz(save(tmp_path / "a.npz", **parts)).open().info
    assert info.counts["test"] == 20 and info.counts["validation"] > 0
    parts |= {"x_val": x[:5], "y_val": y[:5]}
    assert Npz(save(tmp_path / "b.npz", **parts)).open().info.counts == {
        "train": 40, "validation": 5, "test": 20}  # fmt: skip
    split = np.array(["train"] * 40 + ["validation"] * 10 + ["test"] * 10)
    assert Npz(save(tmp_path / "c.npz", x=x, y=y, split=split)).open().info.counts["test"] == 10
    split[7] = "nowhere"
    with pytest.raises(InputError, match="split must say"):
        Npz(save(tmp_path / "c.npz", x=x, y=y, split=split)).open()


@pytest.mark.parametrize(
    "y, shape", [(RNG.normal(50, 9, N), ()), (RNG.normal(50, 9, (N, 2)), (2,))]
)
def test_regression_and_multilabel(y, shape, tmp_path):
    path = save(tmp_path / "d.npz", x=RNG.normal(size=(N, 2)), y=y)
    data = Npz(path, kind="regression").open()
    assert data.info.label == (shape, "float32") and 40 < data.info.label_mean[0] < 60
    path = save(tmp_path / "m.npz", x=RNG.normal(size=(N, 2)), y=RNG.integers(0, 2, (N, 3)))
    assert Npz(path, kind="multilabel").open().info.class_names == ("0", "1", "2")


def test_bad_values_are_named_or_skipped(tmp_path):
    x, y = RNG.normal(size=(N, 2)), np.arange(N) % 2
    x[3, 1], x[9, 0], y[20] = np.nan, np.inf, -1
    path = save(tmp_path / "d.npz", x=x, y=y)
    with pytest.raises(InputError, match=r"(?s)3 malformed.*x\[3\]: inputs.*x\[20\]: label -1"):
        Npz(path).open()
    info = Npz(path, on_bad="skip").open().info
    assert info.skipped["count"] == 3 and sum(info.counts.values()) == N - 3
    np.save(tmp_path / "n.npy", x)
    with pytest.raises(InputError, match=r"x\[3\]: not finite"):
        Npz("").encode([str(tmp_path / "n.npy")], info)


X = np.zeros((N, 2))


@pytest.mark.parametrize(
    "arrays, options",
    [
        ({"z": X}, {}),
        ({"x": X}, {}),
        ({"x_test": X, "y_test": X}, {}),
        ({"x": X, "y": np.zeros(N - 1, int)}, {}),
        ({"x": X, "y": np.zeros(N)}, {}),
        ({"x": X, "y": np.full(N, 2)}, {"kind": "binary"}),
        ({"x": X, "y": np.zeros((N, 2), int)}, {}),
        ({"x": np.zeros(N), "y": np.zeros(N, int)}, {}),
        ({"x": X.astype(complex), "y": np.zeros(N, int)}, {}),
        ({"x": X, "y": np.zeros(N, int)}, {"form": "input_ids"}),
        ({"x": X.astype(int) - 1, "y": np.zeros(N, int)}, {"form": "input_ids"}),
        ({"x": X[:0], "y": np.zeros(0, int)}, {}),
        ({"x": np.zeros((N, 0)), "y": np.zeros(N, int)}, {}),
        ({"x": np.float64(1), "y": np.float64(1)}, {}),
    ],
)
def test_arrays_that_do_not_fit(arrays, options, tmp_path):
    with pytest.raises(InputError, match=r"d\.npz"):
        Npz(save(tmp_path / "d.npz", **arrays), **options).open()


def test_objects_and_damage_are_refused(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, x=np.array([{}], object), y=np.zeros(1))
    with pytest.raises(InputError, match="not a readable array file"):
        Npz(str(path)).open()
    np.savez_compressed(path, x=RNG.normal(size=(N, 2)), y=np.arange(N) % 2)
    good = path.read_bytes()
    refused = 0
    for trial in range(120):
        content = bytearray(good)
        content[RNG.integers(len(content))] ^= 1 << RNG.integers(8)
        path.write_bytes(content if trial % 2 else content[: RNG.integers(len(content))])
        try:
            Npz(str(path)).open()
        except InputError:
            refused += 1
    assert refused > 60
    with pytest.raises(InputError, match="no such file"):
        Npz(str(tmp_path / "none.npz")).open()
