"""Models of images of timm and transformers, opened without those: outputs and bytes."""

import golden_images
import golden_models
import jax
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)
from safetensors.numpy import load_file

import zoo

NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] * (name in golden_images.SLOW))
    for name in golden_images.MODELS
]


@pytest.fixture(autouse=True)
def smaller():
    with golden_images.smaller():
        yield


@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_bytes(tmp_path, name):
    config, image, tensors, wanted = golden_images.read(name)
    folder = golden_models.write_folder(tmp_path / "theirs", config, tensors)
    model, variables = zoo.from_pretrained(folder)
    found = jax.jit(model.apply)(variables, image)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 2e-5 * wanted.std()
    kind = "timm" if name.startswith("timm/") else "transformers"
    zoo.save_pretrained(tmp_path / "ours", model, variables, format=kind)
    written = load_file(tmp_path / "ours/model.safetensors")
    assert written.keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert written[key].dtype == tensor.dtype and written[key].tobytes() == tensor.tobytes()
    again, _ = zoo.from_pretrained(tmp_path / "ours")
    assert again.cfg == model.cfg and again.task == model.task
