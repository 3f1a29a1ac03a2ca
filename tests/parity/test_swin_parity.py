"""Swin Transformer beside timm and transformers: outputs, bytes, gradients, other sizes."""

import numpy as np
import pytest
import torch
import transformers
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

pytestmark = pytest.mark.filterwarnings("ignore")  # what the references warn of is their own affair

SMALL = dict(
    img_size=24, patch_size=4, embed_dim=8, depths=(2, 2), num_heads=(2, 4), window_size=4,
    num_classes=5, drop_path_rate=0.0,
)  # fmt: skip
TIMM = {
    "plain": ("swin_tiny_patch4_window7_224", {}),
    "oblong": ("swin_base_patch4_window7_224", dict(
        img_size=(22, 28), patch_size=(2, 4), window_size=(2, 3), qkv_bias=False, mlp_ratio=2.5,
        in_chans=1, num_classes=2, global_pool="max")),
    "windows of stages": ("swin_small_patch4_window7_224", dict(
        img_size=(36, 20), patch_size=2, depths=(1, 2, 3), num_heads=(1, 2, 8),
        window_size=(2, 5, 3), in_chans=4, num_classes=11, global_pool="avgmax")),
    "both pools": ("swin_base_patch4_window12_384", dict(
        img_size=(12, 40), global_pool="catavgmax", embed_dim=6, num_heads=(3, 1), num_classes=1)),
    "features": ("swin_large_patch4_window7_224", dict(num_classes=0)),
    "the last map": ("swin_large_patch4_window12_384", dict(
        num_classes=0, global_pool="", img_size=(41, 23), depths=(4,), num_heads=(4,))),
}  # fmt: skip
FIELDS = dict(
    image_size=20, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[2, 4], window_size=3,
    drop_path_rate=0.0,
)  # fmt: skip
TRANSFORMERS = {
    "classes": ("SwinForImageClassification", dict(num_labels=5)),
    "odd": ("SwinForImageClassification", dict(
        hidden_act="gelu_new", layer_norm_eps=1e-2, num_channels=1, window_size=2, mlp_ratio=1.5,
        qkv_bias=False, patch_size=4)),
    "maps of windows": ("SwinForImageClassification", dict(
        window_size=5, patch_size=3, image_size=30, num_channels=4, num_labels=1)),
    "three stages": ("SwinModel", dict(
        depths=[1, 2, 3], num_heads=[1, 4, 2], image_size=[24, 40], patch_size=[2, 1])),
    "bare": ("SwinModel", dict(depths=[3], num_heads=[8], window_size=4, hidden_act="silu")),
}  # fmt: skip


def of_timm(name, **changes):
    architecture, arguments = TIMM[name]
    torch.manual_seed(0)
    return shake(timm.create_model(architecture, **SMALL | arguments | changes))


def seen(name, size=None):
    arguments = SMALL | TIMM[name][1]
    size = size or arguments["img_size"]
    height, width = size if isinstance(size, tuple) else (size, size)
    return picture(arguments.get("in_chans", 3), height, width)


def of_transformers(name):
    kind, fields = TRANSFORMERS[name]
    torch.manual_seed(0)
    return shake(getattr(transformers, kind)(transformers.SwinConfig(**FIELDS | fields)))


@pytest.mark.parametrize("name", quick(TIMM, 1))
def test_timm_outputs_and_bytes(tmp_path, name):
    compare_outputs_and_bytes(tmp_path, of_timm(name), seen(name))


@pytest.mark.parametrize("name", quick(TIMM, 0))
def test_timm_float64(tmp_path, name):
    compare_float64(tmp_path, of_timm(name), seen(name))


@pytest.mark.parametrize("name", quick(["plain", "oblong", "windows of stages"], 1))
def test_timm_training_step(tmp_path, name):
    image = seen(name).astype(np.float64)
    compare_training_step(tmp_path, of_timm(name), image, drop_path=0.0)


@pytest.mark.parametrize("name", quick(TRANSFORMERS, 1))
def test_transformers_outputs_and_bytes(tmp_path, name):
    channels = TRANSFORMERS[name][1].get("num_channels", 3)
    compare_outputs_and_bytes(tmp_path, of_transformers(name), picture(channels, 41, 30))


@pytest.mark.parametrize("name", quick(TRANSFORMERS, 0))
def test_transformers_float64(tmp_path, name):
    channels = TRANSFORMERS[name][1].get("num_channels", 3)
    compare_float64(tmp_path, of_transformers(name), picture(channels, 29, 33))


