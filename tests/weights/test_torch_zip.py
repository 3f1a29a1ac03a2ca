"""Files of torch.save: read without torch, and nothing in them is executed."""

import io
import os
import pickle
import random
import shutil
import zipfile

import golden_models
import ml_dtypes
import numpy as np
import pytest

import zoo
from zoo.errors import InputError
from zoo.weights.torch_zip import open_torch

BASE = np.arange(24, dtype=np.float32).reshape(4, 6)


def test_tensors_views_and_types():
    found = {name: tensor.map() for name, tensor in open_torch(golden_models.TORCH).items()}
    wanted = {
        "plain": BASE, "turned": BASE.T, "view": BASE[1:3, ::2], "half": BASE.astype(np.float16),
        "brain": BASE.astype(ml_dtypes.bfloat16), "double": BASE.astype(np.float64),
        "whole": BASE.astype(np.int64), "bits": BASE > 7, "none": np.zeros((0, 3), np.float32),
        "number": np.float32(2.5), "parameter": BASE + 1,
    }  # fmt: skip
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype and found[name].shape == np.shape(array)
        np.testing.assert_array_equal(found[name], array)


def archive(path, content):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", content)
        file.writestr("archive/data/0", b"\0" * 16)
    return path


class Harmful:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "value, told",
    [
        (Harmful(os.system, ("touch harmed",)), "posix.system"),
        (Harmful(eval, ("1",)), ".eval"),
        ({"a": Harmful(io.open, ("harmed", "w"))}, "open"),
        (Harmful(getattr, ("", "upper")), "getattr"),
        ([1, 2], "no state dict"), ({"a": 3}, "no state dict"), ({3: "a"}, "no state dict"),
        ({"a": {1, 2}}, "set"), ({"a": b"x"}, ""), (random.Random(0), ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_is_executed(tmp_path, monkeypatch, value, told, protocol):
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path / "bad.bin", pickle.dumps(value, protocol))
    with pytest.raises(InputError) as error:
        open_torch(path)
    assert told in str(error.value) or protocol == 4
    assert not (tmp_path / "harmed").exists()


def test_other_files(tmp_path):
    for content in (b"", b"PK", b"x" * 100, pickle.dumps({})):
        (tmp_path / "x.bin").write_bytes(content)
        with pytest.raises(InputError, match=r"x\.bin"):
            open_torch(tmp_path / "x.bin")
    for content in (b"", b"\x80\x02", b"\x80\x02}", b"\x80\x02(.", b"\x80\x02h\x05.", b"\xff" * 9):
        with pytest.raises(InputError):
            open_torch(archive(tmp_path / "y.bin", content))


@pytest.mark.parametrize("seed", range(200))
def test_damaged_files_are_read_or_refused(tmp_path, seed):
    rng = random.Random(seed)
    content = bytearray(golden_models.TORCH.read_bytes())
    for _ in range(rng.choice((1, 1, 4))):
        kind = rng.randrange(3)
        at = rng.randrange(len(content))
        if kind == 0:
            content[at] = rng.randrange(256)
        elif kind == 1:
            content[at : at + rng.randrange(9)] = rng.randbytes(rng.randrange(9))
        else:
            del content[max(1, at) :]
    path = tmp_path / "damaged.pt"
    path.write_bytes(bytes(content))
    try:
        for tensor in open_torch(path).values():
            np.array(tensor.map())
    except InputError:
        pass


def test_a_folder_whose_weights_are_named(tmp_path):
    """Only when asked for by name; never a file of another folder."""
    config, _, tensors, _ = golden_models.read("BertForQuestionAnswering")
    folder = golden_models.write_folder(tmp_path / "bert", config, tensors)
    (folder / "model.safetensors").unlink()
    shutil.copy(golden_models.TORCH, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"neither model.safetensors.*weights='pytorch_model.bin'"):
        zoo.from_pretrained(folder)
    with pytest.raises(InputError, match="missing: .*unexpected: bits, "):
        zoo.from_pretrained(folder, weights="pytorch_model.bin")
    for name in ("../bert/pytorch_model.bin", "nothing.bin", "/etc/passwd", ""):
        with pytest.raises(InputError, match="no file"):
            zoo.from_pretrained(folder, weights=name or ".")
