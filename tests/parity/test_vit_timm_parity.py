"""Vision Transformer, DeiT and DINOv2 beside timm: outputs, bytes, gradients, other images."""

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
from zoo.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore")  # what the references warn of is their own affair

SMALL = dict(img_size=12, patch_size=4, embed_dim=24, depth=2, num_heads=3, num_classes=5)
TIMM = {
    "plain": ("vit_base_patch16_224", {}),
    "distilled": ("deit_base_distilled_patch16_224", dict(qkv_bias=False, mlp_ratio=1.5)),
    "oblong": ("vit_small_patch32_224", dict(
        img_size=(8, 20), patch_size=(4, 2), mlp_ratio=2.7, qkv_bias=False, in_chans=1,
        num_classes=2, act_layer="relu", embed_dim=30)),
    "mean": ("vit_large_patch16_224", dict(global_pool="avg", depth=3, in_chans=4)),
    "every token": ("vit_tiny_patch16_384", dict(global_pool="", num_classes=1, act_layer="silu")),
    "features": ("deit_small_patch16_224", dict(num_classes=0)),
    "mean features": ("vit_base_patch16_224_miil", dict(num_classes=0, global_pool="avg")),
    "distilled features": ("deit_tiny_distilled_patch16_224", dict(num_classes=0, img_size=16)),
    "deep": ("deit_base_distilled_patch16_384", dict(depth=5, in_chans=2, img_size=(8, 16))),
    "scaled": ("vit_small_patch14_dinov2", dict(init_values=0.1, mlp_ratio=1.5, act_layer="relu")),
    "gated": ("vit_giant_patch14_dinov2", dict(mlp_ratio=8 / 3, in_chans=1, img_size=(8, 20))),
    "scaled mean": ("vit_base_patch14_dinov2", dict(global_pool="avg", qkv_bias=False, depth=4)),
    "scaled features": ("vit_large_patch14_dinov2", dict(num_classes=0, patch_size=(4, 2))),
    "gated features": ("vit_giant_patch14_dinov2", dict(
        num_classes=0, global_pool="", mlp_ratio=2, depth=3)),
}  # fmt: skip


def made(name, **changes):
    architecture, arguments = TIMM[name]
    torch.manual_seed(0)
    return shake(timm.create_model(architecture, **SMALL | arguments | changes))


def seen(name, size=None):
    arguments = SMALL | TIMM[name][1]
    size = size or arguments["img_size"]
    height, width = size if isinstance(size, tuple) else (size, size)
    return picture(arguments.get("in_chans", 3), height, width)


@pytest.mark.parametrize("name", quick(TIMM))
def test_outputs_and_bytes(tmp_path, name):
    compare_outputs_and_bytes(tmp_path, made(name), seen(name))


@pytest.mark.parametrize("name", quick(TIMM, 1))
def test_float64(tmp_path, name):
    compare_float64(tmp_path, made(name), seen(name))


@pytest.mark.parametrize("name", quick(["distilled", "plain", "mean", "oblong", "gated"], 1))
def test_training_step(tmp_path, name):
    compare_training_step(tmp_path, made(name), seen(name).astype(np.float64))


@pytest.mark.parametrize("size", quick([(20, 8), (40, 44), (4, 36)], 1))
@pytest.mark.parametrize("name", quick(["distilled", "plain", "scaled"], 1))
def test_images_of_other_sizes(tmp_path, name, size):
    save(theirs := made(name), tmp_path)
    resized = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, img_size=size).eval()
    dynamic = timm.create_model(TIMM[name][0], **SMALL | TIMM[name][1], dynamic_img_size=True)
    dynamic.load_state_dict(theirs.state_dict())
    image = seen(name, size)
    close(run(resized, image), wanted := run(dynamic.eval(), image))
    model, variables = zoo.from_pretrained(tmp_path, image_size=size)
    close(wanted, ours(model, variables, image))
    as_saved, variables = zoo.from_pretrained(tmp_path)
    close(wanted, ours(as_saved, variables, image))


@pytest.mark.parametrize("channels", quick([5, 1], 1))
def test_images_of_other_channels(tmp_path, channels):
    save(made("plain"), tmp_path)
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, in_chans=channels).eval()
    model, variables = zoo.from_pretrained(tmp_path, in_chans=channels)
    image = picture(channels, 12, 12)
    close(run(theirs, image), ours(model, variables, image))


def test_other_classes_and_none(tmp_path):
    save(theirs := made("distilled"), tmp_path)
    model, variables = zoo.from_pretrained(tmp_path, num_classes=0)
    assert model.task == "feature-extraction"
    theirs.reset_classifier(0)
    close(run(theirs, seen("plain")), ours(model, variables, seen("plain")))
    with pytest.warns(UserWarning, match=r"has no distillation_head/bias, .*head/kernel; init"):
        model, variables = zoo.from_pretrained(tmp_path, num_classes=9)
    zoo.save_pretrained(tmp_path / "ours", model, variables, format="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path}/ours", pretrained=True).eval()
    close(run(theirs, seen("plain")), ours(model, variables, seen("plain")))


@pytest.mark.parametrize("gated", [False, True])
def test_dinov2_from_transformers(tmp_path, gated):
    """The features of their class token, without the token of hidden patches."""
    fields = dict(hidden_size=24, num_attention_heads=3, image_size=12, patch_size=4)
    config = transformers.Dinov2Config(**fields, num_hidden_layers=2, use_swiglu_ffn=gated)
    theirs = shake(transformers.Dinov2Model(config))
    model, variables = zoo.from_pretrained(save(theirs, tmp_path / "theirs"))
    with pytest.raises(InputError, match="timm has no dinov2 with mask_token True"):
        zoo.save_pretrained(tmp_path / "ours", model, variables, format="timm")
    model, variables = zoo.from_pretrained(tmp_path / "theirs", mask_token=False)
    zoo.save_pretrained(tmp_path / "ours", model, variables, format="timm")
    found = timm.create_model(f"local-dir:{tmp_path}/ours", pretrained=True).eval()
    wanted = run(theirs, image := picture(3, 12, 12))
    close(wanted, run(found, image))
    model, variables = zoo.from_pretrained(tmp_path / "ours")
    close(wanted, ours(model, variables, image))
    zoo.save_pretrained(tmp_path / "back", model, variables)
    close(wanted, run(transformers.Dinov2Model.from_pretrained(tmp_path / "back").eval(), image))
