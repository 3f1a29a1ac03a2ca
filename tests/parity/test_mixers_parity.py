"""MLP-Mixer, gMLP and ResMLP beside timm: outputs, bytes, gradients, pyramids, other channels."""

import contextlib

import golden_images
import mixers
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
from zoo.models.gmlp import Config as GMLP
from zoo.models.mlp_mixer import Config as Mixer
from zoo.models.resmlp import Config as ResMLP

pytestmark = pytest.mark.filterwarnings("ignore")  # what the reference warns of is its own affair

CONFIGS = {
    "mixer": ("mixer_b16_224", Mixer(patch_size=4, width=10, depth=3),
              dict(img_size=12, num_classes=5)),
    "gmlp": ("gmlp_s16_224", GMLP(patch_size=4, width=10, depth=3),
             dict(img_size=12, num_classes=5)),
    "resmlp": ("resmlp_24_224", ResMLP(patch_size=4, width=10, depth=3, layer_scale=1e-5),
               dict(img_size=12, num_classes=5)),
    "mixer oblong": ("mixer_l32_224", Mixer(patch_size=(4, 2), width=9, depth=1),
                     dict(img_size=(8, 23), num_classes=2, in_chans=1, mlp_ratio=(1.7, 0.8))),
    "mixer every patch": ("mixer_s16_224", Mixer(patch_size=5, width=8, depth=4),
                          dict(img_size=(11, 16), num_classes=1, in_chans=4, global_pool="",
                               mlp_ratio=2)),
    "mixer features": ("mixer_s32_224", Mixer(patch_size=3, width=7, depth=2),
                       dict(img_size=9, num_classes=0)),
    "gmlp oblong": ("gmlp_b16_224", GMLP(patch_size=(4, 2), width=9, depth=1, hidden=14),
                    dict(img_size=(8, 23), num_classes=2, in_chans=1)),
    "gmlp every patch": ("gmlp_ti16_224", GMLP(patch_size=5, width=8, depth=4),
                         dict(img_size=(11, 16), num_classes=1, in_chans=4, global_pool="")),
    "gmlp features": ("gmlp_s16_224", GMLP(patch_size=3, width=7, depth=2),
                      dict(img_size=9, num_classes=0)),
    "resmlp oblong": ("resmlp_12_224", ResMLP(patch_size=(4, 2), width=9, depth=1, hidden=13),
                      dict(img_size=(8, 23), num_classes=2, in_chans=1)),
    "resmlp every patch": ("resmlp_36_224",
                           ResMLP(patch_size=5, width=8, depth=4, layer_scale=1e-6),
                           dict(img_size=(11, 16), num_classes=1, in_chans=4, global_pool="")),
    "resmlp features": ("resmlp_big_24_224",
                        ResMLP(patch_size=3, width=7, depth=2, layer_scale=1e-6),
                        dict(img_size=9, num_classes=0)),
}  # fmt: skip
"""Architectures, what they stand for, and arguments of timm's."""
FAMILIES = ("mixer", "gmlp", "resmlp")


@pytest.fixture
def made():
    """A function that gives timm's model of a name, and makes ours of it as small."""
    with contextlib.ExitStack() as stack:

        def make(name, **changes):
            architecture, cfg, arguments = CONFIGS[name]
            stack.enter_context(mixers.smaller(architecture, cfg))
            stack.enter_context(golden_images.smaller({architecture: cfg}))
            torch.manual_seed(0)
            return shake(timm.create_model(architecture, **arguments | changes))

        yield make


def seen(name, channels=3):
    size = CONFIGS[name][2]["img_size"]
    height, width = size if isinstance(size, tuple) else (size, size)
    return picture(CONFIGS[name][2].get("in_chans", channels), height, width)


@pytest.mark.parametrize("name", quick(CONFIGS, 3))
def test_outputs_and_bytes(tmp_path, made, name):
    compare_outputs_and_bytes(tmp_path, made(name), seen(name))


@pytest.mark.parametrize("name", quick(CONFIGS, 3))
def test_float64(tmp_path, made, name):
    compare_float64(tmp_path, made(name), seen(name))


@pytest.mark.parametrize("name", quick([*FAMILIES, "mixer oblong", "gmlp oblong"], 1))
def test_training_step(tmp_path, made, name):
    compare_training_step(tmp_path, made(name), seen(name).astype(np.float64))


@pytest.mark.parametrize("name", quick([*FAMILIES, "mixer every patch", "resmlp every patch"], 1))
def test_pyramid(tmp_path, made, name):
    save(theirs := made(name), tmp_path)
    pyramid = made(name, features_only=True)
    missing, _ = pyramid.model.load_state_dict(theirs.state_dict(), strict=False)
    assert not missing
    model, variables = zoo.from_pretrained(tmp_path, task="feature-pyramid")
    wanted = run(pyramid, seen(name))
    assert len(wanted) == 3
    close(wanted, ours(model, variables, seen(name)))


@pytest.mark.parametrize("channels", quick([5, 1], 1))
@pytest.mark.parametrize("name", quick(FAMILIES, 1))
def test_images_of_other_channels(tmp_path, made, name, channels):
    save(made(name), tmp_path)
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, in_chans=channels).eval()
    model, variables = zoo.from_pretrained(tmp_path, in_chans=channels)
    image = seen(name, channels)
    close(run(theirs, image), ours(model, variables, image))


@pytest.mark.parametrize("name", quick(FAMILIES, 1))
def test_other_classes_and_none(tmp_path, made, name):
    save(theirs := made(name), tmp_path)
    model, variables = zoo.from_pretrained(tmp_path, num_classes=0)
    assert model.task == "feature-extraction"
    theirs.reset_classifier(0)
    close(run(theirs, seen(name)), ours(model, variables, seen(name)))
    with pytest.warns(UserWarning, match=r"has no head/bias, head/kernel; initialised"):
        model, variables = zoo.from_pretrained(tmp_path, num_classes=9)
    zoo.save_pretrained(tmp_path / "ours", model, variables, format="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path}/ours", pretrained=True).eval()
    close(run(theirs, seen(name)), ours(model, variables, seen(name)))


@pytest.mark.full
@pytest.mark.parametrize("name", ["mixer_s32_224", "gmlp_ti16_224", "resmlp_12_224"])
def test_sizes_of_timm(tmp_path, name):
    """As they are, for small images."""
    torch.manual_seed(0)
    theirs = shake(timm.create_model(name, img_size=(64, 32), num_classes=3))
    compare_outputs_and_bytes(tmp_path, theirs, picture(3, 64, 32, batch=2))
