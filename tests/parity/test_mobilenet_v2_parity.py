"""MobileNetV2 beside timm and transformers: outputs, bytes, gradients and running statistics."""

import numpy as np
import pytest
import torch
import transformers
from encoders import quick
from pictures import (
    close,
    compare_float64,
    compare_other_channels,
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

import zoo

pytestmark = pytest.mark.filterwarnings("ignore")  # what the references warn of is their own affair

TIMM = {
    "narrow": ("mobilenetv2_035", dict(num_classes=5, in_chans=4)),
    "as TensorFlow": ("mobilenetv2_050", dict(num_classes=3, pad_type="same", bn_eps=1e-3)),
    "both pools": ("mobilenetv2_075", dict(num_classes=6, global_pool="catavgmax", in_chans=1)),
    "whole": ("mobilenetv2_100", dict(num_classes=2, drop_rate=0.2, drop_path_rate=0.1)),
    "wide map": ("mobilenetv2_140", dict(num_classes=0, global_pool="", act_layer="gelu")),
    "deep": ("mobilenetv2_110d", dict(num_classes=4, global_pool="max")),
    "deeper": ("mobilenetv2_120d", dict(
        num_classes=6, global_pool="avgmax", act_layer="hard_swish")),
}  # fmt: skip
SMALL = dict(depth_multiplier=0.1, depth_divisible_by=2, min_depth=4, expand_ratio=2.5,
             finegrained_output=False, num_labels=3)  # fmt: skip
TRANSFORMERS = {
    "classes": ("MobileNetV2ForImageClassification", SMALL),
    "narrow": ("MobileNetV2Model", dict(depth_multiplier=0.35, num_channels=4, image_size=96)),
    "as PyTorch": ("MobileNetV2ForImageClassification", SMALL | dict(
        tf_padding=False, hidden_act="silu", layer_norm_eps=1e-4, num_channels=1, num_labels=7)),
    "wide": ("MobileNetV2Model", dict(depth_multiplier=1.3, expand_ratio=1.0)),
    "whole": ("MobileNetV2ForImageClassification", dict(num_labels=1001)),
}  # fmt: skip


def of_timm(name):
    architecture, arguments = TIMM[name]
    torch.manual_seed(0)
    return shake(timm.create_model(architecture, **arguments))


def of_transformers(name, **changes):
    kind, fields = TRANSFORMERS[name]
    torch.manual_seed(0)
    made = getattr(transformers, kind)
    return shake(made(transformers.MobileNetV2Config(**fields | changes)))


@pytest.mark.parametrize("name", quick(TIMM, 1))
def test_timm_outputs_and_bytes(tmp_path, name):
    image = picture(TIMM[name][1].get("in_chans", 3), 37, 70)
    compare_outputs_and_bytes(tmp_path, of_timm(name), image)


@pytest.mark.parametrize("name", quick(TIMM, 0))
def test_timm_float64(tmp_path, name):
    image = picture(TIMM[name][1].get("in_chans", 3), 64, 33)
    compare_float64(tmp_path, of_timm(name), image)


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["narrow", "as TensorFlow"])
def test_timm_training_step(tmp_path, name):
    image = picture(TIMM[name][1].get("in_chans", 3), 70, 65)
    compare_training_step(tmp_path, of_timm(name), image.astype(np.float64))


@pytest.mark.parametrize("name", quick(TRANSFORMERS, 1))
def test_transformers_outputs_and_bytes(tmp_path, name):
    image = picture(TRANSFORMERS[name][1].get("num_channels", 3), 41, 66)
    compare_outputs_and_bytes(tmp_path, of_transformers(name), image)


@pytest.mark.parametrize("name", quick(TRANSFORMERS, 0))
def test_transformers_float64(tmp_path, name):
    image = picture(TRANSFORMERS[name][1].get("num_channels", 3), 64, 33)
    compare_float64(tmp_path, of_transformers(name), image)


@pytest.mark.full
def test_transformers_training_step(tmp_path):
    theirs = of_transformers("classes", classifier_dropout_prob=0.0)
    compare_training_step(tmp_path, theirs, picture(3, 70, 65).astype(np.float64))


@pytest.mark.full
@pytest.mark.parametrize("name", ["narrow", "as TensorFlow"])
def test_pyramid(tmp_path, name):
    architecture, arguments = TIMM[name]
    pyramid = timm.create_model(architecture, features_only=True, **arguments)
    image = picture(arguments.get("in_chans", 3), 50, 81)
    compare_pyramid(tmp_path, of_timm(name), pyramid, image, 5)


@pytest.mark.full
@pytest.mark.parametrize("channels", [1, 5, 2])
def test_images_of_other_channels(tmp_path, channels):
    compare_other_channels(tmp_path, of_timm("as TensorFlow"), channels)


@pytest.mark.full
def test_other_classes_and_none(tmp_path):
    save(theirs := of_timm("as TensorFlow"), tmp_path)
    model, variables = zoo.from_pretrained(tmp_path, num_classes=0)
    theirs.reset_classifier(0)
    close(run(theirs, picture()), ours(model, variables, picture()))
    with pytest.warns(UserWarning, match=r"has no head/bias, head/kernel; initialised"):
        model, variables = zoo.from_pretrained(tmp_path, num_classes=9)
    assert variables["params"]["head"]["kernel"].shape == (1280, 9)
