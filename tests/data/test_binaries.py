"""MNIST's and CIFAR-10's own files."""

import gzip

import numpy as np
import pytest
from PIL import Image

from zoo.data import Cifar10, Info, MnistIdx
from zoo.data.binaries import read_idx
from zoo.errors import InputError

RNG = np.random.default_rng(1)


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    return head + array.astype(np.uint8).tobytes()


@pytest.fixture
def mnist(tmp_path):
    arrays = {}
    for part, count in (("train", 60), ("t10k", 20)):
        images = RNG.integers(0, 256, (count, 6, 6), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        arrays[part] = images, labels
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return tmp_path, arrays


def test_idx_files_give_the_official_test_split(mnist):
    folder, arrays = mnist
    data = MnistIdx(str(folder)).open()
    assert data.info.counts["test"] == 20 and sum(data.info.counts.values()) == 80
    assert data.info.inputs == {"image": ((6, 6, 1), "float32")} and data.info.num_classes == 10
    batch = data.splits["test"].rows(np.arange(20))
    assert batch["label"].tolist() == arrays["t10k"][1].tolist()
    mean, std = (data.info.statistics[k][0] for k in ("mean", "std"))
    np.testing.assert_allclose(
        batch["image"][..., 0] * std + mean, arrays["t10k"][0].astype(float), atol=1e-3
    )
    names = data.splits["train"].names(range(len(data.splits["train"])))
    rows = [int(name.split()[-1]) for name in names]
    np.testing.assert_array_equal(data.splits["train"].labels(), arrays["train"][1][rows])
    image = folder / "x.png"
    Image.fromarray(arrays["t10k"][0][2]).save(image)
    names, found = MnistIdx("gone").encode([str(image)], Info.from_json(data.info.to_json()))
    np.testing.assert_array_equal(found["image"][0], batch["image"][2])


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda c: c[:-1], "truncated"),
        (lambda c: c + b"\0", "truncated"),
        (lambda c: b"", "not an IDX"),
        (lambda c: b"\0\0\x0d\x03" + c[4:], "not an IDX"),
        (lambda c: c[:4] + b"\xff" * 4 + c[8:], "truncated"),
        (lambda c: c[:4] + b"\x7f\xff\xff\xff" * 3 + c[16:], "truncated"),
        (lambda c: c[:10], "not an IDX"),
    ],
)
def test_damaged_idx_files_are_named(mnist, damage, message):
    path = mnist[0] / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=f"train-images-idx3-ubyte: .*{message}"):
        MnistIdx(str(mnist[0])).open()


def test_idx_partners_must_fit(mnist):
    folder = mnist[0]
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(19)))
    with pytest.raises(InputError, match="20 images, 19 labels"):
        MnistIdx(str(folder)).open()
    (folder / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(InputError, match="no file t10k-images"):
        MnistIdx(str(folder)).open()
    broken = folder / "broken.gz"
    broken.write_bytes(gzip.compress(idx(np.zeros(50)))[:-12])
    with pytest.raises(InputError, match="broken.gz"):
        read_idx(broken, 1)


@pytest.fixture
def cifar(tmp_path):
    records = RNG.integers(0, 256, (90, 3073), dtype=np.uint8)
    records[:, 0] = np.arange(90) % 10
    for i in range(2):
        (tmp_path / f"data_batch_{i + 1}.bin").write_bytes(records[i * 40 : i * 40 + 40].tobytes())
    (tmp_path / "test_batch.bin").write_bytes(records[80:].tobytes())
    return tmp_path, records


def test_cifar_batches(cifar):
    folder, records = cifar
    data = Cifar10(str(folder)).open()
    assert data.info.counts["test"] == 10 and sum(data.info.counts.values()) == 90
    assert data.info.class_names[9] == "truck"
    batch = data.splits["test"].rows(np.array([3]))
    mean, std = (np.array(data.info.statistics[k]) for k in ("mean", "std"))
    expected = records[83, 1:].reshape(3, 32, 32).transpose(1, 2, 0)
    np.testing.assert_allclose(batch["image"][0] * std + mean, expected, atol=1e-3)
    assert data.splits["test"].names([3]) == [f"{folder}/test_batch.bin: record 3"]
    Image.fromarray(expected).save(folder / "x.png")
    _, found = Cifar10("gone").encode([str(folder / "x.png")], data.info)
    np.testing.assert_array_equal(found["image"], batch["image"])


def test_damaged_cifar_batches_are_named(cifar):
    folder, records = cifar
    path = folder / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="data_batch_2.bin: truncated"):
        Cifar10(str(folder)).open()
    records[5, 0] = 10
    path.write_bytes(records[:40].tobytes())
    with pytest.raises(InputError, match="data_batch_2.bin: record 5: label 10"):
        Cifar10(str(folder)).open()
    (folder / "test_batch.bin").unlink()
    with pytest.raises(InputError, match="test_batch.bin"):
        Cifar10(str(folder)).open()
