"""ResNet beside timm and transformers: outputs, bytes, gradients and running statistics."""

import jax
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
    compare_three_steps,
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
    "basic": ("resnet18", dict(layers=(1, 2, 1, 1), channels=(8, 12, 7, 10), num_classes=5)),
    "grouped": ("resnext50_32x4d", dict(layers=(2, 1, 1, 1), channels=(8, 8, 16, 24),
                                        cardinality=3, base_width=40, in_chans=4, num_classes=2)),
    "wide": ("wide_resnet50_2", dict(layers=(1, 1, 3, 1), channels=(4, 9, 10, 6),
                                     act_layer="gelu", global_pool="avgmax", num_classes=11)),
    "first stage as wide as the stem": ("resnet34", dict(layers=(2, 1, 1, 2),
                                                         channels=(64, 6, 8, 10), in_chans=1,
                                                         global_pool="max", num_classes=1)),
    "both pools": ("resnet26", dict(layers=(1, 1, 1, 1), channels=(4, 5, 6, 7),
                                    act_layer="silu", global_pool="catavgmax", num_classes=3,
                                    drop_path_rate=0.3)),
    "features": ("resnet50", dict(layers=(1, 1, 1, 1), channels=(4, 5, 6, 7), num_classes=0)),
    "the last map": ("resnet50", dict(layers=(1, 1, 1, 1), channels=(4, 5, 6, 7), num_classes=0,
                                      global_pool="")),
}  # fmt: skip
SMALL = dict(depths=[1, 2], hidden_sizes=[16, 24], embedding_size=10)
TRANSFORMERS = {
    "classes": ("ResNetForImageClassification", dict(num_labels=5)),
    "stride in the first convolution": ("ResNetForImageClassification", dict(
        downsample_in_bottleneck=True, downsample_in_first_stage=True,
        hidden_sizes=[20, 22], num_labels=2)),
    "basic": ("ResNetForImageClassification", dict(
        layer_type="basic", hidden_sizes=[10, 7], num_channels=1)),
    "five stages": ("ResNetModel", dict(
        depths=[1, 1, 2, 1, 1], hidden_sizes=[8, 8, 12, 16, 20], num_channels=4)),
    "basic bare": ("ResNetModel", dict(layer_type="basic", downsample_in_first_stage=True)),
}  # fmt: skip


def of_timm(name):
    architecture, arguments = TIMM[name]
    torch.manual_seed(0)
    return shake(timm.create_model(architecture, **arguments))


def of_transformers(name):
    kind, fields = TRANSFORMERS[name]
    torch.manual_seed(0)
    return shake(getattr(transformers, kind)(transformers.ResNetConfig(**SMALL | fields)))


@pytest.mark.parametrize("name", quick(TIMM))
def test_timm_outputs_and_bytes(tmp_path, name):
    image = picture(TIMM[name][1].get("in_chans", 3))
    compare_outputs_and_bytes(tmp_path, of_timm(name), image)


@pytest.mark.parametrize("name", quick(TIMM, 1))
def test_timm_float64(tmp_path, name):
    image = picture(TIMM[name][1].get("in_chans", 3), 64, 33)
    compare_float64(tmp_path, of_timm(name), image)


@pytest.mark.parametrize("name", quick(["basic", "grouped", "wide"], 1))
def test_timm_training_step(tmp_path, name):
    image = picture(TIMM[name][1].get("in_chans", 3), 70, 65)
    compare_training_step(tmp_path, of_timm(name), image.astype(np.float64))


@pytest.mark.full
def test_three_steps_of_adamw(tmp_path):
    compare_three_steps(tmp_path, of_timm("wide"), picture(3, 70, 65).astype(np.float64))


@pytest.mark.parametrize("name", quick(TRANSFORMERS))
def test_transformers_outputs_and_bytes(tmp_path, name):
    image = picture(TRANSFORMERS[name][1].get("num_channels", 3), 41, 30)
    compare_outputs_and_bytes(tmp_path, of_transformers(name), image)


@pytest.mark.parametrize("name", quick(TRANSFORMERS, 1))
def test_transformers_float64(tmp_path, name):
    image = picture(TRANSFORMERS[name][1].get("num_channels", 3), 64, 33)
    compare_float64(tmp_path, of_transformers(name), image)


@pytest.mark.full
def test_transformers_training_step(tmp_path):
    theirs = of_transformers("stride in the first convolution")
    compare_training_step(tmp_path, theirs, picture(3, 70, 65).astype(np.float64))


def test_pyramid(tmp_path):
    architecture, arguments = TIMM["basic"]
    pyramid = timm.create_model(architecture, features_only=True, **arguments)
    compare_pyramid(tmp_path, of_timm("basic"), pyramid, picture(), 5)


@pytest.mark.parametrize("channels", quick([1, 5, 2, 6], 2))
def test_images_of_other_channels(tmp_path, channels):
    compare_other_channels(tmp_path, of_timm("basic"), channels)


def test_other_classes_and_none(tmp_path):
    save(theirs := of_timm("basic"), tmp_path)
    model, variables = zoo.from_pretrained(tmp_path, num_classes=0)
    assert model.task == "feature-extraction"
    theirs.reset_classifier(0)
    close(run(theirs, picture()), ours(model, variables, picture()))
    with pytest.warns(UserWarning, match=r"has no head/bias, head/kernel; initialised"):
        model, variables = zoo.from_pretrained(tmp_path, num_classes=9)
    zoo.save_pretrained(tmp_path / "ours", model, variables, format="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path}/ours", pretrained=True).eval()
    close(run(theirs, picture()), ours(model, variables, picture()))


def test_half_precision_comes_back(tmp_path):
    save(made := of_timm("basic").half(), tmp_path)
    model, variables = zoo.from_pretrained(tmp_path)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables["params"])} == {"float16"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables["batch_stats"])} == {"float32"}
    zoo.save_pretrained(tmp_path / "ours", model, variables, format="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path}/ours", pretrained=True).state_dict()
    for name, tensor in made.state_dict().items():
        assert torch.equal(theirs[name].to(tensor.dtype), tensor), name
