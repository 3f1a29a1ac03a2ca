"""VGG beside timm: outputs, bytes, gradients and running statistics. timm's blocks are of one
width each; its first hidden layer is made small."""

import numpy as np
import pytest
import torch
from encoders import quick
from pictures import (
    close,
    compare_float64,
    compare_outputs_and_bytes,
    compare_training_step,
    ours,
    picture,
    run,
    save,
    shake,
    timm,
)

import zoo

pytestmark = pytest.mark.filterwarnings("ignore")  # what the reference warns of is its own affair

SMALL = dict(mlp_ratio=0.005)
CONFIGS = {
    "norms": ("vgg11_bn", dict(num_classes=5, in_chans=1), (37, 50)),
    "several places": ("vgg11", dict(num_classes=3), (230, 257)),
    "one place and more": ("vgg13_bn", dict(num_classes=7, in_chans=4), (97, 260)),
    "sixteen": ("vgg16", dict(num_classes=4, global_pool="max"), (64, 40)),
    "features": ("vgg19_bn", dict(num_classes=0), (40, 33)),
}  # fmt: skip


def made(name):
    """Their model, shaken, and images."""
    architecture, arguments, size = CONFIGS[name]
    torch.manual_seed(0)
    theirs = shake(timm.create_model(architecture, **SMALL | arguments))
    return theirs, picture(arguments.get("in_chans", 3), *size, batch=2)


@pytest.mark.parametrize("name", quick(CONFIGS, 1))
def test_outputs_and_bytes(tmp_path, name):
    compare_outputs_and_bytes(tmp_path, *made(name))


@pytest.mark.parametrize("name", quick(CONFIGS, 0))
def test_float64(tmp_path, name):
    compare_float64(tmp_path, *made(name))


@pytest.mark.full
def test_training_step(tmp_path):
    theirs, image = made("norms")
    compare_training_step(tmp_path, theirs, image.astype(np.float64))


@pytest.mark.full
def test_pyramid(tmp_path):
    theirs, image = made("norms")
    save(theirs, tmp_path)
    architecture, arguments, _ = CONFIGS["norms"]
    pyramid = timm.create_model(architecture, features_only=True, **SMALL | arguments).eval()
    pyramid.load_state_dict(
        {name.replace("features.", "features_"): x for name, x in theirs.state_dict().items()},
        strict=False,
    )
    model, variables = zoo.from_pretrained(tmp_path, task="feature-pyramid")
    wanted = run(pyramid, image)
    assert len(wanted) == 6
    close(wanted, ours(model, variables, image))
