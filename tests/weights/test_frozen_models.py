"""Folders of the reference library, opened without it: its outputs, and its bytes back."""

import json

import golden_models
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import zoo

CLASSIFIERS = [name for name in golden_models.MODELS if name.endswith("Classification")]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_names_of_classes(tmp_path, name):
    config, _, tensors, _ = golden_models.read(name)
    names = {"0": "bad", "2": "good", "1": "so so"}
    config |= {"id2label": names, "label2id": {v: int(k) for k, v in names.items()}}
    model, variables = zoo.from_pretrained(
        golden_models.write_folder(tmp_path / "theirs", config, tensors)
    )
    assert model.cfg.labels == ("bad", "so so", "good") and model.cfg.num_classes == 3
    zoo.save_pretrained(tmp_path / "ours", model, variables)
    written = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert written["id2label"] == names and written["label2id"] == config["label2id"]
    with pytest.warns(UserWarning, match="initialised"):
        other, _ = zoo.from_pretrained(tmp_path / "ours", num_classes=5)
    assert (other.cfg.num_classes, other.cfg.labels) == (5, ())


def as_theirs(name, found):
    """Our output under the reference's names."""
    if name.endswith("Model") and "LMHead" not in name and hasattr(found, "shape"):
        return {"last_hidden_state": found}
    if name.endswith("QuestionAnswering"):
        return {"start_logits": found[..., 0], "end_logits": found[..., 1]}
    return {"logits": found} if hasattr(found, "shape") else vars(found)


@pytest.mark.parametrize("name", golden_models.MODELS)
def test_outputs_and_bytes(tmp_path, name):
    config, given, tensors, wanted = golden_models.read(name)
    folder = golden_models.write_folder(tmp_path / "theirs", config, tensors)
    model, variables = zoo.from_pretrained(folder)
    found = as_theirs(name, jax.jit(model.apply)(variables, **given))
    assert wanted.keys() & found.keys()
    real = given["attention_mask"] > 0  # what stands at padding is of no use to anybody
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
