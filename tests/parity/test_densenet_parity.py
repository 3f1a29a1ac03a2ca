"""DenseNet beside timm: outputs, bytes, gradients and running statistics."""

import numpy as np
import pytest
import torch
from encoders import quick
from pictures import (
    close,
    compare_float64,
    compare_other_channels,
    compare_outputs_and_bytes,
    compare_training_step,
    ours,
    picture,
    run,
    save,
    shake,
    timm,
)
from quick_compile import compiled_quickly  # noqa: F401 (a fixture of every test here)
from safetensors.torch import load_file, save_file

import zoo

pytestmark = pytest.mark.filterwarnings("ignore")  # what the reference warns of is its own affair

CONFIGS = {
    "two blocks": ("densenet121", dict(growth_rate=5, block_config=(2, 1), num_classes=5)),
    "gelu": ("densenet169", dict(growth_rate=4, block_config=(1, 3, 2), bn_size=2, in_chans=4,
                                 act_layer="gelu", global_pool="avgmax", num_classes=2)),
    "one block": ("densenet161", dict(growth_rate=7, block_config=(3,), in_chans=1,
                                      global_pool="max", num_classes=1)),
    "five blocks": ("densenet201", dict(growth_rate=6, block_config=(1, 1, 2, 1, 1), bn_size=3,
                                        act_layer="silu", global_pool="catavgmax", num_classes=3)),
    "features": ("densenet121", dict(growth_rate=3, block_config=(2, 2, 1), num_classes=0)),
    "the last map": ("densenet121", dict(growth_rate=4, block_config=(2, 1), num_classes=0,
                                         global_pool="")),
}  # fmt: skip
FOUR = dict(growth_rate=4, block_config=(1, 2, 1, 1), num_classes=5)


def made(name):
    """Their model, shaken, and images; five blocks ask for more than 61 pixels."""
    architecture, arguments = CONFIGS[name]
    torch.manual_seed(0)
    theirs = shake(timm.create_model(architecture, **arguments))
    size = (64, 83) if name == "five blocks" else (37, 50)
    return theirs, picture(arguments.get("in_chans", 3), *size)


@pytest.mark.parametrize("name", quick(CONFIGS, 1))
def test_outputs_and_bytes(tmp_path, name):
    compare_outputs_and_bytes(tmp_path, *made(name))


@pytest.mark.parametrize("name", quick(CONFIGS, 1))
def test_float64(tmp_path, name):
    compare_float64(tmp_path, *made(name))


@pytest.mark.parametrize("name", quick(["two blocks", "gelu", "five blocks"], 0))
def test_training_step(tmp_path, name):
    theirs, image = made(name)
    compare_training_step(tmp_path, theirs, image.astype(np.float64))


@pytest.mark.full
def test_pyramid(tmp_path):
    torch.manual_seed(0)
    save(theirs := shake(timm.create_model("densenet121", **FOUR)), tmp_path)
    pyramid = timm.create_model("densenet121", features_only=True, **FOUR).eval()
    pyramid.load_state_dict(
        {name.replace("features.", "features_"): x for name, x in theirs.state_dict().items()},
        strict=False,
    )
    model, variables = zoo.from_pretrained(tmp_path, task="feature-pyramid")
    wanted = run(pyramid, picture())
    assert len(wanted) == 5
    close(wanted, ours(model, variables, picture()))


@pytest.mark.parametrize("channels", quick([1, 5, 2], 0))
def test_images_of_other_channels(tmp_path, channels):
    compare_other_channels(tmp_path, made("two blocks")[0], channels)


@pytest.mark.full
def test_other_classes_and_none(tmp_path):
    theirs, image = made("two blocks")
    save(theirs, tmp_path)
    model, variables = zoo.from_pretrained(tmp_path, num_classes=0)
    theirs.reset_classifier(0)
    close(run(theirs, image), ours(model, variables, image))
    with pytest.warns(UserWarning, match=r"has no head/bias, head/kernel; initialised"):
        model, variables = zoo.from_pretrained(tmp_path, num_classes=9)
    zoo.save_pretrained(tmp_path / "ours", model, variables, format="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path}/ours", pretrained=True).eval()
    close(run(theirs, image), ours(model, variables, image))


@pytest.mark.full
def test_names_of_the_first_files_of_torchvision(tmp_path):
    theirs, image = made("two blocks")
    save(theirs, tmp_path)
    file = tmp_path / "model.safetensors"
    old = {
        name.replace(".norm1.", ".norm.1.").replace(".conv1.", ".conv.1.")
        if "denselayer" in name else name: tensor
        for name, tensor in load_file(file).items()
    }  # fmt: skip
    assert old.keys() != load_file(file).keys()
    save_file(old, file)
    model, variables = zoo.from_pretrained(tmp_path)
    close(run(theirs, image), ours(model, variables, image))
