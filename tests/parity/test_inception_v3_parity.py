"""Inception-v3 beside timm, whose network has one width only: outputs, bytes, gradients and running
statistics."""

import numpy as np
import pytest
import torch
from encoders import quick
from pictures import (
    close,
    compare_float64,
    compare_outputs_and_bytes,
    compare_pyramid,
    compare_training_step,
    ours,
    picture,
    run,
    save,
    shake,
    timm,
)
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)

import zoo

pytestmark = pytest.mark.filterwarnings("ignore")  # what the reference warns of is its own affair

CONFIGS = {
    "gray": (dict(num_classes=5, in_chans=1), (75, 90)),
    "gelu": (dict(num_classes=4, in_chans=4, norm_eps=1e-5, act_layer="gelu",
                  global_pool="catavgmax"), (107, 80)),
    "two classifiers": (dict(num_classes=3, aux_logits=True), (299, 310)),
    "features": (dict(num_classes=0, global_pool="max"), (83, 120)),
    "the last map": (dict(num_classes=0, global_pool=""), (112, 139)),
}  # fmt: skip


def made(name, size=None):
    """Their model, shaken, and images, of their config's size or another. Its kernels start so
    large that without the statistics that belong to them numbers would grow in every layer."""
    arguments, usual = CONFIGS[name]
    torch.manual_seed(0)
    theirs = shake(timm.create_model("inception_v3", **arguments))
    with torch.no_grad():
        for kernel in theirs.parameters():
            if kernel.ndim == 4:
                kernel *= 10 * (2 / kernel[0].numel()) ** 0.5
    return theirs, picture(arguments.get("in_chans", 3), *(size or usual), batch=2)


@pytest.mark.parametrize("name", quick(CONFIGS, 1))
def test_outputs_and_bytes(tmp_path, name):
    compare_outputs_and_bytes(tmp_path, *made(name))


@pytest.mark.parametrize("name", quick(["gray", "gelu", "two classifiers"], 0))
def test_float64(tmp_path, name):
    compare_float64(tmp_path, *made(name))


@pytest.mark.parametrize("name", quick(["gray", "two classifiers"], 0))
def test_training_step(tmp_path, name):
    """Of images that leave a norm more values than a few, which would magnify what is rounded."""
    theirs, image = made(name, (171, 150) if name == "gray" else None)
    compare_training_step(tmp_path, theirs, image.astype(np.float64))


@pytest.mark.full
def test_files_with_a_second_classifier_that_is_not_asked_for(tmp_path):
    theirs, image = made("two classifiers")
    save(theirs, tmp_path)
    wanted = run(theirs, image)[:1]
    for changes in ({"aux_logits": False}, {"task": "feature-extraction"}):
        model, variables = zoo.from_pretrained(tmp_path, **changes)
        assert "aux" not in variables["params"]
        if model.task == "feature-extraction":
            theirs.reset_classifier(0)
            wanted = run(theirs, image)[:1]
        close(wanted, ours(model, variables, image))
        zoo.save_pretrained(tmp_path / model.task, model, variables, format="timm")
        again = timm.create_model(f"local-dir:{tmp_path / model.task}", pretrained=True).eval()
        close(wanted, run(again, image))


@pytest.mark.full
def test_other_classes(tmp_path):
    theirs, image = made("two classifiers")
    save(theirs, tmp_path)
    told = "has no aux/head/bias, aux/head/kernel, head/bias, head/kernel; initialised"
    with pytest.warns(UserWarning, match=told):
        model, variables = zoo.from_pretrained(tmp_path, num_classes=9)
    zoo.save_pretrained(tmp_path / "ours", model, variables, format="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path}/ours", pretrained=True).eval()
    close(run(theirs, image), ours(model, variables, image))


@pytest.mark.full
def test_pyramid(tmp_path):
    theirs, image = made("gray")
    pyramid = timm.create_model("inception_v3", features_only=True, in_chans=1)
    compare_pyramid(tmp_path, theirs, pyramid, image, 5)


@pytest.mark.parametrize("channels", quick([3, 2], 0))
def test_images_of_other_channels(tmp_path, channels):
    save(made("gray")[0], tmp_path)
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, in_chans=channels).eval()
    model, variables = zoo.from_pretrained(tmp_path, in_chans=channels)
    image = picture(channels, 75, 81)
    close(run(theirs, image), ours(model, variables, image))
