"""Folders of the reference library, opened without it: its outputs, and its bytes back."""

import re

import golden_models
import jax
import numpy as np
import pytest
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)
from safetensors.numpy import load_file

import zoo

FAMILIES = [re.split("For|Model|LMHead", name)[0] for name in golden_models.MODELS]
NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] * (FAMILIES[:number].count(family) > 1), id=name)
    for number, (name, family) in enumerate(zip(golden_models.MODELS, FAMILIES, strict=True))
]
"""Of each family the first two for quick runs."""


@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_bytes(tmp_path, name):
    config, given, tensors, wanted = golden_models.read(name)
    folder = golden_models.write_folder(tmp_path / "theirs", config, tensors)
    model, variables = zoo.from_pretrained(folder)
    found = golden_models.as_theirs(name, jax.jit(model.apply)(variables, **given))
    assert wanted.keys() & found.keys()
    real = np.ones((), bool)
    if "attention_mask" in given:  # what stands at padding is of no use to anybody
        real = given["attention_mask"] > 0
    for key in wanted.keys() & found.keys():
        error = np.abs(found[key] - wanted[key])
        error = error[real] if error.shape[: real.ndim] == real.shape else error
        assert error.max() <= 2e-5 * wanted[key].std()
    zoo.save_pretrained(tmp_path / "ours", model, variables)
    written = load_file(tmp_path / "ours/model.safetensors")
    assert written.keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert written[key].dtype == tensor.dtype and written[key].tobytes() == tensor.tobytes()
    again, _ = zoo.from_pretrained(tmp_path / "ours")
    assert again.cfg == model.cfg and again.task == model.task