@pytest.mark.full
def test_transformers_training_step(tmp_path):
    theirs = of_transformers("classes")
    compare_training_step(tmp_path, theirs, picture(3, 20, 25).astype(np.float64))


@pytest.mark.full
@pytest.mark.parametrize("name", ["oblong", "windows of stages"])
def test_pyramid(tmp_path, name):
    architecture, arguments = TIMM[name]
    save(theirs := of_timm(name), tmp_path)
    pyramid = timm.create_model(architecture, features_only=True, **SMALL | arguments).eval()
    tensors = {
        key.replace("layers.", "layers_"): tensor
        for key, tensor in theirs.state_dict().items()
        if not key.startswith(("head", "norm."))
    }
    pyramid.load_state_dict(tensors)
    model, variables = zoo.from_pretrained(tmp_path, task="feature-pyramid")
    with torch.no_grad():
        image = torch.tensor(seen(name).transpose(0, 3, 1, 2).copy())
        wanted = [x.numpy() for x in pyramid(image)]  # whose channels are the last
    close(wanted, ours(model, variables, seen(name)))


@pytest.mark.full
@pytest.mark.parametrize("size", [(40, 16), (24, 28), (8, 52)])
def test_images_of_other_sizes(tmp_path, size):
    """Of the model as it was saved, and of one that is made for them."""
    save(theirs := of_timm("plain"), tmp_path)
    dynamic = of_timm("plain", dynamic_img_size=True)
    dynamic.load_state_dict(theirs.state_dict())
    model, variables = zoo.from_pretrained(tmp_path)
    image = seen("plain", size)
    close(run(dynamic, image), ours(model, variables, image))
    resized = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, img_size=size).eval()
    model, variables = zoo.from_pretrained(tmp_path, image_size=size)
    close(run(resized, image), ours(model, variables, image))


@pytest.mark.full
def test_other_windows(tmp_path):
    """Positions of windows that are not square are interpolated too, and what is saved opens."""
    save(theirs := of_timm("plain", img_size=(24, 32)), tmp_path / "theirs")
    theirs.set_input_size((48, 32))
    image = seen("plain", (48, 32))
    model, variables = zoo.from_pretrained(
        tmp_path / "theirs", image_size=(48, 32), window_size=((8, 4), (8, 4))
    )
    wanted = run(theirs, image)
    close(wanted, found := ours(model, variables, image))
    save(theirs, tmp_path / "again")
    model, variables = zoo.from_pretrained(tmp_path / "again")
    close(wanted, ours(model, variables, image))
    zoo.save_pretrained(tmp_path / "ours", model, variables, format="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path}/ours", pretrained=True).eval()
    close(run(theirs, image), found)


@pytest.mark.full
@pytest.mark.parametrize("channels", [1, 5])
def test_images_of_other_channels(tmp_path, channels):
    save(of_timm("plain"), tmp_path)
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, in_chans=channels).eval()
    model, variables = zoo.from_pretrained(tmp_path, in_chans=channels)
    image = picture(channels, 24, 24)
    close(run(theirs, image), ours(model, variables, image))


@pytest.mark.full
def test_other_classes_and_none(tmp_path):
    save(theirs := of_timm("plain"), tmp_path)
    model, variables = zoo.from_pretrained(tmp_path, num_classes=0)
    assert model.task == "feature-extraction"
    theirs.reset_classifier(0)
    close(run(theirs, seen("plain")), ours(model, variables, seen("plain")))
    with pytest.warns(UserWarning, match=r"has no head/bias, head/kernel; initialised"):
        model, variables = zoo.from_pretrained(tmp_path, num_classes=9)
    zoo.save_pretrained(tmp_path / "ours", model, variables, format="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path}/ours", pretrained=True).eval()
    close(run(theirs, seen("plain")), ours(model, variables, seen("plain")))


@pytest.mark.full
def test_from_transformers_to_timm(tmp_path):
    """For images whose maps are whole windows both compute the same."""
    theirs = of_transformers("bare")
    save(theirs, tmp_path / "theirs")
    model, variables = zoo.from_pretrained(
        tmp_path / "theirs", as_transformers=False, activation="gelu", image_size=16
    )
    zoo.save_pretrained(tmp_path / "ours", model, variables, format="timm")
    there = timm.create_model(f"local-dir:{tmp_path}/ours", pretrained=True).eval()
    theirs.config.hidden_act = "gelu"
    theirs = transformers.SwinModel.from_pretrained(
        tmp_path / "theirs", hidden_act="gelu"
    ).eval()  # fmt: skip
    close(run(theirs, picture(3, 16, 16)), run(there, picture(3, 16, 16)))
