"""ConvNeXt beside timm and transformers: outputs, bytes and gradients."""

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

SMALL = dict(depths=(1, 1, 1, 1), dims=(4, 6, 5, 8))
TIMM = {
    "plain": ("convnext_tiny", dict(num_classes=5, depths=(1, 2, 1, 1), kernel_sizes=3)),
    "tanh": ("convnext_base", dict(
        act_layer="gelu_tanh", norm_eps=1e-3, in_chans=1, num_classes=2, ls_init_value=0.3,
        global_pool="max")),
    "without scales": ("convnext_small", dict(
        ls_init_value=None, in_chans=4, num_classes=11, global_pool="avgmax", patch_size=3)),
    "every pixel": ("convnext_xxlarge", dict(
        patch_size=1, kernel_sizes=(5, 5, 5, 5), act_layer="relu", num_classes=1)),
    "second version": ("convnextv2_tiny", dict(num_classes=3, in_chans=2, act_layer="relu")),
    "features": ("convnext_large", dict(num_classes=0, dims=(3, 9, 2, 7))),
    "the last map": ("convnext_xlarge", dict(num_classes=0, global_pool="", in_chans=2)),
}  # fmt: skip
TRANSFORMERS = {
    "classes": ("ConvNextForImageClassification", dict(num_labels=5)),
    "tanh": ("ConvNextForImageClassification", dict(
        hidden_act="gelu_new", layer_norm_eps=1e-2, num_channels=1, patch_size=2,
        layer_scale_init_value=0.5)),
    "without scales": ("ConvNextForImageClassification", dict(
        layer_scale_init_value=0.0, num_channels=4, num_labels=1, hidden_sizes=[9, 3])),
    "five stages": ("ConvNextModel", dict(
        depths=[1, 1, 2, 1, 1], hidden_sizes=[4, 8, 3, 6, 10], num_stages=5, patch_size=1)),
    "bare": ("ConvNextModel", dict(hidden_act="silu", image_size=[20, 30], patch_size=5)),
}  # fmt: skip


def of_timm(name):
    architecture, arguments = TIMM[name]
    torch.manual_seed(0)
    return shake(timm.create_model(architecture, **SMALL | arguments))


def of_transformers(name):
    kind, fields = TRANSFORMERS[name]
    small = dict(depths=[1, 2], hidden_sizes=[6, 8], num_stages=2)
    torch.manual_seed(0)
    return shake(getattr(transformers, kind)(transformers.ConvNextConfig(**small | fields)))


@pytest.mark.parametrize("name", quick(TIMM, 1))
def test_timm_outputs_and_bytes(tmp_path, name):
    image = picture(TIMM[name][1].get("in_chans", 3))
    compare_outputs_and_bytes(tmp_path, of_timm(name), image)


@pytest.mark.parametrize("name", quick(TIMM, 0))
def test_timm_float64(tmp_path, name):
    image = picture(TIMM[name][1].get("in_chans", 3), 64, 33)
    compare_float64(tmp_path, of_timm(name), image)


@pytest.mark.parametrize("name", quick(["plain", "tanh", "without scales", "second version"], 1))
def test_timm_training_step(tmp_path, name):
    image = picture(TIMM[name][1].get("in_chans", 3), 40, 35)
    compare_training_step(tmp_path, of_timm(name), image.astype(np.float64))


@pytest.mark.parametrize("name", quick(TRANSFORMERS, 1))
def test_transformers_outputs_and_bytes(tmp_path, name):
    image = picture(TRANSFORMERS[name][1].get("num_channels", 3), 41, 30)
    compare_outputs_and_bytes(tmp_path, of_transformers(name), image)


@pytest.mark.parametrize("name", quick(TRANSFORMERS, 0))
def test_transformers_float64(tmp_path, name):
    image = picture(TRANSFORMERS[name][1].get("num_channels", 3), 32, 17)
    compare_float64(tmp_path, of_transformers(name), image)


@pytest.mark.full
def test_transformers_training_step(tmp_path):
    theirs = of_transformers("classes")
    compare_training_step(tmp_path, theirs, picture(3, 30, 25).astype(np.float64))


@pytest.mark.full
@pytest.mark.parametrize("name", ["plain", "every pixel"])
def test_pyramid(tmp_path, name):
    architecture, arguments = TIMM[name]
    save(theirs := of_timm(name), tmp_path)
    pyramid = timm.create_model(architecture, features_only=True, **SMALL | arguments).eval()
    tensors = {
        key.replace("stem.", "stem_").replace("stages.", "stages_"): tensor
        for key, tensor in theirs.state_dict().items()
        if not key.startswith("head")
    }
    pyramid.load_state_dict(tensors)
    model, variables = zoo.from_pretrained(tmp_path, task="feature-pyramid")
    wanted = run(pyramid, picture())
    assert len(wanted) == 4
    close(wanted, ours(model, variables, picture()))


@pytest.mark.full
@pytest.mark.parametrize("channels", [1, 5])
def test_images_of_other_channels(tmp_path, channels):
    compare_other_channels(tmp_path, of_timm("plain"), channels)


@pytest.mark.full
def test_other_classes_and_none(tmp_path):
    save(theirs := of_timm("plain"), tmp_path)
    model, variables = zoo.from_pretrained(tmp_path, num_classes=0)
    assert model.task == "feature-extraction"
    theirs.reset_classifier(0)
    close(run(theirs, picture()), ours(model, variables, picture()))
    with pytest.warns(UserWarning, match=r"has no head/bias, head/kernel; initialised"):
        model, variables = zoo.from_pretrained(tmp_path, num_classes=9)
    zoo.save_pretrained(tmp_path / "ours", model, variables, format="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path}/ours", pretrained=True).eval()
    close(run(theirs, picture()), ours(model, variables, picture()))
