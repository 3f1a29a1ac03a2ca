"""MobileNetV3 beside timm: outputs, bytes, gradients and running statistics."""

import numpy as np
import pytest
import torch
from encoders import quick
from pictures import (
    compare_float64,
    compare_other_channels,
    compare_outputs_and_bytes,
    compare_pyramid,
    compare_training_step,
    picture,
    shake,
    timm,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # what the references warn of is their own affair

TIMM = {
    "small": ("mobilenetv3_small_050", dict(num_classes=5, in_chans=4)),
    "large": ("mobilenetv3_large_100", dict(num_classes=3, drop_rate=0.2, bn_eps=1e-4)),
    "both pools": ("mobilenetv3_small_100", dict(num_classes=6, global_pool="catavgmax",
                                                 in_chans=1)),
    "the last map": ("mobilenetv3_large_075", dict(num_classes=0, global_pool="")),
    "as TensorFlow": ("tf_mobilenetv3_small_075", dict(num_classes=2, global_pool="max")),
    "minimal": ("tf_mobilenetv3_large_minimal_100", dict(num_classes=0, act_layer="silu")),
}  # fmt: skip


def of_timm(name):
    architecture, arguments = TIMM[name]
    torch.manual_seed(0)
    return shake(timm.create_model(architecture, **arguments))


@pytest.mark.parametrize("name", quick(TIMM, 1))
def test_timm_outputs_and_bytes(tmp_path, name):
    image = picture(TIMM[name][1].get("in_chans", 3), 37, 70)
    compare_outputs_and_bytes(tmp_path, of_timm(name), image)


@pytest.mark.parametrize("name", quick(["small", "as TensorFlow", "minimal"], 0))
def test_timm_float64(tmp_path, name):
    image = picture(TIMM[name][1].get("in_chans", 3), 64, 33)
    compare_float64(tmp_path, of_timm(name), image)


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["small", "as TensorFlow"])
def test_timm_training_step(monkeypatch, tmp_path, name):
    # PyTorch's own gradient of it has a sixth in float32, 3e-8 off, in float64 too.
    functional = torch.nn.functional
    monkeypatch.setattr(functional, "hardsigmoid", lambda x, _=None: functional.relu6(x + 3) / 6)
    image = picture(TIMM[name][1].get("in_chans", 3), 70, 65)
    compare_training_step(tmp_path, of_timm(name), image.astype(np.float64))


@pytest.mark.full
@pytest.mark.parametrize("name", ["small", "as TensorFlow"])
def test_pyramid(tmp_path, name):
    architecture, arguments = TIMM[name]
    pyramid = timm.create_model(architecture, features_only=True, **arguments)
    image = picture(arguments.get("in_chans", 3), 50, 81)
    compare_pyramid(tmp_path, of_timm(name), pyramid, image, 5)


@pytest.mark.full
@pytest.mark.parametrize("channels", [1, 5])
def test_images_of_other_channels(tmp_path, channels):
    compare_other_channels(tmp_path, of_timm("small"), channels)
