"""Pixels beside transformers' processors by Pillow; timm's need torchvision and are frozen in
`tests/golden/processors.npz`."""

import contextlib
import io
import warnings

import numpy as np
import pytest
from odd_pictures import files, pattern, picture
from processor_folders import LARGE, TRANSFORMERS, write
from transformers import AutoImageProcessor
from transformers.utils import logging

import zoo
from zoo.errors import InputError

logging.set_verbosity_error()
MODES = ("RGB", "L", "LA", "RGBA", "P", "P-alpha", "P-key", "RGB-key", "CMYK", "1", "I;16")


def quick(names):
    """The large ones wait for the full run."""
    return [pytest.param(n, marks=pytest.mark.full if n in LARGE else ()) for n in names]


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return files(tmp_path_factory.mktemp("pictures"))


def theirs_of(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AutoImageProcessor.from_pretrained(folder, backend="pil")


def reference(processor, one):
    """Their pixels `[H, W, C]`, or why there are none."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return np.moveaxis(processor(one, return_tensors="np")["pixel_values"][0], 0, -1)


def of_size(paths, name):
    """The large ones would make gigabytes of the thin pictures."""
    return [path for path in paths if name not in LARGE or "300" not in path.name]


def compare(ours, prepare, paths):
    """Every bit of every file; what the reference cannot resize is refused."""
    compared = 0
    for path in paths:
        try:
            expected = prepare(path)
        except ValueError:  # the thinnest are left without a pixel
            with pytest.raises(InputError, match="would be resized to"):
                ours(path)
            continue
        compared += 1
        got = ours(path)[0]
        assert got.dtype == np.float32 and ours.shape in (None, got.shape), path
        np.testing.assert_array_equal(got, expected, err_msg=str(path))
    assert compared >= 50


@pytest.mark.parametrize("name", quick(TRANSFORMERS))
def test_files(name, paths, tmp_path):
    folder = write(name, tmp_path)
    ours, theirs = zoo.load_processor(folder), theirs_of(folder)
    compare(ours, lambda path: reference(theirs, str(path)), of_size(paths, name))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_pictures_and_arrays(name, tmp_path):
    folder = write(name, tmp_path)
    ours, theirs = zoo.load_processor(folder), theirs_of(folder)
    for mode in MODES if ours.settings["do_convert_rgb"] else ("RGB",):
        one = picture(mode, 45, 32)
        np.testing.assert_array_equal(ours(one)[0], reference(theirs, one), err_msg=mode)
    for channels in (3, 4) if ours.settings["do_convert_rgb"] else (3,):
        array = pattern(44, 31, channels)
        step = 1 / 255 / min(ours.settings["image_std"]) if channels == 4 else 0
        np.testing.assert_allclose(ours(array)[0], reference(theirs, array), atol=step, rtol=0)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_saved_folders_open_there(name, tmp_path):
    ours = zoo.load_processor(write(name, tmp_path / "a"))
    ours.save(tmp_path / "b")
    one = picture("RGB", 40, 37)
    np.testing.assert_array_equal(reference(theirs_of(tmp_path / "b"), one), ours(one)[0])
    theirs_of(tmp_path / "b").save_pretrained(tmp_path / "c")
    again = zoo.load_processor(tmp_path / "c")
    np.testing.assert_array_equal(again(one), ours(one))


def test_one_channel(tmp_path):
    folder = write("vit-old", tmp_path)
    ours = zoo.load_processor(folder, image_mean=[0.3], image_std=[0.4], do_normalize=True)
    ours.save(tmp_path)
    one = picture("L", 40, 37)
    assert ours.shape == (20, 20, 1)
    np.testing.assert_array_equal(ours(one)[0], reference(theirs_of(tmp_path), one))
