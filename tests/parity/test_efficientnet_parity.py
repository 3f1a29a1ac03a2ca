"""EfficientNet beside timm and transformers: outputs, bytes, gradients and running statistics."""

import numpy as np
import pytest
import torch
import transformers
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
    "as TensorFlow": ("tf_efficientnet_b0", dict(num_classes=5, in_chans=4)),
    "first": ("efficientnet_b0", dict(num_classes=3, global_pool="catavgmax", in_chans=1)),
    "deeper": ("efficientnet_b1", dict(num_classes=0, act_layer="relu", bn_eps=1e-4)),
    "wider": ("efficientnet_b2", dict(num_classes=7, global_pool="max", drop_path_rate=0.2)),
    "both": ("tf_efficientnet_b3", dict(num_classes=0, global_pool="")),
    "largest": ("efficientnet_b4", dict(num_classes=2, drop_rate=0.4)),
}
SMALL = dict(width_coefficient=0.1, depth_coefficient=0.5, depth_divisor=2, hidden_dim=128,
             num_labels=3, kernel_sizes=[3, 5, 3], in_channels=[32, 60, 110],
             out_channels=[60, 110, 200], strides=[1, 2, 2], num_block_repeats=[1, 3, 4],
             expand_ratios=[1, 6, 3])  # fmt: skip
B0 = dict(width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280)
TRANSFORMERS = {
    "classes": ("EfficientNetForImageClassification", SMALL),
    "first": ("EfficientNetModel", B0 | dict(num_channels=1)),
    "odd": ("EfficientNetForImageClassification", SMALL | dict(
        strides=[2, 1, 2], depthwise_padding=[0, 2], pooling_type="max", hidden_act="relu",
        squeeze_expansion_ratio=0.4, num_channels=4, expand_ratios=[2, 1, 4], num_labels=9)),
    "other widths": ("EfficientNetModel", SMALL | dict(
        width_coefficient=0.05, depth_divisor=1, hidden_dim=64, batch_norm_eps=1e-4,
        num_labels=2)),
    "second": ("EfficientNetForImageClassification", dict(
        width_coefficient=1.0, depth_coefficient=1.1, hidden_dim=1280, depthwise_padding=[16])),
}  # fmt: skip


def of_timm(name):
    architecture, arguments = TIMM[name]
    torch.manual_seed(0)
    return shake(timm.create_model(architecture, **arguments))


def of_transformers(name, **changes):
    kind, fields = TRANSFORMERS[name]
    torch.manual_seed(0)
    made = getattr(transformers, kind)
    return shake(made(transformers.EfficientNetConfig(**fields | changes)))


@pytest.mark.parametrize("name", quick(TIMM, 1))
def test_timm_outputs_and_bytes(tmp_path, name):
    image = picture(TIMM[name][1].get("in_chans", 3), 37, 70)
    compare_outputs_and_bytes(tmp_path, of_timm(name), image)


@pytest.mark.parametrize("name", quick(["as TensorFlow", "first", "wider"], 0))
def test_timm_float64(tmp_path, name):
    image = picture(TIMM[name][1].get("in_chans", 3), 64, 33)
    compare_float64(tmp_path, of_timm(name), image)


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["as TensorFlow", "first"])
def test_timm_training_step(tmp_path, name):
    image = picture(TIMM[name][1].get("in_chans", 3), 70, 65)
    compare_training_step(tmp_path, of_timm(name), image.astype(np.float64))


@pytest.mark.parametrize("name", quick(TRANSFORMERS, 1))
def test_transformers_outputs_and_bytes(tmp_path, name):
    image = picture(TRANSFORMERS[name][1].get("num_channels", 3), 81, 66)
    compare_outputs_and_bytes(tmp_path, of_transformers(name), image)


@pytest.mark.parametrize("name", quick(["classes", "odd", "other widths"], 0))
def test_transformers_float64(tmp_path, name):
    image = picture(TRANSFORMERS[name][1].get("num_channels", 3), 64, 83)
    compare_float64(tmp_path, of_transformers(name), image)


@pytest.mark.full
def test_transformers_training_step(tmp_path):
    theirs = of_transformers("classes", dropout_rate=0.0, drop_connect_rate=0.0)
    compare_training_step(tmp_path, theirs, picture(3, 70, 65).astype(np.float64))


@pytest.mark.full
def test_pyramid(tmp_path):
    architecture, arguments = TIMM["as TensorFlow"]
    pyramid = timm.create_model(architecture, features_only=True, **arguments)
    compare_pyramid(tmp_path, of_timm("as TensorFlow"), pyramid, picture(4, 50, 81), 5)


@pytest.mark.full
@pytest.mark.parametrize("channels", [1, 5])
def test_images_of_other_channels(tmp_path, channels):
    compare_other_channels(tmp_path, of_timm("as TensorFlow"), channels)
